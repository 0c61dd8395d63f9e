"""The keys that AgentScope Runtime's Redis services write, and what they say of users and sessions.

``session:{user}:{session}`` is a string, ``user_memory:{user}`` a hash of sessions, ``user_state:{user}:{session}`` a
hash of rounds. Nothing is escaped in them, so of a key with another colon only its value can say what it means.
"""

from collections.abc import Mapping
from typing import Any

from agentstore.errors import InvalidContent

SESSION, MEMORY, STATE = "session:", "user_memory:", "user_state:"


def of_session(key: str, value: dict[str, Any]) -> tuple[str, str]:
    """Return the user and the session of a session's key, which are those that its value names.

    Raises:
        InvalidContent: they do not make this key.
    """
    user_id, session_id = value.get("user_id"), value.get("id")
    if not isinstance(user_id, str) or not isinstance(session_id, str) or key != f"{SESSION}{user_id}:{session_id}":
        raise InvalidContent(f"its value names user {user_id!r} and session {session_id!r}, which make another key")
    return user_id, session_id


def of_memory(key: str) -> str:
    """Return the user of a memory's key: all that comes after its prefix."""
    return key.removeprefix(MEMORY)


def of_state(key: str, known: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    """Return the user and the session of a state's key, whose value names neither.

    `known` are those that sessions' values name, by what their keys have after the prefix.

    Raises:
        InvalidContent: it can be taken apart in more than one way, or in none.
    """
    rest = key.removeprefix(STATE)
    if rest in known:
        return known[rest]
    parts = rest.split(":")
    if len(parts) != 2:
        raise InvalidContent("it does not say where the user's id ends and the session's begins")
    return parts[0], parts[1]
