"""Which messages with the same id are the same message."""

from typing import Any

import pytest

from agentstore.schemas import Message
from agentstore.schemas.identity import is_same_message


def _message(*content: dict[str, Any], **fields: Any) -> Message:
    return Message.model_validate({"id": "m", "role": "assistant", "content": list(content), **fields})


_TEXT = {"type": "text", "text": "a"}
_IMAGE = {"type": "image", "image_url": "file-service://a", "width": 4}


def _data(**data: Any) -> dict[str, Any]:
    return {"type": "data", "data": data}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_message(_TEXT), _message(_TEXT, metadata={"model": "x"}, status="incomplete", usage={"tokens": 1})),
        (_message(_TEXT, metadata={"timestamp": 1.5}), _message(_TEXT, metadata={"timestamp": 1.500001})),
        (_message(_IMAGE, _TEXT), _message({**_IMAGE, "image_url": "sediment://a", "width": 5}, _TEXT)),
        (_message(_TEXT), _message(_TEXT, {"type": "file", "file_id": "f", "filename": "new"})),
        (_message({"type": "text", "text": ""}), _message()),
        (_message(_data(x=1, image_url="a")), _message(_data(x=1, image_url="b"))),
        (_message(_data(x={"audio_asset_pointer": "a"})), _message(_data(x={"audio_asset_pointer": {"b": 1}}))),
        (
            _message(_data(call_id=None, name="f", arguments="1"), type="function_call"),
            _message(_data(call_id="c", name="f", arguments="1"), type="function_call"),
        ),
        (
            _message(_TEXT, role="user"),
            _message(_TEXT, role="system", metadata={"chatgpt": {"role": "user"}}),
        ),
    ],
)
def test_what_a_provider_notes_makes_no_other_message(one: Message, other: Message) -> None:
    assert is_same_message(one, other)
    assert is_same_message(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_message(_TEXT), _message({"type": "text", "text": "a "})),
        (_message(_TEXT), _message(_TEXT, _TEXT)),
        (_message(_TEXT), _message(_TEXT, role="user")),
        (_message(_TEXT), _message(_TEXT, type="reasoning")),
        (_message(_TEXT), _message({"type": "refusal", "refusal": "b"})),
        (_message(_data(x=1)), _message(_data(x=2))),
        (_message(_data(x=[{"y": 1}])), _message(_data(x=[{"y": 2}]))),
        (
            _message(_data(name="f", arguments="1"), type="function_call"),
            _message(_data(name="f", arguments="2"), type="function_call"),
        ),
        (
            _message(_data(output="1"), type="plugin_call_output"),
            _message(_data(output=None), type="plugin_call_output"),
        ),
        (_message(code="1", message="a"), _message(code="1", message="b")),
    ],
)
def test_another_text_role_or_type_makes_another_message(one: Message, other: Message) -> None:
    assert not is_same_message(one, other)
    assert not is_same_message(other, one)
