"""Two calls at once have the outcome of one after the other, in one of the two orders.

For each pair of calls, each state of the user, and each schedule: what both calls return or raise, and all rows that
remain, are those of one of the serial orders. Schedules do not depend on luck. In one kind, a third transaction holds a
row that both calls need until both wait for it, so that the snapshot of each is older than what the other writes. In
the other, one call stops before its n-th statement (and so in the middle of its transaction) until the other is done,
or waits for it.
"""

import asyncio
import io
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import asyncpg
import pytest

from agentstore import (
    AgentStore,
    AgentStoreError,
    Appended,
    Blob,
    MemoryItem,
    Message,
    Pruned,
    ScopedValues,
    Session,
    Settings,
)
from agentstore.models import Base
from agentstore.testing import text
from tests.support.checkpoints import checkpoint_of, write_of

# Large enough to be stored in pieces.
_LARGE = bytes(range(256)) * 20
_USER = "u"
_EXCLUDED = {"sandboxes", "workspaces", "workspace_chunks"}
_TABLES = [table.name for table in Base.metadata.sorted_tables if table.name not in _EXCLUDED]


def _messages(*names: str, words: str = "apples") -> list[Message]:
    return [text(f"{name} {words}", id=name) for name in names]


def _session(id: str = "s") -> Session:
    return Session(id=id, user_id=_USER)


async def _read_all(store: AgentStore) -> list[str]:
    return [message.id async for message in store.sessions.iter_messages(_USER, "s")]


async def _restore(store: AgentStore) -> Any:
    progress = await store.restore(io.BytesIO(_exported.get()))
    return len(progress.left)


# A file with a session s of three messages, two of which every other session s has, and with memories and a state.
_exported: ContextVar[bytes] = ContextVar("_exported")

