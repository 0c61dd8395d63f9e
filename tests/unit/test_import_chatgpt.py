"""Odd conversations of ChatGPT exports: each has a documented treatment that keeps the rest."""

import random
from typing import Any

import pytest

from agentstore.importing.notes import Kind
from agentstore.importing.translate import Translator
from agentstore.importing.translated import Translated
from agentstore.schemas import Message

_TIME = 1_700_000_000.0


def _text(text: Any) -> dict[str, Any]:
    return {"content_type": "text", "parts": [text]}


def _message(id: str, role: str = "user", content: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "author": {"role": role},
        "create_time": _TIME,
        "content": _text(f"text of {id}") if content is None else content,
        "recipient": "all",
        "metadata": {},
        **more,
    }


def _conversation(*messages: Any, **more: Any) -> dict[str, Any]:
    """Return a conversation whose messages follow each other."""
    nodes: dict[str, Any] = {"root": {"id": "root", "parent": None, "children": [], "message": None}}
    parent = "root"
    for number, each in enumerate(messages):
        key = f"n{number}"
        nodes[parent]["children"].append(key)
        nodes[key] = {"id": key, "parent": parent, "children": [], "message": each}
        parent = key
    return {"conversation_id": "c", "title": "t", "current_node": parent, "mapping": nodes, **more}


def _translate(value: dict[str, Any]) -> Translated:
    translated = Translator("file", "default").translate(value)
    given = [
        node.get("message") if isinstance(node, dict) else node
        for node in value["mapping"].values()
        if node is not None
    ]
    assert translated.messages == sum(each is not None for each in given)
    assert translated.messages == translated.count() + sum(note.messages for note in translated.notes)
    return translated


def _notes(translated: Translated) -> list[tuple[str, str]]:
    return [(note.kind, note.place) for note in translated.notes]


def _one(message: Any, *notes: tuple[str, str]) -> Message:
    """Translate a message between two others; return it, after comparing the notes."""
    translated = _translate(_conversation(_message("before"), message, _message("after", "assistant")))
    assert _notes(translated) == list(notes)
    first, *middle, last = translated.session.messages
    assert (first.id, last.id) == ("before", "after")
    (found,) = middle
    return found


def _chatgpt(message: Message) -> Any:
    return (message.metadata or {}).get("chatgpt")


_CHANGED, _PASSED_OVER, _PROBLEM = Kind.CHANGED, Kind.PASSED_OVER, Kind.PROBLEM


def test_message_that_is_only_a_file_has_a_part_for_it() -> None:
    file = {"id": "file-1", "name": "contract.pdf", "mime_type": "application/pdf", "size": 7}
    for content in (_text(""), None, {"content_type": "text"}):
        raw = _message("m", metadata={"attachments": [file]}) | {"content": content}
        found = _one(raw)
        (part,) = found.content or []
        assert part.model_dump(exclude_defaults=True) == {
            "file_id": "file-1",
            "filename": "contract.pdf",
            "mime_type": "application/pdf",
        }
        assert _chatgpt(found)["attachments"] == [file]


def test_attached_image_is_stored_once_and_odd_attachments_in_the_metadata() -> None:
    pointer = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-A"}
    attachments = [{"id": "file-A", "name": "a.png"}, {"id": 7, "name": "b.txt"}, {"id": None}, "x"]
    found = _one(_message("m", content={"parts": [pointer, "see"]}, metadata={"attachments": attachments}))
    assert [part.type for part in found.content or ()] == ["image", "text", "file"]
    assert _chatgpt(found)["attachments"] == attachments
    for odd in ({"x": 1}, "file", [7]):
        found = _one(_message("m", content=_text(""), metadata={"attachments": odd}))
        assert (found.content, _chatgpt(found)) == (None, {"attachments": odd})


@pytest.mark.parametrize("text", ["", "<Figure size 640x480>"])
def test_chart_of_the_code_interpreter_is_stored_with_its_output(text: str) -> None:
    shown = [{"message_type": "image", "image_url": "file-service://chart", "width": 640}, {"message_type": "stream"}]
    raw = _message(
        "m",
        author={"role": "tool", "name": "python"},
        content={"content_type": "execution_output", "text": text},
        metadata={"aggregate_result": {"status": "success", "messages": shown}},
    )
    found = _one(raw)
    output, image = found.content or []
    assert found.type == "function_call_output"
    assert getattr(output, "data", None) == {"call_id": None, "name": "python", "output": text}
    assert image.model_dump(exclude_defaults=True) == {
        "image_url": "file-service://chart",
        "message_type": "image",
        "width": 640,
    }
    for odd in ("x", {"messages": "x"}, {"messages": [7, {"image_url": 7}]}):
        raw["metadata"] = {"aggregate_result": odd}
        translated = _translate(_conversation(raw))
        assert len(translated.session.messages) == bool(text)
        assert _notes(translated) == ([] if text else [(_PASSED_OVER, "mapping.n0")])


