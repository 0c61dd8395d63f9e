"""Entries of Pydantic AI as Messages, and back."""

# pyright: reportMissingImports=false
from typing import Any, get_args

import pytest

from agentstore import AgentStore, InvalidContent, Message, MessageType, Role, TextContent, UnreadableRow
from tests.adapters.pydantic_ai.messages import (
    PNG,
    all_messages,
    answer,
    question,
    request,
    request_parts,
    response,
    response_parts,
)

pytestmark = pytest.mark.adapters


def _converted(message: Any, parent_id: str | None = "e0") -> tuple[Any, Message]:
    """Return a message after it was stored and read, and what was stored."""
    from pydantic_ai.conversation_store import ConversationEntry

    from agentstore.adapters.pydantic_ai.entries import Place, entries_of, message_of

    stored = message_of(ConversationEntry(id="e1", parent_id=parent_id, message=message))
    (entry,) = entries_of(
        [Message.model_validate(stored.model_dump(mode="json")).model_dump(mode="json")], Place("u", "c")
    )
    assert (entry.id, entry.parent_id, entry.kind) == ("e1", parent_id, "message")
    return entry.message, stored


def test_the_tests_have_every_kind_of_part() -> None:
    from pydantic_ai import messages as m

    for union, parts in ((m.ModelRequestPart, request_parts()), (m.ModelResponsePart, response_parts())):
        classes = [get_args(each)[0] for each in get_args(get_args(union)[0])]
        kinds = {each.part_kind for each in classes if hasattr(each, "part_kind")} - {"retry-prompt"}
        assert kinds <= {each.part_kind for each in parts}, union
        assert len(kinds) > 5


def test_every_message_is_read_as_it_was_stored() -> None:
    from pydantic_ai.messages import ModelMessagesTypeAdapter

    dump = ModelMessagesTypeAdapter.dump_json
    for given in all_messages():
        found, _ = _converted(given)
        # The package itself reads some contents as another type: an image in BinaryContent as BinaryImage.
        (expected,) = ModelMessagesTypeAdapter.validate_json(dump([given]))
        assert found == expected
        assert dump([found]) == dump([expected])


def test_any_text_is_read_as_it_was_stored() -> None:
    for text in ("", "\0", "\ud800", "null", "[1]", "\u2028"):
        for given in (question(text), answer(text)):
            found, stored = _converted(given, None)
            assert found == given
            assert [each.text for each in stored.content or () if isinstance(each, TextContent)] == [text]


def test_what_is_no_json_is_rejected() -> None:
    from pydantic_ai.messages import ToolReturnPart

    with pytest.raises(InvalidContent, match="entry 'e1'"):
        _converted(request(ToolReturnPart("weather", object(), "c1")))


def test_messages_have_the_role_and_the_text_of_what_was_said() -> None:
    from pydantic_ai import messages as m

    call, output = m.ToolCallPart("weather", {"city": "Chengdu"}, "c1"), m.ToolReturnPart("weather", "no rain", "c1")
    system, image = m.SystemPromptPart("Be brief."), m.BinaryImage(data=PNG, media_type="image/png")
    cases: list[tuple[Any, str, str, str]] = [
        (question("Hello"), Role.USER, MessageType.MESSAGE, "Hello"),
        (request(system, m.UserPromptPart("Hello")), Role.USER, MessageType.MESSAGE, "Hello"),
        (request(m.UserPromptPart(["Look", image, "here"])), Role.USER, MessageType.MESSAGE, "Look here"),
        (request(system), Role.SYSTEM, MessageType.MESSAGE, "Be brief."),
        (request(output), Role.TOOL, MessageType.FUNCTION_CALL_OUTPUT, "c1 weather no rain"),
        (answer("Hi"), Role.ASSISTANT, MessageType.MESSAGE, "Hi"),
        (response(m.ThinkingPart("Hm"), m.TextPart("Hi")), Role.ASSISTANT, MessageType.MESSAGE, "Hi"),
        (response(m.ThinkingPart("Hm")), Role.ASSISTANT, MessageType.REASONING, "Hm"),
        (response(call), Role.ASSISTANT, MessageType.FUNCTION_CALL, 'c1 weather {"city":"Chengdu"}'),
        (response(m.TextPart("Hi"), call), Role.ASSISTANT, MessageType.MESSAGE, 'Hi c1 weather {"city":"Chengdu"}'),
    ]
    for given, role, message_type, text in cases:
        found, stored = _converted(given)
        assert found == given
        assert (stored.role, stored.type, stored.text) == (role, message_type, text)


def test_usage_and_time_are_those_of_the_message() -> None:
    given = answer("Hi")
    given.usage.input_tokens = 8
    _, stored = _converted(given)
    assert (stored.usage or {})["input_tokens"] == 8
    assert (stored.metadata or {})["timestamp"] == given.timestamp.isoformat().replace("+00:00", "Z")


async def test_what_another_program_changed_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord

    from agentstore.adapters.pydantic_ai import AgentStoreConversationStore

    store = AgentStore.in_memory()
    conversations = AgentStoreConversationStore(store, user_id="alice")
    entries = [ConversationEntry(id=f"e{n}", parent_id=None, message=question("Hello")) for n in (1, 2)]
    record = ConversationRecord(conversation_id="trip", head_id="e1")
    await conversations.write_record(record, new_entries=entries, expected_revision=None)
    session = await store.sessions.get_session("alice", "trip")
    assert session is not None
    first, second = session.messages
    assert isinstance(first.content, list)
    first.content[0].text = "[removed]"  # type: ignore[union-attr]
    await store.sessions.replace_message("alice", "trip", first)
    assert (await conversations.read_entry("e1")).message.parts[0].content == "[removed]"
    second.content = []
    await store.sessions.replace_message("alice", "trip", second)
    with pytest.raises(UnreadableRow, match="another program changed"):
        await conversations.read_entry("e2")
    await store.sessions.set_metadata("alice", "trip", {"pydantic_ai": [{"head_id": 1}]})
    with pytest.raises(UnreadableRow, match="another program changed"):
        await conversations.read_record("trip")
    other = ConversationRecord(conversation_id="other", head_id=None)
    await conversations.write_record(other, expected_revision=None)
    assert list(await conversations.read_records()) == [other]
    assert "left out of the list" in caplog.text