_CALLS: dict[str, Callable[[AgentStore], Awaitable[Any]]] = {
    "create": lambda store: store.sessions.create_session(_USER, "s"),
    "create new": lambda store: store.sessions.create_session(_USER, "s", exist_ok=False, title="new"),
    "append": lambda store: store.sessions.append_message(_session(), _messages("x", "y")),
    "append again": lambda store: store.sessions.append_message(_session(), _messages("m2", "m3", "m4")),
    "append some again": lambda store: store.sessions.append_message(_session(), _messages("m4", "x")),
    "append other text": lambda store: store.sessions.append_message(_session(), _messages("z", "m3", words="pears")),
    "import": lambda store: store.sessions.import_session(
        Session(id="s", user_id=_USER, messages=_messages("m1", "m4", "y"))
    ),
    "append by id": lambda store: store.sessions.append(_USER, "s", _messages("y", "z")),
    "append expected": lambda store: store.sessions.append(_USER, "s", _messages("x", "y"), expected_seq=4),
    "append and patch": lambda store: store.sessions.append(_USER, "s", _messages("x"), metadata_patch={"p": 1}),
    "append and values": lambda store: store.sessions.append(
        _USER, "s", _messages("x"), expected_seq=4, values=ScopedValues({"a": 1}, {"u": 1}, {"s": 1, "k": None})
    ),
    "merge values": lambda store: store.states.merge_values(
        _USER, "s", values=ScopedValues({"a": 2, "k": None}, {"k": None, "u": 2}, {"s": 2})
    ),
    "put blob": lambda store: store.blobs.put(_USER, "b", b"one"),
    "delete blobs": lambda store: store.blobs.delete_all(_USER),
    "put checkpoint": lambda store: store.checkpoints.put(_USER, "s", checkpoint_of("3", _LARGE + b"3", parent_id="2")),
    "put writes": lambda store: store.checkpoints.put_writes(_USER, "s", "", "3", [write_of()]),
    "get checkpoint": lambda store: store.checkpoints.get(_USER, "s"),
    "prune checkpoints": lambda store: store.checkpoints.prune(_USER, "s"),
    "copy checkpoints": lambda store: store.checkpoints.copy(_USER, "s", _USER, "copy"),
    "delete runs": lambda store: store.checkpoints.delete_runs(["r"], user_id=_USER),
    "delete checkpoints": lambda store: store.checkpoints.delete(_USER, "s"),
    "get values": lambda store: store.states.get_values(_USER, "s"),
    "delete values": lambda store: store.states.delete_values(_USER, "s"),
    "pop": lambda store: store.sessions.pop_messages(_USER, "s", 2),
    "replace message": lambda store: store.sessions.replace_message(_USER, "s", text("new", id="m3")),
    "replace expected": lambda store: store.sessions.replace_message(
        _USER, "s", text("new", id="m4"), expected=text("m4 apples", id="m4")
    ),
    "delete messages": lambda store: store.sessions.delete_messages(_USER, "s", ["m2", "m4", "x"]),
    "replace from": lambda store: store.sessions.replace_from(_USER, "s", "m3", _messages("m3", "x", words="pears")),
    "replace from the end": lambda store: store.sessions.replace_from(_USER, "s", 5, _messages("y")),
    "rewind": lambda store: store.sessions.rewind_session(_USER, "s", "m2", keep=False),
    "rewind and keep": lambda store: store.sessions.rewind_session(_USER, "s", "m3", new_id="f"),
    "fork": lambda store: store.sessions.fork_session(_USER, "s", new_id="f"),
    "fork at": lambda store: store.sessions.fork_session(_USER, "s", at="m2", new_id="f"),
    "delete": lambda store: store.sessions.delete_session(_USER, "s"),
    "delete without patch": lambda store: store.sessions.delete_session(_USER, "s", only_if=lambda old: "p" not in old),
    "get": lambda store: store.sessions.get_session(_USER, "s"),
    "get last": lambda store: store.sessions.get_session(_USER, "s", limit=2),
    "read": _read_all,
    "find message": lambda store: store.sessions.find_message(_USER, "m3"),
    "list": lambda store: store.sessions.list_sessions(_USER),
    "list all": lambda store: store.sessions.list_sessions(order="created", metadata={"p": 1}),
    "set title": lambda store: store.sessions.set_title(_USER, "s", "title"),
    "change metadata": lambda store: store.sessions.change_metadata(
        _USER, "s", lambda old: {"count": old.get("count", 0) + 1}
    ),
    "set ttl": lambda store: store.sessions.set_ttl(_USER, "s", 10**8),
    "save state": lambda store: store.states.save_state(_USER, {"n": 1}, "s"),
    "save expected": lambda store: store.states.save_state(_USER, {"n": 2}, "s", expected_round=2),
    "save round": lambda store: store.states.save_state(_USER, {"n": 3}, "s", round_id=2),
    "delete state": lambda store: store.states.delete_state(_USER, "s"),
    "delete round": lambda store: store.states.delete_state(_USER, "s", 2),
    "add memory": lambda store: store.memory.add_memory(_USER, _messages("m4", "x"), "s"),
    "add sessions": lambda store: store.memory.add_sessions(_USER, namespace="a"),
    "save item": lambda store: store.memory.save_items(_USER, MemoryItem(id="item", text="likes pears")),
    "put documents": lambda store: store.documents.put(
        _USER, [{"id": "d", "text": "likes pears"}, {"id": "e", "text": "likes pears", "namespace": "a"}]
    ),
    "delete documents": lambda store: store.documents.delete(_USER, ["d", "e"]),
    "renew document": lambda store: store.documents.renew(_USER, {"d": datetime(2090, 1, 1, tzinfo=UTC)}),
    "delete memory": lambda store: store.memory.delete_memory(_USER, "s"),
    "reindex": lambda store: store.memory.reindex(user_id=_USER),
    "prune": lambda store: store.prune(timedelta(days=5)),
    "prune but one": lambda store: store.prune(timedelta(days=5), keep_last=1),
    "restore": _restore,
    "erase": lambda store: store.users.delete_user(_USER),
}
# These consist of independent transactions, and skip what is locked: each row is compared by itself.
_INDEPENDENT = {"prune", "prune but one"}
# How much these leave unchanged depends on which rows a call of _INDEPENDENT has already deleted.
_COUNTING = {*_INDEPENDENT, "restore"}

# The rows that calls wait for, each locked as an update of its key would.
_GATES = {
    "user": "SELECT FROM agentstore.users WHERE id = 'u' FOR UPDATE",
    "session": "SELECT FROM agentstore.sessions WHERE user_id = 'u' AND id = 's' FOR UPDATE",
    "session, shared": "SELECT FROM agentstore.sessions WHERE user_id = 'u' AND id = 's' FOR NO KEY UPDATE",
    "states": "SELECT FROM agentstore.state_heads WHERE user_id = 'u' AND session_id = 's' FOR UPDATE",
    "memories": "SELECT FROM agentstore.memory_buckets WHERE user_id = 'u' FOR UPDATE",
}
_MAX_STATEMENT = 5


class Schedule(NamedTuple):
    """The gate that holds both calls, or the statement before which the first one stops."""

    gate: str | None = None
    statement: int = 0