@pytest.mark.parametrize(
    ("content", "role", "is_hidden"),
    [
        ({"content_type": "user_editable_context", "user_profile": "p"}, "user", True),
        ({"content_type": "user_editable_context", "user_profile": "p"}, "user", False),
        ({"content_type": "model_editable_context", "model_set_context": "p"}, "assistant", False),
        (_text("Recalled from memory"), "user", True),
    ],
)
def test_hidden_context_is_marked_and_not_by_the_user(content: Any, role: str, is_hidden: bool) -> None:
    hidden = {"is_visually_hidden_from_conversation": True} if is_hidden else {}
    found = _one(_message("m", role, content, metadata=hidden))
    assert found.role == "system"
    assert _chatgpt(found) == {"role": role, **hidden}


def test_hidden_message_of_the_system_and_of_the_assistant_stay_theirs() -> None:
    for role in ("system", "assistant"):
        found = _one(_message("m", role, metadata={"is_visually_hidden_from_conversation": True}))
        assert (found.role, _chatgpt(found)) == (role, {"is_visually_hidden_from_conversation": True})


def test_flags_of_unfinished_answers_are_stored() -> None:
    found = _one(_message("m", "assistant", status="in_progress", end_turn=None, weight=0.0))
    assert found.status == "in_progress"
    assert _chatgpt(found) == {"status": "in_progress", "weight": 0.0, "end_turn": None}
    found = _one(_message("m", "assistant", status="finished_partial_completion", end_turn=False, weight=1.0))
    assert (found.status, _chatgpt(found)) == (
        "incomplete",
        {"status": "finished_partial_completion", "end_turn": False},
    )
    found = _one(_message("m", "assistant", status="finished_successfully", end_turn=True, weight=1))
    assert (found.status, _chatgpt(found)) == ("completed", None)
    found = _one(_message("m", "user", status=["x"], weight="x"))
    assert (found.status, _chatgpt(found)) == ("completed", {"status": ["x"], "weight": "x"})


@pytest.mark.parametrize("content", [None, _text(""), _text(None), {}, {"content_type": "text"}, "", []])
def test_message_without_content_is_passed_over(content: Any) -> None:
    raw = _message("m") | {"content": content}
    translated = _translate(_conversation(_message("a"), raw, _message("b")))
    assert _notes(translated) == [(_PASSED_OVER, "mapping.n1")]
    assert [each.id for each in translated.session.messages] == ["a", "b"]
    del raw["content"]
    assert _notes(_translate(_conversation(raw))) == [(_PASSED_OVER, "mapping.n0")]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("hello", [("text", "hello")]),
        (["hello", "you"], [("text", "hello"), ("text", "you")]),
        (7, [("data", {"value": 7})]),
        (True, [("data", {"value": True})]),
    ],
)
def test_content_of_another_type_is_stored_and_counted(content: Any, parts: list[Any]) -> None:
    found = _one(_message("m") | {"content": content}, (_CHANGED, "mapping.n1"))
    assert [(part.type, getattr(part, part.type)) for part in found.content or ()] == parts


@pytest.mark.parametrize("author", [None, {}, {"role": None}, {"role": "critic"}, {"role": ["user"]}, "critic", [1], 7])
def test_message_without_a_valid_role_is_stored_without_one(author: Any) -> None:
    found = _one(_message("m") | {"author": author}, (_CHANGED, "mapping.n1"))
    assert found.role is None
    role = author.get("role") if isinstance(author, dict) else None
    assert _chatgpt(found) == (
        {"role": role} if role is not None else None if author in (None, {}, {"role": None}) else {"author": author}
    )


def test_author_that_is_a_role_is_one() -> None:
    assert _one(_message("m") | {"author": "assistant"}, (_CHANGED, "mapping.n1")).role == "assistant"


@pytest.mark.parametrize("id", [None, "", ["x"], {"x": 1}, True, pytest.param(10**5_000, id="huge")])
def test_message_without_a_valid_id_gets_that_of_its_node(id: Any) -> None:
    assert _one(_message("m") | {"id": id}, (_CHANGED, "mapping.n1")).id == "n1"


