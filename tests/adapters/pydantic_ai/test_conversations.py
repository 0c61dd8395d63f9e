"""The conversation store with the types of pydantic-ai: records, entries, branches, forks and concurrent writers."""

# pyright: reportMissingImports=false
import asyncio
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from agentstore import (
    AgentStore,
    InvalidContent,
    LimitExceeded,
    Message,
    NotConfigured,
    Settings,
    StatementEvent,
    Telemetry,
    Unavailable,
    migrate,
)
from agentstore.operations.grants import grants
from tests.adapters.pydantic_ai.messages import all_messages, answer, deferred, question, usage
from tests.support.cli import run
from tests.support.psql import psql
from tests.support.roles import with_role
from tests.support.traces import traces

pytestmark = pytest.mark.adapters


def conversations_of(store: Any = None, user_id: Any = "alice", **options: Any) -> Any:
    from agentstore.adapters.pydantic_ai import AgentStoreConversationStore

    return AgentStoreConversationStore(store, user_id=user_id, **options)


def record_of(conversation_id: str = "trip", head_id: str | None = None, **fields: Any) -> Any:
    from pydantic_ai.conversation_store import ConversationRecord

    return ConversationRecord(conversation_id=conversation_id, head_id=head_id, **fields)


def chain(*texts: str, after: str | None = None, prefix: str = "e") -> list[Any]:
    """Return entries that follow each other, whose ids are their texts."""
    from pydantic_ai.conversation_store import ConversationEntry

    entries = []
    for text in texts:
        entries.append(ConversationEntry(id=f"{prefix}{text}", parent_id=after, message=question(text)))
        after = entries[-1].id
    return entries


def texts_of(messages: Any) -> list[str]:
    """Return the texts of messages, or of those of entries."""
    return [getattr(each, "message", each).parts[0].content for each in messages]


@contextmanager
def conflict() -> Any:
    from pydantic_ai.conversation_store import ConversationConflict

    with pytest.raises(ConversationConflict):
        yield


@pytest.fixture(params=["Postgres", "InMemory"])
def any_store(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("store") if request.param == "Postgres" else AgentStore.in_memory()


@pytest.fixture(params=["alice", None])
def conversations(request: pytest.FixtureRequest, any_store: Any) -> Any:
    return conversations_of(any_store, request.param)


async def _say(conversations: Any, conversation_id: str, *texts: str, **options: Any) -> Any:
    """Add messages to a conversation, and return it."""
    from pydantic_ai.conversation import Conversation

    conversation = await conversations.load(conversation_id) or Conversation(conversation_id=conversation_id)
    conversation.messages += [answer(each) for each in texts]
    await conversations.save(conversation, **options)
    return conversation


async def test_a_record_is_read_as_it_was_written(conversations: Any) -> None:
    assert await conversations.read_record("trip") is None
    record = record_of(
        usage=usage(1), deferred_tool_requests=deferred(), scope="a scope", forked_from="x", forked_at="y"
    )
    await conversations.write_record(record, expected_revision=None)
    assert await conversations.read_record("trip") == record
    assert list(await conversations.read_records()) == [record]
    # What the first record had and the second one lacks is removed.
    other = record_of(usage=usage(2))
    await conversations.write_record(other, expected_revision=record.revision)
    found = await conversations.read_record("trip")
    assert found == other
    assert (found.scope, found.deferred_tool_requests, found.usage.details) == (None, None, {"d2": 1})


async def test_every_message_is_read_as_it_was_written(conversations: Any) -> None:
    from pydantic_ai.conversation_store import ConversationEntry
    from pydantic_ai.messages import ModelMessagesTypeAdapter

    given = all_messages()
    expected = ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(given))
    entries, parent = [], None
    for message in given:
        entries.append(ConversationEntry(parent_id=parent, message=message))
        parent = entries[-1].id
    await conversations.write_record(record_of(head_id=parent), new_entries=entries, expected_revision=None)
    record = await conversations.read_record("trip")
    found = await conversations.read_history(record.head_id)
    assert [each.message for each in found] == expected
    assert [(each.id, each.parent_id, each.kind) for each in found] == [
        (each.id, each.parent_id, "message") for each in entries
    ]
    assert (await conversations.read_entry(found[3].id)).message == expected[3]


