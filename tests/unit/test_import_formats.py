"""Each format of files: what becomes of a fixture, of odd values, and of a copy that has grown."""

import copy
import io
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agentstore import InvalidContent, Message
from agentstore.importing.formats import FORMATS, LISTED, describe_unknown, find_format
from agentstore.importing.notes import Kind, Note
from agentstore.importing.source import Piece, read
from agentstore.importing.translate import Translator
from agentstore.importing.translated import Translated
from agentstore.schemas import DataContent, TextContent
from agentstore.schemas.memory import time_of

_FIXTURES = Path(__file__).parent.parent / "support" / "imports"
_NAMES = sorted(each.name for each in _FIXTURES.iterdir())


def _values(name: str) -> list[Any]:
    with (_FIXTURES / name).open("rb") as stream:
        pieces = list(read(stream, max_bytes=10**6, is_lines=name.endswith(".jsonl")))
    assert all(isinstance(each, Piece) for each in pieces)
    return [each.value for each in pieces if isinstance(each, Piece)]


def _translate(values: list[Any]) -> list[Translated]:
    translator = Translator("file", "default")
    return [translator.translate(each) for each in values]


def _fixture(name: str) -> list[Translated]:
    return _translate(_values(name))


def _outline(messages: list[Message]) -> list[tuple[str, str | None, str, str]]:
    """Return id, role, type and text of each message."""
    found: list[tuple[str, str | None, str, str]] = []
    for each in messages:
        texts = [
            str(part.text)
            if isinstance(part, TextContent)
            else json.dumps(part.data, ensure_ascii=False)
            if isinstance(part, DataContent)
            else str(part.type)
            for part in each.content or ()
        ]
        found.append((each.id, each.role, each.type, " | ".join(texts)))
    return found


def _notes(found: Translated) -> list[tuple[str, str]]:
    return [(each.place, each.reason) for each in found.notes]


def test_claude_conversation_is_the_branch_of_its_last_message() -> None:
    first, second = _fixture("claude.json")
    session = first.session
    assert (session.id, session.title, session.user_id) == (
        "7b1c0001-0000-4000-8000-000000000001",
        "Trip to Kyoto",
        "default",
    )
    assert session.metadata == {"source": "claude", "project_uuid": "prj-1"}
    assert session.created_at == datetime(2025, 6, 1, 10, 0, 0, 1, tzinfo=UTC)
    assert _outline(session.messages) == [
        ("c-1", "user", "message", "How is the weather in Kyoto? | Day 1: Fushimi Inari | file"),
        ("c-3", "assistant", "reasoning", "I look it up."),
        (
            "c-3/1",
            "assistant",
            "function_call",
            '{"message": "Searching the web", "call_id": "toolu_1", "name": "web_search", '
            '"arguments": "{\\"query\\":\\"weather Kyoto\\"}"}',
        ),
        (
            "c-3/2",
            "tool",
            "function_call_output",
            '{"is_error": false, "call_id": "toolu_1", "name": "web_search", "output": "24 degrees, sunny"}',
        ),
        ("c-3/3", "assistant", "message", "It is sunny, 24 degrees."),
        ("c-4", "user", "message", "ありがとう"),
    ]
    assert {time_of(each) for each in session.messages[1:5]} == {datetime(2025, 6, 1, 10, 1, 0, 123456, tzinfo=UTC)}
    attachment, file = session.messages[0].content[1:]  # type: ignore[index]
    assert attachment.model_dump()["claude"]["file_name"] == "plan.txt"
    assert (file.model_dump()["filename"], file.model_dump()["file_id"]) == ("map.png", "f-1")
    assert _notes(first) == [("chat_messages[1]", "on another branch")]
    assert _outline(second.session.messages) == [("o-1", "user", "message", "hi")]
    assert second.session.title is None
    assert _notes(second) == [("chat_messages[1]", "the message has no content")]


def test_claude_branch_ends_in_the_current_leaf() -> None:
    value = _values("claude.json")[0]
    value["current_leaf_message_uuid"] = "c-2"
    (found,) = _translate([value])
    assert [each.id for each in found.session.messages] == ["c-1", "c-2"]
    assert [each.messages for each in found.notes] == [1, 1]


