"""Convert conversations of a ChatGPT export.

A conversation is a tree, since questions can be edited and answers regenerated. The path from the root to
``current_node`` is what the user saw last; it is imported, the other branches are not.
"""

from typing import Any

from agentstore.importing.notes import Notes
from agentstore.schemas import ContentType, MessageType, Role, RunStatus
from agentstore.schemas.parts import data_part, json_type, quote, require_object, text_part
from agentstore.schemas.times import parse_time

_ROLES = {"system": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT, "tool": Role.TOOL}
_HEAD = {"mapping", "current_node", "title", "create_time", "update_time", "id", "conversation_id", "user", "user_id"}
_STATUS = {
    "finished_successfully": RunStatus.Completed,
    "finished_partial_completion": RunStatus.Incomplete,
    "in_progress": RunStatus.InProgress,
}
# The number of nodes that are searched for the time of a branch.
_NEAREST = 10
_HIDDEN = "is_visually_hidden_from_conversation"
# Message metadata that is stored; most of the rest describes how ChatGPT displays the message.
_STORED_METADATA = ("model_slug", "attachments", "is_user_system_message", _HIDDEN)
# Instructions and memories that ChatGPT adds to a conversation, some of them as messages of the user.
_CONTEXT = ("user_editable_context", "model_editable_context")


def path(conversation: dict[str, Any], notes: Notes) -> tuple[list[tuple[str, dict[str, Any]]], int]:
    """Return the messages from the root to ``current_node`` with their nodes, and the number of all messages.

    The other messages become notes. Where the tree is broken, the path is completed from what there is.

    Raises:
        InvalidContent: there is no tree.
    """
    mapping = require_object(conversation["mapping"], "mapping")
    count = 0
    nodes: dict[str, dict[str, Any]] = {}
    for key, node in mapping.items():
        if isinstance(node, dict):
            nodes[key] = node
            count += node.get("message") is not None
        elif node is not None:
            notes.problem(f"mapping.{key}", f"expected an object, got {json_type(node)}")
            count += 1
    found = dict.fromkeys(_Tree(nodes, notes).path(conversation.get("current_node"))[::-1])
    messages = []
    for key in found:
        message = nodes[key].get("message")
        if isinstance(message, dict):
            messages.append((key, message))
        elif message is not None:
            notes.problem(f"mapping.{key}", f"message: expected an object, got {json_type(message)}")
    for key, node in nodes.items():
        if key not in found and node.get("message") is not None:
            notes.passed_over(f"mapping.{key}", "on another branch than current_node")
    return messages, count


class _Tree:
    """The nodes of a conversation, and the parents of those that have one."""

    def __init__(self, nodes: dict[str, dict[str, Any]], notes: Notes) -> None:
        self._nodes = nodes
        self._notes = notes
        self._parents: dict[str, str] = {}
        self._broken: set[str] = set()
        self._tops: dict[str, str] = {}
        for key, node in nodes.items():
            parent = node.get("parent")
            if isinstance(parent, str) and parent in nodes:
                self._parents[key] = parent
            elif parent is not None:
                self._broken.add(key)
        if self._broken:
            for key, node in nodes.items():
                for child in children if isinstance(children := node.get("children"), list) else ():
                    if isinstance(child, str) and child in self._broken and child not in self._parents:
                        self._parents[child] = key

    def path(self, current: Any) -> list[str]:
        """Return the nodes from the current one to the root."""
        rest: list[str] | None = None
        if not isinstance(current, str) or current not in self._nodes:
            if not self._nodes:
                return []
            rest = self._newest()
            reason = "missing" if current is None else f"there is no node {quote(current)}"
            current = rest.pop()
            self._notes.changed("current_node", f"{reason}: took the newest node without successors, {quote(current)}")
        found: dict[str, None] = {}
        used: set[str] = set()
        while True:
            key = self._climb(current, found)
            parent = self._nodes[key].get("parent")
            if parent is None:
                return list(found)
            # The parent does not exist, or is a successor: continue with the newest branch of the remaining nodes.
            rest = self._newest() if rest is None else rest
            used.add(self._top(key))
            while rest and self._top(rest[-1]) in used:
                rest.pop()
            is_cycle = key in self._parents
            reason = "the node is its own ancestor" if is_cycle else f"parent: there is no node {quote(parent)}"
            if not rest:
                self._notes.changed(f"mapping.{key}", f"{reason}: the conversation begins here")
                return list(found)
            current = rest.pop()
            self._notes.changed(f"mapping.{key}", f"{reason}: continued with {quote(current)}")

    def _climb(self, key: str, found: dict[str, None]) -> str:
        """Add a node and its ancestors to `found`, and return the last of them."""
        while True:
            found[key] = None
            parent = self._parents.get(key)
            if parent is None or parent in found:
                return key
            if key in self._broken:
                self._notes.changed(f"mapping.{key}", f"parent: took {quote(parent)}, which has the node as a child")
            key = parent

    def _newest(self) -> list[str]:
        """Return the nodes without successors and those of cycles, the newest last."""
        inner = set(self._parents.values())
        leaves = [key for key in self._nodes if key not in inner or self._top(key) in self._parents]
        return sorted(leaves, key=self._time)

    def _time(self, key: str) -> float:
        """Return the time of the message of a node, or else of one of its nearest ancestors, in seconds since 1970."""
        at: str | None = key
        for _ in range(_NEAREST):
            message = None if at is None else self._nodes[at].get("message")
            if isinstance(message, dict) and (time := parse_time(message.get("create_time"))) is not None:
                return time.timestamp()
            at = None if at is None else self._parents.get(at)
        return 0.0

    def _top(self, key: str) -> str:
        """Return the ancestor of a node that has no parent, or one node of the cycle that its ancestors form."""
        chain: dict[str, None] = {}
        while key not in self._tops and key not in chain:
            chain[key] = None
            if (parent := self._parents.get(key)) is None:
                break
            key = parent
        top = self._tops.get(key, key)
        self._tops.update(dict.fromkeys(chain, top))
        return top