async def test_a_write_needs_the_revision_that_is_stored(conversations: Any) -> None:
    first, second = record_of(head_id="e1"), record_of(head_id="e2")
    with conflict():
        await conversations.write_record(first, new_entries=chain("1"), expected_revision="other")
    assert await conversations.read_record("trip") is None
    await conversations.write_record(first, new_entries=chain("1"), expected_revision=None)
    for expected in (None, "other", second.revision):
        with conflict():
            await conversations.write_record(second, new_entries=chain("2", after="e1"), expected_revision=expected)
        with conflict():
            await conversations.delete_record("trip", expected_revision=str(expected))
    assert await conversations.read_record("trip") == first
    await conversations.write_record(second, new_entries=chain("2", after="e1"), expected_revision=first.revision)
    head = (await conversations.read_record("trip")).head_id
    assert texts_of(await conversations.read_history(head)) == ["1", "2"]
    await conversations.delete_record("trip", expected_revision=second.revision)
    assert await conversations.read_record("trip") is None
    with conflict():
        await conversations.delete_record("trip", expected_revision=second.revision)


async def test_entries_to_continue_from_must_exist(any_store: Any, conversations: Any) -> None:
    with conflict():
        await conversations.write_record(record_of(head_id="missing"), expected_revision=None)
    with conflict():
        await conversations.write_record(
            record_of(head_id="e1"), new_entries=chain("1", after="missing"), expected_revision=None
        )
    with conflict():  # a branch need not exist, unless it is continued
        await conversations.write_record(
            record_of(branches=["missing"]), new_entries=chain("1", after="missing"), expected_revision=None
        )
    assert await conversations.read_record("trip") is None
    record = record_of(head_id="e1")
    await conversations.write_record(record, new_entries=chain("1"), expected_revision=None)
    for wrong in (record_of(head_id="missing"), record_of(head_id="e0")):
        with conflict():
            await conversations.write_record(wrong, expected_revision=record.revision)
    # An id that is stored with other content.
    other = chain("2", prefix="")[0]
    with conflict():
        await conversations.write_record(
            record_of(head_id="e1"),
            new_entries=[type(other)(id="e1", parent_id=None, message=question("changed"))],
            expected_revision=record.revision,
        )
    assert await conversations.read_record("trip") == record


async def test_a_repeated_write_is_stored_once(any_store: Any, conversations: Any) -> None:
    record, entries = record_of(head_id="e2"), chain("1", "2")
    for _ in range(2):
        await conversations.write_record(record, new_entries=entries, expected_revision=None)
    branch = record_of(head_id="e1", branches=["e2"])
    for _ in range(2):
        await conversations.write_record(branch, expected_revision=record.revision)
    assert await conversations.read_record("trip") == branch
    with conflict():  # the entries are stored, by another write
        await conversations.write_record(record_of(head_id="e2"), new_entries=entries, expected_revision=None)
    place = conversations._user_of or "trip", "trip"
    assert [each.id for each in (await any_store.sessions.get_session(*place)).messages] == ["e1", "e2"]


async def test_what_cannot_be_stored_is_rejected_before_anything_is_written(any_store: Any) -> None:
    from pydantic_ai.messages import ToolReturnPart

    conversations = conversations_of(any_store)
    (entry,) = chain("1")
    entry.message.parts[:] = [ToolReturnPart("weather", object(), "c1")]
    with pytest.raises(InvalidContent, match="entry 'e1'"):
        await conversations.write_record(record_of(head_id="e1"), new_entries=[entry], expected_revision=None)
    for invalid in ("x" * 513, "\0"):
        with pytest.raises(InvalidContent, match="session_id"):
            await conversations.write_record(record_of(invalid), expected_revision=None)
        with pytest.raises(InvalidContent):
            await conversations.read_record(invalid)
    with pytest.raises(InvalidContent):
        await conversations.write_record(record_of(scope="\ud800", usage=object()), expected_revision=None)
    with pytest.raises(LimitExceeded):
        many = [str(number) for number in range(10_001)]
        await conversations.write_record(record_of(head_id="e10000"), new_entries=chain(*many), expected_revision=None)
    assert list(await any_store.sessions.list_sessions("alice")) == []


