"""Any Python value in any field is either refused before anything is written, or read by every path, equal."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import RootModel

from agentstore import (
    AgentStore,
    Extraction,
    InMemoryMemoryService,
    InMemorySessionHistoryService,
    InMemoryStateService,
    InvalidContent,
    LimitExceeded,
    MemoryItem,
    Message,
    Settings,
    schemas,
)
from tests.support.cli import run
from tests.support.values import (
    PARTS,
    PLACES,
    Given,
    any_object,
    any_value,
    as_read,
    exactly,
    message_with,
    plain,
)

_REFUSALS = (InvalidContent, LimitExceeded)


@pytest.fixture(autouse=True)
def only_unprintable_types_are_ignored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Allow one kind of ignored exception: pydantic cannot print a part's type that contains a very large integer."""
    ignored: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: ignored.append(str(each.exc_value)))
    yield
    assert [each for each in ignored if "integer string conversion" not in each] == []


_OBJECTS = [Fraction(1, 3), Decimal("1.5"), UUID(int=1), RootModel[str]("x")]


@pytest.mark.parametrize("value", _OBJECTS, ids=lambda value: type(value).__name__)
async def test_an_object_in_a_message_without_validation_is_refused(value: Any) -> None:
    for how in ("model", "parts"):
        for place in PLACES:
            accepted = Accepted()
            await _try_message(place, value, how, 1, accepted)
            assert accepted.refused == 1, (place, how)


_FIELDS = ("title", "ttl", "session metadata", "user metadata", "state", "state metadata", "item", "filter")


@dataclass
class Accepted:
    """The accepted values, as they are to be read."""

    messages: dict[str, Message] = field(default_factory=dict)
    fields: list[tuple[str, str, Any]] = field(default_factory=list)
    """The kind, the field (of an item or a filter) and the value."""
    refused: int = 0
    since: float = field(default_factory=time.monotonic)
    """When the first was accepted: those with a short time to live have expired in the long form of the test."""


def _message(place: Sequence[str], value: Any, how: str, id: str) -> Any:
    """Return a message with the value at a place: a dict, or a Message that was not validated."""
    fields = message_with(place, value, id)
    if how == "dict":
        return fields
    content = fields["content"]
    if isinstance(content, list) and how == "parts":
        content = [_part(each) for each in content]
    return Message.model_construct(**{**fields, "content": content})


def _part(fields: Any) -> Any:
    """Return a part of a content that was not validated, if the fields name its kind."""
    type_ = fields.get("type") if isinstance(fields, dict) else None
    kind = PARTS.get(str.__str__(type_)) if isinstance(type_, str) else None
    return fields if kind is None else kind.model_construct(**fields)


def _expected(message: Any) -> Message:
    """Return the message to be read for an accepted one."""
    if not isinstance(message, Message):
        message = Message.model_validate(message)
    return Message.model_validate(plain(as_read(message.model_dump(serialize_as_any=True, warnings=False))))


def _expected_item(item: Any) -> MemoryItem:
    """Return the item to be read for an accepted one."""
    return MemoryItem.model_validate(as_read(MemoryItem.model_validate(item).model_dump(serialize_as_any=True)))


async def _is_accepted(call: Any) -> bool:
    try:
        await call
    except _REFUSALS:
        return False
    return True


def _same(path: str, found: Message | None, expected: Message) -> None:
    assert found is not None, path
    assert exactly(found) == exactly(expected), path


async def _try_message(place: Sequence[str], value: Any, how: str, number: int, accepted: Accepted) -> None:
    """Append and add a message in memory, and read it by every path if it is accepted."""
    sessions, memory = InMemorySessionHistoryService(), InMemoryMemoryService()
    message = _message(place, value, how, f"m{number}")
    session = await sessions.create_session("u", "s")
    is_accepted = await _is_accepted(sessions.append_message(session, message))
    if is_accepted and isinstance(message, dict) and message["id"] is None:
        message = session.messages[0]  # with the id that was generated
    assert is_accepted == await _is_accepted(memory.add_memory("u", message, "s"))
    if not is_accepted:
        accepted.refused += 1
        assert await sessions.get_session("u", "s") == await sessions.create_session("u", "s")
        return
    expected = _expected(message)
    stored = await sessions.get_session("u", "s")
    assert stored is not None
    _same("get", stored.messages[0], expected)
    read = await sessions.read_messages("u", "s")
    assert read is not None
    _same("dicts", Message.model_validate(read.dicts()[0]), expected)
    _same("json", Message.model_validate(json.loads(read.json())[0]), expected)
    _same("list_memory", (await memory.list_memory("u"))[0], expected)
    if isinstance(expected.id, str) and expected.id not in accepted.messages:
        accepted.messages[expected.id] = expected