_SCHEDULES = [*(Schedule(gate=gate) for gate in _GATES), *(Schedule(statement=n + 1) for n in range(_MAX_STATEMENT))]

_STATES = {
    "recent": "SELECT",
    "gaps": "DELETE FROM {0}.messages WHERE session_id = 's' AND id IN ('m1', 'm3');"
    "UPDATE {0}.sessions SET removed = 2 WHERE id = 's'",
    "old": "UPDATE {0}.sessions SET updated_at = updated_at - interval '10 days', "
    "listed_at = listed_at - interval '10 days', created_at = created_at - interval '10 days';"
    "UPDATE {0}.memory_buckets SET updated_at = updated_at - interval '10 days';"
    "UPDATE {0}.state_heads SET updated_at = updated_at - interval '10 days';"
    "UPDATE {0}.state_rounds SET saved_at = saved_at - interval '10 days';"
    "UPDATE {0}.memories SET analysis = 'older';"
    "UPDATE {0}.checkpoint_heads SET updated_at = updated_at - interval '10 days';"
    "UPDATE {0}.blobs SET saved_at = saved_at - interval '10 days';",
    "expired": "UPDATE {0}.sessions SET updated_at = updated_at - interval '10 days', ttl = 60",
    "nothing": "".join(f"TRUNCATE {{0}}.{name};" for name in _TABLES),
}
_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
# Rows that remain, without timestamps, by the kinds that _INDEPENDENT calls delete separately. Not the heads of states
# that a rewind creates to lock them.
_REMAINING = """
SELECT 'sessions', array_agg(x ORDER BY x) FROM (
    SELECT row(id, next_seq, removed, title, metadata::text, ttl, app, forked_from, forked_at)::text
    FROM agentstore.sessions
    UNION ALL SELECT row(session_id, key, value::text)::text FROM agentstore.session_values
    UNION ALL SELECT row(session_id, seq, id, payload #>> '{content,0,text}')::text FROM agentstore.messages) AS t(x)
UNION ALL SELECT 'states', array_agg(x ORDER BY x) FROM (
    SELECT row(session_id, next_round, last_round)::text FROM agentstore.state_heads WHERE next_round > 1
    UNION ALL SELECT row(session_id, round, payload::text)::text FROM agentstore.state_rounds) AS t(x)
UNION ALL SELECT 'memories', array_agg(x ORDER BY x) FROM (
    SELECT row(session_id, count, tokens)::text FROM agentstore.memory_buckets
    UNION ALL SELECT row(session_id, seq, id, payload #>> '{content,0,text}', tokens, length(lexemes), analysis)::text
        FROM agentstore.memories
) AS t(x)
UNION ALL SELECT 'values', array_agg(x ORDER BY x) FROM (
    SELECT row(app, key, value::text)::text FROM agentstore.app_values
    UNION ALL SELECT row(app, key, value::text)::text FROM agentstore.user_values) AS t(x)
UNION ALL SELECT 'blobs', array_agg(x ORDER BY x) FROM (
    SELECT row(session_id, name, version, encode(hash, 'hex'), chunks, size)::text FROM agentstore.blobs
    UNION ALL SELECT row(encode(hash, 'hex'), number, data)::text FROM agentstore.blob_chunks) AS t(x)
UNION ALL SELECT 'checkpoints', array_agg(x ORDER BY x) FROM (
    SELECT row(session_id, id, parent_id, channels, versions)::text FROM agentstore.checkpoints
    UNION ALL SELECT row(session_id, checkpoint_id, task_id, number)::text FROM agentstore.checkpoint_writes) AS t(x)
UNION ALL SELECT 'users', array_agg(id) FROM agentstore.users
"""


class Outcome(NamedTuple):
    """What each call returned or raised, by its place in the pair, and the rows that remain by their kind."""

    results: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


class _Actor:
    """A call in progress, which stops before one of its statements until it is released."""

    def __init__(self, stop_before: int = 0) -> None:
        self.stopped, self.released = asyncio.Event(), asyncio.Event()
        self._stop_before = stop_before
        self._count = 0

    async def statement(self) -> None:
        self._count += 1
        if self._count == self._stop_before:
            self.stopped.set()
            await self.released.wait()


_actor: ContextVar[_Actor | None] = ContextVar("_actor", default=None)