@pytest.mark.parametrize("time", [0, -1, -1.5, "soon", [], {}, True, 1e300])
def test_unusable_time_goes_to_the_metadata(time: Any) -> None:
    found = _one(_message("m", create_time=time), (_CHANGED, "mapping.n1"))
    assert found.metadata == {"chatgpt": {"create_time": time}}


def test_missing_time_is_no_change() -> None:
    assert _one(_message("m", create_time=None)).metadata == {}


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        ("metadata", [1], {"metadata": [1]}),
        ("metadata", "x", {"metadata": "x"}),
        ("recipient", ["python"], {"recipient": ["python"]}),
        ("recipient", {"x": 1}, {"recipient": {"x": 1}}),
    ],
)
def test_value_of_a_wrong_type_goes_to_the_metadata(field: str, value: Any, stored: dict[str, Any]) -> None:
    found = _one(_message("m", "user", **{field: value}), (_CHANGED, "mapping.n1"))
    assert _chatgpt(found) == stored


def test_part_with_fields_of_wrong_types_is_stored() -> None:
    part = {"content_type": "image_asset_pointer", "asset_pointer": "p", "index": "x", "msg_id": 7, "size": 1}
    (image,) = _one(_message("m", content={"parts": [part]})).content or []
    assert image.model_dump(exclude_defaults=True) == {"image_url": "p", "size": 1}
    others: list[Any] = [7, ["x"], {"asset_pointer": 7}, {"content_type": "audio_transcription", "text": 7}]
    found = _one(_message("m", content={"parts": [*others, None]}))
    assert [part.type for part in found.content or ()] == ["data"] * 4


@pytest.mark.parametrize("title", ["Trip to Chengdu \ud83d", "\udca9 x", "a\0b"])
def test_title_that_cannot_be_stored_is_repaired(title: str) -> None:
    translated = _translate(_conversation(_message("m"), title=title))
    assert _notes(translated) == [(_CHANGED, "title")]
    repaired = translated.session.title or ""
    assert repaired.encode()
    assert len(repaired) == len(title)
    assert "\ufffd" in repaired
    assert "\0" not in repaired


@pytest.mark.parametrize(("field", "value"), [("title", 7), ("title", ["x"]), ("create_time", 0), ("update_time", -1)])
def test_head_of_a_wrong_type_goes_to_the_metadata(field: str, value: Any) -> None:
    translated = _translate(_conversation(_message("m"), **{field: value}))
    assert _notes(translated) == [(_CHANGED, field)]
    assert translated.session.metadata == {"source": "chatgpt", field: value}


def test_long_title_is_cut_and_stored_in_the_metadata() -> None:
    translated = _translate(_conversation(_message("m"), title="x" * 10_001))
    assert (translated.session.title, translated.session.metadata["title"]) == ("x" * 10_000, "x" * 10_001)
    assert _notes(translated) == [(_CHANGED, "title")]


# The tree


def _ids(translated: Translated) -> list[str]:
    return [each.id for each in translated.session.messages]


def test_other_branches_are_passed_over() -> None:
    value = _conversation(_message("a"), _message("b", "assistant"), _message("c"))
    value["mapping"]["n1b"] = {"id": "n1b", "parent": "n0", "children": [], "message": _message("regenerated")}
    translated = _translate(value)
    assert _ids(translated) == ["a", "b", "c"]
    assert _notes(translated) == [(_PASSED_OVER, "mapping.n1b")]


@pytest.mark.parametrize("current", [None, "nowhere", 7, ["n1"]])
def test_without_a_current_node_the_newest_leaf_is_taken(current: Any) -> None:
    value = _conversation(_message("a"), _message("b"), current_node=current)
    newer = _message("newer", create_time=_TIME + 10)
    value["mapping"]["other"] = {"id": "other", "parent": "n0", "children": [], "message": newer}
    value["mapping"]["last"] = {"id": "last", "parent": "other", "children": [], "message": None}
    value["mapping"]["old"] = {"id": "old", "parent": "n0", "children": [], "message": _message("o", create_time=0)}
    translated = _translate(value)
    assert _ids(translated) == ["a", "newer"]
    assert _notes(translated)[0] == (_CHANGED, "current_node")
    assert sorted(_notes(translated)[1:]) == [(_PASSED_OVER, "mapping.n1"), (_PASSED_OVER, "mapping.old")]
    del value["current_node"]
    assert _ids(_translate(value)) == ["a", "newer"]


