"""Entries of Claude Code's transcripts become Messages, and are the same entries again, whatever they are."""

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstore import InMemorySessionHistoryService, InvalidContent, Message, StoredMessages
from agentstore.adapters.claude_agent_sdk.entries import KEY, entries_of, is_memorable, message_of
from agentstore.adapters.claude_agent_sdk.keys import app_of, place_of
from agentstore.exact_json import dumps
from tests.adapters.claude_agent_sdk.entries import ALL, ENTRIES, OTHER_ENTRIES


async def _stored(*messages: Message) -> StoredMessages:
    service = InMemorySessionHistoryService()
    await service.append("alice", "s", list(messages))
    stored = await service.read_messages("alice", "s")
    assert stored is not None
    return stored


@pytest.mark.parametrize("name", ENTRIES)
async def test_a_message_of_the_transcript_is_an_ordinary_message(name: str) -> None:
    entry, message_type, role, text = ENTRIES[name]
    before = dumps(entry)
    message = message_of(entry)
    assert (message.type, message.role, message.text) == (message_type, role, text)
    assert message.id == entry["uuid"]
    assert message.metadata is not None
    assert message.metadata["timestamp"] == entry["timestamp"]
    assert is_memorable(message) == (message_type == "message" and text != "" and not entry.get("isMeta"))
    stored = await _stored(message)
    assert dumps(entries_of(stored)) == dumps([entry])
    assert dumps(entry) == before


@pytest.mark.parametrize("name", OTHER_ENTRIES)
async def test_any_other_entry_is_stored_as_data(name: str) -> None:
    entry = OTHER_ENTRIES[name]
    message = message_of(entry)
    assert message.role == "system"
    assert not is_memorable(message)
    assert message.content is not None
    assert [part.type for part in message.content] == ["data"]
    assert dumps(entries_of(await _stored(message))) == dumps([entry])


async def test_entries_are_restored_in_order() -> None:
    messages = [message_of(each) for each in ALL]
    assert dumps(entries_of(await _stored(*messages))) == dumps(ALL)


def test_calls_and_outputs_are_those_of_other_apis() -> None:
    call, output = (message_of(ENTRIES[name][0]) for name in ("a call", "an output"))
    assert call.to_openai()["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"杭州"}'}
    assert output.to_openai() == {"role": "tool", "tool_call_id": "toolu_1", "content": "3 mm"}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from(
    ["type", "text", "thinking", "id", "name", "input", "tool_use_id", "content", "source", "data", "media_type"]
)
_TYPES = st.sampled_from(["text", "thinking", "redacted_thinking", "tool_use", "tool_result", "image", "base64", "url"])
_SOURCES = st.fixed_dictionaries({}, optional={"type": _TYPES, "media_type": st.text(max_size=5), "data": st.text()})
_BLOCKS = st.dictionaries(_NAMES, _JSON | _TYPES | _SOURCES, max_size=5)
_CONTENT = st.text() | st.lists(_BLOCKS, max_size=3) | _JSON
_MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": _CONTENT}, optional={"id": _JSON}
)
_ENTRIES = st.fixed_dictionaries(
    {"type": st.sampled_from(["user", "assistant"]) | _JSON, "message": _MESSAGES | _JSON},
    optional={"timestamp": _JSON, "content": _JSON, "entry": _JSON},
)


@given(st.lists(_ENTRIES, max_size=4))
async def test_whatever_an_entry_has_round_trips_unchanged(entries: list[dict[str, Any]]) -> None:
    if entries:
        stored = await _stored(*map(message_of, entries))
        assert dumps(entries_of(stored)) == dumps(entries)


async def test_messages_of_others_and_damaged_ones_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    whole = message_of(ENTRIES["a prompt"][0])
    damaged = [message_of(each) for each, *_ in ENTRIES.values()]
    for number, message in enumerate(damaged):
        message.id = str(number)
        message.content = None
    records: list[Any] = [
        None,
        [],
        {"entry": None},
        {"entry": {"message": 1}},
        {"entry": {"message": {"content": [7]}}},
    ]
    damaged += [Message.user("x", id=f"r{n}", metadata={KEY: each}) for n, each in enumerate(records)]
    with caplog.at_level(logging.WARNING):
        stored = await _stored(Message.user("of another program", metadata={"x": 1}), *damaged, whole)
        assert entries_of(stored) == [ENTRIES["a prompt"][0]]
    assert caplog.text.count("left out") == len(damaged) - 2


def test_a_redacted_message_is_a_redacted_entry() -> None:
    entry = ENTRIES["an answer"][0]
    message = message_of(entry).model_copy(update={"content": Message.user("[removed]").content})
    (restored,) = entries_of(StoredMessages([dumps(message.model_dump(exclude_defaults=True))]))
    assert restored == {**entry, "message": {**entry["message"], "content": [{"type": "text", "text": "[removed]"}]}}


def test_an_entry_that_is_not_an_object_is_refused() -> None:
    for invalid in ("text", None, ["type"]):
        with pytest.raises(InvalidContent, match="entry 3"):
            message_of(invalid, 3)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.text("a/%2F \n密", max_size=4), st.text("a/%2F \n密", max_size=4)), min_size=2, max_size=2)
)
def test_different_keys_have_different_places(keys: list[tuple[str, str]]) -> None:
    places = [place_of({"project_key": project, "session_id": id}, None) for project, id in keys]
    assert (places[0] == places[1]) == (keys[0] == keys[1])
    subs = [place_of({"project_key": project, "session_id": "s", "subpath": f"x{id}"}, None) for project, id in keys]
    assert (subs[0] == subs[1]) == (keys[0] == keys[1])
    assert not set(places) & set(subs)
    assert all(each.session_id == each.session_id.strip() for each in places + subs)
    # Sessions of projects and of subagents are never in the same list.
    assert not {each.app for each in places} & {each.app for each in subs}
    assert {each.app for each in places} == {app_of(project) for project, _ in keys}


def test_an_invalid_key_is_refused() -> None:
    keys: list[Any] = [
        *(None, "key", {}, {"project_key": "p"}, {"session_id": "s"}, {"project_key": "p", "session_id": None}),
        *({"project_key": "p", "session_id": "s", "subpath": each} for each in ("", 1)),
    ]
    for key in keys:
        with pytest.raises(InvalidContent, match="key"):
            place_of(key, None)
    with pytest.raises(InvalidContent, match="project_key"):
        app_of(None)  # type: ignore[arg-type]
    assert place_of({"project_key": "p", "session_id": "s", "subpath": None}, "alice").session_id == "s/p"