def _plain(state: str, call: str, value: Any) -> str:
    """Describe what a call returned or raised, without timestamps, in few words."""
    if isinstance(value, BaseException):
        return type(value).__name__
    if isinstance(value, Session):
        head = value.model_dump_json(exclude={"created_at", "updated_at", "messages"})
        return f"{head} {[message.id for message in value.messages]}"
    if hasattr(value, "next_cursor"):
        return str([_plain(state, call, each) for each in value])
    if isinstance(value, Pruned):
        return repr(replace(value, bytes=0))
    if isinstance(value, Blob):
        return f"{value.name} {value.version} {value.sha256}"
    if isinstance(value, Appended):
        return f"{value.first_seq} to {value.last_seq}"
    # What is stored while a user is erased is deleted as well, and not counted. The rows of an expired session are
    # deleted, and perhaps counted, by the first call that needs its id.
    return "deleted" if call == "erase" or (state, call) == ("expired", "delete") else repr(value)


class Pairs:
    """Runs pairs of calls on one user, each call in a store of its own, as two processes would."""

    def __init__(self, observer: asyncpg.Connection, gate: asyncpg.Connection, stores: tuple[AgentStore, ...]) -> None:
        self._observer = observer
        self._gate = gate
        self._stores = stores
        self._serial: dict[tuple[str, tuple[str, ...]], Outcome] = {}
        self.schedules_met = 0

    async def fill(self) -> None:
        """Create the user's data, and a copy of it in each state; and the file to restore."""
        store = self._stores[0]
        await store.sessions.create_session(_USER, "s")
        await store.sessions.append_message(_session(), _messages("m1", "m2", "x"))
        await store.memory.add_memory(_USER, _messages("m2"), "s")
        await store.states.save_state(_USER, {"n": 7}, "s")
        file = io.BytesIO()
        await store.export(file)
        _exported.set(file.getvalue())
        await store.users.delete_user(_USER)
        await store.sessions.create_session(_USER, "t")
        await store.sessions.create_session(_USER, "s")
        await store.sessions.append_message(_session(), _messages("m1", "m2"))
        await store.states.save_state(_USER, {"n": 0}, "s")
        await store.sessions.append_message(_session(), _messages("m3", "m4"))
        await store.states.save_state(_USER, {"n": 0}, "s")
        await store.memory.add_memory(_USER, _messages("m1", "m2", "m3"), "s")
        await store.memory.save_items(_USER, MemoryItem(id="item", text="likes apples"))
        until = datetime(2080, 1, 1, tzinfo=UTC)
        await store.documents.put(_USER, {"id": "d", "text": "likes apples", "valid_until": until})
        await store.blobs.put(_USER, "b", b"one")
        for id in ("1", "2"):
            await store.checkpoints.put(_USER, "s", checkpoint_of(id, _LARGE + id.encode()))
        await store.states.merge_values(_USER, "s", values=ScopedValues({"k": 0}, {"k": 0}, {"k": 0}))
        for state, change in _STATES.items():
            await self._observer.execute(f'CREATE SCHEMA "{state}"')
            for name in _TABLES:
                await self._observer.execute(f'CREATE TABLE "{state}".{name} AS TABLE agentstore.{name}')
            await self._observer.execute(change.format(f'"{state}"'))

    async def serial(self, state: str, *calls: str) -> Outcome:
        """Return the outcome of calls that are executed one after the other."""
        if (state, calls) not in self._serial:
            await self._reset(state)
            results = [await self._call(call, _Actor(), self._stores[0]) for call in calls]
            self._serial[state, calls] = await self._outcome(state, calls, results)
        return self._serial[state, calls]

    async def concurrent(self, state: str, first: str, second: str, schedule: Schedule) -> Outcome:
        """Return the outcome of two calls that are executed by a schedule; `first` begins."""
        await self._reset(state)
        actors = _Actor(schedule.statement), _Actor()
        transaction = self._gate.transaction()
        if schedule.gate is not None:
            await transaction.start()
            await self._gate.fetch(_GATES[schedule.gate])
        tasks = []
        for call, actor, store in zip((first, second), actors, self._stores, strict=True):
            tasks.append(asyncio.create_task(self._call(call, actor, store)))
            await self._settle(tasks, actors[0])
        self.schedules_met += any(not task.done() for task in tasks)
        if schedule.gate is not None:
            await transaction.commit()
        actors[0].released.set()
        async with asyncio.timeout(60):
            return await self._outcome(state, (first, second), await asyncio.gather(*tasks))

    async def _settle(self, tasks: list["asyncio.Task[Any]"], actor: _Actor) -> None:
        """Wait until each call is done, stopped, or waits for a lock; or until it retries for a while."""
        for _ in range(60):
            done = sum(task.done() for task in tasks) + (actor.stopped.is_set() and not tasks[0].done())
            if done < len(tasks):
                done += await self._observer.fetchval(_WAITING)
            if done >= len(tasks):
                return
            await asyncio.sleep(0.001)

    async def _call(self, call: str, actor: _Actor, store: AgentStore) -> Any:
        _actor.set(actor)
        try:
            return await _CALLS[call](store)
        except AgentStoreError as error:
            return error

    async def _reset(self, state: str) -> None:
        await self._observer.execute(
            "DELETE FROM agentstore.users; DELETE FROM agentstore.app_values; "
            + "".join(f'INSERT INTO agentstore.{name} SELECT * FROM "{state}".{name}; ' for name in _TABLES)
        )

    async def _outcome(self, state: str, calls: Sequence[str], results: list[Any]) -> Outcome:
        rows = await self._observer.fetch(_REMAINING)
        plain = tuple(_plain(state, *each) for each in zip(calls, results, strict=True))
        return Outcome(plain, tuple((kind, tuple(each or ())) for kind, each in rows))

    async def difference(self, state: str, first: str, second: str, schedule: Schedule) -> str | None:
        """Run a pair, and describe its outcome if it is that of neither order."""
        outcome = await self.concurrent(state, first, second, schedule)
        one, other = await self.serial(state, first, second), await self.serial(state, second, first)
        allowed = [one, Outcome(other.results[::-1], other.rows)]
        if outcome in allowed:
            return None
        if _INDEPENDENT & {first, second}:
            # A call that skips what is locked may also have had no effect on it.
            alone = [await self.serial(state, each) for each in (first, second)]
            others = [dict(each.rows) for each in (*allowed, *alone, await self.serial(state))]
            rows_fit = all(
                set.intersection(*(set(each[kind]) for each in others))
                <= set(rows)
                <= set.union(*(set(each[kind]) for each in others))
                for kind, rows in outcome.rows
            )
            results = [{each.results[n] for each in allowed} | {alone[n].results[0]} for n in range(2)]
            if rows_fit and all(
                call in _COUNTING or result in expected
                for call, result, expected in zip((first, second), outcome.results, results, strict=True)
            ):
                return None
        described = "\n".join(
            f"    {name}: {each.results} {dict(each.rows)}"
            for name, each in zip(("was", "in order", "reversed"), (outcome, *allowed), strict=True)
        )
        return f"{state}: {first!r} and {second!r}, {schedule}\n{described}"


