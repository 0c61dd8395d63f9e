"""Convert logs of OpenAI's API: requests with their responses, of chat completions, of Responses, and of a Batch.

The reply belongs to the conversation. It is in ``choices``, ``output`` or ``response`` beside the messages; a line of
the output of a Batch names its request by ``custom_id`` only.
"""

from typing import Any

from agentstore.errors import InvalidContent
from agentstore.importing.conversation import Conversation, Fields, numbered
from agentstore.importing.notes import Notes, Refused
from agentstore.schemas.openai import chat, responses
from agentstore.schemas.parts import add_rest, json_type, quote, require_object, wrong_type

_QUESTION = ("messages", "input")
_ANSWER = ("choices", "output")
_SAME = ("role", "content", "tool_calls")


def is_log(value: dict[str, Any]) -> bool:
    """Return whether a value is a request, a response, or both."""
    request = value.get("request")
    return (
        "messages" in value
        or value.get("object") in ("response", "chat.completion")
        or (isinstance(request, dict) and any(name in request for name in _QUESTION))
        or ("input" in value and (isinstance(value.get("output"), list) or "response" in value))
        or ("choices" in value and "model" in value)
    )


def is_batch_request(value: dict[str, Any]) -> bool:
    """Return whether a value is a line of the input file of a Batch."""
    return "custom_id" in value and "body" in value


def is_batch_output(value: dict[str, Any]) -> bool:
    """Return whether a value is a line of the output file or the error file of a Batch."""
    return "custom_id" in value and ("response" in value or "error" in value)


def is_conversation_of_batch(value: dict[str, Any]) -> bool:
    """Return whether a line of the input file of a Batch asks a model, and not for embeddings or a moderation."""
    url = value.get("url")
    return not isinstance(url, str) or url.rstrip("/").endswith(("/chat/completions", "/responses"))


def batch_request(value: dict[str, Any]) -> dict[str, Any]:
    """Return the request of a line of the input file of a Batch, with the other fields of the line.

    Raises:
        InvalidContent: it has no messages.
    """
    body = require_object(value["body"], "body")
    if not any(name in body for name in _QUESTION):
        raise InvalidContent('body: expected "messages" or "input"')
    return add_rest(
        body, {name: each for name, each in value.items() if name not in ("body", "method", "url")}, "batch"
    )


def batch_failure(value: dict[str, Any]) -> str | None:
    """Return why a line of the output file of a Batch has no reply, or None if it has one."""
    response = value.get("response")
    if value.get("error") is not None or not isinstance(response, dict):
        return f"the request {quote(value['custom_id'])} failed: {_reason(value.get('error'))}"
    if _response(response.get("body")) is None:
        error = response["body"].get("error") if isinstance(response.get("body"), dict) else None
        if response.get("status_code") == 200 and error is None:
            return f"the response to the request {quote(value['custom_id'])} is no message"
        status = quote(response.get("status_code"))
        return f"the request {quote(value['custom_id'])} failed with status {status}: {_reason(error)}"
    return None


def batch_reply(value: dict[str, Any], notes: Notes) -> Conversation:
    """Return the reply of a line of the output file of a Batch that has one; its head is empty."""
    body = _response(value["response"]["body"])
    assert body is not None  # noqa: S101
    return _reply(body, "response.body.", notes)


def _reason(error: Any) -> str:
    found = error.get("message") if isinstance(error, dict) else error
    return "no reason is given" if found is None else quote(found)


def conversation(value: dict[str, Any], notes: Notes) -> Conversation:
    """Return the conversation of a request and its response.

    Raises:
        InvalidContent: it has no list of messages.
    """
    where, request = "", value.get("request")
    if isinstance(request, dict) and not any(name in value for name in _QUESTION):
        where = "request."
        value = add_rest(request, {name: each for name, each in value.items() if name != "request"}, "log")
    name = next((each for each in _QUESTION if each in value), None)
    if name is None:
        found = _response(value)
        count = 0 if found is None else len(_reply(found, "", Notes()).messages)
        raise Refused('a reply without its question: expected "messages" or "input" beside it', count)
    question = value[name]
    if name == "input" and isinstance(question, str):
        question = [{"role": "user", "content": question}]
    if not isinstance(question, list):
        raise wrong_type(f"{where}{name}", "a list", question)
    head = {each: field for each, field in value.items() if each != name}
    convert = chat_message if name == "messages" else item
    done = Conversation(head, question, numbered(f"{where}{name}", question), convert, is_part=True)
    if (found := _response({each: head[each] for each in _ANSWER if each in head})) is not None:
        done.head = {each: field for each, field in head.items() if each not in found}
        _add(done, _reply({**found, "created": head.get("created")}, "", notes), notes)
    elif (found := _response(head.get("response"))) is not None:
        done.head = {each: field for each, field in head.items() if each != "response"}
        _add(done, _reply(found, "response.", notes), notes)
    if name == "input" and isinstance(thread := head.get("conversation"), (str, dict)):
        # The conversation that OpenAI stores, to which the request adds.
        done.head = {"session_id": thread if isinstance(thread, str) else thread.get("id"), **done.head}
    return done


