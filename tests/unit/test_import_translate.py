"""Converting conversations to sessions, as docs/import.md describes."""

import json
import random
import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from agentstore import InvalidContent, Message, Session
from agentstore.importing.translate import Translator
from agentstore.schemas.times import parse_time


def _session(value: Any) -> Session:
    return Translator("file", "default").translate(value).session


def _convert_one(message: dict[str, Any]) -> dict[str, Any]:
    (found,) = _convert(message)
    return found


def _convert(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Convert an OpenAI message; return the fields that are set, without the ids."""
    found = _session({"messages": [message]}).messages
    assert all(each.id for each in found)
    assert len({each.id for each in found}) == len(found)
    for each in found:
        assert each.status == "completed"
    return [
        {
            "role": each.role,
            "type": each.type,
            "content": None
            if each.content is None
            else [
                part.model_dump(exclude_defaults=True, exclude_none=True) | {"type": part.type} for part in each.content
            ],
            "metadata": each.metadata,
        }
        for each in found
    ]


def _message(role: str, *parts: dict[str, Any], kind: str = "message", metadata: Any = None) -> dict[str, Any]:
    return {"role": role, "type": kind, "content": list(parts), "metadata": metadata}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_text_content_is_preserved(role: str) -> None:
    assert _convert_one({"role": role, "content": "你好"}) == _message(role, _text("你好"))
    assert _convert_one({"role": role, "content": ""}) == _message(role, _text(""))
    assert _convert_one({"role": role, "content": ["a", _text("b")]}) == _message(role, _text("a"), _text("b"))


def test_developer_becomes_system_and_function_becomes_tool() -> None:
    assert _convert_one({"role": "developer", "content": "x"}) == _message(
        "system", _text("x"), metadata={"role": "developer"}
    )
    output = {"type": "data", "data": {"call_id": None, "output": "21", "name": "add"}}
    assert _convert_one({"role": "function", "name": "add", "content": "21"}) == _message(
        "tool", output, kind="function_call_output", metadata={"role": "function"}
    )


def test_null_content_stays_null() -> None:
    assert _convert_one({"role": "assistant", "content": None}) == {
        "role": "assistant",
        "type": "message",
        "content": None,
        "metadata": None,
    }


@pytest.mark.parametrize("content", [None, "", "missing"])
def test_each_tool_call_becomes_a_message(content: str | None) -> None:
    message = {
        "role": "assistant",
        "content": content,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
            {"id": "c2", "type": "function", "function": {"name": "add", "arguments": {"a": "二"}}},
            {"id": "c3", "type": "custom", "custom": {"name": "sh", "input": "ls"}},
        ],
    }
    if content == "missing":
        del message["content"]
    assert _convert(message) == [
        _message("assistant", {"type": "data", "data": data}, kind="function_call")
        for data in (
            {"call_id": "c1", "name": "add", "arguments": '{"a": 1}'},
            {"call_id": "c2", "name": "add", "arguments": '{"a":"二"}'},
            {"call_id": "c3", "name": "sh", "arguments": "ls", "type": "custom"},
        )
    ]


def test_reasoning_and_text_come_before_tool_calls() -> None:
    found = _convert(
        {
            "role": "assistant",
            "reasoning_content": "hm",
            "content": "Let me see",
            "function_call": {"name": "add", "arguments": "{}"},
        }
    )
    assert [each["type"] for each in found] == ["reasoning", "message", "function_call"]
    assert found[2]["content"] == [{"type": "data", "data": {"call_id": None, "name": "add", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("content", "output"),
    [
        ("21", "21"),
        (None, None),
        ([_text("2"), _text("1")], "21"),
        ([{"type": "image_url", "image_url": {"url": "u"}}], '[{"type":"image_url","image_url":{"url":"u"}}]'),
    ],
)
def test_tool_output_becomes_text(content: Any, output: str | None) -> None:
    (part,) = _convert_one({"role": "tool", "tool_call_id": "c1", "content": content})["content"]
    assert part["data"] == {"call_id": "c1", "output": output}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
            {"type": "image", "image_url": "https://x/y.png", "detail": "low"},
        ),
        ({"type": "image_url", "image_url": "data:x"}, {"type": "image", "image_url": "data:x"}),
        (
            {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
            {"type": "audio", "data": "QUJD", "format": "wav"},
        ),
        (
            {"type": "file", "file": {"file_id": "f1", "filename": "a.pdf", "file_data": "QUJD"}},
            {"type": "file", "file_id": "f1", "filename": "a.pdf", "file_data": "QUJD"},
        ),
        ({"type": "refusal", "refusal": "no"}, {"type": "refusal", "refusal": "no"}),
        ({"type": "video", "video": {"x": [1]}}, {"type": "data", "data": {"type": "video", "video": {"x": [1]}}}),
    ],
)
def test_content_parts_are_converted(part: dict[str, Any], expected: dict[str, Any]) -> None:
    assert _convert_one({"role": "user", "content": [part]})["content"] == [expected]


def test_refusal_and_audio_become_parts() -> None:
    message = {
        "role": "assistant",
        "content": None,
        "refusal": "no",
        "audio": {"id": "a", "data": "QUJD", "transcript": "t"},
    }
    assert _convert_one(message)["content"] == [
        {"type": "refusal", "refusal": "no"},
        {"type": "audio", "data": "QUJD", "id": "a", "transcript": "t"},
    ]


def test_other_fields_of_a_message_become_metadata() -> None:
    message = {"role": "user", "content": "x", "name": "Ann", "metadata": {"k": 1}, "time": "2024-01-02"}
    assert _convert_one(message)["metadata"] == {"name": "Ann", "k": 1, "timestamp": "2024-01-02"}


def test_ids_title_time_and_metadata_of_a_conversation_are_imported() -> None:
    value = {
        "user": "alice",
        "session": 7,
        "title": "标题",
        "time": "2024-01-02T03:04:05+08:00",
        "metadata": {"k": 1},
        "model": "m",
        "messages": [{"role": "user", "content": "x", "id": "m1"}],
    }
    session = _session(value)
    assert (session.user_id, session.id, session.title) == ("alice", "7", "标题")
    assert session.metadata == {"k": 1, "model": "m"}
    assert session.created_at == session.updated_at == datetime(2024, 1, 1, 19, 4, 5, tzinfo=UTC)
    assert session.messages[0].id == "m1"
    assert session.messages[0].metadata is None
    assert _session({**value, "time": "long ago"}).metadata["time"] == "long ago"
    assert _session({**value, "time": ""}).created_at is None
    assert Translator("file", "bob").translate({"messages": []}).session.user_id == "bob"


def test_agentscope_runtime_messages_are_unchanged() -> None:
    message = Message(
        role="assistant", type="plugin_call", content=[{"type": "data", "data": {"call_id": "c"}}], metadata={"k": 1}
    )
    dumped = message.model_dump(mode="json")
    assert _session({"messages": [dumped], "time": "2024-01-02"}).messages == [message]
    assert _session(dumped).messages == [message]
    again = _session({"messages": [{"role": "user", "type": "message", "content": [_text("x")]}]}).messages[0]
    assert (again.role, again.status) == ("user", "created")


def test_messages_without_a_conversation_form_one_session_of_the_file() -> None:
    lines = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    translator = Translator("file", "alice")
    first, second = (translator.translate(line).session for line in lines)
    assert first.id == second.id
    assert Translator("file", "alice").translate(lines[1]).session.id == first.id
    assert Translator("other", "alice").translate(lines[0]).session.id != first.id
    named = translator.translate({"role": "user", "content": "c", "session": "s", "user": "bob"}).session
    assert (named.user_id, named.id, named.messages[0].metadata) == ("bob", "s", None)
    assert Translator(None, "alice", "mine").translate(lines[0]).session.id == "mine"
    with pytest.raises(InvalidContent, match="--session"):
        Translator(None, "alice").translate(lines[0])


def test_no_field_of_a_message_is_dropped() -> None:
    """Every leaf of the input occurs in the output."""
    message = {
        "role": "assistant",
        "content": [
            {"type": "image_url", "image_url": {"url": "A", "detail": "B"}, "cache_control": {"type": "C"}},
            {"type": "file", "file": {"file_id": "D", "type": "E"}, "index": 7},
            {"type": "input_audio", "input_audio": {"data": "F"}, "G": "H"},
            {"type": "text", "text": "I", "annotations": ["J"]},
        ],
        "tool_calls": [
            {"id": "K", "type": "function", "index": 8, "function": {"name": "L", "arguments": "M", "strict": "N"}},
            {"id": "O", "type": "custom", "custom": {"name": "P", "input": "Q"}, "extra": {"thought": "R"}},
        ],
        "name": "S",
        "metadata": {"name": "T", "timestamp": "U"},
        "time": "V",
        "tool_call_id": "W",
        "reasoning_content": "X",
    }
    conflicting = {
        "role": "developer",
        "content": [
            {"type": "input_audio", "input_audio": {"data": "AC", "format": "AD"}, "format": "AE"},
            {"type": "image_url", "image_url": {"url": "AF", "detail": "AG"}, "detail": "AH"},
        ],
        "tool_calls": [{"id": "AI", "function": {"name": "AJ", "arguments": "AK", "call_id": "AL"}, "name": "AM"}],
        "metadata": {"role": "AN", "message.role": "AO"},
        "timestamp": "AP",
        "time": "AQ",
    }
    tool = {
        "role": "tool",
        "content": [{"type": "text", "text": "Y", "more": "Z"}],
        "refusal": "AA",
        "tool_calls": ["AB"],
    }
    for raw in (message, tool, conflicting):
        written = json.dumps(_convert(raw))
        for leaf in re.findall(r': "([A-Z]{1,2})"|\["([A-Z]{1,2})"\]', json.dumps(raw)):
            assert f'"{leaf[0] or leaf[1]}"' in written or f'\\"{leaf[0] or leaf[1]}\\"' in written, leaf
    head = {
        "id": "A",
        "session": "B",
        "user_id": "C",
        "user": "D",
        "model": "E",
        "metadata": {"model": "F"},
        "messages": [],
    }
    session = _session(head)
    assert (session.id, session.user_id) == ("B", "D")
    assert session.metadata == {"model": "F", "conversation.model": "E", "id": "A", "user_id": "C"}


# Ids


def _ids(lines: list[dict[str, Any]], file: str = "file") -> list[tuple[str, str, str]]:
    translator = Translator(file, "default")
    return [
        (session.user_id, session.id, message.id)
        for session in (translator.translate(line).session for line in lines)
        for message in session.messages
    ]


def _line(*texts: str, **head: Any) -> dict[str, Any]:
    return {**head, "messages": [{"role": "user", "content": text} for text in texts]}


_LINES = [
    _line("yes", "yes", "no"),
    _line("yes", "yes", "no"),
    _line("yes", user="bob"),
    _line("yes", "go on", session="s"),
    _line("yes", session="s"),
    _line("yes", session="s", user="bob"),
    _line("a", session="t"),
]


def test_derived_ids_are_unique_and_repeatable() -> None:
    ids = _ids(_LINES)
    assert len(set(ids)) == len(ids) == 12
    assert _ids(_LINES) == ids
    assert len({session for _, session, _ in ids[:7]}) == 3


def test_derived_ids_do_not_depend_on_the_order_of_lines_or_keys() -> None:
    rng = random.Random(1)
    for _ in range(20):
        shuffled = rng.sample(_LINES, len(_LINES))
        assert set(_ids(shuffled)) == set(_ids(_LINES))
    reordered = [{name: line[name] for name in reversed(line)} for line in _LINES]
    assert _ids(reordered) == _ids(_LINES)


def test_derived_ids_stay_when_a_file_grows() -> None:
    longer = [*_LINES[:-1], _line("a", "b", "a", session="t"), _line("new")]
    assert set(_ids(longer)) > set(_ids(_LINES))


def test_derived_ids_depend_on_the_file_only_within_named_sessions() -> None:
    ids, others = _ids(_LINES), _ids(_LINES, "other")
    assert ids[:7] == others[:7]
    assert not {id for _, _, id in ids[7:]} & {id for _, _, id in others[7:]}


def test_derived_ids_do_not_depend_on_time() -> None:
    first, second = (_ids([_line("a", session="s", time=time)]) for time in ("2024-01-01", "2024-02-01"))
    assert first == second


def test_derived_ids_are_stable_across_releases() -> None:
    """With other ids, everything would be imported a second time."""
    assert _ids([_line("你好"), _line("x", session="s")]) == [
        ("default", "6ee6ec07-f1a4-5f61-b8f8-aa7e736e1f9f", "msg_29bcc0f0-8525-5d1d-a175-a6bc570dc370"),
        ("default", "s", "msg_503b1980-1044-5ac8-9044-868f73d31b83"),
    ]


def test_equal_content_gets_distinct_ids() -> None:
    ids = _ids([_line(*(str(number % 7) for number in range(1_000)), session="s")] * 3)
    assert len(set(ids)) == 3_000


# ChatGPT


def _node(id: str, parent: str | None, message: dict[str, Any] | None) -> dict[str, Any]:
    return {"id": id, "parent": parent, "children": [], "message": message}


def _chat(id: str, role: str, content: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": 1_700_000_000.5,
        "content": content,
        "status": "finished_successfully",
        "recipient": "all",
        "metadata": {},
        **more,
    }


def _text_content(text: str) -> dict[str, Any]:
    return {"content_type": "text", "parts": [text]}


_EXPORT = {
    "title": "上海",
    "create_time": 1_700_000_000.5,
    "update_time": 1_700_000_100,
    "conversation_id": "conv-1",
    "default_model_slug": "gpt-4o",
    "current_node": "d",
    "mapping": {
        "root": _node("root", None, None),
        "a": _node("a", "root", _chat("a", "system", _text_content(""))),
        "b": _node("b", "a", _chat("b", "user", _text_content("上海有什么好吃的?"))),
        "c1": _node("c1", "b", _chat("c1", "assistant", _text_content("an answer that was regenerated"))),
        "c2": _node("c2", "b", _chat("c2", "assistant", _text_content("小笼包"), metadata={"model_slug": "gpt-4o"})),
        "d": _node("d", "c2", _chat("d", "user", _text_content("谢谢"))),
    },
}


def test_chatgpt_conversation_is_the_path_to_the_current_node() -> None:
    session = _session(_EXPORT)
    assert (session.id, session.title, session.user_id) == ("conv-1", "上海", "default")
    assert session.metadata == {"source": "chatgpt", "default_model_slug": "gpt-4o"}
    assert session.created_at == datetime.fromtimestamp(1_700_000_000.5, UTC)
    assert session.updated_at == datetime.fromtimestamp(1_700_000_100, UTC)
    assert [(each.id, each.role) for each in session.messages] == [("b", "user"), ("c2", "assistant"), ("d", "user")]
    assert session.messages[1].metadata == {
        "timestamp": 1_700_000_000.5,
        "chatgpt": {"model_slug": "gpt-4o"},
    }


@pytest.mark.parametrize(
    ("message", "kind", "content"),
    [
        (
            _chat("m", "assistant", {"content_type": "code", "language": "python", "text": "1+1"}, recipient="python"),
            "function_call",
            [{"type": "data", "data": {"call_id": None, "name": "python", "arguments": "1+1"}}],
        ),
        (
            _chat(
                "m",
                "tool",
                {"content_type": "execution_output", "text": "2"},
                author={"role": "tool", "name": "python"},
            ),
            "function_call_output",
            [{"type": "data", "data": {"call_id": None, "name": "python", "output": "2"}}],
        ),
        (
            _chat(
                "m",
                "user",
                {
                    "content_type": "multimodal_text",
                    "parts": [
                        {"content_type": "image_asset_pointer", "asset_pointer": "file-service://f", "width": 4},
                        {"content_type": "audio_transcription", "text": "spoken"},
                        {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://a", "format": "wav"},
                        {"content_type": "other", "x": 1},
                        "what is it?",
                    ],
                },
            ),
            "message",
            [
                {"type": "image", "image_url": "file-service://f", "width": 4},
                {"type": "text", "text": "spoken"},
                {"type": "file", "file_id": "sediment://a", "format": "wav"},
                {"type": "data", "data": {"content_type": "other", "x": 1}},
                {"type": "text", "text": "what is it?"},
            ],
        ),
        (
            _chat("m", "assistant", {"content_type": "thoughts", "thoughts": [{"summary": "s", "content": "c"}]}),
            "reasoning",
            [{"type": "text", "text": "s\nc"}],
        ),
        (
            _chat("m", "tool", {"content_type": "tether_quote", "url": "u", "text": "t"}, author={"role": "tool"}),
            "function_call_output",
            [{"type": "data", "data": {"call_id": None, "name": None, "output": "t"}}],
        ),
        (
            _chat("m", "user", {"content_type": "user_editable_context", "user_profile": "p"}),
            "message",
            [{"type": "data", "data": {"content_type": "user_editable_context", "user_profile": "p"}}],
        ),
    ],
)
def test_chatgpt_content_types_are_converted(message: dict[str, Any], kind: str, content: Any) -> None:
    (found,) = _session({"mapping": {"m": _node("m", None, message)}, "current_node": "m", "id": "c"}).messages
    assert found.type == kind
    parts = [
        each.model_dump(exclude_defaults=True, exclude_none=True) | {"type": each.type} for each in found.content or ()
    ]
    assert parts == content
    if message["content"]["content_type"] == "tether_quote":
        assert (found.metadata or {})["chatgpt"] == {"content": {"url": "u"}}


# Invalid input


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (7, "expected an object with messages, got a number"),
        ([], "expected a list of messages, got []"),
        ({}, "an object with no keys"),
        ({"prompt": "x", "completion": "y"}, "an object with the keys 'prompt', 'completion'"),
        ({"messages": {}}, "messages: expected a list, got an object"),
        ({"messages": None}, "messages: expected a list, got null"),
        ({"messages": ["x"]}, "messages[0]: expected an object, got a string"),
        ({"messages": [{"content": "x"}]}, "messages[0]: role: None is not one of system"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "messages[0]: role: 'bot' is not one of"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0]: role:"),
        ({"messages": [{"role": "user", "text": "x"}]}, "messages[0]: content: missing"),
        (
            {"messages": [{"role": "user", "content": 7}]},
            "messages[0]: content: expected a string, a list or null, got a number",
        ),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages[0]: content[0]: expected an object, got a number"),
        (
            {"messages": [{"role": "user", "content": [{}]}]},
            "messages[0]: content[0].type: expected a string, got null",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}, "content.0.text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "content[0].image_url: expected an object, got null",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": {}, "content": None, "x": 1}], "user": []},
            "user: expected a string or an integer, got a list",
        ),
        ({"messages": [{"role": "assistant", "tool_calls": "x"}]}, "tool_calls: expected a list, got a string"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, 'tool_calls[0]: expected a "function"'),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": 1}]}]},
            "tool_calls[0].function: expected an object, got a number",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "metadata": [1]}]},
            "messages[0]: metadata: expected an object, got a list",
        ),
        ({"messages": [{"role": "user", "content": "x", "id": []}]}, "id: expected a string or an integer, got a list"),
        ({"messages": [], "session": True}, "session: expected a string or an integer, got a boolean"),
        ({"messages": [], "title": 7}, "title: expected a string, got a number"),
        ({"messages": [], "time": []}, "time: [] is not a valid timestamp: stored in the metadata"),
        ({"messages": [], "created_at": "soon"}, "created_at: 'soon' is not a valid timestamp"),
        ({"messages": [], "metadata": [1]}, "metadata: expected an object, got a list"),
        ({"messages": [{"object": "message", "role": "bot"}]}, "messages[0]: role"),
        ({"object": "session", "messages": []}, "Field required"),
        ({"object": "session", "id": "s", "user_id": "u", "messages": [{}]}, "messages[0]: id: missing"),
        ({"object": "session", "messages": [], "more": 1}, "'more' is not a field of an exported session"),
        ({"messages": [{"role": "tool", "content": [{"x": 1e999}]}]}, "messages[0]: value.x is inf"),
        ({"object": "session"}, "messages: expected a list, got null"),
        ({"mapping": [], "current_node": "a"}, "mapping: expected an object, got a list"),
        ({"mapping": {"b": {}}}, "current_node: missing"),
        ({"mapping": {"b": {}}, "current_node": "a"}, "current_node: there is no node 'a'"),
        ({"mapping": {"a": _node("a", "b", None)}, "current_node": "a"}, "mapping.a: parent: there is no node 'b'"),
        ({"mapping": {"a": _node("a", "a", None)}, "current_node": "a"}, "its own ancestor"),
        (
            {"mapping": {"a": {"message": 7}}, "current_node": "a"},
            "mapping.a: message: expected an object, got a number",
        ),
        (
            {"mapping": {"a": {"message": {"id": "m", "content": {"parts": ["x"]}}}}, "current_node": "a"},
            "mapping.a: author: missing",
        ),
        (
            {"mapping": {"a": {"message": {"author": {"role": "x"}, "content": "x"}}}, "current_node": "a"},
            "author.role: 'x' is not one of",
        ),
    ],
)
def test_invalid_values_are_reported_with_their_place(value: Any, reason: str) -> None:
    try:
        reports = [f"{note.place}: {note.reason}" for note in Translator("file", "default").translate(value).notes]
    except InvalidContent as error:
        reports = [str(error)]
    assert any(reason in each for each in reports), reports


def test_deeply_nested_values_are_refused() -> None:
    deep: Any = "x"
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested deeper"):
        _session({"messages": [{"role": "user", "content": "x", "extra": deep}]})


_CALLS = {
    "user": "alice",
    "title": "t",
    "time": 1,
    "metadata": {},
    "messages": [
        {"role": "developer", "content": "x"},
        {"role": "user", "content": [_text("a"), {"type": "image_url", "image_url": {"url": "u"}}], "name": "n"},
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}, {"type": "refusal", "refusal": "r"}]},
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "add", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": [_text("a")]},
        {"role": "assistant", "reasoning_content": "hm", "content": None, "audio": {"data": "QUJD"}},
        {"object": "message", "role": "user", "content": [_text("a")], "id": "m"},
    ],
}


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container in a JSON value with each of its keys."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


@pytest.mark.parametrize("count", [1_000, pytest.param(20_000, marks=pytest.mark.chaos)])
def test_no_message_of_a_mutated_conversation_vanishes(count: int) -> None:
    rng = random.Random(7)
    others: list[Any] = [None, True, 7, 1.5, "", "user", "text", "message", [], {}, [None], ["a"], {"type": "text"}]
    outcomes: Counter[str] = Counter()
    for _ in range(count):
        candidate = json.loads(json.dumps(rng.choice([_EXPORT, _CALLS])))
        for _ in range(rng.randint(1, 3)):
            container, key = rng.choice(_places(candidate))
            if rng.random() < 0.2:
                del container[key]
            else:
                container[key] = rng.choice(others)
        try:
            translated = Translator("file", "default").translate(candidate)
        except InvalidContent:
            outcomes["refused"] += 1
            continue
        outcomes["session"] += 1
        outcomes.update(note.kind for note in translated.notes)
        session = translated.session
        assert Session.model_validate_json(session.model_dump_json()) == session
        assert all(note.reason for note in translated.notes)
        if "mapping" in candidate:
            nodes = candidate["mapping"].values()
            given = sum(
                node.get("message") is not None if isinstance(node, dict) else node is not None for node in nodes
            )
        else:
            given = len(candidate["messages"])
        assert given == translated.messages
        assert given == len(set(translated.places)) + sum(note.messages for note in translated.notes)
    assert len(outcomes) == 5
    assert min(outcomes.values()) > count / 50


_INVALID_TIMES: tuple[object, ...] = (
    "2023",
    2023,
    "12",
    0,
    20230520,
    "0001-01-01",
    "0001-01-01T00:00:00Z",
    -62135596800,
    "1" * 5_000,
    10**25,
    "Tue, 99 Nov 2023 17:13:20 -0500",
    "14 Nov 2023",
    "",
    " ",
    "soon",
    "nan",
    "inf",
    1e300,
    True,
    None,
    [],
    "9999-12-31T23:59:59-23:00",
)


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2024-01-02", datetime(2024, 1, 2, tzinfo=UTC)),
        ("2024-01-02T03:04:05Z", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2024-01-02 03:04:05.5+02:00", datetime(2024, 1, 2, 1, 4, 5, 500_000, tzinfo=UTC)),
        ("6:10 pm on 22 December, 2022", datetime(2022, 12, 22, 18, 10, tzinfo=UTC)),
        ("2023/05/20 (Sat) 17:53", datetime(2023, 5, 20, 17, 53, tzinfo=UTC)),
        ("2023/05/20 17:53", datetime(2023, 5, 20, 17, 53, tzinfo=UTC)),
        (1_700_000_000, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (1_700_000_000_000, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("1712010112345", datetime(2024, 4, 1, 22, 21, 52, 345_000, tzinfo=UTC)),
        ("1700000000", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (1_700_000_000_123_456, datetime(2023, 11, 14, 22, 13, 20, 123_456, tzinfo=UTC)),
        (1_700_000_000_123_456_789, datetime(2023, 11, 14, 22, 13, 20, 123_456, tzinfo=UTC)),
        ("1700000000123456789", datetime(2023, 11, 14, 22, 13, 20, 123_456, tzinfo=UTC)),
        (1_700_000_000.25, datetime(2023, 11, 14, 22, 13, 20, 250_000, tzinfo=UTC)),
        ("Tue, 14 Nov 2023 17:13:20 -0500", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("14 Nov 2023 22:13 GMT", datetime(2023, 11, 14, 22, 13, tzinfo=UTC)),
        ("Tue, 14 Nov 2023 23:13:20 +0100 (CET)", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("June 19, 2023 2:20pm", datetime(2023, 6, 19, 14, 20, tzinfo=UTC)),
        *((wrong, None) for wrong in _INVALID_TIMES),
    ],
)
def test_times_are_parsed_in_each_supported_format_only(written: object, time: datetime | None) -> None:
    assert parse_time(written) == time
