"""Converting the items of the Responses API that openai-agents stores."""

import pytest

from agentstore import Message
from agentstore.errors import InvalidContent
from agentstore.schemas.openai.responses import message


def test_message_becomes_text_with_its_role() -> None:
    found = message({"role": "user", "content": "Any rain in Hanoi?"})
    assert found["role"] == "user"
    assert Message.model_validate(found).content[0].text == "Any rain in Hanoi?"  # type: ignore[index,union-attr]


def test_annotations_and_id_are_preserved() -> None:
    part = {"type": "output_text", "text": "Little.", "annotations": [], "logprobs": []}
    found = message({"id": "msg_1", "type": "message", "role": "assistant", "status": "incomplete", "content": [part]})
    assert found["content"] == [{"type": "text", "text": "Little.", "annotations": [], "logprobs": []}]
    assert (found["status"], found["metadata"]) == ("incomplete", {"id": "msg_1"})
    Message.model_validate(found)


def test_call_and_output_become_data_with_the_call_id() -> None:
    call = message({"type": "function_call", "call_id": "c1", "name": "rain", "arguments": "{}", "id": "fc_1"})
    assert call["content"] == [{"type": "data", "data": {"call_id": "c1", "name": "rain", "arguments": "{}"}}]
    assert call["metadata"] == {"id": "fc_1"}
    output = message({"type": "function_call_output", "call_id": "c1", "output": "3 mm"})
    assert output["role"] == "tool"
    assert output["content"] == [{"type": "data", "data": {"call_id": "c1", "output": "3 mm"}}]


def test_reasoning_summary_and_encrypted_content_are_preserved() -> None:
    raw = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Ask."}], "encrypted_content": "gA"}
    found = message(raw)
    assert found["content"] == [{"type": "text", "text": "Ask."}]
    assert found["metadata"] == {"encrypted_content": "gA"}


def test_unknown_item_types_become_data() -> None:
    raw = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "hanoi rain"}}
    assert message(raw)["content"] == [{"type": "data", "data": raw}]
    Message.model_validate(message(raw))


def test_developer_becomes_system_with_the_role_in_metadata() -> None:
    found = message({"role": "developer", "content": "Be brief."})
    assert (found["role"], found["metadata"]) == ("system", {"role": "developer"})


def test_unknown_role_is_refused() -> None:
    with pytest.raises(InvalidContent, match="role: 'bot'"):
        message({"role": "bot", "content": "x"})
