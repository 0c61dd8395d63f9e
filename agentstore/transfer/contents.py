"""Checks of the contents of blobs in an export: a wrong one would be returned for each blob that has its hash."""

import hashlib
from typing import Any, NamedTuple

from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.schemas.blob import CHUNK
from agentstore.settings import Settings
from agentstore.transfer.checks import read_bytes

_Key = tuple[str, bytes]  # user id, hash


class _Found(NamedTuple):
    size: int
    chunks: int


class Contents:
    """The contents of the blobs of a block, whose chunks come before the blobs that have them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._found: dict[_Key, _Found] = {}
        self._unused: set[_Key] = set()
        self._key: _Key | None = None
        self._digest = hashlib.sha256()
        self._size = self._number = 0

    def add_chunk(self, values: dict[str, Any]) -> None:
        """Read a row of a chunk.

        Raises:
            InvalidContent: it does not follow the chunk before it, or the content before it has another hash.
            LimitExceeded: the content is larger than `max_blob_bytes`.
        """
        key = str(values.get("user_id")), read_bytes("hash", values.get("hash"))
        if key != self._key:
            self.finish()
            if key in self._found:
                raise InvalidContent("the chunks of a content are not in order")
            self._key, self._digest, self._size, self._number = key, hashlib.sha256(), 0, 0
        data = read_bytes("data", values.get("data"))
        self._number += 1
        if values.get("number") != self._number:
            raise InvalidContent(f"number is {values.get('number')}, expected {self._number}")
        if not 0 < len(data) <= CHUNK:
            raise InvalidContent(f"data has {len(data)} bytes, expected 1 to {CHUNK}")
        self._digest.update(data)
        self._size += len(data)
        if self._size > self._settings.max_blob_bytes:
            raise LimitExceeded(
                f"the content has more than {self._settings.max_blob_bytes} bytes: see the setting MAX_BLOB_BYTES"
            )

    def add_blob(self, values: dict[str, Any]) -> None:
        """Read a row of a blob.

        Raises:
            InvalidContent: its content is not in the block, or has another size.
        """
        self.finish()
        key = str(values.get("user_id")), read_bytes("hash", values.get("hash"))
        self._unused.discard(key)
        empty = _Found(0, 0) if key[1] == hashlib.sha256().digest() else None
        found = self._found.get(key, empty)
        if found is None:
            raise InvalidContent("the content of the blob is not in the file")
        if found != (values.get("size"), values.get("chunks")):
            raise InvalidContent(f"size or chunks differ from the content: {found.size} bytes, {found.chunks} chunks")

    def finish(self) -> None:
        """Check the hash of the last content.

        Raises:
            InvalidContent: it is another one.
        """
        if self._key is not None:
            if self._digest.digest() != self._key[1]:
                raise InvalidContent("the content before this line does not have its hash")
            self._found[self._key] = _Found(self._size, self._number)
            self._unused.add(self._key)
            self._key = None

    def end(self) -> None:
        """Check, at the end of the block, that each content belongs to a blob.

        Raises:
            InvalidContent: one does not, or has another hash.
        """
        self.finish()
        if self._unused:
            raise InvalidContent("the file has a content that belongs to no blob")
