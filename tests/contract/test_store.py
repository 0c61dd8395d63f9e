"""Each Store implementation against the contract."""

import dataclasses
import inspect
import io
import json
import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from agentstore import (
    AgentStore,
    BlobService,
    CheckpointService,
    DocumentService,
    Extraction,
    ExtractionFailed,
    InMemoryBlobService,
    InMemoryCheckpointService,
    InMemoryDocumentService,
    InMemoryMemoryService,
    InMemorySandboxService,
    InMemorySessionHistoryService,
    InMemoryStateService,
    InMemoryStore,
    InMemoryUserService,
    InvalidContent,
    MemoryItem,
    Message,
    NotFound,
    PostgresBlobService,
    PostgresCheckpointService,
    PostgresDocumentService,
    PostgresMemoryService,
    PostgresSandboxService,
    PostgresSessionHistoryService,
    PostgresStateService,
    PostgresUserService,
    SandboxService,
    ScopedValues,
    Settings,
    Store,
    StoreMemoryService,
    StoreSessionHistoryService,
    StoreStateService,
    UserService,
)
from agentstore.sync import AgentStore as BlockingStore
from agentstore.testing import StoreContract, text
from tests.integration.extraction.support import DUE, EchoExtractor
from tests.support.checkpoints import checkpoint_of, write_of
from tests.support.cluster import earlier

_CREATED = datetime(2020, 1, 1, tzinfo=UTC)


