"""Calls that meet a rewind of the same session: each outcome is that of one of the two serial orders.

The order of the statements is forced: a rewind is held while it has locked the session, and the other call until it
waits for that lock, or is held between its own statements.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, AlreadyExists, Imported, Settings
from agentstore.database.database import Database
from agentstore.database.statement import Statement
from agentstore.database.transaction import Transaction
from agentstore.repositories.sessions.append_statements import APPEND_MISSING
from agentstore.repositories.sessions.copies import CUT, LOCK
from agentstore.testing import text

_A, _B, _C = (text(id, id=id) for id in ("a", "b", "c"))


class _Rewind:
    """A rewind of session "s" to its first message, which is held after the statement `until`."""

    def __init__(self, store: AgentStore, until: Statement) -> None:
        self._store = store
        self._until = until
        self._release = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None

    async def start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Execute it up to the statement."""
        reached = asyncio.Event()
        fetch = Transaction.fetch

        async def hold(transaction: Transaction, statement: Statement, /, **values: Any) -> Any:
            rows = await fetch(transaction, statement, **values)
            if statement is self._until and asyncio.current_task() is self._task:
                reached.set()
                await self._release.wait()
            return rows

        monkeypatch.setattr(Transaction, "fetch", hold)
        self._task = asyncio.create_task(self._store.sessions.rewind_session("alice", "s", "a", keep=False))
        await reached.wait()

    async def finish(self) -> None:
        """Let it commit."""
        assert self._task is not None
        self._release.set()
        await self._task


@pytest.fixture
async def other(database_url: str, settings: Settings) -> AsyncIterator[AgentStore]:
    """A store of another process."""
    async with AgentStore(database_url, settings=settings) as other:
        yield other


async def _create(store: AgentStore, *messages: Any) -> Any:
    session = await store.sessions.create_session("alice", "s")
    await store.sessions.append_message(session, list(messages))
    return session


async def _ids(store: AgentStore, session_id: str = "s") -> list[str]:
    session = await store.sessions.get_session("alice", session_id)
    assert session is not None
    return [message.id for message in session.messages]


async def _wait_for_blocked(observer: asyncpg.Connection, task: "asyncio.Task[Any]") -> None:
    """Wait until a statement waits for a lock of another transaction, or the task is done."""
    async with asyncio.timeout(60):
        while not task.done():
            blocked = await observer.fetchval(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
            )
            if blocked:
                return
            await asyncio.sleep(0.01)


def _before(
    monkeypatch: pytest.MonkeyPatch, store: AgentStore, statement: Statement, act: Callable[[], Awaitable[None]]
) -> None:
    """Call `act` once, before the store executes the statement for the first time."""
    is_done = False
    fetch = Database.fetch

    async def act_first(database: Database, executed: Statement, /, **values: Any) -> Any:
        nonlocal is_done
        if executed is statement and database is store.sessions._database and not is_done:
            is_done = True
            await act()
        return await fetch(database, executed, **values)

    monkeypatch.setattr(Database, "fetch", act_first)


def _append(store: AgentStore, session: Any, *messages: Any) -> "asyncio.Task[Any]":
    return asyncio.create_task(store.sessions.append_message(session, list(messages)))


def _import(store: AgentStore, session: Any, *messages: Any) -> "asyncio.Task[Any]":
    given = session.model_copy(update={"messages": list(messages)})
    return asyncio.create_task(store.sessions.import_session(given))


def _complete(store: AgentStore, session: Any, *messages: Any) -> "asyncio.Task[Any]":
    """Import messages, of which the first has another text than the stored one."""
    given = session.model_copy(update={"messages": [text("other", id=messages[0].id), *messages[1:]]})
    return asyncio.create_task(store.sessions.import_session(given, differences="keep"))


