"""Every event of google-adk becomes a Message from which it is restored."""

# pyright: reportMissingImports=false
import logging
from typing import Any

import pytest

from agentstore import AgentStore, InvalidContent, Message
from agentstore.exact_json import dumps, loads
from tests.adapters.adk.events import EVENTS, event, text_event

pytestmark = pytest.mark.adapters


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_becomes_a_message_and_is_restored(name: str) -> None:
    from agentstore.adapters.adk.events import events_of, message_of

    given = event(name)
    message, changes = message_of(given)
    _, message_type, role, text = EVENTS[name]
    assert (message.type, message.role, message.id) == (message_type, role, given.id)
    assert text in message.text
    assert changes == given.actions.state_delta
    stored = Message.model_validate(loads(dumps(message.model_dump())))
    assert events_of([stored]) == [given]
    assert (stored.metadata or {})["timestamp"]


def test_the_events_of_the_tests_have_every_field() -> None:
    """A field that a new release adds fails here until it is in the corpus."""
    from google.adk.events import Event, EventActions

    empty, every = Event(), event("every field")
    for model, other in ((empty, every), (empty.actions, every.actions)):
        same = {name for name in type(model).model_fields if getattr(model, name) == getattr(other, name)}
        assert same == ({"requested_auth_configs"} if isinstance(model, EventActions) else set())


def test_events_with_credentials_are_restored() -> None:
    from fastapi.openapi.models import APIKey, APIKeyIn
    from google.adk.auth import AuthConfig
    from google.adk.events import Event, EventActions

    from agentstore.adapters.adk.events import events_of, message_of

    scheme: Any = APIKey(**{"in": APIKeyIn.header, "name": "key"})
    given = Event(
        author="a",
        actions=EventActions(requested_auth_configs={"c": AuthConfig(auth_scheme=scheme, credential_key="k")}),
    )
    (restored,) = events_of([message_of(given)[0]])
    assert restored.model_dump() == given.model_dump()


def test_an_event_that_json_cannot_represent_is_refused() -> None:
    from google.adk.events import Event

    from agentstore.adapters.adk.events import message_of

    with pytest.raises(InvalidContent, match="cannot be represented as JSON"):
        message_of(Event(author="a", output=object()))


def test_numbers_that_json_lacks_are_none() -> None:
    """As in ADK's own services."""
    from google.adk.events import Event

    from agentstore.adapters.adk.events import events_of, message_of

    metadata = {"a": float("nan"), "b": float("inf"), "c": 1.5}
    (restored,) = events_of([message_of(Event(author="a", custom_metadata=metadata))[0]])
    assert restored.custom_metadata == {"a": None, "b": None, "c": 1.5}


def test_messages_that_are_not_events_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    from agentstore.adapters.adk.events import events_of, message_of

    given = event("a call")
    message, _ = message_of(given)
    broken = [Message.user("Hello"), Message(metadata={"adk": 7}), message.model_copy(update={"content": None})]
    with caplog.at_level(logging.WARNING):
        assert events_of([*broken, message]) == [given]
    assert caplog.text.count("left out of the events") == 1


async def test_a_redacted_message_is_an_event_with_the_new_text() -> None:
    from agentstore.adapters.adk import AgentStoreSessionService

    store = AgentStore.in_memory()
    service = AgentStoreSessionService(store)
    session = await service.create_session(app_name="chat", user_id="alice", session_id="s")
    await service.append_event(session, text_event("My number is 5"))
    stored = await store.sessions.get_session("alice", "s/chat")
    assert stored is not None
    new = stored.messages[0].model_copy(update={"content": Message.user("My number is *").content})
    await store.sessions.replace_message("alice", "s/chat", new)
    found = await service.get_session(app_name="chat", user_id="alice", session_id="s")
    assert found is not None
    assert found.events[0].content.parts[0].text == "My number is *"
