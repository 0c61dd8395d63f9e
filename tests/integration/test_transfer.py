"""Export and restore: every row of every table round-trips, or nothing is written."""

import asyncio
import gzip
import io
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast

import asyncpg
import orjson
import pytest

from agentstore import (
    AgentStore,
    Conflict,
    InMemoryStore,
    InvalidContent,
    Message,
    NotConfigured,
    NotFound,
    ScopedValues,
    SearchFilters,
    Settings,
    StatementFailed,
    migrate,
)
from agentstore.models import Base
from agentstore.repositories import transfer
from agentstore.repositories.memory import loading
from agentstore.repositories.sandboxes.statements import CLAIM, DROP
from agentstore.testing import text
from agentstore.transfer import exporter, lines
from agentstore.transfer import rows as row_reader
from tests.support.databases import Databases
from tests.support.exports import LARGE_STATE, NOT_EXPORTED, SESSION, USER, all_rows, export_of, fill, message, signed
from tests.support.plans import nodes
from tests.support.servers import Server
from tests.support.vectors import WordEmbedder

_LONG_AGO = datetime(2001, 2, 3, tzinfo=UTC)


async def _save_workspace(store: AgentStore, user: str, type_: str, chunks: int = 3) -> None:
    """Store a workspace as the owner of a sandbox does, with chunks of incompressible data."""

    async def archive() -> AsyncIterator[bytes]:
        for _ in range(chunks):
            yield random.Random(user).randbytes(900_000 if user == "alice" else 9_000)

    sandboxes = store.sandboxes
    values = {"user_id": user, "session_id": "s", "type": type_, "generation": 7}
    new = {"provider": "none", "owner": "", "host": "", "lease_time": timedelta(0), "reserved": None}
    await store._database.fetch(CLAIM, **values, **new)
    await sandboxes._workspaces.save(user, "s", type_, 7, archive())
    await store._database.fetch(DROP, **values)


