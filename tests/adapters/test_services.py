"""AgentScope Runtime's services on Postgres, with the runtime's classes if it is installed, else agentstore's."""

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
from tests.adapters.kinds import DataContent, Error, ImageContent, Message, Session, TextContent, text_message, texts

CreateService = Callable[..., Any]
SERVICES: tuple[Any, ...] = (PostgresSessionHistoryService, PostgresMemoryService, PostgresStateService)


@pytest.fixture
async def create_service(database_url: str, settings: Settings) -> Any:
    """Create services on this test's database, and stop them at its end."""
    services: list[Any] = []

    def service(kind: type, **options: Any) -> Any:
        services.append(kind(database_url, **{"settings": settings, **options}))
        return services[-1]

    yield service
    for each in services:
        await each.stop()


async def test_sessions_and_messages_round_trip_in_the_applications_classes(create_service: CreateService) -> None:
    service = create_service(PostgresSessionHistoryService)
    session = await service.create_session("alice", " s ")
    assert type(session) is Session
    assert (session.id, session.user_id, session.messages) == ("s", "alice", [])
    messages = [
        text_message("Hello"),
        Message(role="tool", type="plugin_call", content=[DataContent(data={"z": [1, {"b": None}], "a": "\0"})]),
        Message(role="assistant", status="failed", error=Error(code="E", message="gone"), content=None),
        Message(
            role="user", content=[ImageContent(image_url="data:,"), TextContent(text="密\ud800")], usage={"n": 2**70}
        ),
        Message(content=[], metadata={"x": [None, ""]}, code="c", message="m"),
    ]
    await service.append_message(session, messages)
    assert session.messages == messages
    stored = await service.get_session("alice", "s")
    assert stored == session
    assert stored.model_dump() == session.model_dump()
    assert [each.model_dump() for each in stored.messages] == [each.model_dump() for each in messages]
    assert [[type(part) for part in each.content or ()] for each in stored.messages] == [
        [type(part) for part in each.content or ()] for each in messages
    ]
    assert await service.create_session("alice", "s") == session  # not emptied


async def test_append_accepts_dicts_and_agentstore_messages(create_service: CreateService) -> None:
    service = create_service(PostgresSessionHistoryService)
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
    for invalid in ("text", {"role": "robot"}, {"content": [{"type": "smell"}]}, 7):
        with pytest.raises(InvalidContent):
            await service.append_message(session, [text_message("not stored"), invalid])
    assert await service.get_session("alice", session.id) == session


async def test_any_dict_that_the_runtimes_class_accepts_is_stored(create_service: CreateService) -> None:
    """Also one that agentstore's own services refuse, since nothing in it is the content of a message."""
    service, memory = create_service(PostgresSessionHistoryService), create_service(PostgresMemoryService)
    session = await service.create_session("alice", "s")
    given = [{"role": "user"}, {"role": "user", "text": "a"}, {"role": "assistant", "tool_calls": [{"id": "c"}]}]
    await service.append_message(session, given)
    assert await service.get_session("alice", "s") == session
    assert len(session.messages) == 3
    await memory.add_memory("alice", given)
    assert await memory.search_memory("alice", [{"role": "user"}]) == []


@pytest.mark.runtime  # agentstore's own classes validate assignments
async def test_message_that_became_invalid_is_rejected_before_writing(create_service: CreateService) -> None:
    """The runtime's classes do not validate assignments to their fields."""
    service, memory = create_service(PostgresSessionHistoryService), create_service(PostgresMemoryService)
    session = await service.create_session("alice", "s")
    for field, value in (("role", "robot"), ("content", "text"), ("usage", [1]), ("metadata", {"x": {1}})):
        message = text_message("a")
        setattr(message, field, value)
        with pytest.raises(InvalidContent):
            await service.append_message(session, [text_message("not stored"), message])
        with pytest.raises(InvalidContent):
            await memory.add_memory("alice", [text_message("not stored"), message])
    assert (await service.get_session("alice", "s")).messages == session.messages == []
    assert await memory.list_memory("alice") == []