async def _try_field(kind: str, name: str, value: Any, accepted: Accepted) -> None:
    """Store a value of another kind in memory, and read it if it is accepted."""
    sessions, states, memory = InMemorySessionHistoryService(), InMemoryStateService(), InMemoryMemoryService()
    if kind in ("title", "ttl", "session metadata"):
        argument = kind.removeprefix("session ")
        is_accepted = await _is_accepted(sessions.create_session("u", "s", **{argument: value}))
        if is_accepted:
            (listed,) = await sessions.list_sessions("u")
            expected = {} if value is None and argument == "metadata" else value
            assert exactly(getattr(listed, argument)) == exactly(as_read(expected))
    elif kind == "user metadata":
        is_accepted = await _is_accepted(sessions.create_session("u", "s", metadata=value)) and value is not None
    elif kind in ("state", "state metadata"):
        values = {"state": value} if kind == "state" else {"state": {}, "metadata": value}
        is_accepted = await _is_accepted(states.save_state("u", **values))
        if is_accepted:
            (listed_round,) = await states.list_states("u")
            read = await states.export_state("u") if kind == "state" else listed_round.metadata
            assert exactly(read) == exactly({} if value is None else as_read(value))
    elif kind == "item":
        item = {"id": "i", "text": "zebra", name: value}
        is_accepted = await _is_accepted(memory.save_items("u", item))
        if is_accepted:
            expected_item = _expected_item(item)
            (listed_item,) = await memory.list_items("u", with_invalid=True)
            assert exactly(listed_item) == exactly(expected_item)
    else:
        filters: Any = {name: value}
        is_accepted = await _is_accepted(memory.search("u", "zebra", filters))
    if is_accepted:
        accepted.fields.append((kind, name, value))
    else:
        accepted.refused += 1


_ITEM_FIELDS = [*MemoryItem.model_fields, "a_later_field"]
_FILTERS = [
    "top_k",
    "order",
    "session_id",
    "role",
    "kind",
    "since",
    "until",
    "valid_at",
    "now",
    "min_score",
    "strategy",
    "x",
]
_values = st.builds(Given, any_object | any_value)
_one_value = st.one_of(
    st.tuples(st.just("message"), st.sampled_from(PLACES), _values, st.sampled_from(["dict", "model", "parts"])),
    st.tuples(st.sampled_from(_FIELDS), st.sampled_from([*_ITEM_FIELDS, *_FILTERS]), _values, st.just("")),
)


def _try(count: int) -> Accepted:
    """Try this many values in memory; return those that were accepted."""
    accepted = Accepted()
    tried = 0
    per_example = 10

    with asyncio.Runner() as runner:

        @settings(
            max_examples=count // per_example,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # the note says which of the values it was
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(_one_value, min_size=per_example, max_size=per_example))
        def try_values(values: list[Any]) -> None:
            nonlocal tried

            async def run_all() -> None:
                nonlocal tried
                for kind, place, value, how in values:
                    tried += 1
                    try:
                        if kind == "message":
                            await _try_message(place, value.value, how, tried, accepted)
                        else:
                            name = place if kind in ("item", "filter") else ""
                            await _try_field(kind, name, value.value, accepted)
                    except BaseException as error:
                        error.add_note(f"{kind} {place} {value} {how}")
                        raise

            runner.run(run_all())

        try_values()
    assert tried >= count
    return accepted


