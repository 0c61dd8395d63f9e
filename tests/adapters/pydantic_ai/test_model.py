"""Random calls of the conversation store and of pydantic-ai's own store in memory have the same results."""

# pyright: reportMissingImports=false
import random
from collections import Counter
from copy import deepcopy
from typing import Any

import pytest

from agentstore import AgentStore
from tests.adapters.pydantic_ai.messages import all_messages, answer, deferred, usage
from tests.adapters.pydantic_ai.test_conversations import conversations_of

pytestmark = pytest.mark.adapters

_IDS = ("a", "b", "c", "")
_SCOPES = (None, "s", "t")


class _Primitives:
    """Random calls of the methods that a store implements."""

    def __init__(self, seed: int, model: Any, stored: Any) -> None:
        self.random = random.Random(seed)
        self.model = model
        self.stored = stored
        self.count = 0
        self.done: Counter[str] = Counter()
        self.revisions: list[Any] = [None, "other"]

    async def same(self, name: str, *args: Any, **options: Any) -> Any:
        """Call a method of both, compare what they return or raise, and return it."""
        results = []
        for each in (self.model, self.stored):
            try:
                results.append(await getattr(each, name)(*deepcopy(args), **deepcopy(options)))
            except Exception as error:  # noqa: BLE001 - the types are compared
                results.append(_kind_of(error))
        expected, found = results
        assert _plain(found) == _plain(expected), (name, args, options)
        self.done[name] += not isinstance(expected, str)
        return expected

    def known_ids(self) -> list[str]:
        """Return the entries that a conversation has: others may be deleted at any time."""
        reachable: list[str] = []
        for record in self.model._records.values():
            for id in (record.head_id, *record.branches):
                while id is not None and id not in reachable:
                    reachable.append(id)
                    id = self.model._entries[id].parent_id
        return reachable

    async def step(self) -> None:
        call = self.random.choice(("write", "write", "write", "write", "write", "delete", "read", "records", "history"))
        await getattr(self, call)()

    async def write(self) -> None:
        from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord

        choose = self.random.choice
        id = choose(_IDS)
        current = self.model._records.get(id)
        known = self.known_ids()
        head = choose([None, *known[-8:], current.head_id if current is not None else None])
        entries = []
        for _ in range(choose((0, 0, 1, 2, 5))):
            self.count += 1
            entries.append(
                ConversationEntry(id=f"e{self.count}", parent_id=head, message=choose(_MESSAGES or [answer("x")]))
            )
            head = choose([head, entries[-1].id, entries[-1].id, entries[-1].id])
        branches = choose([[], known[:1], known[-2:], current.branches if current is not None else []])
        record = ConversationRecord(
            conversation_id=id,
            head_id=choose([head, head, head, "missing"]),
            usage=usage(self.random.randrange(3)),
            deferred_tool_requests=choose([None, deferred()]),
            scope=choose(_SCOPES),
            forked_from=choose([None, *_IDS]),
            forked_at=choose([None, head]),
            # Entries that no conversation has are deleted with any conversation by one store only.
            branches=[*branches, *(each.id for each in entries)],
        )
        expected = choose([current.revision if current is not None else None] * 6 + self.revisions[-4:])
        if expected != record.revision:
            self.revisions.append(record.revision)
        await self.same("write_record", record, new_entries=entries, expected_revision=expected)

    async def delete(self) -> None:
        id = self.random.choice(_IDS)
        current = self.model._records.get(id)
        revision = current.revision if current is not None and self.random.random() < 0.7 else "other"
        await self.same("delete_record", id, expected_revision=revision)

    async def read(self) -> None:
        await self.same("read_record", self.random.choice(_IDS))
        for id in [*self.random.sample(known := self.known_ids(), min(3, len(known))), "missing"]:
            await self.same("read_entry", id)

    async def records(self) -> None:
        await self.same("read_records", scope=self.random.choice(_SCOPES), limit=self.random.choice((None, 0, 1, 2, 9)))

    async def history(self) -> None:
        head = self.random.choice([None, "missing", *self.known_ids()])
        await self.same("read_history", head, limit=self.random.choice((None, -1, 0, 1, 2, 3, 9)))
        # An id of a record that was read names its conversation.
        record = await self.stored.read_record(self.random.choice(_IDS))
        for id in [] if record is None else [record.head_id, *record.branches]:
            found = await self.stored.read_history(id, limit=3)
            assert _plain(found) == _plain(await self.model.read_history(id, limit=3))


