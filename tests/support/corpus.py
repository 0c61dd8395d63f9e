"""Generated odd conversations of each format that ``agentstore import`` reads, with what becomes of each message.

A format adds itself with ``@conversations_of("name")``: a function that returns one conversation from a random number
generator and a number. Its messages have marks, unique texts by which they are found in the store.
"""

import copy
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

STORED, PASSED_OVER, PROBLEM = "stored", "passed over", "problem"
TIME = 1_700_000_000.0


@dataclass
class Conversation:
    """One conversation, and a later copy of it that has grown and in which the provider has changed its notes."""

    user: str
    session: str
    value: Any
    """The JSON value. Messages without an id stay the same in `grown`, since their id is derived from them."""
    grown: Any
    fates: dict[str, str] = field(default_factory=dict)
    """What becomes of each message of `value`, by its mark, in the order of the messages that are stored."""
    new: list[str] = field(default_factory=list)
    """The marks of the messages that only `grown` has, all of which are stored."""

    def changed(self) -> tuple[Any, int]:
        """Return `grown` with another text in the messages that are plain text, and how many these are."""
        value = copy.deepcopy(self.grown)
        texts = list[tuple[dict[str, Any], str, str]]()
        _find_texts(value, texts)
        ids = Counter(_ids_in(value))
        plain = [each for each in texts if self.fates.get(each[1]) == STORED and ids[each[1]] == 1]
        for message, _, name in plain:
            message[name] = json.loads(json.dumps(message[name]).replace("<", "other <"))
        return value, len(plain)


def _find_texts(value: Any, found: list[tuple[dict[str, Any], str, str]]) -> None:
    """Collect the messages with an id whose content is one text, with the id and the field that has the text."""
    for each in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        if isinstance(each, dict) and (id := _id_of(each)) is not None and each.get("type", "message") == "message":
            parts = [[{"type": kind, "text": id}] for kind in ("text", "input_text")]
            texts: list[Any] = [id, *parts, {"content_type": "text", "parts": [f"text {id}"]}]
            names = [name for name in ("content", "value") if name in each]
            if not each.get("content") and "text" in each:
                names = ["text"]
            found += [(each, id, name) for name in names if each[name] in texts and each.get("role") != "bot"]
        _find_texts(each, found)


def _id_of(message: dict[str, Any]) -> str | None:
    ids = (message.get(name) for name in ("id", "uuid", "messageId"))
    return next((id for id in ids if isinstance(id, str)), None)


