"""The contract of SessionHistoryService."""

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from agentstore.errors import AlreadyExists, Closed, InvalidContent, LimitExceeded, NotFound
from agentstore.interfaces import SessionHistoryService
from agentstore.schemas import Deleted, Message, Session
from agentstore.testing.edits import EditContract
from agentstore.testing.lists import ListContract
from agentstore.testing.messages import MessageContract
from agentstore.testing.values import CLOCK_SKEW, HOSTILE_IDS, INVALID_CURSORS, text


@pytest.mark.asyncio
class SessionHistoryContract(EditContract, ListContract, MessageContract):
    """Tests that every SessionHistoryService must pass.

    Fixture ``service``: a new, empty service that raises NotFound for missing sessions.
    """

    async def test_create_session_stores_id_title_and_metadata(self, service: SessionHistoryService) -> None:
        before = datetime.now(UTC) - CLOCK_SKEW
        session = await service.create_session("alice", "s", title="Plans", metadata={"z": [1], "a": "\0"})
        assert (session.id, session.user_id, session.messages) == ("s", "alice", [])
        assert (session.title, session.metadata) == ("Plans", {"z": [1], "a": "\0"})
        assert session.created_at is not None
        assert session.created_at.tzinfo is not None
        assert before <= session.created_at <= datetime.now(UTC) + CLOCK_SKEW
        assert await service.get_session("alice", "s") == session

    @pytest.mark.parametrize("blank", [None, "", "  ", "\n\t"])
    async def test_blank_id_is_replaced_by_a_uuid(self, service: SessionHistoryService, blank: str | None) -> None:
        one, two = await service.create_session("alice", blank), await service.create_session("alice", blank)
        assert one.id != two.id
        assert str(UUID(one.id)) == one.id

    async def test_only_create_session_strips_the_id(self, service: SessionHistoryService) -> None:
        assert (await service.create_session("alice", " s ")).id == "s"
        assert await service.get_session("alice", " s ") is None
        assert await service.delete_session("alice", " s ") == Deleted()

    async def test_create_session_returns_an_existing_session_unchanged(self, service: SessionHistoryService) -> None:
        session = await service.create_session("alice", "s", title="first")
        await service.append_message(session, [text("one"), text("two")])
        assert await service.create_session("alice", "s", title="second", metadata={"x": 1}) == session
        assert await service.get_session("alice", "s") == session
        with pytest.raises(AlreadyExists):
            await service.create_session("alice", "s", exist_ok=False)
        assert (await service.create_session("alice", "t", exist_ok=False)).messages == []

    async def test_concurrent_creates_of_one_id_create_one_session(self, service: SessionHistoryService) -> None:
        for name in range(5):
            sessions = await asyncio.gather(*(service.create_session(f"u{name}", "s") for _ in range(8)))
            assert all(session == sessions[0] for session in sessions)
            assert len(await service.list_sessions(f"u{name}")) == 1
            results = await asyncio.gather(
                *(service.create_session(f"v{name}", "s", exist_ok=False) for _ in range(8)), return_exceptions=True
            )
            assert sum(isinstance(each, Session) for each in results) == 1
            assert sum(isinstance(each, AlreadyExists) for each in results) == 7

    async def test_missing_session_is_none(self, service: SessionHistoryService) -> None:
        assert await service.get_session("alice", "s") is None
        assert await service.list_sessions("alice") == []
        assert await service.delete_session("alice", "s") == Deleted()

    async def test_reads_with_stale_ok_return_what_is_stored(self, service: SessionHistoryService) -> None:
        """The argument has no effect without a replica."""
        session = await service.create_session("alice", "s", title="T")
        await service.append_message(session, [text("a"), text("b"), text("c")])
        last = session.messages[-1]
        options: list[dict[str, Any]] = [{}, {"limit": 2}, {"before": last.id}, {"limit": 1, "before": last.id}]
        for each in options:
            stored = await service.get_session("alice", "s", **each)
            assert stored is not None
            assert await service.get_session("alice", "s", **each, stale_ok=True) == stored
            messages = await service.read_messages("alice", "s", **each, stale_ok=True)
            assert messages is not None
            assert list(messages) == stored.messages
        read = [each async for each in service.iter_messages("alice", "s", batch=2, stale_ok=True)]
        assert read == session.messages
        assert await service.list_sessions("alice", stale_ok=True) == await service.list_sessions("alice")
        assert await service.get_session("alice", "none", stale_ok=True) is None
        with pytest.raises(NotFound):
            await service.get_session("alice", "s", before="none", stale_ok=True)

    async def test_list_sessions_returns_last_used_first_without_messages(self, service: SessionHistoryService) -> None:
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

    async def test_pages_contain_every_session_once(self, service: SessionHistoryService) -> None:
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
            assert seen == [session.id for session in await service.list_sessions("alice")]
        assert await service.list_sessions("alice", limit=0) == []

    async def test_the_last_used_sessions_are_first_on_every_page(self, service: SessionHistoryService) -> None:
        sessions = [await service.create_session("alice", f"s{number}") for number in range(9)]
        for number in (3, 8, 0):
            await service.append_message(sessions[number], text("again"))
        for session, expected in ((sessions[0], "s0"), (sessions[5], "s5"), (sessions[2], "s2")):
            await service.append_message(session, text("and again"))
            assert [each.id for each in await service.list_sessions("alice", limit=1)] == [expected]
        listed = await service.list_sessions("alice")
        assert listed == sorted(listed, key=lambda session: (session.updated_at, session.id), reverse=True)

    async def test_pages_read_between_appends_contain_the_other_sessions_once(
        self, service: SessionHistoryService
    ) -> None:
        sessions = [await service.create_session("alice", f"s{number}") for number in range(12)]
        written = {"s1", "s6", "s10"}
        seen: list[str] = []
        cursor = None
        for number in (1, 6, 10, 6, 1, None):
            page = await service.list_sessions("alice", limit=2, cursor=cursor)
            seen += [session.id for session in page]
            cursor = page.next_cursor
            if number is not None:
                await service.append_message(sessions[number], text("again"))
        assert len(seen) == len(set(seen))
        assert [id for id in seen if id not in written] == [
            id for id in (f"s{number}" for number in range(11, -1, -1)) if id not in written
        ]

    @pytest.mark.parametrize("cursor", ["", "x", "!!", "W10", "密", "bnVsbA", *INVALID_CURSORS])
    async def test_invalid_cursor_is_rejected(self, service: SessionHistoryService, cursor: str) -> None:
        with pytest.raises(InvalidContent):
            await service.list_sessions("alice", cursor=cursor)

    async def test_invalid_limit_is_rejected(self, service: SessionHistoryService) -> None:
        for invalid in (-1, 1.5, "3", True):
            with pytest.raises(InvalidContent):
                await service.list_sessions("alice", limit=invalid)  # type: ignore[arg-type]
        with pytest.raises(LimitExceeded):
            await service.list_sessions("alice", limit=10_001)

    async def test_delete_session_only_if_the_metadata_allows_it(self, service: SessionHistoryService) -> None:
        await service.create_session("alice", "s", metadata={"version": 1})
        await service.append("alice", "s", [text("1"), text("2")])
        given: list[Any] = []

        def is_second(metadata: dict[str, Any]) -> bool:
            given.append(dict(metadata))
            metadata["version"] = 3  # a copy
            return len(given) > 1

        assert await service.delete_session("alice", "s", only_if=is_second) == Deleted()
        await service.set_metadata("alice", "s", {"version": 2})
        assert await service.delete_session("alice", "s", only_if=is_second) == Deleted(sessions=1, messages=2)
        assert await service.delete_session("alice", "s", only_if=is_second) == Deleted()
        assert given == [{"version": 1}, {"version": 2}]
        await service.append("alice", "s", text("1"))

        def fail(_: dict[str, Any]) -> bool:
            raise ValueError("a reason")

        with pytest.raises(ValueError, match="a reason"):
            await service.delete_session("alice", "s", only_if=fail)
        assert await service.get_session("alice", "s") is not None

    async def test_concurrent_deletions_and_changes_are_ordered(self, service: SessionHistoryService) -> None:
        """Either the change comes first, and the session remains, or it is deleted."""
        for number in range(8):
            id = f"s{number}"
            await service.create_session("alice", id, metadata={"version": 1})
            deleted, _ = await asyncio.gather(
                service.delete_session("alice", id, only_if=lambda metadata: metadata == {"version": 1}),
                service.append("alice", id, text("1"), metadata_patch={"version": 2}),
            )
            found = await service.get_session("alice", id)
            assert found is not None
            # A deleted session is created again by the append.
            assert (found.message_count, found.metadata) == (1, {"version": 2})
            assert deleted in (Deleted(), Deleted(sessions=1))

    async def test_delete_session_returns_counts_and_is_idempotent(self, service: SessionHistoryService) -> None:
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

    async def test_set_title_and_set_metadata_replace_values(self, service: SessionHistoryService) -> None:
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
        invalid: tuple[Any, ...] = ([], "x", {1: 2}, {"x": math.nan})
        for metadata in invalid:
            with pytest.raises(InvalidContent):
                await service.set_metadata("alice", "s", metadata)

    async def test_concurrent_metadata_changes_are_serialized(self, service: SessionHistoryService) -> None:
        def fail(metadata: dict[str, Any]) -> dict[str, Any]:
            metadata["n"] = -1
            raise KeyError("raised by the caller's function")

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

    @pytest.mark.parametrize("invalid", ["x" * 513, "密" * 171, "x" * 600, "a\0", "\ud800", None, 7, b"x"], ids=ascii)
    async def test_invalid_id_is_rejected(self, service: SessionHistoryService, invalid: Any) -> None:
        session = await service.create_session("alice", "s")
        calls: list[Callable[[], Any]] = [
            lambda: service.create_session(invalid),
            lambda: service.get_session(invalid, "s"),
            lambda: service.get_session("alice", invalid),
            lambda: service.delete_session(invalid, "s"),
            lambda: service.delete_session("alice", invalid),
            lambda: service.set_title("alice", invalid, "x"),
            lambda: service.append_message(
                Session.model_construct(id=invalid, user_id="alice", messages=[]), text("x")
            ),
            lambda: service.append_message(Session.model_construct(id="s", user_id=invalid, messages=[]), text("x")),
        ]
        if invalid is not None:
            calls.append(lambda: service.list_sessions(invalid))
            calls.append(lambda: service.create_session("alice", invalid))
            calls.append(lambda: service.append_message(session, Message.model_construct(id=invalid)))
        for call in calls:
            with pytest.raises(InvalidContent):
                await call()
        assert await service.list_sessions("alice") == [session]

    async def test_sessions_of_other_users_are_isolated(self, service: SessionHistoryService) -> None:
        """Use every pair of hostile ids as a user and a session of its own."""
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

    async def test_service_starts_on_first_call_and_is_closed_after_stop(self, service: SessionHistoryService) -> None:
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
