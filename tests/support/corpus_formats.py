"""Odd conversations of the exports of other applications and of logs, see :mod:`tests.support.corpus`."""

import copy
import random
from collections.abc import Callable
from typing import Any

from tests.support.corpus import PASSED_OVER, PROBLEM, STORED, Conversation, conversations_of

Message = dict[str, Any]
Changes = list[tuple[Message, str]]
Say = Callable[[str], Message]
Oddities = Callable[[str], Changes]

_TIME = "2024-01-02T03:04:05Z"
_NO_IDS: list[Any] = [None, [], ""]


def _odd(rng: random.Random, said: Message, changes: Changes) -> tuple[Any, str]:
    """Return a message with an oddity, and what becomes of it."""
    change, fate = rng.choice([({}, STORED), *changes])
    return {**said, **change}, fate


def _tree(
    rng: random.Random,
    found: Conversation,
    say: Callable[[str], Message],
    changes: Callable[[str], Changes],
    parent: str,
) -> list[Message]:
    """Return the messages of a tree of which each names its parent; the last one ends the branch that is stored."""
    messages: list[Message] = []
    last: str | None = None
    for position in range(rng.randint(1, 6)):
        mark = f"<{found.session}.{position}>"
        if last is not None and rng.random() < 0.2:  # a branch that was left
            messages.append({**say(f"{mark[:-1]}b>"), parent: last})
            found.fates[f"{mark[:-1]}b>"] = PASSED_OVER
        message, fate = _odd(rng, {**say(mark), parent: last}, changes(mark))
        messages.append(message)
        found.fates[mark] = fate
        last = mark
    if STORED not in found.fates.values():
        mark = f"<{found.session}.last>"
        messages.append({**say(mark), parent: last})
        found.fates[mark] = STORED
    return messages


def _grow(rng: random.Random, found: Conversation, messages: list[Any], say: Say, parent: str | None) -> None:
    """Append new messages to a copy of the conversation."""
    last = next((mark for mark in reversed(found.fates) if not mark.endswith("b>")), None)
    for position in range(rng.randint(0, 3)):
        mark = f"<{found.session}.new{position}>"
        messages.append({**say(mark), **({} if parent is None else {parent: last})})
        found.new.append(mark)
        last = mark


def _flat(rng: random.Random, found: Conversation, say: Say, changes: Oddities, id: str) -> list[Any]:
    """Return the messages of a list, of which some have no id and some are none."""
    messages: list[Any] = []
    for position in range(rng.randint(1, 6)):
        mark = f"<{found.session}.{position}>"
        message, fate = _odd(rng, say(mark), changes(mark))
        if rng.random() < 0.1:
            message, fate = rng.choice([7, None, "text", []]), PROBLEM
        elif rng.random() < 0.1 and fate == STORED:
            message[id] = rng.choice(_NO_IDS)
        elif rng.random() < 0.1 and fate == STORED:
            message[id], fate = "x" * 600, PROBLEM
        messages.append(message)
        found.fates[mark] = fate
    if STORED not in found.fates.values():
        mark = f"<{found.session}.last>"
        messages.append(say(mark))
        found.fates[mark] = STORED
    return messages


@conversations_of("claude")
def claude(rng: random.Random, number: int) -> Conversation:
    """Return a conversation of Claude's export, with or without the parents of its messages."""

    def say(mark: str) -> Message:
        return {"uuid": mark, "sender": "human", "content": [{"type": "text", "text": mark}], "created_at": _TIME}

    def changes(mark: str) -> Changes:
        call = {"type": "tool_use", "id": "t", "name": "f", "input": {"x": mark}}
        result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "r"}]}
        steps = [{"type": "thinking", "thinking": "hm"}, call, result, {"type": "text", "text": "done"}]
        return [
            ({"content": [], "text": mark}, STORED),
            ({"content": None, "text": mark}, STORED),
            ({"content": mark}, STORED),
            ({"sender": "assistant", "content": steps}, STORED),
            ({"content": [{"type": "unknown", "x": mark}, 7]}, STORED),
            ({"content": [], "attachments": [{"extracted_content": mark}]}, STORED),
            ({"content": [], "files": [{"file_name": mark, "file_uuid": 7}]}, STORED),
            ({"created_at": rng.choice(["soon", 0, []])}, STORED),
            ({"content": [], "text": ""}, PASSED_OVER),
            ({"content": [{"type": "token_budget"}, {"type": "text", "text": " "}]}, PASSED_OVER),
            ({"sender": rng.choice(["robot", None, 7])}, PROBLEM),
            ({"content": 7}, PROBLEM),
            ({"attachments": "x"}, PROBLEM),
        ]

    found = Conversation("default", f"cl{number}", None, None)
    parent = "parent_message_uuid" if rng.random() < 0.5 else None
    messages = _flat(rng, found, say, changes, "uuid") if parent is None else _tree(rng, found, say, changes, parent)
    found.value = {"uuid": found.session, "name": rng.choice(["t", "", None]), "chat_messages": messages}
    found.grown = {**copy.deepcopy(found.value), "updated_at": "2025-01-01", "summary": "written since"}
    _grow(rng, found, found.grown["chat_messages"], say, parent)
    for each in found.grown["chat_messages"]:
        if isinstance(each, dict) and isinstance(each.get("uuid"), str) and each["uuid"]:
            each["updated_at"] = "2025-01-01"
    return found