async def test_a_conversation_branches_and_returns(conversations: Any) -> None:
    conversation = await _say(conversations, "trip", "1", "2", "3")
    branched = await conversations.branch("trip", at=2, expected_revision=conversation.revision)
    assert texts_of(branched.messages) == ["1", "2"]
    branched.messages.append(answer("4"))
    await conversations.save(branched)
    again = await conversations.load("trip")
    assert texts_of(again.messages) == ["1", "2", "4"]
    (left,) = (await conversations.read_record("trip")).branches
    assert texts_of(await conversations.read_history(left)) == ["1", "2", "3"]
    returned = await conversations.branch("trip", from_entry=str(left), expected_revision=again.revision)
    assert texts_of(returned.messages) == ["1", "2", "3"]
    returned.messages.append(answer("5"))
    await conversations.save(returned)
    assert texts_of((await conversations.load("trip")).messages) == ["1", "2", "3", "5"]
    assert texts_of((await conversations.load("trip", limit=2)).messages) == ["3", "5"]
    assert len((await conversations.read_record("trip")).branches) == 1
    with conflict():
        await conversations.branch("trip", at=1, expected_revision=again.revision)
    emptied = await conversations.branch("trip", at=0, expected_revision=returned.revision)
    assert emptied.messages == []
    assert (await conversations.load("trip")).messages == []


async def test_a_fork_has_copies_of_its_history(any_store: Any, conversations: Any) -> None:
    first = await _say(conversations, "trip", "1", "2", "3")
    branched = await conversations.branch("trip", at=1, expected_revision=first.revision)
    branched.messages.append(answer("4"))
    await conversations.save(branched)
    fork = await conversations.fork("trip", new_conversation_id="fork")
    assert texts_of(fork.messages) == ["1", "4"]
    (left,) = (await conversations.read_record("trip")).branches
    await conversations.fork("trip", from_entry=str(left), new_conversation_id="other")
    with conflict():
        await conversations.fork("trip", at=1, new_conversation_id="other")
    of_fork = await conversations.fork("fork", at=1, new_conversation_id="second")
    assert texts_of(of_fork.messages) == ["1"]
    await _say(conversations, "fork", "5")
    await conversations.delete("trip")
    assert await conversations.load("trip") is None
    for id, expected in (("fork", ["1", "4", "5"]), ("other", ["1", "2", "3"]), ("second", ["1"])):
        assert texts_of((await conversations.load(id)).messages) == expected
        user_id = conversations._user_of or id
        assert (await any_store.sessions.get_session(user_id, id)).message_count == len(expected)


async def test_an_entry_is_found_by_its_id_in_another_process(any_store: Any) -> None:
    from agentstore.adapters.pydantic_ai import EntryNotFound

    conversations = conversations_of(any_store)
    for number in range(3):
        await _say(conversations, f"c{number}", f"{number}", f"{number}b")
    entries = await conversations.load_entries("c1")
    ids = [str(each.id) for each in entries]
    assert (await conversations_of(any_store).read_entry(ids[1])).message == entries[1].message
    assert texts_of(await conversations_of(any_store).read_history(ids[1])) == ["1", "1b"]
    assert await conversations.read_history(ids[1], limit=0) == await conversations.read_history(None) == []
    fork = await conversations.fork("c1", new_conversation_id="fork")
    assert len(fork.messages) == 2
    await conversations.delete("c1")
    for id in (entries[0].id, ids[0]):  # the fork has it
        assert (await conversations.read_entry(id)).message == entries[0].message
    await conversations.delete("fork")
    for id in (entries[0].id, ids[0], "missing", str(uuid4())):
        with pytest.raises(EntryNotFound):
            await conversations.read_entry(id)
        with pytest.raises(LookupError):
            await conversations.read_history(id)
    with pytest.raises(EntryNotFound, match="user_id"):
        await conversations_of(any_store, None).read_entry("missing")


