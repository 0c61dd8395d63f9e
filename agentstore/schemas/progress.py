"""The progress of an export or a restore."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """The progress of an export or a restore so far."""

    total: int = 0
    """The number of users that an export has to write, or of bytes that a restore has to read."""
    bytes: int = 0
    """The number of bytes of the file that were written or read."""
    users: int = 0
    """The number of users that were processed."""
    rows: dict[str, int] = field(default_factory=dict)
    """The number of rows that were exported, or inserted, by table."""
    left: list[tuple[str, str, str]] = field(default_factory=list)
    """The objects that a restore left unchanged, since the database has different ones: (table, user id, session id).

    ``("users", user_id, "")`` is the metadata of a user, ``("user_values", user_id, key)`` and ``("app_values", app,
    key)`` are scoped values, ``("blobs", user_id, name)`` is a version of a blob, ``("checkpoint_heads", user_id,
    session_id)`` are the checkpoints of a session.
    """
    seconds: float = 0.0

    def add(self, table: str, rows: int) -> None:
        """Count rows of a table."""
        self.rows[table] = self.rows.get(table, 0) + rows