@conversations_of("open-webui")
def open_webui(rng: random.Random, number: int) -> Conversation:
    """Return a chat of Open WebUI's export: a tree, or a list of messages."""

    def say(mark: str) -> Message:
        return {"id": mark, "role": "user", "content": mark, "timestamp": 1_700_000_000}

    def changes(mark: str) -> Changes:
        steps = [
            {"type": "reasoning", "summary": [], "content": [{"type": "output_text", "text": "hm"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": mark},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]},
        ]
        return [
            ({"role": "assistant", "content": "<details>...</details>done", "output": steps}, STORED),
            ({"role": "assistant", "output": [], "done": False}, STORED),
            ({"content": [{"type": "text", "text": mark}, {"type": "x"}]}, STORED),
            ({"content": "", "files": [{"type": "image", "url": mark}, 7]}, STORED),
            ({"timestamp": rng.choice(["soon", [], -1])}, STORED),
            ({"content": rng.choice(["", None, []])}, PASSED_OVER),
            ({"role": rng.choice(["robot", None, []])}, PROBLEM),
            ({"content": {"x": mark}}, PROBLEM),
            ({"files": "x"}, PROBLEM),
            ({"role": "assistant", "output": [7]}, PROBLEM),
        ]

    found = Conversation("alice", f"ow{number}", None, None)
    is_tree = rng.random() < 0.5
    messages = _tree(rng, found, say, changes, "parentId") if is_tree else _flat(rng, found, say, changes, "id")
    grown = copy.deepcopy(messages)
    _grow(rng, found, grown, say, "parentId" if is_tree else None)

    def chat(messages: list[Any]) -> dict[str, Any]:
        if not is_tree:
            return {"chat": {"title": "t", "messages": messages, "history": None}}
        current = rng.choice([messages[-1]["id"], None, "nowhere", 7])
        return {"chat": {"history": {"messages": {each["id"]: each for each in messages}, "currentId": current}}}

    head = {"id": found.session, "user_id": "alice", "title": "t"}
    found.value, found.grown = {**head, **chat(messages)}, {**head, **chat(grown), "updated_at": 1_800_000_000}
    return found


@conversations_of("librechat")
def librechat(rng: random.Random, number: int) -> Conversation:
    """Return a conversation that LibreChat exported: a tree, nested or not, or a list."""

    def say(mark: str) -> Message:
        return {"messageId": mark, "isCreatedByUser": True, "text": mark, "createdAt": _TIME, "error": False}

    def changes(mark: str) -> Changes:
        call = {"type": "tool_call", "tool_call": {"id": "c", "name": "f", "args": mark, "output": "r"}}
        steps = [{"type": "think", "think": "hm"}, call, {"type": "text", "text": {"value": "done"}}]
        return [
            ({"isCreatedByUser": False, "text": "", "content": steps}, STORED),
            ({"content": [{"type": "unknown", "x": mark}, None, 7]}, STORED),
            ({"text": "", "files": [{"filename": mark}, 7]}, STORED),
            ({"isCreatedByUser": None, "sender": "GPT"}, STORED),
            ({"unfinished": True, "createdAt": "soon"}, STORED),
            ({"text": rng.choice(["", None]), "content": []}, PASSED_OVER),
            ({"isCreatedByUser": rng.choice(["yes", None])}, PROBLEM),
            ({"text": 7}, PROBLEM),
            ({"content": 7}, PROBLEM),
            ({"files": "x"}, PROBLEM),
        ]

    found = Conversation("default", f"lc{number}", None, None)
    shape = rng.choice(["nested", "tree", "flat"])
    parent = None if shape == "flat" else "parentMessageId"
    messages = (
        _flat(rng, found, say, changes, "messageId") if parent is None else _tree(rng, found, say, changes, parent)
    )
    grown = copy.deepcopy(messages)
    _grow(rng, found, grown, say, parent)

    def exported(messages: list[Any]) -> dict[str, Any]:
        if shape != "nested":
            return {"messages": messages if messages else [], "exportAt": str(len(messages))}
        by_id = {each["messageId"]: {**each, "children": []} for each in messages}
        for each in by_id.values():
            if each["parentMessageId"] is not None:
                by_id[each["parentMessageId"]]["children"].append(each)
        return {"messagesTree": [each for each in by_id.values() if each["parentMessageId"] is None], "recursive": True}

    head = {"conversationId": found.session, "title": "t"}
    if shape == "flat":  # at least one message shows that it is LibreChat's
        messages[:0], grown[:0] = [say(f"<{found.session}.first>")], [say(f"<{found.session}.first>")]
        found.fates = {f"<{found.session}.first>": STORED, **found.fates}
    found.value, found.grown = {**head, **exported(messages)}, {**head, **exported(grown)}
    return found


@conversations_of("sharegpt")
def sharegpt(rng: random.Random, number: int) -> Conversation:
    """Return a conversation in ShareGPT's form; its messages usually have no ids."""

    def say(mark: str) -> Message:
        return {"id": mark, "from": "human", "value": mark}

    def changes(mark: str) -> Changes:
        return [
            ({"from": "gpt", "weight": 1}, STORED),
            ({"from": "function_call", "value": f'{{"name": "f", "arguments": {{"x": "{mark}"}}}}'}, STORED),
            ({"from": "function_call"}, STORED),
            ({"from": "observation"}, STORED),
            ({"value": ""}, PASSED_OVER),
            ({"from": rng.choice(["robot", None, 7])}, PROBLEM),
            ({"value": rng.choice([7, None, [mark]])}, PROBLEM),
            ({"metadata": [1]}, PROBLEM),
        ]

    found = Conversation("default", f"sg{number}", None, None)
    messages = _flat(rng, found, say, changes, "id")
    found.value = {"id": found.session, "conversations": messages, "tools": rng.choice(["[]", 7, None])}
    found.grown = copy.deepcopy(found.value)
    _grow(rng, found, found.grown["conversations"], say, None)
    return found


@conversations_of("chat-log")
def chat_log(rng: random.Random, number: int) -> Conversation:
    """Return a log of chat completions: the request, and the reply beside it."""

    def say(mark: str) -> Message:
        return {"id": mark, "role": "user", "content": mark}

    def changes(mark: str) -> Changes:
        return [({"role": "robot"}, PROBLEM), ({"content": 7}, PROBLEM), ({"role": "tool"}, STORED)]

    found = Conversation("default", f"lg{number}", None, None)
    messages = _flat(rng, found, say, changes, "id")
    mark, other = f"<{found.session}.reply>", f"<{found.session}.other>"
    reply = {**say(mark), "role": "assistant"}
    found.fates[mark] = STORED
    choices = [{"index": 0, "message": reply, "finish_reason": "stop"}]
    if rng.random() < 0.5:
        choices.append({"index": 1, "message": say(other)})
        found.fates[other] = PASSED_OVER
    key = rng.choice(["choices", "response", "body"])

    def log(messages: list[Any], choices: list[Any]) -> dict[str, Any]:
        response: dict[str, Any] = {"id": "chatcmpl", "choices": choices, "created": 1_700_000_000}
        if key == "choices":
            return {"id": found.session, "messages": messages, "choices": choices}
        if key == "response":
            return {"id": found.session, "messages": messages, "response": response}
        return {"id": found.session, "request": {"messages": messages}, "response": {"body": response}}

    found.value = log(messages, choices)
    if rng.random() < 0.5:  # the next request repeats the conversation
        new = [f"<{found.session}.next>", f"<{found.session}.answer>"]
        found.new += new
        answer = {"message": {**say(new[1]), "role": "assistant"}}
        found.grown = log([*copy.deepcopy(messages), reply, say(new[0])], [answer, *choices[1:]])
    else:
        found.grown = copy.deepcopy(found.value)
    return found


@conversations_of("responses-log")
def responses_log(rng: random.Random, number: int) -> Conversation:
    """Return a log of OpenAI's Responses API."""

    def say(mark: str) -> Message:
        return {"id": mark, "type": "message", "role": "user", "content": [{"type": "input_text", "text": mark}]}

    def changes(mark: str) -> Changes:
        return [
            ({"content": mark}, STORED),
            ({"type": "function_call", "call_id": "c", "name": "f", "arguments": mark}, STORED),
            ({"type": "function_call_output", "call_id": "c", "output": [mark]}, STORED),
            ({"type": "reasoning", "summary": [{"type": "summary_text", "text": mark}], "content": None}, STORED),
            ({"type": "web_search_call", "status": mark}, STORED),
            ({"role": "robot"}, PROBLEM),
            ({"type": 7}, PROBLEM),
            ({"content": 7}, PROBLEM),
        ]

    found = Conversation("default", f"rs{number}", None, None)
    messages = _flat(rng, found, say, changes, "id")
    reply = {**say(f"<{found.session}.reply>"), "role": "assistant"}
    found.fates[reply["id"]] = STORED
    response = {"id": "resp", "created_at": 1_700_000_000, "output": [reply]}
    found.value = {"id": found.session, "input": messages, "response": response, "model": "m"}
    found.grown = copy.deepcopy(found.value)
    if rng.random() < 0.5:
        new = {**say(f"<{found.session}.more>"), "role": "assistant"}
        found.new.append(new["id"])
        found.grown["response"]["output"].append(new)
    return found
