"""The contract of BlobService."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from agentstore.errors import InvalidContent, LimitExceeded, NotFound
from agentstore.interfaces import BlobService
from agentstore.schemas import Blob, Deleted
from agentstore.schemas.page import write_cursor
from agentstore.testing.values import CLOCK_SKEW, EXACT_VALUES, HOSTILE_IDS, NON_JSON_VALUES

_LARGE = bytes(range(256)) * 5_000 + b"the end"


async def _read(service: BlobService, *args: Any, **options: Any) -> bytes:
    return b"".join([part async for part in service.read(*args, **options)])


@pytest.mark.asyncio
class BlobContract:
    """Tests that every BlobService must pass.

    Fixture ``service``: a new, empty service with ``Settings(max_blob_bytes=2_000_000)``.
    """

    async def test_versions_count_from_zero_and_the_highest_is_read(self, service: BlobService) -> None:
        assert await service.get("alice", "a") is None
        began = datetime.now(UTC) - CLOCK_SKEW
        for number in range(3):
            blob = await service.put("alice", "a", b"%d" % number, "s")
            assert (blob.version, blob.size, blob.name) == (number, 1, "a")
            assert began <= blob.saved_at <= datetime.now(UTC) + CLOCK_SKEW
            assert await service.get("alice", "a", "s") == blob
        assert await _read(service, "alice", "a", "s") == b"2"
        assert await _read(service, "alice", "a", "s", version=0) == b"0"
        assert await service.get("alice", "a", "s", version=3) is None
        with pytest.raises(NotFound):
            await _read(service, "alice", "a", "s", version=3)

    async def test_everything_about_a_blob_round_trips(self, service: BlobService) -> None:
        for value in EXACT_VALUES:
            options: dict[str, Any] = {
                "content_type": "text/x; y=密",
                "filename": "密 \n.txt",
                "metadata": {"x": value},
            }
            blob = await service.put("alice", "n", b"x", "s", app="chat", **options)
            expected = Blob(
                user_id="alice", session_id="s", app="chat", name="n", version=blob.version, size=1,
                sha256=hashlib.sha256(b"x").hexdigest(), saved_at=blob.saved_at, **options,
            )  # fmt: skip
            assert blob == expected
            assert repr(blob.metadata) == repr({"x": value})
            for stale_ok in (False, True):
                found = await service.get("alice", "n", "s", app="chat", stale_ok=stale_ok)
                listed = await service.list("alice", "s", app="chat", stale_ok=stale_ok)
                versions = await service.list_versions("alice", "n", "s", app="chat", limit=1, stale_ok=stale_ok)
                assert [found, *listed, *versions] == [expected] * 3

    async def test_contents_are_bytes_files_and_iterators(self, service: BlobService) -> None:
        async def parts(*given: Any) -> AsyncIterator[Any]:
            for each in given:
                yield each

        class Iterable:
            def __aiter__(self) -> AsyncIterator[bytes]:
                return parts(_LARGE[:700_000], b"", _LARGE[700_000:])

        digests = set()
        for data in (_LARGE, bytearray(_LARGE), io.BytesIO(_LARGE), parts(_LARGE), Iterable()):
            blob = await service.put("alice", "large", data)  # type: ignore[arg-type]
            digests.add((blob.sha256, blob.size))
            parts_read = [part async for part in service.read("alice", "large", stale_ok=True)]
            assert b"".join(parts_read) == _LARGE
            assert max(map(len, parts_read)) <= 500_000
        assert digests == {(hashlib.sha256(_LARGE).hexdigest(), len(_LARGE))}
        for empty in (b"", io.BytesIO(), parts()):
            assert (await service.put("alice", "empty", empty)).size == 0
            assert await _read(service, "alice", "empty") == b""

    async def test_invalid_contents_are_refused_and_nothing_is_written(self, service: BlobService) -> None:
        async def parts(*given: Any) -> AsyncIterator[Any]:
            for each in given:
                yield each

        wrong: list[Any] = ["text", None, 5, io.StringIO("x"), [b"x"], parts(b"x", "y")]
        for data in wrong:
            with pytest.raises(InvalidContent):
                await service.put("alice", "a", data)
        large = b"x" * 2_000_001
        for data in (large, io.BytesIO(large), parts(large[:5], large[5:])):
            with pytest.raises(LimitExceeded):
                await service.put("alice", "a", data)
        for value in NON_JSON_VALUES:
            with pytest.raises(InvalidContent):
                await service.put("alice", "a", b"x", metadata={"x": value})
        invalid: list[dict[str, Any]] = [{"content_type": "a\0"}, {"filename": 5}, {"metadata": []}]
        for options in invalid:
            with pytest.raises(InvalidContent):
                await service.put("alice", "a", b"x", **options)
        with pytest.raises(LimitExceeded, match="filename"):
            await service.put("alice", "a", b"x", filename="x" * 10_001)
        assert await service.list("alice") == []

    async def test_an_error_of_the_iterator_is_raised_and_nothing_is_written(self, service: BlobService) -> None:
        async def failing() -> AsyncIterator[bytes]:
            yield b"x"
            raise RuntimeError("the source failed")

        with pytest.raises(RuntimeError, match="the source failed"):
            await service.put("alice", "a", failing())
        assert await service.list("alice") == []

    async def test_hostile_ids_do_not_collide(self, service: BlobService) -> None:
        for number, id in enumerate(HOSTILE_IDS):
            await service.put(id, id, b"%d" % number, id or "s", app=id)
        for number, id in enumerate(HOSTILE_IDS):
            assert await _read(service, id, id, id or "s", app=id) == b"%d" % number
            assert [each.name for each in await service.list(id, id or "s", app=id)] == [id]

    async def test_a_blob_without_session_belongs_to_the_default_session(self, service: BlobService) -> None:
        for session_id in (None, "", "default"):
            await service.put("alice", "a", b"x", session_id)
        assert [each.version for each in await service.list_versions("alice", "a")] == [2, 1, 0]
        assert await service.list("alice", "s") == []
        assert await service.list("alice", app="chat") == []

    async def test_names_are_listed_by_prefix_in_pages(self, service: BlobService) -> None:
        special = ("a", "a/", "a/b", "a/b/c", "a0", "ab", "\ud7ff", "\ue000", "\U0010ffff", "a\U0010ffff")
        names = sorted({*HOSTILE_IDS, *special}, key=str.encode)
        for name in names:
            for _ in range(2):
                await service.put("alice", name, b"x")
        for prefix in ("", "a", "a/", "a/b", "\ud7ff", "\U0010ffff", "a\U0010ffff", "nothing", "%", "_"):
            expected = [name for name in names if name.startswith(prefix)]
            for limit in (None, 1, 3):
                seen: list[str] = []
                cursor = None
                while True:
                    page = await service.list("alice", prefix=prefix, limit=limit, cursor=cursor)
                    seen += [blob.name for blob in page]
                    assert {blob.version for blob in page} <= {1}
                    cursor = page.next_cursor
                    if cursor is None:
                        break
                assert seen == expected
        with pytest.raises(LimitExceeded):
            await service.list("alice", limit=10_001)
        for cursor in ("nonsense", "!", "", write_cursor("a", "b")):
            with pytest.raises(InvalidContent):
                await service.list("alice", cursor=cursor)
        for cursor in ("nonsense", write_cursor("-1"), write_cursor("9" * 19), write_cursor("٣")):
            with pytest.raises(InvalidContent):
                await service.list_versions("alice", "a", cursor=cursor)

    async def test_blobs_of_all_sessions_are_listed_in_pages(self, service: BlobService) -> None:
        places = {
            ("default" if session == "" else session, app, name)
            for session in ("", "s", "a", "\ud7ff", "\U0010ffff")
            for app in ("", "chat", "\ue000")
            for name in ("", "n", "\u00e9")
        }
        for session, app, name in places:
            await service.put("alice", name, b"0", session, app=app, filename=session)
        saved = [
            await service.put("alice", name, b"1", session, app=app, filename=session) for session, app, name in places
        ]
        await service.put("bob", "n", b"x")
        expected = sorted(places, key=lambda place: [each.encode() for each in place])
        for limit in (None, 1, 7, 44, 45, 46):
            seen: list[Blob] = []
            cursor = None
            while True:
                page = await service.list_of_user("alice", limit=limit, cursor=cursor, stale_ok=limit == 7)
                seen += page
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert [(each.session_id, each.app, each.name) for each in seen] == expected
            assert {(each.user_id, each.version, each.size) for each in seen} == {("alice", 1, 1)}
            assert sorted(seen, key=repr) == sorted(saved, key=repr)
        assert await service.list_of_user("carol") == []
        for cursor in ("nonsense", write_cursor("n")):
            with pytest.raises(InvalidContent):
                await service.list_of_user("alice", cursor=cursor)

    async def test_versions_are_listed_in_pages(self, service: BlobService) -> None:
        for number in range(5):
            await service.put("alice", "a", b"%d" % number)
        for limit in (1, 2, 5, 6):
            seen: list[int] = []
            cursor = None
            while True:
                page = await service.list_versions("alice", "a", limit=limit, cursor=cursor)
                seen += [blob.version for blob in page]
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert seen == [4, 3, 2, 1, 0]
        assert await service.list_versions("alice", "b") == []

    async def test_concurrent_puts_get_different_versions(self, service: BlobService) -> None:
        blobs = await asyncio.gather(*(service.put("alice", "a", b"%d" % (n % 3)) for n in range(12)))
        assert sorted(blob.version for blob in blobs) == list(range(12))
        for n, blob in enumerate(blobs):
            assert await _read(service, "alice", "a", version=blob.version) == b"%d" % (n % 3)

    async def test_a_deletion_leaves_other_versions_with_the_same_content(self, service: BlobService) -> None:
        for name, session_id in (("a", None), ("a", None), ("b", None), ("b", "s")):
            await service.put("alice", name, _LARGE, session_id)
        await service.put("bob", "a", _LARGE)
        assert await service.delete("alice", "a", version=1) == Deleted(blobs=1)
        assert not await service.delete("alice", "a", version=1)
        assert await _read(service, "alice", "a") == _LARGE
        assert await service.delete("alice", "a") == Deleted(blobs=1)
        assert await service.get("alice", "a") is None
        assert await service.delete_all("alice") == Deleted(blobs=1)
        assert not await service.delete_all("alice")
        assert await _read(service, "alice", "b", "s") == _LARGE
        assert await service.delete_all("alice", "s") == Deleted(blobs=1)
        assert await _read(service, "bob", "a") == _LARGE
        assert (await service.put("alice", "a", _LARGE)).version == 0
        assert await _read(service, "alice", "a") == _LARGE

    async def test_concurrent_puts_and_deletions_leave_every_version_readable(self, service: BlobService) -> None:
        async def put_and_delete(n: int) -> None:
            for _ in range(6):
                blob = await service.put("alice", f"n{n}", _LARGE)
                await service.delete("alice", f"n{n}", version=blob.version)
            await service.put("alice", f"n{n}", _LARGE)

        await asyncio.gather(*(put_and_delete(n) for n in range(4)))
        for n in range(4):
            assert await _read(service, "alice", f"n{n}") == _LARGE

    async def test_a_blob_that_is_deleted_while_it_is_read_is_not_found(self, service: BlobService) -> None:
        await service.put("alice", "a", _LARGE)
        parts = service.read("alice", "a")
        assert await anext(parts) == _LARGE[:500_000]
        await service.delete("alice", "a")
        try:
            rest = b"".join([part async for part in parts])
        except NotFound:
            return
        assert rest == _LARGE[500_000:]  # an implementation may return what it has read

    @pytest.mark.parametrize("invalid", [-1, "1", 1.0, True, 2**63 - 1, 2**70])
    async def test_invalid_version_is_refused(self, service: BlobService, invalid: Any) -> None:
        await service.put("alice", "a", b"x")
        calls: list[Callable[[], Any]] = [
            lambda: service.get("alice", "a", version=invalid),
            lambda: _read(service, "alice", "a", version=invalid),
            lambda: service.delete("alice", "a", version=invalid),
        ]
        for call in calls:
            with pytest.raises(InvalidContent):
                await call()
        assert await _read(service, "alice", "a") == b"x"
