"""Values that were not written for longer than their retention are invisible at once, in memory and on Postgres."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from agentstore import (
    AgentStore,
    AlreadyExists,
    Deleted,
    Extraction,
    Extractor,
    InMemoryMemoryService,
    InMemorySessionHistoryService,
    InMemoryStateService,
    InvalidContent,
    MemoryItem,
    Message,
    NotFound,
    Session,
    SessionHistoryService,
    Settings,
)
from agentstore.testing import text
from tests.support.cluster import earlier


@dataclass
class Services:
    sessions: Any
    states: Any
    memory: Any
    advance: Callable[[int], Awaitable[None]]
    """Make everything that is stored older by this many seconds."""


@pytest.fixture(params=["in memory", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


CreateServices = Callable[..., Awaitable[Services]]


@pytest.fixture
async def create_services(
    kind: str, database_url: str, direct_url: str, settings: Settings
) -> AsyncIterator[CreateServices]:
    stores: list[AgentStore] = []

    async def create(missing_session: Any = "error", **ttl: int) -> Services:
        with_ttl = settings.model_copy(update=ttl)
        if kind == "postgres":
            store = AgentStore(database_url, settings=with_ttl)
            stores.append(store)
            store.sessions._create_missing = missing_session == "create"
            return Services(store.sessions, store.states, store.memory, lambda seconds: _age(direct_url, seconds))
        states = InMemoryStateService(settings=with_ttl)
        sessions = InMemorySessionHistoryService(missing_session=missing_session, states=states, settings=with_ttl)
        memory = InMemoryMemoryService(settings=with_ttl)

        async def advance(seconds: int) -> None:
            past = timedelta(seconds=seconds)
            for stored in sessions._users.values():
                for session in stored.values():
                    session.updated_at -= past
                    session.created_at -= past
            for head in states._heads.values():
                head.updated_at -= past
            for key in memory._updated_at:
                memory._updated_at[key] -= past

        return Services(sessions, states, memory, advance)

    yield create
    for store in stores:
        await store.stop()


async def _age(url: str, seconds: int) -> None:
    connection = await asyncpg.connect(url)
    for table, *columns in (
        ("sessions", "created_at", "updated_at", "listed_at"),
        ("state_heads", "updated_at"),
        ("memory_buckets", "updated_at"),
    ):
        changes = ", ".join(f"{column} = {earlier(column, seconds)}" for column in columns)
        await connection.execute(f"UPDATE agentstore.{table} SET {changes}")
    await connection.close()


# Calls on a session that do not require it to exist.
_WITHOUT_SESSION = {"create_session", "get_session", "read_messages", "delete_session"}
_WITHOUT_SESSION |= {"append", "pop_messages", "delete_messages"}
# A valid argument for each parameter without a default, besides the user and the session.
_ARGUMENTS: dict[str, Any] = {"title": "x", "metadata": {}, "change": dict, "ttl": None, "at": 1}
_ARGUMENTS |= {"message": text("x", id="a"), "messages": text("x"), "max_tokens": 10, "count": lambda _: 1}


def _calls_on_an_existing_session() -> list[tuple[str, dict[str, Any]]]:
    """Return every method of the interface that requires an existing session, and its further arguments."""
    calls = []
    for name, method in vars(SessionHistoryService).items():
        if not inspect.isfunction(method) or name.startswith("_") or name in _WITHOUT_SESSION:
            continue
        parameters = inspect.signature(method).parameters.values()
        required = [each.name for each in parameters if each.default is each.empty]
        if required[:3] == ["self", "user_id", "session_id"]:
            assert set(required[3:]) <= set(_ARGUMENTS), f"add the parameters of {name} to _ARGUMENTS: {required[3:]}"
            calls.append((name, {each: _ARGUMENTS[each] for each in required[3:]}))
    assert {"set_title", "set_metadata", "change_metadata", "set_ttl", "fork_session", "rewind_session"} <= dict(
        calls
    ).keys()
    return calls


@pytest.mark.parametrize("has_own_ttl", [True, False])
async def test_expired_session_is_not_found(create_services: CreateServices, has_own_ttl: bool) -> None:
    services = await (create_services() if has_own_ttl else create_services(session_ttl=100_000))
    sessions = services.sessions
    session = await sessions.create_session("alice", "s", ttl=100_000 if has_own_ttl else None)
    retained = await sessions.create_session("alice", "retained", ttl=1_000_000)
    await sessions.append_message(session, text("a", id="a"))
    await services.advance(60_000)
    await sessions.append_message(session, text("b", id="b"))  # an append extends the retention
    await services.advance(60_000)
    assert len((await sessions.get_session("alice", "s")).messages) == 2
    await services.advance(60_000)
    assert await sessions.get_session("alice", "s") is None
    assert await sessions.get_session("alice", "s", limit=1) is None
    assert await sessions.get_session("alice", "s", limit=1, before="b") is None
    assert [each.id for each in await sessions.list_sessions("alice")] == [retained.id]
    assert await sessions.read_messages("alice", "s") is None
    for message in (text("c"), text("a", id="a")):
        with pytest.raises(NotFound):
            await sessions.append_message(session, message)
    for name, arguments in _calls_on_an_existing_session():
        with pytest.raises(NotFound):
            result = getattr(sessions, name)("alice", "s", **arguments)
            await (anext(result) if inspect.isasyncgen(result) else result)
            pytest.fail(f"{name} accepts an expired session")
    with pytest.raises(NotFound):
        await sessions.append("alice", "s", text("c"), create=False)
    assert await sessions.pop_messages("alice", "s") == []
    assert not await sessions.delete_messages("alice", "s", ["a"])
    assert (await sessions.append("alice", "s", text("c"), metadata_patch={"x": 1})).first_seq == 1
    assert await sessions.delete_session("alice", "s") == Deleted(sessions=1, messages=1)
    again = await sessions.create_session("alice", "s", exist_ok=False)
    assert (again.messages, again.ttl) == ([], None)
    await sessions.append_message(again, text("a", id="a"))
    assert await sessions.get_session("alice", "s") == again


async def test_deleting_an_expired_session_counts_it(create_services: CreateServices) -> None:
    services = await create_services(session_ttl=100_000)
    session = await services.sessions.create_session("alice", "s")
    await services.sessions.append_message(session, text("a"))
    await services.advance(200_000)
    assert await services.sessions.delete_session("alice", "s") == Deleted(sessions=1, messages=1)
    assert not await services.sessions.delete_session("alice", "s")


async def test_expired_session_is_recreated_with_missing_session_create(create_services: CreateServices) -> None:
    services = await create_services("create", session_ttl=100_000)
    session = Session(id="s", user_id="alice")
    await services.sessions.append_message(session, text("a", id="a"))
    await services.advance(200_000)
    found = await services.sessions.get_session("alice", "s")
    assert found.messages == []
    await services.advance(200_000)
    await services.sessions.append_message(session, text("b", id="b"))
    assert [each.id for each in (await services.sessions.get_session("alice", "s")).messages] == ["b"]


async def test_session_ttl_overrides_the_setting(create_services: CreateServices) -> None:
    services = await create_services(session_ttl=100_000)
    sessions = services.sessions
    session = await sessions.create_session("alice", "s", ttl=1_000_000)
    assert session.ttl == 1_000_000
    await services.advance(200_000)
    await sessions.set_ttl("alice", "s", 300_000)
    assert (await sessions.get_session("alice", "s")).ttl == 300_000
    fork = await sessions.fork_session("alice", "s", new_id="f")
    assert fork.ttl == 300_000
    await sessions.set_ttl("alice", "s", None)
    assert await sessions.get_session("alice", "s") is None


@pytest.mark.parametrize("invalid", [0, -1, 1.0, "1", True, 2**31])
async def test_invalid_ttl_is_rejected(create_services: CreateServices, invalid: Any) -> None:
    services = await create_services()
    with pytest.raises(InvalidContent):
        await services.sessions.create_session("alice", "s", ttl=invalid)
    await services.sessions.create_session("alice", "t")
    with pytest.raises(InvalidContent):
        await services.sessions.set_ttl("alice", "t", invalid)
    assert len(await services.sessions.list_sessions("alice")) == 1


async def test_fork_can_reuse_ids_of_expired_sessions_and_states(create_services: CreateServices) -> None:
    services = await create_services(state_ttl=100_000)
    sessions, states = services.sessions, services.states
    await sessions.create_session("alice", "old", ttl=100_000)
    await states.save_state("alice", {}, "states")
    await services.advance(200_000)
    await sessions.create_session("alice", "s")
    await states.save_state("alice", {"x": 1}, "s")
    assert (await sessions.fork_session("alice", "s", new_id="old")).forked_from == "s"
    assert (await sessions.fork_session("alice", "s", new_id="states")).forked_from == "s"
    assert await states.export_state("alice", "states") == {"x": 1}
    with pytest.raises(AlreadyExists):
        await sessions.fork_session("alice", "s", new_id="old")
    await services.advance(200_000)
    await sessions.fork_session("alice", "s", new_id="without states")
    assert await states.export_state("alice", "without states") is None


async def test_expired_states_are_not_found_and_rounds_restart(create_services: CreateServices) -> None:
    services = await create_services(state_ttl=100_000)
    states = services.states
    for _ in range(3):
        assert await states.save_state("alice", {}, "s") > 0
        await services.advance(60_000)  # each save extends the retention of all rounds
    assert len(await states.list_states("alice", "s")) == 3
    await services.advance(60_000)
    assert await states.export_state("alice", "s") is None
    await states.save_state("alice", {}, "t")
    await services.advance(200_000)
    assert await states.export_state("alice", "t", 1) is None
    await states.save_state("alice", {}, "t")
    await services.advance(200_000)
    assert await states.list_states("alice", "t") == []
    await states.save_state("alice", {}, "t")
    await states.save_state("alice", {}, "t")
    await services.advance(200_000)
    assert await states.save_state("alice", {}, "t", expected_round=0) == 1


async def test_expired_memories_are_not_found(create_services: CreateServices) -> None:
    services = await create_services(memory_ttl=100_000)
    memory = services.memory
    await memory.add_memory("alice", text("apples and pears", id="1"), "old")
    await memory.add_memory("alice", text("apples and plums", id="2"), "new")
    await memory.save_items("alice", MemoryItem(text="likes apples", id="3"), "old")
    await memory.add_memory("bob", text("apples", id="4"), "old")
    await services.advance(60_000)
    await memory.add_memory("alice", text("more apples", id="5"), "new")
    await memory.add_memory("alice", text("apples and pears", id="1"), "old")  # adds nothing, extends nothing
    await services.advance(60_000)
    assert {hit.message.id for hit in await memory.search("alice", "apples")} == {"2", "5"}
    assert [each.id for each in await memory.list_memory("alice")] == ["2", "5"]
    assert await memory.list_items("alice") == []
    await memory.add_memory("alice", text("apples again", id="1"), "old")
    assert len(await memory.search("alice", "again")) == 1
    assert await memory.delete_memory("alice") == Deleted(memories=3)


async def test_reads_do_not_delete_what_has_expired(create_services: CreateServices) -> None:
    services = await create_services(memory_ttl=100_000, state_ttl=100_000)
    memory, states = services.memory, services.states
    await memory.add_memory("alice", [text("apples"), text("plums")], "s")
    await memory.save_items("alice", MemoryItem(text="likes apples"), "s")
    for number in range(3):
        await states.save_state("alice", {"n": number}, "s")
    await services.advance(200_000)
    assert await memory.list_memory("alice") == await memory.list_items("alice") == []
    assert await memory.search("alice", "aples") == await memory.search_memory("alice", text("apples")) == []
    assert await states.export_state("alice", "s") is await states.export_state("alice", "s", 1) is None
    assert await states.list_states("alice", "s") == []
    assert await memory.delete_memory("alice", "s") == Deleted(memories=3)
    assert await states.delete_state("alice", "s") == Deleted(state_rounds=3)


async def test_search_scores_are_those_without_expired_memories(create_services: CreateServices) -> None:
    services = await create_services(memory_ttl=100_000)
    memory = services.memory
    for number in range(5):
        await memory.add_memory("bob", text(f"apples and words of every kind {number}"), f"s{number}")
    await services.advance(60_000)
    for user in ("alice", "bob"):
        await memory.add_memory(user, [text("apples and pears", id="1"), text("plums", id="2")], "new")
    await services.advance(60_000)
    found = [[(hit.message.id, hit.score) for hit in await memory.search(user, "apples")] for user in ("alice", "bob")]
    assert found[0] == found[1] != []


async def test_touches_restart_the_time_to_live(create_services: CreateServices) -> None:
    services = await create_services(session_ttl=100_000, state_ttl=100_000, memory_ttl=100_000)
    sessions, states, memory = services.sessions, services.states, services.memory
    for name in ("s", "idle"):
        await sessions.append("alice", name, text("apples"))
        await states.save_state("alice", {"x": 1}, name)
    await memory.add_memory("alice", text("apples"), "s")
    await services.advance(60_000)
    for idle in (0, 50_000):  # the second one, just after the first one, has no effect
        await sessions.touch("alice", "s", idle=idle)
        await states.touch("alice", "s", idle=idle)
        await memory.touch("alice", idle=idle)
        await sessions.touch("alice", "idle", idle=70_000)
        await states.touch("alice", "idle", idle=70_000)
        await services.advance(45_000)
    assert [each.id for each in await sessions.list_sessions("alice")] == ["s"]
    assert [await states.export_state("alice", name) for name in ("s", "idle")] == [{"x": 1}, None]
    assert len(await memory.search("alice", "apples")) == 1
    await services.advance(100_000)
    await sessions.touch("alice", "s")
    await states.touch("alice", "s")
    await memory.touch("alice")
    assert await sessions.get_session("alice", "s") is None
    assert await states.export_state("alice", "s") is None
    assert await memory.search("alice", "apples") == []
    await memory.expire("alice")
    assert not await memory.delete_memory("alice")


async def test_an_expired_state_can_be_imported(create_services: CreateServices) -> None:
    services = await create_services(state_ttl=100_000)
    for number in (7, 3):
        assert await services.states.import_state("alice", "s", number, {"n": number})
        assert [each.round_id for each in await services.states.list_states("alice", "s")] == [number]
        await services.advance(200_000)


class _Recorder(Extractor):
    """Extracts nothing, and records the ids of the messages it received."""

    name, kinds = "recorder", ("fact",)

    def __init__(self) -> None:
        self.messages: list[str] = []

    async def extract(self, messages: Sequence[Message], items: Sequence[MemoryItem]) -> Extraction:
        self.messages += [message.id for message in messages]
        return Extraction()


async def test_extractors_do_not_receive_expired_messages(create_services: CreateServices) -> None:
    services = await create_services(memory_ttl=100_000)
    services.memory._extractor = recorder = _Recorder()
    services.memory._enqueues = True
    await services.memory.add_memory("alice", text("secret", id="old"), "old")
    await services.advance(200_000)
    await services.memory.add_memory("bob", text("apples", id="new"), "new")
    await services.memory.extract(settled=False)
    assert recorder.messages == ["new"]
    assert await services.memory.extract(settled=False) == []


async def test_nothing_expires_without_a_ttl(create_services: CreateServices) -> None:
    services = await create_services()
    session = await services.sessions.create_session("alice", "s")
    await services.states.save_state("alice", {}, "s")
    await services.memory.add_memory("alice", text("apples"), "s")
    await services.advance(20 * 365 * 86_400)
    assert await services.sessions.get_session("alice", session.id) is not None
    assert await services.states.export_state("alice", "s") == {}
    assert len(await services.memory.search("alice", "apples")) == 1
