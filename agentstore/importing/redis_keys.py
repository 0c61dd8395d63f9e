"""Parse the keys of AgentScope Runtime's Redis services.

``session:{user}:{session}`` is a string, ``user_memory:{user}`` a hash by session, and ``user_state:{user}:{session}``
a hash by round. Ids are not escaped in keys, so a key whose ids contain colons is ambiguous without its value.
"""

from collections.abc import Mapping
from typing import Any

from agentstore.errors import InvalidContent
from agentstore.schemas.parts import quote

SESSION, MEMORY, STATE = "session:", "user_memory:", "user_state:"


def parse_session(key: str, value: dict[str, Any]) -> tuple[str, str]:
    """Return the user and the session of a session's key, as its value names them.

    Raises:
        InvalidContent: the ids in the value do not match the key.
    """
    user_id, session_id = value.get("user_id"), value.get("id")
    if not isinstance(user_id, str) or not isinstance(session_id, str) or key != f"{SESSION}{user_id}:{session_id}":
        raise InvalidContent(
            f"the key does not match its value, which names user {quote(user_id)} and session {quote(session_id)}"
        )
    return user_id, session_id


def parse_memory(key: str) -> str:
    """Return the user of a memory key: everything after the prefix."""
    return key.removeprefix(MEMORY)


def parse_state(key: str, known: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    """Return the user and the session of a state's key; its value names neither.

    `known` has the user and the session of sessions' keys, by the key without its prefix.

    Raises:
        InvalidContent: the key is ambiguous, or has no session.
    """
    rest = key.removeprefix(STATE)
    if rest in known:
        return known[rest]
    parts = rest.split(":")
    if len(parts) != 2:
        raise InvalidContent("the key is ambiguous: it does not show where the user id ends and the session id begins")
    return parts[0], parts[1]
