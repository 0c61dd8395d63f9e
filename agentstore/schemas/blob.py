"""Blobs: versioned files, and what a caller gives as the content of one."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias

from pydantic import BaseModel, Field

from agentstore.errors import InvalidContent, LimitExceeded, NotFound
from agentstore.schemas.memory import bucket
from agentstore.schemas.page import bad_cursor, read_cursor
from agentstore.schemas.payload import check_id, check_title, dump_metadata, shortened

if TYPE_CHECKING:
    from agentstore.settings import Settings

BlobData: TypeAlias = bytes | BinaryIO | AsyncIterable[bytes]
"""The content of a blob: bytes, a file open for reading in binary mode, or an async iterator of parts."""

CHUNK = 500_000
"""The size of a stored chunk in bytes, and about how much of a content is in memory at a time."""
MAX_VERSION = 2**63 - 2
# Bytes up to which a content that is not given as bytes is held in memory, and not in a temporary file.
_IN_MEMORY = 1_000_000


class Blob(BaseModel):
    """A version of a blob, without its content."""

    user_id: str
    session_id: str
    """The session; "default" if there is none."""
    app: str
    """The application; "" if it has no name."""
    name: str
    version: int
    """The number of the version, from 0."""
    size: int
    """The size of the content in bytes."""
    sha256: str
    """The SHA-256 of the content in hexadecimal."""
    content_type: str | None = None
    """The media type, such as "image/png"."""
    filename: str | None = None
    """A file name to show to users; the blob is found by its `name`."""
    metadata: dict[Any, Any] = Field(default_factory=dict)
    """Any JSON object."""
    saved_at: datetime
    """When the version was stored (UTC)."""


class Content(NamedTuple):
    """The content of a blob, read as a whole."""

    file: BinaryIO
    size: int
    hash: bytes

    @property
    def chunks(self) -> int:
        """How many chunks it is stored in."""
        return -(-self.size // CHUNK)


def check_blob_key(user_id: str, session_id: str | None, app: str, settings: "Settings") -> dict[str, Any]:
    """Validate the ids of a blob, and return them as parameters of statements.

    Raises:
        InvalidContent: one of them is not a valid id.
    """
    return {
        "user_id": check_id(user_id, "user_id", settings),
        "session_id": bucket(session_id, settings),
        "app": check_id(app, "app", settings),
    }


def check_version(version: int | None) -> int | None:
    """Validate the number of a version, or None.

    Raises:
        InvalidContent: it is not an integer from 0 to 2**63 - 2.
    """
    if version is not None and (
        not isinstance(version, int) or isinstance(version, bool) or not 0 <= version <= MAX_VERSION
    ):
        raise InvalidContent(f"version must be an integer from 0 to 2**63 - 2, got {shortened(version)}")
    return version


def check_about(
    content_type: str | None, filename: str | None, metadata: Mapping[str, Any] | None, settings: "Settings"
) -> dict[str, Any]:
    """Validate what is stored with a blob, and return it as parameters of a statement.

    Raises:
        InvalidContent, LimitExceeded: a text is not valid or has more than 10,000 characters, or the metadata is not a
            JSON object.
    """
    return {
        "content_type": check_title(content_type, "content_type"),
        "filename": check_title(filename, "filename"),
        "metadata": "{}" if metadata is None else dump_metadata(metadata, settings),
    }


def blob_not_found(user_id: str, name: str, session_id: str | None, version: int | None) -> NotFound:
    """Return the error for a blob, or a version of it, that does not exist."""
    which = "" if version is None else f" with version {version}"
    return NotFound(f"session {session_id or 'default'!r} of user {user_id!r} has no blob {name!r}{which}")


def end_of_prefix(prefix: str) -> str | None:
    """Return the least text, in the order of bytes, that is after all texts with a prefix; None if there is none."""
    for length in range(len(prefix), 0, -1):
        code = ord(prefix[length - 1])
        if code < 0x10FFFF:
            # Lone surrogates are not characters of a text.
            return prefix[: length - 1] + chr(0xE000 if code == 0xD7FF else code + 1)
    return None


def read_version_cursor(cursor: str | None) -> int:
    """Return the version below which a page begins.

    Raises:
        InvalidContent: it is not a cursor of a list of versions.
    """
    if cursor is None:
        return MAX_VERSION + 1
    part = str(read_cursor(cursor, str)[0])
    if not part.isascii() or not part.isdecimal() or len(part) > 19 or int(part) > MAX_VERSION:
        raise bad_cursor(cursor)
    return int(part)


async def read_content(data: BlobData, settings: "Settings") -> Content:
    """Read a content as a whole, into a temporary file if it is large; the caller closes the file.

    Raises:
        InvalidContent: it is neither bytes nor a file nor an async iterator, or yields something else than bytes.
        LimitExceeded: it is larger than `max_blob_bytes`.
    """
    digest, size = hashlib.sha256(), 0
    file: BinaryIO = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # type: ignore[assignment]  # noqa: SIM115

    async def add(part: object) -> None:
        nonlocal size
        if not isinstance(part, (bytes, bytearray, memoryview)):
            raise InvalidContent(f"the content of a blob must be bytes, got {type(part).__name__}")
        size += len(memoryview(part).cast("B")) if isinstance(part, memoryview) else len(part)
        if size > settings.max_blob_bytes:
            raise LimitExceeded(
                f"the content has more than {settings.max_blob_bytes} bytes: see the setting MAX_BLOB_BYTES"
            )
        if len(part) > CHUNK:
            await asyncio.to_thread(_write, file, digest, part)
        else:
            _write(file, digest, part)

    try:
        if isinstance(data, (bytes, bytearray, memoryview)):
            await add(data)
        elif isinstance(data, AsyncIterable):
            async for part in data:
                await add(part)
        elif hasattr(data, "read") and not hasattr(data, "encoding"):
            while part := await asyncio.to_thread(data.read, CHUNK):
                await add(part)
        else:
            raise InvalidContent(
                f"data must be bytes, a file open in binary mode or an async iterator of bytes, got {shortened(data)}"
            )
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return Content(file, size, digest.digest())


def _write(file: BinaryIO, digest: Any, part: Any) -> None:
    digest.update(part)
    file.write(part)