def test_open_webui_chat_is_the_branch_of_current_id() -> None:
    first, second = _fixture("open_webui.json")
    session = first.session
    assert (session.id, session.user_id, session.title) == ("owui-1", "u-77", "Sums")
    assert session.metadata == {
        "source": "open-webui",
        "models": ["llama3.1:8b"],
        "tags": ["math"],
        "archived": False,
        "pinned": True,
        "meta": {"tags": ["math"]},
    }
    assert [(each[0], each[1], each[2]) for each in _outline(session.messages)] == [
        ("w-1", "user", "message"),
        ("w-3", "assistant", "reasoning"),
        ("w-3/1", "assistant", "function_call"),
        ("w-3/2", "tool", "function_call_output"),
        ("w-3/3", "assistant", "message"),
        ("w-4", "user", "message"),
    ]
    assert _outline(session.messages)[0][3] == "What is 2+2? | image"
    assert _outline(session.messages)[4][3] == "4"
    assert {time_of(each) for each in session.messages[1:5]} == {datetime.fromtimestamp(1_700_000_002, UTC)}
    assert _notes(first) == [("history.messages.w-2", "on another branch")]
    assert (second.session.id, second.session.user_id) == ("owui-2", "default")
    assert _outline(second.session.messages) == [("l-1", "user", "message", "a")]
    assert _notes(second) == [("messages[1]", "the message has no content")]


@pytest.mark.parametrize("name", ["librechat.json", "librechat_tree.json"])
def test_librechat_conversation_is_the_branch_of_its_last_message(name: str) -> None:
    (found,) = _fixture(name)
    session = found.session
    assert (session.id, session.title) == ("lc-1", "The time")
    assert session.metadata == {"source": "librechat", "endpoint": "agents", "options": {"model": "gpt-4o"}}
    assert _outline(session.messages) == [
        ("p-1", "user", "message", "How late is it?"),
        ("p-3", "assistant", "reasoning", "I ask the clock."),
        (
            "p-3/1",
            "assistant",
            "function_call",
            '{"call_id": "call_9", "name": "clock", "arguments": "{\\"zone\\":\\"UTC\\"}"}',
        ),
        ("p-3/2", "tool", "function_call_output", '{"call_id": "call_9", "name": "clock", "output": "16:35"}'),
        ("p-3/3", "assistant", "message", "It is 16:35."),
        ("p-4", "user", "message", "Danke | file"),
    ]
    assert (session.created_at, session.updated_at) == (
        datetime(2024, 5, 1, 16, 35, tzinfo=UTC),
        datetime(2024, 5, 1, 16, 36, tzinfo=UTC),
    )
    assert [reason for _, reason in _notes(found)] == ["on another branch"]


def test_deeply_nested_librechat_conversation_is_converted() -> None:
    message: dict[str, Any] = {"messageId": "m-0", "isCreatedByUser": True, "text": "0"}
    for number in range(1, 150):
        message = {"messageId": f"m-{number}", "isCreatedByUser": True, "text": str(number), "children": [message]}
    text = json.dumps({"conversationId": "deep", "recursive": True, "messagesTree": [message]})
    (piece,) = read(io.BytesIO(text.encode()), max_bytes=10**6)
    assert isinstance(piece, Piece)
    (found,) = _translate([piece.value])
    assert [each.id for each in found.session.messages] == [f"m-{number}" for number in range(149, -1, -1)]


def test_sharegpt_conversation_with_a_tool_call() -> None:
    first, second = _fixture("sharegpt.json")
    assert first.session.id == "s-1"
    assert first.session.metadata == {"tools": "[]"}
    assert [each[1:] for each in _outline(first.session.messages)] == [
        ("system", "message", "You add."),
        ("user", "message", "2+2?"),
        ("assistant", "function_call", '{"call_id": null, "name": "add", "arguments": "{\\"a\\":2,\\"b\\":2}"}'),
        ("tool", "function_call_output", '{"call_id": null, "name": null, "output": "4"}'),
        ("assistant", "message", "四"),
    ]
    assert second.session.messages[1].metadata == {"weight": 1}
    assert first.notes == second.notes == []


def test_reply_of_a_log_belongs_to_the_conversation() -> None:
    first, second, third = _fixture("chat_log.jsonl")
    assert [each[1:] for each in _outline(first.session.messages)] == [
        ("user", "message", "hi"),
        ("assistant", "message", "hello"),
    ]
    assert first.session.messages[1].metadata == {"finish_reason": "stop", "timestamp": 1_700_000_000}
    assert first.session.metadata == {"model": "m", "created": 1_700_000_000}
    assert _notes(first) == [("choices[1]", "another answer to the same question")]
    assert second.session.messages[1].id == "chatcmpl-9"
    assert second.session.messages[1].type == "function_call"
    assert second.session.updated_at == datetime.fromtimestamp(1_700_000_001, UTC)
    assert second.session.metadata == {}
    assert _outline(third.session.messages)[1][1:] == ("assistant", "message", "hello")