async def test_compat_decides_how_a_missing_session_is_handled(
    create_service: CreateService, caplog: pytest.LogCaptureFixture
) -> None:
    for compat in ("in_memory", "tablestore"):
        service = create_service(PostgresSessionHistoryService, compat=compat)
        unknown = Session(id=f"unknown to {compat}", user_id="alice", messages=[])
        with caplog.at_level(logging.WARNING):
            await service.append_message(unknown, text_message("not stored"))
        assert "are not stored" in caplog.text
        assert texts(unknown.messages) == ["not stored"]
        created = await service.get_session("alice", unknown.id)
        assert (created.id, created.user_id, created.messages) == (unknown.id, "alice", [])
        assert unknown.id in [each.id for each in await service.list_sessions("alice")]
        await service.delete_session("alice", unknown.id)
        assert (await service.get_session("alice", unknown.id)).messages == []
        for id in ("", " s "):
            assert (await service.get_session("alice", id)).id == id
    service = create_service(PostgresSessionHistoryService, compat="redis")
    for id in ("  ", " t "):
        assert await service.get_session("alice", id) is None
        await service.append_message(Session(id=id, user_id="alice", messages=[]), text_message("stored"))
        assert texts((await service.get_session("alice", id)).messages) == ["stored"]
    assert await service.get_session("alice", "new") is None
    new = Session(id="new", user_id="alice", messages=[])
    await service.append_message(new, text_message("stored"))
    assert (await service.get_session("alice", "new")).messages == new.messages
    await service.delete_session("alice", "new")
    await service.delete_session("alice", "new")
    assert await service.get_session("alice", "new") is None


async def test_list_sessions_omits_messages_and_delete_user_sessions_deletes_all(create_service: CreateService) -> None:
    service = create_service(PostgresSessionHistoryService)
    for user in ("alice", "bob"):
        for name in ("1", "2"):
            await service.append_message(await service.create_session(user, name), text_message(name))
    listed = await service.list_sessions("alice")
    assert type(listed) is list
    assert {type(each) for each in listed} == {Session}
    assert sorted((each.id, each.user_id, each.messages) for each in listed) == [("1", "alice", []), ("2", "alice", [])]
    await service.delete_user_sessions("alice")
    assert await service.list_sessions("alice") == []
    assert len(await service.list_sessions("bob")) == 2


async def test_max_messages_limits_what_is_returned_not_what_is_stored(create_service: CreateService) -> None:
    service = create_service(PostgresSessionHistoryService, max_messages_per_session="5", compat="redis")
    session = await service.create_session("alice", "s")
    for number in range(10):
        await service.append_message(session, text_message(str(number)))
    assert texts(session.messages) == ["5", "6", "7", "8", "9"]
    assert await service.get_session("alice", "s") == session
    assert await service.create_session("alice", "s") == session
    assert len((await create_service(PostgresSessionHistoryService).get_session("alice", "s")).messages) == 10


