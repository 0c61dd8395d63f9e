"""Sessions of a list, whose states are parsed when they are first looked at."""

# pyright: reportMissingImports=false
import inspect
import marshal
import threading
from collections.abc import Callable, Mapping
from typing import Any

from google.adk.sessions import Session
from pydantic import BaseModel

from agentstore.adapters.adk.state import state_of
from agentstore.schemas import ScopedValues

# What is known of a listed session without its state. Anything else makes it an ordinary one.
_KNOWN = frozenset(("app_name", "user_id", "id", "last_update_time"))
_UNREAD = "unread"
# Of all listed sessions, as it is held for one parse. Reentrant, since a finalizer may run meanwhile.
_lock = threading.RLock()
_dict_of = BaseModel.__dict__["__dict__"]  # not that of ListedSession, which its __getattribute__ replaces


class ListedSession(Session):  # type: ignore[misc]
    """A session that becomes an ordinary Session as soon as more than its ids and its time are used.

    Until then it has only these in its ``__dict__``, and the values that its state is made of. Reading any other
    attribute, by Python or by pydantic, and every special method first gives the object the contents of an ordinary
    Session and its class, so that nothing else can tell the difference: except ``type()``, before it is used.
    """

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        """Return what is known, or what the ordinary Session has."""
        if name in _KNOWN:
            return object.__getattribute__(self, name)
        _become_ordinary(self)
        return getattr(self, name)


def listed_session(
    app_name: str, user_id: str, id: str, values: ScopedValues, last_update_time: float, count: int
) -> Session:
    """Return a session without events, whose state is made of `values` when it is first used.

    Args:
        app_name: the application.
        user_id: the owner.
        id: ADK's id of the session.
        values: its values, of which those of the user and the application may be shared by others.
        last_update_time: when it was last written to, in seconds since 1970.
        count: the number of its messages.
    """
    session = object.__new__(ListedSession)
    known: dict[str, Any] = {"app_name": app_name, "user_id": user_id, "id": id, "last_update_time": last_update_time}
    known[_UNREAD] = (values, count)
    _dict_of.__set__(session, known)
    return session


def marked(session: Session, last_update_time: float, count: int) -> Session:
    """Return a session after setting its time, and the marker of its stored version: the number of messages."""
    session.last_update_time = last_update_time
    session._storage_update_marker = str(count)
    return session


def _become_ordinary(session: Session) -> None:
    """Give a listed session what an ordinary one has.

    Raises:
        UnreadableRow: another program has stored a value that Python cannot parse; the session remains as it is.
    """
    with _lock:
        if type(session) is not ListedSession:
            return  # another thread was first
        known = dict(_dict_of.__get__(session))
        values, count = known.pop(_UNREAD)
        time = known.pop("last_update_time")
        # The values of the application and the user are shared, and the caller may change each state.
        values = ScopedValues(_copy(values.app), _copy(values.user), values.session)
        ordinary = marked(Session(**known, state=state_of(values)), time, count)
        for slot in BaseModel.__slots__:
            object.__setattr__(session, slot, object.__getattribute__(ordinary, slot))
        object.__setattr__(session, "__class__", Session)


def _copy(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a deep copy of JSON values, in a tenth of the time that copy.deepcopy takes."""
    return marshal.loads(marshal.dumps(dict(values))) if values else values  # noqa: S302 - dumped here


def _of_ordinary(name: str) -> Callable[..., Any]:
    def method(self: Session, *args: Any, **kwargs: Any) -> Any:
        _become_ordinary(self)
        return getattr(self, name)(*args, **kwargs)

    return method


# Python looks these up in the class, past __getattribute__.
for _class in Session.__mro__[:-1]:
    for _name, _function in vars(_class).items():
        if _name.startswith("__") and _name != "__getattr__" and inspect.isfunction(_function):
            setattr(ListedSession, _name, _of_ordinary(_name))
