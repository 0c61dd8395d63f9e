"""AgentScope Runtime's services on Postgres, with the classes of whatever is installed."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, Closed, InvalidContent, NotConfigured, SchemaBehind, Settings, migrate
from agentstore import Message as OurMessage
from agentstore import TextContent as OurText
from agentstore.adapters.agentscope_runtime import (
    PostgresMemoryService,
    PostgresSessionHistoryService,
    PostgresStateService,
)
from tests.adapters.kinds import DataContent, Error, ImageContent, Message, Session, TextContent, said, texts

Make = Callable[..., Any]
SERVICES: tuple[Any, ...] = (PostgresSessionHistoryService, PostgresMemoryService, PostgresStateService)


@pytest.fixture
async def make(database_url: str, settings: Settings) -> Any:
    """Make a service on this test's database, which is stopped at its end."""
    made: list[Any] = []

    def service(kind: type, **options: Any) -> Any:
        made.append(kind(database_url, **{"settings": settings, **options}))
        return made[-1]

    yield service
    for each in made:
        await each.stop()


async def test_sessions_and_messages_are_the_applications(make: Make) -> None:
    service = make(PostgresSessionHistoryService)
    session = await service.create_session("alice", " s ")
    assert type(session) is Session
    assert (session.id, session.user_id, session.messages) == ("s", "alice", [])
    given = [
        said("Hello"),
        Message(role="tool", type="plugin_call", content=[DataContent(data={"z": [1, {"b": None}], "a": "\0"})]),
        Message(role="assistant", status="failed", error=Error(code="E", message="gone"), content=None),
        Message(
            role="user", content=[ImageContent(image_url="data:,"), TextContent(text="密\ud800")], usage={"n": 2**70}
        ),
        Message(content=[], metadata={"x": [None, ""]}, code="c", message="m"),
    ]
    await service.append_message(session, given)
    assert session.messages == given
    stored = await service.get_session("alice", "s")
    assert stored == session
    assert stored.model_dump() == session.model_dump()
    assert [each.model_dump() for each in stored.messages] == [each.model_dump() for each in given]
    assert [[type(part) for part in each.content or ()] for each in stored.messages] == [
        [type(part) for part in each.content or ()] for each in given
    ]
    assert await service.create_session("alice", "s") == session  # and not emptied


async def test_what_is_appended_may_be_dicts_and_ours(make: Make) -> None:
    service = make(PostgresSessionHistoryService)
    session = await service.create_session("alice")
    await service.append_message(session, {"role": "user", "content": [TextContent(text="a")]})
    await service.append_message(
        session,
        [
            None,
            {"role": "assistant", "content": [{"type": "text", "text": "b"}], "id": None},
            OurMessage(role="user", content=[OurText(text="c")]),
        ],
    )
    await service.append_message(session, None)
    await service.append_message(session, [])
    assert [type(each) for each in session.messages] == [Message] * 3
    assert texts(session.messages) == ["a", "b", "c"]
    stored = await service.get_session("alice", session.id)
    assert stored == session
    assert stored.model_dump_json() == session.model_dump_json()
    for wrong in ("text", {"role": "robot"}, {"content": [{"type": "smell"}]}, 7):
        with pytest.raises(InvalidContent):
            await service.append_message(session, [said("not kept"), wrong])
    assert await service.get_session("alice", session.id) == session


@pytest.mark.runtime  # ours do look: there is nothing to become
async def test_what_became_no_message_is_refused_before_anything_is_written(make: Make) -> None:
    """The runtime's classes do not look at what is assigned to their fields."""
    service, memory = make(PostgresSessionHistoryService), make(PostgresMemoryService)
    session = await service.create_session("alice", "s")
    for field, value in (("role", "robot"), ("content", "text"), ("usage", [1]), ("metadata", {"x": {1}})):
        message = said("a")
        setattr(message, field, value)
        with pytest.raises(InvalidContent):
            await service.append_message(session, [said("not kept"), message])
        with pytest.raises(InvalidContent):
            await memory.add_memory("alice", [said("not kept"), message])
    assert (await service.get_session("alice", "s")).messages == session.messages == []
    assert await memory.list_memory("alice") == []


