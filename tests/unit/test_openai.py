"""Converting OpenAI's messages and items to Messages and back, without loss."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from agentstore import (
    AudioContent,
    DataContent,
    FileContent,
    ImageContent,
    InvalidContent,
    Message,
    RefusalContent,
    Settings,
    StoredMessages,
    TextContent,
)
from agentstore.schemas.payload import load_messages, prepare_messages

_SETTINGS = Settings(database_url="postgresql://app@db/agents")

# Generated messages and items of every type, with fields that agentstore does not know.

_text = st.text(max_size=8)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=5,
)
_arguments = st.sampled_from(["{}", '{"a": 1}', "", "[1]", "not JSON"]) | _text
_id = st.sampled_from(["call_1", "call_2", "msg_1", "fc_1", "rs_1", "msg_1/1", "__fake_id__"])


def _object(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects with these fields, some of the optional ones, and a few others."""
    known = st.fixed_dictionaries(required, optional=optional)
    names = st.sampled_from(["custom", "created_at", "cache_control", "timestamp", "message.name"])
    other = st.dictionaries(names, _json | st.just(1_700_000_000), max_size=1)
    return st.tuples(st.one_of(st.just({}), st.just({}), other), known).map(lambda both: {**both[0], **both[1]})


_url = st.sampled_from(["https://x/y.png", "data:image/png;base64,AA=="])
_audio = st.fixed_dictionaries({}, optional={"data": _text, "format": st.sampled_from(["wav", "mp3"]), "id": _text})
_file = st.fixed_dictionaries(
    {}, optional={"file_id": _text, "filename": st.none() | _text, "file_data": _text, "file_url": _url}
)
_chat_parts = st.lists(
    st.one_of(
        _object({"type": st.just("text"), "text": _text}, annotations=_json),
        _object(
            {
                "type": st.just("image_url"),
                "image_url": st.fixed_dictionaries(
                    {"url": _url}, optional={"detail": st.sampled_from(["low", "auto"])}
                ),
            }
        ),
        _object({"type": st.just("input_audio"), "input_audio": _audio}),
        _object({"type": st.just("file"), "file": _file}),
        _object({"type": st.just("refusal"), "refusal": _text}),
        _object({"type": st.just("video_url"), "video_url": st.fixed_dictionaries({"url": _url})}),
    ),
    max_size=3,
)
_function = st.fixed_dictionaries({"name": _text, "arguments": _arguments}, optional={"strict": st.booleans()})
_calls = st.lists(
    st.one_of(
        _object({"id": _id, "type": st.just("function"), "function": _function}, index=st.integers(0, 3)),
        _object(
            {"id": _id, "type": st.just("custom"), "custom": st.fixed_dictionaries({"name": _text, "input": _text})}
        ),
        st.fixed_dictionaries({"function": st.fixed_dictionaries({"name": _text, "arguments": _json})}),
    ),
    max_size=3,
)
_name = st.sampled_from(["Ann", "a b", "", "<x>"])
_chat_content = st.none() | _text | _chat_parts
_chat = st.one_of(
    _object(
        {"role": st.sampled_from(["user", "system", "developer"]), "content": _chat_content},
        name=_name,
        id=_id,
        metadata=st.dictionaries(st.sampled_from(["name", "role", "openai", "k"]), _json, max_size=2),
        time=st.sampled_from(["2024-01-01", ""]),
    ),
    _object(
        {"role": st.just("assistant"), "content": _chat_content},
        name=_name,
        id=_id,
        refusal=st.none() | _text,
        audio=st.none() | _audio,
        tool_calls=st.none() | _calls,
        function_call=st.none() | _function,
        reasoning_content=st.none() | _text,
        annotations=_json,
    ),
    _object({"role": st.just("assistant"), "tool_calls": _calls.filter(bool)}),
    _object({"role": st.just("tool"), "content": _chat_content}, tool_call_id=st.none() | _id, name=_name),
    _object({"role": st.just("function"), "content": _chat_content, "name": _name}),
)

