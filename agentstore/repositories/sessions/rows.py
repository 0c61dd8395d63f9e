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
    """Parse the rows of a list of sessions: the id, the columns of HEAD and, for those of all users, ``user_id``.

    Raises:
        UnreadableRow: the metadata of one of them is not a JSON object.
    """
    with no_collection(len(rows)):
        # One validation of all rows takes half the time of a constructor call for each, and these dicts a quarter of
        # that of {**row}.
        return _SESSIONS.validate_python(
            [
                {
                    "id": row[0],
                    "user_id": owner,
                    "created_at": row[1],
                    "updated_at": row[2],
                    "title": row[3],
                    "metadata": {} if row[4] == "{}" else load_metadata(row[4], owner, row[0]),
                    "forked_from": row[5],
                    "forked_at": row[6],
                    "ttl": row[7],
                    "app": row[8],
                    "message_count": row[9],
                }
                for row in rows
                for owner in (row["user_id"] if user_id is None else user_id,)
            ]
        )
