"""Messages: plain strings as content, constructors, text, and enumerations that are stored as strings."""

import copy
import json
import pickle
from typing import Any

import orjson
import pytest
from pydantic import TypeAdapter, ValidationError

from agentstore import (
    AudioContent,
    ContentType,
    DataContent,
    FileContent,
    ImageContent,
    InvalidContent,
    Message,
    MessageType,
    RefusalContent,
    Role,
    RunStatus,
    Session,
    TextContent,
)
from agentstore.schemas.payload import load_messages


def test_string_content_becomes_one_text_part() -> None:
    parts = [TextContent(text="你好")]
    session = Session.model_validate({"id": "s", "user_id": "u", "messages": [{"role": "user", "content": "你好"}]})
    for message in (
        Message(role="user", content="你好"),
        Message.user("你好"),
        Message.model_validate({"role": "user", "content": "你好"}),
        Message.model_validate_json('{"role": "user", "content": "你好"}'),
        session.messages[0],
        load_messages(['{"role": "user", "content": "你好"}'])[0],
        load_messages(['{"role": "user", "content": "你好", "metadata": {"x": "\\ud800"}}'])[0],
    ):
        assert (message.role, message.content) == ("user", parts)
    assert Message(content="").content == [TextContent(text="")]
    assert Message(content="\ud800").text == "\ud800"


def test_assigned_string_content_becomes_one_text_part() -> None:
    message = Message.user([])
    assert message.content == []
    message.content = "a"  # type: ignore[assignment]
    assert message.content == [TextContent(text="a")]
    message.content = None
    assert message.content is None


@pytest.mark.parametrize("invalid", [7, b"text", {"type": "text"}, [7], ["text"], [{"type": "smell"}], [{"text": "a"}]])
def test_other_content_is_a_validation_error(invalid: Any) -> None:
    with pytest.raises(ValidationError, match="content"):
        Message(content=invalid)
    if not isinstance(invalid, bytes):
        with pytest.raises(ValidationError, match="content"):
            Message.model_validate_json(json.dumps({"content": invalid}))


def test_json_schema_of_content_has_a_string_for_input_only() -> None:
    taken, written = (
        Message.model_json_schema(mode=mode)["properties"]["content"] for mode in ("validation", "serialization")
    )
    types = [each.get("type") for each in taken["anyOf"]]
    assert {"array", "string", "null"} == set(types)
    assert {"array", "null"} == {each.get("type") for each in written["anyOf"]}


def test_constructors_set_role_and_other_fields() -> None:
    for role, construct in (("user", Message.user), ("assistant", Message.assistant), ("system", Message.system)):
        message = construct("a", id="m", metadata={"k": 1}, future=2)
        assert (message.role, message.type, message.id) == (role, "message", "m")
        assert (message.text, message.metadata, message.model_extra) == ("a", {"k": 1}, {"future": 2})
        parts: list[Any] = [{"type": "image", "image_url": "u"}, TextContent(text="b")]
        assert construct(parts).content == [ImageContent(image_url="u"), TextContent(text="b")]
        assert construct(None).content is None
        assert construct("a").id != construct("a").id
    with pytest.raises(ValidationError, match="metadata"):
        Message.user("a", metadata=7)


@pytest.mark.parametrize(
    ("output", "stored"), [("4", "4"), (4, "4"), (None, None), ({"a": [1, "二"]}, '{"a":[1,"二"]}')]
)
def test_tool_output_is_data_with_the_call_id(output: Any, stored: str | None) -> None:
    message = Message.tool(output, "c1")
    assert (message.role, message.type) == ("tool", "function_call_output")
    assert message.content == [DataContent(data={"call_id": "c1", "output": stored})]
    named = Message.tool(output, call_id="c1", name="add", type=MessageType.PLUGIN_CALL_OUTPUT, id="m")
    assert (named.id, named.type) == ("m", "plugin_call_output")
    assert named.content == [DataContent(data={"call_id": "c1", "output": stored, "name": "add"})]


def test_tool_output_that_json_cannot_represent_is_refused() -> None:
    with pytest.raises(InvalidContent, match="output"):
        Message.tool({"a": {1}}, "c1")


def test_text_is_all_text_of_the_content() -> None:
    parts: list[Any] = [
        TextContent(text="a"),
        ImageContent(image_url="https://x"),
        RefusalContent(refusal="b"),
        DataContent(data={"x": ["c", {"y": "d"}], "z": 7}),
        FileContent(filename="e.txt", file_data="QUJD"),
        AudioContent.model_validate({"data": "QUJD", "transcript": "f"}),
        TextContent(text=None),
    ]
    assert Message(content=parts).text == "a b c d e.txt f"
    assert Message.user(None).text == Message.user([]).text == ""


def test_an_extra_field_named_text_is_preserved() -> None:
    stored = '{"id":"m","role":"user","text":"extra","content":[{"type":"text","text":"a"}]}'
    (message,) = load_messages([stored])
    assert message.text == "a"
    assert message.model_extra == {"text": "extra"}
    assert message.model_dump()["text"] == json.loads(message.model_dump_json())["text"] == "extra"
    assert Message.model_validate(message.model_dump()) == message == copy.deepcopy(message)
    with pytest.raises(AttributeError):
        message.text = "b"  # type: ignore[misc]


@pytest.mark.parametrize("names", [Role, MessageType, ContentType, RunStatus])
def test_names_are_equal_to_their_strings(names: Any) -> None:
    for each in names:
        assert each == each.value == str(each) == f"{each}"
        assert {each.value: 1}[each] == {each: 1}[each.value] == 1
        assert json.dumps(each) == json.dumps(each.value) == orjson.dumps(each).decode()
        assert names(each.value) is each is pickle.loads(pickle.dumps(each))
        assert repr(each) == f"<{names.__name__}.{each.name}: {each.value!r}>"


def test_validated_fields_hold_plain_strings() -> None:
    """In all ways to set a field, so that no enumeration member gets into a payload or an application's JSON."""
    part: dict[str, Any] = {"type": ContentType.REFUSAL, "refusal": "no", "status": RunStatus.Created}
    fields: dict[str, Any] = {
        "role": Role.TOOL,
        "type": MessageType.ERROR,
        "status": RunStatus.Failed,
        "content": [part],
    }
    assigned = Message()
    for name, value in fields.items():
        setattr(assigned, name, value)
    for message in (
        Message(**fields),
        Message.model_validate(fields),
        assigned,
        *TypeAdapter(list[Message]).validate_python([fields]),
    ):
        assert message.content is not None
        values = [message.role, message.type, message.status, message.content[0].type, message.content[0].status]
        assert values == ["tool", "error", "failed", "refusal", "created"]
        assert {type(each) for each in values} == {str}
    with pytest.raises(ValidationError, match="role"):
        Message.model_validate({"role": MessageType.ERROR})
    message = Message(type="custom", status="paused")
    assert (message.type, message.status) == ("custom", "paused")
