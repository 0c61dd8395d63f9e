"""The state service without a database, for tests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from agentstore.errors import Closed, Conflict, InvalidContent, NotFound
from agentstore.exact_json import loads
from agentstore.inmemory.users import InMemoryUserService
from agentstore.interfaces import StoreStateService
from agentstore.schemas import Deleted, Page, ScopedValues, Session, StateRound, ValueScope
from agentstore.schemas.memory import bucket
from agentstore.schemas.page import Advice, check_count, check_limit, check_reply
from agentstore.schemas.payload import MAX_TTL, check_id, dump_metadata, dump_state
from agentstore.schemas.state import check_more_rounds, check_round, patch, read_round_cursor, write_round_cursor
from agentstore.schemas.values import (
    ValueChanges,
    check_changes,
    check_scope,
    check_sessions,
    check_value_scope,
    prepare_values,
)
from agentstore.settings import Settings, settings_from_environment


@dataclass(frozen=True)
class StoredRound:
    """A state, and metadata, as JSON."""

    payload: str
    metadata: str
    saved_at: datetime


@dataclass
class StoredHead:
    """The states of a session."""

    next_round: int = 1
    rounds: dict[int, StoredRound] = field(default_factory=dict)
    updated_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def last(self) -> int:
        """The highest round, or 0."""
        return max(self.rounds, default=0)


class InMemoryStateService(StoreStateService):
    """States of agents in memory, for tests. They are lost when the process ends.

    States are stored as the JSON text that Postgres would store: callers share no objects with the service. See
    :class:`agentstore.StateService` for what each method does and raises.
    """

    def __init__(self, *, users: InMemoryUserService | None = None, settings: Settings | None = None) -> None:
        """Create an empty service. `users` has the owners of states."""
        self._settings = settings or settings_from_environment()
        self._owners = users or InMemoryUserService(settings=self._settings)
        self._heads: dict[tuple[str, str], StoredHead] = {}
        # JSON texts by key, by application, and by user and application.
        self._app_values: dict[str, dict[str, str]] = {}
        self._user_values: dict[tuple[str, str], dict[str, str]] = {}
        self._values_of_session: Callable[[str, str], dict[str, str] | None] = lambda user_id, session_id: None
        self._started = self._stopped = False

    async def start(self) -> None:  # noqa: D102 - documented by the interface
        self._started, self._stopped = True, False

    async def stop(self) -> None:  # noqa: D102
        self._started, self._stopped = False, True

    async def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:  # noqa: D102
        return self._started

    async def save_state(  # noqa: D102
        self,
        user_id: str,
        state: Mapping[str, Any],
        session_id: str | None = None,
        round_id: int | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        expected_round: int | None = None,
    ) -> int:
        key = self._key(user_id, session_id)
        if round_id is not None:
            if expected_round is not None:
                raise InvalidContent("pass either round_id or expected_round, not both")
            check_round(round_id)
        elif expected_round is not None:
            check_round(expected_round, "expected_round", minimum=0)
        payload = dump_state(state, self._settings)
        about = "{}" if metadata is None else dump_metadata(metadata, self._settings)
        head = self._find(key)
        last = head.last
        if expected_round is not None and expected_round != last:
            raise Conflict(
                f"expected_round is {expected_round}, but the highest round of user {user_id!r}, session {key[1]!r} is "
                f"{last}"
            )
        number = head.next_round if round_id is None else round_id
        check_more_rounds(number)
        return self._store(key, head, number, StoredRound(payload, about, datetime.now(UTC)))

    async def import_state(  # noqa: D102
        self,
        user_id: str,
        session_id: str | None,
        round_id: int,
        state: Mapping[str, Any],
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        key = self._key(user_id, session_id)
        check_more_rounds(check_round(round_id))
        head = self._find(key)
        if round_id in head.rounds:
            return False
        payload = dump_state(state, self._settings)
        about = "{}" if metadata is None else dump_metadata(metadata, self._settings)
        self._store(key, head, round_id, StoredRound(payload, about, datetime.now(UTC)))
        return True

    def _store(self, key: tuple[str, str], head: StoredHead, number: int, stored: StoredRound) -> int:
        self._heads[key] = head
        self._owners._add(key[0])
        head.next_round = max(head.next_round, number + 1)
        head.updated_at = stored.saved_at
        head.rounds[number] = stored
        return number

    async def touch(self, user_id: str, session_id: str | None = None, *, idle: int = 0) -> None:  # noqa: D102
        key = self._key(user_id, session_id)
        check_count(idle, "idle", maximum=MAX_TTL)
        head, now = self._find(key), datetime.now(UTC)
        if now - head.updated_at >= timedelta(seconds=idle):
            head.updated_at = now

    async def export_state(  # noqa: D102
        self, user_id: str, session_id: str | None = None, round_id: int | None = None, *, stale_ok: bool = False
    ) -> dict[str, Any] | None:
        key = self._key(user_id, session_id)
        if round_id is not None:
            check_round(round_id)
        head = self._find(key)
        found = head.rounds.get(head.last if round_id is None else round_id)
        return None if found is None else loads(found.payload)

    async def list_states(  # noqa: D102
        self,
        user_id: str,
        session_id: str | None = None,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[StateRound]:
        key = self._key(user_id, session_id)
        check_limit(limit, self._settings.max_page)
        before = read_round_cursor(cursor)
        rounds = self._find(key).rounds
        numbers = sorted((number for number in rounds if number < before), reverse=True)
        page = [_round(number, rounds[number]) for number in (numbers if limit is None else numbers[:limit])]
        check_reply((rounds[each.round_id].metadata for each in page), self._settings, Advice.SMALLER_LIMIT)
        return Page(page, write_round_cursor(page[-1].round_id) if page and len(page) == limit else None)

    async def delete_state(  # noqa: D102
        self, user_id: str, session_id: str | None = None, round_id: int | None = None
    ) -> Deleted:
        key = self._key(user_id, session_id)
        if round_id is not None:
            check_round(round_id)
        self._check_open()
        head = self._heads.get(key, StoredHead())
        if round_id is not None:
            return Deleted(state_rounds=int(head.rounds.pop(round_id, None) is not None))
        self._heads.pop(key, None)
        return Deleted(state_rounds=len(head.rounds))

    async def diff_states(  # noqa: D102
        self, user_id: str, a: int, b: int, session_id: str | None = None, *, stale_ok: bool = False
    ) -> list[dict[str, Any]]:
        states = []
        for name, round_id in (("a", check_round(a, "a")), ("b", check_round(b, "b"))):
            state = await self.export_state(user_id, session_id, round_id)
            if state is None:
                raise NotFound(
                    f"session {session_id or 'default'!r} of user {user_id!r} has no round {round_id} (argument {name})"
                )
            states.append(state)
        return patch(*states)

    def _set_sessions(self, values_of_session: Callable[[str, str], dict[str, str] | None]) -> None:
        """Set the function that returns the values of a session, or None if it does not exist."""
        self._values_of_session = values_of_session

    async def get_values(  # noqa: D102
        self,
        user_id: str | None,
        session_id: str | None = None,
        *,
        app: str = "",
        scope: ValueScope | None = None,
        stale_ok: bool = False,
    ) -> ScopedValues:
        check_scope(scope, check_value_scope(user_id, session_id, app, self._settings))
        self._check_open()
        found: dict[str, dict[str, str] | None] = {"app": self._app_values.get(app)}
        if user_id is not None:
            found["user"] = self._user_values.get((user_id, app))
            if session_id is not None:
                found["session"] = self._values_of_session(user_id, session_id)
        texts = {name: values for name, values in found.items() if values and scope in (None, name)}
        check_reply((text for values in texts.values() for text in values.values()), self._settings, Advice.ONE_SCOPE)
        return ScopedValues(
            **{
                name: {key: loads(values[key]) for key in sorted(values, key=str.encode)}
                for name, values in texts.items()
            }
        )

    async def get_values_of(  # noqa: D102
        self, sessions: Sequence[Session], *, app: str = "", stale_ok: bool = False
    ) -> list[ScopedValues]:
        check_sessions(sessions, app, self._settings)
        return [await self.get_values(each.user_id, each.id, app=app) for each in sessions]

    async def merge_values(  # noqa: D102
        self, user_id: str | None, session_id: str | None = None, *, values: ScopedValues, app: str = ""
    ) -> None:
        narrowest = check_value_scope(user_id, session_id, app, self._settings)
        changes = prepare_values(values, app, self._settings)
        check_changes(changes, narrowest)
        self._check_open()
        self._merge_changes(user_id, session_id, changes)

    def _merge_changes(self, user_id: str | None, session_id: str | None, changes: ValueChanges) -> None:
        """Change values, as :meth:`merge_values` does.

        Raises:
            NotFound: there are values of a session that does not exist.
        """
        if user_id is not None:
            if session_id is not None and not changes.session.is_empty:
                of_session = self._values_of_session(user_id, session_id)
                if of_session is None:
                    raise NotFound(f"user {user_id!r} has no session {session_id!r}")
                changes.session.apply(of_session)
            if not changes.user.is_empty:
                self._owners._add(user_id)
                changes.user.apply(self._user_values.setdefault((user_id, changes.app_id), {}))
        changes.app.apply(self._app_values.setdefault(changes.app_id, {}))

    async def delete_values(  # noqa: D102
        self, user_id: str | None, session_id: str | None = None, *, app: str = ""
    ) -> Deleted:
        check_value_scope(user_id, session_id, app, self._settings)
        self._check_open()
        if user_id is None:
            return Deleted(values=len(self._app_values.pop(app, {})))
        if session_id is None:
            return Deleted(values=len(self._user_values.pop((user_id, app), {})))
        values = self._values_of_session(user_id, session_id) or {}
        count = len(values)
        values.clear()
        return Deleted(values=count)

    def _delete_values_of_user(self, user_id: str) -> int:
        """Delete all values of a user, and return their number."""
        keys = [key for key in self._user_values if key[0] == user_id]
        return sum(len(self._user_values.pop(key)) for key in keys)

    def _copy(self, user_id: str, session_id: str, new_id: str, since: datetime | None, until: datetime | None) -> bool:
        """Copy the rounds saved since a time and before another; return False if the new id has states."""
        head, new = self._find(self._key(user_id, session_id)), self._find((user_id, new_id))
        if new.rounds:
            return False
        rounds = {
            number: each
            for number, each in head.rounds.items()
            if (since is None or each.saved_at >= since) and (until is None or each.saved_at < until)
        }
        if rounds:
            self._heads[user_id, new_id] = StoredHead(max(new.next_round, max(rounds) + 1), rounds)
        return True

    def _truncate(self, user_id: str, session_id: str, until: datetime) -> None:
        """Delete the rounds saved since `until`, for a rewind."""
        head = self._heads.get(self._key(user_id, session_id), StoredHead())
        head.rounds = {number: each for number, each in head.rounds.items() if each.saved_at < until}

    def _key(self, user_id: str, session_id: str | None) -> tuple[str, str]:
        return check_id(user_id, "user_id", self._settings), bucket(session_id, self._settings)

    def _check_open(self) -> None:
        if self._stopped:
            raise Closed("The service was stopped: call start() to use it again.")
        self._started = True

    def _find(self, key: tuple[str, str]) -> StoredHead:
        self._check_open()
        ttl, head = self._settings.state_ttl, self._heads.get(key)
        if head is None or (ttl is not None and head.updated_at + timedelta(seconds=ttl) <= datetime.now(UTC)):
            return StoredHead()
        return head


def _round(number: int, stored: StoredRound) -> StateRound:
    return StateRound(
        round_id=number,
        size=len(stored.payload.encode()),
        saved_at=stored.saved_at,
        metadata=loads(stored.metadata),
    )
