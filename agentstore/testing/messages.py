"""The part of the session history contract that is about messages."""

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from agentstore.errors import Conflict, InvalidContent, LimitExceeded, NotFound
from agentstore.interfaces import SessionHistoryService
from agentstore.schemas import (
    AudioContent,
    ContentType,
    DataContent,
    Deleted,
    Error,
    FileContent,
    ImageContent,
    Message,
    MessagesLike,
    MessageType,
    RefusalContent,
    Role,
    RunStatus,
    Session,
    TextContent,
)
from agentstore.testing.values import EXACT_VALUES, NON_JSON_VALUES, NOT_MESSAGES, nested, text


class _ScoredMessage(Message):
    """A message class defined by an application."""

    score: float | None = None
    labels: list[Any] | None = None


class _MarkedText(TextContent):
    """A content class defined by an application."""

    mark: Any = None


class MessageContract:
    """Appending messages to a session and reading them: part of :class:`SessionHistoryContract`."""

    async def test_messages_round_trip_in_order(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice")
        messages = [text(str(number)) for number in range(30)]
        await service.append_message(session, messages[0])
        await service.append_message(session, messages[1:20])
        for message in messages[20:]:
            await service.append_message(session, message)
        assert session.messages == messages
        stored = await service.get_session("alice", session.id)
        assert stored == session

    async def test_every_content_type_round_trips(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice")
        message = Message(
            role=Role.ASSISTANT,
            type="function_call",
            content=[
                TextContent(type="text", text="text", index=0, delta=None),
                ImageContent(image_url="data:image/png;base64,AA=="),
                DataContent(data={"call_id": "c", "arguments": "{}", "big": 2**70}),
                AudioContent(data="AA==", format="wav"),
                FileContent(file_id="f", filename="a.txt"),
                RefusalContent(refusal="no"),
            ],
            usage={"tokens": 3},
            metadata={"name": "密"},
            sequence_number=7,
            code="1",
            message="m",
        )
        later = {"role": "tool", "content": None, "future_field": {"x": None}, "another": None}
        await service.append_message(session, [message, later])
        stored = await service.get_session("alice", session.id)
        assert stored is not None
        assert stored.messages[0] == message
        assert stored.messages[1].model_extra == {"future_field": {"x": None}, "another": None}
        assert stored.messages == session.messages

    @pytest.mark.parametrize("value", EXACT_VALUES, ids=lambda value: ascii(value)[:20])
    async def test_any_json_value_round_trips(self, service: SessionHistoryService, value: Any) -> None:
        session = await service.create_session("alice", metadata={"x": value})
        message = Message(
            role="user",
            content=[DataContent(data={"x": value}), TextContent(text="\0 \ud800 密")],
            metadata={"x": value, "list": [value]},
            usage={"x": value},
        )
        await service.append_message(session, message)
        stored = await service.get_session("alice", session.id)
        assert stored is not None
        assert repr(stored.messages[0].metadata) == repr(message.metadata)
        assert repr(stored.metadata) == repr({"x": value})
        assert stored.messages == [message]

    async def test_tuples_are_stored_as_lists(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice")
        await service.append_message(session, text("", metadata={"x": (1, (2, 3))}))
        stored = await service.get_session("alice", session.id)
        assert stored is not None
        assert stored.messages[0].metadata == {"x": [1, [2, 3]]}

    async def test_fields_of_message_subclasses_round_trip(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice")
        await service.append_message(
            session,
            [
                _ScoredMessage(role="user", score=0.5, labels=["a"], content=[_MarkedText(text="b", mark={"c": None})]),
                _ScoredMessage(role="user"),
                text("d", error={"code": "1", "message": "m", "details": [2**70]}),
                text("e", status=None),
            ],
        )
        stored = await service.get_session("alice", session.id)
        assert stored is not None
        for read, written in zip(stored.messages, session.messages, strict=True):
            assert read.model_dump() == written.model_dump(serialize_as_any=True)
        for invalid in (_ScoredMessage(score=math.nan), _ScoredMessage(labels=[UUID(int=1)])):
            with pytest.raises(InvalidContent):
                await service.append_message(session, invalid)

    async def test_stored_and_returned_values_are_copies(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice", "s", metadata={"x": []})
        message = text("kept", metadata={"x": []})
        await service.append_message(session, message)
        assert message.metadata is not None
        message.metadata["x"].append("changed")
        session.metadata["x"].append("changed")
        one, two = await service.get_session("alice", "s"), await service.get_session("alice", "s")
        assert one is not None
        assert one.messages[0].metadata == {"x": []}
        assert one.metadata == {"x": []}
        one.messages.clear()
        assert two is not None
        assert len(two.messages) == 1

    async def test_append_accepts_dicts_and_skips_none(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice")
        await service.append_message(
            session,
            [
                {"role": "user", "content": [{"type": "text", "text": "a"}]},
                None,
                text("b"),
                {"role": "user", "content": "c", "id": None},
            ],
        )
        await service.append_message(session, {"role": "assistant", "content": None, "id": "mine"})
        assert len({message.id for message in session.messages}) == 4
        assert all(isinstance(message, Message) for message in session.messages)
        assert session.messages[-1].id == "mine"
        assert await service.get_session("alice", session.id) == session

    async def test_content_may_be_a_string(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice")
        changed = text("a")
        changed.content = "c \ud800"  # type: ignore[assignment]
        given: list[MessagesLike] = [
            {"role": "user", "content": "a"},
            [Message(role=Role.USER, content="b"), changed],
            [Message.user("d"), Message.assistant("e"), Message.system(""), Message.tool({"f": [1]}, "c1", name="sum")],
        ]
        for each in given:
            await service.append_message(session, each)
        stored = await service.get_session("alice", session.id)
        assert stored == session
        assert stored is not None
        assert [each.role for each in stored.messages[:6]] == [*["user"] * 4, "assistant", "system"]
        for message, words in zip(stored.messages, ("a", "b", "c \ud800", "d", "e", ""), strict=False):
            assert message.content == [TextContent(text=words)]
        output = {"call_id": "c1", "output": '{"f":[1]}', "name": "sum"}
        assert (stored.messages[6].role, stored.messages[6].type) == ("tool", "function_call_output")
        assert stored.messages[6].content == [DataContent(data=output)]
        read = await service.read_messages("alice", session.id)
        assert read is not None
        assert read.dicts()[0]["content"][0]["text"] == "a"

    async def test_known_values_are_stored_as_plain_strings(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice", "s")
        part = TextContent(type=ContentType.TEXT, text="a", status=RunStatus.InProgress)
        message = Message(role=Role.TOOL, type=MessageType.REASONING, status=RunStatus.Completed, content=[part])
        message.role = Role.USER
        fields = {"role": Role.USER, "type": MessageType.ERROR, "metadata": {"x": Role.TOOL}, "more": Role.SYSTEM}
        await service.append_message(session, [message, fields])
        stored = await service.get_session("alice", "s")
        assert stored is not None
        assert stored == session
        one, two = stored.messages
        assert {type(each) for each in (one.role, one.type, one.status, part.type, part.status, two.type)} == {str}
        assert (one.role, one.type, one.status) == ("user", "reasoning", "completed")
        assert (two.type, two.metadata, two.model_extra) == ("error", {"x": "tool"}, {"more": "system"})

    @pytest.mark.parametrize("empty", [None, [], (), [None, None]])
    async def test_append_of_no_messages_changes_nothing(self, service: SessionHistoryService, empty: Any) -> None:
        session = await service.create_session("alice")
        await service.append_message(session, empty)
        assert await service.get_session("alice", session.id) == session

    async def test_append_of_an_existing_message_is_idempotent(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice")
        one, two, three = text("1"), text("2"), text("3")
        await service.append_message(session, [one, two])
        await service.append_message(session, one)
        await service.append_message(session, one.model_dump())
        await service.append_message(session, [two, three, one, three])
        assert session.messages == [one, two, three]
        other_copy = Session(id=session.id, user_id="alice")
        await service.append_message(other_copy, [three, text("4")])
        assert other_copy.messages[0] == three
        stored = await service.get_session("alice", session.id)
        assert stored is not None
        assert [message.content for message in stored.messages][:3] == [one.content, two.content, three.content]
        assert len(stored.messages) == 4

    async def test_existing_id_with_other_content_is_a_conflict_and_writes_nothing(
        self, service: SessionHistoryService
    ) -> None:
        session = await service.create_session("alice")
        message = text("original")
        await service.append_message(session, message)
        for batch in ([text("other", id=message.id)], [text("new"), text("other", id=message.id), text("newer")]):
            with pytest.raises(Conflict):
                await service.append_message(session, batch)
        with pytest.raises(Conflict):
            await service.append_message(session, [text("a", id="x"), text("b", id="x")])
        same = [text("a", id="y", metadata={"x": (1,)}), text("a", id="y", metadata={"x": [1]})]
        await service.append_message(session, same)
        assert session.messages.pop().id == "y"
        assert await service.delete_session("alice", session.id) == Deleted(sessions=1, messages=2)
        session = await service.create_session("alice")
        await service.append_message(session, message)
        assert session.messages == [message]
        assert await service.get_session("alice", session.id) == session

    async def test_append_extends_the_callers_list_by_missing_messages_only(
        self, service: SessionHistoryService
    ) -> None:
        session = await service.create_session("alice")
        message = text("1")
        session.messages.append(message)
        await service.append_message(session, message)
        assert session.messages == [message]
        session.messages = [text("only here")]
        await service.append_message(session, text("2"))
        assert len(session.messages) == 2
        session.messages.clear()
        await service.append_message(session, text("3"))
        assert len(session.messages) == 1
        stored = await service.get_session("alice", session.id)
        assert stored is not None
        assert len(stored.messages) == 3
        one, two = text("4"), text("5")
        await service.append_message(session, [one, two])
        session.messages.pop()
        session.messages.append(three := text("6"))
        await service.append_message(session, three)
        assert session.messages[-1:] == [three]
        session.messages.pop(0)
        session.messages.append(four := text("7"))
        await service.append_message(session, four)
        assert session.messages == [one, three, four]
        await service.append_message(session, two)
        assert session.messages == [one, three, four, two]

    async def test_invalid_message_list_is_rejected_before_writing(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice", "s")
        session_of: Callable[..., Session] = Session.model_construct
        for invalid in (None, (), "text"):
            with pytest.raises(InvalidContent):
                await service.append_message(session_of(id="s", user_id="alice", messages=invalid), text("x"))
        assert await service.get_session("alice", "s") == session
        with_dicts = session_of(id="s", user_id="alice", messages=[{"id": "a"}, {"role": "user"}])
        await service.append_message(with_dicts, [text("x", id="a"), text("y", id="b")])
        assert len(with_dicts.messages) == 3

    @pytest.mark.parametrize(
        "invalid",
        [
            {"role": "robot", "content": "text"},
            {"role": "user", "content": 7},
            {"role": "user", "content": b"text"},
            {"role": "user", "content": [7]},
            {"content": [{"type": "smell"}]},
            {"id": 7, "content": "text"},
            "text",
            b"bytes",
            7,
            object(),
            ["text"],
            [text("valid"), {"role": "robot", "content": "text"}],
            {"role": "user", "content": [{"type": "text", "text": b"\xff"}]},
        ],
        # Without the addresses of objects: workers that share the tests compare their names.
        ids=lambda value: ascii(value).partition(" at 0x")[0][:30],
    )
    async def test_invalid_message_is_rejected_and_nothing_is_written(
        self, service: SessionHistoryService, invalid: Any
    ) -> None:
        session = await service.create_session("alice")
        with pytest.raises(InvalidContent):
            await service.append_message(session, invalid)
        assert session.messages == []
        assert await service.get_session("alice", session.id) == session

    @pytest.mark.parametrize(("mistake", "reason"), NOT_MESSAGES, ids=lambda value: ascii(value)[:40])
    async def test_a_dict_that_is_not_a_message_is_rejected(
        self, service: SessionHistoryService, mistake: dict[str, Any], reason: str
    ) -> None:
        session = await service.create_session("alice")
        batches: list[MessagesLike] = [mistake, [text("valid"), mistake]]
        for position, batch in enumerate(batches):
            with pytest.raises(InvalidContent) as error:
                await service.append_message(session, batch)
            assert f"message {position} " in str(error.value)
            assert reason in str(error.value)
        assert session.messages == []
        assert await service.get_session("alice", session.id) == session

    async def test_messages_with_fields_of_others_are_stored(self, service: SessionHistoryService) -> None:
        """A message may have any extra field, and no message that was stored is refused."""
        session = await service.create_session("alice", "s")
        extra = {"text": "x", "parts": [1], "tool_calls": [{"id": "c"}]}
        constructed = Message.model_validate({"role": "user", **extra})
        given: list[dict[str, Any]] = [
            {"role": "user", "content": "a", "text": "x", "parts": [1], "tool_calls": None, "refusal": None},
            {"type": "heartbeat"}, {"code": "1"}, {"message": "m"}, {"error": {"code": "1", "message": "m"}},
            {"role": "user", "content": None, "later": 1}, {**text("a").model_dump(), **extra},
            {"object": "message", "type": "later", **extra},
        ]  # fmt: skip
        await service.append_message(session, [*given, constructed])
        stored = await service.get_session("alice", "s")
        assert stored == session
        assert stored is not None
        assert stored.messages[-1].model_extra == extra
        read = await service.read_messages("alice", "s")
        assert read is not None
        copy = await service.create_session("alice", "t")
        await service.append_message(copy, read.dicts())
        assert copy.messages == session.messages

    @pytest.mark.parametrize("value", NON_JSON_VALUES, ids=lambda value: ascii(value)[:20])
    @pytest.mark.parametrize("place", ["metadata", "usage", "data", "extra", "error"])
    async def test_non_json_value_is_rejected_and_nothing_is_written(
        self, service: SessionHistoryService, value: Any, place: str
    ) -> None:
        session = await service.create_session("alice")
        message: dict[str, Any] = {"role": "user", "content": "text"}
        if place == "data":
            message["content"] = [{"type": "data", "data": {"deep": [{"x": value}]}}]
        elif place == "error":
            message["error"] = {"code": "1", "message": "m", "details": value}
        elif place == "extra":
            message["future_field"] = value
        else:
            message[place] = {"deep": [{"x": value}]}
        batches: list[MessagesLike] = [message, [text("valid"), message], Message(**message)]
        for batch in batches:
            with pytest.raises(InvalidContent):
                await service.append_message(session, batch)
        assert session.messages == []
        assert await service.get_session("alice", session.id) == session

    async def test_messages_built_without_validation_are_validated(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice")
        message_of: Callable[..., Message] = Message.model_construct
        text_of: Callable[..., TextContent] = TextContent.model_construct
        error_of: Callable[..., Error] = Error.model_construct

        def with_part(part: Any) -> Message:
            message = text("valid")
            assert message.content is not None
            message.content.append(part)
            return message

        recursive = text("valid")
        recursive.content.append(recursive)  # type: ignore[union-attr, arg-type]
        for message in (
            with_part("text"),
            with_part(7),
            with_part(Session(id="s", user_id="alice")),
            with_part({"type": "smell"}),
            recursive,
            message_of(id="x", content=7),
            message_of(id="y", error="boom"),
            message_of(id="z", error=error_of(message="m")),
            message_of(id="o", object=None),
            message_of(id="a", role="robot"),
            message_of(id="b", content="text"),
            message_of(id="c", content=[text_of(text=7)]),
            message_of(id="d", content=[text_of(type="smell")]),
            message_of(id="e", sequence_number="x"),
        ):
            with pytest.raises(InvalidContent):
                await service.append_message(session, message)
        assert session.messages == []
        valid = text("valid")
        valid.role = "assistant"
        await service.append_message(
            session, [valid, message_of(id="t", role="user", content=(TextContent(text="a"),))]
        )
        stored = await service.get_session("alice", session.id)
        assert stored is not None
        assert [message.id for message in stored.messages] == [valid.id, "t"]

    async def test_size_and_depth_limits_are_enforced(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice", "s")
        large = text("密" * 3_300_000, metadata=nested(200))
        await service.append_message(session, large)
        assert (await service.create_session("alice", "s")).messages == [large]
        for message in (text("x" * 33_000_000), text("密" * 11_000_000), text("", metadata=nested(201))):
            with pytest.raises(LimitExceeded):
                await service.append_message(session, message)
        for depth in (300, 5_000):
            with pytest.raises(LimitExceeded):
                await service.append_message(session, {"role": "user", "content": "", "metadata": nested(depth)})
        with pytest.raises(LimitExceeded):
            await service.append_message(session, [{"role": "user", "content": ""}] * 10_001)
        assert len(session.messages) == 1

    async def test_concurrent_appends_keep_order_and_lose_nothing(self, service: SessionHistoryService) -> None:
        await service.create_session("alice", "s")

        async def write(writer: int) -> None:
            session = Session(id="s", user_id="alice")
            for number in range(20):
                await service.append_message(session, text("", id=f"{writer}-{number}"))

        await asyncio.gather(*(write(writer) for writer in range(10)))
        stored = await service.get_session("alice", "s")
        assert stored is not None
        ids = [message.id for message in stored.messages]
        assert len(ids) == len(set(ids)) == 200
        for writer in range(10):
            assert [id for id in ids if id.startswith(f"{writer}-")] == [f"{writer}-{number}" for number in range(20)]

    async def test_get_session_limit_and_before_select_messages(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice", "s")
        messages = [text(str(number), id=f"m{number}") for number in range(10)]
        await service.append_message(session, messages)

        async def ids(**selection: Any) -> list[str]:
            found = await service.get_session("alice", "s", **selection)
            assert found is not None
            assert found.created_at == session.created_at
            return [message.id for message in found.messages]

        assert await ids(limit=3) == ["m7", "m8", "m9"]
        assert await ids(limit=0) == []
        assert len(await ids(limit=2**70)) == 10
        assert await ids(limit=100) == [f"m{number}" for number in range(10)]
        assert await ids(before="m3") == ["m0", "m1", "m2"]
        assert await ids(before="m3", limit=2) == ["m1", "m2"]
        assert await ids(before="m0") == []
        with pytest.raises(NotFound):
            await ids(before="missing")
        assert await service.get_session("alice", "t", limit=3, before="m3") is None
        for invalid in (-1, 1.5, "3", True):
            with pytest.raises(InvalidContent):
                await ids(limit=invalid)

    async def test_read_messages_returns_messages_dicts_and_json(self, service: SessionHistoryService) -> None:
        """Check items and slices, and all messages as Messages, dicts and JSON."""
        session = await service.create_session("alice", "s")
        messages = [text(f"{number} 你好", metadata={"n": 2**70, "s": "\ud800\0"}) for number in range(250)]
        await service.append_message(session, messages)
        found = await service.read_messages("alice", "s")
        assert found is not None
        assert list(found) == messages
        assert found.models() == messages
        assert (len(found), found[-1], list(found[1:3])) == (250, messages[-1], messages[1:3])
        assert [Message.model_validate(each) for each in found.dicts()] == messages
        assert json.loads(found.json()) == found.dicts()
        last = await service.read_messages("alice", "s", limit=2, before=messages[-1].id)
        assert last is not None
        assert list(last) == messages[-3:-1]
        empty = await service.read_messages("alice", "s", limit=0)
        assert empty is not None
        assert (empty.json(), empty.dicts(), list(empty)) == (b"[]", [], [])
        assert await service.read_messages("alice", "missing") is None

    async def test_read_messages_ends_with_a_message(self, service: SessionHistoryService) -> None:
        messages = [text(str(number), id=f"m{number}") for number in range(10)]
        await service.append("alice", "s", messages)

        async def ids(**selection: Any) -> list[str]:
            found = await service.read_messages("alice", "s", **selection)
            assert found is not None
            assert found.models() == [each for each in messages if each.id in {message.id for message in found}]
            return [message.id for message in found]

        assert await ids(through="m2") == ["m0", "m1", "m2"]
        assert await ids(through="m9", limit=2) == ["m8", "m9"]
        assert await ids(through="m3", limit=1) == ["m3"]
        assert await ids(through="m3", limit=0) == []
        assert await ids(through="m0", limit=5) == ["m0"]
        with pytest.raises(NotFound):
            await ids(through="missing")
        with pytest.raises(InvalidContent, match="before or through"):
            await ids(through="m3", before="m4")
        assert await service.read_messages("alice", "t", through="m3") is None
        await service.delete_messages("alice", "s", ["m2", "m5"])
        assert await ids(through="m6", limit=4) == ["m1", "m3", "m4", "m6"]
        assert await ids(through="m1") == ["m0", "m1"]

    async def test_read_messages_before_a_number(self, service: SessionHistoryService) -> None:
        messages = [text(str(number), id=f"m{number}") for number in range(1, 10)]
        await service.append("alice", "s", messages)

        async def ids(before_seq: int, **selection: Any) -> list[str]:
            found = await service.read_messages("alice", "s", before_seq=before_seq, **selection)
            assert found is not None
            return [message.id for message in found]

        assert await ids(4) == ["m1", "m2", "m3"]
        assert await ids(4, limit=2) == ["m2", "m3"]
        assert await ids(1) == await ids(0, limit=3) == await ids(4, limit=0) == []
        assert await ids(2**80, limit=2) == ["m8", "m9"]
        await service.delete_messages("alice", "s", ["m3", "m4"])
        assert await ids(5, limit=2) == await ids(4, limit=2) == ["m1", "m2"]
        assert await service.read_messages("alice", "missing", before_seq=3) is None
        for end in ({"before": "m5"}, {"through": "m5"}):
            with pytest.raises(InvalidContent, match="before_seq"):
                await ids(4, **end)

    async def test_find_message_returns_its_session(self, service: SessionHistoryService) -> None:
        for user in ("alice", "bob"):
            for number in range(5):
                await service.append(user, f"{user} {number}", [text("1", id=f"m{number}"), text("2", id="each")])
        for number in range(5):
            assert await service.find_message("alice", f"m{number}") == f"alice {number}"
        assert str(await service.find_message("bob", "each")).startswith("bob ")
        for user, id in (("alice", "missing"), ("carol", "each"), ("alice", "")):
            assert await service.find_message(user, id) is None
        await service.fork_session("alice", "alice 0", new_id="fork")
        await service.delete_session("alice", "alice 0")
        assert await service.find_message("alice", "m0") == "fork"
        await service.delete_messages("alice", "fork", ["m0"])
        assert await service.find_message("alice", "m0") is None

    async def test_iter_messages_yields_all_messages_in_order(self, service: SessionHistoryService) -> None:
        """Check several batch sizes, and that messages appended during the iteration are included."""
        session = await service.create_session("alice", "s")
        await service.append_message(session, [text(str(number)) for number in range(25)])
        for batch in (1, 10, 25, 1_000):
            assert [each async for each in service.iter_messages("alice", "s", batch=batch)] == session.messages
        seen = []
        async for message in service.iter_messages("alice", "s", batch=5):
            seen.append(message)
            if len(seen) == 3:
                await service.append_message(session, text("late"))
        assert seen == session.messages
        await service.create_session("alice", "empty")
        assert [each async for each in service.iter_messages("alice", "empty")] == []
        with pytest.raises(NotFound):
            await anext(aiter(service.iter_messages("alice", "missing")))
        for invalid, error in ((0, InvalidContent), (True, InvalidContent), (10_001, LimitExceeded)):
            with pytest.raises(error):
                await anext(aiter(service.iter_messages("alice", "s", batch=invalid)))
        seqs = [each.seq for each in session.messages]
        after = [each async for each in service.iter_messages("alice", "s", after_seq=seqs[-3] or 0)]
        assert after == session.messages[-2:]
        assert [each async for each in service.iter_messages("alice", "s", after_seq=2**63)] == []
        with pytest.raises(NotFound):
            await anext(aiter(service.iter_messages("alice", "missing", after_seq=1)))
        with pytest.raises(InvalidContent, match="after_seq"):
            await anext(aiter(service.iter_messages("alice", "s", after_seq=-1)))

    async def test_follow_yields_stored_messages_and_then_new_ones(self, service: SessionHistoryService) -> None:
        """Check both, a start after a position, concurrent appends, and that it ends with the session."""
        session = await service.create_session("alice", "s")
        await service.append_message(session, [text("1"), text("2")])
        found: asyncio.Queue[str] = asyncio.Queue()

        async def follow(after_seq: int) -> None:
            async for message in service.follow("alice", "s", after_seq, interval=0.01):
                found.put_nowait(message.text)

        async def next_texts(count: int) -> list[str]:
            async with asyncio.timeout(30):
                return [await found.get() for _ in range(count)]

        following = asyncio.ensure_future(follow(1))
        assert await next_texts(1) == ["2"]
        await service.append("alice", "s", [text("3"), text("4")])
        assert await next_texts(2) == ["3", "4"]
        await asyncio.gather(*(service.append("alice", "s", text(str(number))) for number in range(5, 15)))
        texts = await next_texts(10)
        assert texts == [each.text async for each in service.iter_messages("alice", "s", after_seq=4)]
        await service.delete_session("alice", "s")
        with pytest.raises(NotFound):
            await following
        for invalid in (0, -1, True, "1", float("nan"), float("inf")):
            with pytest.raises(InvalidContent, match="interval"):
                await anext(aiter(service.follow("alice", "s", interval=invalid)))  # type: ignore[arg-type]
        with pytest.raises(InvalidContent, match="after_seq"):
            await anext(aiter(service.follow("alice", "s", -1)))
        with pytest.raises(NotFound):
            await anext(aiter(service.follow("alice", "s")))