def test_empty_tree_is_a_session_without_messages() -> None:
    values: list[dict[str, Any]] = [{"mapping": {}}, _conversation(current_node=None)]
    for value in values:
        assert _ids(_translate(value)) == []


def test_missing_parent_is_found_by_its_children() -> None:
    value = _conversation(*map(_message, "abcd"))
    value["mapping"]["n2"]["parent"] = "nowhere"
    translated = _translate(value)
    assert _ids(translated) == ["a", "b", "c", "d"]
    assert _notes(translated) == [(_CHANGED, "mapping.n2")]


@pytest.mark.parametrize("parent", ["nowhere", 7, ["n1"]])
def test_missing_node_joins_the_branches_on_its_sides(parent: Any) -> None:
    value = _conversation(*map(_message, "abcd"))
    value["mapping"]["n2"]["parent"] = parent
    value["mapping"]["n1"]["children"] = "none"
    translated = _translate(value)
    assert _ids(translated) == ["a", "b", "c", "d"]
    assert _notes(translated) == [(_CHANGED, "mapping.n2")]


def test_cycle_is_cut() -> None:
    value = _conversation(*map(_message, "abcd"))
    value["mapping"]["n1"]["parent"] = "n3"  # n1 -> n3 -> n2 -> n1
    translated = _translate(value)
    assert _ids(translated) == ["a", "b", "c", "d"]
    assert _notes(translated) == [(_CHANGED, "mapping.n1")]
    value["mapping"]["n0"]["parent"] = "n0"
    value["mapping"].pop("root")
    translated = _translate({**value, "current_node": None})
    assert sorted(_ids(translated)) == ["a", "b", "c", "d"]


def test_node_that_is_no_object_is_a_problem_and_the_rest_is_stored() -> None:
    value = _conversation(*map(_message, "abcd"))
    value["mapping"]["n1"]["message"] = "text"
    value["mapping"]["odd"] = 7
    value["mapping"]["null"] = None
    translated = _translate(value)
    assert _ids(translated) == ["a", "c", "d"]
    assert _notes(translated) == [(_PROBLEM, "mapping.odd"), (_PROBLEM, "mapping.n1")]


def test_conversation_without_an_id_is_known_by_its_first_message() -> None:
    def id_of(*messages: Any, **more: Any) -> str:
        value = _conversation(*messages, **more)
        del value["conversation_id"]
        return _translate(value).session.id

    first = id_of(_message("a"), _message("b"))
    assert (
        id_of(_message("a", metadata={"model_slug": "x"}), *map(_message, "bcd"), title="new", update_time=_TIME)
        == first
    )
    assert id_of(_message("x"), _message("b")) != first
    assert id_of(_message("a", content=_text("x")), _message("b")) != first
    value = _conversation(_message("a"))
    del value["conversation_id"]
    translator = Translator("file", "default")
    assert len({translator.translate(value).session.id for _ in range(3)}) == 3


def test_id_that_is_used_twice_gets_a_suffix_unless_the_message_is_repeated() -> None:
    first, other, repeated = _message("m"), _message("m", content=_text("other")), _message("m", create_time=_TIME + 1)
    translated = _translate(_conversation(first, other, repeated, _message("m", "assistant")))
    assert _ids(translated) == ["m", "m#2", "m#3"]
    assert _notes(translated) == [
        (_CHANGED, "mapping.n1"),
        (_PASSED_OVER, "mapping.n2"),
        (_CHANGED, "mapping.n3"),
    ]
    taken = _translate(_conversation(_message("m#2", content=_text("x")), first, other))
    assert _ids(taken) == ["m#2", "m", "m#3"]


def test_large_broken_trees_are_translated() -> None:
    """With a search of all nodes at each break, this would take hours."""
    rng = random.Random(3)
    for kind in ("dangling", "cycles", "deep"):
        nodes = {}
        for number in range(5_000):
            parent = f"x{number}" if kind == "dangling" else f"n{number ^ 1}" if kind == "cycles" else f"n{number - 1}"
            message = _message(f"m{number}", create_time=_TIME + rng.randrange(1_000))
            nodes[f"n{number}"] = {"parent": parent, "message": message}
        translated = _translate({"conversation_id": "c", "mapping": nodes, "current_node": "n7"})
        assert translated.count() >= 8
        assert translated.messages == 5_000
