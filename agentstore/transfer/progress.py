"""How far an export or an import is."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """What was done so far: rows by table, users, bytes of the file, seconds.

    ``total`` is how many users there are to export, or bytes to import. ``left`` are what an import left as it was,
    since the database has something else there: the table, the user and the session. Of a user's metadata, which
    belongs to no session: ``("users", user, "")``.
    """

    total: int = 0
    bytes: int = 0
    users: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    left: list[tuple[str, str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, table: str, rows: int) -> None:
        """Count rows of a table."""
        self.rows[table] = self.rows.get(table, 0) + rows