_item_parts = st.lists(
    st.one_of(
        _object({"type": st.just("input_text"), "text": _text}),
        _object({"type": st.just("output_text"), "text": _text}, annotations=st.just([]), logprobs=st.just([])),
        _object({"type": st.just("input_image")}, image_url=_url, file_id=_text, detail=st.just("auto")),
        _object({"type": st.just("input_file")}, file_id=_text, filename=_text, file_data=_text, file_url=_url),
        _object({"type": st.just("input_audio"), "input_audio": _audio}),
        _object({"type": st.just("refusal"), "refusal": _text}),
    ),
    max_size=3,
)
_status = st.none() | st.sampled_from(["in_progress", "completed", "incomplete", "failed"])
_summary = st.lists(_object({"type": st.just("summary_text"), "text": _text}), max_size=2)
_reasons = st.lists(_object({"type": st.just("reasoning_text"), "text": _text}), max_size=2)
_item = st.one_of(
    _object(
        {
            "type": st.just("message"),
            "role": st.sampled_from(["user", "assistant", "system", "developer"]),
            "content": _text | _item_parts,
        },
        id=_id,
        status=_status,
        phase=st.just("commentary"),
    ),
    _object({"role": st.just("user"), "content": _item_parts.filter(lambda parts: parts[:1] and "text" in parts[0])}),
    _object(
        {"type": st.just("function_call"), "call_id": _id, "name": _text, "arguments": _arguments},
        id=_id,
        status=_status,
    ),
    _object(
        {"type": st.just("function_call_output"), "call_id": _id, "output": _arguments | _item_parts},
        id=_id,
        status=_status,
    ),
    _object({"type": st.just("custom_tool_call"), "call_id": _id, "name": _text, "input": _text}, id=_id),
    _object({"type": st.just("custom_tool_call_output"), "call_id": _id, "output": _text | _item_parts}, id=_id),
    _object(
        {"type": st.just("reasoning"), "summary": _summary},
        id=_id,
        content=st.none() | _reasons,
        encrypted_content=st.none() | _text,
        status=_status,
    ),
    *(
        _object({"type": st.just(kind), "id": _id}, status=_status, action=_json, name=_text, output=_json)
        for kind in ("web_search_call", "mcp_call", "mcp_list_tools", "mcp_approval_request", "computer_call_output")
    ),
    _object({"type": st.just("item_reference"), "id": _id}),
)


def _stored(messages: Sequence[Message]) -> list[Message]:
    """Return messages as they are read from a store. Ids, which the test repeats, are made unique."""
    unique = [each.model_copy(update={"id": f"{each.id}-{index}"}) for index, each in enumerate(messages)]
    read = load_messages([payload for _, payload in prepare_messages(unique, _SETTINGS).values()])
    return [each.model_copy(update={"id": message.id}) for each, message in zip(read, messages, strict=True)]


