"""The contract of lists of sessions: filters, orders, pages, and all users."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from agentstore.errors import InvalidContent, LimitExceeded, NotConfigured
from agentstore.interfaces import SessionHistoryService
from agentstore.schemas import Session
from agentstore.schemas.listing import SessionOrder
from agentstore.testing.values import text

# The metadata of the sessions of `_fill`, and filters with the sessions of "alice" that they match.
_METADATA: dict[str, dict[str, Any]] = {
    "a": {"kind": "chat", "n": 1, "of": {"x": [1, None], "y": "z"}},
    "b": {"kind": "chat", "n": True, "tags": ["x", "y"], "none": None},
    "c": {"kind": "task", "n": 1.0, "tags": ["y", "x"], "of": {"y": "z", "x": [1, None]}},
    "d": {"kind": "chat", "nul": "\0", "half": "\ud800", "n": 2**70, "\0": 1},
    "e": {},
}
_MATCHES: list[tuple[dict[str, Any], str]] = [
    ({}, "abcde"),
    ({"kind": "chat"}, "abd"),
    ({"kind": "chat", "n": 1}, "a"),
    ({"n": 1}, "ac"),
    ({"n": 1.0}, "ac"),
    ({"n": True}, "b"),
    ({"n": "1"}, ""),
    ({"n": 2**70}, "d"),
    ({"none": None}, "b"),
    ({"missing": None}, ""),
    ({"tags": ["x", "y"]}, "b"),
    ({"tags": ("x", "y")}, "b"),
    ({"tags": ["x"]}, ""),
    ({"tags": "x"}, ""),
    ({"of": {"x": [1, None], "y": "z"}}, "ac"),
    ({"of": {"y": "z"}}, ""),
    ({"x": [1, None]}, ""),
    ({"nul": "\0"}, "d"),
    ({"nul": "\0", "kind": "chat"}, "d"),
    ({"nul": "\0", "kind": "task"}, ""),
    ({"half": "\ud800"}, "d"),
    ({"half": "\ud801"}, ""),
    ({"\0": 1}, "d"),
    ({"kind": "\0"}, ""),
]
_TITLES = {"a": "Plans for May", "b": "may the 4th", "c": "100% of_it\\", "d": "计划 五月", "e": None}
_MATCHES_OF_TITLES = {
    "may": "ab",
    "MAY": "ab",
    "Plans for May": "a",
    "for the": "",
    "%": "c",
    "_": "c",
    "\\": "c",
    "划": "d",
    "": "abcd",
}
_ORDERS: tuple[SessionOrder, ...] = ("last_used", "created")
_APPS = {"a": "one", "b": "One", "c": None, "d": "", "e": "one"}


async def _fill(service: SessionHistoryService, *users: str) -> None:
    """Create the sessions a to e of each user, and use them in another order."""
    for user, id in product(users or ("alice", "bob"), "abcde"):
        await service.create_session(user, id, title=_TITLES[id], metadata=_METADATA[id], app=_APPS[id])
    for id, user in product("cae", users or ("alice", "bob")):
        await service.append(user, id, text("again"))


def _ids(sessions: Any) -> str:
    return "".join(sorted(session.id for session in sessions))


async def _pages(service: SessionHistoryService, limit: int, user: str | None, **filters: Any) -> list[Session]:
    """Return the sessions of a list that is read in pages."""
    found: list[Session] = []
    cursor = None
    while True:
        page = await service.list_sessions(user, limit=limit, cursor=cursor, **filters)
        assert len(page) == limit or page.next_cursor is None
        found += page
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.asyncio
class ListContract:
    """Tests of lists of sessions that every SessionHistoryService must pass."""

    lists_all_users = True
    """Whether the service may list the sessions of all users, as it may not under row-level security."""

    def _users(self) -> list[tuple[str | None, int]]:
        """Return the arguments `user_id`, each with the number of users whose sessions it lists."""
        return [("alice", 1), (None, 2)] if self.lists_all_users else [("alice", 1)]

    async def test_a_list_without_a_user_has_the_sessions_of_all_users(self, service: SessionHistoryService) -> None:
        await _fill(service)
        if not self.lists_all_users:
            refused: list[dict[str, Any]] = [{}, {"app": "one"}, {"metadata": {"n": 1}}, {"limit": 0}]
            for options in refused:
                with pytest.raises(NotConfigured):
                    await service.list_sessions(**options)
            return
        listed = await service.list_sessions()
        assert [each.user_id + each.id for each in listed] == [
            *("bobe", "alicee", "boba", "alicea", "bobc", "alicec"),
            *("bobd", "bobb", "aliced", "aliceb"),
        ]
        assert all(each.messages == [] and each.message_count == (each.id in "ace") for each in listed)
        stored = await service.get_session("bob", "d")
        assert listed[6] == stored

    async def test_sessions_are_listed_by_their_creation(self, service: SessionHistoryService) -> None:
        await _fill(service)
        for user, count in self._users():
            listed = await service.list_sessions(user, order="created")
            expected = [(name, id) for name in ("bob", "alice") for id in "edcba" if name == "alice" or count == 2]
            assert [(each.user_id, each.id) for each in listed] == expected
            assert listed == sorted(listed, key=lambda each: (each.created_at, each.user_id, each.id), reverse=True)

    async def test_metadata_is_compared_by_its_keys(self, service: SessionHistoryService) -> None:
        await _fill(service)
        for (metadata, expected), (user, count) in product(_MATCHES, self._users()):
            for order in _ORDERS:
                listed = await service.list_sessions(user, metadata=metadata, order=order)
                assert (metadata, _ids(listed)) == (metadata, "".join(id * count for id in expected))

    async def test_changed_metadata_is_found_by_its_new_values_only(self, service: SessionHistoryService) -> None:
        await service.create_session("alice", "s", metadata={"n": 1})
        await service.set_metadata("alice", "s", {"n": 2})
        await service.append("alice", "s", text("x"), metadata_patch={"m": "\0"})
        for user, _ in self._users():
            assert await service.list_sessions(user, metadata={"n": 1}) == []
            assert _ids(await service.list_sessions(user, metadata={"n": 2, "m": "\0"})) == "s"

    async def test_titles_are_found_by_a_part_in_either_case(self, service: SessionHistoryService) -> None:
        await _fill(service)
        for (title, expected), (user, count) in product(_MATCHES_OF_TITLES.items(), self._users()):
            listed = await service.list_sessions(user, title=title)
            assert (title, _ids(listed)) == (title, "".join(id * count for id in expected))

    async def test_sessions_of_an_application_are_listed(self, service: SessionHistoryService) -> None:
        await _fill(service)
        apps = (("one", "ae"), ("One", "b"), ("", "d"), ("none", ""))
        for (app, expected), (user, count), order in product(apps, self._users(), _ORDERS):
            listed = await service.list_sessions(user, app=app, order=order)
            assert (app, _ids(listed)) == (app, "".join(id * count for id in expected))
            assert {each.app for each in listed} <= {app}
        session = await service.create_session("alice", "a", app="other")
        assert session.app == "one"
        with pytest.raises(InvalidContent):
            await service.create_session("alice", "f", app="\0")

    @pytest.mark.parametrize("order", _ORDERS)
    async def test_times_select_sessions_by_their_last_use(
        self, service: SessionHistoryService, order: SessionOrder
    ) -> None:
        await _fill(service)
        listed = [*await service.list_sessions("alice"), *await service.list_sessions("bob")]
        times = sorted(each.updated_at for each in listed if each.updated_at is not None)
        for user, count in self._users():
            expected = listed[: 5 * count]
            for since, until in ((times[2], None), (None, times[7]), (times[2], times[7]), (times[5], times[5])):
                found = await service.list_sessions(user, since=since, until=until, order=order)
                assert sorted(each.user_id + each.id for each in found) == sorted(
                    each.user_id + each.id
                    for each in expected
                    if each.updated_at is not None
                    and (since is None or each.updated_at >= since)
                    and (until is None or each.updated_at < until)
                )
            hour = timedelta(hours=1)
            now = datetime.now(UTC)
            for later in (now + hour, (now + hour).isoformat(), (now + hour).timestamp()):
                assert await service.list_sessions(user, since=later, order=order) == []
                assert len(await service.list_sessions(user, until=later, order=order)) == len(expected)
            assert await service.list_sessions(user, until=(now - hour).timestamp(), order=order) == []
            assert len(await service.list_sessions(user, since="2001-02-03", order=order)) == len(expected)

    async def test_pages_of_each_list_have_each_session_once_and_in_order(self, service: SessionHistoryService) -> None:
        await _fill(service)
        lists: list[dict[str, Any]] = [
            {}, {"app": "one"}, {"metadata": {"kind": "chat"}}, {"title": "may"}, {"until": datetime.now(UTC)},
            {"metadata": {"nul": "\0"}}, {"metadata": {"n": 1}, "app": "one", "since": "2001-02-03", "title": "plans"},
        ]  # fmt: skip
        for filters, (user, _), order in product(lists, self._users(), _ORDERS):
            whole = await service.list_sessions(user, order=order, **filters)
            assert whole.next_cursor is None
            assert len(whole) > 0
            for limit in (1, 2, len(whole)):
                assert await _pages(service, limit, user, order=order, **filters) == whole

    async def test_a_cursor_belongs_to_its_order(self, service: SessionHistoryService) -> None:
        await _fill(service)
        kinds = list(product((user for user, _ in self._users()), _ORDERS))
        cursors = {
            (user, order): (await service.list_sessions(user, order=order, limit=2)).next_cursor
            for user, order in kinds
        }
        for kind, (user, order) in product(kinds, kinds):
            if kind != (user, order):
                with pytest.raises(InvalidContent):
                    await service.list_sessions(user, order=order, cursor=cursors[kind])
        rest = await service.list_sessions("alice", order="created", cursor=cursors["alice", "created"], app="one")
        assert _ids(rest) == "a"

    async def test_limits_are_checked_for_all_users_too(self, service: SessionHistoryService) -> None:
        await _fill(service)
        for user, _ in self._users():
            with pytest.raises(LimitExceeded):
                await service.list_sessions(user, limit=10_001)
            assert await service.list_sessions(user, limit=0) == []

    async def test_invalid_filters_are_refused(self, service: SessionHistoryService) -> None:
        invalid: list[dict[str, Any]] = [
            {"since": "yesterday"}, {"until": "soon"}, {"since": datetime(2026, 1, 1)}, {"until": True},
            {"since": []}, {"order": "updated"}, {"order": None}, {"order": []}, {"metadata": []}, {"metadata": "{}"},
            {"metadata": {1: 2}}, {"metadata": {"n": float("nan")}}, {"title": 7}, {"title": "\0"}, {"app": 7},
            {"app": "\0"}, {"app": "x" * 513}, {"cursor": "x"}, {"metadata": {"n": "\ud83d\ude00"}},
        ]  # fmt: skip
        for filters, user in product(invalid, ("alice", None)):
            with pytest.raises(InvalidContent):
                await service.list_sessions(user, **filters)
                pytest.fail(f"{filters} is accepted")
        with pytest.raises(InvalidContent, match=r"since must be a datetime.*got 'yesterday'"):
            await service.list_sessions(since="yesterday")

    async def test_pages_of_all_users_between_appends_have_the_others_once(
        self, service: SessionHistoryService
    ) -> None:
        await _fill(service)
        user, count = self._users()[-1]
        seen = []
        cursor = None
        for _ in range(5):
            page = await service.list_sessions(user, limit=2, cursor=cursor)
            seen += [(each.user_id, each.id) for each in page]
            cursor = page.next_cursor
            if cursor is None:
                break
            await asyncio.gather(*(service.append(name, "a", text("again")) for name in ("alice", "bob")))
        assert len(seen) == len(set(seen))
        assert set(seen) >= set(product(("alice", "bob")[:count], "bcde"))
