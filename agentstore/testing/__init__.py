"""Contract suites: what every implementation of a service has to do, as pytest classes.

Subclass one in your tests and give it a fixture ``service`` that yields a new, empty service; needs pytest and
pytest-asyncio::

    class TestMyHistory(SessionHistoryContract):
        @pytest.fixture
        async def service(self):
            async with MySessionHistoryService() as service:
                yield service
"""

import asyncio
import base64
import json
import math
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jsonpatch
import pytest

from agentstore.errors import AlreadyExists, Closed, Conflict, InvalidContent, LimitExceeded, NotFound, SandboxLost
from agentstore.exact_json import dumps_sorted
from agentstore.interfaces import MemoryService, SandboxProvider, SandboxService, SessionHistoryService, StateService
from agentstore.schemas import (
    AudioContent,
    DataContent,
    Deleted,
    Error,
    FileContent,
    ImageContent,
    Message,
    MessagesLike,
    RefusalContent,
    Role,
    Session,
    TextContent,
)
from agentstore.schemas.page import write_cursor

HOSTILE_IDS = (
    "", " ", "  ", "%", "_", "*", ":", "a:b", "a_b", "a b", "'", '"', "\\", "'; DROP TABLE users; --", "$1", "{}", "\n",
    "\u200b", "ü", "u\u0308", "密", "😀", "NULL", "null", "0", "A", "a", "x" * 512,
)  # fmt: skip
"""Ids that stores have confused or choked on."""

EXACT_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**53 + 1, 2**63, 2**70, -(10**400), 0.1, -0.0, 1e308, 5e-324, 1.0, "", "\0", "a\0b", "\ud800",
    "\udfff x", "\u2028", "密 ü 😀", "\\u0000", [], {}, [[[]]], {"z": 1, "a": 2, "": None, "\0": "\ud800"},
    {"nested": [{"deep": [1, 2.0, "3", None, True]}]},
)  # fmt: skip
"""Values that come back equal, in type and order too."""

UNKEEPABLE_VALUES: tuple[Any, ...] = (
    math.nan, math.inf, -math.inf, b"bytes", {1, 2}, {1: "a"}, object(), UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC),
    TextContent(text="an object"), "\ud83d\ude00",
)  # fmt: skip
"""Values that JSON cannot keep: the last one, two surrogates in a row, would come back as one character."""


class _Scored(Message):
    """A message of an application's own class."""

    score: float | None = None
    labels: list[Any] | None = None


class _Marked(TextContent):
    """A part of an application's own class."""

    mark: Any = None


_BAD_KEYS: tuple[Any, ...] = (
    ["0001-01-01T00:00:00+14:00", "s"], ["9999-12-31T23:59:59-14:00", "s"], ["2026-01-01T00:00:00", "s"],
    ["2026-01-01T00:00:00+00:00", "\ud800"], ["2026-01-01T00:00:00+00:00", "\0"], ["2026-01-01T00:00:00+00:00", 7],
    ["2026-01-01T00:00:00+00:00"], ["a", "b"], [1, 2], {},
)  # fmt: skip
BAD_CURSORS = [base64.urlsafe_b64encode(json.dumps(key).encode()).decode() for key in _BAD_KEYS]
"""Texts that a list may be given for a cursor, from outside, and never gave."""
BAD_CURSORS.append(base64.urlsafe_b64encode(b"[" * 100_000).decode())


_QUESTIONS = (
    "' | & ! ( ) :* <-> <2> \\", "a & b | !c", "'" * 4, '"quoted phrase"', "\0 nul", "\ud800 surrogate", "😀👍🏽 🇨🇳",
    "%_", "$1",
    "'; DROP TABLE memories; --", "tsquery:*A", "x" * 100_000, "词" * 20_000, "a b " * 20_000, "-", "'" * 2, "\u200b",
    "ﬁ ½ ㎏",
    "\u0301\u0301", "C++ C# .NET e-mail@example.com https://x.y/z?q=1", "ไทย ລາວ ខ្មែរ မြန်မာ हिन्दी العربية עברית",
    "0000年", "〇〇〇〇年", "0000-00-00", "the year 0",
)  # fmt: skip


def text(words: str, **fields: Any) -> Message:
    """Return a message of a user with one text."""
    return Message(**{"role": Role.USER, "content": [TextContent(text=words)], **fields})