class _Conversations(_Primitives):
    """Random calls of the methods that applications use."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.loaded: dict[str, tuple[Any, Any]] = {}

    async def step(self) -> None:
        calls = ("open", "save", "save", "save", "branch", "switch", "fork", "drop", "records", "entries")
        await getattr(self, self.random.choice(calls))()

    async def both(self, name: str, arguments: list[tuple[Any, ...]], **options: Any) -> Any:
        """Call a method of both, each with its own objects; return what they return, or None if they raise."""
        results = []
        for each, own in zip((self.model, self.stored), arguments, strict=True):
            try:
                results.append(await getattr(each, name)(*own[:1], **options, **(own[1] if len(own) > 1 else {})))
            except Exception as error:  # noqa: BLE001 - the types are compared
                results.append(_kind_of(error))
        expected, found = results
        assert _comparable(found) == _comparable(expected), (name, options)
        self.done[name] += not isinstance(expected, str)
        return None if isinstance(expected, str) else (expected, found)

    async def open(self) -> None:
        from pydantic_ai.conversation import Conversation

        id, limit = self.random.choice(_IDS), self.random.choice((None, None, 0, 1, 3))
        pair = await self.both("load", [(id,), (id,)], limit=limit, scope=self.random.choice((None, None, "s")))
        if pair is not None and pair[0] is not None:
            self.loaded[id] = pair
        elif id not in self.loaded or self.random.random() < 0.2:
            self.loaded[id] = (Conversation(conversation_id=id), Conversation(conversation_id=id))

    async def save(self) -> None:
        if not self.loaded:
            return
        id = self.random.choice(list(self.loaded))
        pair = self.loaded[id]
        added = [self.random.choice(_MESSAGES) for _ in range(self.random.choice((0, 1, 2, 3)))]
        cut = self.random.choice((0, 0, 0, 0, 1))
        spent = usage(self.random.randrange(3))
        for each in pair:
            each.messages[:] = [*each.messages[: len(each.messages) - cut], *deepcopy(added)]
            each.usage = deepcopy(spent)
        await self.both("save", [(each,) for each in pair], scope=self.random.choice((None, None, None, "s", "t")))

    async def branch(self) -> None:
        id, at = self.random.choice(_IDS), self.random.choice((0, 1, 2, 3, 9))
        await self._branch(id, [{"at": at}, {"at": at}])

    async def switch(self) -> None:
        """Return to the same entry of a branch in both, which have ids of their own."""
        id = self.random.choice(_IDS)
        records = [await each.read_record(id) for each in (self.model, self.stored)]
        if records[0] is None or not records[0].branches:
            return
        number = self.random.randrange(len(records[0].branches))
        lines = [
            await each.read_history(record.branches[number])
            for each, record in zip((self.model, self.stored), records, strict=True)
        ]
        place = self.random.randrange(len(lines[0]))
        await self._branch(id, [{"from_entry": str(line[place].id)} for line in lines])

    async def _branch(self, id: str, options: list[dict[str, Any]]) -> None:
        revisions = []
        for each in (self.model, self.stored):
            record = await each.read_record(id)
            revisions.append(None if record is None else record.revision)
        own = [(id, {**each, "expected_revision": at}) for each, at in zip(options, revisions, strict=True)]
        if (pair := await self.both("branch", own)) is not None:
            self.loaded[id] = pair

    async def fork(self) -> None:
        source, target = self.random.choice(_IDS), self.random.choice(_IDS)
        options = {"at": self.random.choice((None, 0, 1, 2)), "new_conversation_id": target}
        if (pair := await self.both("fork", [(source,), (source,)], **options)) is not None:
            self.loaded[target] = pair

    async def drop(self) -> None:
        if self.random.random() < 0.5:
            id = self.random.choice(_IDS)
            await self.both("delete", [(id,), (id,)], scope=self.random.choice((None, "s")))

    async def records(self) -> None:
        options = {"scope": self.random.choice(_SCOPES), "limit": self.random.choice((None, 0, 1, 2))}
        await self.both("list_conversations", [(), ()], **options)

    async def entries(self) -> None:
        id = self.random.choice(_IDS)
        await self.both("load_entries", [(id,), (id,)], limit=self.random.choice((None, 0, 1, 3)))


_MESSAGES: list[Any] = []


@pytest.fixture(autouse=True)
def _messages() -> None:
    """Messages as the package reads them from JSON: images in BinaryContent are of another type then."""
    from pydantic_ai.messages import ModelMessagesTypeAdapter

    if not _MESSAGES:
        _MESSAGES.extend(ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(all_messages())))


def _kind_of(error: Exception) -> str:
    """Return the kind of an error: that of the interface, or a failed look-up."""
    if isinstance(error, LookupError):
        return "LookupError"
    if not type(error).__module__.startswith("pydantic_ai."):
        raise error
    return type(error).__name__


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _comparable(value: Any) -> Any:
    """Return what is equal in both stores, which create ids, revisions and times of their own."""
    if isinstance(value, (list, tuple)):
        return [_comparable(each) for each in value]
    if value is None or isinstance(value, str):
        return value
    if hasattr(value, "messages"):
        return value.conversation_id, value.messages, value.usage, value.new_message_index
    if hasattr(value, "message"):
        return value.message, value.parent_id is None
    forked = value.forked_from, value.forked_at is None
    return value.conversation_id, value.usage, value.scope, value.head_id is None, len(value.branches), forked


@pytest.fixture(params=["Postgres", "InMemory"])
def any_store(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("store") if request.param == "Postgres" else AgentStore.in_memory()


@pytest.mark.parametrize("kind", [_Primitives, _Conversations])
async def test_random_calls_have_the_results_of_the_store_in_memory(any_store: Any, kind: Any) -> None:
    await _compare(any_store, kind, range(6), 60)


async def _compare(store: Any, kind: Any, seeds: range, steps: int) -> None:
    from pydantic_ai.conversation_store import InMemoryConversationStore

    done: Counter[str] = Counter()
    for seed in seeds:
        calls = kind(seed, InMemoryConversationStore(), conversations_of(store, f"user {seed}"))
        for number in range(steps):
            try:
                await calls.step()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, step {number}") from error
        done += calls.done
    written, returned = ("write_record", "read_history") if kind is _Primitives else ("save", "branch")
    assert min(done[written], done[returned]) > len(seeds)
