"""Page and StoredMessages as types of pydantic, such as the responses of web frameworks."""

import copy
import dataclasses
import json
import pickle
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from agentstore import Message, Page, Session, StateRound, StoredMessages, TextContent

_PAYLOAD = b'{"id":"m1","role":"user","content":[{"type":"text","text":"a"}]}'


class _Response(BaseModel):
    sessions: Page[Session]
    rounds: Page[StateRound]
    messages: StoredMessages


def _response() -> _Response:
    at = datetime(2024, 1, 2, tzinfo=UTC)
    return _Response(
        sessions=Page([Session(id="s", user_id="u")], "next"),
        rounds=Page([StateRound(round_id=1, size=7, saved_at=at, metadata={"a": 1})]),
        messages=StoredMessages([_PAYLOAD]),
    )


def test_a_page_is_an_object_with_items_and_the_cursor() -> None:
    adapter = TypeAdapter(Page[Session])
    page = Page([Session(id="s", user_id="u")], "next")
    written = json.loads(adapter.dump_json(page))
    assert written == adapter.dump_python(page, mode="json") == json.loads(TypeAdapter(Page).dump_json(page))
    assert written == {"items": [page[0].model_dump(mode="json")], "next_cursor": "next"}
    assert adapter.validate_python(written) == page
    assert adapter.validate_python(page) is page
    assert type(adapter.validate_python(written)[0]) is Session
    assert json.loads(adapter.dump_json(Page())) == {"items": [], "next_cursor": None}
    with pytest.raises(ValidationError, match="user_id"):
        adapter.validate_python({"items": [{"id": "s"}], "next_cursor": None})


def test_stored_messages_are_an_array_of_messages() -> None:
    adapter = TypeAdapter(StoredMessages)
    messages = StoredMessages([_PAYLOAD])
    written = json.loads(adapter.dump_json(messages))
    assert written == adapter.dump_python(messages, mode="json") == messages.model_dump(mode="json")
    assert written == [message.model_dump(mode="json") for message in messages]
    assert adapter.validate_python(messages) is messages
    for again in (adapter.validate_python(written), adapter.validate_json(json.dumps(written))):
        assert again.models() == messages.models()
    assert adapter.validate_python([Message.user("\ud800")])[0].text == "\ud800"
    wrong: tuple[Any, ...] = ("text", {}, [7], [{"role": "bot"}])
    for value in wrong:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


def test_they_are_fields_of_models() -> None:
    response = _response()
    again = _Response.model_validate_json(response.model_dump_json())
    assert (again.sessions, again.rounds) == (response.sessions, response.rounds)
    assert list(again.messages) == list(response.messages)


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_their_json_schemas_describe_the_entries(mode: Any) -> None:
    schema = _Response.model_json_schema(mode=mode)
    properties = schema["properties"]
    page = schema["$defs"][properties["sessions"]["$ref"].rpartition("/")[2]]
    assert page["properties"]["items"]["items"]["$ref"].endswith("Session")
    assert {each["type"] for each in page["properties"]["next_cursor"]["anyOf"]} == {"string", "null"}
    assert properties["messages"]["type"] == "array"
    assert properties["messages"]["items"]["$ref"].rpartition("/")[2].startswith("Message")


def test_encoders_of_values_without_a_type_know_both() -> None:
    """FastAPI's encodes dataclasses and models, and calls dict() with other objects."""
    assert dataclasses.asdict(Page([1, 2], "next")) == {"items": [1, 2], "next_cursor": "next"}
    assert isinstance(StoredMessages(), BaseModel)


def test_both_are_sequences_that_can_be_copied() -> None:
    page, messages = Page(["a", "b"], "next"), StoredMessages([_PAYLOAD])
    for sequence in (page, messages):
        assert isinstance(sequence, Sequence)
        assert list(copy.deepcopy(sequence)) == list(pickle.loads(pickle.dumps(sequence))) == list(sequence)
    assert (page[0], page[:1], "b" in page, page == ["a", "b"], bool(Page())) == ("a", ["a"], True, True, False)
    assert messages[0].content == [TextContent(text="a")]
    assert (len(messages), len(messages[1:]), bool(StoredMessages())) == (1, 0, False)
    assert repr(messages) == str(messages) == "<1 stored messages>"
    assert repr(page) == "Page(['a', 'b'], next_cursor='next')"
