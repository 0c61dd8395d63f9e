"""The state of a session of ADK as scoped values, and back.

The prefix of a key names its scope: ``app:``, ``user:``, or none for the session. None is a value in ADK, but deletes a
key in agentstore: it is stored as ``{"adk": null}``, and a dict with this key alone in another such dict.
"""

from collections.abc import Mapping
from typing import Any

from agentstore.errors import InvalidContent
from agentstore.schemas import ScopedValues

_APP, _USER, _TEMPORARY = "app:", "user:", "temp:"
_WRAPPED = "adk"


def values_of(state: Mapping[str, Any]) -> ScopedValues | None:
    """Return changes of scoped values for those of a state; None if there are none. Temporary ones are left out.

    Raises:
        InvalidContent: a key is not a string.
    """
    app: dict[str, Any] = {}
    user: dict[str, Any] = {}
    session: dict[str, Any] = {}
    for key, value in state.items():
        if not isinstance(key, str):
            raise InvalidContent(f"a key of the state must be a string, got {type(key).__name__}")
        if not key.startswith(_TEMPORARY):
            prefix, scope = next(
                each for each in ((_APP, app), (_USER, user), ("", session)) if key.startswith(each[0])
            )
            scope[key.removeprefix(prefix)] = _wrap(value)
    return ScopedValues(app=app, user=user, session=session) if app or user or session else None


def state_of(values: ScopedValues) -> dict[str, Any]:
    """Return the state for scoped values."""
    state = unwrap(values.session)
    for prefix, scope in ((_APP, values.app), (_USER, values.user)):
        if scope:
            state.update((f"{prefix}{key}", value) for key, value in unwrap(scope).items())
    return state


def wrap(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a scope as they are stored."""
    return {key: _wrap(value) for key, value in values.items()}


def unwrap(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a scope as they were given."""
    found = dict(values)
    for key, value in values.items():
        if _is_wrapped(value):
            found[key] = value[_WRAPPED]
    return found


def _wrap(value: Any) -> Any:
    return {_WRAPPED: value} if value is None or _is_wrapped(value) else value


def _is_wrapped(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and _WRAPPED in value