class _Recorder:
    """An extractor that stores the messages that it gets."""

    name = "recorder"
    kinds = ("fact",)

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}

    async def extract(self, messages: Any, existing: Any) -> Extraction:
        self.messages.update({each.id: each for each in messages})
        return Extraction()


_CHUNK = 500


async def _store(store: AgentStore, accepted: Accepted) -> None:
    """Store the accepted values: messages in batches, and the others one by one."""
    messages = list(accepted.messages.values())
    for start in range(0, len(messages), _CHUNK):
        session = await store.sessions.create_session("u", f"messages {start}")
        await store.sessions.append_message(session, messages[start : start + _CHUNK])
        await store.memory.add_memory("u", messages[start : start + _CHUNK], f"messages {start}")
    for number, (kind, name, value) in enumerate(accepted.fields):
        key = f"{kind} {number}"
        if kind in ("title", "ttl", "session metadata"):
            await store.sessions.create_session("u", key, **{kind.removeprefix("session "): value})
        elif kind == "user metadata":
            await store.users.set_metadata(key, value)
        elif kind == "state":
            await store.states.save_state("u", value, key)
        elif kind == "state metadata":
            await store.states.save_state("u", {}, key, metadata=value)
        elif kind == "item":
            await store.memory.save_items("u", {"id": key, "text": "zebra", **({} if name == "id" else {name: value})})
        elif name != "strategy":
            filters: Any = {name: value}
            await store.memory.search("u", "zebra", filters)


async def _read(store: AgentStore, accepted: Accepted) -> None:
    """Read everything by every path, and compare it with what was accepted."""
    messages = list(accepted.messages.values())
    for start in range(0, len(messages), _CHUNK):
        expected, id = messages[start : start + _CHUNK], f"messages {start}"
        session = await store.sessions.get_session("u", id)
        read = await store.sessions.read_messages("u", id)
        assert session is not None
        assert read is not None
        for path, found in {
            "get_session": session.messages,
            "read_messages": list(read),
            "dicts": [Message.model_validate(each) for each in read.dicts()],
            "json": [Message.model_validate(each) for each in json.loads(read.json())],
            "iter_messages": [each async for each in store.sessions.iter_messages("u", id)],
        }.items():
            assert len(found) == len(expected), path
            for one, other in zip(found, expected, strict=True):
                _same(path, one, other)
    listed: dict[str, Message] = {}
    cursor = None
    while True:
        page = await store.memory.list_memory("u", {"page_size": 1_000, "cursor": cursor})
        listed |= {each.id: each for each in page}
        if (cursor := page.next_cursor) is None:
            break
    for message in messages:
        _same("list_memory", listed.get(message.id), message)
    hits = await store.memory.search("u", "zebra", {"top_k": 1_000, "kind": "message"})
    assert len(hits) >= min(1_000, sum(_says_zebra(each) for each in messages))
    for hit in hits:
        _same("search", hit.message, accepted.messages[hit.message.id])
    sessions = {each.id: each for each in await store.sessions.list_sessions("u")}
    items = {each.id: each async for each in _items(store)}
    for number, (kind, name, value) in enumerate(accepted.fields):
        key = f"{kind} {number}"
        if kind in ("title", "ttl", "session metadata"):
            argument = kind.removeprefix("session ")
            if kind == "ttl" and key not in sessions:
                assert value <= time.monotonic() - accepted.since, "not expired"
                continue
            expected_value = {} if value is None and argument == "metadata" else value
            assert exactly(getattr(sessions[key], argument)) == exactly(as_read(expected_value))
        elif kind == "user metadata":
            user = await store.users.get_user(key)
            assert user is not None
            assert exactly(user.metadata) == exactly(as_read(value))
        elif kind == "state":
            assert exactly(await store.states.export_state("u", key)) == exactly(as_read(value))
            assert await store.states.diff_states("u", 1, 1, key) == []
        elif kind == "state metadata":
            (listed_round,) = await store.states.list_states("u", key)
            assert exactly(listed_round.metadata) == exactly({} if value is None else as_read(value))
        elif kind == "item" and name != "id":
            expected_item = _expected_item({"id": key, "text": "zebra", name: value})
            assert exactly(items[key]) == exactly(expected_item)