def _same(one: object, other: object) -> bool:
    """Return whether two JSON values are equal, 1 and True and 1.0 being different."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


_relaxed = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@_relaxed
@given(_chat)
def test_a_chat_message_round_trips(raw: dict[str, Any]) -> None:
    before = json.dumps(raw)
    messages = Message.from_openai(raw)
    assert json.dumps(raw) == before
    for each in (messages, _stored(messages)):
        written = Message.to_openai_all(each)
        assert len(written) == 1
        assert _same(written[0], raw)


@_relaxed
@given(_item)
def test_an_item_round_trips(raw: dict[str, Any]) -> None:
    (message,) = Message.from_openai(raw)
    for each in (message, *_stored([message])):
        assert _same(each.to_openai("responses"), raw)


@_relaxed
@given(st.lists(_chat, max_size=6))
def test_a_chat_round_trips(raw: list[dict[str, Any]]) -> None:
    """Where one message ends and the next one begins is not lost either."""
    without_ids = [{name: value for name, value in each.items() if name != "id"} for each in raw]
    messages = Message.from_openai(without_ids)
    assert _same(Message.to_openai_all(messages), without_ids)
    assert _same(Message.to_openai_all(_stored(messages)), without_ids)


@_relaxed
@given(st.lists(_item, max_size=4))
def test_a_list_of_items_round_trips(raw: list[dict[str, Any]]) -> None:
    assert _same(Message.to_openai_all(Message.from_openai(raw), "responses"), raw)


# Messages that agentstore's users create.

_some = _text.filter(bool)
_part = st.one_of(
    st.builds(TextContent, text=_text),
    st.builds(ImageContent, image_url=_url),
    st.builds(AudioContent, data=_some, format=st.sampled_from(["wav", "mp3"])),
    st.builds(FileContent, file_id=_some, filename=_some),
    st.builds(FileContent, file_data=_some, filename=_some),
    st.builds(FileContent, file_url=_url),
    st.builds(RefusalContent, refusal=_text),
)
_call = st.builds(
    lambda id, name, arguments: Message(
        type="function_call",
        role="assistant",
        status="completed",
        content=[DataContent(data={"call_id": id, "name": name, "arguments": arguments})],
    ),
    _id,
    _some,
    _arguments,
)
_message = st.one_of(
    st.builds(
        lambda role, content: Message(role=role, content=content, status="completed"),
        st.sampled_from(["user", "system", "assistant"]),
        st.none() | _text | st.lists(_part, min_size=1, max_size=3),
    ),
    _call,
    st.builds(lambda output, id: Message.tool(output, id, status="completed"), _text, _id),
    st.builds(lambda words: Message.assistant(words, type="reasoning", status="completed"), _some),
)


def _content(messages: Sequence[Message]) -> list[Any]:
    return [(each.role, each.type, each.content) for each in messages]


@_relaxed
@given(_message)
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_message_round_trips(api: Literal["chat", "responses"], message: Message) -> None:
    """Its role, type and content do: OpenAI has no place for its metadata."""
    written = message.to_openai(api)
    assert _content(Message.from_openai(written)) == _content([message])


@_relaxed
@given(st.lists(_message, max_size=6))
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_conversation_round_trips(api: Literal["chat", "responses"], messages: list[Message]) -> None:
    written = Message.to_openai_all(messages, api)
    again = Message.from_openai(written)
    if api == "responses":
        assert _content(again) == _content(messages)
    assert Message.to_openai_all(again, api) == written
    calls = [each for each in again if each.type == "function_call"]
    assert _content(calls) == _content([each for each in messages if each.type == "function_call"])


# Single facts.


def _tool_call(id: str, name: str = "add", arguments: str = "{}") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_text_and_its_tool_calls_are_one_message() -> None:
    messages = [
        Message.system("Be brief."),
        Message.user("2 + 2, and 3 + 3?"),
        Message.assistant("Sums.", type="reasoning"),
        Message.assistant("Let me see."),
        *(
            Message(
                role="assistant",
                type=type_,
                content=[DataContent(data={"call_id": id, "name": "add", "arguments": "{}"})],
            )
            for id, type_ in (("c1", "function_call"), ("c2", "plugin_call"), ("c3", "mcp_call"))
        ),
        Message.tool("4", "c1"),
        Message.tool(6, "c2", type="plugin_call_output"),
        Message(type="heartbeat"),
        Message.assistant("4 and 6."),
    ]
    expected = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2 + 2, and 3 + 3?"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning_content": "Sums.",
            "tool_calls": [_tool_call("c1"), _tool_call("c2"), _tool_call("c3")],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
        {"role": "tool", "tool_call_id": "c2", "content": "6"},
        {"role": "assistant", "content": "4 and 6."},
    ]
    assert Message.to_openai_all(messages) == expected
    assert Message.to_openai_all(iter(messages)) == expected
    payloads = [payload for _, payload in prepare_messages(messages, _SETTINGS).values()]
    assert StoredMessages(payloads).to_openai() == expected
    assert StoredMessages(payloads).to_openai("responses") == Message.to_openai_all(messages, "responses")
    assert [each.get("type") for each in Message.to_openai_all(messages, "responses")] == [
        *(None, None, "reasoning", "message", "function_call", "function_call", "function_call"),
        *("function_call_output", "function_call_output", "message"),
    ]


def test_the_example_of_the_documentation_runs() -> None:
    page = (Path(__file__).parents[2] / "docs/messages.md").read_text(encoding="utf-8")
    exec(compile(page.split("```python\n")[1].split("```")[0], "messages.md", "exec"), {})


def test_messages_of_chat_completions_are_converted_to_items_and_back() -> None:
    chat: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]},
        {"role": "assistant", "content": "b", "tool_calls": [_tool_call("c1")]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
    ]
    items: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "u"}]},
        {"type": "message", "role": "assistant", "content": "b"},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "4"},
    ]
    assert Message.to_openai_all(Message.from_openai(chat), "responses") == items
    assert Message.to_openai_all(Message.from_openai(items)) == chat


def test_an_edited_message_is_written_as_it_is_now() -> None:
    """What was recorded of the original is used only while the content is the same."""
    raw = {"role": "assistant", "content": [{"type": "text", "text": "a"}], "refusal": None, "x": 1}
    (message,) = Message.from_openai(raw)
    message.metadata = {**(message.metadata or {}), "x": 2, "timestamp": "2024-01-01"}
    assert message.to_openai() == {**raw, "x": 2}
    message.content = [TextContent(text="b")]
    assert message.to_openai() == {**raw, "x": 2, "content": [{"type": "text", "text": "b"}]}
    output = {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "a"}]}
    (message,) = Message.from_openai(output)
    assert message.to_openai() == output
    message.content = [DataContent(data={"call_id": "c", "output": "b"})]
    assert message.to_openai() == {"role": "tool", "tool_call_id": "c", "content": "b"}


@pytest.mark.parametrize(
    "record",
    [
        7,
        [],
        {"values": 7},
        {"fields": [7, "x"]},
        {"absent": "role"},
        {"values": {"role": "bot"}},
        {"parsed": ["content"]},
    ],
)
def test_a_record_that_is_not_valid_is_ignored(record: Any) -> None:
    message = Message.user("a", metadata={"openai": record})
    assert message.to_openai() == {"role": "user", "content": "a"}


def test_ids_are_those_of_the_originals() -> None:
    raw = {"role": "assistant", "id": "m1", "content": "a", "tool_calls": [_tool_call("c1"), _tool_call("c2")]}
    assert [each.id for each in Message.from_openai(raw)] == ["m1", "m1/1", "m1/2"]
    del raw["id"]
    first, second, _ = (each.id for each in Message.from_openai(raw))
    assert second == f"{first}/1"
    assert Message.from_openai(raw)[0].id != first
    item = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}
    assert Message.from_openai(item)[0].id == "fc_1"
    assert Message.from_openai({**item, "id": "__fake_id__"})[0].id != "__fake_id__"


def test_objects_and_subclasses_are_accepted() -> None:
    class ChatCompletionMessage(BaseModel):
        """Like the class of OpenAI's package."""

        model_config = ConfigDict(extra="allow")

        role: str = "assistant"
        content: str | None = None
        refusal: str | None = None

    class Scored(Message):
        score: float | None = None

    for found in (
        Message.from_openai(ChatCompletionMessage(role="assistant", content="a")),
        Scored.from_openai([ChatCompletionMessage(role="assistant", content="a")]),
    ):
        assert _content(found) == [("assistant", "message", [TextContent(text="a")])]
        assert Message.to_openai_all(found) == [{"role": "assistant", "content": "a"}]
    assert type(found[0]) is Scored


