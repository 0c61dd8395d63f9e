"""Pages, chunks and limits: one below, at, one above and several times each."""

import os
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from agentstore import LimitExceeded, PostgresSandboxService, Settings
from agentstore.database.database import Database
from agentstore.repositories.sandboxes.statements import OF_SESSION
from agentstore.repositories.sandboxes.workspaces import Workspaces
from agentstore.sandbox.archive import CHUNK, pack
from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider
from tests.sandbox.registry.support import LONG_LEASE, read_registered, register


@pytest.mark.parametrize("count", [0, 1, 2, 99, 100, 101, 500, 501])
async def test_pages_of_every_size_contain_each_sandbox_once_and_in_order(
    create_service: Callable[..., PostgresSandboxService], observer: asyncpg.Connection, count: int
) -> None:
    await register(observer, count)
    expected = [f"s{number:04}" for number in range(count)]
    async with create_service(**LONG_LEASE) as service:
        assert [each.session_id for each in await service.list("alice")] == expected
        for limit in {1, 99, 100, 101, max(1, count - 1), max(1, count), count + 1}:
            found: list[str] = []
            page = await service.list("alice", limit=limit)
            pages = 1
            while True:
                assert len(page) <= limit
                found += [each.session_id for each in page]
                if page.next_cursor is None:
                    break
                page = await service.list("alice", limit=limit, cursor=page.next_cursor)
                pages += 1
            assert found == expected
            assert pages == count // limit + 1


@pytest.mark.parametrize("count", [1, 2, 100, 1_000])
async def test_all_leases_of_a_user_are_renewed_and_those_taken_over_are_lost(
    create_service: Callable[..., PostgresSandboxService], observer: asyncpg.Connection, database: Database, count: int
) -> None:
    await register(observer, count)
    taken = count // 2
    async with create_service(**LONG_LEASE) as service:
        leases = []
        for number in range(count):
            (row,) = await database.fetch(OF_SESSION, user_id="alice", session_id=f"s{number:04}")
            leases.append(service._leases.from_row(row))
            service._leases.add(leases[-1])
        sessions = [f"s{number:04}" for number in range(taken)]
        taken_over = "UPDATE agentstore.sandboxes SET generation = 8 WHERE session_id = ANY($1)"
        await observer.execute(taken_over, sessions)
        await service._leases.renew("alice", leases)
        assert [lease.is_lost for lease in leases] == [True] * taken + [False] * (count - taken)
        renewed = "SELECT count(*) FROM agentstore.sandboxes WHERE lease_until > now()"
        assert await observer.fetchval(renewed) == count - taken == len(service._leases)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 17])
async def test_stop_ends_all_sandboxes_of_the_service(
    create_service: Callable[..., PostgresSandboxService],
    observer: asyncpg.Connection,
    provider: UnsafeSubprocessProvider,
    count: int,
) -> None:
    async with create_service(**LONG_LEASE) as service:
        created = [(await service.connect(f"s{number}", "alice"))[0] for number in range(count)]
    assert await read_registered(observer) == []
    assert not any([await provider.check(each.sandbox_id) for each in created])


async def _in_pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


async def _archive_of(compressed: int) -> bytes:
    """Return an archive of random bytes that has exactly this size when it is compressed."""
    data = os.urandom(compressed + 1_000)
    size = compressed - 100
    while True:
        with await pack(_in_pieces(data[:size]), 1 << 40) as file:
            difference = compressed - file.seek(0, 2)
        if not difference:
            return data[:size]
        size += difference


@pytest.mark.parametrize("size", [1_000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK])
async def test_archives_of_every_number_of_chunks_round_trip_unchanged(
    database: Database, observer: asyncpg.Connection, size: int
) -> None:
    await register(observer, 1)
    workspaces = Workspaces(database, Settings(max_workspace_bytes=10 * CHUNK))
    # Of another number of chunks before and after it, which must not leave any.
    for compressed in (3 * CHUNK, size, CHUNK // 2, size):
        archive = await _archive_of(compressed)
        await workspaces.save("alice", "s0000", "base", 7, _in_pieces(archive))
        opened = await workspaces.open("alice", "s0000", "base")
        assert opened is not None
        assert opened[1] == compressed
        assert b"".join([piece async for piece in opened[0]]) == archive
        chunks = "SELECT array_agg(length(data) ORDER BY number) FROM agentstore.workspace_chunks"
        rest = [compressed % CHUNK] if compressed % CHUNK else []
        assert await observer.fetchval(chunks) == [CHUNK] * (compressed // CHUNK) + rest


@pytest.mark.parametrize("limit", [CHUNK - 1, CHUNK, CHUNK + 1])
async def test_an_archive_over_the_limit_leaves_the_stored_one_unchanged(
    database: Database, observer: asyncpg.Connection, limit: int
) -> None:
    await register(observer, 1)
    workspaces = Workspaces(database, Settings(max_workspace_bytes=limit))
    largest = await _archive_of(limit)
    await workspaces.save("alice", "s0000", "base", 7, _in_pieces(largest))
    for too_large in (await _archive_of(limit + 1), bytes(32 * limit + 1)):
        with pytest.raises(LimitExceeded):
            await workspaces.save("alice", "s0000", "base", 7, _in_pieces(too_large))
    opened = await workspaces.open("alice", "s0000", "base")
    assert opened is not None
    assert b"".join([piece async for piece in opened[0]]) == largest