def _says_zebra(message: Message) -> bool:
    first = message.content[0] if message.content else None
    return isinstance(first, schemas.TextContent) and first.text == "zebra"


async def _items(store: AgentStore) -> Any:
    cursor = None
    while True:
        page = await store.memory.list_items("u", with_invalid=True, limit=1_000, cursor=cursor)
        for each in page:
            yield each
        if (cursor := page.next_cursor) is None:
            return


async def _copy(store: AgentStore, accepted: Accepted) -> None:
    """Fork and rewind each session of messages."""
    messages = list(accepted.messages.values())
    for start in range(0, len(messages), _CHUNK):
        expected, id = messages[start : start + _CHUNK], f"messages {start}"
        fork = await store.sessions.fork_session("u", id)
        half = len(expected) // 2
        rewound = await store.sessions.rewind_session("u", fork.id, half, new_id=f"before {start}")
        kept = await store.sessions.get_session("u", f"before {start}")
        assert kept is not None
        for path, found in {"fork": fork.messages, "rewind": rewound.messages + kept.messages}.items():
            for one, other in zip(found, expected, strict=True):
                _same(path, one, other)
        for each in (fork.id, f"before {start}"):
            await store.sessions.delete_session("u", each)


def _check_commands(url: str, accepted: Accepted, folder: Path) -> None:
    """Compare what the commands print and write."""
    messages = list(accepted.messages.values())
    shown = run("sessions", "show", "u", "messages 0", "--json", "--url", url).json()["messages"]
    for one, other in zip(shown, messages[:_CHUNK], strict=True):
        fields = {name: each for name, each in one.items() if name not in ("seq", "created_at")}
        _same("sessions show --json", Message.model_validate(fields), other)
    shown_text = run("sessions", "show", "u", "messages 0", "--url", url)
    assert shown_text.code == 0, shown_text.err
    listed = run("states", "list", "u", "--json", "--url", url)
    assert listed.code == 0, listed.err
    file = folder / "sessions.jsonl"
    assert run("sessions", "export", "u", "-o", str(file), "--url", url).code == 0
    exported = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    first = next(each for each in exported if each["id"] == "messages 0")
    for one, other in zip(first["messages"], messages, strict=False):
        _same("sessions export", Message.model_validate(one), other)


def _without_timestamp(message: Message) -> Message:
    """Return a message without the timestamp that an extractor gets with each."""
    metadata = {key: each for key, each in (message.metadata or {}).items() if key != "timestamp"}
    return message.model_copy(update={"metadata": metadata})


@pytest.mark.parametrize("count", [300, pytest.param(100_000, marks=pytest.mark.chaos)])
async def test_whatever_is_accepted_is_read_by_every_path(
    count: int, database_url: str, direct_url: str, other_url: str, settings: Settings, tmp_path: Path
) -> None:
    accepted = await asyncio.to_thread(_try, count)
    assert len(accepted.messages) + len(accepted.fields) > count // 10
    assert accepted.refused > count // 10
    recorder = _Recorder()
    settled = settings.model_copy(update={"extraction_settle": 0.0})
    async with AgentStore(database_url, settings=settled, extractor=recorder) as store:
        await _store(store, accepted)
        await _read(store, accepted)
        await _copy(store, accepted)
        done = await store.memory.extract(limit=10_000)
        assert [each.error for each in done if each.error is not None] == []
        for id, message in recorder.messages.items():
            expected = accepted.messages[id]
            rest = {k: v for k, v in (message.metadata or {}).items() if k != "timestamp"}
            assert exactly(rest) == exactly({k: v for k, v in (expected.metadata or {}).items() if k != "timestamp"})
            _same(
                "extract", message.model_copy(update={"metadata": None}), expected.model_copy(update={"metadata": None})
            )
        assert recorder.messages.keys() == accepted.messages.keys()
        await asyncio.to_thread(_check_commands, direct_url, accepted, tmp_path)
        with (tmp_path / "export.jsonl").open("w+b") as file:
            assert await store.export(file) is not None
            async with AgentStore(other_url) as other:
                done_restore = await other.restore(file)
                assert done_restore.left == []
                await _read(other, accepted)
