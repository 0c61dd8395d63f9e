"""Blobs on Postgres: contents are stored once, and no connection is held while their source is slow."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from agentstore import AgentStore, Deleted, LimitExceeded, Settings

_CONTENT = bytes(range(256)) * 5_000  # of three chunks


async def test_equal_contents_of_a_user_are_stored_once_and_deleted_with_the_last_version(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    async def chunks(user_id: str) -> int:
        count = "SELECT count(*) FROM agentstore.blob_chunks WHERE user_id = $1"
        found: int = await observer.fetchval(count, user_id)
        return found

    for name in ("a", "a", "b"):
        await store.blobs.put("alice", name, _CONTENT, "s")
    await store.blobs.put("alice", "a", _CONTENT, app="chat")
    await store.blobs.put("bob", "a", _CONTENT)
    assert (await chunks("alice"), await chunks("bob")) == (3, 3)
    assert await store.blobs.delete_all("alice", "s") == Deleted(blobs=3)
    assert await chunks("alice") == 3
    assert await store.blobs.delete("alice", "a", app="chat", version=0) == Deleted(blobs=1)
    assert (await chunks("alice"), await chunks("bob")) == (0, 3)
    await store.users.delete_user("bob")
    assert await chunks("bob") == 0


async def test_no_connection_is_held_while_the_source_or_the_reader_is_slow(store: AgentStore) -> None:
    async def source() -> AsyncIterator[bytes]:
        for _ in range(3):
            assert store._database.checked_out() == 0
            yield _CONTENT

    await store.blobs.put("alice", "a", source())
    size = 0
    async for part in store.blobs.read("alice", "a"):
        assert store._database.checked_out() == 0
        size += len(part)
    assert size == 3 * len(_CONTENT)


async def test_a_content_over_the_limit_ends_the_reading_of_its_source(database_url: str, settings: Settings) -> None:
    given = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 1
            yield b"x" * 1_000

    small = settings.model_copy(update={"max_blob_bytes": 10_000})
    async with AgentStore(database_url, settings=small) as store:
        with pytest.raises(LimitExceeded, match="MAX_BLOB_BYTES"):
            await store.blobs.put("alice", "a", source())
        assert given == 11
        assert await store.users.get_user("alice") is None
