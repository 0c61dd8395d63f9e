"""What has expired in the database exists for no call, so it does not prevent its restore from an export."""

import io
from datetime import timedelta

import asyncpg
import pytest

from agentstore import AgentStore, MemoryItem, Settings, Store
from agentstore.testing import text

_TABLES = ("sessions", "memory_buckets", "state_heads")
_DAY = 86_400


async def _fill(store: Store, content: str, ttl: int | None = None) -> None:
    for id in ("s", "other"):
        session = await store.sessions.create_session("alice", id, ttl=ttl)
        await store.sessions.append_message(session, text(content, id="m"))
        await store.memory.add_memory("alice", text(content, id="m"), id)
        await store.memory.save_items("alice", MemoryItem(id=f"item {id}", text=content), id)
        await store.states.save_state("alice", {"content": content}, id)


async def _age(observer: asyncpg.Connection, id: str, seconds: int) -> None:
    for table in _TABLES:
        key = "id" if table == "sessions" else "session_id"
        await observer.execute(
            f"UPDATE agentstore.{table} SET updated_at = updated_at - $2 * interval '1 second' WHERE {key} = $1",
            *(id, seconds),
        )


async def _contents(store: Store, id: str) -> set[object]:
    """Return the contents of the session, its memories and its states; None where there are none."""
    session = await store.sessions.get_session("alice", id)
    state = await store.states.export_state("alice", id)
    hits = await store.memory.search("alice", "live old", {"session_id": id})
    texts = {getattr((hit.message.content or [])[0], "text", None) for hit in hits} or {None}
    return {None if session is None else getattr((session.messages[0].content or [])[0], "text", None)} | {
        None if state is None else state["content"],
        *texts,
    }


@pytest.fixture
def with_ttl(settings: Settings) -> Settings:
    return settings.model_copy(update={"session_ttl": _DAY, "memory_ttl": _DAY, "state_ttl": _DAY})


async def test_expired_rows_are_replaced_by_those_of_the_export(
    database_url: str, with_ttl: Settings, observer: asyncpg.Connection
) -> None:
    file = io.BytesIO()
    async with AgentStore(database_url, settings=with_ttl) as store:
        await _fill(store, "live")
        await store.export(file)
        await store.users.delete_user("alice")
        await _fill(store, "old")
        await _age(observer, "s", _DAY)
        done = await store.restore(file)
        assert done.left == [(table, "alice", "other") for table in sorted(_TABLES)]
        assert [done.rows[table] for table in (*_TABLES, "messages", "memories", "state_rounds")] == [1, 1, 1, 1, 2, 1]
        assert await _contents(store, "s") == {"live"}
        assert await _contents(store, "other") == {"old"}
        again = await store.restore(file)
        assert (again.left, sum(again.rows.values())) == (done.left, 0)


async def test_what_has_expired_in_memory_is_replaced_by_that_of_the_export(with_ttl: Settings) -> None:
    file = io.BytesIO()
    async with AgentStore.in_memory(settings=with_ttl) as store:
        await _fill(store, "live")
        await store.export(file)
        await store.users.delete_user("alice")
        await _fill(store, "old")
        past = timedelta(seconds=_DAY)
        store.sessions._users["alice"]["s"].updated_at -= past
        store.states._heads["alice", "s"].updated_at -= past
        store.memory._updated_at["alice", "s"] -= past
        done = await store.restore(file)
        assert done.left == [(table, "alice", "other") for table in sorted(_TABLES)]
        assert [done.rows[table] for table in (*_TABLES, "messages", "memories", "state_rounds")] == [1, 1, 1, 1, 2, 1]
        assert await _contents(store, "s") == {"live"}
        assert await _contents(store, "other") == {"old"}
        again = await store.restore(file)
        assert (again.left, sum(again.rows.values())) == (done.left, 0)


async def test_session_that_has_expired_by_its_own_ttl_is_replaced(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    file = io.BytesIO()
    await _fill(store, "live")
    await store.export(file)
    await store.users.delete_user("alice")
    await _fill(store, "old", ttl=_DAY)
    await _age(observer, "s", _DAY - 3_600)
    assert ("sessions", "alice", "s") in (await store.restore(file)).left
    await _age(observer, "s", 3_600)
    done = await store.restore(file)
    assert (done.rows["sessions"], done.rows["messages"]) == (1, 1)
    assert ("sessions", "alice", "s") not in done.left
    session = await store.sessions.get_session("alice", "s")
    assert session is not None
    assert (session.ttl, session.messages) == (None, [text("live", id="m")])


async def test_rows_that_have_expired_in_the_export_replace_nothing(
    database_url: str, settings: Settings, with_ttl: Settings, observer: asyncpg.Connection
) -> None:
    file = io.BytesIO()
    async with AgentStore(database_url, settings=settings) as store:
        await _fill(store, "live")
        await _age(observer, "s", _DAY)
        await store.export(file)
        await store.users.delete_user("alice")
        await _fill(store, "old")
        await _age(observer, "s", _DAY)
    before = await observer.fetch("SELECT payload::text FROM agentstore.messages ORDER BY session_id")
    async with AgentStore(database_url, settings=with_ttl) as store:
        done = await store.restore(file)
        assert (done.left, sum(done.rows.values())) == ([(table, "alice", "other") for table in sorted(_TABLES)], 0)
    assert await observer.fetch("SELECT payload::text FROM agentstore.messages ORDER BY session_id") == before