@pytest.fixture
def _pausable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each statement of a call wait for the actor whose call it is."""
    for name in ("fetch", "execute", "fetchmany"):
        original = getattr(asyncpg.Connection, name)

        async def pausing(self: Any, *args: Any, original: Any = original, **kwargs: Any) -> Any:
            if (actor := _actor.get()) is not None:
                await actor.statement()
            return await original(self, *args, **kwargs)

        monkeypatch.setattr(asyncpg.Connection, name, pausing)


@asynccontextmanager
async def _pairs(url: str, settings: Settings, direct_url: str) -> AsyncIterator[Pairs]:
    observer, gate = await asyncpg.connect(direct_url), await asyncpg.connect(direct_url)
    try:
        # Deadlocks are resolved by a retry; each would take a second.
        name = await observer.fetchval("SELECT quote_ident(current_database())")
        await observer.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '20ms'")
        async with AgentStore(url, settings=settings) as one, AgentStore(url, settings=settings) as other:
            pairs = Pairs(observer, gate, (one, other))
            await pairs.fill()
            yield pairs
    finally:
        await observer.close()
        await gate.close()


def _all_cases() -> Iterator[tuple[str, str, str, Schedule]]:
    for one, other in combinations_with_replacement(_CALLS, 2):
        for state in _STATES:
            for first, second in {(one, other), (other, one)}:
                for schedule in _SCHEDULES:
                    yield state, first, second, schedule


@pytest.mark.usefixtures("_pausable")
@pytest.mark.parametrize("count", [150, pytest.param(None, marks=pytest.mark.chaos)])
async def test_two_calls_at_once_have_the_outcome_of_one_after_the_other(
    database_url: str, direct_url: str, settings: Settings, count: int | None
) -> None:
    cases = sorted(_all_cases(), key=str)
    random.Random(7).shuffle(cases)
    async with _pairs(database_url, settings, direct_url) as pairs:
        different = [found for case in cases[:count] if (found := await pairs.difference(*case)) is not None]
        met = pairs.schedules_met
    assert different == [], "\n".join([f"{len(different)} differ", *different[:20]])
    assert met > len(cases[:count]) / 10  # calls really waited
