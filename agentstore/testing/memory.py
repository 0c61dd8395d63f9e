"""The contract of MemoryService."""

import asyncio
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Unpack

import pytest

from agentstore.errors import Closed, InvalidContent, LimitExceeded
from agentstore.interfaces import MemoryService
from agentstore.schemas import Deleted, ListFilters, Message, MessagesLike, SearchFilters
from agentstore.testing.values import EXACT_VALUES, HOSTILE_IDS, NON_JSON_VALUES, NOT_MESSAGES, text

_QUERIES = (
    "' | & ! ( ) :* <-> <2> \\", "a & b | !c", "'" * 4, '"quoted phrase"', "\0 nul", "\ud800 surrogate", "😀👍🏽 🇨🇳",
    "%_", "$1",
    "'; DROP TABLE memories; --", "tsquery:*A", "x" * 100_000, "词" * 20_000, "a b " * 20_000, "-", "'" * 2, "\u200b",
    "ﬁ ½ ㎏",
    "\u0301\u0301", "C++ C# .NET e-mail@example.com https://x.y/z?q=1", "ไทย ລາວ ខ្មែរ မြန်မာ हिन्दी العربية עברית",
    "0000年", "〇〇〇〇年", "0000-00-00", "the year 0",
)  # fmt: skip
"""Queries that search engines have rejected or choked on."""


def _ids(messages: Iterable[Message]) -> list[str]:
    return [message.id for message in messages]