async def test_values_expire_when_unused_for_ttl_seconds(
    create_service: CreateService, observer: asyncpg.Connection
) -> None:
    async def advance(seconds: int) -> None:
        for table in ("sessions", "memory_buckets", "state_heads"):
            await observer.execute(f"UPDATE agentstore.{table} SET updated_at = updated_at - interval '{seconds} s'")

    async def read_all() -> tuple[int, int, int, bool]:
        return (
            len((await sessions.get_session("alice", "s")).messages),
            len(await memory.search_memory("alice", [text_message("tea")])),
            len(await memory.list_memory("alice")),
            await states.export_state("alice") is not None,
        )

    sessions, memory, states = (create_service(kind, ttl_seconds=100_000) for kind in SERVICES)
    session = await sessions.create_session("alice", "s")
    await sessions.append_message(session, text_message("tea"))
    await memory.add_memory("alice", [text_message("tea")])
    await states.save_state("alice", {"tea": True})
    for _ in range(3):
        await advance(60_000)
        assert await read_all() == (1, 1, 1, True)
    await advance(101_000)
    assert await read_all() == (0, 0, 0, False)
    lasting = [create_service(kind) for kind in SERVICES]
    await lasting[0].append_message(await lasting[0].create_session("bob", "lasting"), text_message("tea"))
    await lasting[1].add_memory("bob", [text_message("tea")])
    await lasting[2].save_state("bob", {"tea": True})
    await advance(10_000_000)
    assert len((await lasting[0].get_session("bob", "lasting")).messages) == 1
    assert len(await lasting[1].list_memory("bob")) == 1
    assert await lasting[2].export_state("bob") == {"tea": True}
    # Whether a value has expired is a matter of the service that reads it; a write or prune deletes it.
    assert len(await lasting[1].list_memory("alice")) == 1
    await memory.add_memory("alice", [text_message("milk")])
    assert len(await lasting[1].list_memory("alice")) == 1


async def test_a_read_extends_retention_at_most_once_per_tenth_of_it(
    create_service: CreateService, observer: asyncpg.Connection
) -> None:
    service = create_service(PostgresSessionHistoryService, ttl_seconds=10_000)
    await service.create_session("alice", "s")
    updated_at = "SELECT updated_at FROM agentstore.sessions"
    before = await observer.fetchval(updated_at)
    await service.get_session("alice", "s")
    assert await observer.fetchval(updated_at) == before
    await observer.execute("UPDATE agentstore.sessions SET updated_at = updated_at - interval '1001 s'")
    await service.get_session("alice", "s")
    assert await observer.fetchval(updated_at) > before


async def test_service_starts_on_first_call_and_is_closed_after_stop(create_service: CreateService) -> None:
    for kind in SERVICES:
        service = create_service(kind)
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


async def test_services_of_one_database_share_one_pool(
    create_service: CreateService, database_url: str, observer: asyncpg.Connection
) -> None:
    services = [create_service(PostgresSessionHistoryService, ttl_seconds=9)]
    services = [
        create_service(kind, pool_size=size) for kind, size in zip(SERVICES, ("2", 4, None), strict=True)
    ] + services
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