def _ids_in(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from [id] if (id := _id_of(value)) is not None else []
    for each in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        yield from _ids_in(each)


Generator = Callable[[random.Random, int], Conversation]
FORMATS: dict[str, Generator] = {}


def conversations_of(name: str) -> Callable[[Generator], Generator]:
    """Register a function that generates conversations of a format."""

    def register(generator: Generator) -> Generator:
        FORMATS[name] = generator
        return generator

    return register


def generate(name: str, count: int) -> list[Conversation]:
    """Return conversations of a format, the same in each run."""
    rng = random.Random(f"{name} 7")
    generator = FORMATS.get(name) or STORES[name]
    return [generator(rng, number) for number in range(count)]


# ChatGPT


def _said(mark: str, role: str = "user", content: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "id": mark,
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": TIME,
        "content": {"content_type": "text", "parts": [f"text {mark}"]} if content is None else content,
        "recipient": "all",
        "metadata": {"model_slug": "gpt"},
        **more,
    }


def _odd_message(rng: random.Random, mark: str, earlier: list[dict[str, Any]]) -> tuple[Any, str]:
    """Return a message with an oddity, and what becomes of it."""
    said = _said(mark, rng.choice(["user", "assistant"]))
    hidden = {"is_visually_hidden_from_conversation": True}
    file = {"id": f"file-{mark}", "name": f"{mark}.pdf"}
    chart = {"messages": [{"message_type": "image", "image_url": f"file-service://{mark}"}]}
    changes: list[tuple[dict[str, Any], str]] = [
        ({}, STORED),
        ({"content": {"parts": [""]}, "metadata": {"attachments": [file]}}, STORED),
        (
            {
                "author": {"role": "tool", "name": "python"},
                "content": {"content_type": "execution_output", "text": ""},
                "metadata": {"aggregate_result": chart},
            },
            STORED,
        ),
        (
            {"content": {"content_type": "user_editable_context", "user_profile": mark}, "metadata": hidden},
            STORED,
        ),
        ({"weight": 0.0, "status": "in_progress", "end_turn": None}, STORED),
        ({"recipient": "python", "content": {"content_type": "code", "text": mark}}, STORED),
        ({"content": {"content_type": "thoughts", "thoughts": [{"summary": mark}, 7]}}, STORED),
        ({"content": {"content_type": "unknown", "x": mark}}, STORED),
        ({"content": {"parts": [{"asset_pointer": f"p{mark}", "content_type": "image_asset_pointer"}, mark]}}, STORED),
        ({"content": f"text {mark}"}, STORED),
        ({"content": [f"text {mark}", 7, None, {}]}, STORED),
        ({"author": None}, STORED),
        ({"author": {"role": "critic"}}, STORED),
        ({"author": ["user"]}, STORED),
        ({"id": None}, STORED),
        ({"id": ["x"]}, STORED),
        ({"create_time": rng.choice([0, -1, None, "soon", [], True])}, STORED),
        ({"metadata": rng.choice([None, 7, ["x"], "x"])}, STORED),
        ({"recipient": ["all"], "channel": 7, "status": 7, "weight": "x"}, STORED),
        ({"content": None}, PASSED_OVER),
        ({"content": {"content_type": "text", "parts": [""]}}, PASSED_OVER),
        ({"content": {"content_type": "text", "parts": None}, "author": None}, PASSED_OVER),
    ]
    if earlier and rng.random() < 0.2:
        other = rng.choice(earlier)
        if isinstance(other.get("id"), str):
            return rng.choice([({**said, "id": other["id"]}, STORED), (copy.deepcopy(other), PASSED_OVER)])
    if rng.random() < 0.1:
        return rng.choice([7, "text", [said]]), PROBLEM
    change, fate = rng.choice(changes)
    said |= change
    if rng.random() < 0.2 and fate == STORED:
        del said[rng.choice(["recipient", "create_time"])]
    return said, fate


@conversations_of("chatgpt")
def chatgpt(rng: random.Random, number: int) -> Conversation:
    """Return a conversation of a ChatGPT export."""
    nodes: dict[str, Any] = {"root": {"id": "root", "parent": None, "children": [], "message": None}}
    found = Conversation("default", f"c{number}", None, None)
    parent, earlier = "root", list[dict[str, Any]]()

    def add(key: str, message: Any) -> None:
        nonlocal parent
        nodes[parent]["children"].append(key)
        nodes[key] = {"id": key, "parent": parent, "children": [], "message": message}
        parent = key

    for position in range(rng.randint(1, 8)):
        mark = f"<{number}.{position}>"
        message, fate = _odd_message(rng, mark, earlier)
        if isinstance(message, dict) and fate == STORED:
            earlier.append(message)
        found.fates[mark] = fate
        add(f"n{position}", message)
        if rng.random() < 0.15:  # a branch that was left
            mark = f"<{number}.{position}b>"
            nodes[f"b{position}"] = {"id": "b", "parent": nodes[parent]["parent"], "message": _said(mark)}
            nodes[f"b{position}"]["message"]["create_time"] = TIME - 1
            found.fates[mark] = PASSED_OVER
    found.value = {"conversation_id": found.session, "title": "t", "current_node": parent, "mapping": nodes}
    found.value |= rng.choice(
        [{"title": "cut \ud83d"}, {"title": 7}, {"create_time": rng.choice([0, -1, "soon"])}, {}, {}, {"safe_urls": 7}]
    )
    if not earlier:  # so that the newest branch is that of current_node
        found.fates["<last>"] = STORED
        add("last", _said("<last>"))
    nodes[parent]["message"] = _later(nodes[parent]["message"])
    found.value["current_node"] = rng.choice([parent, parent, parent, None, "nowhere", 7])
    if "n2" in nodes and rng.random() < 0.3:
        nodes["n2"]["parent"] = rng.choice(["nowhere", 7, ["n1"]])
    elif rng.random() < 0.1:
        nodes["root"]["parent"] = parent  # a cycle
    found.grown = copy.deepcopy(found.value)
    nodes, parent = found.grown["mapping"], parent
    for position in range(rng.randint(0, 3)):
        mark = f"<{number}.new{position}>"
        found.new.append(mark)
        add(f"new{position}", _said(mark, create_time=TIME + 100 + position))
    if found.grown["current_node"] in nodes:
        found.grown["current_node"] = parent
    if nodes["root"]["parent"] is not None:
        nodes["root"]["parent"] = parent
    _annotate(found.grown, rng)
    return found


def _later(message: Any) -> Any:
    return {**message, "create_time": TIME + 50} if isinstance(message, dict) else message


def _annotate(value: dict[str, Any], rng: random.Random) -> None:
    """Change what ChatGPT notes about messages, but no text."""
    value["update_time"] = TIME + 1_000
    for node in value["mapping"].values():
        message = node["message"]
        if not isinstance(message, dict):
            continue
        metadata = message.get("metadata")
        if isinstance(metadata, dict):
            metadata |= rng.choice([{"model_slug": "other"}, {"citations": [1]}, {"is_visually_hidden": False}])
            for each in metadata.get("attachments") or ():
                each["size"] = 7
        if isinstance(message.get("create_time"), float):
            message["create_time"] += 0.000001
        message |= rng.choice([{"channel": "final"}, {"update_time": 1.0}, {"weight": 1.0}, {"end_turn": True}])
        content = message.get("content")
        for part in content.get("parts") or () if isinstance(content, dict) else ():
            if isinstance(part, dict) and "asset_pointer" in part:
                part["asset_pointer"] = f"sediment://{part['asset_pointer']}"


# Chat completions, and messages of AgentScope Runtime


def _odd_completion(rng: random.Random, mark: str, earlier: list[dict[str, Any]]) -> tuple[Any, str]:
    said: dict[str, Any] = {"id": mark, "role": "user", "content": mark}
    call = {"id": "c", "function": {"name": "f", "arguments": mark}}
    changes: list[tuple[dict[str, Any], str]] = [
        ({}, STORED),
        ({"id": None}, STORED),
        ({"id": []}, STORED),
        ({"content": [{"type": "text", "text": mark}, {"type": "x"}]}, STORED),
        ({"role": "developer", "name": "n"}, STORED),
        ({"role": "tool", "tool_call_id": "c"}, STORED),
        ({"role": "assistant", "content": None, "tool_calls": [call, call], "reasoning_content": "r"}, STORED),
        ({"role": "assistant", "content": "", "refusal": mark}, STORED),
        ({"time": "soon"}, STORED),
        ({"object": "message", "content": [{"type": "text", "text": mark}]}, STORED),
        ({"object": "message", "type": "plugin_call", "content": [{"type": "data", "data": {"x": mark}}]}, STORED),
        ({"role": "bot"}, PROBLEM),
        ({"role": None}, PROBLEM),
        ({"content": 7}, PROBLEM),
        ({"content": [7]}, PROBLEM),
        ({"metadata": [1]}, PROBLEM),
        ({"tool_calls": "x"}, PROBLEM),
        ({"id": "x" * 600}, PROBLEM),
        ({"id": "\0"}, PROBLEM),
        ({"object": "message", "content": [{"type": "none"}]}, PROBLEM),
    ]
    if rng.random() < 0.05:
        return rng.choice([7, None, "text", []]), PROBLEM
    if earlier and rng.random() < 0.15:
        other = rng.choice(earlier)
        return rng.choice([({**said, "id": other["id"]}, STORED), (copy.deepcopy(other), PASSED_OVER)])
    change, fate = rng.choice(changes)
    return {**said, **change}, fate


@conversations_of("chat completions")
def completions(rng: random.Random, number: int) -> Conversation:
    """Return a conversation of chat completions."""
    found = Conversation(f"user {number % 3}", f"g{number}", None, None)
    messages, earlier = list[Any](), list[dict[str, Any]]()
    for position in range(rng.randint(1, 8)):
        mark = f"<{number}.{position}>"
        message, fate = _odd_completion(rng, mark, earlier)
        if fate == STORED and isinstance(message["id"], str):
            earlier.append(message)
        found.fates[mark] = fate
        messages.append(message)
    if STORED not in found.fates.values():
        found.fates["<last>"] = STORED
        messages.append({"id": "<last>", "role": "user", "content": "<last>"})
    head: dict[str, Any] = {"session": found.session, "user": found.user}
    head |= rng.choice(
        [
            {"title": 7},
            {"title": "\ud83d"},
            {"time": "soon"},
            {"created_at": []},
            {"metadata": 7},
            {"title": "t" * 20_000},
        ]
    )
    found.value = {**head, "messages": messages}
    found.grown = copy.deepcopy(found.value)
    for message in found.grown["messages"]:
        if isinstance(message, dict) and isinstance(message.get("id"), str) and "metadata" not in message:
            message["metadata"] = {"model": "other"}
    for position in range(rng.randint(0, 3)):
        mark = f"<{number}.new{position}>"
        found.new.append(mark)
        found.grown["messages"].append({"role": "assistant", "content": mark})
    return found


@conversations_of("agentstore's own export")
def exported(rng: random.Random, number: int) -> Conversation:
    """Return a session as ``agentstore sessions export`` writes it."""
    found = Conversation("u", f"e{number}", None, None)
    messages: list[Any] = []
    for position in range(rng.randint(1, 6)):
        mark = f"<{number}.{position}>"
        message: dict[str, Any] = {"id": mark, "role": "user", "content": [{"type": "text", "text": mark}]}
        odd: dict[str, Any] = rng.choice(
            [{}, {}, {"status": "x"}, {"id": None}, {"role": "bot"}, {"content": 7}, {"usage": []}]
        )
        found.fates[mark] = STORED if odd == {} or "status" in odd else PROBLEM
        messages.append({**message, **odd})
    found.fates["<last>"] = STORED
    messages.append({"id": "<last>", "role": None, "content": [{"type": "refusal", "refusal": "<last>"}]})
    found.value = {"object": "session", "id": found.session, "user_id": found.user, "messages": messages}
    mark = f"<{number}.new>"
    found.new.append(mark)
    new = {"id": mark, "role": "user", "content": [{"type": "text", "text": mark}]}
    annotated = [{**each, "metadata": {"x": 1}} for each in copy.deepcopy(messages)]
    found.grown = {**found.value, "messages": [*annotated, new]}
    return found


# The values of other stores


def _odd_item(rng: random.Random, mark: str) -> tuple[Any, str]:
    """Return an item of the Responses API. What is no valid item is stored as data."""
    items: list[tuple[Any, str]] = [
        ({"role": "user", "content": mark}, STORED),
        ({"role": "developer", "content": [{"type": "input_text", "text": mark}, {"type": "x"}]}, STORED),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": mark}, STORED),
        ({"type": "function_call_output", "call_id": "c", "output": [mark]}, STORED),
        ({"type": "reasoning", "summary": [{"type": "summary_text", "text": mark}]}, STORED),
        ({"type": "unknown", "x": mark}, STORED),
        ({"role": "bot", "content": mark}, STORED),
        ({"type": 7, "content": mark}, STORED),
        ({"role": "user", "content": 7, "x": mark}, STORED),
        ({"type": "reasoning", "summary": mark}, STORED),
        ({"role": "user", "content": [7], "x": mark}, STORED),
        ([mark], PROBLEM),
        (mark, PROBLEM),
    ]
    return rng.choice(items)


def _odd_block_message(rng: random.Random, mark: str) -> tuple[dict[str, Any], str]:
    """Return a message of AgentScope 2."""
    said: dict[str, Any] = {"role": "assistant", "name": "n", "content": [{"type": "text", "text": mark}]}
    blocks = [{"type": "thinking", "thinking": "t"}, {"type": "tool_call", "id": "c", "input": mark}]
    changes: list[tuple[dict[str, Any], str]] = [
        ({}, STORED),
        ({"content": mark}, STORED),
        ({"content": blocks}, STORED),
        ({"content": [{"type": "unknown", "x": mark}]}, STORED),
        ({"created_at": 7}, STORED),
        ({"role": "bot"}, PROBLEM),
        ({"content": 7}, PROBLEM),
        ({"content": [7]}, PROBLEM),
        ({"metadata": [7]}, PROBLEM),
    ]
    change, fate = rng.choice(changes)
    return {**said, **change}, fate


def _store_values(
    kind: Callable[[random.Random, str], tuple[Any, str]], prefix: str, rng: random.Random, number: int
) -> Conversation:
    """Return a conversation whose value is the list of its messages."""
    found = Conversation("alice", f"{prefix}{number}", [], None)
    for position in range(rng.randint(1, 6)):
        mark = f"<{number}.{position}>"
        message, fate = kind(rng, mark)
        found.fates[mark] = fate
        found.value.append(message)
    found.grown = copy.deepcopy(found.value)
    for position in range(rng.randint(0, 3)):
        mark = f"<{number}.new{position}>"
        message, fate = kind(random.Random(0), mark)
        while fate != STORED:
            message, fate = kind(rng, mark)
        found.new.append(mark)
        found.grown.append(message)
    return found


def openai_agents(rng: random.Random, number: int) -> Conversation:
    """Return the items of a session of openai-agents."""
    return _store_values(_odd_item, "o", rng, number)


def agentscope2(rng: random.Random, number: int) -> Conversation:
    """Return the messages of a session of AgentScope 2."""
    return _store_values(_odd_block_message, "a", rng, number)


def redis_services(rng: random.Random, number: int) -> Conversation:
    """Return a session of AgentScope Runtime's Redis services."""
    found = exported(rng, number)
    found.value, found.grown = found.value["messages"], found.grown["messages"]
    for mark, message in zip(found.fates, found.value, strict=True):
        if message["id"] is None:  # derived from the message, which therefore stays the same
            found.fates[mark] = STORED
            found.grown[found.value.index(message)] = message
    return found


STORES: dict[str, Generator] = {
    "openai-agents": openai_agents,
    "agentscope-2": agentscope2,
    "redis": redis_services,
}
