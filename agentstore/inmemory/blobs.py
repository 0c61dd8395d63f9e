"""The blob service without a database, for tests."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agentstore.errors import Closed
from agentstore.exact_json import loads
from agentstore.inmemory.users import InMemoryUserService
from agentstore.interfaces import BlobService
from agentstore.schemas import Blob, BlobData, Deleted, Page
from agentstore.schemas.blob import (
    CHUNK,
    blob_not_found,
    check_about,
    check_blob_key,
    check_version,
    read_content,
    read_version_cursor,
)
from agentstore.schemas.page import Advice, check_limit, check_reply, read_cursor, write_cursor
from agentstore.schemas.payload import check_id
from agentstore.settings import Settings, settings_from_environment

_Key = tuple[str, str, str]  # user id, session id, application


@dataclass(frozen=True)
class StoredVersion:
    """A version of a blob, with its content and its metadata as JSON text."""

    content: bytes
    hash: bytes
    content_type: str | None
    filename: str | None
    metadata: str
    saved_at: datetime


class InMemoryBlobService(BlobService):
    """Blobs in memory, for tests. They are lost when the process ends.

    See :class:`agentstore.BlobService` for what each method does and raises.
    """

    def __init__(self, *, users: InMemoryUserService | None = None, settings: Settings | None = None) -> None:
        """Create an empty service. `users` has the owners of blobs."""
        self._settings = settings or settings_from_environment()
        self._owners = users or InMemoryUserService(settings=self._settings)
        # By name, then by version.
        self._blobs: dict[_Key, dict[str, dict[int, StoredVersion]]] = {}
        self._started = self._stopped = False

    async def start(self) -> None:  # noqa: D102 - documented by the interface
        self._started, self._stopped = True, False

    async def stop(self) -> None:  # noqa: D102
        self._started, self._stopped = False, True

    async def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:  # noqa: D102
        return self._started

    async def put(  # noqa: D102
        self,
        user_id: str,
        name: str,
        data: BlobData,
        session_id: str | None = None,
        *,
        app: str = "",
        content_type: str | None = None,
        filename: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Blob:
        key = self._key(user_id, session_id, app)
        check_id(name, "name", self._settings)
        about = check_about(content_type, filename, metadata, self._settings)
        content = await read_content(data, self._settings)
        with content.file as file:
            stored = StoredVersion(file.read(), content.hash, **about, saved_at=datetime.now(UTC))
        self._check_open()
        versions = self._blobs.setdefault(key, {}).setdefault(name, {})
        version = max(versions, default=-1) + 1
        versions[version] = stored
        self._owners._add(user_id)
        return _blob(key, name, version, stored)

    async def get(  # noqa: D102
        self,
        user_id: str,
        name: str,
        session_id: str | None = None,
        *,
        app: str = "",
        version: int | None = None,
        stale_ok: bool = False,
    ) -> Blob | None:
        key, versions = self._versions(user_id, name, session_id, app)
        check_version(version)
        number = max(versions, default=-1) if version is None else version
        return _blob(key, name, number, versions[number]) if number in versions else None

    async def read(  # noqa: D102
        self,
        user_id: str,
        name: str,
        session_id: str | None = None,
        *,
        app: str = "",
        version: int | None = None,
        stale_ok: bool = False,
    ) -> AsyncIterator[bytes]:
        found = await self.get(user_id, name, session_id, app=app, version=version)
        if found is None:
            raise blob_not_found(user_id, name, session_id, version)
        content = self._versions(user_id, name, session_id, app)[1][found.version].content
        for start in range(0, len(content), CHUNK):
            yield content[start : start + CHUNK]

    async def list(  # noqa: D102
        self,
        user_id: str,
        session_id: str | None = None,
        *,
        app: str = "",
        prefix: str = "",
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[Blob]:
        key = self._key(user_id, session_id, app)
        check_limit(limit, self._settings.max_page)
        check_id(prefix, "prefix", self._settings)
        after = None if cursor is None else str(read_cursor(cursor, str)[0])
        self._check_open()
        names = [
            name
            for name in sorted(self._blobs.get(key, {}), key=str.encode)
            if name.startswith(prefix) and (after is None or name.encode() > after.encode())
        ][:limit]
        page = [_blob(key, name, max(versions := self._blobs[key][name]), versions[max(versions)]) for name in names]
        self._check_reply(page)
        return Page(page, write_cursor(names[-1]) if names and len(names) == limit else None)

    async def list_of_user(  # noqa: D102
        self, user_id: str, *, limit: int | None = None, cursor: str | None = None, stale_ok: bool = False
    ) -> Page[Blob]:
        check_id(user_id, "user_id", self._settings)
        check_limit(limit, self._settings.max_page)
        after = None if cursor is None else [str(each).encode() for each in read_cursor(cursor, str, str, str)]
        self._check_open()
        found = sorted(
            ([key[1].encode(), key[2].encode(), name.encode()], key, name)
            for key, blobs in self._blobs.items()
            if key[0] == user_id
            for name, versions in blobs.items()
            if versions
        )
        page = [
            _blob(key, name, max(versions := self._blobs[key][name]), versions[max(versions)])
            for place, key, name in found
            if after is None or place > after
        ][:limit]
        self._check_reply(page)
        end = write_cursor(page[-1].session_id, page[-1].app, page[-1].name) if page and len(page) == limit else None
        return Page(page, end)

    async def list_versions(  # noqa: D102
        self,
        user_id: str,
        name: str,
        session_id: str | None = None,
        *,
        app: str = "",
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[Blob]:
        key, versions = self._versions(user_id, name, session_id, app)
        check_limit(limit, self._settings.max_page)
        before = read_version_cursor(cursor)
        numbers = sorted((number for number in versions if number < before), reverse=True)[:limit]
        page = [_blob(key, name, number, versions[number]) for number in numbers]
        self._check_reply(page)
        return Page(page, write_cursor(str(numbers[-1])) if numbers and len(numbers) == limit else None)

    async def delete(  # noqa: D102
        self,
        user_id: str,
        name: str,
        session_id: str | None = None,
        *,
        app: str = "",
        version: int | None = None,
    ) -> Deleted:
        key, versions = self._versions(user_id, name, session_id, app)
        check_version(version)
        if version is None:
            return Deleted(blobs=len(self._blobs.get(key, {}).pop(name, {})))
        if version not in versions:
            return Deleted()
        self._delete_version(_blob(key, name, version, versions[version]))
        return Deleted(blobs=1)

    async def delete_all(  # noqa: D102
        self, user_id: str, session_id: str | None = None, *, app: str = ""
    ) -> Deleted:
        key = self._key(user_id, session_id, app)
        self._check_open()
        return Deleted(blobs=sum(map(len, self._blobs.pop(key, {}).values())))

    def _delete_version(self, blob: Blob) -> None:
        """Delete an existing version."""
        blobs = self._blobs[blob.user_id, blob.session_id, blob.app]
        del blobs[blob.name][blob.version]
        if not blobs[blob.name]:
            del blobs[blob.name]

    def _delete_user(self, user_id: str) -> int:
        """Delete all blobs of a user, and return how many versions there were."""
        keys = [key for key in self._blobs if key[0] == user_id]
        return sum(len(versions) for key in keys for versions in self._blobs.pop(key).values())

    def _versions_of(self, user_id: str | None = None) -> Iterator[tuple[Blob, StoredVersion]]:
        """Yield all versions, of a user or of all users, in the order of the database."""
        for key, blobs in sorted(self._blobs.items(), key=lambda entry: [part.encode() for part in entry[0]]):
            if user_id in (None, key[0]):
                for name, versions in sorted(blobs.items(), key=lambda entry: entry[0].encode()):
                    for number, stored in sorted(versions.items()):
                        yield _blob(key, name, number, stored), stored

    def _check_reply(self, page: Sequence[Blob]) -> None:
        texts = (
            self._blobs[each.user_id, each.session_id, each.app][each.name][each.version].metadata for each in page
        )
        check_reply(texts, self._settings, Advice.SMALLER_LIMIT)

    def _key(self, user_id: str, session_id: str | None, app: str) -> _Key:
        key = check_blob_key(user_id, session_id, app, self._settings)
        return key["user_id"], key["session_id"], key["app"]

    def _versions(
        self, user_id: str, name: str, session_id: str | None, app: str
    ) -> tuple[_Key, dict[int, StoredVersion]]:
        key = self._key(user_id, session_id, app)
        check_id(name, "name", self._settings)
        self._check_open()
        return key, self._blobs.get(key, {}).get(name, {})

    def _check_open(self) -> None:
        if self._stopped:
            raise Closed("The service was stopped: call start() to use it again.")
        self._started = True


def _blob(key: _Key, name: str, version: int, stored: StoredVersion) -> Blob:
    user_id, session_id, app = key
    return Blob(
        user_id=user_id,
        session_id=session_id,
        app=app,
        name=name,
        version=version,
        size=len(stored.content),
        sha256=stored.hash.hex(),
        content_type=stored.content_type,
        filename=stored.filename,
        metadata=loads(stored.metadata),
        saved_at=stored.saved_at,
    )