@pytest.fixture(scope="module")
def empty_databases(server: Server, template: str, has_pgvector: bool) -> Iterator[Databases]:
    """Migrated databases without rows, with vectors if the server has pgvector."""
    name = f"{template}_vectors"
    asyncio.run(server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    if has_pgvector:
        asyncio.run(migrate.enable_vectors(server.url_of(name)))
    with closing(Databases(server, name)) as databases:
        yield databases
    asyncio.run(server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture(scope="module")
def filled_template(server: Server, empty_databases: Databases, has_pgvector: bool) -> Iterator[str]:
    """The name of a database with rows in every table."""
    name = empty_databases.take()

    async def fill_all() -> None:
        queueing = Settings(extraction_url="http://127.0.0.1:9/v1")
        async with AgentStore(server.url_of(name), settings=queueing, embedder=WordEmbedder()) as store:
            for user in ("", "alice", "bob\\n", "密:%"):
                await fill(store, user)
                await _save_workspace(store, user, "base", chunks=3 if user == "alice" else 1)
                await _save_workspace(store, user, "filesystem", chunks=0)

    asyncio.run(fill_all())
    yield name
    empty_databases.give_back(name)


@pytest.fixture(scope="module")
def filled_databases(server: Server, filled_template: str) -> Iterator[Databases]:
    """Databases with rows in every table."""
    with closing(Databases(server, filled_template)) as databases:
        yield databases


@pytest.fixture
def database_name(filled_databases: Databases) -> Iterator[str]:
    """The name of a copy of the filled database."""
    name = filled_databases.take()
    yield name
    filled_databases.give_back(name)


@pytest.fixture
async def filled(database_url: str, settings: Settings, embedder: WordEmbedder) -> AsyncIterator[AgentStore]:
    """A store with rows in every table."""
    async with AgentStore(database_url, settings=settings, embedder=embedder) as store:
        yield store


@pytest.fixture
def other_url(server: Server, empty_databases: Databases) -> Iterator[str]:
    """The URL of a database without rows, with vectors if the first one has them."""
    name = empty_databases.take()
    yield server.url_of(name)
    empty_databases.give_back(name)


@pytest.fixture
def url_without_vectors(server: Server, databases: Databases) -> Iterator[str]:
    """The URL of a database without rows, on which vectors are not enabled."""
    name = databases.take()
    yield server.url_of(name)
    databases.give_back(name)


@pytest.fixture
async def other(other_url: str) -> AsyncIterator[AgentStore]:
    """A store without rows, on another database."""
    async with AgentStore(other_url) as store:
        yield store


@pytest.fixture(params=["postgres", "in memory"])
def any_other_url(request: pytest.FixtureRequest) -> str | None:
    """The URL of a database without rows, or None for a store in memory."""
    return None if request.param == "in memory" else request.getfixturevalue("other_url")


@pytest.fixture
async def any_other(any_other_url: str | None, settings: Settings) -> AsyncIterator[AgentStore | InMemoryStore]:
    """A store without rows, on another database or in memory."""
    async with AgentStore.in_memory(settings=settings) if any_other_url is None else AgentStore(any_other_url) as store:
        yield store


async def test_every_row_of_every_table_round_trips(
    filled: AgentStore, other: AgentStore, direct_url: str, other_url: str
) -> None:
    before = await all_rows(direct_url)
    assert all(before.values()), {table: len(rows) for table, rows in before.items()}  # no table is empty
    assert set(before) >= set(Base.metadata.tables) - {"sandboxes"}
    progress = await other.restore(io.BytesIO(await export_of(filled)))
    assert await all_rows(other_url) == before
    assert progress.rows == {table: len(rows) for table, rows in before.items()}
    assert progress.left == []


async def test_a_repeated_restore_inserts_nothing(filled: AgentStore, other: AgentStore, other_url: str) -> None:
    file = io.BytesIO(await export_of(filled))
    await other.restore(file)
    before = await all_rows(other_url)
    again = await other.restore(file)
    assert not any(again.rows.values())
    assert again.left == []
    assert await all_rows(other_url) == before


@pytest.mark.parametrize("others", [1_000, 4_000])
async def test_a_repeated_restore_reads_the_rows_of_the_file_alone(
    store: AgentStore, observer: asyncpg.Connection, others: int
) -> None:
    """However many other rows the tables have."""
    await store.sessions.create_session("alice", "s")
    await observer.execute(
        "INSERT INTO agentstore.messages (user_id, session_id, seq, id, payload) "
        f"SELECT 'alice', 's', n, 'm' || n, '{{}}' FROM generate_series(1, {others}) n; ANALYZE agentstore.messages"
    )
    tables = ["users", "sessions", "messages"]
    async with observer.transaction():
        for command in transfer.stage("agentstore", tables):
            await observer.execute(command)
        await observer.execute("INSERT INTO staged_messages SELECT * FROM agentstore.messages WHERE seq <= 300")
        query = transfer.difference_queries("agentstore", tables, Settings())["sessions"]
        plan = await observer.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")
        assert await observer.fetch(query) == []
        staged = await observer.fetchval("SELECT count(*) FROM staged_messages")
    read = [node for node in nodes(json.loads(plan)[0]["Plan"]) if node.get("Relation Name") == "messages"]
    assert [node["Actual Rows"] * node["Actual Loops"] for node in read] == [staged]


async def test_a_restore_without_memories_updates_the_search_index_at_its_end(
    filled: AgentStore, other: AgentStore, other_url: str
) -> None:
    """A restore beside memories, whose searches would read what is collected, updates it with each."""
    query = "SELECT 'fastupdate=on' = ANY (reloptions) FROM pg_class WHERE relname = 'memories_lexemes_idx'"
    collects: list[bool] = []

    async def look() -> bool:
        connection = await asyncpg.connect(other_url)
        found: bool = await connection.fetchval(query)
        await connection.close()
        return found

    async def observe(file: io.BytesIO) -> None:
        connection = await asyncpg.connect(other_url)
        during: list[bool] = []

        def tick(_: object) -> None:
            if not during:  # the restore waits meanwhile
                with ThreadPoolExecutor(1) as thread:
                    during.append(thread.submit(asyncio.run, look()).result())

        await other.restore(file, tick=tick)
        collects.append(during[0])
        assert await connection.fetchval(query) is False
        assert await connection.fetchval("SELECT gin_clean_pending_list('agentstore.memories_lexemes_idx')") == 0
        await connection.close()

    await observe(io.BytesIO(await export_of(filled, "alice", "bob\\n")))
    await observe(io.BytesIO(await export_of(filled)))
    assert collects == [True, False]
    assert await migrate.find_drift(other_url) == []
    assert await other.memory.search("alice", "apples")


async def test_a_repeated_restore_ends_the_load_of_one_that_was_killed(
    filled: AgentStore, other: AgentStore, other_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_killed(_: object) -> None:
        pass

    file = io.BytesIO(await export_of(filled))
    with monkeypatch.context() as patch:
        patch.setattr(loading, "_end", is_killed)
        await other.restore(file)
    assert [each.kind for each in await migrate.find_drift(other_url)] == ["index"]
    file.seek(0)
    await other.restore(file)
    assert await migrate.find_drift(other_url) == []
    connection = await asyncpg.connect(other_url)
    assert await connection.fetchval("SELECT gin_clean_pending_list('agentstore.memories_lexemes_idx')") == 0
    await connection.close()


async def test_an_export_of_some_users_has_no_other_users(
    filled: AgentStore, other: AgentStore, direct_url: str, other_url: str
) -> None:
    await other.restore(io.BytesIO(await export_of(filled, "bob\\n", "")))
    assert [user.id for user in await other.users.list_users()] == ["", "bob\\n"]
    before, after = await all_rows(direct_url), await all_rows(other_url)
    assert after.pop("app_values") == []
    assert all(rows and set(rows) < set(before[table]) for table, rows in after.items())
    with pytest.raises(NotFound, match="nobody"):
        await filled.export(io.BytesIO(), ["alice", "nobody"])


async def test_existing_data_is_left_unchanged_and_missing_data_is_inserted(
    filled: AgentStore, any_other: AgentStore | InMemoryStore
) -> None:
    data = await export_of(filled)
    mine = await any_other.sessions.create_session("alice", "alice")
    await any_other.sessions.append_message(mine, text("mine", id="mine"))
    await any_other.sessions.create_session("alice", "another")
    await any_other.states.save_state("bob\\n", {"mine": True}, "bob\\n")
    await any_other.memory.add_memory("alice", text("mine", id="mine"), "default")
    await any_other.users.set_metadata("bob\\n", {"mine": True})
    await any_other.states.merge_values("alice", values=ScopedValues({"x": 2}, {"k": 2}), app="alice app")
    progress = await any_other.restore(io.BytesIO(data))
    assert sorted(progress.left) == [
        ("app_values", "alice app", "x"), ("memory_buckets", "alice", "default"), ("sessions", "alice", "alice"),
        ("state_heads", "bob\\n", "bob\\n"), ("user_values", "alice", "k"), ("users", "bob\\n", ""),
    ]  # fmt: skip
    for user, metadata in (("alice", {"z": "\0\ud800", "a": 2**70}), ("bob\\n", {"mine": True})):
        found = await any_other.users.get_user(user)
        assert found is not None
        assert found.metadata == metadata
    assert [message.id for message in (await any_other.sessions.get_session("alice", "alice")).messages] == ["mine"]  # type: ignore[union-attr]
    assert await any_other.states.export_state("bob\\n", "bob\\n") == {"mine": True}
    assert await any_other.states.export_state("alice", "alice") == LARGE_STATE
    content = [part async for part in any_other.blobs.read("alice", "1200000", "alice")]
    assert b"".join(content) == random.Random(1_200_000).randbytes(1_200_000)
    values = await any_other.states.get_values("alice", app="alice app")
    assert (values.app, values.user) == ({"alice": "\0\n", "x": 2}, {"k": 2})
    assert len(await any_other.sessions.list_sessions("alice")) == 3
    assert len(await any_other.memory.search("alice", "payload")) > 0


@pytest.mark.parametrize(
    "change", [{"title": "mine"}, {"metadata": {"mine": 1}}, {"ttl": 5_000}, {"created_at": _LONG_AGO}]
)
async def test_a_session_with_different_metadata_is_reported(
    filled: AgentStore, any_other: AgentStore | InMemoryStore, change: dict[str, Any]
) -> None:
    data = await export_of(filled)
    session = await filled.sessions.get_session("alice", "alice")
    assert session is not None
    await any_other.sessions.import_session(session.model_copy(update={"ttl": 9_999, **change}))
    assert (await any_other.restore(io.BytesIO(data))).left == [("sessions", "alice", "alice")]
    stored = await any_other.sessions.get_session("alice", "alice")
    assert stored is not None
    (name,) = change
    assert getattr(stored, name) == change[name]


async def test_a_different_empty_session_is_reported(filled: AgentStore, any_other: AgentStore | InMemoryStore) -> None:
    await filled.sessions.create_session("carol", "empty", title="theirs")
    await any_other.sessions.create_session("carol", "empty", title="mine")
    assert (await any_other.restore(io.BytesIO(await export_of(filled, "carol")))).left == [
        ("sessions", "carol", "empty")
    ]


async def test_vectors_that_were_skipped_are_inserted_by_the_next_restore(
    has_pgvector: bool, filled: AgentStore, other: AgentStore, direct_url: str, other_url: str
) -> None:
    data = await export_of(filled)
    await other.restore(io.BytesIO(data), without_vectors=True)
    progress = await other.restore(io.BytesIO(data))
    assert ({name for name, count in progress.rows.items() if count}, progress.left) == (
        {"memory_vectors"} if has_pgvector else set(), [],
    )  # fmt: skip
    assert await all_rows(other_url) == await all_rows(direct_url)


async def test_a_session_with_more_messages_than_the_export_is_skipped(
    filled: AgentStore, any_other: AgentStore | InMemoryStore
) -> None:
    data = await export_of(filled)
    await any_other.restore(io.BytesIO(data))
    session = await any_other.sessions.get_session("alice", "alice")
    assert session is not None
    await any_other.sessions.append_message(session, text("later"))
    assert (await any_other.restore(io.BytesIO(data))).left == []
    assert await any_other.sessions.get_session("alice", "alice") == session


def _truncated(data: bytes, count: int) -> list[bytes]:
    rng = random.Random(1)
    ends = [at + 1 for at in range(len(data) - 1) if data[at : at + 1] == b"\n"]
    places = [0, 1, 60, *rng.sample(ends, count), *rng.sample(range(len(data)), count), len(data) - 1]
    return [data[:at] for at in places]


def _modified(data: bytes, count: int) -> list[bytes]:
    rng = random.Random(2)
    found = [data + b"x", data + data.splitlines(keepends=True)[1]]
    for at in rng.sample(range(data.index(b"\n") + 1, len(data) - 100), 2 * count):
        found.append(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    whole = data.splitlines(keepends=True)
    for at in rng.sample(range(2, len(whole) - 1), count):
        found.append(b"".join(whole[:at] + whole[at + 1 :]))
        found.append(b"".join([*whole[:at], whole[at], *whole[at:]]))
        found.append(b"".join([*whole[: at - 1], whole[at], whole[at - 1], *whole[at + 1 :]]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, pytest.param(12, marks=pytest.mark.chaos)])
@pytest.mark.parametrize("damage", [_truncated, _modified])
async def test_a_truncated_or_modified_file_is_rejected_before_anything_is_written(
    filled: AgentStore,
    other: AgentStore,
    other_url: str,
    damage: Callable[[bytes, int], list[bytes]],
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exporter, "_BLOCK_USERS", 1)
    data = await export_of(filled)
    for damaged in damage(data, count):
        with pytest.raises(InvalidContent):
            await other.restore(io.BytesIO(damaged))
    assert not any((await all_rows(other_url)).values())


@pytest.mark.parametrize(
    "header", [{"tables": None}, {"tables": "users"}, {"tables": [["users"]]}, {"users": "alice"}, {"revision": 7}]
)
async def test_an_invalid_header_is_rejected(any_other: AgentStore | InMemoryStore, header: dict[str, Any]) -> None:
    with pytest.raises(InvalidContent, match="line 1"):
        await any_other.restore(signed([USER], **header))


@pytest.mark.parametrize("end", [b"7", b'{"user":"alice"}', b'{"user":1,"rows":{},"sha256":""}', b"[" * 100_000])
async def test_an_invalid_end_line_is_rejected(any_other: AgentStore | InMemoryStore, end: bytes) -> None:
    data = lines.header(revision=migrate.head(), tables=["users"]) + USER + b'{"end":' + end + b"}\n"
    with pytest.raises(InvalidContent, match="line 3"):
        await any_other.restore(io.BytesIO(data))


async def test_a_list_of_users_may_have_any_length(filled: AgentStore, any_other: AgentStore | InMemoryStore) -> None:
    many = ["alice", *(f"{number:0100}" for number in range(12_000))]  # more than a megabyte of ids
    assert (await any_other.restore(signed([USER], users=many))).rows == {"users": 1}
    empty = io.BytesIO()
    progress = await filled.export(empty, [])
    assert progress is not None
    assert progress.rows == {}
    assert (await any_other.restore(empty)).rows == {}
    for wrong in ("alice", [7], ["a\0"]):
        with pytest.raises(InvalidContent):
            await filled.export(io.BytesIO(), wrong)  # type: ignore[arg-type]


async def test_an_export_is_resumed_from_the_same_database_only(
    filled: AgentStore, other: AgentStore, tmp_path: Path
) -> None:
    file = io.BytesIO((await export_of(filled))[:-200])
    with pytest.raises(InvalidContent, match="another database"):
        await other.export(file)
    changed = io.BytesIO(file.getvalue().replace(migrate.head().encode(), b"0000", 1))
    with pytest.raises(InvalidContent):
        await filled.export(changed)
    path = tmp_path / "x"
    with path.open("wb") as written:  # not readable
        assert await filled.export(written) is not None
    with path.open("ab") as written, pytest.raises(InvalidContent, match="reading"):
        await filled.export(written)


@pytest.mark.parametrize(
    "rows",
    [
        [USER, b"nonsense\n"],
        [USER, b'{"unknown":{"x":1}}\n'],
        [USER, b'{"sessions":{"user_id":"alice","other":1}}\n'],
        [USER, b'{"sessions":[]}\n'],
        [USER, SESSION.replace(b'"id":"s"', b'"id":["s"]')],
        [USER, SESSION, message('"x"', '{"role": "user"}')],
        [USER, SESSION, message(1, '{"role": ')],
        [USER, SESSION, message(1, '{"role": "user"}'), message(2, '{"role": "user"}').replace(b'"seq":2,', b"")],
        [USER.replace(b'"alice"', b'"a\\u0000"')],
        [USER, SESSION, message(1, '{"role": "user"}'), message(1, '{"role": "user"}')],
        [USER, SESSION.replace(b'"alice"', b'"nobody"')],
    ],
)
async def test_an_invalid_row_rolls_its_block_back(any_other: AgentStore | InMemoryStore, rows: list[bytes]) -> None:
    with pytest.raises((InvalidContent, StatementFailed, Conflict)) as raised:
        await any_other.restore(signed(rows))
    assert str(raised.value)
    assert await any_other.users.list_users() == []


async def test_a_dry_run_parses_every_message_and_writes_nothing(filled: AgentStore, other_url: str) -> None:
    async with AgentStore(other_url) as store:
        data = signed([USER, SESSION, message(1, '{"role": "robot"}')])
        with pytest.raises(InvalidContent, match="not a valid message"):
            await store.restore(data, dry_run=True)
        whole = io.BytesIO(await export_of(filled))
        progress = await store.restore(whole, dry_run=True, without_vectors=True)
        assert progress.rows["messages"] > 80
    assert not any((await all_rows(other_url)).values())


async def test_a_file_of_a_later_release_is_rejected(any_other: AgentStore | InMemoryStore) -> None:
    for data, reason in (
        (signed([USER], tables=["users", "dreams"]), "dreams"),
        (io.BytesIO(signed([USER]).getvalue().replace(b'"version":1', b'"version":2', 1)), "version 2"),
        (io.BytesIO(b'{"role": "user"}\n'), "not an export"),
    ):
        with pytest.raises(InvalidContent, match=reason):
            await any_other.restore(data)


async def test_a_column_that_an_older_file_lacks_gets_its_default(any_other: AgentStore | InMemoryStore) -> None:
    await any_other.restore(signed([USER, SESSION, message(1, '{"id": "m", "role": "user"}')]))
    session = await any_other.sessions.get_session("alice", "s")
    assert session is not None
    assert (session.ttl, session.forked_from, len(session.messages)) == (None, None, 1)


async def test_vectors_are_restored_only_where_vectors_are_enabled(
    has_pgvector: bool, filled: AgentStore, url_without_vectors: str, direct_url: str
) -> None:
    data = await export_of(filled)
    async with AgentStore(url_without_vectors) as store:
        if has_pgvector:
            with pytest.raises(NotConfigured, match="vector enable"):
                await store.restore(io.BytesIO(data))
            assert not any((await all_rows(url_without_vectors)).values())
        await store.restore(io.BytesIO(data), without_vectors=True)
    before = await all_rows(direct_url)
    before.pop("memory_vectors", None)
    assert await all_rows(url_without_vectors) == before


@pytest.mark.slow
@pytest.mark.parametrize("interruptions", [5, pytest.param(15, marks=pytest.mark.chaos)])
async def test_an_interrupted_export_is_resumed(
    filled: AgentStore,
    other: AgentStore,
    direct_url: str,
    other_url: str,
    tmp_path: Path,
    interruptions: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exporter, "_BLOCK_USERS", 1)
    path = tmp_path / "x"
    with path.open("w+b") as file:
        await filled.export(file)
    whole = path.read_bytes()
    rng = random.Random(3)
    for at in [len(whole) - 1, *rng.sample(range(whole.index(b"\n") + 1, len(whole)), interruptions)]:
        path.write_bytes(whole[:at])
        with path.open("r+b") as file:
            progress = await filled.export(file)
        assert progress is not None
        assert progress.rows == {table: len(rows) for table, rows in (await all_rows(direct_url)).items()}
        assert path.read_bytes() == whole
        with path.open("r+b") as file:
            assert await filled.export(file) is None
    with path.open("r+b") as file:
        await other.restore(file)
    assert await all_rows(other_url) == await all_rows(direct_url)
    path.write_bytes(whole[: len(whole) // 2])
    with path.open("r+b") as file, pytest.raises(InvalidContent, match="other users"):
        await filled.export(file, ["alice"])
    path.write_bytes(b"something else\n")
    with path.open("r+b") as file, pytest.raises(InvalidContent):
        await filled.export(file)
    assert path.read_bytes() == b"something else\n"


@pytest.mark.slow
async def test_an_interrupted_restore_has_complete_blocks_and_can_be_repeated(
    filled: AgentStore, other: AgentStore, direct_url: str, other_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "_BLOCK_USERS", 1)
    monkeypatch.setattr(row_reader, "_CHUNK", 1_000)
    data = await export_of(filled)
    before = await all_rows(direct_url)
    for wait in (0.0, 0.01, 0.02, 0.03, 0.04):
        task = asyncio.create_task(other.restore(io.BytesIO(data)))
        await asyncio.wait([task], timeout=wait)
        task.cancel()
        await asyncio.wait([task])
        after = await all_rows(other_url)
        assert after.pop("app_values") in ([], before["app_values"])
        assert after == _of_users(before, {row[1] for row in after["users"]})
    await other.restore(io.BytesIO(data))
    assert await all_rows(other_url) == before


def _of_users(rows_by_table: dict[str, list[tuple[Any, ...]]], users: set[str]) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows that belong to these users, of each table whose rows belong to users."""
    owned = {table: rows for table, rows in rows_by_table.items() if table != transfer.APP_VALUES}
    user_columns = {table: 1 if table == "users" else sorted(_names(table)).index("user_id") for table in owned}
    return {table: [row for row in rows if row[user_columns[table]] in users] for table, rows in owned.items()}


def _names(table: str) -> list[str]:
    return [column.name for column in transfer.TABLES[table].columns if (table, column.name) not in NOT_EXPORTED]


@pytest.mark.slow
async def test_the_size_of_blocks_does_not_change_the_rows(
    filled: AgentStore, other: AgentStore, direct_url: str, other_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "_BLOCK_ROWS", 1)
    data = await export_of(filled)
    assert data.count(b'{"end":') == 5  # four users, and the values of applications
    await other.restore(io.BytesIO(data))
    assert await all_rows(other_url) == await all_rows(direct_url)


@pytest.mark.slow
@pytest.mark.parametrize(("pool_size", "expected"), [(8, 2), (7, 1), (1, 1)])
async def test_a_restore_uses_a_quarter_of_the_pool_and_at_most_two_connections(
    filled: AgentStore,
    other_url: str,
    direct_url: str,
    monkeypatch: pytest.MonkeyPatch,
    pool_size: int,
    expected: int,
) -> None:
    monkeypatch.setattr(exporter, "_BLOCK_USERS", 1)
    monkeypatch.setattr(row_reader, "_CHUNK", 1_000)
    data = await export_of(filled)
    async with AgentStore(other_url, settings=Settings(pool_size=pool_size)) as other:
        importing = asyncio.create_task(other.restore(io.BytesIO(data)))
        highest = 0
        while not importing.done():
            highest = max(highest, other._database.checked_out())
            await asyncio.sleep(0)
        assert (await importing).users == 4
    assert highest == expected
    assert await all_rows(other_url) == await all_rows(direct_url)


@pytest.mark.slow
async def test_a_failed_block_ends_the_restore_and_other_blocks_are_complete(
    filled: AgentStore, other: AgentStore, direct_url: str, other_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "_BLOCK_USERS", 1)
    data = await export_of(filled)
    before = await all_rows(direct_url)
    connection = await asyncpg.connect(other_url)
    await connection.execute("ALTER TABLE agentstore.memories ADD CONSTRAINT not_alice CHECK (user_id <> 'alice')")
    tasks = asyncio.all_tasks()
    with pytest.raises(StatementFailed, match="not_alice"):
        await other.restore(io.BytesIO(data))
    # Tasks that clean up connections may be left, and none of the restore.
    assert not [task for task in asyncio.all_tasks() - tasks if "Restorer" in repr(task)]
    async with asyncio.timeout(60):
        while other._database.checked_out():
            await asyncio.sleep(0.01)
    after = await all_rows(other_url)
    after.pop("app_values")
    users = {row[1] for row in after["users"]}
    assert "alice" not in users
    assert after == _of_users(before, users)
    await connection.execute("ALTER TABLE agentstore.memories DROP CONSTRAINT not_alice")
    await connection.close()
    await other.restore(io.BytesIO(data))
    assert await all_rows(other_url) == before


@pytest.mark.slow
async def test_a_compressed_file_is_read_in_order(
    filled: AgentStore, other: AgentStore, other_url: str, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeking backwards would decompress it again from the beginning."""
    monkeypatch.setattr(exporter, "_BLOCK_USERS", 1)
    monkeypatch.setattr(row_reader, "_CHUNK", 1_000)
    with gzip.open(io.BytesIO(gzip.compress(await export_of(filled)))) as packed:
        at, back = 0, 0
        seek = packed.seek

        def counted(position: int, whence: int = 0) -> int:
            nonlocal at, back
            found = seek(position, whence)
            back += found < at
            at = found
            return found

        monkeypatch.setattr(packed, "seek", counted)
        await other.restore(cast("BinaryIO", packed))
    assert back < 3 * 4  # a few for each block
    assert await all_rows(other_url) == await all_rows(direct_url)


@pytest.mark.slow
async def test_two_concurrent_restores_and_a_writer_lose_nothing(
    filled: AgentStore, other: AgentStore, direct_url: str, other_url: str
) -> None:
    data = await export_of(filled)

    async def write() -> None:
        for number in range(30):
            session = await other.sessions.create_session("alice", f"mine {number}")
            await other.sessions.append_message(session, text("mine"))

    await asyncio.gather(other.restore(io.BytesIO(data)), other.restore(io.BytesIO(data)), write())
    before, after = await all_rows(direct_url), await all_rows(other_url)
    for table, rows in before.items():
        if table != "users":
            assert set(rows) <= set(after[table]), table
    assert len(await other.sessions.list_sessions("alice")) == 32


async def test_a_large_row_and_json_of_another_writer_are_restored(url_without_vectors: str, other: AgentStore) -> None:
    async with AgentStore(url_without_vectors) as store:
        session = await store.sessions.create_session("alice", "s")
        await store.sessions.append_message(session, [text("密" * 2_000_000), Message(id="x", role="user")])
        writer = await asyncpg.connect(url_without_vectors)
        await writer.execute(
            "UPDATE agentstore.messages SET payload = $1 WHERE seq = 2",
            json.dumps({"id": "x", "role": "user", "metadata": {"a": "\t"}}, indent=1),
        )
        await writer.close()
        await other.restore(io.BytesIO(await export_of(store)))
        assert await other.sessions.get_session("alice", "s") == await store.sessions.get_session("alice", "s")


async def test_each_line_is_json(filled: AgentStore) -> None:
    for each in (await export_of(filled)).splitlines():
        value = json.loads(each)
        assert len(value) == 1 or value["agentstore"] == "export"
    assert orjson.loads((await export_of(filled)).splitlines()[0])["version"] == lines.VERSION


@pytest.mark.slow
async def test_every_row_round_trips_through_a_store_in_memory(
    filled: AgentStore, other: AgentStore, direct_url: str, other_url: str, embedder: WordEmbedder, has_pgvector: bool
) -> None:
    """Except for the vectors, which it does not export, and when extractions are due."""
    data = await export_of(filled)
    before = await all_rows(direct_url)
    async with AgentStore.in_memory(embedder=embedder) as in_memory:
        progress = await in_memory.restore(io.BytesIO(data))
        assert progress.rows == {table: len(rows) for table, rows in before.items()}
        assert progress.left == []
        strategy: SearchFilters = {"strategy": "hybrid" if has_pgvector else "full_text"}
        hits = [await store.memory.search("alice", "q apples", strategy) for store in (filled, in_memory)]
        assert [hit.message for hit in hits[1]] == [hit.message for hit in hits[0]]
        assert [hit.score for hit in hits[1]] == pytest.approx([hit.score for hit in hits[0]], abs=1e-6)
        again = await in_memory.restore(io.BytesIO(data))
        assert (sum(again.rows.values()), again.left) == (0, [])
        exported = await export_of(in_memory)
    assert (await filled.restore(io.BytesIO(exported))).left == []
    await other.restore(io.BytesIO(exported))
    after = await all_rows(other_url)
    for table in before.keys() - {"memory_vectors", "memory_extractions"}:
        assert after[table] == before[table], table
    assert len(after["memory_extractions"]) == len(before["memory_extractions"])
