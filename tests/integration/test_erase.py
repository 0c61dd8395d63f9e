"""Erasing a user deletes all data of the user from every table, even during concurrent writes for the user."""

import asyncio
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, AgentStoreError, Deleted, MemoryItem, Message, NotFound, ScopedValues, Settings
from agentstore.models import Base
from agentstore.repositories import erasure, prune, steps, users
from agentstore.search import ranking
from agentstore.testing import text
from tests.support.checkpoints import checkpoint_of, write_of
from tests.support.traces import traces

_WORD = "zyzzyva"


async def _fill(store: AgentStore, user: str, word: str) -> None:
    await store.users.set_metadata(user, {"name": word})
    session = await store.sessions.create_session(user, f"{word} session", title=word, metadata={"x": word})
    await store.sessions.append_message(session, [text(f"the {word}", id=f"{word} 1"), text("plain", id=f"{word} 2")])
    await store.memory.add_memory(user, session.messages, session.id)
    await store.memory.save_items(user, MemoryItem(text=f"likes {word}", id=f"{word} item"))
    document = {"id": f"{word} document", "text": f"likes {word}", "namespace": word, "metadata": {word: word}}
    await store.documents.put(user, document)
    await store.states.save_state(user, {"plan": [word] * 3}, session.id, metadata={"of": word})
    await store.states.save_state(user, {"plan": [f"{number} {word}" for number in range(5_000)]}, session.id)
    await store.blobs.put(user, word, word.encode(), session.id, app=word, filename=word, metadata={"x": word})
    await store.blobs.put(user, word, word.encode() * 100_000)
    await store.checkpoints.put(user, session.id, checkpoint_of(word, word.encode() * 100, run_id=word, namespace=word))
    await store.checkpoints.put_writes(user, session.id, word, word, [write_of(value=word.encode(), task_id=word)])
    values = ScopedValues(user={word: word}, session={word: [word]})
    await store.states.merge_values(user, session.id, values=values, app=word)
    await store.sessions.fork_session(user, session.id, new_id=f"{word} fork")
    await store.sessions.rewind_session(user, session.id, 1, new_id=f"{word} before")
    (sandbox,) = await store.sandboxes.connect(session.id, user)
    await sandbox.write_file(word, word)
    await store.sandboxes.release(session.id, user)
    await store.sandboxes.connect(session.id, user)


@pytest.mark.parametrize("is_large", [False, True], ids=["at once", "in bounded transactions"])
async def test_erase_deletes_all_data_of_the_user_and_none_of_another(
    has_pgvector: bool,
    vector_store: AgentStore,
    observer: asyncpg.Connection,
    settings: Settings,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    is_large: bool,
) -> None:
    if is_large:
        monkeypatch.setattr(users, "AT_ONCE", 0)
        for module, name in ((steps, "STEP"), (prune, "_BATCH_ROWS"), (erasure, "_PAGE")):
            monkeypatch.setattr(module, name, 1)
    extra = {
        "extraction_url": "http://127.0.0.1:9/v1",
        "sandbox_provider": "unsafe_subprocess",
        "sandbox_snapshots": True,
    }
    filling = settings.model_copy(update=extra)
    async with AgentStore(database_url, settings=filling, embedder=vector_store.memory._embedder) as store:
        await _fill(store, "aardvark@example.com", _WORD)
        await _fill(store, "bob", "quokka")
        store.sandboxes._drain = False
    tables = {table for table, _ in await traces(observer, "aardvark@example.com", _WORD)}
    vector_tables = {"memory_vectors"} if has_pgvector else set()
    # The scan covers every table except the one whose rows belong to no user.
    assert tables == set(Base.metadata.tables) - {"app_values"} | vector_tables
    counted = "SELECT count(*) FROM agentstore.messages WHERE user_id = 'bob'"
    before = await observer.fetchval(counted)
    deleted = await vector_store.users.delete_user("aardvark@example.com")
    counts = {"memories": 4, "state_rounds": 4, "workspaces": 1, "values": 1, "blobs": 2, "checkpoints": 1}
    assert deleted == Deleted(sessions=3, messages=4, **counts)
    assert await traces(observer, "aardvark@example.com", _WORD) == []
    assert await observer.fetchval(counted) == before
    assert len(await vector_store.memory.search("bob", "quokka")) == 4
    (query,) = ranking.queries("aardvark@example.com", [_WORD])
    await observer.execute("SET enable_seqscan = off")
    assert await observer.fetchval("SELECT count(*) FROM agentstore.memories WHERE lexemes @@ $1::tsquery", query) == 0
    assert not await vector_store.users.delete_user("aardvark@example.com")


@pytest.mark.slow
async def test_erase_beside_concurrent_writers_leaves_no_orphans(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    running = True
    errors: list[AgentStoreError] = []
    done: dict[str, int] = {}

    async def repeat(kind: str, call: Any) -> None:
        while running:
            try:
                await call()
                done[kind] = done.get(kind, 0) + 1
            except AgentStoreError as error:
                errors.append(error)

    async def append() -> None:
        session = await store.sessions.create_session("alice", "s")
        await store.sessions.append_message(session, [text("1"), text("2")])

    async def add() -> None:
        await store.memory.add_memory("alice", [text("apples"), text("pears")], "s")

    async def save_fact() -> None:
        await store.memory.save_items("alice", MemoryItem(text="likes apples"), "s")

    async def save() -> None:
        await store.states.save_state("alice", {"x": 1}, "s")

    async def merge() -> None:
        await store.states.merge_values("alice", "s", values=ScopedValues(user={"u": 1}, session={"s": 1}))

    async def put() -> None:
        await store.blobs.put("alice", "b", b"x")

    async def append_and_merge() -> None:
        await store.sessions.append("alice", "s", text("3"), values=ScopedValues(user={"u": 1}, session={"s": 1}))

    async def fork() -> None:
        await store.sessions.fork_session("alice", "s")

    calls = {
        "append": append,
        "add": add,
        "fact": save_fact,
        "save": save,
        "merge": merge,
        "put": put,
        "both": append_and_merge,
        "fork": fork,
    }
    writers = [asyncio.create_task(repeat(kind, call)) for kind, call in calls.items() for _ in range(2)]
    erased = Deleted()
    for _ in range(40):
        erased = await store.users.delete_user("alice")
        await asyncio.sleep(0.01)
    running = False
    await asyncio.gather(*writers)
    assert set(done) == set(calls), done
    assert {type(error) for error in errors} <= {NotFound}, errors
    last = await store.users.delete_user("alice")
    assert erased.sessions >= 0
    assert last.sessions >= 0
    for table in Base.metadata.tables:
        assert await observer.fetchval(f"SELECT count(*) FROM agentstore.{table}") == 0, table
    await store.stop()  # a backend reports its statistics when it ends
    assert await observer.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


@pytest.mark.parametrize("writes_again", [True, False])
async def test_a_write_after_an_erase_creates_the_user_again(store: AgentStore, writes_again: bool) -> None:
    session = await store.sessions.create_session("alice", "s")
    await store.users.delete_user("alice")
    with pytest.raises(NotFound):
        await store.sessions.append_message(session, Message(role="user"))
    if writes_again:
        assert await store.states.save_state("alice", {}, "s") == 1
    assert (await store.users.get_user("alice") is not None) == writes_again