class TestInMemory(StoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        async with AgentStore.in_memory() as store:
            yield store


@pytest.mark.asyncio(loop_scope="class")
class TestPostgres(StoreContract):
    open = AgentStore

    @pytest.fixture
    def store(self, shared: Store) -> Store:
        return shared


def test_type_checkers_accept_both_as_a_store(database_url: str) -> None:
    stores: list[Store] = [AgentStore(database_url), InMemoryStore(), AgentStore.in_memory()]
    assert all(hasattr(store, name) for store in stores for name in ("sessions", "memory", "states", "users"))


_TWINS: dict[type, type] = {
    AgentStore: InMemoryStore,
    PostgresSessionHistoryService: InMemorySessionHistoryService,
    PostgresMemoryService: InMemoryMemoryService,
    PostgresStateService: InMemoryStateService,
    PostgresUserService: InMemoryUserService,
    PostgresBlobService: InMemoryBlobService,
    PostgresDocumentService: InMemoryDocumentService,
    PostgresCheckpointService: InMemoryCheckpointService,
    PostgresSandboxService: InMemorySandboxService,
}
# AgentStore.in_memory() returns the other one.
_ONLY_ON_POSTGRES = {"in_memory"}


def _public(cls: type) -> dict[str, list[tuple[str, Any, str]]]:
    """Return the public attributes of a class, with the parameters of its methods and their defaults."""
    found: dict[str, list[tuple[str, Any, str]]] = {}
    for name in dir(cls):
        value = getattr(cls, name)
        if not name.startswith("_"):
            parameters = inspect.signature(value).parameters.values() if inspect.isfunction(value) else ()
            found[name] = [
                (each.name, each.kind, "a function" if callable(each.default) else repr(each.default))
                for each in parameters
            ]
    return found


@pytest.mark.parametrize("on_postgres", _TWINS)
def test_the_classes_in_memory_have_the_calls_of_those_on_postgres(on_postgres: type) -> None:
    expected, found = _public(on_postgres), _public(_TWINS[on_postgres])
    for name in _ONLY_ON_POSTGRES:
        expected.pop(name, None)
    assert found == expected


def test_the_protocol_has_the_calls_of_both() -> None:
    services = {
        "sessions": (StoreSessionHistoryService, PostgresSessionHistoryService),
        "memory": (StoreMemoryService, PostgresMemoryService),
        "states": (StoreStateService, PostgresStateService),
        "users": (UserService, PostgresUserService),
        "blobs": (BlobService, PostgresBlobService),
        "documents": (DocumentService, PostgresDocumentService),
        "checkpoints": (CheckpointService, PostgresCheckpointService),
        "sandboxes": (SandboxService, PostgresSandboxService),
    }
    assert _public(Store).keys() == (_public(InMemoryStore).keys() | services.keys())
    for interface, service in services.values():
        assert _public(interface).keys() == _public(service).keys() - {"reopen"}, interface


async def test_sandboxes_of_both_and_deleting_their_user(database_url: str, settings: Settings) -> None:
    settings = settings.model_copy(update={"sandbox_provider": "unsafe_subprocess", "sandbox_snapshots": True})
    stores: tuple[Store, ...] = (
        AgentStore(database_url, settings=settings),
        AgentStore.in_memory(settings=settings),
    )
    for store in stores:
        async with store:
            (sandbox,) = await store.sandboxes.connect("s", "alice")
            assert not (await sandbox.run_shell_command("true")).is_error
            assert [user.id for user in await store.users.list_users()] == ["alice"]
            assert len(await store.sandboxes.release("s", "alice")) == 1
            counted = await store.prune(timedelta(), dry_run=True)
            assert counted.workspaces == 1
            assert (await store.users.delete_user("alice")).workspaces == 1
            assert await store.sandboxes.delete_workspaces("s", "alice") == 0


async def _use_everything(store: Store) -> None:
    for user in ("alice", "bob", ""):
        await store.users.set_metadata(user, {"b": 2**70, "a": "\ud800\x00"})
        await store.sessions.create_session(user, "s", title="T\n", metadata={"x": 1}, ttl=10_000, app="app")
        await store.sessions.append(user, "s", [text(f"zebra {n}?", id=f"m{n}", metadata={"n": n}) for n in range(5)])
        await store.sessions.delete_messages(user, "s", ["m1"])
        await store.sessions.fork_session(user, "s", at="m2", new_id="fork")
        said = [text("我不吃辣?", id="m1"), text("dated", id="m2", metadata={"timestamp": "2023-05-08T10:00:00+02:00"})]
        await store.memory.add_memory(user, said, "s", namespace="a/b")
        fact = MemoryItem(id="i1", text="likes ducks", importance=0.7, valid_from=datetime(2024, 1, 1, tzinfo=UTC))
        await store.memory.save_items(user, fact, "s")
        for number in range(2):
            await store.states.save_state(user, {"n": number}, "s", metadata={"step": number})
        await store.sessions.append(user, "s", text("the last", id="m9"))
        values = ScopedValues({"a": 1, user: "\0"}, {"u": [1.5]}, {"s": {"x": "\ud800"}})
        await store.states.merge_values(user, "s", values=values, app="app")
        for content in (b"", b"one", b"large" * 200_000):
            await store.blobs.put(user, "f", content, "s", app="app", filename="f.txt", metadata={"b": 1, "a": "\0"})
        await store.blobs.put(user, "another", b"one")
        document = {"id": "d", "text": "likes 苹果", "metadata": {"b": 1, "a": "\0"}, "namespace": "a/b"}
        for _ in range(2):
            await store.documents.put(user, [document, {"id": "e", "text": ""}])
        for number in range(3):
            value = b"x" * 300 * number
            await store.checkpoints.put(user, "s", checkpoint_of(f"{number}", value, namespace='a "b\\'))
        await store.checkpoints.put_writes(user, "s", "", "1", [write_of(), write_of(-1)])


def _rows(file: io.BytesIO) -> list[Any]:
    """Return the lines of an export between the header and the checksums, without times that depend on the clock."""
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    rows = []
    for line in lines[1:-1]:
        ((table, row),) = line.items()
        for name in ("created_at", "updated_at", "listed_at", "saved_at", "sha256"):
            row.pop(name, None)
        if table == "memories":
            times = [row.pop(name) for name in ("time", "valid_from")]
            row["times"] = [(each and each >= "2026") or (each and datetime.fromisoformat(each)) for each in times]
            row["lexemes"] = sorted(each for each in row["lexemes"].split() if "-" not in each and "20" not in each)
        rows.append((table, row))
    return rows


async def test_the_export_of_a_store_in_memory_is_that_of_a_database_and_can_be_restored(
    database_url: str, other_url: str, settings: Settings
) -> None:
    files = []
    async with AgentStore(database_url, settings=settings) as on_postgres, AgentStore.in_memory() as in_memory:
        for store in (on_postgres, in_memory):
            await _use_everything(store)
            file = io.BytesIO()
            progress = await store.export(file, ["", "alice", "bob"])
            assert progress is not None
            assert progress.users == 3
            assert await store.export(file, ["", "alice", "bob"]) is None
            files.append(file)
        assert _rows(files[1]) == _rows(files[0])
        with pytest.raises(InvalidContent, match="another database"):
            await in_memory.export(files[0], ["", "alice", "bob"])
        with pytest.raises(NotFound):
            await in_memory.export(io.BytesIO(), ["carol"])
        async with AgentStore(other_url) as restored:
            everything = io.BytesIO()
            await in_memory.export(everything)
            everything.seek(0)
            await restored.restore(everything)
            for user in ("alice", ""):
                for session_id in ("s", "fork"):
                    assert await restored.sessions.get_session(
                        user, session_id
                    ) == await in_memory.sessions.get_session(user, session_id)
                for query in ("辣的可以吗", "duck", "8 May 2023"):
                    found, hits = [await each.memory.search(user, query) for each in (restored, in_memory)]
                    assert found
                    assert [(hit.message, round(hit.score, 9)) for hit in found] == [
                        (hit.message, round(hit.score, 9)) for hit in hits
                    ]
                assert await restored.states.export_state(user, "s") == {"n": 1}
                assert await restored.users.get_user(user) == await in_memory.users.get_user(user)
            appended = await restored.sessions.append("alice", "s", text("more"))
            assert appended.first_seq == 7
            await restored.memory.add_memory("alice", text("more"), "s")
            assert await restored.states.save_state("alice", {}, "s") == 3


async def test_the_queue_and_workspaces_of_a_store_in_memory_are_exported(
    database_url: str, settings: Settings
) -> None:
    settings = settings.model_copy(
        update={"sandbox_provider": "unsafe_subprocess", "sandbox_snapshots": True, "extraction_settle": 0.0}
    )
    file = io.BytesIO()
    async with AgentStore.in_memory(settings=settings, extractor=EchoExtractor()) as in_memory:
        await in_memory.memory.add_memory("alice", [text("one"), text("two")], "s")
        (sandbox,) = await in_memory.sandboxes.connect("s", "alice")
        await sandbox.write_file("a.txt", "kept")
        await in_memory.sandboxes.release("s", "alice")
        await in_memory.export(file)
    file.seek(0)
    async with AgentStore(database_url, settings=settings, extractor=EchoExtractor()) as store:
        await store.restore(file)
        (extracted,) = await store.memory.extract(settled=False)
        assert extracted.messages == 2
        (sandbox,) = await store.sandboxes.connect("s", "alice")
        assert (await sandbox.read_file("a.txt")).text == "kept"
        await store.sandboxes.release("s", "alice")


class _Failing:
    """An extractor that fails as the texts of the messages say, and returns a fact for each message otherwise."""

    name = "failing"
    kinds = ("fact",)

    async def extract(self, messages: Sequence[Message], existing: Sequence[MemoryItem]) -> Extraction:
        for message in messages:
            if self.fails and message.text.startswith(("bad", "down")):
                raise ExtractionFailed(f"\0 {message.text}", outage=message.text.startswith("down"))
        return Extraction([MemoryItem(id=f"of {each.id}", text=each.text) for each in messages])

    fails = True


async def test_both_queue_failed_extractions_the_same(
    database_url: str, settings: Settings, observer: asyncpg.Connection
) -> None:
    settings = settings.model_copy(update={"extraction_settle": 0.0})
    extractor = _Failing()
    stores: tuple[Store, ...] = (
        AgentStore(database_url, settings=settings, extractor=extractor),
        AgentStore.in_memory(settings=settings, extractor=extractor),
    )
    seen = []
    for store in stores:
        extractor.fails = True
        found: list[Any] = []

        async def extract(times: int, user_id: str | None = None, store: Store = store, found: Any = found) -> None:
            for _ in range(times):
                await observer.execute(DUE)
                found.append(sorted(map(repr, await store.memory.extract(user_id, settled=False))))

        async def failed(user_id: str | None = None, store: Store = store, found: Any = found) -> None:
            page = await store.memory.list_failed_extractions(user_id)
            found.append([dataclasses.replace(each, failed_at=_CREATED) for each in page])

        async def pending(user_id: str | None = None, store: Store = store, found: Any = found) -> None:
            page = await store.memory.list_pending_extractions(user_id)
            by_key = sorted(page, key=lambda each: (each.user_id, each.session_id, each.first_position))
            found.append([dataclasses.replace(each, due_at=_CREATED) for each in by_key])
            found.append(list(await store.memory.list_pending_extractions(user_id, leased=True)))

        async with store:
            await store.memory.add_memory("bob", [text(f"bad {n}", id=f"m{n}") for n in range(60)], "s")
            await store.memory.add_memory("alice", [text("fine", id="m")], "s")
            await store.memory.add_memory("alice", [text("bad", id="m")], "t")
            await extract(2)
            await pending()
            await pending("alice")
            await store.memory.add_memory("alice", [text("later", id="n")], "t")
            await extract(4)
            await failed()
            await failed("alice")
            first = await store.memory.list_failed_extractions(limit=1)
            second = await store.memory.list_failed_extractions(limit=1, cursor=first.next_cursor)
            found += [(each.user_id, each.session_id, each.first_position) for each in (*first, *second)]
            await store.memory.add_memory("bob", [text("after", id="after")], "s")
            await extract(1)
            extractor.fails = False
            await extract(1)
            found.append(await store.memory.retry_failed_extractions("alice"))
            await extract(1)
            found.append(await store.memory.retry_failed_extractions())
            await extract(2)
            await failed()
            found.append(sorted(item.text for item in await store.memory.list_items("bob")))
            extractor.fails = True
            await store.memory.add_memory("carol", [text("down", id="m")], "s")
            await extract(21)
            await failed("carol")
            await store.memory.delete_memory("carol")
            await failed("carol")
            found.append(await store.memory.retry_failed_extractions())
        seen.append(found)
    assert seen[1] == seen[0]
    assert any("failed=True" in str(found) for found in seen[0])
    assert sum("PendingExtraction" in str(found) for found in seen[0]) == 2


async def test_both_list_the_sessions_with_checkpoints_the_same(database_url: str, settings: Settings) -> None:
    stores: tuple[Store, ...] = (AgentStore(database_url, settings=settings), AgentStore.in_memory(settings=settings))
    sessions = sorted(["a", "b", "s 1", "\u00e9", "\ue000", "\U0010ffff"], key=str.encode)
    for store in stores:
        async with store:
            for user in ("alice", "bob", "a"):
                for session in sessions:
                    await store.checkpoints.put(user, session, checkpoint_of("1"))
            for user_id, users in ((None, ("a", "alice", "bob")), ("alice", ("alice",)), ("carol", ())):
                expected = [(user, session) for user in users for session in sessions]
                for limit in (1, 4, 6, 100):
                    found: list[tuple[str, str]] = []
                    cursor = None
                    while True:
                        page = await store.checkpoints.list_sessions(user_id, limit=limit, cursor=cursor)
                        found += page
                        cursor = page.next_cursor
                        if cursor is None:
                            break
                    assert found == expected
            with pytest.raises(InvalidContent):
                await store.checkpoints.list_sessions("\0")


@pytest.mark.parametrize("seed", range(3))
async def test_both_prune_the_same(database_url: str, settings: Settings, seed: int) -> None:
    """Random data and arguments; the order of writes is the same, so that the last ones are the same."""
    numbers = random.Random(seed)
    pruned = []
    writes = [(numbers.choice("sm"), numbers.choice("ab"), numbers.choice("1234")) for _ in range(30)]
    writes += [("r", numbers.choice("ab"), numbers.choice("1234")) for _ in range(15)]
    numbers.shuffle(writes)
    arguments: list[dict[str, Any]] = [
        {name: numbers.randrange(4) for name in ("keep_last", "keep_sessions", "keep_memories", "keep_states")}
        for _ in range(4)
    ]
    for given in arguments:
        for name in ("keep_sessions", "keep_memories", "keep_states"):
            if numbers.random() < 0.5:
                del given[name]
    arguments.sort(key=lambda given: -given["keep_last"])
    stores: tuple[Store, ...] = (AgentStore(database_url, settings=settings), AgentStore.in_memory(settings=settings))
    for store in stores:
        found = []
        async with store:
            for kind, user_id, session_id in writes:
                if kind == "s":
                    await store.sessions.append(user_id, session_id, text("x"))
                elif kind == "m":
                    await store.memory.add_memory(user_id, text("x"), session_id)
                else:
                    await store.states.save_state(user_id, {}, session_id)
            for given in arguments:
                for dry_run in (True, False):
                    result = await store.prune(timedelta(), dry_run=dry_run, **given)
                    found.append((given, result.sessions, result.messages, result.memories, result.state_rounds))
        pruned.append(found)
    assert pruned[0] == pruned[1]


@pytest.mark.parametrize("state_ttl", [None, 60])
@pytest.mark.parametrize("older_than", [None, timedelta(days=1), timedelta()])
async def test_both_prune_what_has_expired_the_same(
    database_url: str,
    settings: Settings,
    observer: asyncpg.Connection,
    state_ttl: int | None,
    older_than: timedelta | None,
) -> None:
    settings = settings.model_copy(update={"state_ttl": state_ttl})
    hour = timedelta(hours=1)
    pruned = []
    stores = (AgentStore(database_url, settings=settings), AgentStore.in_memory(settings=settings))
    for store in stores:
        async with store:
            for session_id, ttl in (("expired", 60), ("lives", None), ("long", 86_400)):
                await store.sessions.create_session("alice", session_id, ttl=ttl)
                await store.sessions.append("alice", session_id, text("x"))
                await store.memory.add_memory("alice", text("x"), session_id)
                await store.states.save_state("alice", {}, session_id)
            if isinstance(store, AgentStore):
                for table, column in (
                    ("sessions", "updated_at"), ("state_heads", "updated_at"), ("state_rounds", "saved_at")
                ):  # fmt: skip
                    await observer.execute(f"UPDATE agentstore.{table} SET {column} = {earlier(column, 3_600)}")
            else:
                for stored in store.sessions._users["alice"].values():
                    stored.updated_at -= hour
                for head in store.states._heads.values():
                    head.updated_at -= hour
            await store.states.save_state("alice", {}, "later")
            counted = await store.prune(older_than, dry_run=True)
            result = await store.prune(older_than)
            assert (counted.sessions, counted.state_rounds) == (result.sessions, result.state_rounds)
            left = [session.id for session in await store.sessions.list_sessions("alice")]
            pruned.append((result.sessions, result.messages, result.memories, result.state_rounds, left))
    assert pruned[0] == pruned[1]
    assert pruned[0][0] == (3 if older_than == timedelta() else 1)


def test_the_blocking_store_in_memory() -> None:
    with BlockingStore.in_memory() as store:
        store.sessions.append("alice", "s", text("x"))
        assert [message.text for message in store.sessions.iter_messages("alice", "s")] == ["x"]
        assert store.stats().messages == 1
        assert store.users.delete_user("alice").messages == 1
