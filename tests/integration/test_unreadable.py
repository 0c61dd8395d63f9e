"""Rows that another program wrote, and that are not valid: errors name them, and workers pass over them."""

import asyncio
import io
import logging
from contextlib import aclosing
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, Conflict, Extraction, MemoryItem, Message, Settings, UnreadableRow
from agentstore.testing import text
from tests.support.cli import run
from tests.support.vectors import WordEmbedder, with_pgvector

# JSON that is not a message: the reader rejects each of these for another reason.
INVALID = {
    "a number": "5",
    "an unknown role": '{"role":"alien","content":5}',
    "a message of another id": '{"id":5,"role":"user"}',
    "too deep": f'{{"id":"m2","metadata":{{"x":{"[" * 3_000}{"]" * 3_000}}}}}',
    "a long integer": f'{{"id":"m2","metadata":{{"x":{"9" * 4_301}}}}}',
}


class _EchoExtractor:
    """Extracts one fact from each call."""

    name = "echo"
    kinds = ("fact",)

    async def extract(self, messages: Any, existing: Any) -> Extraction:
        return Extraction(items=[MemoryItem(text=f"fact about {len(messages)}")])


async def _damage(url: str, table: str, column: str, value: str | bytes, condition: str) -> None:
    connection = await asyncpg.connect(url)
    changed = await connection.execute(f"UPDATE agentstore.{table} SET {column} = $1 WHERE {condition}", value)
    await connection.close()
    assert changed == "UPDATE 1"


@pytest.mark.parametrize("payload", INVALID.values(), ids=INVALID)
async def test_an_unreadable_message_is_named_by_each_call(store: AgentStore, direct_url: str, payload: str) -> None:
    session = await store.sessions.create_session("alice", "s")
    await store.sessions.append_message(session, [text(f"number {each}", id=f"m{each}") for each in (1, 2, 3)])
    await _damage(direct_url, "messages", "payload", payload, "id = 'm2'")

    async def iterate() -> list[Message]:
        return [each async for each in store.sessions.iter_messages("alice", "s")]

    for call in (
        lambda: store.sessions.get_session("alice", "s"),
        lambda: store.sessions.get_session("alice", "s", limit=2),
        lambda: store.sessions.get_session("alice", "s", before="m3"),
        lambda: store.sessions.create_session("alice", "s"),
        iterate,
    ):
        with pytest.raises(
            UnreadableRow, match=r"row of the table messages cannot be read .*'alice'.*'s'.*'m2'"
        ) as one:
            await call()
        error = one.value
        assert (error.table, error.user_id, error.session_id, error.id) == ("messages", "alice", "s", "m2")
        assert "pydantic" not in str(error)
    stored = await store.sessions.read_messages("alice", "s")
    assert stored is not None
    assert [stored[0].id, stored[2].id, stored[-3].id] == ["m1", "m3", "m1"]
    assert [(each.seq, each.id) for each in (session.messages[0], *stored.models(on_unreadable=lambda _: None))] == [
        *((1, "m1"), (1, "m1"), (3, "m3"))
    ]
    for read in (stored.models, lambda: list(stored), lambda: stored[1], lambda: stored[1:][0]):
        with pytest.raises(UnreadableRow, match=r"'alice'.*'s'"):
            read()
    for at in (None, "m2"):
        with pytest.raises(UnreadableRow, match=r"'alice'.*'m2'"):
            await store.sessions.fork_session("alice", "s", at=at, new_id=f"fork {at}")
    with pytest.raises(Conflict, match="'m2'"):
        await store.sessions.append_message(session, text("number 2", id="m2"))
    # What works without the message works: lists, appends, exports, and a rewind to before it.
    assert {each.id for each in await store.sessions.list_sessions("alice")} == {"s", "fork None", "fork m2"}
    await store.sessions.append_message(session, text("number 4", id="m4"))
    file = io.BytesIO()
    assert await store.export(file) is not None
    assert (await store.sessions.rewind_session("alice", "s", "m1", keep=False)).messages == [session.messages[0]]


@pytest.mark.parametrize("payload", INVALID.values(), ids=INVALID)
async def test_unreadable_messages_can_be_passed_over(store: AgentStore, direct_url: str, payload: str) -> None:
    """Each is reported with its number and its id, and all others are returned."""
    await store.sessions.append("alice", "s", [text(str(each), id=f"m{each}") for each in range(1, 8)])
    for each in ("m2", "m3", "m7"):
        await _damage(direct_url, "messages", "payload", payload.replace('"m2"', f'"{each}"'), f"id = '{each}'")
    errors: list[UnreadableRow] = []
    stored = await store.sessions.read_messages("alice", "s", limit=6)
    assert stored is not None
    assert [each.id for each in stored.models(on_unreadable=errors.append)] == ["m4", "m5", "m6"]
    assert [each.seq for each in errors] == [2, 3, 7]
    for batch in (1, 2, 100):
        errors.clear()
        messages = store.sessions.iter_messages("alice", "s", batch=batch, on_unreadable=errors.append)
        assert [(each.seq, each.id) async for each in messages] == [(each, f"m{each}") for each in (1, 4, 5, 6)]
        assert [(each.seq, each.id) for each in errors] == [(2, "m2"), (3, "m3"), (7, "m7")]
        assert {(each.table, each.user_id, each.session_id) for each in errors} == {("messages", "alice", "s")}

    def refuse(_: UnreadableRow) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        [each async for each in store.sessions.iter_messages("alice", "s", on_unreadable=refuse)]