def test_names_are_written_only_if_openai_accepts_them() -> None:
    assert Message.user("a", metadata={"name": "Ann"}).to_openai() == {"role": "user", "content": "a", "name": "Ann"}
    assert Message.user("a", metadata={"name": "Ann Lee"}).to_openai() == {"role": "user", "content": "a"}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "expected a message of OpenAI's"),
        ("text", "expected a message of OpenAI's"),
        ([{"role": "user", "content": "a"}, 7], "message 1: expected an object, got a number"),
        ({}, "role: None is not one of"),
        ({"role": "bot", "content": "a"}, "role: 'bot' is not one of"),
        ({"role": "user"}, "content: missing"),
        ({"role": "user", "text": "a"}, "content: missing"),
        ({"role": "user", "content": 7}, "content: expected a string, a list or null, got a number"),
        ({"role": "user", "content": [{"type": []}]}, "content[0].type: expected a string"),
        ({"role": "assistant", "tool_calls": [{"id": "c"}]}, "tool_calls[0]"),
        ({"role": "assistant", "reasoning_content": 7}, "content.0.text"),
        ({"type": 7}, "type: expected a string"),
        ({"type": "reasoning", "summary": 7}, "summary: expected a list"),
    ],
)
def test_what_is_no_message_is_refused(raw: Any, reason: str) -> None:
    with pytest.raises(InvalidContent) as error:
        Message.from_openai(raw)
    assert reason in str(error.value)


def test_unknown_api_is_refused() -> None:
    wrong: Any = "completions"
    for call in (Message.user("a").to_openai, lambda api: Message.to_openai_all([], api), StoredMessages().to_openai):
        with pytest.raises(InvalidContent, match='must be "chat" or "responses"'):
            call(wrong)