async def test_conversations_are_listed_by_their_last_save(conversations: Any) -> None:
    assert list(await conversations.read_records()) == []
    for number in range(6):
        await _say(conversations, f"c{number}", "1", scope=("a", "b")[number % 2])
    listed = [each.conversation_id for each in await conversations.list_conversations()]
    assert listed == ["c5", "c4", "c3", "c2", "c1", "c0"]
    revision = (await conversations.read_record("c0")).revision
    await conversations.branch("c0", at=0, expected_revision=revision)
    await _say(conversations, "c3", "2")
    for scope, limit, expected in (
        (None, 3, ["c3", "c0", "c5"]),
        ("a", None, ["c0", "c4", "c2"]),
        ("b", 1, ["c3"]),
        ("c", None, []),
        (None, 0, []),
    ):
        found = await conversations.list_conversations(scope=scope, limit=limit)
        assert [each.conversation_id for each in found] == expected


async def test_records_are_listed_by_their_own_time(conversations: Any) -> None:
    """The clocks of their writers differ from that of the database."""
    now = datetime.now(UTC)
    for number, seconds in enumerate((20, -30, 0, 40, -10)):
        record = record_of(f"c{number}", updated_at=now + timedelta(seconds=seconds))
        await conversations.write_record(record, expected_revision=None)
    for limit in (None, 1, 2, 3, 4, 5, 6):
        found = [each.conversation_id for each in await conversations.read_records(limit=limit)]
        assert found == ["c3", "c0", "c2", "c4", "c1"][:limit]


async def test_sessions_of_other_programs_are_no_conversations(any_store: Any) -> None:
    conversations = conversations_of(any_store)
    await any_store.sessions.append("alice", "trip", [Message.user("Hello")])
    await any_store.sessions.set_title("alice", "trip", "A week in Chengdu")
    assert await conversations.load("trip") is None
    assert list(await conversations.read_records()) == []
    conversation = await _say(conversations, "trip", "1")
    await any_store.sessions.append("alice", "trip", [Message.user("meanwhile")])
    conversation.messages.append(answer("2"))
    await conversations.save(conversation)
    assert texts_of((await conversations.load("trip")).messages) == ["1", "2"]
    for limit in (1, 2, 3):
        head = (await conversations.read_record("trip")).head_id
        assert texts_of(await conversations.read_history(head, limit=limit)) == ["1", "2"][-limit:]
    session = await any_store.sessions.get_session("alice", "trip")
    assert (session.title, session.app, len(session.messages)) == ("A week in Chengdu", None, 4)


async def test_a_scope_protects_a_conversation(conversations: Any) -> None:
    await _say(conversations, "trip", "1", scope="alice")
    assert await conversations.load("trip", scope="bob") is None
    assert texts_of((await conversations.load("trip", scope="alice")).messages) == ["1"]
    with conflict():
        await _say(conversations, "trip", "2", scope="bob")
    await conversations.delete("trip", scope="bob")
    assert await conversations.load("trip") is not None
    await conversations.delete("trip", scope="alice")
    assert await conversations.load("trip") is None


async def test_the_owner_may_be_a_function(any_store: Any) -> None:
    user: ContextVar[str] = ContextVar("user")
    conversations = conversations_of(any_store, user.get)
    for each in ("alice", "bob"):
        user.set(each)
        assert await conversations.load("trip") is None
        await _say(conversations, "trip", each)
        assert len(await conversations.list_conversations()) == 1
    user.set("alice")
    assert texts_of((await conversations.load("trip")).messages) == ["alice"]