def test_reply_that_the_messages_already_have_is_not_stored_twice() -> None:
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    (found,) = _translate([{"messages": said, "choices": [{"message": said[1]}]}])
    assert len(found.session.messages) == 2
    assert _notes(found) == [("choices[0]", "repeats the last of the messages")]


def test_responses_log_has_input_and_output() -> None:
    first, second = _fixture("responses.jsonl")
    assert first.session.id == "resp_1"
    assert first.session.metadata["instructions"] == "Be brief."
    assert [(each[1], each[2]) for each in _outline(first.session.messages)] == [
        ("user", "message"),
        ("assistant", "reasoning"),
        ("assistant", "function_call"),
    ]
    assert [each.id for each in first.session.messages[1:]] == ["rs_1", "fc_1"]
    assert second.session.id == "conv_7"
    assert [(each[1], each[2]) for each in _outline(second.session.messages)] == [
        ("user", "message"),
        ("assistant", "function_call"),
        ("tool", "function_call_output"),
        ("assistant", "message"),
    ]
    assert second.session.messages[3].id == "msg_2"
    assert second.session.updated_at == datetime.fromtimestamp(1_741_476_550, UTC)


def test_reply_without_its_question_is_refused() -> None:
    for value in (
        {"object": "response", "id": "r", "output": [{"type": "message", "role": "assistant", "content": []}]},
        {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": "x"}}]},
    ):
        with pytest.raises(InvalidContent, match="a reply without its question") as refused:
            _translate([value])
        assert refused.value.messages == 1  # type: ignore[attr-defined]


def test_batch_output_is_joined_with_its_request() -> None:
    found = _translate([*_values("batch_input.jsonl"), *_values("batch_output.jsonl")[:2]])
    requests, (second, first) = found[:3], found[3:]
    assert requests[0].session.metadata == {"model": "gpt-4o-mini", "custom_id": "request-1"}
    assert first.session.id == requests[0].session.id
    assert second.session.id == requests[1].session.id
    assert _outline(first.session.messages) == [("chatcmpl-1", "assistant", "message", "answer 1")]
    assert first.session.updated_at == datetime.fromtimestamp(1_711_652_794, UTC)


def test_batch_output_without_its_request_is_refused() -> None:
    output = _values("batch_output.jsonl")
    translator = Translator("file", "default")
    with pytest.raises(InvalidContent, match=r"'request-2' is not in this import"):
        translator.translate(output[0])
    for each in (*_values("batch_input.jsonl"), *_values("batch_input.jsonl")[:1]):
        translator.translate(each)
    with pytest.raises(InvalidContent, match="'request-1' names 2 requests"):
        translator.translate(output[1])
    with pytest.raises(InvalidContent, match="the request 7 is not in this import"):
        translator.translate({**output[1], "custom_id": 7})
    assert len(translator.translate({**_values("batch_input.jsonl")[0], "custom_id": 7}).session.messages) == 1
    failed = translator.translate(output[2])
    assert (failed.session.messages, failed.messages) == ([], 0)
    (note,) = failed.notes
    assert note.kind is Kind.NOT_IMPORTED
    assert note.reason.startswith("the request 'request-3' failed: 'This request could not be executed before")


def test_batch_of_embeddings_is_not_imported() -> None:
    request = {"custom_id": "r", "method": "POST", "url": "/v1/embeddings", "body": {"model": "e", "input": "text"}}
    output = {"custom_id": "r", "response": {"status_code": 200, "body": {"object": "list", "data": []}}, "error": None}
    for found in _translate([request, output]):
        assert (found.session.messages, found.messages, found.has_anything()) == ([], 0, False)
        assert [each.kind for each in found.notes] == [Kind.NOT_IMPORTED]


@pytest.mark.parametrize(
    "more",
    [
        {"chat": {"id": 5}},
        {"conversations": [1]},
        {"input": "x", "output": "y"},
        {"history": {}},
        {"response": {"ok": 1}},
    ],
)
def test_other_fields_of_a_conversation_do_not_change_its_format(more: dict[str, Any]) -> None:
    (found,) = _translate([{"messages": [{"role": "user", "content": "hi"}], **more}])
    assert [each[1:] for each in _outline(found.session.messages)] == [("user", "message", "hi")]
    assert found.session.metadata == more


def test_arrays_of_messages_are_conversations() -> None:
    first, second, third = _fixture("arrays.jsonl")
    assert [each[1:] for each in _outline(second.session.messages)] == [
        ("user", "message", "q2"),
        ("assistant", "message", "a2"),
    ]
    assert len({first.session.id, second.session.id, third.session.id}) == 3
    with pytest.raises(InvalidContent, match="expected a list of messages"):
        _translate([[1, 2]])


def test_sillytavern_lines_form_one_session() -> None:
    found = _fixture("sillytavern.jsonl")
    assert len({(each.session.user_id, each.session.id) for each in found}) == 1
    assert found[0].session.title == "Seraphina"
    assert found[0].session.created_at == datetime(2024, 6, 5, 14, 56, 50, tzinfo=UTC)
    messages = [message for each in found for message in each.session.messages]
    assert [each[1:] for each in _outline(messages)] == [
        ("assistant", "message", "*You wake up.*"),
        ("user", "message", "Where am I?"),
        ("assistant", "message", "In my glade."),
        ("system", "message", "The sun sets."),
    ]
    assert [time_of(each) for each in messages] == [
        datetime(2024, 6, 5, 14, 56, tzinfo=UTC),
        datetime(2024, 6, 5, 15, 0, tzinfo=UTC),
        datetime(2024, 6, 5, 15, 1, 5, 7_000, tzinfo=UTC),
        datetime(2024, 6, 5, 15, 6, 40, tzinfo=UTC),
    ]
    assert messages[0].metadata == {"timestamp": "June 5, 2024 2:56pm", "name": "Seraphina"}
    assert messages[2].metadata["sillytavern"]["swipes"] == ["Safe.", "In my glade."]  # type: ignore[index]


def test_session_is_dated_by_its_messages() -> None:
    said = [
        {"role": "user", "content": "a", "timestamp": "2014-01-01T00:00:00Z"},
        {"role": "assistant", "content": "b", "created_at": 1_388_534_460},
        {"role": "user", "content": "c", "created_at": "soon"},
    ]
    (found,) = _translate([{"id": "s", "messages": said}])
    times = datetime(2014, 1, 1, tzinfo=UTC), datetime(2014, 1, 1, 0, 1, tzinfo=UTC)
    assert (found.session.created_at, found.session.updated_at) == times
    assert found.session.messages[1].metadata == {"timestamp": 1_388_534_460}
    assert found.session.messages[2].metadata == {"created_at": "soon"}
    (found,) = _translate([{"id": "s", "messages": said, "created_at": "2013-01-01"}])
    assert (found.session.created_at, found.session.updated_at) == (datetime(2013, 1, 1, tzinfo=UTC), times[1])
    (found,) = _translate([{"id": "s", "messages": said, "updated_at": "2015-01-01"}])
    assert (found.session.created_at, found.session.updated_at) == (times[0], datetime(2015, 1, 1, tzinfo=UTC))
    assert _translate([{"id": "s", "messages": said[2:]}])[0].session.created_at is None


# What an unknown value resembles


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            {"uuid": "u", "name": "n", "account": {}},
            """looks like a conversation of Claude's export, but "chat_messages""",
        ),
        ({"conversation_id": "c", "create_time": 1, "title": ""}, 'a ChatGPT export, but "mapping" is missing'),
        ({"conversationId": "c", "exportAt": ""}, '"messages" or "messagesTree" is missing'),
        ({"custom_id": "c", "method": "POST"}, '"body" or "response" is missing'),
        ({"user_id": "u", "share_id": None, "archived": 0}, """Open WebUI's export, but "chat" is missing"""),
        ({"instruction": "i", "input": "x", "output": "y"}, "not a known format"),
        ({"conversations": [{"uuid": "u"}]}, "not a known format"),
        ({"is_user": True, "send_date": ""}, 'SillyTavern, but "mes" or "chat_metadata" is missing'),
        ({"x": 1}, "not a known format (see agentstore import --list-formats): an object with the keys 'x'"),
        ({}, "an object with no keys"),
    ],
)
def test_unknown_value_is_named_with_what_it_resembles(value: dict[str, Any], expected: str) -> None:
    assert find_format(value) is None
    assert expected in describe_unknown(value)
    with pytest.raises(InvalidContent) as raised:
        _translate([value])
    assert expected in str(raised.value)