def _add(conversation: Conversation, reply: Conversation, notes: Notes) -> None:
    """Add the messages of a reply to the conversation, unless its messages already end with the same reply."""
    last = conversation.messages[-1] if conversation.messages else None
    only = reply.messages[0] if len(reply.messages) == 1 else None
    if isinstance(last, dict) and isinstance(only, dict) and all(last.get(each) == only.get(each) for each in _SAME):
        notes.passed_over(reply.places[0], "repeats the last of the messages")
        return
    if reply.convert is item:
        conversation.convert = item
    conversation.messages = [*conversation.messages, *reply.messages]
    conversation.places = [*conversation.places, *reply.places]


def chat_message(raw: Any) -> list[Fields]:
    """Return the fields of the Messages for a message of chat completions or of AgentScope Runtime.

    Raises:
        InvalidContent: it is not valid; the error begins with the name of the field.
    """
    if not isinstance(raw, dict):
        raise InvalidContent(f"expected an object, got {json_type(raw)}")
    if raw.get("object") == "message" or ("type" in raw and not isinstance(raw.get("content"), str)):
        return [{name: each for name, each in raw.items() if name != "id"}]  # AgentScope Runtime's, unchanged
    return chat.messages(raw)


def item(raw: Any) -> list[Fields]:
    """Return the fields of the Messages for an item of Responses, or for a message of chat completions.

    Raises:
        InvalidContent: it is not valid; the error begins with the name of the field.
    """
    if not isinstance(raw, dict):
        raise InvalidContent(f"expected an object, got {json_type(raw)}")
    if "type" not in raw and (raw.get("role") in ("tool", "function") or "tool_calls" in raw):
        return chat.messages(raw)
    return [responses.message({name: each for name, each in raw.items() if name != "id"})]


def _response(response: Any) -> dict[str, Any] | None:
    """Return a response with a list of "choices" or "output", or None if it is not a response."""
    if isinstance(response, str) and response:
        return {"choices": [{"message": {"role": "assistant", "content": response}}]}
    if not isinstance(response, dict):
        return None
    if isinstance(response.get("body"), dict):
        return _response(response["body"])
    if isinstance(response.get("choices"), list):
        return response
    output = response.get("output")
    if isinstance(output, list) and all(
        isinstance(each, dict) and isinstance(each.get("type"), str) for each in output
    ):
        return response
    if isinstance(response.get("message"), dict):
        rest = {name: each for name, each in response.items() if name != "message"}
        return {**rest, "choices": [{"message": response["message"]}]}
    return {"choices": [{"message": response}]} if "role" in response and "content" in response else None


def _is_item(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def _reply(response: dict[str, Any], where: str, notes: Notes) -> Conversation:
    """Return the messages of a response as a conversation without a head."""
    choices = response.get("choices")
    if not isinstance(choices, list):
        output, time = response["output"], response.get("created_at")
        dated = [each if time is None else {"timestamp": time, **each} for each in output]
        return Conversation({}, dated, numbered(f"{where}output", output), item, is_part=True)
    places = numbered(f"{where}choices", choices)
    for place in places[1:]:
        notes.passed_over(place, "another answer to the same question")
    first = [_choice(each, response, is_separate=bool(where)) for each in choices[:1]]
    return Conversation({}, first, places[:1], chat_message, is_part=True)


def _choice(choice: Any, response: dict[str, Any], *, is_separate: bool) -> Any:
    """Return the message of a choice with the other fields of the choice and, if it is separate, of the response."""
    if not isinstance(choice, dict):
        return choice
    text = choice.get("text")
    reply = choice.get("message", {"role": "assistant", "content": text} if isinstance(text, str) else None)
    if not isinstance(reply, dict):
        return reply
    rest = {name: each for name, each in choice.items() if name not in ("message", "text", "index", "delta")}
    if is_separate:
        others = {name: each for name, each in response.items() if name not in ("choices", "object")}
        rest = add_rest(rest, others, "response")
        if "id" in rest and "id" in reply:
            rest["response_id"] = rest.pop("id")
    else:
        rest["created"] = response.get("created")
    if "time" not in reply:
        rest["time"] = rest.pop("created", None)
    return add_rest(reply, {name: each for name, each in rest.items() if each is not None}, "choice")
