"""Calls whose writes are refused indefinitely by concurrent changes: each ends after a bounded number of attempts."""

import asyncio
import io
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from agentstore import (
    AgentStore,
    AlreadyExists,
    Conflict,
    MemoryItem,
    PostgresMemoryService,
    PostgresSandboxService,
    PostgresSessionHistoryService,
    SandboxUnavailable,
    Session,
    Settings,
    Unavailable,
)
from agentstore.database import database as databases
from agentstore.database.retry import ATTEMPTS
from agentstore.errors import AgentStoreError, StatementFailed
from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider
from agentstore.testing import text
from tests.integration.extraction.support import EchoExtractor

# A sequence counts the attempts, as it is not rolled back.
_REFUSE = """
CREATE SEQUENCE agentstore.attempts;
CREATE FUNCTION agentstore.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM nextval('agentstore.attempts');
    {action}
END $$;
CREATE TRIGGER refuse {when} INSERT ON agentstore.{table} FOR EACH ROW EXECUTE FUNCTION agentstore.refuse()
"""


async def _refuse_rows(observer: asyncpg.Connection, table: str, sqlstate: str) -> None:
    """Let every insertion fail as if another client had just written."""
    action = f"RAISE EXCEPTION 'refused' USING ERRCODE = '{sqlstate}';"
    await observer.execute(_REFUSE.format(table=table, action=action, when="BEFORE"))


async def _count_attempts(observer: asyncpg.Connection) -> int:
    count = await observer.fetchval("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM agentstore.attempts")
    assert isinstance(count, int)
    return count


async def _create(store: AgentStore) -> object:
    return await store.sessions.create_session("alice", "new")


async def _append(store: AgentStore) -> object:
    await store.sessions.append_message(Session(id="s", user_id="alice"), text("x", id="x"))
    return None


async def _import(store: AgentStore) -> object:
    return await store.sessions.import_session(Session(id="new", user_id="alice", messages=[text("x")]))


async def _import_in_parts(store: AgentStore) -> object:
    # Of one message each, in the test below.
    return await store.sessions.import_session(Session(id="new", user_id="alice", messages=[text("x"), text("y")]))


async def _fork(store: AgentStore) -> object:
    return await store.sessions.fork_session("alice", "s", new_id="new")


async def _save_state(store: AgentStore) -> object:
    return await store.states.save_state("alice", {"a": 1})


async def _add(store: AgentStore) -> object:
    await store.memory.add_memory("alice", text("x", id="x"), "new")
    return None


async def _save_items(store: AgentStore) -> object:
    return await store.memory.save_items("alice", MemoryItem(text="x"), "new")


_CALLS: dict[str, tuple[Callable[[AgentStore], Awaitable[object]], str, str, type[AgentStoreError], int]] = {
    "create": (_create, "sessions", "23503", Unavailable, ATTEMPTS),
    # Each of these is also retried by Database.fetch.
    "deadlock": (_create, "sessions", "40P01", Unavailable, ATTEMPTS * databases._ATTEMPTS),
    # By its own statement, by the one that stores what is missing, and by that again while the session is locked.
    "append": (_append, "messages", "23505", StatementFailed, 3),
    "append, no user": (_append, "messages", "23503", StatementFailed, 3),
    "import": (_import, "messages", "23505", Unavailable, ATTEMPTS),
    "import in parts": (_import_in_parts, "sessions", "23503", Unavailable, ATTEMPTS),
    "import, deadlock": (_import_in_parts, "sessions", "40001", Unavailable, ATTEMPTS),
    "fork": (_fork, "sessions", "23505", AlreadyExists, 1),
    "state": (_save_state, "state_rounds", "23503", Unavailable, ATTEMPTS),
    "memory": (_add, "memories", "23505", Unavailable, ATTEMPTS + 1),
    "items": (_save_items, "memories", "23505", Unavailable, ATTEMPTS),
    "items, deadlock": (_save_items, "memories", "40P01", Unavailable, ATTEMPTS),
}


@pytest.mark.parametrize("name", _CALLS)
async def test_a_call_ends_after_a_bounded_number_of_attempts(
    database_url: str, settings: Settings, observer: asyncpg.Connection, name: str
) -> None:
    call, table, sqlstate, error, attempts = _CALLS[name]
    async with AgentStore(database_url, settings=settings.model_copy(update={"max_batch": 1})) as store:
        await store.sessions.create_session("alice", "s")
        await _refuse_rows(observer, table, sqlstate)
        with pytest.raises(error):
            await call(store)
        assert await _count_attempts(observer) == attempts
        await observer.execute(f"DROP TRIGGER refuse ON agentstore.{table}")
        await call(store)


async def test_an_append_that_creates_its_session_ends_after_a_bounded_number_of_attempts(
    database_url: str, settings: Settings, observer: asyncpg.Connection
) -> None:
    # As if another client deleted each session as soon as it was created.
    action = "DELETE FROM agentstore.sessions; RETURN NULL;"
    await observer.execute(_REFUSE.format(table="sessions", action=action, when="AFTER"))
    async with PostgresSessionHistoryService(database_url, settings=settings, missing_session="create") as service:
        with pytest.raises(Unavailable, match="could not append to session 'new'"):
            await service.append_message(Session(id="new", user_id="alice"), text("x"))
    assert await _count_attempts(observer) == ATTEMPTS


async def test_an_extraction_that_cannot_be_written_fails_its_job(
    database_url: str, settings: Settings, observer: asyncpg.Connection
) -> None:
    settings = settings.model_copy(update={"extraction_settle": 0.0})
    async with PostgresMemoryService(database_url, settings=settings, extractor=EchoExtractor()) as service:
        await service.add_memory("alice", text("x"), "s")
        await _refuse_rows(observer, "memories", "23505")
        (done,) = await service.extract()
    assert "could not write what was extracted from session 's' of user 'alice' in 5 attempts" in (done.error or "")
    assert (done.outage, await _count_attempts(observer)) == (False, 5)


async def test_a_restore_of_refused_rows_ends(store: AgentStore, observer: asyncpg.Connection) -> None:
    await store.sessions.create_session("alice", "s")
    file = io.BytesIO()
    await store.export(file)
    await store.users.delete_user("alice")
    await _refuse_rows(observer, "sessions", "23505")
    file.seek(0)
    with pytest.raises(Conflict, match=r"users up to 'alice' .* in 10 attempts"):
        await store.restore(file)
    assert await _count_attempts(observer) == 10


async def test_a_sandbox_that_cannot_be_claimed_is_unavailable(
    database_url: str, settings: Settings, observer: asyncpg.Connection
) -> None:
    async with PostgresSandboxService(
        database_url,
        settings=settings.model_copy(update={"sandbox_lease": 0.2, "sandbox_timeout": 0.1}),
        provider=UnsafeSubprocessProvider(),
    ) as service:
        await _refuse_rows(observer, "sandboxes", "23503")
        with pytest.raises(Unavailable, match=f"in {ATTEMPTS} attempts"):
            await service.connect("s", "alice")
        assert await _count_attempts(observer) == ATTEMPTS
        # As if another process claimed it each time, and released it.
        await observer.execute(
            "CREATE OR REPLACE FUNCTION agentstore.refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RETURN NULL; END $$"
        )
        async with asyncio.timeout(60):
            with pytest.raises(SandboxUnavailable, match="claimed by other processes"):
                await service.connect("s", "alice")