def test_every_fixture_has_its_format() -> None:
    found = {name: find_format(_values(name)[0]) for name in _NAMES if name != "arrays.jsonl"}
    assert {name: each and each.name for name, each in found.items()} == {
        "batch_input.jsonl": "openai-batch",
        "batch_output.jsonl": "openai-batch",
        "chat_log.jsonl": "chat",
        "claude.json": "claude",
        "librechat.json": "librechat",
        "librechat_tree.json": "librechat",
        "open_webui.json": "open-webui",
        "responses.jsonl": "openai-responses",
        "sharegpt.json": "sharegpt",
        "sillytavern.jsonl": "sillytavern",
    }
    assert {name for name, *_ in LISTED} == {each.name for each in FORMATS} | {"messages"}


# Odd values: nothing vanishes


_ODD: tuple[Any, ...] = (None, "", " ", 0, -1, True, 1e300, "\ud800", "a\0b", [], {}, [1], {"x": 1}, ["x", None])


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value in a JSON value."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from _leaves(each, (*path, key))


def _replaced(value: Any, path: tuple[Any, ...], new: Any, *, delete: bool = False) -> Any:
    value = copy.deepcopy(value)
    at = value
    for key in path[:-1]:
        at = at[key]
    if delete:
        del at[path[-1]]
    else:
        at[path[-1]] = new
    return value