@pytest.mark.parametrize("call", [_append, _import, _complete], ids=["append", "import", "complete"])
async def test_messages_that_a_rewind_deletes_meanwhile_are_stored_again(
    store: AgentStore, other: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    session = await _create(store, _A, _B)
    rewind = _Rewind(other, LOCK)
    _before(monkeypatch, store, APPEND_MISSING, lambda: rewind.start(monkeypatch))
    calling = call(store, session, _A, _B, _C)
    await _wait_for_blocked(observer, calling)  # it has seen b, which the rewind deletes
    await rewind.finish()
    imported = await calling
    assert await _ids(store) == ["a", "b", "c"]
    if call is _complete:
        assert imported == Imported(messages=2, differing=("a",))


async def test_a_rewind_followed_by_an_append_is_detected_although_the_number_of_messages_is_the_same(
    store: AgentStore, observer: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await _create(store, _A, _B)
    connection = await asyncpg.connect(database_url)
    transaction = connection.transaction()

    async def replace() -> None:
        """Rewind to a and append d, as two transactions could before the waiting one gets the lock."""
        await transaction.start()
        await connection.execute("UPDATE agentstore.sessions SET next_seq = next_seq")
        await connection.execute("UPDATE agentstore.messages SET id = 'd' WHERE id = 'b'")

    _before(monkeypatch, store, APPEND_MISSING, replace)
    appending = _append(store, session, _B, _C)
    await _wait_for_blocked(observer, appending)
    await transaction.commit()
    await connection.close()
    await appending
    seqs = await observer.fetch("SELECT id, seq FROM agentstore.messages ORDER BY seq")
    assert seqs == [("a", 1), ("d", 2), ("b", 3), ("c", 4)]


async def test_an_import_of_several_parts_has_all_or_is_rewound_as_a_whole(
    store: AgentStore,
    other: AgentStore,
    observer: asyncpg.Connection,
    database_url: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = await _create(store, _A, _B)
    fetch = Transaction.fetch
    rewinding: list[asyncio.Task[Any]] = []

    async def rewind_after_the_first_part(transaction: Transaction, statement: Statement, /, **values: Any) -> Any:
        rows = await fetch(transaction, statement, **values)
        if statement is APPEND_MISSING and not rewinding:
            rewinding.append(asyncio.create_task(other.sessions.rewind_session("alice", "s", "a", keep=False)))
            await _wait_for_blocked(observer, rewinding[0])
        return rows

    monkeypatch.setattr(Transaction, "fetch", rewind_after_the_first_part)
    async with AgentStore(database_url, settings=settings.model_copy(update={"max_batch": 2})) as small:
        await _import(small, session, _A, _B, _C)
    await rewinding[0]
    assert await _ids(store) == ["a"]


@pytest.mark.parametrize("until", [LOCK, CUT], ids=["locked", "rewound"])
async def test_a_fork_beside_a_rewind_copies_what_was_there_before(
    store: AgentStore, other: AgentStore, monkeypatch: pytest.MonkeyPatch, until: Statement
) -> None:
    await _create(store, _A, _B, _C)
    rewind = _Rewind(other, until)
    await rewind.start(monkeypatch)
    for at, ids in ((None, ["a", "b", "c"]), ("b", ["a", "b"]), (2, ["a", "b"])):
        copy = await asyncio.wait_for(store.sessions.fork_session("alice", "s", at=at), 60)  # waits for no lock
        assert await _ids(store, copy.id) == ids
    await rewind.finish()
    assert await _ids(store) == ["a"]


async def test_a_fork_beside_a_save_of_states_under_its_id_copies_nothing(
    store: AgentStore, observer: asyncpg.Connection, database_url: str
) -> None:
    """The save has committed after the snapshot of the fork, in which the head had no rounds."""
    await _create(store, _A)
    await store.states.save_state("alice", {"of": "s"}, "s")
    await store.states.save_state("alice", {"of": "f"}, "f")
    await store.states.delete_state("alice", "f", 1)
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute(
            "UPDATE agentstore.state_heads SET next_round = 3, last_round = 2 WHERE session_id = 'f'"
        )
        forking = asyncio.create_task(store.sessions.fork_session("alice", "s", new_id="f"))
        await _wait_for_blocked(observer, forking)
    await connection.close()
    with pytest.raises(AlreadyExists):
        await forking
    assert await store.sessions.get_session("alice", "f") is None
    assert await store.states.list_states("alice", "f") == []


async def test_a_call_that_finds_nothing_missing_is_ordered_before_the_rewind(
    store: AgentStore, other: AgentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await _create(store, _A, _B)
    rewind = _Rewind(other, LOCK)
    _before(monkeypatch, store, APPEND_MISSING, lambda: rewind.start(monkeypatch))
    await asyncio.wait_for(_append(store, session, _B), 60)  # without waiting for the lock
    await rewind.finish()
    assert await _ids(store) == ["a"]
