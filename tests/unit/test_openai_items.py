"""Items of openai-agents' sessions become Messages, and are the same items again, whatever they are."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstore import InvalidContent, Message, Settings
from agentstore.schemas.openai.convert import from_item
from agentstore.schemas.payload import load_messages, prepare_messages
from tests.adapters.openai_agents.items import ITEMS, OTHER_ITEMS
from tests.unit.test_openai import _chat, _item

_SETTINGS = Settings(database_url="postgresql://app@db/agents")


def _stored(message: Message) -> Message:
    """Return a message as it is read again."""
    ((_, payload),) = prepare_messages(message, _SETTINGS).values()
    return load_messages([payload])[0]


def _check(item: dict[str, Any]) -> Message:
    before = json.dumps(item)
    message = _stored(from_item(item))
    assert json.dumps(message.to_openai("responses"), sort_keys=True) == json.dumps(item, sort_keys=True)
    assert json.dumps(item) == before
    return message


@pytest.mark.parametrize("name", [*ITEMS, *OTHER_ITEMS])
def test_every_item_round_trips(name: str) -> None:
    item, expected_type, expected_role, expected_text = (ITEMS | OTHER_ITEMS)[name]
    message = _check(item)
    assert (message.type, message.role) == (expected_type, expected_role)
    assert expected_text in message.text


@given(st.one_of(_item, _chat))
def test_generated_items_round_trip(item: dict[str, Any]) -> None:
    _check(item)


def test_ids_are_new_for_each_item() -> None:
    item = ITEMS["message of the model"][0]
    first, second = from_item(item), from_item(item)
    assert len({first.id, second.id, item["id"]}) == 3
    assert first.to_openai("responses")["id"] == item["id"]


@pytest.mark.parametrize("item", [None, "text", 1, ["role"]])
def test_what_is_not_an_object_is_refused(item: Any) -> None:
    with pytest.raises(InvalidContent, match="item: expected an object"):
        from_item(item)
