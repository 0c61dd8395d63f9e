"""import_session stores sessions of other systems with their timestamps, and completes existing ones."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from agentstore import AgentStore, Imported, InMemoryStore, InvalidContent, Session, Settings
from agentstore.database.database import Database
from agentstore.database.statement import Row, Statement
from agentstore.repositories.sessions.append_statements import APPEND_MISSING
from agentstore.repositories.sessions.statements import IMPORT
from agentstore.testing import text
from agentstore.testing.imports import ImportContract

_DAY = 86_400
_CREATED = datetime(2020, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
_UPDATED = datetime(2021, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
OpenStore = Callable[[Settings], AgentStore | InMemoryStore]


@pytest.fixture(params=["postgres", "in memory"])
def open_store(request: pytest.FixtureRequest) -> OpenStore:
    if request.param == "in memory":
        return lambda settings: AgentStore.in_memory(settings=settings)
    url = request.getfixturevalue("database_url")
    return lambda settings: AgentStore(url, settings=settings)


async def test_an_import_may_have_more_messages_than_a_batch(open_store: OpenStore, settings: Settings) -> None:
    small = settings.model_copy(update={"max_batch": 10})
    session = Session(
        id="s",
        user_id="alice",
        messages=[text(str(number)) for number in range(95)],
        created_at=_CREATED,
        updated_at=_UPDATED,
    )
    async with open_store(small) as store:
        assert await store.sessions.import_session(session) == Imported(sessions=1, messages=95)
        assert await store.sessions.import_session(session) == Imported()
        assert await store.sessions.get_session("alice", "s") == session
        repeated = session.model_copy(update={"id": "t", "messages": [*session.messages[:15], session.messages[3]]})
        assert await store.sessions.import_session(repeated) == Imported(sessions=1, messages=15)
        found = await store.sessions.get_session("alice", "t")
        assert found is not None
        assert found.messages == session.messages[:15]


@pytest.mark.parametrize("count", [0, 3, 10, 11, 30])
@pytest.mark.parametrize(("setting", "own"), [(_DAY, None), (None, _DAY), (10 * _DAY, _DAY), (_DAY, _DAY)])
async def test_session_that_has_expired_is_refused(
    open_store: OpenStore,
    settings: Settings,
    count: int,
    setting: int | None,
    own: int | None,
) -> None:
    """Stored, it would exist for no call, and each import would report it as new."""
    session = Session(
        id="s",
        user_id="alice",
        messages=[text(str(number)) for number in range(count)],
        created_at=_CREATED,
        updated_at=datetime.now(UTC) - timedelta(days=2),
        ttl=own,
    )
    limited = settings.model_copy(update={"session_ttl": setting, "max_batch": 10})
    async with open_store(limited) as store:
        for _ in range(2):
            with pytest.raises(InvalidContent, match=r"session 's' of user 'alice' has expired: .* 86400 seconds"):
                await store.sessions.import_session(session)
        assert await store.users.list_users() == []
        longer = session.model_copy(update={"ttl": 3 * _DAY})
        assert await store.sessions.import_session(longer) == Imported(sessions=1, messages=count)
        assert await store.sessions.get_session("alice", "s") == longer
        assert await store.sessions.import_session(longer) == Imported()


@pytest.mark.parametrize("count", [3, 30])
async def test_expired_import_completes_an_existing_session(
    open_store: OpenStore, settings: Settings, count: int
) -> None:
    limited = settings.model_copy(update={"session_ttl": _DAY, "max_batch": 10})
    messages = [text(str(number)) for number in range(count)]
    async with open_store(limited) as store:
        session = await store.sessions.create_session("alice", "s")
        await store.sessions.append_message(session, messages[0])
        old = Session(id="s", user_id="alice", messages=messages, updated_at=_UPDATED)
        assert await store.sessions.import_session(old) == Imported(messages=count - 1)
        stored = await store.sessions.get_session("alice", "s")
        assert stored is not None
        assert (stored.messages, stored.updated_at) == (messages, session.updated_at)


@pytest.mark.parametrize("count", [3, 30])
async def test_import_replaces_an_expired_session(open_store: OpenStore, settings: Settings, count: int) -> None:
    limited = settings.model_copy(update={"max_batch": 10})
    async with open_store(limited) as store:
        old = Session(id="s", user_id="alice", messages=[text("old", id="0")], updated_at=_UPDATED)
        await store.sessions.import_session(old)
        await store.sessions.set_ttl("alice", "s", 60)
        session = Session(id="s", user_id="alice", messages=[text(str(each), id=str(each)) for each in range(count)])
        assert await store.sessions.import_session(session) == Imported(sessions=1, messages=count)
        stored = await store.sessions.get_session("alice", "s")
        assert stored is not None
        assert stored.messages == session.messages


async def test_differing_messages_of_several_batches_stay(open_store: OpenStore, settings: Settings) -> None:
    async with open_store(settings.model_copy(update={"max_batch": 2})) as store:
        await ImportContract().test_differing_messages_stay_and_the_others_are_imported_in_order(store)


async def test_completing_an_annotated_session_takes_one_statement_besides_the_insert(
    store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [text(str(number), id=str(number)) for number in range(20)]
    session = Session(id="s", user_id="alice", messages=messages[:10])
    await store.sessions.import_session(session)
    session.messages = [each.model_copy(update={"metadata": {"model": "x"}}) for each in messages]
    executed: list[Statement] = []
    fetch = Database.fetch

    async def count(database: Database, statement: Statement, /, **values: object) -> list[Row]:
        executed.append(statement)
        return await fetch(database, statement, **values)

    monkeypatch.setattr(Database, "fetch", count)
    assert await store.sessions.import_session(session, differences="keep") == Imported(messages=10)
    assert executed == [IMPORT, APPEND_MISSING]


async def test_concurrent_imports_of_one_session_create_it_once(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    for number in range(10):
        session = Session(id=f"s{number}", user_id=f"u{number % 3}", messages=[text(str(each)) for each in range(20)])
        done = await asyncio.gather(*(store.sessions.import_session(session) for _ in range(8)))
        assert sorted((each.sessions, each.messages) for each in done) == [(0, 0)] * 7 + [(1, 20)]
        assert await store.sessions.get_session(session.user_id, session.id) is not None
    assert await observer.fetchval("SELECT count(*) FROM agentstore.messages") == 200


async def test_imports_succeed_while_the_user_is_deleted(store: AgentStore, observer: asyncpg.Connection) -> None:
    async def delete() -> None:
        for _ in range(30):
            await store.users.delete_user("alice")

    async def insert(name: str) -> None:
        for number in range(30):
            await store.sessions.import_session(Session(id=f"{name}{number}", user_id="alice", messages=[text("x")]))

    await asyncio.gather(delete(), insert("a"), insert("b"), insert("c"))
    assert await observer.fetchval(
        "SELECT count(*) FROM agentstore.messages m WHERE NOT EXISTS "
        "(SELECT FROM agentstore.sessions s WHERE (s.user_id, s.id) = (m.user_id, m.session_id))"
    ) == 0  # fmt: skip


async def test_a_stored_message_is_imported_whatever_its_fields_are(store: AgentStore) -> None:
    """Also one that a caller could not give as a dict, since nothing in it is the content of a message."""
    fields = [{"role": "user"}, {"role": "user", "text": "a"}, {"role": "assistant", "tool_calls": [{"id": "c"}]}]
    session = Session.model_validate({"id": "s", "user_id": "alice", "messages": fields})
    assert await store.sessions.import_session(session) == Imported(sessions=1, messages=3)
    stored = await store.sessions.get_session("alice", "s")
    assert stored is not None
    assert stored.messages == session.messages
