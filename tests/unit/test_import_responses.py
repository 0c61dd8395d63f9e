"""What becomes of the items that openai-agents keeps."""

import pytest

from agentstore import Message
from agentstore.errors import InvalidContent
from agentstore.importing.responses import message


def test_what_was_said_is_text_with_its_role() -> None:
    found = message({"role": "user", "content": "Any rain in Hanoi?"})
    assert found["role"] == "user"
    assert Message.model_validate(found).content[0].text == "Any rain in Hanoi?"  # type: ignore[index,union-attr]


def test_an_answer_keeps_its_annotations_and_its_own_id() -> None:
    part = {"type": "output_text", "text": "Little.", "annotations": [], "logprobs": []}
    found = message({"id": "msg_1", "type": "message", "role": "assistant", "status": "incomplete", "content": [part]})
    assert found["content"] == [{"type": "text", "text": "Little.", "annotations": [], "logprobs": []}]
    assert (found["status"], found["metadata"]) == ("incomplete", {"id": "msg_1"})
    Message.model_validate(found)


def test_a_call_and_its_output_are_data_with_the_call_id() -> None:
    call = message({"type": "function_call", "call_id": "c1", "name": "rain", "arguments": "{}", "id": "fc_1"})
    assert call["content"] == [{"type": "data", "data": {"call_id": "c1", "name": "rain", "arguments": "{}"}}]
    assert call["metadata"] == {"id": "fc_1"}
    output = message({"type": "function_call_output", "call_id": "c1", "output": "3 mm"})
    assert output["role"] == "tool"
    assert output["content"] == [{"type": "data", "data": {"call_id": "c1", "output": "3 mm"}}]


def test_reasoning_keeps_its_summary_and_what_is_encrypted() -> None:
    raw = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Ask."}], "encrypted_content": "gA"}
    found = message(raw)
    assert found["content"] == [{"type": "text", "text": "Ask."}]
    assert found["metadata"] == {"encrypted_content": "gA"}


def test_an_item_of_another_type_is_kept_as_it_was() -> None:
    raw = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "hanoi rain"}}
    assert message(raw)["content"] == [{"type": "data", "data": raw}]
    Message.model_validate(message(raw))


def test_a_developer_is_a_system_and_keeps_the_name() -> None:
    found = message({"role": "developer", "content": "Be brief."})
    assert (found["role"], found["metadata"]) == ("system", {"role": "developer"})


def test_an_item_without_a_known_role_is_refused() -> None:
    with pytest.raises(InvalidContent, match="role: 'bot'"):
        message({"role": "bot", "content": "x"})