def beginning(messages: list[tuple[str, dict[str, Any]]]) -> Any:
    """Return what identifies a conversation without an id in each of its exports, or None without messages."""
    return next(([node, message.get("id"), message.get("content")] for node, message in messages), None)


def metadata(conversation: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a conversation other than its tree, ids, title and times."""
    rest = {name: value for name, value in conversation.items() if name not in _HEAD and value not in (None, [], {})}
    return {"source": "chatgpt", **rest}


def message(raw: dict[str, Any], place: str, notes: Notes) -> dict[str, Any] | None:
    """Return the fields of a Message without its id, or None if the message is empty, which is noted as passed over.

    A value of a wrong type goes to ``metadata.chatgpt`` unchanged, and is noted.
    """
    other: dict[str, Any] = {}
    changes = Notes()
    author, content, raw_metadata = _objects(raw, other, place, changes)
    raw_role, name, recipient = author.get("role"), author.get("name"), raw.get("recipient")
    attachments = raw_metadata.get("attachments")
    parts, rest = _parts(content)
    parts += _files(attachments, parts)
    images = _charts(raw_metadata)
    if not (parts or rest or images or attachments):
        notes.passed_over(place, "the message has no content")
        return None
    role = _ROLES.get(raw_role) if isinstance(raw_role, str) else None
    if role is None:
        if raw_role is not None:
            other["role"] = raw_role
        if isinstance(raw.get("author"), dict):
            changes.changed(place, f"author.role: {quote(raw_role)} is not one of {', '.join(_ROLES)}: stored without")
    elif content.get("content_type") in _CONTEXT or (role == Role.USER and raw_metadata.get(_HIDDEN)):
        # ChatGPT does not display it, and the user did not write it.
        other |= {} if role == Role.SYSTEM else {"role": raw_role}
        role = Role.SYSTEM
    status = raw.get("status")
    fields: dict[str, Any] = {"role": role, "status": RunStatus.Completed}
    if isinstance(status, str):
        fields["status"] = _STATUS.get(status, RunStatus.Completed)
    text = _text(parts)
    if content.get("content_type") in ("thoughts", "reasoning_recap"):
        fields["type"] = MessageType.REASONING
    elif role == Role.TOOL and (text is not None or (images and not parts)):
        fields["type"] = MessageType.FUNCTION_CALL_OUTPUT
        parts = [data_part({"call_id": None, "name": name, "output": text or ""})]
    elif role == Role.ASSISTANT and recipient not in (None, "all") and text is not None and isinstance(recipient, str):
        fields["type"] = MessageType.FUNCTION_CALL
        parts = [data_part({"call_id": None, "name": recipient, "arguments": text})]
    details = {
        "author": name,
        "recipient": None if recipient == "all" else recipient,
        "channel": raw.get("channel"),
        "content": rest,
        "status": None if status == "finished_successfully" else status,
        "weight": None if raw.get("weight") == 1 else raw.get("weight"),
        **{each: raw_metadata.get(each) for each in _STORED_METADATA},
    }
    details = {each: value for each, value in details.items() if value not in (None, {}, [])} | other
    if role == Role.ASSISTANT and "end_turn" in raw and raw["end_turn"] is not True:
        details["end_turn"] = raw["end_turn"]
    time = raw.get("create_time")
    if time is not None and parse_time(time) is None:
        changes.changed(place, f"create_time: {quote(time)} is not a valid timestamp: stored in the metadata")
        time, details["create_time"] = None, time
    notes.found += changes.found
    found = {"timestamp": time, "chatgpt": details}
    return {**fields, "content": [*parts, *images] or None, "metadata": {k: v for k, v in found.items() if v}}


def _objects(
    raw: dict[str, Any], other: dict[str, Any], place: str, notes: Notes
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return author, content and metadata of a message as objects; values of another type go to `other`."""

    def note(name: str, expected: str = "an object") -> None:
        found = "missing" if raw.get(name) is None else f"expected {expected}, got {json_type(raw[name])}"
        notes.changed(place, f"{name}: {found}")

    author, content, metadata = raw.get("author"), raw.get("content"), raw.get("metadata")
    if not isinstance(author, dict):
        note("author")
        is_role = isinstance(author, str) and author in _ROLES
        if not is_role and author is not None:
            other["author"] = author
        author = {"role": author} if is_role else {}
    if isinstance(content, (str, list)):
        note("content")
        content = {"parts": content if isinstance(content, list) else [content]}
    elif content is not None and not isinstance(content, dict):
        note("content")
        content = {"parts": [{"value": content}]}
    if metadata is not None and not isinstance(metadata, dict):
        note("metadata")
        other["metadata"] = metadata
        metadata = None
    if not isinstance(raw.get("recipient"), (str, type(None))):
        note("recipient", "a string")
    return author, content or {}, metadata or {}


def _parts(content: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the parts of a content, and its other fields."""

    def without(*names: str) -> dict[str, Any]:
        rest = {name: value for name, value in content.items() if name not in ("content_type", *names)}
        return {name: value for name, value in rest.items() if value not in (None, "", [], {})}

    if isinstance(listed := content.get("parts"), list):
        return [part for each in listed if (part := _part(each)) is not None], without("parts")
    if isinstance(thoughts := content.get("thoughts"), list):
        return [_thought(each) for each in thoughts], without("thoughts")
    texts = [name for name in ("text", "result", "content") if isinstance(content.get(name), str)]
    if len(texts) == 1:
        return [text_part(content[texts[0]])] if content[texts[0]] else [], without(texts[0])
    return [data_part(content)] if without() else [], {}


def _part(part: Any) -> dict[str, Any] | None:
    if isinstance(part, str):
        return text_part(part) if part else None
    if not isinstance(part, dict):
        return None if part is None else data_part({"value": part})
    content_type, pointer = part.get("content_type"), part.get("asset_pointer")
    if content_type == "image_asset_pointer" and isinstance(pointer, str):
        return {**_rest(part), "type": ContentType.IMAGE, "image_url": pointer}
    if content_type == "audio_asset_pointer" and isinstance(pointer, str):
        return {**_rest(part), "type": ContentType.FILE, "file_id": pointer}
    if content_type == "audio_transcription" and isinstance(text := part.get("text"), str):
        return text_part(text)
    return data_part(part)


def _files(attachments: Any, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a part for each attached file; images that are among the `parts` have one already."""
    pointers = [part.get("image_url") or part.get("file_id") for part in parts]
    found = []
    for each in attachments if isinstance(attachments, list) else ():
        file = each if isinstance(each, dict) else {}
        id, name = (value if isinstance(value := file.get(field), str) else None for field in ("id", "name"))
        if not (id or name) or (id and any(pointer and pointer.endswith(id) for pointer in pointers)):
            continue
        fields = {"file_id": id, "filename": name, "mime_type": file.get("mime_type")}
        found.append({"type": ContentType.FILE, **{field: value for field, value in fields.items() if value}})
    return found


def _charts(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a part for each image that the code interpreter displayed."""
    result = metadata.get("aggregate_result")
    shown = result.get("messages") if isinstance(result, dict) else None
    return [
        {**_rest(each), "type": ContentType.IMAGE, "image_url": each["image_url"]}
        for each in (shown if isinstance(shown, list) else ())
        if isinstance(each, dict) and isinstance(each.get("image_url"), str)
    ]


def _thought(thought: Any) -> dict[str, Any]:
    texts = [thought.get(name) for name in ("summary", "content")] if isinstance(thought, dict) else [thought]
    if not all(isinstance(each, (str, type(None))) for each in texts):
        return data_part({"thought": thought})
    return text_part("\n".join(filter(None, texts)))


def _rest(part: dict[str, Any]) -> dict[str, Any]:
    used = ("content_type", "asset_pointer", "image_url", "file_id", "file_url", "filename", "file_data")
    reserved = ("type", "object", "error", "status", "index", "delta", "sequence_number", "msg_id")
    return {name: value for name, value in part.items() if name not in (*used, *reserved) and value is not None}


def _text(parts: list[dict[str, Any]]) -> str | None:
    """Return the text of parts that are all text, otherwise None."""
    if not parts or any(part["type"] != ContentType.TEXT for part in parts):
        return None
    return "\n".join(part["text"] for part in parts)