async def test_a_follower_passes_over_an_unreadable_message_once(store: AgentStore, direct_url: str) -> None:
    errors: list[UnreadableRow] = []
    await store.sessions.append("alice", "s", [text(str(each), id=f"m{each}") for each in (1, 2)])
    await _damage(direct_url, "messages", "payload", "[]", "id = 'm2'")
    following: Any = store.sessions.follow("alice", "s", interval=0.01, on_unreadable=errors.append)
    async with aclosing(following), asyncio.timeout(30):
        assert (await anext(following)).id == "m1"
        for number in (3, 4):
            await store.sessions.append("alice", "s", text(str(number), id=f"m{number}"))
            assert (await anext(following)).id == f"m{number}"
    assert [(each.seq, each.id) for each in errors] == [(2, "m2")]


async def test_commands_report_an_unreadable_message(store: AgentStore, direct_url: str) -> None:
    session = await store.sessions.create_session("alice", "s")
    await store.sessions.append_message(session, [text("number 1", id="m1"), text("number 2", id="m2")])
    await _damage(direct_url, "messages", "payload", INVALID["an unknown role"], "id = 'm2'")
    for command in (("show", "alice", "s"), ("show", "alice", "s", "--json"), ("export", "alice")):
        done = await asyncio.to_thread(run, "sessions", *command, "--url", direct_url)
        assert done.code == 1
        assert "'m2'" in done.err
        assert "Traceback" not in done.err


@pytest.mark.parametrize("value", ["[1]", "5", f'{{"x":{"9" * 4_301}}}', f"{'[' * 3_000}{']' * 3_000}"])
async def test_unreadable_metadata_is_named_by_each_call(store: AgentStore, direct_url: str, value: str) -> None:
    await store.sessions.create_session("alice", "s")
    await store.states.save_state("alice", {"x": 1}, "s")
    for table in ("users", "sessions", "state_rounds"):
        await _damage(direct_url, table, "metadata", value, "TRUE")
    sessions, states, users = store.sessions, store.states, store.users
    for table, calls in {
        "sessions": (
            sessions.get_session("alice", "s"),
            sessions.list_sessions("alice"),
            sessions.create_session("alice", "s"),
            sessions.change_metadata("alice", "s", lambda metadata: metadata),
            sessions.fork_session("alice", "s", new_id="fork"),
        ),
        "state_rounds": (states.list_states("alice", "s"),),
        "users": (users.get_user("alice"), users.list_users()),
    }.items():
        for call in calls:
            with pytest.raises(UnreadableRow, match=f"row of the table {table} cannot be read .*'alice'") as one:
                await call
            assert one.value.table == table
    assert await states.export_state("alice", "s") == {"x": 1}
    for id in ("s", "fork"):
        await sessions.set_metadata("alice", id, {"x": 2})
    assert (await sessions.list_sessions("alice"))[0].metadata == {"x": 2}


@pytest.mark.parametrize(
    ("column", "value"), [("payload", "[1]"), ("payload", f'{{"x":{"9" * 4_301}}}'), ("packed", "damaged")]
)
async def test_an_unreadable_state_is_named(store: AgentStore, direct_url: str, column: str, value: str) -> None:
    large = {"x": "long " * 20_000} if column == "packed" else {"x": 1}
    await store.states.save_state("alice", large, "s", 7)
    damaged = value.encode() if column == "packed" else value
    await _damage(direct_url, "state_rounds", column, damaged, "TRUE")
    for call in (
        store.states.export_state("alice", "s"),
        store.states.export_state("alice", "s", 7),
        store.states.diff_states("alice", 7, 7, "s"),
    ):
        with pytest.raises(UnreadableRow, match=r"row of the table state_rounds cannot be read .*'alice'.*'s'.*7"):
            await call
    assert len(await store.states.list_states("alice", "s")) == 1


