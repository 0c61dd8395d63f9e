"""Results do not depend on a size: one below, at and one above each page, batch and cap, and at several times it."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agentstore import (
    AgentStore,
    Imported,
    InMemoryMemoryService,
    InMemorySessionHistoryService,
    InMemoryStateService,
    LimitExceeded,
    MemoryItem,
    Message,
    Page,
    PostgresMemoryService,
    Session,
    Settings,
)
from agentstore.importing import Importer, Mover, Target
from agentstore.importing.records import MemoriesRecord
from agentstore.importing.translated import Translated
from agentstore.testing import text
from tests.integration.extraction.support import EchoExtractor
from tests.support.vectors import WordEmbedder

pytestmark = pytest.mark.slow


def _around(*caps: int, times: Sequence[int] = (1, 2), long: Sequence[int] = ()) -> list[Any]:
    """Return the sizes one below, at and one above multiples of the caps; those of `long` are for `make chaos`."""
    sizes = {size for cap in caps for time in times for size in (cap * time - 1, cap * time, cap * time + 1)}
    more = {size for cap in caps for time in long for size in (cap * time - 1, cap * time, cap * time + 1)} - sizes
    return sorted(sizes) + [_long(size) for size in sorted(more)]


def _long(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.chaos)


def _fail(*problem: object) -> None:
    pytest.fail(str(problem))


def _messages(count: int, *, first: int = 0) -> list[Message]:
    """Return messages of which every seventh is not serialized together with others."""
    return [
        text(str(number), id=f"m{number}", metadata={"half": "\ud800"} if number % 7 == 0 else None)
        for number in range(first, first + count)
    ]


@pytest.fixture(params=["in memory", "postgres"])
async def services(
    request: pytest.FixtureRequest, database_url: str, settings: Settings
) -> AsyncIterator[tuple[Any, Any, Any]]:
    """The services of sessions, memory and states."""
    if request.param == "postgres":
        async with AgentStore(database_url, settings=settings) as store:
            yield store.sessions, store.memory, store.states
    else:
        states = InMemoryStateService()
        yield InMemorySessionHistoryService(states=states), InMemoryMemoryService(), states


@pytest.mark.parametrize("count", [*_around(100, times=(1, 5)), _long(9_999), 10_000])
async def test_append_stores_every_message(services: tuple[Any, Any, Any], count: int) -> None:
    sessions, _, _ = services
    session = await sessions.create_session("alice", "s")
    messages = _messages(count)
    await sessions.append_message(session, messages)
    assert (await sessions.get_session("alice", "s")).messages == messages == session.messages
    await sessions.append_message(session, [*messages[:-1], text("one more", id=f"m{count}")])
    assert [each.id for each in (await sessions.get_session("alice", "s")).messages] == [
        f"m{number}" for number in range(count + 1)
    ]


async def test_more_than_a_batch_is_refused(services: tuple[Any, Any, Any]) -> None:
    sessions, memory, _ = services
    session = await sessions.create_session("alice", "s")
    many = _messages(10_001)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: sessions.append_message(session, many),
        lambda: memory.add_memory("alice", many, "s"),
        lambda: memory.save_items("alice", [MemoryItem(text="x")] * 10_001),
    ]
    for call in calls:
        with pytest.raises(LimitExceeded):
            await call()
    assert (await sessions.get_session("alice", "s")).messages == session.messages == []
    assert (await memory.list_memory("alice"), await memory.list_items("alice")) == ([], [])


@pytest.mark.parametrize("count", [0, 1, *_around(10, times=(1, 2, 10))])
async def test_import_stores_every_message(database_url: str, settings: Settings, count: int) -> None:
    messages = _messages(count + 12)
    session = Session(id="s", user_id="alice", messages=messages[:count])
    async with AgentStore(database_url, settings=settings.model_copy(update={"max_batch": 10})) as store:
        assert await store.sessions.import_session(session) == Imported(sessions=1, messages=count)
        assert await store.sessions.import_session(session) == Imported()
        for more in (1, 11, 12):
            grown = session.model_copy(update={"messages": messages[: count + more]})
            added = 1 if more != 11 else 10
            assert await store.sessions.import_session(grown) == Imported(messages=added)
        stored = await store.sessions.get_session("alice", "s")
        assert stored is not None
        assert stored.messages == messages


@pytest.mark.parametrize("count", [_long(9_999), _long(10_000), 10_001, _long(20_001)])
async def test_import_of_a_long_session_is_complete(store: AgentStore, count: int) -> None:
    session = Session(id="s", user_id="alice", messages=_messages(count))
    assert await store.sessions.import_session(session) == Imported(sessions=1, messages=count)
    assert await store.sessions.import_session(session) == Imported()
    stored = await store.sessions.read_messages("alice", "s")
    assert stored is not None
    assert [each["id"] for each in stored.dicts()] == [each.id for each in session.messages]


async def _pages(read: Callable[[int, str | None], Awaitable[Page[Any]]], limit: int) -> list[Any]:
    """Read all pages, and check the size of each."""
    entries: list[Any] = []
    cursor = None
    while True:
        page = await read(limit, cursor)
        entries += page
        assert len(page) <= limit
        cursor = page.next_cursor
        if cursor is None:
            return entries
        assert len(page) == limit


@pytest.mark.parametrize("count", _around(5, 100, times=(1,), long=(2,)))
async def test_pages_have_every_entry_once(services: tuple[Any, Any, Any], count: int) -> None:
    sessions, memory, states = services
    limit = 100 if count > 11 else 5
    for number in range(count):
        await sessions.create_session("alice", f"s{number}")
        await states.save_state("alice", {}, "s")
    names = {f"s{number}" for number in range(count)}
    await memory.add_memory("alice", _messages(count // 2), "a")
    await memory.add_memory("alice", _messages(count - count // 2, first=count // 2), "b")
    found = await _pages(lambda limit, cursor: sessions.list_sessions("alice", limit=limit, cursor=cursor), limit)
    assert (len(found), {each.id for each in found}) == (count, names)
    found = await _pages(lambda limit, cursor: states.list_states("alice", "s", limit=limit, cursor=cursor), limit)
    assert [each.round_id for each in found] == list(range(count, 0, -1))

    async def list_memory(limit: int, cursor: str | None) -> Page[Message]:
        page: Page[Message] = await memory.list_memory("alice", {"page_size": limit, "cursor": cursor})
        return page

    ids = [f"m{number}" for number in range(count)]
    assert [each.id for each in await _pages(list_memory, limit)] == ids
    numbered: list[str] = []
    for number in range(1, count // limit + 2):
        numbered += [each.id for each in await memory.list_memory("alice", {"page_size": limit, "page_num": number})]
    assert numbered == ids
    session = await sessions.create_session("alice", "long")
    await sessions.append_message(session, _messages(count))
    assert [each.id async for each in sessions.iter_messages("alice", "long", batch=limit)] == ids
    for last in (limit - 1, limit, limit + 1):
        assert [each.id for each in (await sessions.get_session("alice", "long", limit=last)).messages] == ids[-last:]
        read = await sessions.read_messages("alice", "long", limit=last, before=ids[-1])
        assert [each.id for each in read] == ids[:-1][-last:]


_EQUAL = {
    "microsecond": "timestamptz '2026-05-05 05:05:05.123456+00'",
    "second": "timestamptz '2026-05-05 05:05:05+00' + number * interval '1 microsecond'",
    "minute": "timestamptz '2026-05-05 05:05:00+00' + number * interval '290 milliseconds'",
    "three minutes": "timestamptz '2026-05-05 05:05:00+00' + number * interval '895 milliseconds'",
}


@pytest.mark.parametrize("within", _EQUAL)
@pytest.mark.parametrize("limit", [7, 100, 200, 201, 202])
async def test_pages_of_entries_of_one_moment_have_each_once(
    store: AgentStore, observer: asyncpg.Connection, within: str, limit: int
) -> None:
    """As after an import, or a burst of writes."""
    numbered = (
        "(SELECT id, row_number() OVER (ORDER BY md5(id)) AS number FROM agentstore.{}) AS given WHERE given.id = {}.id"
    )
    await store.memory.save_items("alice", [MemoryItem(id=f"i{number}", text="x") for number in range(201)], "s")
    await observer.execute(
        "INSERT INTO agentstore.sessions (user_id, id, metadata) "
        "SELECT 'alice', 's' || n, '{}' FROM generate_series(1, 201) n"
    )
    await observer.execute(
        f"UPDATE agentstore.sessions SET created_at = {_EQUAL[within]}, updated_at = {_EQUAL[within]}, "
        f"listed_at = date_trunc('minute', {_EQUAL[within]}) FROM {numbered.format('sessions', 'sessions')}"
    )
    await observer.execute(
        f"UPDATE agentstore.memories SET time = {_EQUAL[within]} FROM {numbered.format('memories', 'memories')}"
    )
    found = await _pages(lambda limit, cursor: store.sessions.list_sessions("alice", limit=limit, cursor=cursor), limit)
    assert sorted(each.id for each in found) == sorted(f"s{number}" for number in range(1, 202))
    items = await _pages(lambda limit, cursor: store.memory.list_items("alice", limit=limit, cursor=cursor), limit)
    assert sorted(each.id for each in items) == sorted(f"i{number}" for number in range(201))


@pytest.mark.parametrize("limit", [7, 100, 200, 201, 202])
async def test_pages_across_users_have_each_once(store: AgentStore, observer: asyncpg.Connection, limit: int) -> None:
    await observer.execute(
        "INSERT INTO agentstore.users (id) "
        "SELECT CASE n WHEN 1 THEN '' ELSE 'u' || n END FROM generate_series(1, 201) n"
    )
    await observer.execute(
        "INSERT INTO agentstore.memory_buckets (user_id, session_id) SELECT id, 's' FROM agentstore.users"
    )
    await observer.execute(
        "INSERT INTO agentstore.memory_extractions "
        "(user_id, session_id, first_seq, last_seq, is_open, run_after, failed_at, error) "
        "SELECT id, 's', 1, 1, false, now(), now(), 'x' FROM agentstore.users"
    )
    users = await _pages(lambda limit, cursor: store.users.list_users(limit=limit, cursor=cursor), limit)
    failed = await _pages(lambda limit, cursor: store.memory.list_failed_extractions(limit=limit, cursor=cursor), limit)
    expected = sorted(["", *(f"u{number}" for number in range(2, 202))])
    assert [each.id for each in users] == [each.user_id for each in failed] == expected
    assert await store.memory.retry_failed_extractions() == 201


@pytest.mark.parametrize(
    ("count", "session_count"), [_long(1_999, 3), (2_000, 1), (2_001, 3), _long(4_000, 3), _long(4_001, 1)]
)
async def test_imported_files_are_complete(
    store: AgentStore, settings: Settings, tmp_path: Path, count: int, session_count: int
) -> None:
    """Around the number of messages that are stored at a time."""
    lines = (
        {"session": f"s{number % session_count}", "role": "user", "content": str(number % 50)}
        for number in range(count)
    )
    file = tmp_path / "log.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    for new in (count, 0):
        importer = Importer(store.sessions, settings=settings, user_id="alice", report=_fail)
        await importer.run([("log", file)])
        progress = importer.progress
        assert (progress.records, progress.new_messages, progress.problems) == (count, new, 0)
    for number in range(session_count):
        session = await store.sessions.get_session("alice", f"s{number}")
        assert session is not None
        texts = [getattr((each.content or [])[0], "text", None) for each in session.messages]
        assert texts == [str(each % 50) for each in range(number, count, session_count)]


@pytest.mark.parametrize("count", _around(1_000, times=(1,), long=(2,)))
async def test_moved_memories_are_complete(store: AgentStore, settings: Settings, count: int) -> None:
    async def read() -> AsyncIterator[Any]:
        session = Session(id="s", user_id="alice", messages=_messages(count))
        places = [str(position) for position in range(count)]
        yield MemoriesRecord("here", Translated(session, places, messages=count))

    for _ in range(2):
        mover = Mover(
            Target(store.sessions, store.memory, store.states, store.sessions, store.documents, store.checkpoints),
            settings=settings,
            report=_fail,
        )
        await mover.run(read())
        assert (mover.moved.memories, mover.moved.problems) == (count, 0)
        assert (await store.memory.delete_memory("bob")).memories == 0
        page = await store.memory.list_memory("alice", {"page_size": 10_000})
        assert [each.id for each in page] == [f"m{number}" for number in range(count)]


@pytest.mark.parametrize("count", _around(500, times=(1,), long=(2,)))
async def test_prune_deletes_every_expired_row(store: AgentStore, observer: asyncpg.Connection, count: int) -> None:
    """Around the numbers of users and of sessions that are read at a time."""
    await observer.execute("INSERT INTO agentstore.users (id) SELECT 'u' || n FROM generate_series(1, $1) n", count)
    await observer.execute(
        "INSERT INTO agentstore.sessions (user_id, id, metadata, ttl, updated_at) "
        "SELECT u, 's' || n, '{}', 60, now() - interval '1 hour' FROM ("
        "SELECT id AS u, 0 AS n FROM agentstore.users UNION ALL SELECT 'u1', generate_series(1, $1)) given",
        count,
    )
    await store.sessions.create_session("u1", "live")
    for dry_run in (True, False):
        assert (await store.prune(dry_run=dry_run)).sessions == 2 * count
    assert await observer.fetchval("SELECT count(*) FROM agentstore.sessions") == 1
    for number in range(3):
        await store.states.save_state("u1", {}, f"s{number}")
    await observer.execute("UPDATE agentstore.sessions SET updated_at = now() - interval '2 days', ttl = NULL")
    await observer.execute(
        "INSERT INTO agentstore.memory_buckets (user_id, session_id, updated_at) "
        "SELECT u, 's' || n, now() - interval '2 days' FROM ("
        "SELECT id AS u, 0 AS n FROM agentstore.users UNION ALL SELECT 'u1', generate_series(1, $1)) given",
        count,
    )
    pruned = await store.prune(timedelta(days=1), keep_last=1)
    assert (pruned.sessions, await observer.fetchval("SELECT count(*) FROM agentstore.memory_buckets")) == (0, count)
    await store.prune(timedelta(days=1))
    assert await observer.fetchval("SELECT count(*) FROM agentstore.memory_buckets") == 0


@pytest.mark.parametrize("count", [_long(4_999), _long(5_000), 5_001])
async def test_prune_deletes_every_old_round(store: AgentStore, observer: asyncpg.Connection, count: int) -> None:
    await store.states.save_state("alice", {}, "s")
    await observer.execute(
        "INSERT INTO agentstore.state_rounds (user_id, session_id, round, payload, size, metadata, saved_at) "
        "SELECT 'alice', 's', n, '{}', 2, '{}', now() - interval '2 days' FROM generate_series(2, $1 + 1) n",
        count,
    )
    await observer.execute("UPDATE agentstore.state_rounds SET saved_at = now() - interval '2 days'")
    assert (await store.prune(timedelta(days=1), keep_last=1, dry_run=True)).state_rounds == count
    assert (await store.prune(timedelta(days=1), keep_last=1)).state_rounds == count
    assert [each.round_id for each in await store.states.list_states("alice", "s")] == [count + 1]


@pytest.mark.parametrize("count", _around(200, times=(1,), long=(2,)))
async def test_every_user_is_exported_and_restored(store: AgentStore, observer: asyncpg.Connection, count: int) -> None:
    """Around the number of users that are read in one snapshot, and restored in one transaction."""
    await observer.execute("INSERT INTO agentstore.users (id) SELECT 'u' || n FROM generate_series(1, $1) n", count)
    await observer.execute(
        "INSERT INTO agentstore.sessions (user_id, id, metadata) SELECT id, 's', '{}' FROM agentstore.users"
    )
    file = io.BytesIO()
    assert await store.export(file) is not None
    assert await store.export(file) is None  # it is complete
    await observer.execute("DELETE FROM agentstore.users WHERE id <> 'u1'")
    for restored in (count - 1, 0):
        done = await store.restore(file)
        assert (done.users, done.rows["users"], done.rows["sessions"], done.left) == (count, restored, restored, [])
    assert await observer.fetchval("SELECT count(*) FROM agentstore.sessions") == count


async def test_pruning_rounds_is_linear_without_statistics(store: AgentStore, observer: asyncpg.Connection) -> None:
    """Compared with the time that it takes once the table was analyzed."""
    times = []
    for session in ("new", "analyzed"):
        await store.states.save_state("alice", {}, session)
        await observer.execute(
            "INSERT INTO agentstore.state_rounds (user_id, session_id, round, payload, size, metadata, saved_at) "
            "SELECT 'alice', $1, n, '{}', 2, '{}', now() - interval '2 days' FROM generate_series(2, 8001) n",
            session,
        )
        await observer.execute("UPDATE agentstore.state_rounds SET saved_at = now() - interval '2 days'")
        if session == "analyzed":
            await observer.execute("ANALYZE agentstore.state_rounds")
        began = time.monotonic()
        assert (await store.prune(timedelta(days=1), keep_last=1)).state_rounds == 8_000
        times.append(time.monotonic() - began)
    assert times[0] < 20 * max(times[1], 0.05)


@pytest.mark.parametrize("count", _around(50, times=(1, 2, 4)))
async def test_every_message_is_extracted_once(database_url: str, settings: Settings, count: int) -> None:
    """Around the number of messages of one call of an extractor, in one conversation."""
    seen: list[str] = []

    class Recording(EchoExtractor):
        async def extract(self, messages: Sequence[Message], existing: Sequence[MemoryItem]) -> Any:
            seen.extend(message.id for message in messages)
            return await super().extract(messages, existing)

    immediate = settings.model_copy(update={"extraction_settle": 0.0})
    async with PostgresMemoryService(database_url, settings=immediate, extractor=Recording()) as service:
        await service.add_memory("alice", _messages(count), "s")
        done = await service.extract()
        assert sum(each.messages for each in done) == count
        assert seen == [f"m{number}" for number in range(count)]
        assert len(await service.list_items("alice", limit=1_000)) == count
        assert await service.extract() == []


@pytest.mark.parametrize("count", [_long(99), _long(100), 101])
async def test_every_conversation_is_extracted(database_url: str, settings: Settings, count: int) -> None:
    """Around the number of due jobs that a worker reads, all of one user, whose jobs are done one after another."""
    immediate = settings.model_copy(update={"extraction_settle": 0.0})
    async with PostgresMemoryService(database_url, settings=immediate, extractor=EchoExtractor()) as service:
        for number in range(count):
            await service.add_memory("alice", text("x"), f"s{number}")
        await service.add_memory("bob", text("x"), "s")
        assert len(await service.extract(limit=count + 2)) == count + 1
        assert len(await service.list_items("alice", limit=1_000)) == count


@pytest.mark.parametrize("count", _around(5))
async def test_reindex_and_embed_reach_every_memory(
    vector_store: AgentStore, observer: asyncpg.Connection, has_pgvector: bool, embedder: WordEmbedder, count: int
) -> None:
    for user in ("", "alice", "bob"):
        await vector_store.memory.add_memory(user, _messages(count), "s")
        await vector_store.memory.save_items(user, MemoryItem(text="x"), "t")
    await observer.execute("UPDATE agentstore.memories SET analysis = 'old'")
    assert await vector_store.memory.reindex(user_id="", batch=5) == count + 1
    assert await vector_store.memory.reindex(batch=5) == 2 * (count + 1)
    if has_pgvector:
        await observer.execute("DELETE FROM agentstore.memory_vectors")
        assert await vector_store.memory.embed(user_id="", batch=5) == count + 1
        assert await vector_store.memory.embed(batch=5) == 2 * (count + 1)


@pytest.mark.parametrize("count", _around(32, 64, times=(1,), long=(2,)))
async def test_concurrent_appends_are_complete(store: AgentStore, count: int) -> None:
    """Around the numbers of sessions and of messages that share a statement."""
    sessions = [await store.sessions.create_session("alice", f"s{number}") for number in range(count)]
    await asyncio.gather(
        *(store.sessions.append_message(session, text("a")) for session in sessions),
        *(store.sessions.append_message(sessions[0], text(str(number))) for number in range(count)),
    )
    counts = [len((await store.sessions.get_session("alice", session.id)).messages) for session in sessions]  # type: ignore[union-attr]
    assert counts == [count + 1, *[1] * (count - 1)]