@pytest.mark.asyncio
class MemoryContract:
    """Tests that every MemoryService must pass; facts (``save_items``) are not part of the interface.

    Fixture ``service``: a new, empty service.
    """

    async def test_search_matches_words_in_any_language(self, service: MemoryService) -> None:
        messages = [
            text("I am allergic to shrimps", id="shrimps"),
            text("The train leaves at nine", id="train"),
            text("我对虾过敏，请记住", id="虾"),
            text("会議は東京で行われます", id="東京"),
            text("Мы живём в Москве", id="москва"),
        ]
        # Each in its own session: adjacent messages of one session raise each other's score.
        for number, message in enumerate(messages):
            await service.add_memory("alice", message, f"s{number}")
        for query, id in (
            ("shrimp allergies?", "shrimps"), ("when do the trains leave", "train"), ("虾", "虾"), ("过敏吗", "虾"),
            ("東京", "東京"), ("в москву", "москва"), ("TRAIN!!!", "train"),
        ):  # fmt: skip
            found = await service.search_memory("alice", text(query))
            assert _ids(found)[:1] == [id], query
            assert found[0] == next(message for message in messages if message.id == id)

    async def test_reads_with_stale_ok_return_what_is_stored(self, service: MemoryService) -> None:
        """The argument has no effect without a replica."""
        await service.add_memory("alice", [text("apples"), text("pears"), text("apples and pears")], "s")
        for query in ("apples", "aplpes", "plums"):
            found = await service.search_memory("alice", text(query))
            assert await service.search_memory("alice", text(query), stale_ok=True) == found
        pages: list[ListFilters] = [{}, {"page_size": 2}, {"page_size": 2, "page_num": 2}]
        for filters in pages:
            listed = await service.list_memory("alice", filters)
            assert await service.list_memory("alice", filters, stale_ok=True) == listed

    async def test_search_matches_dates_of_and_in_messages(self, service: MemoryService) -> None:
        messages = {
            "at": text("a walk in the hills", metadata={"timestamp": "2023-05-08T23:00:00-08:00"}),
            "worded": text("a walk on July 9th, 2021", metadata={"timestamp": "2022-01-01"}),
            "digits": text("a walk: 2020-03-04", metadata={"timestamp": "2022-01-02"}),
            "other": text("a walk in the park", metadata={"timestamp": "2022-01-03"}),
            "undated": text("a walk now"),
        }
        for id, message in messages.items():
            await service.add_memory("alice", message.model_copy(update={"id": id}), id)
        for query, id in (
            ("the walk on May 8", "at"), ("walk, 5/8/2023", "at"), ("2023年5月的 walk", "at"),
            ("walk in 2021", "worded"), ("the walk of 2021-07-09", "worded"), ("the walk of 9. Juli 2021", "worded"),
            ("4 March 2020 walk", "digits"), ("the walk in March", "digits"), ("3月4日 walk", "digits"),
        ):  # fmt: skip
            assert _ids(await service.search_memory("alice", text(query)))[:1] == [id], query
        yesterday = text("where was the walk yesterday?", metadata={"timestamp": "2022-01-04"})
        assert _ids(await service.search_memory("alice", yesterday))[:1] == ["other"]
        today = datetime.now(UTC).date()
        assert _ids(await service.search_memory("alice", text(f"walk {today}")))[:1] == ["undated"]

    async def test_rare_word_ranks_above_common_words(self, service: MemoryService) -> None:
        line = " ".join(f"check{number}" for number in range(33))
        messages = [text(f"{line} omega" if number == 700 else line, id=f"m{number}") for number in range(1_000)]
        await service.add_memory("alice", messages[:500], "s")
        await service.add_memory("alice", messages[500:], "t")
        assert _ids(await service.search_memory("alice", text(f"{line} omega")))[0] == "m700"
        assert len(await service.search_memory("alice", text(line))) == 10

    async def test_message_without_text_is_found_by_its_date(self, service: MemoryService) -> None:
        await service.add_memory("alice", Message(id="a", role="user", metadata={"timestamp": "2023-05-08"}), "s")
        assert _ids(await service.search_memory("alice", text("8 May 2023"))) == ["a"]

    async def test_query_is_the_text_of_the_last_message(self, service: MemoryService) -> None:
        await service.add_memory("alice", [text("apples", id="a")], "s")
        await service.add_memory("alice", {"role": "user", "content": "pears", "id": "p"}, "t")
        queries: list[MessagesLike] = [
            text("pears"), [text("apples"), text("pears")], [text("pears"), None],
            {"role": "user", "content": [{"type": "text", "text": "the"}, {"type": "text", "text": "pears"}]},
            {"role": "user", "content": "the pears"}, Message.user("pears"),
        ]  # fmt: skip
        for query in queries:
            assert _ids(await service.search_memory("alice", query)) == ["p"]

    async def test_empty_query_and_unknown_user_return_nothing(self, service: MemoryService) -> None:
        await service.add_memory("alice", text("apples"), "s")
        empty: list[MessagesLike] = [None, [], text(""), text("  "), text("?!"), Message(role="user"), [None]]
        for query in empty:
            assert await service.search_memory("alice", query) == []
        assert await service.search_memory("bob", text("apples")) == []
        assert list(await service.list_memory("bob")) == []
        assert not await service.delete_memory("bob")

    async def test_any_text_is_a_valid_query(self, service: MemoryService) -> None:
        await service.add_memory("alice", [text(words) for words in _QUERIES], "s")
        for words in _QUERIES:
            await service.search_memory("alice", text(words))
            await service.search_memory("alice", text(f"{words} {words}"), {"order": "chronological"})

    async def test_huge_text_is_stored_and_found_by_its_first_words(self, service: MemoryService) -> None:
        long = text("beginning " + "x" * 10_000_000, id="long")
        rich = text(" ".join(f"word{number}x" for number in range(100_000)), id="rich")
        dense = text("开头" + "".join(chr(0x4E00 + number % 20_000) for number in range(150_000)), id="dense")
        for message in (long, rich, dense):
            await service.add_memory("alice", message, message.id)
        for query, message in (("beginning", long), ("word7x word8x", rich), ("开头", dense)):
            assert (await service.search_memory("alice", text(query), {"top_k": 1})) == [message]

    async def test_search_filters_select_matching_memories(self, service: MemoryService) -> None:
        for number in range(4):
            message = text(
                f"apples {number}",
                id=f"m{number}",
                role="assistant" if number % 2 else "user",
                metadata={"timestamp": f"2024-01-0{number + 1}"},
            )
            await service.add_memory("alice", message, f"s{number}")

        async def found(**filters: Unpack[SearchFilters]) -> set[str]:
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

    async def test_searches_and_lists_are_restricted_to_sessions(self, service: MemoryService) -> None:
        for session in ("a", "b", "c", ""):
            messages = [text(f"apples {n}", id=f"{session}{n}") for n in range(3)]
            await service.add_memory("alice", messages, session)
        every = {session: {f"{session}{n}" for n in range(3)} for session in ("a", "b", "c", "")}
        cases: list[tuple[Any, Any]] = [
            ({"session_id": "b"}, "b"), ({"session_id": ["c", "a", "a", "unknown"]}, "ac"), ({"session_id": []}, []),
            ({"session_id": ("", "b")}, ["", "b"]), ({"exclude_session_id": "a"}, ["b", "c", ""]),
            ({"exclude_session_id": ["a", "", "c"]}, "b"), ({"exclude_session_id": []}, ["a", "b", "c", ""]),
            ({"session_id": ["a", "b"], "exclude_session_id": "a"}, "b"), ({"session_id": None}, ["a", "b", "c", ""]),
            ({"exclude_session_id": "default"}, "abc"),
        ]  # fmt: skip
        for filters, sessions in cases:
            found = await service.search_memory("alice", "apples", filters | {"top_k": 20})
            wanted = set().union(*(every[session] for session in sessions))
            assert set(_ids(found)) == wanted, filters
            whole = _ids(await service.list_memory("alice", filters | {"page_size": 20}))
            assert set(whole) == wanted, filters
            for size in (1, 2, 3, 4, 7):
                paged = filters | {"page_size": size}
                pages = [await service.list_memory("alice", paged | {"page_num": n}) for n in range(1, 14)]
                assert [id for page in pages for id in _ids(page)] == whole, (filters, size)
                seen, cursor = [], None
                while True:
                    page = await service.list_memory("alice", paged | {"cursor": cursor})
                    seen += _ids(page)
                    if (cursor := page.next_cursor) is None:
                        break
                assert seen == whole, (filters, size)

    async def test_namespaces_are_filtered_by_whole_segments(self, service: MemoryService) -> None:
        namespaces = (None, "a", "a/b", "a/b/c", "ab", "a/bc", "b/a", "A", "%", "密/é'\\", "a/ b", "x" * 512)
        for number, namespace in enumerate(namespaces):
            message = text("apples", id=f"{number}")
            await service.add_memory("alice", message, f"s{number}", namespace=namespace)
        await service.add_memory("alice", text("apples", id="0"), "s0", namespace="a")  # the first one stays
        await service.add_memory("bob", text("apples", id="bobs"), "s", namespace="a/b")
        for namespace, expected in (
            (None, range(len(namespaces))), ("a", (1, 2, 3, 5, 10)), ("a/b", (2, 3)), ("a/b/c", (3,)), ("a/b/c/d", ()),
            ("ab", (4,)), ("b", (6,)), ("A", (7,)), ("%", (8,)), ("密", (9,)), ("密/é'\\", (9,)), ("x" * 512, (11,)),
            ("_", ()), ("x" * 511, ()),
        ):  # fmt: skip
            filters: ListFilters = {"namespace": namespace, "page_size": 20}
            assert {int(id) for id in _ids(await service.list_memory("alice", filters))} == set(expected)
            found = await service.search_memory("alice", "apples", {"namespace": namespace, "top_k": 20})
            assert {int(id) for id in _ids(found)} == set(expected)
        for invalid in ("", "/", "a/", "/a", "a//b", "\0", "\ud800", "x" * 513, 7, b"a", ["a"]):
            wrong: Any = invalid
            for call in (
                service.add_memory("alice", text("x"), "s", namespace=wrong),
                service.search_memory("alice", "apples", {"namespace": wrong}),
                service.list_memory("alice", {"namespace": wrong}),
            ):
                with pytest.raises(InvalidContent):
                    await call

    async def test_metadata_is_filtered_by_equal_values(self, service: MemoryService) -> None:
        stored: list[dict[str, Any] | None] = [
            None, {}, {"n": 1}, {"n": 1.0, "x": "y"}, {"n": "1"}, {"n": True}, {"n": None}, {"n": 10**30}, {"n": 1e30},
            {"n": {"b": [1, 2.0], "a": None}}, {"n": [1, 2]}, {"n": "\0 \ud800"}, {"\0": "n"}, {"n": ""}, {"n": 0.1},
            {"outer": {"n": 1}}, {"n": "a' & 'b\\"}, {"n": "x" * 100_000}, {"n": {}}, {"n": -0.0},
        ]  # fmt: skip
        for number, metadata in enumerate(stored):
            await service.add_memory("alice", text("apples", id=f"{number}", metadata=metadata), f"s{number % 3}")
        for wanted, expected in (
            ({}, range(len(stored))), ({"n": 1}, (2, 3)), ({"n": 1.0}, (2, 3)), ({"n": 1, "x": "y"}, (3,)),
            ({"n": "1"}, (4,)), ({"n": True}, (5,)), ({"n": None}, (6,)), ({"n": 10**30}, (7,)),
            ({"n": int(1e30)}, (8,)), ({"n": {"a": None, "b": (1, 2)}}, (9,)), ({"n": [1, 2]}, (10,)),
            ({"n": [2, 1]}, ()),
            ({"n": "\0 \ud800"}, (11,)), ({"\0": "n"}, (12,)), ({"n": ""}, (13,)), ({"n": 0.1}, (14,)),
            ({"outer": {"n": 1}}, (15,)), ({"n": "a' & 'b\\"}, (16,)), ({"n": "x" * 100_000}, (17,)),
            ({"n": {}}, (18,)),
            ({"n": 0}, (19,)), ({"y": None}, ()), ({"n": 1, "x": "z"}, ()),
        ):  # fmt: skip
            filters: ListFilters = {"metadata": wanted, "page_size": 30}
            assert {int(id) for id in _ids(await service.list_memory("alice", filters))} == set(expected), wanted
            found = await service.search_memory("alice", "apples", {"metadata": wanted, "top_k": 30})
            assert {int(id) for id in _ids(found)} == set(expected), wanted
        for invalid in (
            7, "n", [("n", 1)], {7: 1}, {"n": math.nan}, {"n": b"x"}, {f"{n}": n for n in range(101)},
            {"n": 10**5_000}, {"n": [10**5_000, "\ud800"]}, {"n": "\ud83d\ude00"},
        ):  # fmt: skip
            wrong: Any = {"metadata": invalid}
            for call in (service.search_memory("alice", "apples", wrong), service.list_memory("alice", wrong)):
                with pytest.raises((InvalidContent, LimitExceeded)):
                    await call

    async def test_filtered_pages_contain_every_memory_once(self, service: MemoryService) -> None:
        for number in range(24):
            message = text("apples", id=f"m{number:02}", metadata={"odd": bool(number % 2)})
            await service.add_memory("alice", message, f"s{number // 8}", namespace="ab"[number % 3 % 2])
        ids = [f"m{number:02}" for number in range(24) if number % 2 and number % 3 % 2 == 0]
        filters: Any = {"namespace": "a", "metadata": {"odd": True}}
        for size in (1, 3, 4, 8, 20):
            paged = filters | {"page_size": size}
            pages = [await service.list_memory("alice", paged | {"page_num": n}) for n in range(1, 10)]
            assert [id for page in pages for id in _ids(page)] == ids
            seen, cursor = [], None
            while True:
                page = await service.list_memory("alice", paged | {"cursor": cursor})
                seen += _ids(page)
                if (cursor := page.next_cursor) is None:
                    break
            assert seen == ids
        some = await service.list_memory("alice", filters | {"session_id": ["s0", "s2"], "exclude_session_id": "s0"})
        assert _ids(some) == [id for id in ids if id >= "m16"]

    async def test_neighbors_of_matches_pass_the_filters_too(self, service: MemoryService) -> None:
        for number, words in enumerate(("where are my apples?", "in the cellar", "next to the pears")):
            message = text(words, id=f"m{number}", metadata={"n": number})
            await service.add_memory("alice", message, "s", namespace="a" if number < 2 else "b")
        assert set(_ids(await service.search_memory("alice", "apples"))) == {"m0", "m1", "m2"}
        assert set(_ids(await service.search_memory("alice", "apples", {"namespace": "a"}))) == {"m0", "m1"}
        assert _ids(await service.search_memory("alice", "aplpes", {"metadata": {"n": 0}})) == ["m0"]
        assert _ids(await service.search_memory("alice", "apples", {"metadata": {"n": 1}})) == []

    async def test_without_neighbors_only_what_matches_itself_is_found(self, service: MemoryService) -> None:
        messages = [text("where are my apples?", id="question"), text("in the cellar", id="answer")]
        await service.add_memory("alice", messages, "s")
        await service.add_memory("alice", text("apples and pears", id="other"), "t")
        assert set(_ids(await service.search_memory("alice", text("apples")))) == {"question", "answer", "other"}
        found = await service.search_memory("alice", text("apples"), {"neighbors": False})
        assert _ids(found) == ["other", "question"]
        assert _ids(await service.search_memory("alice", text("cellars"), {"neighbors": False})) == ["answer"]

    async def test_unknown_filter_is_refused_with_the_nearest_one(self, service: MemoryService) -> None:
        wrong: Any
        for wrong, nearest in (
            ({"topk": 5}, "top_k"), ({"sessionid": "s"}, "session_id"), ({"exclude_sessions": "s"}, "exclude_session"),
        ):  # fmt: skip
            with pytest.raises(InvalidContent, match=f"did you mean {nearest}"):
                await service.search_memory("alice", "x", wrong)
        # For a type checker as well: an unused "type: ignore" is an error of mypy.
        with pytest.raises(InvalidContent, match="did you mean top_k"):
            await service.search_memory("alice", "x", {"topk": 5})  # type: ignore[arg-type]
        with pytest.raises(InvalidContent, match="did you mean page_"):
            await service.list_memory("alice", {"page": 1})  # type: ignore[arg-type]

    async def test_query_is_a_string_or_messages(self, service: MemoryService) -> None:
        message = text("where are the apples", id="m")
        await service.add_memory("alice", message, "s")
        queries: list[MessagesLike | str] = ["apples", message, [message], {"role": "user", "content": "apples"}]
        for query in queries:
            assert await service.search_memory("alice", query) == [message]
        assert await service.search_memory("alice", "") == []

    @pytest.mark.parametrize(
        "filters",
        [
            {"top_k": -1}, {"top_k": "5"}, {"top_k": None}, {"top_k": 1.5}, {"top_k": 1001}, {"order": "random"},
            {"since": "soon"}, {"until": datetime(2024, 1, 1)}, {"role": 7}, {"session_id": "\0"}, {"min_score": "x"},
            {"min_score": math.nan}, {"limit": 5}, [("top_k", 5)], {"neighbors": 1}, {"neighbors": None},
            {"session_id": {"s": 1}}, {"session_id": b"s"}, {"session_id": [["s"]]}, {"exclude_session_id": 7}, {7: 7},
            {"exclude_session_id": [None]}, {"session_id": ["s"] * 1_001},
        ],
    )  # fmt: skip
    async def test_invalid_search_filter_is_rejected(self, service: MemoryService, filters: Any) -> None:
        with pytest.raises((InvalidContent, LimitExceeded)):
            await service.search_memory("alice", text("x"), filters)

    async def test_repeated_message_id_keeps_the_first_message_of_a_session(self, service: MemoryService) -> None:
        first, other = text("apples", id="m"), text("pears", id="m")
        await service.add_memory("alice", [first, first, other], "s")
        await service.add_memory("alice", [other, text("plums", id="n")], "s")
        await service.add_memory("alice", other, "t")
        assert list(await service.list_memory("alice")) == [first, text("plums", id="n"), other]

    async def test_message_without_session_is_stored_in_the_default_session(self, service: MemoryService) -> None:
        await service.add_memory("alice", text("a", id="1"))
        await service.add_memory("alice", [text("b", id="2"), None], "")
        await service.add_memory("alice", [text("b", id="2")], "default")
        await service.add_memory("alice", None)
        assert _ids(await service.list_memory("alice")) == ["1", "2"]
        assert await service.delete_memory("alice", "") == Deleted(memories=2)

    async def test_any_json_value_round_trips(self, service: MemoryService) -> None:
        messages = [
            text(f"word{number}", id=f"m{number:02}", metadata={"value": value})
            for number, value in enumerate(EXACT_VALUES)
        ]
        await service.add_memory("alice", messages, "s")
        assert list(await service.list_memory("alice", {"page_size": 100})) == messages
        for number, message in enumerate(messages):
            assert await service.search_memory("alice", text(f"word{number}"), {"top_k": 1}) == [message]

    async def test_invalid_input_is_rejected_and_nothing_is_written(self, service: MemoryService) -> None:
        for value in NON_JSON_VALUES:
            with pytest.raises(InvalidContent):
                await service.add_memory("alice", [text("good"), text("bad", metadata={"value": value})], "s")
        for invalid in ("text", 7, [7], {"role": "nobody", "content": "a"}):
            with pytest.raises(InvalidContent):
                await service.add_memory("alice", invalid, "s")  # type: ignore[arg-type]
        for mistake, reason in NOT_MESSAGES:
            for call in (service.add_memory, service.search_memory):
                with pytest.raises(InvalidContent) as error:
                    await call("alice", [mistake])
                assert reason in str(error.value)
        for arguments in (("\0", "s"), ("alice", "\ud800"), ("x" * 513, "s")):
            with pytest.raises(InvalidContent):
                await service.add_memory(arguments[0], text("x"), arguments[1])
        assert list(await service.list_memory("alice")) == []

    async def test_concurrent_adds_lose_nothing(self, service: MemoryService) -> None:
        messages = [text(f"word{number}", id=f"m{number}") for number in range(20)]
        await asyncio.gather(
            *(service.add_memory("alice", messages[start : start + 8], "s") for start in range(13) for _ in range(3))
        )
        found = _ids(await service.list_memory("alice", {"page_size": 100}))
        assert sorted(found) == sorted(_ids(messages))

    async def test_pages_contain_every_memory_once(self, service: MemoryService) -> None:
        for session in ("b", "a", "c"):
            await service.add_memory("alice", [text("x", id=f"{session}{number}") for number in range(5)], session)
        ids = [f"{session}{number}" for session in "abc" for number in range(5)]
        assert _ids(await service.list_memory("alice")) == ids[:10]
        for size in (1, 4, 5, 15, 20):
            pages = [await service.list_memory("alice", {"page_num": n, "page_size": size}) for n in range(1, 17)]
            assert [id for page in pages for id in _ids(page)] == ids
            page, seen = pages[0], _ids(pages[0])
            while page.next_cursor is not None:
                page = await service.list_memory("alice", {"page_size": size, "cursor": page.next_cursor})
                seen += _ids(page)
            assert seen == ids
        assert list(await service.list_memory("alice", {"page_num": 10**30})) == []

    @pytest.mark.parametrize(
        "filters",
        [
            {"page_num": 0}, {"page_num": -1}, {"page_num": "1"}, {"page_size": 0}, {"page_size": 10_001},
            {"page_size": None}, {"session_id": 7}, {"role": "user"},
            {"exclude_session_id": [b"s"]}, {"cursor": "nonsense"}, {"cursor": "x", "page_num": 2}, {"page": 1}, 7,
        ],
    )  # fmt: skip
    async def test_invalid_page_filter_is_rejected(self, service: MemoryService, filters: Any) -> None:
        with pytest.raises((InvalidContent, LimitExceeded)):
            await service.list_memory("alice", filters)

    @pytest.mark.parametrize("id", HOSTILE_IDS)
    async def test_memories_of_other_users_are_isolated(self, service: MemoryService, id: str) -> None:
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

    async def test_service_is_closed_after_stop_and_can_be_restarted(self, service: MemoryService) -> None:
        await service.stop()
        assert not await service.health()
        for call in (service.add_memory("alice", text("x")), service.search_memory("alice", text("x"))):
            with pytest.raises(Closed):
                await call
        await service.start()
        assert await service.health()
