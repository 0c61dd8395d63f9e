"""Rows of sessions, parsed."""

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from agentstore.database.statement import Row
from agentstore.exact_json import no_collection
from agentstore.schemas import Session
from agentstore.schemas.payload import load_object

_SESSIONS = TypeAdapter(list[Session])


def load_metadata(text: str, user_id: str, session_id: str) -> dict[str, Any]:
    """Parse the stored metadata of a session.

    Raises:
        UnreadableRow: it is not a JSON object.
    """
    return load_object(text, ("sessions", user_id, session_id, None))


def load_sessions(user_id: str | None, rows: Sequence[Row]) -> list[Session]:
    """Parse the rows of a list of sessions, of one user or with a column ``user_id``.

    Raises:
        UnreadableRow: the metadata of one of them is not a JSON object.
    """
    with no_collection(len(rows)):
        # One validation of all rows takes half the time of a constructor call for each.
        return _SESSIONS.validate_python(
            [
                {**row, "user_id": owner, "metadata": load_metadata(row["metadata"], owner, row["id"])}
                for row in rows
                for owner in (row["user_id"] if user_id is None else user_id,)
            ]
        )
