"""The part of the contract of SessionHistoryService that concerns appends by ids, and changes of stored messages."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import Mock

import pytest

from agentstore.errors import Conflict, InvalidContent, LimitExceeded, NotFound
from agentstore.interfaces import SessionHistoryService
from agentstore.schemas import DataContent, Deleted, Message
from agentstore.schemas.tool_calls import find_orphans
from agentstore.testing.values import text


def _numbered(*numbers: int) -> list[Message]:
    return [text(f"text {number}", id=f"m{number}") for number in numbers]


async def _ids(service: SessionHistoryService, session_id: str = "s") -> list[str]:
    session = await service.get_session("alice", session_id)
    assert session is not None
    assert session.message_count == len(session.messages)
    return [message.id for message in session.messages]


async def _seqs(service: SessionHistoryService, session_id: str = "s") -> list[int | None]:
    session = await service.get_session("alice", session_id)
    assert session is not None
    return [message.seq for message in session.messages]


@pytest.mark.asyncio
class EditContract:
    """Tests of appends by ids, pop, replace and delete; a base class of SessionHistoryContract."""

    async def test_a_stored_message_has_a_number_and_a_time(self, service: SessionHistoryService) -> None:
        new = _numbered(1, 2)
        assert [(each.seq, each.created_at) for each in new] == [(None, None)] * 2
        session = await service.create_session("alice", "s")
        await service.append_message(session, new)
        await service.append_message(session, text("text 3", id="m3"))
        stored = await service.get_session("alice", "s")
        assert stored is not None
        assert [each.seq for each in stored.messages] == [1, 2, 3]
        times = [each.created_at for each in stored.messages]
        assert all(time is not None and time.utcoffset() is not None for time in times)
        assert times[0] == times[1] <= times[2]  # type: ignore[operator]
        # The caller's messages know it as well, and it is neither compared nor dumped.
        assert [(each.seq, each.created_at) for each in session.messages] == list(zip([1, 2, 3], times, strict=True))
        assert stored.messages[0] == text("text 1", id="m1")
        assert not {"seq", "created_at"} & stored.messages[0].model_dump().keys()
        read = await service.read_messages("alice", "s", limit=2)
        assert read is not None
        assert [(each.seq, each.created_at) for each in (*read, read[-1])] == [
            (2, times[1]),
            (3, times[2]),
            (3, times[2]),
        ]
        iterated = [(each.seq, each.created_at) async for each in service.iter_messages("alice", "s", batch=2)]
        assert iterated == list(zip([1, 2, 3], times, strict=True))

    async def test_stored_messages_can_be_json_with_times(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice", "s")
        other = Message.model_validate({**text("x", id="m2").model_dump(), "created_at": "then", "seq": "7"})
        await service.append_message(session, [text("x", id="m1"), other])
        read = await service.read_messages("alice", "s")
        assert read is not None
        found = [Message.model_validate(each) for each in _loads(read.json(with_times=True))]
        assert [each.model_extra["seq"] for each in found if each.model_extra] == [1, 2]
        assert all(str(each.model_extra["created_at"]).endswith("Z") for each in found if each.model_extra)
        assert read[1] == other  # a field of the message with this name is unchanged otherwise

    async def test_sessions_have_a_message_count(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice", "s")
        assert session.message_count == 0
        await service.append_message(session, _numbered(1, 2, 3))
        assert session.message_count == 3
        assert (await service.create_session("alice", "s", messages=False)).message_count == 3
        assert (await service.create_session("alice", "s", messages=False)).messages == []
        limited = await service.get_session("alice", "s", limit=1)
        assert limited is not None
        assert limited.message_count == 3
        assert [each.message_count for each in await service.list_sessions("alice")] == [3]
        assert (await service.fork_session("alice", "s", at=2)).message_count == 2
        assert (await service.rewind_session("alice", "s", 1, keep=False)).message_count == 1

    async def test_append_by_ids_creates_the_session(self, service: SessionHistoryService) -> None:
        first = await service.append("alice", "s", _numbered(1, 2))
        assert (first.first_seq, first.last_seq) == (1, 2)
        second = await service.append("alice", "s", text("text 3", id="m3"))
        assert (second.first_seq, second.last_seq) == (3, 3)
        assert second.created_at >= first.created_at
        assert await _ids(service) == ["m1", "m2", "m3"]
        with pytest.raises(NotFound):
            await service.append("alice", "t", _numbered(1), create=False)
        assert await service.get_session("alice", "t") is None
        third = await service.append("alice", "s", _numbered(4), create=False)
        assert (third.first_seq, third.last_seq) == (4, 4)

    async def test_append_by_ids_is_idempotent(self, service: SessionHistoryService) -> None:
        messages = _numbered(1, 2)
        first = await service.append("alice", "s", messages)
        assert await service.append("alice", "s", messages) == first
        both = await service.append("alice", "s", _numbered(2, 3))
        assert (both.first_seq, both.last_seq) == (2, 3)
        assert await _ids(service) == ["m1", "m2", "m3"]
        with pytest.raises(Conflict):
            await service.append("alice", "s", [text("another text", id="m1"), *_numbered(4)])
        assert await _ids(service) == ["m1", "m2", "m3"]

    async def test_append_of_no_messages_creates_the_session(self, service: SessionHistoryService) -> None:
        empty = await service.append("alice", "s", [])
        assert (empty.first_seq, empty.last_seq) == (1, 0)
        await service.append("alice", "s", _numbered(1))
        empty = await service.append("alice", "s", [], expected_seq=1)
        assert (empty.first_seq, empty.last_seq) == (2, 1)
        with pytest.raises(Conflict):
            await service.append("alice", "s", [], expected_seq=0)

    async def test_append_with_expected_seq_conflicts_after_other_appends(self, service: SessionHistoryService) -> None:
        await service.append("alice", "s", _numbered(1), expected_seq=0)
        await service.append("alice", "s", _numbered(2), expected_seq=1)
        for expected in (0, 1, 3):
            with pytest.raises(Conflict):
                await service.append("alice", "s", _numbered(3), expected_seq=expected)
        assert await _ids(service) == ["m1", "m2"]
        # A retry of what was stored is no conflict.
        again = await service.append("alice", "s", _numbered(2), expected_seq=1)
        assert (again.first_seq, again.last_seq) == (2, 2)
        with pytest.raises(Conflict):
            await service.append("alice", "t", _numbered(1), expected_seq=1)
        assert await service.get_session("alice", "t") is None

    async def test_of_concurrent_appends_with_expected_seq_one_succeeds(self, service: SessionHistoryService) -> None:
        for turn in range(3):
            calls = (service.append("alice", "s", text("x"), expected_seq=turn) for _ in range(5))
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert sum(isinstance(each, Conflict) for each in results) == 4, results
            assert len(await _ids(service)) == turn + 1

    async def test_append_patches_metadata(self, service: SessionHistoryService) -> None:
        await service.append("alice", "s", _numbered(1), metadata_patch={"a": {"x": 1, "y": 2}, "b": [1], "c": None})
        session = await service.get_session("alice", "s")
        assert session is not None
        assert session.metadata == {"a": {"x": 1, "y": 2}, "b": [1]}
        patch: dict[str, Any] = {"a": {"x": None, "z": "\0"}, "b": {"n": {"m": None}}, "d": None}
        await service.append("alice", "s", _numbered(2), metadata_patch=patch)
        session = await service.get_session("alice", "s")
        assert session is not None
        assert session.metadata == {"a": {"y": 2, "z": "\0"}, "b": {"n": {}}}
        with pytest.raises(Conflict):
            await service.append("alice", "s", _numbered(3), expected_seq=1, metadata_patch={"a": 1})
        # The retry of an append does not undo a later change.
        await service.set_metadata("alice", "s", {"later": True})
        await service.append("alice", "s", _numbered(2), metadata_patch=patch)
        await service.append("alice", "s", [], metadata_patch={"empty": 1})
        session = await service.get_session("alice", "s")
        assert session is not None
        assert session.metadata == {"later": True, "empty": 1}

    async def test_a_function_patches_the_metadata_for_the_new_messages(self, service: SessionHistoryService) -> None:
        calls: list[tuple[dict[str, Any], list[str]]] = []

        def patch(metadata: dict[str, Any], added: list[str]) -> dict[str, Any]:
            calls.append((metadata, added))
            return {"ids": [*metadata.get("ids", []), *added], "removed": None}

        await service.append("alice", "s", _numbered(1, 2), metadata_patch=patch)
        await service.append("alice", "s", _numbered(2, 3), metadata_patch=patch)
        assert [added for _, added in calls] == [["m1", "m2"], ["m3"]]
        await service.append("alice", "s", _numbered(1, 3), metadata_patch=patch)  # all are stored
        with pytest.raises(Conflict):
            await service.append("alice", "s", _numbered(4), expected_seq=1, metadata_patch=patch)
        assert len(calls) == 2
        await service.append("alice", "s", [], metadata_patch=lambda metadata, added: {"n": len(metadata["ids"])})

        def fail(metadata: dict[str, Any], added: list[str]) -> dict[str, Any]:
            metadata.clear()
            raise LookupError(added[0])

        for session in ("s", "new"):
            with pytest.raises(LookupError, match="m4"):
                await service.append("alice", session, _numbered(4), metadata_patch=fail)
            results: list[Any] = [None, [], {1: 2}, {"x": float("nan")}]
            for result in results:
                with pytest.raises(InvalidContent):
                    await service.append("alice", session, _numbered(4), metadata_patch=lambda *_: result)  # noqa: B023
        assert await service.get_session("alice", "new") is None
        found = await service.get_session("alice", "s")
        assert found is not None
        assert found.metadata == {"ids": ["m1", "m2", "m3"], "n": 3}
        assert await _ids(service) == ["m1", "m2", "m3"]

    async def test_concurrent_functions_patch_the_metadata_in_the_order_of_the_messages(
        self, service: SessionHistoryService
    ) -> None:
        def patch(metadata: dict[str, Any], added: list[str]) -> dict[str, Any]:
            return {"ids": [*metadata.get("ids", []), *added]}

        await asyncio.gather(*(service.append("alice", "s", _numbered(n), metadata_patch=patch) for n in range(20)))
        found = await service.get_session("alice", "s")
        assert found is not None
        assert found.metadata == {"ids": await _ids(service)}
        assert len(found.messages) == 20

    async def test_pop_removes_and_returns_the_last_messages(self, service: SessionHistoryService) -> None:
        await service.append("alice", "s", _numbered(1, 2, 3, 4))
        assert await service.pop_messages("alice", "s") == _numbered(4)
        popped = await service.pop_messages("alice", "s", 2)
        assert popped == _numbered(2, 3)
        assert [each.seq for each in popped] == [2, 3]
        assert await service.pop_messages("alice", "s", 0) == []
        await service.append("alice", "s", _numbered(5))
        assert await _ids(service) == ["m1", "m5"]
        assert await service.pop_messages("alice", "s", 5) == _numbered(1, 5)
        assert await service.pop_messages("alice", "s") == []
        assert await service.pop_messages("alice", "missing") == []
        assert await _ids(service) == []
        await service.append("alice", "s", _numbered(1))
        assert await _seqs(service) == [1]

    async def test_concurrent_pops_return_different_messages(self, service: SessionHistoryService) -> None:
        await service.append("alice", "s", _numbered(*range(20)))
        popped = await asyncio.gather(*(service.pop_messages("alice", "s", 3) for _ in range(8)))
        ids = [message.id for messages in popped for message in messages]
        assert sorted(ids) == sorted(f"m{number}" for number in range(20))
        assert await _ids(service) == []

    async def test_replace_message_keeps_its_place(self, service: SessionHistoryService) -> None:
        await service.append("alice", "s", _numbered(1, 2, 3))
        before = await service.get_session("alice", "s")
        assert before is not None
        replaced = await service.replace_message("alice", "s", text("new", id="m2"))
        assert (replaced.seq, replaced.created_at) == (2, before.messages[1].created_at)
        after = await service.get_session("alice", "s")
        assert after is not None
        assert after.messages == [*_numbered(1), text("new", id="m2"), *_numbered(3)]
        assert after.messages[1].created_at == before.messages[1].created_at
        assert after.updated_at is not None
        assert before.updated_at is not None
        assert after.updated_at >= before.updated_at
        for missing in (("alice", "s", "m4"), ("alice", "t", "m1"), ("bob", "s", "m1")):
            with pytest.raises(NotFound):
                await service.replace_message(*missing[:2], text("x", id=missing[2]))

    async def test_a_message_that_was_read_can_be_changed_and_replaced(self, service: SessionHistoryService) -> None:
        """An assignment leaves its seq and its time, which are not fields."""
        await service.append("alice", "s", _numbered(1, 2, 3))
        session = await service.get_session("alice", "s")
        assert session is not None
        for message, field, value in zip(
            session.messages,
            ("content", "metadata", "extra"),
            ("new", {"a": 1}, 1),
            strict=True,
        ):
            place = message.seq, message.created_at
            setattr(message, field, value)
            assert (message.seq, message.created_at) == place
            replaced = await service.replace_message("alice", "s", message)
            assert (replaced.seq, replaced.created_at) == place
        found = await service.get_session("alice", "s")
        assert found is not None
        assert found.messages == session.messages
        assert (found.messages[0].text, found.messages[1].metadata) == ("new", {"a": 1})
        assert found.messages[2].model_extra == {"extra": 1}

    async def test_replace_message_compares_what_is_expected(self, service: SessionHistoryService) -> None:
        (first,) = _numbered(1)
        await service.append("alice", "s", first)
        second = text("second", id="m1")
        await service.replace_message("alice", "s", second, expected=first)
        with pytest.raises(Conflict):
            await service.replace_message("alice", "s", text("third", id="m1"), expected=first)
        # A retry is no conflict.
        await service.replace_message("alice", "s", second, expected=first.model_dump())
        assert (await service.pop_messages("alice", "s")) == [second]
        with pytest.raises(InvalidContent, match="id"):
            await service.replace_message("alice", "s", second, expected=text("x", id="m2"))
        with pytest.raises(InvalidContent, match="id"):
            await service.replace_message("alice", "s", {"role": "user"})

    async def test_of_concurrent_replacements_one_succeeds(self, service: SessionHistoryService) -> None:
        (first,) = _numbered(1)
        await service.append("alice", "s", first)
        calls = (service.replace_message("alice", "s", text(f"{n}", id="m1"), expected=first) for n in range(5))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(each, Conflict) for each in results) == 4, results
        (winner,) = [each for each in results if isinstance(each, Message)]
        assert (await service.pop_messages("alice", "s")) == [winner]

    async def test_deleted_messages_leave_the_order_of_the_others(self, service: SessionHistoryService) -> None:
        await service.append("alice", "s", _numbered(*range(1, 9)))
        assert await service.delete_messages("alice", "s", ["m2", "m5", "missing", "m5"]) == Deleted(messages=2)
        assert await service.delete_messages("alice", "s", ["m2"]) == Deleted()
        assert await service.delete_messages("alice", "missing", ["m1"]) == Deleted()
        assert await _ids(service) == ["m1", "m3", "m4", "m6", "m7", "m8"]
        assert await _seqs(service) == [1, 3, 4, 6, 7, 8]
        # Limits and counts are those of the messages that are left.
        for selection, expected in _SELECTIONS:
            found = await service.get_session("alice", "s", **selection)
            assert found is not None
            assert [each.id for each in found.messages] == expected, selection
            assert found.message_count == 6
        assert [each.id async for each in service.iter_messages("alice", "s", batch=2)] == [
            *("m1", "m3", "m4", "m6", "m7", "m8")
        ]
        appended = await service.append("alice", "s", _numbered(2), expected_seq=6)
        assert appended.first_seq == 9
        # All messages, and the last of all.
        assert await service.delete_messages("alice", "s", ["m2"]) == Deleted(messages=1)
        assert [each.id for each in await service.pop_messages("alice", "s", 2)] == ["m7", "m8"]
        assert await _ids(service) == ["m1", "m3", "m4", "m6"]
        await service.delete_messages("alice", "s", ["m1", "m3", "m4", "m6"])
        assert await _ids(service) == []
        await service.append("alice", "s", _numbered(1))
        assert await _ids(service) == ["m1"]

    async def test_forks_and_rewinds_of_sessions_with_deleted_messages(self, service: SessionHistoryService) -> None:
        await service.append("alice", "s", _numbered(*range(1, 9)))
        await service.delete_messages("alice", "s", ["m2", "m5", "m8"])
        for place, expected in ((None, [1, 3, 4, 6, 7]), ("m4", [1, 3, 4]), (5, [1, 3, 4]), (2, [1]), (0, [])):
            fork = await service.fork_session("alice", "s", at=place)
            assert [each.id for each in fork.messages] == [f"m{number}" for number in expected]
            assert fork.message_count == len(expected)
            assert await _seqs(service, fork.id) == expected
            await service.append("alice", fork.id, _numbered(9))
            assert len(await _ids(service, fork.id)) == len(expected) + 1
        rewound = await service.rewind_session("alice", "s", "m6", keep=False)
        assert [each.id for each in rewound.messages] == ["m1", "m3", "m4", "m6"]
        rewound = await service.rewind_session("alice", "s", 2, keep=False)
        assert [each.id for each in rewound.messages] == ["m1"]
        assert rewound.message_count == 1

    async def test_replace_from_replaces_the_end(self, service: SessionHistoryService) -> None:
        await service.append("alice", "s", _numbered(1, 2, 3, 4))
        changed = await service.replace_from("alice", "s", "m3", [text("again", id="m3"), *_numbered(5)])
        assert (changed.first_seq, changed.last_seq) == (3, 4)
        session = await service.get_session("alice", "s")
        assert session is not None
        assert session.messages == [*_numbered(1, 2), text("again", id="m3"), *_numbered(5)]
        await service.replace_from("alice", "s", 5, _numbered(6))  # nothing is deleted
        await service.replace_from("alice", "s", 2, [])
        assert await _ids(service) == ["m1"]
        for place in ("m2", 3, 2**40):
            with pytest.raises(NotFound):
                await service.replace_from("alice", "s", place, _numbered(7))
        with pytest.raises(NotFound):
            await service.replace_from("alice", "t", 1, _numbered(7))
        await service.append("alice", "s", _numbered(2))
        with pytest.raises(Conflict):
            await service.replace_from("alice", "s", "m2", _numbered(1))
        with pytest.raises(InvalidContent):
            await service.replace_from("alice", "s", 0, [])
        assert await _ids(service) == ["m1", "m2"]

    async def test_window_returns_the_newest_messages_that_fit(self, service: SessionHistoryService) -> None:
        system = [text("be brief", id="s1", role="system"), text("be kind", id="s2", role="system")]
        await service.append("alice", "s", [*system, *_numbered(*range(100))])
        counted = []

        def count(message: Message) -> int:
            counted.append(message.id)
            return 10

        async def window(max_tokens: int, *, keep_system: bool = True) -> list[str]:
            counted.clear()
            found = await service.window("alice", "s", max_tokens=max_tokens, count=count, keep_system=keep_system)
            return [message.id for message in found]

        assert await window(55) == ["s1", "s2", "m97", "m98", "m99"]
        assert len(counted) == 6  # no message is counted that cannot be returned, except for one
        assert await window(55, keep_system=False) == ["m95", "m96", "m97", "m98", "m99"]
        assert await window(10_000) == ["s1", "s2", *(f"m{number}" for number in range(100))]
        assert await window(10_000, keep_system=False) == ["s1", "s2", *(f"m{number}" for number in range(100))]
        assert [await window(tokens) for tokens in (0, 9, 10, 20, 29)] == [[], [], ["s1"], ["s1", "s2"], ["s1", "s2"]]
        with pytest.raises(NotFound):
            await service.window("alice", "missing", max_tokens=10, count=len)  # type: ignore[arg-type]
        invalid: list[Any] = [-1, 1.5, "1", None, True]
        for tokens in invalid:
            with pytest.raises(InvalidContent):
                await service.window("alice", "s", max_tokens=tokens, count=count)
            with pytest.raises(InvalidContent):
                await service.window("alice", "s", max_tokens=10, count=Mock(return_value=tokens))

    async def test_window_and_whole_calls_never_separate_an_output_from_its_call(
        self, service: SessionHistoryService
    ) -> None:
        """Random conversations, in every window and on every page."""
        generator = random.Random(3)  # noqa: S311
        for number in range(4):
            session_id = f"s{number}"
            messages = list(_conversation(generator))
            await service.append("alice", session_id, messages)
            for size in range(len(messages) + 1):
                found = await service.window("alice", session_id, max_tokens=size, count=lambda _: 1)
                assert len(found) <= size
                assert find_orphans(found) == []
                newest = messages[len(messages) - size :]
                if find_orphans(newest) == [] and newest[:1] != messages[:1]:
                    assert found == newest or messages[0].role == "system"
                page = await service.get_session("alice", session_id, limit=size, whole_calls=True)
                assert page is not None
                assert page.messages[len(page.messages) - size :] == newest
                assert find_orphans(page.messages) == []
                if find_orphans(newest) == []:
                    assert len(page.messages) == size

    async def test_whole_calls_of_a_page(self, service: SessionHistoryService) -> None:
        call = Message(id="c", role="assistant", type="function_call", content=[DataContent(data={"call_id": "1"})])
        output = Message.tool("sun", "1", id="o")
        stray = Message.tool("rain", "2", id="stray")
        await service.append("alice", "s", [*_numbered(1), call, *_numbered(2), output, *_numbered(3), stray])
        for limit, expected in ((1, ["stray"]), (2, ["m3", "stray"]), (3, ["o", "m3", "stray"])):
            found = await service.get_session("alice", "s", limit=limit, whole_calls=True)
            assert found is not None
            # Each is after a message of the user, so the calls are in another turn.
            assert [message.id for message in found.messages] == expected
        assistant = [each.model_copy(update={"id": f"a{each.id}", "role": "assistant"}) for each in _numbered(1, 2)]
        await service.append("alice", "t", [*_numbered(1), call, assistant[0], output, assistant[1]])
        for before, expected in ((None, ["c", "am1", "o", "am2"]), ("am2", ["c", "am1", "o"]), ("o", ["c", "am1"])):
            found = await service.get_session("alice", "t", limit=2, before=before, whole_calls=True)
            assert found is not None
            assert [message.id for message in found.messages] == expected

    async def test_invalid_arguments_of_edits(self, service: SessionHistoryService) -> None:
        await service.append("alice", "s", _numbered(1))
        invalid: list[Any] = ["m1", b"m1", None, 1, {"m1": 1}, ["\0"], [None]]
        for ids in invalid:
            with pytest.raises(InvalidContent):
                await service.delete_messages("alice", "s", ids)
        with pytest.raises(LimitExceeded):
            await service.delete_messages("alice", "s", _Long())
        for number in (-1, True, 1.5, "1", None):
            with pytest.raises(InvalidContent):
                await service.pop_messages("alice", "s", number)  # type: ignore[arg-type]
        for expected in (-1, True, "1"):
            with pytest.raises(InvalidContent):
                await service.append("alice", "s", [], expected_seq=expected)  # type: ignore[arg-type]
        patches: list[Any] = [[], "x", {1: 2}, {"x": float("nan")}, {"x": b""}]
        for patch in patches:
            with pytest.raises(InvalidContent):
                await service.append("alice", "s", _numbered(2), metadata_patch=patch)
        assert await _ids(service) == ["m1"]


def _conversation(generator: random.Random) -> Iterator[Message]:
    """Yield turns of a question, calls and their outputs in any order, and an answer."""
    if generator.random() < 0.5:
        yield text("be brief", id="system", role="system")
    for turn in range(generator.randrange(1, 5)):
        yield text("question", id=f"{turn}")
        waiting: list[str] = []
        for step in range(generator.randrange(6)):
            if waiting and generator.random() < 0.5:
                call_id = waiting.pop(generator.randrange(len(waiting)))
                yield Message.tool("output", call_id, id=f"{call_id} output")
            else:
                waiting.append(f"{turn} {step}")
                data = {"call_id": waiting[-1], "name": "f", "arguments": "{}"}
                yield Message(id=waiting[-1], role="assistant", type="function_call", content=[DataContent(data=data)])
        if generator.random() < 0.7:
            yield text("answer", id=f"{turn} answer", role="assistant")


_SELECTIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"limit": 0}, []),
    ({"limit": 1}, ["m8"]),
    ({"limit": 4}, ["m4", "m6", "m7", "m8"]),
    ({"limit": 6}, ["m1", "m3", "m4", "m6", "m7", "m8"]),
    ({"limit": 2**40}, ["m1", "m3", "m4", "m6", "m7", "m8"]),
    ({"before": "m6"}, ["m1", "m3", "m4"]),
    ({"before": "m6", "limit": 2}, ["m3", "m4"]),
    ({"before": "m6", "limit": 0}, []),
    ({"before": "m1", "limit": 3}, []),
]


class _Long(Sequence[str]):
    """More ids than a call accepts."""

    def __getitem__(self, index: Any) -> Any:
        return "m1"

    def __len__(self) -> int:
        return 10_001


def _loads(value: bytes) -> list[dict[str, Any]]:
    from agentstore.exact_json import loads

    found: list[dict[str, Any]] = loads(value)
    return found
