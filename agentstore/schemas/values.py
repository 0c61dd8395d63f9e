"""Scoped values: those of an application, of a user and of a session, and their changes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TypeAlias, get_args

from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.exact_json import dumps
from agentstore.schemas.message_checks import check_size
from agentstore.schemas.payload import check_id, check_ids, check_session, shortened

if TYPE_CHECKING:
    from agentstore.settings import Settings

ValueScope: TypeAlias = Literal["app", "user", "session"]
"""Whose values: of an application for all its users, of a user in an application, or of one session."""

_SCOPES: tuple[ValueScope, ...] = get_args(ValueScope)

# Postgres accepts less than 1 GB in one message of the protocol, and a character may have four bytes.
_MAX_CHARACTERS = 200_000_000


@dataclass(frozen=True, slots=True)
class ScopedValues:
    """Values by scope and key: what ``get_values`` returns, and the changes that ``merge_values`` and ``append`` make.

    As a change, a value replaces that of its key, and None deletes the key; other keys stay as they are.
    """

    app: Mapping[str, Any] = field(default_factory=dict)
    """Of the application, shared by all of its users."""
    user: Mapping[str, Any] = field(default_factory=dict)
    """Of the user in the application, shared by all of the user's sessions."""
    session: Mapping[str, Any] = field(default_factory=dict)
    """Of the session."""

    def merged(self) -> dict[str, Any]:
        """Return all values by key; a value of the session hides one of the user, and that one of the application."""
        return {**self.app, **self.user, **self.session}


class StoredValues(ScopedValues):
    """Values as they were read: those of a scope are parsed when they are first accessed.

    The access raises UnreadableRow if another program has stored a value that Python cannot parse.
    """

    __slots__ = ("_parsers",)

    _parsers: tuple[Callable[[], dict[str, Any]] | None, ...]

    @classmethod
    def read_by(cls, *parsers: Callable[[], dict[str, Any]] | None) -> Self:
        """Return values that functions parse: those of the application, the user and the session; None has none."""
        values = object.__new__(cls)
        object.__setattr__(values, "_parsers", parsers)
        return values

    def __getattr__(self, name: str) -> Any:
        """Parse the values of a scope, whose field is not set yet."""
        if name not in _SCOPES:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        parse = self._parsers[_SCOPES.index(name)]
        values = parse() if parse is not None else {}
        object.__setattr__(self, name, values)
        return values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ScopedValues):
            return NotImplemented
        return (self.app, self.user, self.session) == (other.app, other.user, other.session)

    __hash__ = None  # type: ignore[assignment] # as the dicts of ScopedValues have none


class Changes(NamedTuple):
    """Validated changes of the values of one scope, each in the order of the keys."""

    keys: list[str]
    texts: list[str]
    """The new value of each key as JSON."""
    removed: list[str]
    """The keys to delete."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to change."""
        return not self.keys and not self.removed

    def apply(self, values: dict[str, str]) -> None:
        """Change values, JSON texts by key."""
        for key in self.removed:
            values.pop(key, None)
        values.update(zip(self.keys, self.texts, strict=True))


class ValueChanges(NamedTuple):
    """Validated changes of scoped values, and the application that they belong to."""

    app_id: str
    app: Changes
    user: Changes
    session: Changes


def prepare_values(values: ScopedValues, app: str, settings: "Settings") -> ValueChanges:
    """Validate changes of the values in the application `app`, and serialize them.

    Raises:
        InvalidContent: it is not a ScopedValues of dicts, a key is not a valid id, or a value contains something that
            JSON cannot represent exactly.
        LimitExceeded: there are more than `max_batch` keys, or a value is larger than `max_message_bytes` or nested
            deeper than 200 levels, or all together have more than 200 million characters.
    """
    if not isinstance(values, ScopedValues):
        raise InvalidContent(f"values must be a ScopedValues(app=, user=, session=), got {shortened(values)}")
    scopes = {name: getattr(values, name) for name in get_args(ValueScope)}
    for name, of_scope in scopes.items():
        if not isinstance(of_scope, Mapping):
            raise InvalidContent(f"values.{name} must be a dict, got {type(of_scope).__name__}")
    if (count := sum(map(len, scopes.values()))) > settings.max_batch:
        raise LimitExceeded(f"got {count} values in one call, the maximum is {settings.max_batch}")
    prepared = {name: _prepare(name, of_scope, settings) for name, of_scope in scopes.items()}
    if (size := sum(len(text) for changes in prepared.values() for text in changes.texts)) > _MAX_CHARACTERS:
        raise LimitExceeded(f"the values have {size} characters together, the maximum is {_MAX_CHARACTERS}")
    return ValueChanges(check_id(app, "app", settings), **prepared)


def _prepare(scope: str, values: Mapping[str, Any], settings: "Settings") -> Changes:
    check_ids(list(values), f"a key of values.{scope}", settings)
    # In the order of the database, so that two writers of the same keys never wait for each other in a circle.
    ordered = sorted(values, key=str.encode)
    keys = [key for key in ordered if values[key] is not None]
    texts = [
        check_size(dumps(values[key], where=f"values.{scope}"), f"values.{scope}", settings.max_message_bytes)
        for key in keys
    ]
    return Changes(keys, texts, [key for key in ordered if values[key] is None])


def check_value_scope(user_id: str | None, session_id: str | None, app: str, settings: "Settings") -> ValueScope:
    """Validate the ids that name values, and return the narrowest scope that they name.

    Raises:
        InvalidContent: an id is not valid, or a session is named without its user.
    """
    check_id(app, "app", settings)
    if user_id is not None:
        check_id(user_id, "user_id", settings)
    if session_id is not None:
        check_id(session_id, "session_id", settings)
        if user_id is None:
            raise InvalidContent("a session_id needs the user_id of its user")
    return "app" if user_id is None else "user" if session_id is None else "session"


def check_scope(scope: ValueScope | None, narrowest: ValueScope) -> None:
    """Validate `scope`, the only scope to read, or None for all, down to the narrowest that the ids of a call name.

    Raises:
        InvalidContent: it is not a scope, or the ids do not name it.
    """
    scopes = get_args(ValueScope)
    if scope is None:
        return
    if scope not in scopes:
        raise InvalidContent(f'scope must be "app", "user" or "session", got {shortened(scope)}')
    if scopes.index(scope) > scopes.index(narrowest):
        raise InvalidContent(f"scope is {scope!r}: pass the ids of the user{' and the session' * (scope == 'session')}")


def check_changes(changes: ValueChanges, narrowest: ValueScope) -> None:
    """Check that the ids of a call name the scopes of the changes, `narrowest` being the narrowest that they name.

    Raises:
        InvalidContent: there are changes of a scope that they do not name.
    """
    for scope in ("user", "session"):
        if not getattr(changes, scope).is_empty:
            check_scope(scope, narrowest)


def check_sessions(sessions: Sequence[Any], app: str, settings: "Settings") -> None:
    """Validate the sessions whose values are read, and their application.

    Raises:
        InvalidContent: something is not a session, or an id is not valid.
        LimitExceeded: there are more than `max_batch` sessions.
    """
    check_id(app, "app", settings)
    if isinstance(sessions, (str, bytes, Mapping)) or not isinstance(sessions, Sequence):
        raise InvalidContent(f"sessions must be a list of sessions, got {shortened(sessions)}")
    if len(sessions) > settings.max_batch:
        raise LimitExceeded(f"got {len(sessions)} sessions in one call, the maximum is {settings.max_batch}")
    for each in sessions:
        check_session(each, settings)
