"""The contract of StateService."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jsonpatch
import pytest

from agentstore.errors import Closed, Conflict, InvalidContent, LimitExceeded, NotFound
from agentstore.exact_json import dumps_sorted
from agentstore.interfaces import StateService
from agentstore.schemas import Deleted
from agentstore.schemas.page import write_cursor
from agentstore.testing.values import CLOCK_SKEW, EXACT_VALUES, HOSTILE_IDS, INVALID_CURSORS, NON_JSON_VALUES, nested


@pytest.mark.asyncio
class StateContract:
    """Tests that every StateService must pass.

    Fixture ``service``: a new, empty service.
    """

    async def test_rounds_count_from_one_and_export_returns_the_highest(self, service: StateService) -> None:
        assert await service.export_state("alice", "s") is None
        for number in range(1, 4):
            assert await service.save_state("alice", {"step": number}, "s") == number
        assert await service.export_state("alice", "s") == {"step": 3}
        assert await service.export_state("alice", "s", 1) == {"step": 1}
        assert await service.export_state("alice", "s", 4) is None
        assert await service.export_state("bob", "s") is None
        assert await service.export_state("alice", "t") is None

    async def test_explicit_round_is_overwritten_and_sets_the_next_number(self, service: StateService) -> None:
        assert await service.save_state("alice", {"a": 1}, "s", 7) == 7
        assert await service.save_state("alice", {"a": 2}, "s", 3) == 3
        assert await service.export_state("alice", "s") == {"a": 1}
        assert await service.save_state("alice", {"a": 3}, "s") == 8
        assert await service.save_state("alice", {"a": 4}, "s", round_id=7, metadata={"again": True}) == 7
        assert await service.export_state("alice", "s", 7) == {"a": 4}
        assert [(each.round_id, each.metadata) for each in await service.list_states("alice", "s")] == [
            (8, {}), (7, {"again": True}), (3, {}),
        ]  # fmt: skip

    async def test_state_without_session_is_stored_in_the_default_session(self, service: StateService) -> None:
        assert await service.save_state("alice", {"a": 1}) == 1
        assert await service.save_state("alice", {"a": 2}, "") == 2
        assert await service.save_state("alice", {"a": 3}, "default") == 3
        assert await service.export_state("alice") == {"a": 3}
        assert len(await service.list_states("alice", "")) == 3

    @pytest.mark.parametrize("value", EXACT_VALUES, ids=lambda value: repr(value)[:20])
    async def test_any_json_value_round_trips(self, service: StateService, value: Any) -> None:
        await service.save_state("alice", {"x": value, "": [value]}, "s", metadata={"y": value})
        assert repr(await service.export_state("alice", "s")) == repr({"x": value, "": [value]})
        (found,) = await service.list_states("alice", "s")
        assert repr(found.metadata) == repr({"y": value})

    async def test_stored_and_returned_values_are_copies(self, service: StateService) -> None:
        state: dict[str, Any] = {"plan": [], "pair": (1, 2)}
        await service.save_state("alice", state, "s")
        state["plan"].append("changed")
        one, two = await service.export_state("alice", "s"), await service.export_state("alice", "s")
        assert one == two == {"plan": [], "pair": [1, 2]}
        assert one is not None
        one["plan"].append("changed")
        assert await service.export_state("alice", "s") == two

    @pytest.mark.parametrize("value", NON_JSON_VALUES, ids=lambda value: repr(value)[:20])
    async def test_non_json_value_is_rejected_and_nothing_is_written(self, service: StateService, value: Any) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: service.save_state("alice", {"x": value}),
            lambda: service.save_state("alice", {}, metadata={"x": [value]}),
        ]
        for call in calls:
            with pytest.raises(InvalidContent):
                await call()
        assert list(await service.list_states("alice")) == []

    @pytest.mark.parametrize("invalid", [None, [], "{}", 1, [("a", 1)]])
    async def test_state_that_is_not_a_dict_is_rejected(self, service: StateService, invalid: Any) -> None:
        with pytest.raises(InvalidContent):
            await service.save_state("alice", invalid, "s")
        assert await service.export_state("alice", "s") is None

    @pytest.mark.parametrize("invalid", [0, -1, "1", 1.0, True, 2**63 - 1, 2**70])
    async def test_invalid_round_is_rejected(self, service: StateService, invalid: Any) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: service.save_state("alice", {}, "s", invalid),
            lambda: service.export_state("alice", "s", invalid),
            lambda: service.delete_state("alice", "s", invalid),
            lambda: service.diff_states("alice", invalid, 1, "s"),
            lambda: service.diff_states("alice", 1, invalid, "s"),
            lambda: service.save_state("alice", {}, "s", expected_round=-1 if invalid == 0 else invalid),
            lambda: service.save_state("alice", {}, "s", 1, expected_round=1),
        ]
        for call in calls:
            with pytest.raises(InvalidContent):
                await call()
        assert list(await service.list_states("alice", "s")) == []

    async def test_size_and_depth_limits_are_enforced(self, service: StateService) -> None:
        await service.save_state("alice", nested(200), "deep")
        assert await service.export_state("alice", "deep") == nested(200)
        with pytest.raises(LimitExceeded):
            await service.save_state("alice", nested(201), "deep")
        with pytest.raises(LimitExceeded):
            await service.list_states("alice", "deep", limit=10_001)
        assert len(await service.list_states("alice", "deep")) == 1

    @pytest.mark.parametrize("invalid", [None, 1, b"x", "\0", "\ud800", "x" * 513, "密" * 171])
    async def test_invalid_id_is_rejected(self, service: StateService, invalid: Any) -> None:
        with pytest.raises(InvalidContent):
            await service.save_state(invalid, {})
        if invalid is not None:
            for call in (service.export_state, service.list_states, service.delete_state):
                with pytest.raises(InvalidContent):
                    await call("alice", invalid)

    async def test_save_with_outdated_expected_round_is_a_conflict(self, service: StateService) -> None:
        with pytest.raises(Conflict):
            await service.save_state("alice", {"a": 0}, "s", expected_round=1)
        assert await service.save_state("alice", {"a": 1}, "s", expected_round=0) == 1
        with pytest.raises(Conflict):
            await service.save_state("alice", {"a": 2}, "s", expected_round=0)
        assert await service.save_state("alice", {"a": 2}, "s", expected_round=1) == 2
        assert await service.export_state("alice", "s") == {"a": 2}
        assert await service.delete_state("alice", "s", 2) == Deleted(state_rounds=1)
        assert await service.save_state("alice", {"a": 3}, "s", expected_round=1) == 3  # 2 is not reused
        assert await service.delete_state("alice", "s", 3) == await service.delete_state("alice", "s", 1)
        assert await service.save_state("alice", {"a": 4}, "s", expected_round=0) == 4

    async def test_only_one_of_concurrent_saves_with_the_same_expected_round_succeeds(
        self, service: StateService
    ) -> None:
        for expected in range(5):
            results = await asyncio.gather(
                *(service.save_state("alice", {"writer": n}, "s", expected_round=expected) for n in range(8)),
                return_exceptions=True,
            )
            assert [each for each in results if not isinstance(each, Conflict)] == [expected + 1]

    async def test_concurrent_saves_get_consecutive_rounds(self, service: StateService) -> None:
        numbers = await asyncio.gather(*(service.save_state("alice", {"n": n}, "s") for n in range(64)))
        assert sorted(numbers) == list(range(1, 65))
        for n, number in enumerate(numbers):
            assert await service.export_state("alice", "s", number) == {"n": n}

    async def test_save_after_the_highest_possible_round_needs_an_explicit_round(self, service: StateService) -> None:
        last = 2**63 - 2
        assert await service.save_state("alice", {"n": 1}, "s", last) == last
        with pytest.raises(LimitExceeded):
            await service.save_state("alice", {"n": 2}, "s")
        assert await service.save_state("alice", {"n": 3}, "s", 1) == 1
        assert await service.export_state("alice", "s") == {"n": 1}

    async def test_pages_contain_every_round_once_without_states(self, service: StateService) -> None:
        began = datetime.now(UTC) - CLOCK_SKEW
        for number in range(1, 11):
            await service.save_state("alice", {"x": "ü" * number}, "s")
        listed = await service.list_states("alice", "s")
        assert [each.round_id for each in listed] == list(range(10, 0, -1))
        assert [each.size for each in listed] == [8 + 2 * number for number in range(10, 0, -1)]
        assert all(began <= each.saved_at <= datetime.now(UTC) + CLOCK_SKEW for each in listed)
        assert [each.saved_at for each in listed] == sorted((each.saved_at for each in listed), reverse=True)
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
            *(*INVALID_CURSORS, "", "x", write_cursor("-1"), write_cursor("9" * 30), write_cursor("9" * 9_000)),
            *(write_cursor("9" * 19), write_cursor("٣")),
        ],
    )
    async def test_invalid_cursor_is_rejected(self, service: StateService, cursor: str) -> None:
        with pytest.raises(InvalidContent):
            await service.list_states("alice", "s", cursor=cursor)

    async def test_delete_state_returns_counts_and_is_idempotent(self, service: StateService) -> None:
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

    async def test_reads_with_stale_ok_return_what_is_stored(self, service: StateService) -> None:
        """The argument has no effect without a replica."""
        for number in range(3):
            await service.save_state("alice", {"n": number}, "s")
        assert await service.export_state("alice", "s", stale_ok=True) == {"n": 2}
        assert await service.export_state("alice", "s", 1, stale_ok=True) == {"n": 0}
        assert await service.export_state("alice", "none", stale_ok=True) is None
        assert await service.list_states("alice", "s", stale_ok=True) == await service.list_states("alice", "s")
        found = await service.diff_states("alice", 1, 2, "s", stale_ok=True)
        assert found == [{"op": "replace", "path": "/n", "value": 1}]
        with pytest.raises(NotFound):
            await service.diff_states("alice", 1, 9, "s", stale_ok=True)

    async def test_diff_states_returns_a_patch_between_rounds(self, service: StateService) -> None:
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
    async def test_diff_states_handles_keys_that_look_like_indexes(
        self, service: StateService, pair: tuple[dict[str, Any], dict[str, Any]]
    ) -> None:
        for state in pair:
            await service.save_state("alice", state, "s")
        for a, b in ((1, 2), (2, 1)):
            operations = await service.diff_states("alice", a, b, "s")
            assert jsonpatch.apply_patch(pair[a - 1], operations) == pair[b - 1]

    @pytest.mark.parametrize("id", HOSTILE_IDS, ids=repr)
    async def test_states_of_other_users_are_isolated(self, service: StateService, id: str) -> None:
        await service.save_state(id, {"owner": "mine"}, id)
        for other in {"alice", "b", "a:b:c"} - {id}:
            await service.save_state(other, {"owner": other}, id)
            assert await service.delete_state(other, id) == Deleted(state_rounds=1)
            assert await service.export_state(other, id) is None
        assert await service.export_state(id, id) == {"owner": "mine"}
        assert await service.delete_state(id, id) == Deleted(state_rounds=1)

    async def test_service_starts_on_first_call_and_is_closed_after_stop(self, service: StateService) -> None:
        assert await service.save_state("alice", {}) == 1
        assert await service.health()
        await service.stop()
        assert not await service.health()
        for call in (lambda: service.save_state("alice", {}), lambda: service.export_state("alice")):
            with pytest.raises(Closed):
                await call()
        await service.start()
        assert await service.health()