def nested(depth: int) -> dict[str, Any]:
    """Return an object that is `depth` levels deep."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"x": value}
    return value


@pytest.mark.asyncio
class SessionHistoryContract:
    """What a SessionHistoryService has to do."""

    async def test_a_session_is_created_with_an_id_title_and_metadata(self, service: SessionHistoryService) -> None:
        before = datetime.now(UTC)
        session = await service.create_session("alice", "s", title="Plans", metadata={"z": [1], "a": "\0"})
        assert (session.id, session.user_id, session.messages) == ("s", "alice", [])
        assert (session.title, session.metadata) == ("Plans", {"z": [1], "a": "\0"})
        assert session.created_at is not None
        assert session.created_at.tzinfo is not None
        assert abs((session.created_at - before).total_seconds()) < 60
        assert await service.get_session("alice", "s") == session

    @pytest.mark.parametrize("given", [None, "", "  ", "\n\t"])
    async def test_a_blank_id_is_replaced_by_a_uuid(self, service: SessionHistoryService, given: str | None) -> None:
        one, two = await service.create_session("alice", given), await service.create_session("alice", given)
        assert one.id != two.id
        assert str(UUID(one.id)) == one.id

    async def test_blanks_around_an_id_are_removed_in_create_only(self, service: SessionHistoryService) -> None:
        assert (await service.create_session("alice", " s ")).id == "s"
        assert await service.get_session("alice", " s ") is None
        assert await service.delete_session("alice", " s ") == Deleted()

    async def test_an_id_that_exists_is_returned_as_it_stands(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice", "s", title="first")
        await service.append_message(session, [text("one"), text("two")])
        assert await service.create_session("alice", "s", title="second", metadata={"x": 1}) == session
        assert await service.get_session("alice", "s") == session
        with pytest.raises(AlreadyExists):
            await service.create_session("alice", "s", exist_ok=False)
        assert (await service.create_session("alice", "t", exist_ok=False)).messages == []

    async def test_many_creates_of_one_id_at_once_are_one_session(self, service: SessionHistoryService) -> None:
        for name in range(5):
            sessions = await asyncio.gather(*(service.create_session(f"u{name}", "s") for _ in range(8)))
            assert all(session == sessions[0] for session in sessions)
            assert len(await service.list_sessions(f"u{name}")) == 1
            made = await asyncio.gather(
                *(service.create_session(f"v{name}", "s", exist_ok=False) for _ in range(8)), return_exceptions=True
            )
            assert sum(isinstance(each, Session) for each in made) == 1
            assert sum(isinstance(each, AlreadyExists) for each in made) == 7

    async def test_what_is_not_there_is_none(self, service: SessionHistoryService) -> None:
        assert await service.get_session("alice", "s") is None
        assert await service.list_sessions("alice") == []
        assert await service.delete_session("alice", "s") == Deleted()

    async def test_messages_come_back_equal_and_in_order(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice")
        messages = [text(str(number)) for number in range(30)]
        await service.append_message(session, messages[0])
        await service.append_message(session, messages[1:20])
        for message in messages[20:]:
            await service.append_message(session, message)
        assert session.messages == messages
        stored = await service.get_session("alice", session.id)
        assert stored == session

    async def test_every_kind_of_content_comes_back_equal(self, service: SessionHistoryService) -> None:
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
        later = {"role": "tool", "content": None, "a_field_of_tomorrow": {"x": None}, "another": None}
        await service.append_message(session, [message, later])
        stored = await service.get_session("alice", session.id)
        assert stored is not None
        assert stored.messages[0] == message
        assert stored.messages[1].model_extra == {"a_field_of_tomorrow": {"x": None}, "another": None}
        assert stored.messages == session.messages

    @pytest.mark.parametrize("value", EXACT_VALUES, ids=lambda value: ascii(value)[:20])
    async def test_any_json_comes_back_equal(self, service: SessionHistoryService, value: Any) -> None:
        session = await service.create_session("alice", metadata={"x": value})
        message = Message(
            role="user",
            content=[DataContent(data={"x": value}), TextContent(text="\0 \ud800 密")],
            metadata={"x": value, "in a list": [value]},
            usage={"x": value},
        )
        await service.append_message(session, message)
        stored = await service.get_session("alice", session.id)
        assert stored is not None
        assert repr(stored.messages[0].metadata) == repr(message.metadata)
        assert repr(stored.metadata) == repr({"x": value})
        assert stored.messages == [message]

    async def test_a_tuple_comes_back_as_a_list(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice")
        await service.append_message(session, text("", metadata={"x": (1, (2, 3))}))
        stored = await service.get_session("alice", session.id)
        assert stored is not None
        assert stored.messages[0].metadata == {"x": [1, [2, 3]]}

    async def test_dicts_and_messages_mix_and_none_is_passed_over(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice")
        await service.append_message(
            session,
            [
                {"role": "user", "content": [{"type": "text", "text": "a"}]},
                None,
                text("b"),
                {"role": "user", "id": None},
            ],
        )
        await service.append_message(session, {"role": "assistant", "id": "mine"})
        assert len({message.id for message in session.messages}) == 4
        assert all(isinstance(message, Message) for message in session.messages)
        assert session.messages[-1].id == "mine"
        assert await service.get_session("alice", session.id) == session

    @pytest.mark.parametrize("nothing", [None, [], (), [None, None]])
    async def test_nothing_is_nothing(self, service: SessionHistoryService, nothing: Any) -> None:
        session = await service.create_session("alice")
        await service.append_message(session, nothing)
        assert await service.get_session("alice", session.id) == session

    async def test_the_same_message_again_is_one(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice")
        one, two, three = text("1"), text("2"), text("3")
        await service.append_message(session, [one, two])
        await service.append_message(session, one)
        await service.append_message(session, one.model_dump())
        await service.append_message(session, [two, three, one, three])
        assert session.messages == [one, two, three]
        elsewhere = Session(id=session.id, user_id="alice")
        await service.append_message(elsewhere, [three, text("4")])
        assert elsewhere.messages[0] == three
        stored = await service.get_session("alice", session.id)
        assert stored is not None
        assert [message.content for message in stored.messages][:3] == [one.content, two.content, three.content]
        assert len(stored.messages) == 4

    async def test_the_same_id_with_other_content_is_a_conflict_and_nothing_is_written(
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

    async def test_the_callers_list_gains_only_what_it_lacks(self, service: SessionHistoryService) -> None:
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

    async def test_what_is_stored_is_a_copy(self, service: SessionHistoryService) -> None:
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

    async def test_the_last_messages_and_those_before_one(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice", "s")
        messages = [text(str(number), id=f"m{number}") for number in range(10)]
        await service.append_message(session, messages)

        async def ids(**part: Any) -> list[str]:
            found = await service.get_session("alice", "s", **part)
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
            await ids(before="nothing")
        assert await service.get_session("alice", "t", limit=3, before="m3") is None
        for wrong in (-1, 1.5, "3", True):
            with pytest.raises(InvalidContent):
                await ids(limit=wrong)

    async def test_messages_are_read_as_they_are_stored(self, service: SessionHistoryService) -> None:
        """Each one lazily, all as Messages, as dicts and as JSON."""
        session = await service.create_session("alice", "s")
        given = [text(f"{number} 你好", metadata={"n": 2**70, "s": "\ud800\0"}) for number in range(250)]
        await service.append_message(session, given)
        found = await service.read_messages("alice", "s")
        assert found is not None
        assert list(found) == given
        assert found.models() == given
        assert (len(found), found[-1], list(found[1:3])) == (250, given[-1], given[1:3])
        assert [Message.model_validate(each) for each in found.dicts()] == given
        assert json.loads(found.json()) == found.dicts()
        last = await service.read_messages("alice", "s", limit=2, before=given[-1].id)
        assert last is not None
        assert list(last) == given[-3:-1]
        nothing = await service.read_messages("alice", "s", limit=0)
        assert nothing is not None
        assert (nothing.json(), nothing.dicts(), list(nothing)) == (b"[]", [], [])
        assert await service.read_messages("alice", "none") is None

    async def test_messages_are_iterated_in_batches(self, service: SessionHistoryService) -> None:
        """All of them in order, those included that are appended meanwhile."""
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
            await anext(aiter(service.iter_messages("alice", "none")))
        for wrong, error in ((0, InvalidContent), (True, InvalidContent), (10_001, LimitExceeded)):
            with pytest.raises(error):
                await anext(aiter(service.iter_messages("alice", "s", batch=wrong)))

    async def test_lists_have_no_messages_and_the_last_used_comes_first(self, service: SessionHistoryService) -> None:
        for name in ("a", "b", "c"):
            session = await service.create_session("alice", name, title=name.upper(), metadata={"n": name})
            await service.append_message(session, text("hello"))
        await service.append_message(Session(id="a", user_id="alice"), text("again"))
        listed = await service.list_sessions("alice")
        assert [(each.id, each.title, each.metadata, each.messages) for each in listed] == [
            ("a", "A", {"n": "a"}, []),
            ("c", "C", {"n": "c"}, []),
            ("b", "B", {"n": "b"}, []),
        ]
        assert listed.next_cursor is None
        stored = await service.get_session("alice", "a")
        assert stored is not None
        assert listed[0].updated_at == stored.updated_at
        assert listed[0].created_at == stored.created_at

    async def test_pages_hold_every_session_once(self, service: SessionHistoryService) -> None:
        for number in range(25):
            await service.create_session("alice", f"s{number}")
        await service.create_session("bob", "s0")
        for limit in (1, 7, 24, 25, 26):
            seen: list[str] = []
            cursor = None
            while True:
                page = await service.list_sessions("alice", limit=limit, cursor=cursor)
                assert len(page) <= limit
                seen += [session.id for session in page]
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert sorted(seen) == sorted(f"s{number}" for number in range(25))
        assert await service.list_sessions("alice", limit=0) == []

    @pytest.mark.parametrize("cursor", ["", "x", "!!", "W10", "密", "bnVsbA", *BAD_CURSORS])
    async def test_a_cursor_that_is_none_is_refused(self, service: SessionHistoryService, cursor: str) -> None:
        with pytest.raises(InvalidContent):
            await service.list_sessions("alice", cursor=cursor)

    async def test_a_limit_that_is_none_is_refused(self, service: SessionHistoryService) -> None:
        for wrong in (-1, 1.5, "3", True):
            with pytest.raises(InvalidContent):
                await service.list_sessions("alice", limit=wrong)  # type: ignore[arg-type]
        with pytest.raises(LimitExceeded):
            await service.list_sessions("alice", limit=10_001)

    async def test_delete_counts_and_is_idempotent(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice", "s")
        await service.append_message(session, [text("1"), text("2")])
        await service.append_message(session, [text("3"), session.messages[0]])
        deleted = await service.delete_session("alice", "s")
        assert deleted == Deleted(sessions=1, messages=3)
        assert deleted
        assert not await service.delete_session("alice", "s")
        assert await service.get_session("alice", "s") is None
        with pytest.raises(NotFound):
            await service.append_message(session, text("too late"))
        assert len(session.messages) == 3
        assert (await service.create_session("alice", "s")).messages == []

    async def test_title_and_metadata_are_set(self, service: SessionHistoryService) -> None:
        await service.create_session("alice", "s", title="one", metadata={"x": 1})
        await service.set_title("alice", "s", "two 密")
        await service.set_metadata("alice", "s", {"y": "\0"})
        (listed,) = await service.list_sessions("alice")
        assert (listed.title, listed.metadata) == ("two 密", {"y": "\0"})
        await service.set_title("alice", "s", None)
        assert (await service.create_session("alice", "s")).title is None
        for call in (service.set_title("alice", "t", "x"), service.set_metadata("alice", "t", {})):
            with pytest.raises(NotFound):
                await call
        for title in ("\0", "\ud800", 7):
            with pytest.raises(InvalidContent):
                await service.set_title("alice", "s", title)  # type: ignore[arg-type]
        wrong: tuple[Any, ...] = ([], "x", {1: 2}, {"x": math.nan})
        for metadata in wrong:
            with pytest.raises(InvalidContent):
                await service.set_metadata("alice", "s", metadata)

    async def test_metadata_is_changed_by_one_after_the_other(self, service: SessionHistoryService) -> None:
        def fail(metadata: dict[str, Any]) -> dict[str, Any]:
            metadata["n"] = -1
            raise KeyError("the caller's own")

        await service.create_session("alice", "s", metadata={"n": 0})
        changes = (service.change_metadata("alice", "s", lambda old: {**old, "n": old["n"] + 1}) for _ in range(20))
        assert sorted(each["n"] for each in await asyncio.gather(*changes)) == list(range(1, 21))
        changed = await service.change_metadata("alice", "s", lambda old: {"x": "\ud800\0", **old})
        assert list(changed.items()) == [("x", "\ud800\0"), ("n", 20)]
        with pytest.raises(KeyError):
            await service.change_metadata("alice", "s", fail)
        with pytest.raises(InvalidContent):
            await service.change_metadata("alice", "s", lambda _: {"x": math.nan})
        with pytest.raises(NotFound):
            await service.change_metadata("alice", "t", lambda old: old)
        session = await service.get_session("alice", "s")
        assert session is not None
        assert session.metadata == changed

    @pytest.mark.parametrize(
        "wrong",
        [
            {"role": "robot"},
            {"content": "text"},
            {"content": [{"type": "smell"}]},
            {"id": 7},
            "text",
            b"bytes",
            7,
            object(),
            ["text"],
            [text("fine"), {"role": "robot"}],
            {"role": "user", "content": [{"type": "text", "text": b"\xff"}]},
        ],
        ids=lambda value: ascii(value)[:30],
    )
    async def test_what_is_no_message_is_refused_and_nothing_is_written(
        self, service: SessionHistoryService, wrong: Any
    ) -> None:
        session = await service.create_session("alice")
        with pytest.raises(InvalidContent):
            await service.append_message(session, wrong)
        assert session.messages == []
        assert await service.get_session("alice", session.id) == session

    @pytest.mark.parametrize("value", UNKEEPABLE_VALUES, ids=lambda value: ascii(value)[:20])
    @pytest.mark.parametrize("place", ["metadata", "usage", "data", "extra", "error"])
    async def test_what_json_cannot_keep_is_refused_and_nothing_is_written(
        self, service: SessionHistoryService, value: Any, place: str
    ) -> None:
        session = await service.create_session("alice")
        message: dict[str, Any] = {"role": "user"}
        if place == "data":
            message["content"] = [{"type": "data", "data": {"deep": [{"x": value}]}}]
        elif place == "error":
            message["error"] = {"code": "1", "message": "m", "details": value}
        elif place == "extra":
            message["a_field_of_tomorrow"] = value
        else:
            message[place] = {"deep": [{"x": value}]}
        batches: list[MessagesLike] = [message, [text("fine"), message], Message(**message)]
        for batch in batches:
            with pytest.raises(InvalidContent):
                await service.append_message(session, batch)
        assert session.messages == []
        assert await service.get_session("alice", session.id) == session

    async def test_a_message_that_skipped_validation_is_validated(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice")
        made: Callable[..., Message] = Message.model_construct
        part: Callable[..., TextContent] = TextContent.model_construct
        bare: Callable[..., Error] = Error.model_construct

        def holding(part: Any) -> Message:
            message = text("fine")
            assert message.content is not None
            message.content.append(part)
            return message

        itself = text("fine")
        itself.content.append(itself)  # type: ignore[union-attr, arg-type]
        for message in (
            holding("text"),
            holding(7),
            holding(Session(id="s", user_id="alice")),
            holding({"type": "smell"}),
            itself,
            made(id="x", content=7),
            made(id="y", error="boom"),
            made(id="z", error=bare(message="m")),
            made(id="o", object=None),
            made(id="a", role="robot"),
            made(id="b", content="text"),
            made(id="c", content=[part(text=7)]),
            made(id="d", content=[part(type="smell")]),
            made(id="e", sequence_number="x"),
        ):
            with pytest.raises(InvalidContent):
                await service.append_message(session, message)
        assert session.messages == []
        fine = text("fine")
        fine.role = "assistant"
        await service.append_message(session, [fine, made(id="t", role="user", content=(TextContent(text="a"),))])
        stored = await service.get_session("alice", session.id)
        assert stored is not None
        assert [message.id for message in stored.messages] == [fine.id, "t"]

    async def test_classes_of_an_applications_own_lose_nothing(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice")
        await service.append_message(
            session,
            [
                _Scored(role="user", score=0.5, labels=["a"], content=[_Marked(text="b", mark={"c": None})]),
                _Scored(role="user"),
                text("d", error={"code": "1", "message": "m", "details": [2**70]}),
                text("e", status=None),
            ],
        )
        stored = await service.get_session("alice", session.id)
        assert stored is not None
        for got, given in zip(stored.messages, session.messages, strict=True):
            assert got.model_dump() == given.model_dump(serialize_as_any=True)
        for unkeepable in (_Scored(score=math.nan), _Scored(labels=[UUID(int=1)])):
            with pytest.raises(InvalidContent):
                await service.append_message(session, unkeepable)

    async def test_a_list_that_cannot_gain_is_refused_before_anything_is_written(
        self, service: SessionHistoryService
    ) -> None:
        session = await service.create_session("alice", "s")
        made: Callable[..., Session] = Session.model_construct
        for wrong in (None, (), "text"):
            with pytest.raises(InvalidContent):
                await service.append_message(made(id="s", user_id="alice", messages=wrong), text("x"))
        assert await service.get_session("alice", "s") == session
        of_dicts = made(id="s", user_id="alice", messages=[{"id": "a"}, {"role": "user"}])
        await service.append_message(of_dicts, [text("x", id="a"), text("y", id="b")])
        assert len(of_dicts.messages) == 3

    async def test_limits_of_size_and_depth(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice", "s")
        large = text("密" * 3_300_000, metadata=nested(200))
        await service.append_message(session, large)
        assert (await service.create_session("alice", "s")).messages == [large]
        for message in (text("x" * 33_000_000), text("密" * 11_000_000), text("", metadata=nested(201))):
            with pytest.raises(LimitExceeded):
                await service.append_message(session, message)
        for depth in (300, 5_000):
            with pytest.raises(LimitExceeded):
                await service.append_message(session, {"role": "user", "metadata": nested(depth)})
        with pytest.raises(LimitExceeded):
            await service.append_message(session, [{"role": "user"}] * 10_001)
        assert len(session.messages) == 1

    @pytest.mark.parametrize("wrong", ["x" * 513, "密" * 171, "x" * 600, "a\0", "\ud800", None, 7, b"x"], ids=ascii)
    async def test_ids_that_cannot_be_kept_are_refused(self, service: SessionHistoryService, wrong: Any) -> None:
        session = await service.create_session("alice", "s")
        calls: list[Callable[[], Any]] = [
            lambda: service.create_session(wrong),
            lambda: service.get_session(wrong, "s"),
            lambda: service.get_session("alice", wrong),
            lambda: service.list_sessions(wrong),
            lambda: service.delete_session(wrong, "s"),
            lambda: service.delete_session("alice", wrong),
            lambda: service.set_title("alice", wrong, "x"),
            lambda: service.append_message(Session.model_construct(id=wrong, user_id="alice", messages=[]), text("x")),
            lambda: service.append_message(Session.model_construct(id="s", user_id=wrong, messages=[]), text("x")),
        ]
        if wrong is not None:
            calls.append(lambda: service.create_session("alice", wrong))
            calls.append(lambda: service.append_message(session, Message.model_construct(id=wrong)))
        for call in calls:
            with pytest.raises(InvalidContent):
                await call()
        assert await service.list_sessions("alice") == [session]

    async def test_no_user_ever_sees_or_deletes_anothers(self, service: SessionHistoryService) -> None:
        """Every pair of hostile ids is a user and a session of its own."""
        expected: dict[tuple[str, str], Session] = {}
        names = HOSTILE_IDS
        for user in names:
            for session_id in {name.strip() for name in names} - {""}:
                session = await service.create_session(user, session_id)
                await service.append_message(session, text(f"{user}|{session_id}", id="same"))
                expected[user, session_id] = session
        for (user, session_id), session in expected.items():
            assert await service.get_session(user, session_id) == session
        victim = names[8]
        for session_id in {name.strip() for name in names} - {""}:
            assert await service.delete_session(victim, session_id) == Deleted(sessions=1, messages=1)
        for user in names:
            listed = {session.id for session in await service.list_sessions(user)}
            assert listed == (set() if user == victim else {key[1] for key in expected if key[0] == user})

    async def test_writers_to_one_session_lose_nothing_and_keep_their_order(
        self, service: SessionHistoryService
    ) -> None:
        await service.create_session("alice", "s")

        async def write(writer: int) -> None:
            mine = Session(id="s", user_id="alice")
            for number in range(20):
                await service.append_message(mine, text("", id=f"{writer}-{number}"))

        await asyncio.gather(*(write(writer) for writer in range(10)))
        stored = await service.get_session("alice", "s")
        assert stored is not None
        ids = [message.id for message in stored.messages]
        assert len(ids) == len(set(ids)) == 200
        for writer in range(10):
            assert [id for id in ids if id.startswith(f"{writer}-")] == [f"{writer}-{number}" for number in range(20)]

    async def test_it_starts_by_itself_and_is_closed_after_stop(self, service: SessionHistoryService) -> None:
        await service.create_session("alice", "s")
        assert await service.health()
        await service.start()
        await service.stop()
        assert not await service.health()
        for call in (
            service.get_session("alice", "s"),
            service.create_session("alice"),
            service.list_sessions("alice"),
            service.append_message(Session(id="s", user_id="alice"), text("x")),
            service.delete_session("alice", "s"),
        ):
            with pytest.raises(Closed):
                await call
        await service.start()
        assert await service.get_session("alice", "s") is not None


def _ids(messages: Iterable[Message]) -> list[str]:
    return [message.id for message in messages]


@pytest.mark.asyncio
class MemoryContract:
    """What a MemoryService has to do; ours know facts beside messages."""

    async def test_what_was_said_is_found_by_its_words(self, service: MemoryService) -> None:
        said = [
            text("I am allergic to shrimps", id="shrimps"),
            text("The train leaves at nine", id="train"),
            text("我对虾过敏，请记住", id="虾"),
            text("会議は東京で行われます", id="東京"),
            text("Мы живём в Москве", id="москва"),
        ]
        for number, message in enumerate(said):  # each in a session of its own, so that none has neighbours
            await service.add_memory("alice", message, f"s{number}")
        for question, id in (
            ("shrimp allergies?", "shrimps"), ("when do the trains leave", "train"), ("虾", "虾"), ("过敏吗", "虾"),
            ("東京", "東京"), ("в москву", "москва"), ("TRAIN!!!", "train"),
        ):  # fmt: skip
            found = await service.search_memory("alice", text(question))
            assert _ids(found)[:1] == [id], question
            assert found[0] == next(message for message in said if message.id == id)

    async def test_what_was_said_on_a_day_or_of_it_is_found_by_its_date(self, service: MemoryService) -> None:
        said = {
            "at": text("a walk in the hills", metadata={"timestamp": "2023-05-08T23:00:00-08:00"}),
            "worded": text("a walk on July 9th, 2021", metadata={"timestamp": "2022-01-01"}),
            "digits": text("a walk: 2020-03-04", metadata={"timestamp": "2022-01-02"}),
            "other": text("a walk in the park", metadata={"timestamp": "2022-01-03"}),
            "undated": text("a walk now"),
        }
        for id, message in said.items():
            await service.add_memory("alice", message.model_copy(update={"id": id}), id)
        for question, id in (
            ("the walk on May 8", "at"), ("walk, 5/8/2023", "at"), ("2023年5月的 walk", "at"),
            ("walk in 2021", "worded"), ("the walk of 2021-07-09", "worded"), ("the walk of 9. Juli 2021", "worded"),
            ("4 March 2020 walk", "digits"), ("the walk in March", "digits"), ("3月4日 walk", "digits"),
        ):  # fmt: skip
            assert _ids(await service.search_memory("alice", text(question)))[:1] == [id], question
        yesterday = text("where was the walk yesterday?", metadata={"timestamp": "2022-01-04"})
        assert _ids(await service.search_memory("alice", yesterday))[:1] == ["other"]
        today = datetime.now(UTC).date()
        assert _ids(await service.search_memory("alice", text(f"walk {today}")))[:1] == ["undated"]

    async def test_a_rare_word_is_found_among_many_that_all_have(self, service: MemoryService) -> None:
        line = " ".join(f"check{number}" for number in range(33))
        said = [text(f"{line} omega" if number == 700 else line, id=f"m{number}") for number in range(1_000)]
        await service.add_memory("alice", said[:500], "s")
        await service.add_memory("alice", said[500:], "t")
        assert _ids(await service.search_memory("alice", text(f"{line} omega")))[0] == "m700"
        assert len(await service.search_memory("alice", text(line))) == 10

    async def test_what_has_no_text_is_found_by_its_date(self, service: MemoryService) -> None:
        await service.add_memory("alice", Message(id="a", role="user", metadata={"timestamp": "2023-05-08"}), "s")
        assert _ids(await service.search_memory("alice", text("8 May 2023"))) == ["a"]

    async def test_the_question_is_the_text_of_the_last_message(self, service: MemoryService) -> None:
        await service.add_memory("alice", [text("apples", id="a")], "s")
        await service.add_memory("alice", [text("pears", id="p")], "t")
        asked: list[MessagesLike] = [
            text("pears"), [text("apples"), text("pears")], [text("pears"), None],
            {"role": "user", "content": [{"type": "text", "text": "the"}, {"type": "text", "text": "pears"}]},
        ]  # fmt: skip
        for question in asked:
            assert _ids(await service.search_memory("alice", question)) == ["p"]

    async def test_an_empty_question_and_an_unknown_user_find_nothing(self, service: MemoryService) -> None:
        await service.add_memory("alice", text("apples"), "s")
        nothing: list[MessagesLike] = [None, [], text(""), text("  "), text("?!"), Message(role="user"), [None]]
        for question in nothing:
            assert await service.search_memory("alice", question) == []
        assert await service.search_memory("bob", text("apples")) == []
        assert list(await service.list_memory("bob")) == []
        assert not await service.delete_memory("bob")

    async def test_any_text_is_a_question(self, service: MemoryService) -> None:
        await service.add_memory("alice", [text(words) for words in _QUESTIONS], "s")
        for words in _QUESTIONS:
            await service.search_memory("alice", text(words))
            await service.search_memory("alice", text(f"{words} {words}"), {"order": "chronological"})

    async def test_the_same_message_is_there_once_in_a_session_and_the_first_one_stays(
        self, service: MemoryService
    ) -> None:
        first, other = text("apples", id="m"), text("pears", id="m")
        await service.add_memory("alice", [first, first, other], "s")
        await service.add_memory("alice", [other, text("plums", id="n")], "s")
        await service.add_memory("alice", other, "t")
        assert list(await service.list_memory("alice")) == [first, text("plums", id="n"), other]

    async def test_a_message_without_a_session_is_in_the_default_one(self, service: MemoryService) -> None:
        await service.add_memory("alice", text("a", id="1"))
        await service.add_memory("alice", [text("b", id="2"), None], "")
        await service.add_memory("alice", [text("b", id="2")], "default")
        await service.add_memory("alice", None)
        assert _ids(await service.list_memory("alice")) == ["1", "2"]
        assert await service.delete_memory("alice", "") == Deleted(memories=2)

    async def test_what_goes_in_comes_out_equal(self, service: MemoryService) -> None:
        messages = [
            text(f"word{number}", id=f"m{number:02}", metadata={"value": value})
            for number, value in enumerate(EXACT_VALUES)
        ]
        await service.add_memory("alice", messages, "s")
        assert list(await service.list_memory("alice", {"page_size": 100})) == messages
        for number, message in enumerate(messages):
            assert await service.search_memory("alice", text(f"word{number}"), {"top_k": 1}) == [message]

    async def test_memories_are_listed_in_pages(self, service: MemoryService) -> None:
        for session in ("b", "a", "c"):
            await service.add_memory("alice", [text("x", id=f"{session}{number}") for number in range(5)], session)
        every = [f"{session}{number}" for session in "abc" for number in range(5)]
        assert _ids(await service.list_memory("alice")) == every[:10]
        for size in (1, 4, 5, 15, 20):
            pages = [await service.list_memory("alice", {"page_num": n, "page_size": size}) for n in range(1, 17)]
            assert [id for page in pages for id in _ids(page)] == every
            page, seen = pages[0], _ids(pages[0])
            while page.next_cursor is not None:
                page = await service.list_memory("alice", {"page_size": size, "cursor": page.next_cursor})
                seen += _ids(page)
            assert seen == every
        assert list(await service.list_memory("alice", {"page_num": 10**30})) == []

    async def test_filters_leave_out_what_does_not_fit(self, service: MemoryService) -> None:
        for number in range(4):
            message = text(
                f"apples {number}",
                id=f"m{number}",
                role="assistant" if number % 2 else "user",
                metadata={"timestamp": f"2024-01-0{number + 1}"},
            )
            await service.add_memory("alice", message, f"s{number}")

        async def found(**filters: Any) -> set[str]:
            return set(_ids(await service.search_memory("alice", text("apples"), filters)))

        assert await found() == {"m0", "m1", "m2", "m3"}
        assert await found(session_id="s2") == {"m2"}
        assert await found(role="assistant") == {"m1", "m3"}
        assert await found(since="2024-01-02", until=datetime(2024, 1, 4, tzinfo=UTC)) == {"m1", "m2"}
        assert await found(min_score=1000) == set()
        assert await found(top_k=0) == set()
        assert len(await found(top_k=3)) == 3
        ordered = await service.search_memory("alice", text("apples"), {"order": "chronological"})
        assert _ids(ordered) == ["m0", "m1", "m2", "m3"]

    @pytest.mark.parametrize(
        "filters",
        [
            {"top_k": -1}, {"top_k": "5"}, {"top_k": None}, {"top_k": 1.5}, {"top_k": 1001}, {"order": "random"},
            {"since": "soon"}, {"until": datetime(2024, 1, 1)}, {"role": 7}, {"session_id": "\0"}, {"min_score": "x"},
            {"min_score": math.nan}, {"limit": 5}, [("top_k", 5)],
        ],
    )  # fmt: skip
    async def test_a_filter_that_is_none_is_refused(self, service: MemoryService, filters: Any) -> None:
        with pytest.raises((InvalidContent, LimitExceeded)):
            await service.search_memory("alice", text("x"), filters)

    @pytest.mark.parametrize(
        "filters",
        [
            {"page_num": 0}, {"page_num": -1}, {"page_num": "1"}, {"page_size": 0}, {"page_size": 10_001},
            {"page_size": None}, {"cursor": "nonsense"}, {"cursor": "x", "page_num": 2}, {"page": 1}, 7,
        ],
    )  # fmt: skip
    async def test_a_page_that_is_none_is_refused(self, service: MemoryService, filters: Any) -> None:
        with pytest.raises((InvalidContent, LimitExceeded)):
            await service.list_memory("alice", filters)

    @pytest.mark.parametrize("id", HOSTILE_IDS)
    async def test_nobody_sees_or_deletes_what_is_anothers(self, service: MemoryService, id: str) -> None:
        other = f"{id}x" if len(id) < 500 else "x"
        await service.add_memory(id, text("apples", id="mine"), id)
        await service.add_memory(other, text("apples", id="theirs"), id)
        await service.add_memory(id, text("apples", id="elsewhere"), other)
        assert set(_ids(await service.search_memory(id, text("apples")))) == {"mine", "elsewhere"}
        assert _ids(await service.search_memory(other, text("apples"))) == ["theirs"]
        assert _ids(await service.search_memory(id, text("apples"), {"session_id": id or "default"})) == ["mine"]
        assert await service.delete_memory(id, id) == Deleted(memories=1)
        assert _ids(await service.list_memory(id)) == ["elsewhere"]
        assert await service.delete_memory(id) == Deleted(memories=1)
        assert not await service.delete_memory(id)
        assert _ids(await service.list_memory(other)) == ["theirs"]

    async def test_what_cannot_be_kept_is_refused_before_anything_is_written(self, service: MemoryService) -> None:
        for value in UNKEEPABLE_VALUES:
            with pytest.raises(InvalidContent):
                await service.add_memory("alice", [text("good"), text("bad", metadata={"value": value})], "s")
        for wrong in ("text", 7, [7], {"role": "nobody"}):
            with pytest.raises(InvalidContent):
                await service.add_memory("alice", wrong, "s")  # type: ignore[arg-type]
        for arguments in (("\0", "s"), ("alice", "\ud800"), ("x" * 513, "s")):
            with pytest.raises(InvalidContent):
                await service.add_memory(arguments[0], text("x"), arguments[1])
        assert list(await service.list_memory("alice")) == []

    async def test_many_who_add_at_once_lose_nothing(self, service: MemoryService) -> None:
        messages = [text(f"word{number}", id=f"m{number}") for number in range(20)]
        await asyncio.gather(
            *(service.add_memory("alice", messages[start : start + 8], "s") for start in range(13) for _ in range(3))
        )
        found = _ids(await service.list_memory("alice", {"page_size": 100}))
        assert sorted(found) == sorted(_ids(messages))

    async def test_a_huge_text_is_kept_and_found_by_its_first_words(self, service: MemoryService) -> None:
        long = text("beginning " + "x" * 10_000_000, id="long")
        rich = text(" ".join(f"word{number}x" for number in range(100_000)), id="rich")
        dense = text("开头" + "".join(chr(0x4E00 + number % 20_000) for number in range(150_000)), id="dense")
        for message in (long, rich, dense):
            await service.add_memory("alice", message, message.id)
        for question, message in (("beginning", long), ("word7x word8x", rich), ("开头", dense)):
            assert (await service.search_memory("alice", text(question), {"top_k": 1})) == [message]

    async def test_a_stopped_service_says_so(self, service: MemoryService) -> None:
        await service.stop()
        assert not await service.health()
        for call in (service.add_memory("alice", text("x")), service.search_memory("alice", text("x"))):
            with pytest.raises(Closed):
                await call
        await service.start()
        assert await service.health()


@pytest.mark.asyncio
class StateContract:
    """What a StateService has to do."""

    async def test_rounds_are_numbered_from_one_and_the_highest_is_exported(self, service: StateService) -> None:
        assert await service.export_state("alice", "s") is None
        for number in range(1, 4):
            assert await service.save_state("alice", {"step": number}, "s") == number
        assert await service.export_state("alice", "s") == {"step": 3}
        assert await service.export_state("alice", "s", 1) == {"step": 1}
        assert await service.export_state("alice", "s", 4) is None
        assert await service.export_state("bob", "s") is None
        assert await service.export_state("alice", "t") is None

    async def test_a_given_round_is_overwritten_and_counts(self, service: StateService) -> None:
        assert await service.save_state("alice", {"a": 1}, "s", 7) == 7
        assert await service.save_state("alice", {"a": 2}, "s", 3) == 3
        assert await service.export_state("alice", "s") == {"a": 1}
        assert await service.save_state("alice", {"a": 3}, "s") == 8
        assert await service.save_state("alice", {"a": 4}, "s", round_id=7, metadata={"again": True}) == 7
        assert await service.export_state("alice", "s", 7) == {"a": 4}
        assert [(each.round_id, each.metadata) for each in await service.list_states("alice", "s")] == [
            (8, {}), (7, {"again": True}), (3, {}),
        ]  # fmt: skip

    async def test_without_a_session_it_is_the_default_one(self, service: StateService) -> None:
        assert await service.save_state("alice", {"a": 1}) == 1
        assert await service.save_state("alice", {"a": 2}, "") == 2
        assert await service.save_state("alice", {"a": 3}, "default") == 3
        assert await service.export_state("alice") == {"a": 3}
        assert len(await service.list_states("alice", "")) == 3

    @pytest.mark.parametrize("value", EXACT_VALUES, ids=lambda value: repr(value)[:20])
    async def test_any_json_comes_back_equal(self, service: StateService, value: Any) -> None:
        await service.save_state("alice", {"x": value, "": [value]}, "s", metadata={"y": value})
        assert repr(await service.export_state("alice", "s")) == repr({"x": value, "": [value]})
        (found,) = await service.list_states("alice", "s")
        assert repr(found.metadata) == repr({"y": value})

    async def test_what_is_stored_and_what_comes_back_are_copies(self, service: StateService) -> None:
        state: dict[str, Any] = {"plan": [], "pair": (1, 2)}
        await service.save_state("alice", state, "s")
        state["plan"].append("changed")
        one, two = await service.export_state("alice", "s"), await service.export_state("alice", "s")
        assert one == two == {"plan": [], "pair": [1, 2]}
        assert one is not None
        one["plan"].append("changed")
        assert await service.export_state("alice", "s") == two

    @pytest.mark.parametrize("value", UNKEEPABLE_VALUES, ids=lambda value: repr(value)[:20])
    async def test_what_json_cannot_keep_is_refused_and_nothing_is_written(
        self, service: StateService, value: Any
    ) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: service.save_state("alice", {"x": value}),
            lambda: service.save_state("alice", {}, metadata={"x": [value]}),
        ]
        for wrong in calls:
            with pytest.raises(InvalidContent):
                await wrong()
        assert list(await service.list_states("alice")) == []

    @pytest.mark.parametrize("wrong", [None, [], "{}", 1, [("a", 1)]])
    async def test_a_state_that_is_no_dict_is_refused(self, service: StateService, wrong: Any) -> None:
        with pytest.raises(InvalidContent):
            await service.save_state("alice", wrong, "s")
        assert await service.export_state("alice", "s") is None

    @pytest.mark.parametrize("wrong", [0, -1, "1", 1.0, True, 2**63 - 1, 2**70])
    async def test_a_round_that_is_none_is_refused(self, service: StateService, wrong: Any) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: service.save_state("alice", {}, "s", wrong),
            lambda: service.export_state("alice", "s", wrong),
            lambda: service.delete_state("alice", "s", wrong),
            lambda: service.diff_states("alice", wrong, 1, "s"),
            lambda: service.diff_states("alice", 1, wrong, "s"),
            lambda: service.save_state("alice", {}, "s", expected_round=-1 if wrong == 0 else wrong),
            lambda: service.save_state("alice", {}, "s", 1, expected_round=1),
        ]
        for call in calls:
            with pytest.raises(InvalidContent):
                await call()
        assert list(await service.list_states("alice", "s")) == []

    async def test_limits_of_size_and_depth(self, service: StateService) -> None:
        await service.save_state("alice", nested(200), "deep")
        assert await service.export_state("alice", "deep") == nested(200)
        with pytest.raises(LimitExceeded):
            await service.save_state("alice", nested(201), "deep")
        with pytest.raises(LimitExceeded):
            await service.list_states("alice", "deep", limit=10_001)
        assert len(await service.list_states("alice", "deep")) == 1

    @pytest.mark.parametrize("wrong", [None, 1, b"x", "\0", "\ud800", "x" * 513, "密" * 171])
    async def test_ids_that_cannot_be_kept_are_refused(self, service: StateService, wrong: Any) -> None:
        with pytest.raises(InvalidContent):
            await service.save_state(wrong, {})
        if wrong is not None:
            for call in (service.export_state, service.list_states, service.delete_state):
                with pytest.raises(InvalidContent):
                    await call("alice", wrong)

    async def test_a_save_that_expects_another_round_is_a_conflict(self, service: StateService) -> None:
        with pytest.raises(Conflict):
            await service.save_state("alice", {"a": 0}, "s", expected_round=1)
        assert await service.save_state("alice", {"a": 1}, "s", expected_round=0) == 1
        with pytest.raises(Conflict):
            await service.save_state("alice", {"a": 2}, "s", expected_round=0)
        assert await service.save_state("alice", {"a": 2}, "s", expected_round=1) == 2
        assert await service.export_state("alice", "s") == {"a": 2}
        assert await service.delete_state("alice", "s", 2) == Deleted(state_rounds=1)
        assert await service.save_state("alice", {"a": 3}, "s", expected_round=1) == 3  # 2 is not given again
        assert await service.delete_state("alice", "s", 3) == await service.delete_state("alice", "s", 1)
        assert await service.save_state("alice", {"a": 4}, "s", expected_round=0) == 4

    async def test_of_many_that_expect_the_same_round_one_saves(self, service: StateService) -> None:
        for expected in range(5):
            results = await asyncio.gather(
                *(service.save_state("alice", {"writer": n}, "s", expected_round=expected) for n in range(8)),
                return_exceptions=True,
            )
            assert [each for each in results if not isinstance(each, Conflict)] == [expected + 1]

    async def test_many_savers_get_numbers_that_follow_each_other(self, service: StateService) -> None:
        numbers = await asyncio.gather(*(service.save_state("alice", {"n": n}, "s") for n in range(64)))
        assert sorted(numbers) == list(range(1, 65))
        for n, number in enumerate(numbers):
            assert await service.export_state("alice", "s", number) == {"n": n}

    async def test_lists_have_no_states_and_pages_hold_every_round_once(self, service: StateService) -> None:
        began = datetime.now(UTC)
        for number in range(1, 11):
            await service.save_state("alice", {"x": "ü" * number}, "s")
        everything = await service.list_states("alice", "s")
        assert [each.round_id for each in everything] == list(range(10, 0, -1))
        assert [each.size for each in everything] == [8 + 2 * number for number in range(10, 0, -1)]
        assert all(abs((each.saved_at - began).total_seconds()) < 60 for each in everything)
        assert [each.saved_at for each in everything] == sorted((each.saved_at for each in everything), reverse=True)
        for limit in (1, 3, 10, 11):
            seen: list[int] = []
            cursor = None
            while True:
                page = await service.list_states("alice", "s", limit=limit, cursor=cursor)
                seen += [each.round_id for each in page]
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert seen == list(range(10, 0, -1))
        assert list(await service.list_states("alice", "s", limit=0)) == []

    @pytest.mark.parametrize(
        "cursor",
        [
            *(*BAD_CURSORS, "", "x", write_cursor("-1"), write_cursor("9" * 30), write_cursor("9" * 9_000)),
            *(write_cursor("9" * 19), write_cursor("٣")),
        ],
    )
    async def test_a_cursor_that_is_none_is_refused(self, service: StateService, cursor: str) -> None:
        with pytest.raises(InvalidContent):
            await service.list_states("alice", "s", cursor=cursor)

    async def test_delete_counts_and_is_idempotent(self, service: StateService) -> None:
        for _ in range(3):
            await service.save_state("alice", {}, "s")
            await service.save_state("alice", {}, "t")
        assert await service.delete_state("alice", "s", 3) == Deleted(state_rounds=1)
        assert not await service.delete_state("alice", "s", 3)
        assert await service.export_state("alice", "s", 3) is None
        assert [each.round_id for each in await service.list_states("alice", "s")] == [2, 1]
        assert await service.delete_state("alice", "s") == Deleted(state_rounds=2)
        assert not await service.delete_state("alice", "s")
        assert not await service.delete_state("nobody")
        assert await service.save_state("alice", {}, "s") == 1
        assert len(await service.list_states("alice", "t")) == 3

    async def test_a_patch_makes_one_round_out_of_another(self, service: StateService) -> None:
        one: dict[str, Any] = {"plan": ["a", "b"], "n": 1, "~/": {"1": [1, True, 1.0, 0.0]}, "gone": None}
        two: dict[str, Any] = {"plan": ["a", "c", "b"], "n": True, "~/": {"1": [True, 1, 1, -0.0]}, "new": {"x": []}}
        await service.save_state("alice", one, "s")
        await service.save_state("alice", two, "s")
        for a, b, before, after in ((1, 2, one, two), (2, 1, two, one), (1, 1, one, one)):
            operations = await service.diff_states("alice", a, b, "s")
            patched = jsonpatch.apply_patch(before, operations)
            assert dumps_sorted(patched) == dumps_sorted(after)
        assert await service.diff_states("alice", 1, 1, "s") == []
        await service.save_state("alice", {**one, "n": 2}, "s")
        assert await service.diff_states("alice", 1, 3, "s") == [{"op": "replace", "path": "/n", "value": 2}]
        with pytest.raises(NotFound):
            await service.diff_states("alice", 1, 4, "s")

    @pytest.mark.parametrize("pair", [({"1": 1}, {"1": [1]}), ({"x": {"0": 1}}, {"x": [1]}), ({"-": 1}, {"0": [{}]})])
    async def test_a_patch_of_keys_that_look_like_numbers(
        self, service: StateService, pair: tuple[dict[str, Any], dict[str, Any]]
    ) -> None:
        for state in pair:
            await service.save_state("alice", state, "s")
        for a, b in ((1, 2), (2, 1)):
            operations = await service.diff_states("alice", a, b, "s")
            assert jsonpatch.apply_patch(pair[a - 1], operations) == pair[b - 1]

    async def test_after_the_last_number_that_there_is_a_round_must_be_given(self, service: StateService) -> None:
        last = 2**63 - 2
        assert await service.save_state("alice", {"n": 1}, "s", last) == last
        with pytest.raises(LimitExceeded):
            await service.save_state("alice", {"n": 2}, "s")
        assert await service.save_state("alice", {"n": 3}, "s", 1) == 1
        assert await service.export_state("alice", "s") == {"n": 1}

    @pytest.mark.parametrize("id", HOSTILE_IDS, ids=repr)
    async def test_nobody_sees_or_deletes_what_is_anothers(self, service: StateService, id: str) -> None:
        await service.save_state(id, {"whose": "mine"}, id)
        for other in {"alice", "b", "a:b:c"} - {id}:
            await service.save_state(other, {"whose": other}, id)
            assert await service.delete_state(other, id) == Deleted(state_rounds=1)
            assert await service.export_state(other, id) is None
        assert await service.export_state(id, id) == {"whose": "mine"}
        assert await service.delete_state(id, id) == Deleted(state_rounds=1)

    async def test_it_starts_by_itself_and_is_closed_after_stop(self, service: StateService) -> None:
        assert await service.save_state("alice", {}) == 1
        assert await service.health()
        await service.stop()
        assert not await service.health()
        for call in (lambda: service.save_state("alice", {}), lambda: service.export_state("alice")):
            with pytest.raises(Closed):
                await call()
        await service.start()
        assert await service.health()


_AFTER_EACH_OTHER = (("s", "bob"), ("u", "alice"), ("s", "alice"), ("s", "alice"))


class SandboxContract:
    """What a SandboxService has to do, that keeps workspaces. It needs a fixture ``provider`` as well: the service's.

    Sandboxes of the provider run what they are given: nothing here does harm where they do not isolate.
    """

    async def test_a_session_has_one_sandbox_that_keeps_its_state(self, service: SandboxService) -> None:
        (one,) = await service.connect("s", "alice")
        assert (one.user_id, one.session_id, one.type) == ("alice", "s", "base")
        assert not (await one.run_ipython_cell("x = 41")).is_error
        (two,) = await service.connect("s", "alice")
        assert (two.sandbox_id, two.generation) == (one.sandbox_id, one.generation)
        assert (await two.run_ipython_cell("print(x + 1)")).part("stdout") == "42\n"

    async def test_of_fifty_that_connect_at_once_all_get_the_same(self, service: SandboxService) -> None:
        found = await asyncio.gather(*(service.connect("s", "alice") for _ in range(50)))
        assert len({sandbox.sandbox_id for (sandbox,) in found}) == 1
        assert len(await service.list("alice")) == 1

    async def test_each_user_and_session_has_another_one(self, service: SandboxService) -> None:
        keys = [("a_b", "c"), ("a", "b_c"), ("c", "a_b"), ("a", ""), ("", "a"), ("a", None)]
        found = [(await service.connect(session, user))[0] for session, user in keys]
        # Without a user it is the user "".
        assert len({sandbox.sandbox_id for sandbox in found}) == 5
        assert found[3].sandbox_id == found[5].sandbox_id
        assert found[3].user_id == ""

    async def test_types_come_in_their_order_and_those_that_lack_are_added(self, service: SandboxService) -> None:
        (base,) = await service.connect("s", "alice", ["base"])
        files, again, last = await service.connect("s", "alice", ["filesystem", "base", "filesystem"])
        assert [each.type for each in (files, again, last)] == ["filesystem", "base", "filesystem"]
        assert again.sandbox_id == base.sandbox_id
        assert files.sandbox_id == last.sandbox_id != base.sandbox_id
        assert await service.connect("s", "alice", []) == []

    @pytest.mark.parametrize("wrong", [["none"], "base", [7], 7, ["base", ""]])
    async def test_a_type_that_is_none_is_refused_and_nothing_is_made(
        self, service: SandboxService, wrong: Any
    ) -> None:
        with pytest.raises(InvalidContent):
            await service.connect("s", "alice", wrong)
        assert list(await service.list("alice")) == []

    @pytest.mark.parametrize("wrong", ["\0", "\ud800", "x" * 513, 7, b"x"])
    async def test_an_id_that_cannot_be_kept_is_refused(self, service: SandboxService, wrong: Any) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: service.connect(wrong, "alice"),
            lambda: service.connect("s", wrong),
            lambda: service.release(wrong, "alice"),
            lambda: service.release("s", wrong),
            lambda: service.list(wrong),
        ]
        for call in calls:
            with pytest.raises(InvalidContent):
                await call()

    async def test_one_that_is_dead_is_made_anew(self, service: SandboxService, provider: SandboxProvider) -> None:
        (dead,) = await service.connect("s", "alice")
        await provider.destroy(dead.sandbox_id)
        with pytest.raises(SandboxLost):
            await dead.run_shell_command("true")
        (new,) = await service.connect("s", "alice")
        assert new.sandbox_id != dead.sandbox_id
        assert new.generation > dead.generation
        assert (await new.run_shell_command("echo lives")).part("stdout") == "lives\n"
        with pytest.raises(SandboxLost):
            await dead.run_shell_command("true")

    async def test_a_release_ends_them_once_and_says_which(
        self, service: SandboxService, provider: SandboxProvider
    ) -> None:
        base, files = await service.connect("s", "alice", ["base", "filesystem"])
        (other,) = await service.connect("t", "alice")
        ended = await service.release("s", "alice")
        assert [(each.type, each.generation) for each in ended] == [
            ("base", base.generation), ("filesystem", files.generation),
        ]  # fmt: skip
        assert not await provider.check(base.sandbox_id)
        assert await service.release("s", "alice") == []
        assert await service.release("never", "alice") == []
        for sandbox in (base, files):
            with pytest.raises(SandboxLost):
                await sandbox.run_shell_command("true")
        assert [each.session_id for each in await service.list("alice")] == ["t"]
        assert not (await other.run_shell_command("true")).is_error

    async def test_a_list_has_pages(self, service: SandboxService) -> None:
        for session in ("b", "a"):
            await service.connect(session, "alice", ["filesystem", "base"])
        await service.connect("a", "bob")
        wanted = [("a", "base"), ("a", "filesystem"), ("b", "base"), ("b", "filesystem")]
        assert [(each.session_id, each.type) for each in await service.list("alice")] == wanted
        found, cursor = [], None
        for _ in range(3):
            page = await service.list("alice", limit=2, cursor=cursor)
            found += [(each.session_id, each.type) for each in page]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == wanted
        assert {(each.state, each.provider) for each in await service.list("bob")} == {
            ("ready", (await service.list("alice"))[0].provider)
        }
        with pytest.raises(InvalidContent):
            await service.list("alice", cursor="none")

    async def test_files_are_written_listed_read_and_removed(self, service: SandboxService) -> None:
        (sandbox,) = await service.connect("s", "alice")
        assert not (await sandbox.write_file("a/b.txt", "密 'x'\n")).is_error
        assert not (await sandbox.write_file("raw", bytes(range(256)))).is_error
        assert (await sandbox.read_file("a/b.txt")).text == "密 'x'\n"
        (blob,) = (await sandbox.read_file("raw"))["content"]
        assert base64.b64decode(blob["blob"]) == bytes(range(256))
        listed = {each["text"]: each["description"] for each in (await sandbox.list_files())["content"]}
        assert listed == {"a": "directory", "raw": "file"}
        assert not (await sandbox.remove_file("a")).is_error
        assert [each["text"] for each in (await sandbox.list_files("."))["content"]] == ["raw"]
        for wrong in (sandbox.read_file("a/b.txt"), sandbox.read_file("../../etc/hostname"), sandbox.list_files("no")):
            assert (await wrong).is_error

    async def test_a_shell_says_what_it_wrote_and_its_return_code(self, service: SandboxService) -> None:
        (sandbox,) = await service.connect("s", "alice")
        result = await sandbox.run_shell_command("echo out; echo err >&2; exit 3")
        assert result == {
            "content": [
                {"type": "text", "text": "out\n", "description": "stdout"},
                {"type": "text", "text": "err\n", "description": "stderr"},
                {"type": "text", "text": "3", "description": "returncode"},
            ],
            "isError": True,
        }
        assert not (await sandbox.call_tool("run_shell_command", {"command": "true"})).is_error

    async def test_what_takes_too_long_is_ended_and_the_sandbox_goes_on(self, service: SandboxService) -> None:
        (sandbox,) = await service.connect("s", "alice")
        slow = await sandbox.run_shell_command("echo begun; sleep 60", timeout=0.5)
        assert slow.is_error
        assert slow.part("stdout") == "begun\n"
        assert "0.5 s" in str(slow.part("stderr"))
        assert not (await sandbox.run_shell_command("true")).is_error

    @pytest.mark.parametrize("wrong", [0, -1, ("1",), True, 10**9])
    async def test_a_call_that_is_none_is_refused(self, service: SandboxService, wrong: Any) -> None:
        (sandbox,) = await service.connect("s", "alice")
        no_arguments: Any = wrong or [1]
        calls: list[Callable[[], Any]] = [
            lambda: sandbox.run_shell_command("true", timeout=wrong),
            lambda: sandbox.call_tool("no such tool", {}),
            lambda: sandbox.call_tool("run_shell_command", no_arguments),
            lambda: sandbox.run_shell_command(wrong),
            lambda: sandbox.write_file("x", wrong),
        ]
        for call in calls:
            with pytest.raises(InvalidContent):
                await call()

    async def test_tools_are_listed_with_their_schemas(self, service: SandboxService) -> None:
        (sandbox,) = await service.connect("s", "alice")
        tools = (await sandbox.list_tools())["generic"]
        function = tools["run_ipython_cell"]["json_schema"]["function"]
        assert function["name"] == "run_ipython_cell"
        assert function["parameters"]["required"] == ["code"]
        assert {"run_shell_command", "read_file", "write_file", "list_files", "remove_file"} <= tools.keys()

    async def test_a_workspace_that_is_kept_outlives_its_sandbox(self, keeping: SandboxService) -> None:
        (sandbox,) = await keeping.connect("s", "alice")
        await sandbox.write_file("notes/day.txt", "kept")
        await sandbox.run_shell_command("ln -s notes/day.txt link; printf '#!/bin/sh\necho ran\n' >run; chmod +x run")
        await keeping.release("s", "alice")
        (new,) = await keeping.connect("s", "alice")
        assert new.generation > sandbox.generation
        assert (await new.read_file("notes/day.txt")).text == "kept"
        assert (await new.run_shell_command("cat link; ./run")).part("stdout") == "keptran\n"
        await new.remove_file("notes")
        await keeping.release("s", "alice", snapshot=False)
        assert (await (await keeping.connect("s", "alice"))[0].read_file("notes/day.txt")).text == "kept"
        (other,) = await keeping.connect("t", "alice")
        assert (await other.list_files())["content"] == []
        await keeping.release("s", "alice", snapshot=False)
        deleted = [await keeping.delete_workspaces(session, user) for session, user in _AFTER_EACH_OTHER]
        assert deleted == [0, 0, 1, 0]
        assert (await (await keeping.connect("s", "alice"))[0].list_files())["content"] == []

    async def test_a_workspace_that_is_too_large_to_be_kept_is_not_lost(self, keeping: SandboxService) -> None:
        (sandbox,) = await keeping.connect("s", "alice")
        await sandbox.write_file("large", random.Random(7).randbytes(200_000))  # noqa: S311
        with pytest.raises(LimitExceeded):
            await keeping.release("s", "alice")
        assert (await sandbox.run_shell_command("wc -c <large")).text.strip() == "200000"
        assert len(await keeping.release("s", "alice", snapshot=False)) == 1

    async def test_a_stop_ends_them_and_no_call_follows(
        self, service: SandboxService, provider: SandboxProvider
    ) -> None:
        (sandbox,) = await service.connect("s", "alice")
        assert await service.health()
        await service.stop()
        assert not await provider.check(sandbox.sandbox_id)
        assert not await service.health()
        for call in (service.connect("s", "alice"), service.release("s", "alice"), sandbox.run_shell_command("true")):
            with pytest.raises((Closed, SandboxLost)):
                await call
        await service.start()
        (again,) = await service.connect("s", "alice")
        assert again.sandbox_id != sandbox.sandbox_id