async def test_a_missing_session_is_the_habit_of_whom_it_stands_for(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    for compat in ("in_memory", "tablestore"):
        service = make(PostgresSessionHistoryService, compat=compat)
        unknown = Session(id=f"unknown to {compat}", user_id="alice", messages=[])
        with caplog.at_level(logging.WARNING):
            await service.append_message(unknown, said("not kept"))
        assert "is not kept" in caplog.text
        assert texts(unknown.messages) == ["not kept"]
        made = await service.get_session("alice", unknown.id)
        assert (made.id, made.user_id, made.messages) == (unknown.id, "alice", [])
        assert unknown.id in [each.id for each in await service.list_sessions("alice")]
        await service.delete_session("alice", unknown.id)
        assert (await service.get_session("alice", unknown.id)).messages == []
        for odd in ("", " s "):
            assert (await service.get_session("alice", odd)).id == odd
    service = make(PostgresSessionHistoryService, compat="redis")
    for odd in ("  ", " t "):
        assert await service.get_session("alice", odd) is None
        await service.append_message(Session(id=odd, user_id="alice", messages=[]), said("kept"))
        assert texts((await service.get_session("alice", odd)).messages) == ["kept"]
    assert await service.get_session("alice", "new") is None
    new = Session(id="new", user_id="alice", messages=[])
    await service.append_message(new, said("kept"))
    assert (await service.get_session("alice", "new")).messages == new.messages
    await service.delete_session("alice", "new")
    await service.delete_session("alice", "new")
    assert await service.get_session("alice", "new") is None


async def test_sessions_are_listed_without_messages_and_deleted_together(make: Make) -> None:
    service = make(PostgresSessionHistoryService)
    for user in ("alice", "bob"):
        for name in ("1", "2"):
            await service.append_message(await service.create_session(user, name), said(name))
    listed = await service.list_sessions("alice")
    assert type(listed) is list
    assert {type(each) for each in listed} == {Session}
    assert sorted((each.id, each.user_id, each.messages) for each in listed) == [("1", "alice", []), ("2", "alice", [])]
    await service.delete_user_sessions("alice")
    assert await service.list_sessions("alice") == []
    assert len(await service.list_sessions("bob")) == 2


async def test_the_last_messages_are_given_and_all_are_kept(make: Make) -> None:
    service = make(PostgresSessionHistoryService, max_messages_per_session="5", compat="redis")
    session = await service.create_session("alice", "s")
    for number in range(10):
        await service.append_message(session, said(str(number)))
    assert texts(session.messages) == ["5", "6", "7", "8", "9"]
    assert await service.get_session("alice", "s") == session
    assert len((await make(PostgresSessionHistoryService).get_session("alice", "s")).messages) == 10


async def test_what_is_kept_for_a_time_is_gone_when_it_was_not_used_for_that_long(
    make: Make, observer: asyncpg.Connection
) -> None:
    async def pass_(seconds: int) -> None:
        for table in ("sessions", "memory_buckets", "state_heads"):
            await observer.execute(f"UPDATE agentstore.{table} SET updated_at = updated_at - interval '{seconds} s'")

    async def found() -> tuple[int, int, int, bool]:
        return (
            len((await sessions.get_session("alice", "s")).messages),
            len(await memory.search_memory("alice", [said("tea")])),
            len(await memory.list_memory("alice")),
            await states.export_state("alice") is not None,
        )

    sessions, memory, states = (make(kind, ttl_seconds=100) for kind in SERVICES)
    session = await sessions.create_session("alice", "s")
    await sessions.append_message(session, said("tea"))
    await memory.add_memory("alice", [said("tea")])
    await states.save_state("alice", {"tea": True})
    for _ in range(3):
        await pass_(60)
        assert await found() == (1, 1, 1, True)
    await pass_(101)
    assert await found() == (0, 0, 0, False)
    lasting = [make(kind) for kind in SERVICES]
    await lasting[0].append_message(await lasting[0].create_session("alice", "lasting"), said("tea"))
    await lasting[1].add_memory("alice", [said("tea")])
    await lasting[2].save_state("alice", {"tea": True})
    await pass_(10_000_000)
    assert len((await lasting[0].get_session("alice", "lasting")).messages) == 1
    assert len(await lasting[1].list_memory("alice")) == 1
    assert await lasting[2].export_state("alice") == {"tea": True}


async def test_a_use_is_written_only_where_some_time_has_passed(make: Make, observer: asyncpg.Connection) -> None:
    service = make(PostgresSessionHistoryService, ttl_seconds=100)
    await service.create_session("alice", "s")
    when = "SELECT updated_at FROM agentstore.sessions"
    before = await observer.fetchval(when)
    await service.get_session("alice", "s")
    assert await observer.fetchval(when) == before
    await observer.execute("UPDATE agentstore.sessions SET updated_at = updated_at - interval '11 s'")
    await service.get_session("alice", "s")
    assert await observer.fetchval(when) > before


async def test_a_service_starts_by_itself_and_is_closed_after_stop(make: Make) -> None:
    for kind in SERVICES:
        service = make(kind)
        assert not await service.health()
        calls: dict[Any, Callable[[Any], Any]] = {
            PostgresSessionHistoryService: lambda each: each.list_sessions("alice"),
            PostgresMemoryService: lambda each: each.list_memory("alice"),
            PostgresStateService: lambda each: each.export_state("alice"),
        }
        call = calls[kind]
        await asyncio.gather(*(call(service) for _ in range(5)))
        assert await service.health() is True
        await service.stop()
        await service.stop()
        assert await service.health() is False
        with pytest.raises(Closed):
            await call(service)
        async with service:
            await call(service)
            assert await service.health() is True


async def test_services_of_one_database_have_one_pool(
    make: Make, database_url: str, observer: asyncpg.Connection
) -> None:
    services = [make(PostgresSessionHistoryService, ttl_seconds=9)]
    services = [make(kind, pool_size=size) for kind, size in zip(SERVICES, ("2", 4, None), strict=True)] + services
    assert len({each._shared.database for each in services}) == 1
    assert services[0]._shared.database.settings.pool_size == 4
    for each in services:
        await each.start()
    await asyncio.gather(*(each.list_sessions(str(n)) for each in (services[0], services[3]) for n in range(50)))
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    if "pgbouncer" not in database_url and services[0]._shared.database.settings.pooler == "none":
        assert await observer.fetchval(count) <= 4
    for each in services[:3]:
        await each.stop()
    assert await services[3].health()
    assert await services[3].list_sessions("1") == []
    await services[3].stop()
    assert not await services[0]._shared.database.health()
    await services[0].start()
    assert await services[0].list_sessions("1") == []


async def test_a_service_that_could_not_start_does_not_keep_a_pool_open(
    empty_url: str,
) -> None:
    one, two = (PostgresSessionHistoryService(empty_url) for _ in range(2))
    for each in (one, two, one):
        with pytest.raises(SchemaBehind):
            await each.start()
        assert not await each.health()
    await migrate.upgrade(empty_url)
    await one.start()
    await one.stop()
    assert not await two._shared.database.health()
    assert await two.list_sessions("alice") == []
    await two.stop()


async def test_a_pool_that_is_open_is_not_widened(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    first = make(PostgresSessionHistoryService, pool_size=2)
    await first.start()
    assert make(PostgresStateService, pool_size=3)._shared.database.settings.pool_size == 2
    assert "2 connections at most" in caplog.text


def test_an_option_that_is_misspelt_or_wrong_is_an_error(database_url: str) -> None:
    for kind in SERVICES:
        wrong: list[dict[str, Any]] = [
            {"pol_size": 5}, {"compat": "Redis"}, {"pool_size": 0}, {"pool_size": "many"}, {"ttl_seconds": "-1"},
            {"ttl_seconds": 2**31}, {"pool_size": True}, {"max_messages_per_session": 1.5},
        ]  # fmt: skip
        for options in wrong:
            with pytest.raises(NotConfigured, match=next(iter(options))):
                kind(database_url, **options)
        with pytest.raises(NotConfigured, match="postgresql://"):
            kind("mysql://app@db/agents")
        kind(database_url, redis_url="redis://there", redis_client=None, socket_timeout=5.0, retry_on_timeout=True)
    for error in (NotConfigured, ValueError):
        with pytest.raises(error, match="required when search strategy is VECTOR"):
            PostgresMemoryService(database_url, search_strategy="vector", embedding_model=None)
    with pytest.raises(NotConfigured, match="embed_documents"):
        PostgresMemoryService(database_url, embedding_model=object())


async def test_a_search_gives_all_in_the_order_that_it_was_said(make: Make) -> None:
    for compat in ("in_memory", "redis"):
        memory = make(PostgresMemoryService, compat=compat)
        await memory.delete_user_memory("alice")
        for session, text in (("1", "tea tea tea"), ("2", "tea and cake"), ("1", "bread"), ("1", "the tea is cold")):
            await memory.add_memory("alice", [said(text)], session)
        found = await memory.search_memory("alice", [said("cake"), said("tea")])
        assert [type(each) for each in found] == [Message] * 3
        assert texts(found) == ["tea tea tea", "tea and cake", "the tea is cold"]
        assert texts(await memory.search_memory("alice", [said("tea")], {"top_k": 2, "score": 1})) == texts(found[1:])
        assert await memory.search_memory("alice", [said("tea")], filters={"top_k": 0}) == []
        assert len(await memory.search_memory("alice", [said("tea")], filters={"top_k": 5_000})) == 3
        assert len(await memory.search_memory("alice", [said("tea")], filters={"top_k": None})) == 3
    for nothing in ([], None, "tea", [said("")], [None], [said("xyz")], [Message(role="user")]):
        assert await memory.search_memory("alice", nothing) == []
    assert await memory.search_memory("nobody", [said("tea")]) == []


async def test_what_is_found_has_a_word_of_the_question_in_whatever_form(make: Make) -> None:
    told = [
        "They raised 12 500 000 crowns",
        "我們的圖書館離車站很近",
        "Our check\u2011in is at noon",
        "nothing of that",
    ]
    for compat in ("in_memory", "tablestore"):
        memory = make(PostgresMemoryService, compat=compat)
        await memory.delete_memory("alice")
        await memory.add_memory("alice", [said(text) for text in told])
        for question, found in (("12500000", 0), ("图书馆在哪里", 1), ("checkin", 2), ("chekc in at noon", 2)):
            assert texts(await memory.search_memory("alice", [said(question)])) == [told[found]]


async def test_the_best_comes_first_as_from_tablestore(make: Make) -> None:
    memory = make(PostgresMemoryService, compat="tablestore")
    await memory.add_memory("alice", [said(f"tea number {n} with cake and more") for n in range(150)])
    await memory.add_memory("alice", [said("cold tea")])
    found = await memory.search_memory("alice", [said("cold tea")])
    assert len(found) == 100
    assert texts(found)[0] == "cold tea"
    assert texts(await memory.search_memory("alice", [said("cold tea")], {"top_k": 1})) == ["cold tea"]


async def test_what_is_no_plain_message_neither_asks_nor_is_found(make: Make) -> None:
    for compat in ("in_memory", "tablestore"):
        memory = make(PostgresMemoryService, compat=compat)
        await memory.delete_memory("alice")
        kinds = ("reasoning", "error", "message", "plugin_call_output", "message")
        await memory.add_memory("alice", [said(f"cold tea {n}", type=kind) for n, kind in enumerate(kinds)])
        assert sorted(texts(await memory.search_memory("alice", [said("tea")]))) == ["cold tea 2", "cold tea 4"]
        assert len(await memory.search_memory("alice", [said("tea")], {"top_k": 2})) == 2
        assert await memory.search_memory("alice", [said("tea", type="reasoning")]) == []
        assert len(await memory.list_memory("alice")) == 5


async def test_memories_are_listed_in_pages_and_deleted(make: Make) -> None:
    memory = make(PostgresMemoryService)
    messages = [said(f"message {n}") for n in range(25)]
    await memory.add_memory("alice", messages, "s1")
    await memory.add_memory("alice", messages, "s2")
    await memory.add_memory("bob", messages[:1])
    pages = [await memory.list_memory("alice", {"page_size": 10, "page_num": n}) for n in (1, 2, 3, 5, 6)]
    assert pages == [messages[:10], messages[10:20], messages[20:] + messages[:5], messages[15:], []]
    assert await memory.list_memory("alice") == messages[:10]
    await memory.delete_memory("alice", "s1")
    assert await memory.list_memory("alice", {"page_size": 100}) == messages
    await memory.delete_memory("alice", "s1")
    await memory.clear_all_memory()
    assert await memory.list_memory("alice") == await memory.list_memory("bob") == []


async def test_states_are_saved_by_rounds(make: Make) -> None:
    states = make(PostgresStateService)
    assert await states.export_state("alice") is None
    assert await states.save_state("alice", {"n": 1}) == 1
    assert await states.save_state("alice", {"n": 5}, None, 5) == 5
    assert await states.save_state("alice", {"n": 6}, round_id=None) == 6
    assert await states.export_state("alice") == {"n": 6}
    assert await states.export_state("alice", "default", 5) == {"n": 5}
    assert await states.export_state("alice", round_id=4) is None
    assert await states.save_state("alice", {}, "s") == 1


async def test_nothing_is_lost_that_is_lost_elsewhere(make: Make) -> None:
    """By the runtime on Redis: it reads, adds and writes, and its keys are patterns."""
    sessions, states = make(PostgresSessionHistoryService, compat="redis"), make(PostgresStateService)
    await sessions.create_session("alice", "s")
    loaded = [await sessions.get_session("alice", "s") for _ in range(20)]
    await asyncio.gather(*(sessions.append_message(each, said(str(n))) for n, each in enumerate(loaded)))
    assert sorted(map(int, texts((await sessions.get_session("alice", "s")).messages))) == list(range(20))
    rounds = await asyncio.gather(*(states.save_state("alice", {"n": n}) for n in range(20)))
    assert sorted(rounds) == list(range(1, 21))
    for n, number in enumerate(rounds):
        assert await states.export_state("alice", None, number) == {"n": n}
    for user, session in (("a", "b:c"), ("ua", "s"), ("u*", "mine")):
        await sessions.append_message(await sessions.create_session(user, session), said("secret"))
    assert await sessions.get_session("a:b", "c") is None
    assert await sessions.list_sessions("a:b") == []
    assert [each.id for each in await sessions.list_sessions("u*")] == ["mine"]
    await sessions.delete_user_sessions("u*")
    assert len(await sessions.list_sessions("ua")) == 1


async def test_it_is_the_same_store(make: Make, store: AgentStore) -> None:
    sessions, memory, states = (make(kind) for kind in SERVICES)
    session = await sessions.create_session("alice", "s")
    await sessions.append_message(session, said("hello"))
    await memory.add_memory("alice", session.messages, session.id)
    await states.save_state("alice", {"n": 1}, session.id)
    stored = await store.sessions.get_session("alice", "s")
    assert stored is not None
    assert [each.id for each in stored.messages] == [each.id for each in session.messages]
    assert len(await store.memory.search_memory("alice", "hello")) == 1  # type: ignore[arg-type]
    assert await store.states.export_state("alice", "s") == {"n": 1}
    await store.users.delete_user("alice")
    assert await sessions.list_sessions("alice") == await memory.list_memory("alice") == []


async def test_what_only_ours_may_hold_is_read_all_the_same(make: Make, store: AgentStore) -> None:
    session = await store.sessions.create_session("alice", "s")
    odd = OurMessage(role="user", status=None, content=[OurText(text="a", object="x", newer=1)], newest={"y": 2})
    await store.sessions.append_message(session, [odd, OurMessage(content=[OurText(text="\ud800")])])
    read = (await make(PostgresSessionHistoryService).get_session("alice", "s")).messages
    assert [type(each) for each in read] == [Message, Message]
    assert texts(read) == ["a", "\ud800"]
    assert read[0].status is None


async def test_the_environment_names_the_database(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", database_url)
    if settings.migration_database_url is not None:
        monkeypatch.setenv("AGENTSTORE_MIGRATION_DATABASE_URL", settings.migration_database_url.get_secret_value())
        monkeypatch.setenv("AGENTSTORE_POOLER", "transaction")
    async with PostgresSessionHistoryService() as service, PostgresStateService(database_url) as states:
        assert service._shared is states._shared
        assert (await service.create_session("alice")).user_id == "alice"
        assert await states.export_state("alice") is None


class _Words:
    """An embedding model of the kind that the runtime's Tablestore service takes."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(word in text) + 0.01 for word in ("sunny", "apples", "sleeping", "weather")] for text in texts]

    async def aembed_query(self, text: str) -> list[float]:
        self.asked.append(text)
        return self.embed_query(text)

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text.replace("cat", "sleeping")])[0]


async def test_a_search_by_meaning_takes_the_runtimes_embedding_models(
    make: Make, has_pgvector: bool, direct_url: str
) -> None:
    if has_pgvector:
        await migrate.enable_vectors(direct_url)
    model = _Words()
    memory = make(
        PostgresMemoryService,
        compat="tablestore",
        search_strategy="VECTOR",
        embedding_model=model,
        vector_dimension="4",
    )
    said_before = [said("The weather is sunny"), said("I like apples"), said("The cat is sleeping")]
    await memory.add_memory("alice", said_before)
    if not has_pgvector:
        with pytest.raises(NotConfigured, match="vector enable"):
            await memory.search_memory("alice", [said("How is the weather?")])
        return
    found = await memory.search_memory("alice", [said("How is the weather?")])
    assert len(found) == 3
    assert found[0] == said_before[0]
    assert await memory.search_memory("alice", [said("And the cat?")], {"top_k": 1}) == said_before[2:]
    assert model.asked == ["How is the weather?", "And the cat?"]