@pytest.mark.parametrize("name", _NAMES)
def test_every_message_of_an_odd_value_is_stored_or_noted(name: str) -> None:
    """Each field is once removed, and once replaced by an odd value."""
    rng = random.Random(name)
    requests = _values("batch_input.jsonl") if name == "batch_output.jsonl" else []
    for value in _values(name):
        for path in _leaves(value):
            for odd in (_replaced(value, path, None, delete=True), _replaced(value, path, rng.choice(_ODD))):
                translator = Translator("file", "default")
                for each in requests:
                    translator.translate(each)
                try:
                    found = translator.translate(odd)
                except InvalidContent:
                    continue  # there is no conversation at all
                noted = sum(each.messages for each in found.notes)
                assert found.messages == len(set(found.places)) + noted, (path, odd)
                assert all(isinstance(each, Note) and each.reason for each in found.notes)


@pytest.mark.parametrize("name", ["claude.json", "open_webui.json", "librechat.json", "librechat_tree.json"])
def test_broken_message_does_not_prevent_the_others(name: str) -> None:
    text = (_FIXTURES / name).read_text()
    for good, broken in (('"sender": "assistant"', '"sender": "robot"'), ('"role": "assistant"', '"role": "robot"')):
        text = text.replace(good, broken)
    text = text.replace('"isCreatedByUser": false', '"isCreatedByUser": "no"')
    values = json.loads(text)
    (found, *_) = _translate(values if isinstance(values, list) else [values])
    assert [each.role for each in found.session.messages] == ["user", "user"]
    assert [each.kind for each in found.notes].count(Kind.PROBLEM) == 1


@pytest.mark.parametrize("name", [each for each in _NAMES if each not in ("batch_output.jsonl", "arrays.jsonl")])
def test_grown_copy_has_the_same_ids_and_the_new_messages(name: str) -> None:
    values = _values(name)
    before = {(each.session.id, message.id) for each in _translate(values) for message in each.session.messages}
    assert {(each.session.id, message.id) for each in _translate(values) for message in each.session.messages} == before
    if name in _GROWN:
        grown = copy.deepcopy(values)
        _GROWN[name](grown)
        after = {(each.session.id, message.id) for each in _translate(grown) for message in each.session.messages}
        assert before < after
        assert len(after) == len(before) + 1


def _grow_claude(values: list[Any]) -> None:
    last = {**values[0]["chat_messages"][-1], "uuid": "c-5", "parent_message_uuid": "c-4"}
    values[0]["chat_messages"].append(last)
    values[0]["summary"] = "written since"


def _grow_open_webui(values: list[Any]) -> None:
    history = values[0]["chat"]["history"]
    history["messages"]["w-5"] = {**history["messages"]["w-4"], "id": "w-5", "parentId": "w-4"}
    history["messages"]["w-4"]["childrenIds"] = ["w-5"]
    history["currentId"] = "w-5"


def _grow_librechat(values: list[Any]) -> None:
    last = values[0]["messages"][-1]
    values[0]["messages"].append({**last, "messageId": "p-5", "parentMessageId": "p-4"})


def _grow_sharegpt(values: list[Any]) -> None:
    values[0]["conversations"].append({"from": "human", "value": "more"})


def _grow_sillytavern(values: list[Any]) -> None:
    values.append({**values[-1], "mes": "more"})


_GROWN = {
    "claude.json": _grow_claude,
    "open_webui.json": _grow_open_webui,
    "librechat.json": _grow_librechat,
    "sharegpt.json": _grow_sharegpt,
    "sillytavern.jsonl": _grow_sillytavern,
}