@pytest.mark.parametrize("with_entries", [True, False])
async def test_one_of_concurrent_writers_wins_each_round(any_store: Any, with_entries: bool) -> None:
    from pydantic_ai.conversation_store import ConversationConflict

    conversations = conversations_of(any_store)
    expected, head = None, None
    for number in range(6):

        async def write(writer: int) -> Any:
            id = f"{number} {writer}"  # noqa: B023 - awaited in this round
            entries = chain(id, after=head) if with_entries else []  # noqa: B023
            record = record_of(head_id=entries[0].id if entries else None)
            try:
                await conversations.write_record(record, new_entries=entries, expected_revision=expected)  # noqa: B023
            except ConversationConflict:
                return None
            return record

        (winner,) = [each for each in await asyncio.gather(*map(write, range(16))) if each is not None]
        assert await conversations.read_record("trip") == winner
        expected, head = winner.revision, winner.head_id
    found = texts_of(await conversations.read_history((await conversations.read_record("trip")).head_id))
    assert [each.split()[0] for each in found] == [str(number) for number in range(6 if with_entries else 0)]
    # Nothing of the others is stored.
    assert (await any_store.sessions.get_session("alice", "trip")).message_count == len(found)


async def test_concurrent_saves_lose_nothing(any_store: Any) -> None:
    from pydantic_ai.conversation_store import ConversationConflict

    conversations = conversations_of(any_store)

    async def add(number: int) -> None:
        while True:
            try:
                await _say(conversations, "trip", str(number))
            except ConversationConflict:
                continue
            return

    await asyncio.gather(*map(add, range(8)))
    assert sorted(texts_of((await conversations.load("trip")).messages)) == [str(number) for number in range(8)]


async def test_concurrent_forks_and_deletions_are_ordered(any_store: Any) -> None:
    from pydantic_ai.conversation_store import ConversationConflict
    from pydantic_ai.exceptions import UserError

    conversations = conversations_of(any_store)
    for number in range(6):
        await _say(conversations, "trip", "1", "2")
        forked: Any
        forked, _ = await asyncio.gather(
            conversations.fork("trip", new_conversation_id=f"fork {number}"),
            conversations.delete("trip"),
            return_exceptions=True,
        )
        assert await conversations.load("trip") is None
        fork = await conversations.load(f"fork {number}")
        if isinstance(forked, (UserError, ConversationConflict)):
            assert fork is None
        else:
            assert texts_of(fork.messages) == texts_of(forked.messages) == ["1", "2"]


def _counted(database_url: str, settings: Settings) -> tuple[AgentStore, list[StatementEvent]]:
    events: list[StatementEvent] = []
    return AgentStore(database_url, settings=settings, telemetry=Telemetry(on_statement=events.append)), events


async def test_a_deep_history_is_read_by_one_statement(database_url: str, settings: Settings) -> None:
    store, events = _counted(database_url, settings)
    async with store:
        conversations = conversations_of(store)
        entries = chain(*map(str, range(10_000)))
        record = record_of(head_id="e9999")
        await conversations.write_record(record, new_entries=entries, expected_revision=None)
        record = await conversations.read_record("trip")
        for limit in (None, 50):
            events.clear()
            found = await conversations.read_history(record.head_id, limit=limit)
            assert texts_of(found) == [str(number) for number in range(10_000)][-(limit or 10_000) :]
            assert [event.name for event in events] == ["sessions.get_before"]
            assert [event.rows for event in events] == [1 + len(found)]
        # An old entry, before many others.
        loaded = await conversations.branch("trip", at=10, expected_revision=record.revision)
        record = await conversations.read_record("trip")
        events.clear()
        assert texts_of(await conversations.read_history(record.head_id, limit=5)) == ["5", "6", "7", "8", "9"]
        assert [(event.name, event.rows) for event in events] == [("sessions.get_before", 6)]
        # A history that leaves a branch of 9,990 entries.
        loaded.messages.append(question("new"))
        await conversations.save(loaded)
        record = await conversations.read_record("trip")
        events.clear()
        assert texts_of(await conversations.read_history(record.head_id, limit=3)) == ["8", "9", "new"]
        assert [event.name for event in events] == ["sessions.get_before"] * 2
        assert sum(event.rows or 0 for event in events) <= 2 * (1 + 3)