async def test_failed_start_leaves_no_pool_open(
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


async def test_open_pool_is_not_enlarged(create_service: CreateService, caplog: pytest.LogCaptureFixture) -> None:
    first = create_service(PostgresSessionHistoryService, pool_size=2)
    await first.start()
    assert create_service(PostgresStateService, pool_size=3)._shared.database.settings.pool_size == 2
    assert "at most 2 connections" in caplog.text


def test_unknown_and_invalid_options_are_rejected(database_url: str) -> None:
    for kind in SERVICES:
        invalid: list[dict[str, Any]] = [
            {"pol_size": 5}, {"compat": "Redis"}, {"pool_size": 0}, {"pool_size": "many"}, {"ttl_seconds": "-1"},
            {"ttl_seconds": 2**31}, {"pool_size": True}, {"max_messages_per_session": 1.5},
        ]  # fmt: skip
        for options in invalid:
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


async def test_search_returns_all_matches_in_chronological_order(create_service: CreateService) -> None:
    for compat in ("in_memory", "redis"):
        memory = create_service(PostgresMemoryService, compat=compat)
        await memory.delete_user_memory("alice")
        for session, text in (("1", "tea tea tea"), ("2", "tea and cake"), ("1", "bread"), ("1", "the tea is cold")):
            await memory.add_memory("alice", [text_message(text)], session)
        found = await memory.search_memory("alice", [text_message("cake"), text_message("tea")])
        assert [type(each) for each in found] == [Message] * 3
        assert texts(found) == ["tea tea tea", "tea and cake", "the tea is cold"]
        assert texts(await memory.search_memory("alice", [text_message("tea")], {"top_k": 2, "score": 1})) == texts(
            found[1:]
        )
        assert await memory.search_memory("alice", [text_message("tea")], filters={"top_k": 0}) == []
        assert len(await memory.search_memory("alice", [text_message("tea")], filters={"top_k": 5_000})) == 3
        assert len(await memory.search_memory("alice", [text_message("tea")], filters={"top_k": None})) == 3
    for empty in ([], None, "tea", [text_message("")], [None], [text_message("xyz")], [Message(role="user")]):
        assert await memory.search_memory("alice", empty) == []
    assert await memory.search_memory("nobody", [text_message("tea")]) == []


async def test_search_matches_words_in_any_form(create_service: CreateService) -> None:
    messages = [
        "They raised 12 500 000 crowns",
        "我們的圖書館離車站很近",
        "Our check\u2011in is at noon",
        "unrelated",
    ]
    for compat in ("in_memory", "tablestore"):
        memory = create_service(PostgresMemoryService, compat=compat)
        await memory.delete_memory("alice")
        await memory.add_memory("alice", [text_message(text) for text in messages])
        for query, found in (("12500000", 0), ("图书馆在哪里", 1), ("checkin", 2), ("chekc in at noon", 2)):
            assert texts(await memory.search_memory("alice", [text_message(query)])) == [messages[found]]


async def test_tablestore_search_returns_best_matches_first(create_service: CreateService) -> None:
    memory = create_service(PostgresMemoryService, compat="tablestore")
    await memory.add_memory("alice", [text_message(f"tea number {n} with cake and more") for n in range(150)])
    await memory.add_memory("alice", [text_message("cold tea")])
    found = await memory.search_memory("alice", [text_message("cold tea")])
    assert len(found) == 100
    assert texts(found)[0] == "cold tea"
    assert texts(await memory.search_memory("alice", [text_message("cold tea")], {"top_k": 1})) == ["cold tea"]


async def test_only_plain_messages_are_queries_and_results(create_service: CreateService) -> None:
    for compat in ("in_memory", "tablestore"):
        memory = create_service(PostgresMemoryService, compat=compat)
        await memory.delete_memory("alice")
        kinds = ("reasoning", "error", "message", "plugin_call_output", "message")
        await memory.add_memory("alice", [text_message(f"cold tea {n}", type=kind) for n, kind in enumerate(kinds)])
        assert sorted(texts(await memory.search_memory("alice", [text_message("tea")]))) == ["cold tea 2", "cold tea 4"]
        assert len(await memory.search_memory("alice", [text_message("tea")], {"top_k": 2})) == 2
        assert await memory.search_memory("alice", [text_message("tea", type="reasoning")]) == []
        assert len(await memory.list_memory("alice")) == 5


async def test_memories_are_listed_in_pages_and_deleted(create_service: CreateService) -> None:
    memory = create_service(PostgresMemoryService)
    messages = [text_message(f"message {n}") for n in range(25)]
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


async def test_states_are_saved_as_rounds(create_service: CreateService) -> None:
    states = create_service(PostgresStateService)
    assert await states.export_state("alice") is None
    assert await states.save_state("alice", {"n": 1}) == 1
    assert await states.save_state("alice", {"n": 5}, None, 5) == 5
    assert await states.save_state("alice", {"n": 6}, round_id=None) == 6
    assert await states.export_state("alice") == {"n": 6}
    assert await states.export_state("alice", "default", 5) == {"n": 5}
    assert await states.export_state("alice", round_id=4) is None
    assert await states.save_state("alice", {}, "s") == 1


async def test_nothing_is_lost_that_the_runtime_loses_on_redis(create_service: CreateService) -> None:
    """The runtime on Redis appends by read-modify-write, and joins ids to keys that it uses as patterns."""
    sessions, states = (
        create_service(PostgresSessionHistoryService, compat="redis"),
        create_service(PostgresStateService),
    )
    await sessions.create_session("alice", "s")
    loaded = [await sessions.get_session("alice", "s") for _ in range(20)]
    await asyncio.gather(*(sessions.append_message(each, text_message(str(n))) for n, each in enumerate(loaded)))
    assert sorted(map(int, texts((await sessions.get_session("alice", "s")).messages))) == list(range(20))
    rounds = await asyncio.gather(*(states.save_state("alice", {"n": n}) for n in range(20)))
    assert sorted(rounds) == list(range(1, 21))
    for n, number in enumerate(rounds):
        assert await states.export_state("alice", None, number) == {"n": n}
    for user, session in (("a", "b:c"), ("ua", "s"), ("u*", "mine")):
        await sessions.append_message(await sessions.create_session(user, session), text_message("secret"))
    assert await sessions.get_session("a:b", "c") is None
    assert await sessions.list_sessions("a:b") == []
    assert [each.id for each in await sessions.list_sessions("u*")] == ["mine"]
    await sessions.delete_user_sessions("u*")
    assert len(await sessions.list_sessions("ua")) == 1


async def test_adapter_and_store_share_their_data(create_service: CreateService, store: AgentStore) -> None:
    sessions, memory, states = (create_service(kind) for kind in SERVICES)
    session = await sessions.create_session("alice", "s")
    await sessions.append_message(session, text_message("hello"))
    await memory.add_memory("alice", session.messages, session.id)
    await states.save_state("alice", {"n": 1}, session.id)
    stored = await store.sessions.get_session("alice", "s")
    assert stored is not None
    assert [each.id for each in stored.messages] == [each.id for each in session.messages]
    assert len(await store.memory.search_memory("alice", "hello")) == 1
    assert await store.states.export_state("alice", "s") == {"n": 1}
    await store.users.delete_user("alice")
    assert await sessions.list_sessions("alice") == await memory.list_memory("alice") == []


async def test_messages_that_only_agentstore_allows_can_be_read(
    create_service: CreateService, store: AgentStore
) -> None:
    session = await store.sessions.create_session("alice", "s")
    part = OurText(text="a", object="x", newer=1)
    odd = OurMessage.model_validate({"role": "user", "status": None, "content": [part], "newest": {"y": 2}})
    await store.sessions.append_message(session, [odd, OurMessage(content=[OurText(text="\ud800")])])
    read = (await create_service(PostgresSessionHistoryService).get_session("alice", "s")).messages
    assert [type(each) for each in read] == [Message, Message]
    assert texts(read) == ["a", "\ud800"]
    assert read[0].status is None


async def test_default_database_comes_from_the_environment(
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


class _EmbeddingModel:
    """An embedding model with the interface that the runtime's Tablestore service uses."""

    def __init__(self) -> None:
        self.queries: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(word in text) + 0.01 for word in ("sunny", "apples", "sleeping", "weather")] for text in texts]

    async def aembed_query(self, text: str) -> list[float]:
        self.queries.append(text)
        return self.embed_query(text)

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text.replace("cat", "sleeping")])[0]


async def test_vector_search_accepts_the_runtimes_embedding_models(
    create_service: CreateService, has_pgvector: bool, direct_url: str
) -> None:
    if has_pgvector:
        await migrate.enable_vectors(direct_url)
    model = _EmbeddingModel()
    memory = create_service(
        PostgresMemoryService,
        compat="tablestore",
        search_strategy="VECTOR",
        embedding_model=model,
        vector_dimension="4",
    )
    messages = [
        text_message("The weather is sunny"),
        text_message("I like apples"),
        text_message("The cat is sleeping"),
    ]
    await memory.add_memory("alice", messages)
    if not has_pgvector:
        with pytest.raises(NotConfigured, match="vector enable"):
            await memory.search_memory("alice", [text_message("How is the weather?")])
        return
    found = await memory.search_memory("alice", [text_message("How is the weather?")])
    assert len(found) == 3
    assert found[0] == messages[0]
    assert await memory.search_memory("alice", [text_message("And the cat?")], {"top_k": 1}) == messages[2:]
    assert model.queries == ["How is the weather?", "And the cat?"]