@pytest.mark.parametrize("payload", INVALID.values(), ids=INVALID)
async def test_searches_and_lists_pass_over_an_unreadable_memory(
    store: AgentStore, direct_url: str, payload: str, caplog: pytest.LogCaptureFixture
) -> None:
    await store.memory.add_memory("alice", [text(f"zebra number {each}", id=f"m{each}") for each in (1, 2, 3)], "s")
    await store.memory.save_items("alice", [MemoryItem(id=f"i{each}", text=f"zebra {each}") for each in (1, 2, 3)], "s")
    await _damage(direct_url, "memories", "payload", payload, "id = 'm2'")
    await _damage(direct_url, "memories", "payload", '{"id":"i2","role":"system"}', "id = 'i2'")
    with caplog.at_level(logging.WARNING):
        hits = await store.memory.search("alice", "zebra")
    assert {hit.message.id for hit in hits} == {"m1", "m3", "i1", "i3"}
    assert "a row of the table memories cannot be read (user 'alice', session 's'" in caplog.text
    assert {each.id for each in await store.memory.list_items("alice")} == {"i1", "i3"}
    page = await store.memory.list_items("alice", limit=2)
    rest = await store.memory.list_items("alice", limit=2, cursor=page.next_cursor)
    assert {each.id for each in (*page, *rest)} == {"i1", "i3"}
    assert [each.id for each in await store.memory.list_memory("alice", {"page_size": 100})] == ["m1", "m3", "i1", "i3"]
    found: list[str] = []
    cursor = None
    while True:
        memories = await store.memory.list_memory("alice", {"page_size": 1, "cursor": cursor})
        found += [each.id for each in memories]
        if (cursor := memories.next_cursor) is None:
            break
    assert found == ["m1", "m3", "i1", "i3"]


async def test_an_unreadable_memory_fails_its_own_extraction_only(
    database_url: str, direct_url: str, settings: Settings
) -> None:
    settled = settings.model_copy(update={"extraction_settle": 0.0})
    async with AgentStore(database_url, settings=settled, extractor=_EchoExtractor()) as store:
        for user in ("alice", "bob", "carol"):
            await store.memory.add_memory(user, [text("one", id="m1"), text("two", id="m2")], "s")
        await _damage(direct_url, "memories", "payload", "5", "id = 'm1' AND user_id = 'alice'")
        # An unreadable item is found by the search for related ones.
        await store.memory.save_items("bob", MemoryItem(id="i", text="one two"), "s")
        await _damage(direct_url, "memories", "payload", "5", "id = 'i'")
        done = {each.user_id: each for each in await store.memory.extract()}
        assert done.keys() == {"alice", "bob", "carol"}
        assert "position 1" in (done["alice"].error or "")
        assert not done["alice"].items
        assert all(len(done[user].items) == 1 for user in ("bob", "carol"))
        assert [each.text for each in await store.memory.list_items("carol")] == ["fact about 2"]


@pytest.mark.parametrize("time", ["0044-03-15 BC", "20000-01-01"])
async def test_a_timestamp_that_python_has_not_is_an_error_of_its_user_only(
    database_url: str, direct_url: str, settings: Settings, time: str
) -> None:
    settled = settings.model_copy(update={"extraction_settle": 0.0})
    async with AgentStore(database_url, settings=settled, extractor=_EchoExtractor()) as store:
        for user in ("alice", "bob"):
            session = await store.sessions.create_session(user, "s")
            await store.memory.add_memory(user, text("zebra"), "s")
            await store.states.save_state(user, {}, "s")
        connection = await asyncpg.connect(direct_url)
        for table, column in (("sessions", "updated_at"), ("memories", "time"), ("state_rounds", "saved_at")):
            changed = f"UPDATE agentstore.{table} SET {column} = '{time}' WHERE user_id = 'alice'"
            await connection.execute(changed)
        await connection.close()
        for call in (
            store.sessions.get_session("alice", "s"),
            store.sessions.list_sessions("alice"),
            store.sessions.rewind_session("alice", "s", 0),
            store.memory.search("alice", "zebra"),
            store.states.list_states("alice", "s"),
        ):
            with pytest.raises(UnreadableRow, match=r"a row cannot be read \(user 'alice'.*timestamp"):
                await call
        done = {each.user_id: each.error for each in await store.memory.extract()}
        assert done["bob"] is None
        assert "timestamp" in str(done["alice"])
        assert await store.sessions.get_session("bob", "s") == session


async def test_a_reindex_passes_over_an_unreadable_memory(store: AgentStore, direct_url: str) -> None:
    for user in ("alice", "bob"):
        await store.memory.add_memory(user, [text("one", id="m1"), text("two", id="m2")], "s")
    await store.memory.add_memory("carol", text("three", id="m1"), "s")
    connection = await asyncpg.connect(direct_url)
    await connection.execute("UPDATE agentstore.memories SET analysis = 'old'")
    await connection.close()
    await _damage(direct_url, "memories", "payload", "5", "id = 'm1' AND user_id = 'alice'")
    await _damage(direct_url, "memories", "payload", "5", "user_id = 'carol'")
    assert await store.memory.reindex() == 3
    assert await store.memory.reindex(user_id="alice") == 0


@with_pgvector
async def test_embedding_passes_over_an_unreadable_memory(
    vector_store: AgentStore, direct_url: str, embedder: WordEmbedder, has_pgvector: bool
) -> None:
    embedder.fails = True
    await vector_store.memory.add_memory("alice", [text(each, id=each) for each in ("one", "two", "three")], "s")
    embedder.fails = False
    await _damage(direct_url, "memories", "payload", "5", "id = 'two'")
    assert await vector_store.memory.embed() == 2


def test_the_error_shows_a_part_of_a_long_id() -> None:
    error = UnreadableRow("it is damaged", "messages", "u" * 10_000, "s", 1)
    assert len(str(error)) < 1_000