async def test_a_fork_may_have_more_entries_than_one_append(any_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentstore.adapters.pydantic_ai import conversations as module

    conversations = conversations_of(any_store)
    await _say(conversations, "trip", *map(str, range(35)))
    monkeypatch.setattr(module, "_LARGEST_BATCH", 10)
    await conversations.fork("trip", new_conversation_id="fork")
    await conversations.delete("trip")
    assert len((await conversations.load("fork")).messages) == 35
    await _say(conversations, "trip", "1")
    with conflict():
        await conversations.fork("fork", new_conversation_id="trip")
    assert (await any_store.sessions.get_session("alice", "trip")).message_count == 1
    # What an interrupted fork has stored is no conversation, and does not prevent another fork with the same id.
    source = await any_store.sessions.get_session("alice", "fork")
    await any_store.sessions.append("alice", "again", source.messages[:10])
    assert await conversations.load("again") is None
    await conversations.fork("fork", at=5, new_conversation_id="again")
    assert len((await conversations.load("again")).messages) == 5


async def test_each_call_executes_few_statements(database_url: str, settings: Settings) -> None:
    from pydantic_ai.conversation import Conversation

    store, events = _counted(database_url, settings)

    async def count(call: Callable[[], Any], expected: int) -> Any:
        events.clear()
        result = await call()
        assert len(events) <= expected, [event.name for event in events]
        return result

    async with store:
        conversations = conversations_of(store)
        conversation = Conversation(conversation_id="trip", messages=[question("1"), answer("2")])
        await conversations.save(conversation)
        conversation.messages.append(question("3"))
        await count(lambda: conversations.save(conversation), 6)  # one is the start, and one the end of a transaction
        conversation = await count(lambda: conversations.load("trip"), 2)
        await count(lambda: conversations.list_conversations(), 1)
        await count(lambda: conversations.branch("trip", at=1, expected_revision=conversation.revision), 9)
        await count(lambda: conversations.delete("trip"), 6)


async def test_a_large_history_is_read_in_parts(database_url: str, settings: Settings) -> None:
    small = settings.model_copy(update={"max_reply_bytes": 100_000})
    async with AgentStore(database_url, settings=small) as store:
        conversations = conversations_of(store)
        for number in range(4):
            await _say(conversations, "trip", *(f"{number} {each} {'x' * 2_000}" for each in range(15)))
        assert len((await conversations.load("trip")).messages) == 60


async def test_a_lost_response_is_no_failure(any_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    conversations = conversations_of(any_store)
    append = any_store.sessions.append

    async def lose(*args: Any, **options: Any) -> None:
        await append(*args, **options)
        raise Unavailable("the connection was lost")

    monkeypatch.setattr(any_store.sessions, "append", lose)
    conversation = await _say(conversations, "trip", "1")
    monkeypatch.undo()
    conversation.messages.append(answer("2"))
    await conversations.save(conversation)
    assert texts_of((await conversations.load("trip")).messages) == ["1", "2"]

    async def fail(*args: Any, **options: Any) -> None:
        raise Unavailable("the connection was lost")

    monkeypatch.setattr(any_store.sessions, "append", fail)
    conversation.messages.append(answer("3"))
    with pytest.raises(Unavailable):
        await conversations.save(conversation)
    monkeypatch.undo()
    await conversations.save(conversation)
    assert texts_of((await conversations.load("trip")).messages) == ["1", "2", "3"]


async def test_a_url_is_used_by_one_pool(database_url: str) -> None:
    with pytest.raises(NotConfigured, match="a store or a url"):
        conversations_of()
    async with conversations_of(url=database_url) as one, conversations_of(url=database_url) as two:
        await _say(one, "trip", "1")
        await one.close()
        await _say(two, "trip", "2")
        assert texts_of((await one.load("trip")).messages) == ["1", "2"]


async def test_nothing_of_a_deleted_user_remains(store: AgentStore, observer: asyncpg.Connection) -> None:
    conversations = conversations_of(store, "alice-secret")
    loaded = await _say(conversations, "trip-secret", "said-secret", "2", scope="scope-secret")
    await conversations.fork("trip-secret", at=1, new_conversation_id="fork-secret")
    branched = await conversations.branch("trip-secret", at=0, expected_revision=loaded.revision)
    branched.messages.append(answer("other-secret"))
    await conversations.save(branched)
    await store.memory.add_sessions("alice-secret")
    await _say(conversations_of(store, "bob"), "trip", "1")
    assert len(await traces(observer, "secret")) > 3
    await store.users.delete_user("alice-secret")
    assert await traces(observer, "secret") == []
    assert texts_of((await conversations_of(store, "bob").load("trip")).messages) == ["1"]
    # Of a conversation that is deleted alone, memories remain.
    await _say(conversations, "trip-secret", "said-secret")
    await conversations.delete("trip-secret")
    assert await traces(observer, "said-secret") == await traces(observer, "trip-secret") == []


async def test_a_conversation_is_exported_restored_and_searched(
    store: AgentStore, other_url: str, direct_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversations = conversations_of(store)
    conversation = await _say(conversations, "trip", "No peppers", "Then the duck", scope="web")
    await conversations.branch("trip", at=1, expected_revision=conversation.revision)
    await conversations.fork("trip", new_conversation_id="fork")
    records = list(await conversations.read_records())
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)
    shown = await asyncio.to_thread(run, "sessions", "show", "alice", "trip")
    assert "Then the duck" in shown.out
    listed = await asyncio.to_thread(run, "sessions", "list", "alice")
    assert "fork" in listed.out
    assert await store.memory.add_sessions("alice") == 3
    found = await store.memory.search_memory("alice", "duck", {"neighbors": False})
    assert [each.text for each in found] == ["Then the duck"]
    file = str(tmp_path / "export")
    assert (await asyncio.to_thread(run, "export", file, "--url", direct_url)).code == 0
    assert (await asyncio.to_thread(run, "import", file, "--url", other_url)).code == 0
    async with AgentStore(other_url) as other:
        restored = conversations_of(other)
        assert sorted(await restored.read_records(), key=str) == sorted(records, key=str)
        assert texts_of(await restored.read_history(records[1].branches[0])) == ["No peppers", "Then the duck"]
        # A fork by agentstore is a conversation too.
        await other.sessions.fork_session("alice", "trip", new_id="copy")
        assert texts_of((await restored.load("copy")).messages) == ["No peppers"]


async def test_conversations_work_under_row_level_security(direct_url: str) -> None:
    role = f"agentstore_pydantic_{uuid4().hex[:8]}"
    psql(direct_url, f"CREATE ROLE {role} LOGIN; {'; '.join(grants(app=role))};")
    try:
        await migrate.enable_row_security(direct_url)
        async with AgentStore(with_role(direct_url, role), settings=Settings(row_level_security=True)) as store:
            for user_id in ("alice", "bob", None):
                conversations = conversations_of(store, user_id)
                loaded = await _say(conversations, "trip", "1", "2", scope="web")
                branched = await conversations.branch("trip", at=1, expected_revision=loaded.revision)
                branched.messages.append(answer(str(user_id)))
                await conversations.save(branched)
                await conversations.fork("trip", new_conversation_id="fork")
                assert texts_of((await conversations.load("fork")).messages) == ["1", str(user_id)]
                if user_id is not None:
                    assert len(await conversations.list_conversations(scope="web")) == 2
                    (left,) = (await conversations.read_record("trip")).branches
                    assert texts_of([await conversations.read_entry(str(left))]) == ["2"]
                else:
                    with pytest.raises(NotConfigured, match="ROW_LEVEL_SECURITY"):
                        await conversations.list_conversations()
            await conversations_of(store, "alice").delete("trip")
            assert texts_of((await conversations_of(store, "bob").load("trip")).messages) == ["1", "bob"]
    finally:
        psql(direct_url, f"DROP OWNED BY {role}; DROP ROLE {role};")
