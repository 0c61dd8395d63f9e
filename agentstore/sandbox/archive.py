"""Workspaces as they are kept: a tar archive, packed with Zstandard, in pieces."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from typing import BinaryIO

import zstandard

from agentstore.errors import LimitExceeded, SandboxFailed

CHUNK = 1_000_000
"""The bytes of a piece, but for the last."""

_IN_MEMORY = 8 * CHUNK
# Times what it may have when it is packed: more has holes, or is made to take long.
_LARGEST = 32


async def pack(archive: AsyncIterator[bytes], most: int) -> BinaryIO:
    """Return an open file with the packed archive, at its beginning.

    Raises:
        LimitExceeded: it would be over `most` bytes, or is far larger than that before it is packed.
        SandboxFailed: there is no room for it here.
    """
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - the caller closes it
    size = 0
    try:
        async for piece in archive:
            size += len(piece)
            if size > most * _LARGEST:
                raise LimitExceeded(f"the workspace has over {most * _LARGEST:,} bytes")
            file.write(compressor.compress(piece))
            if file.tell() > most:
                break
            await asyncio.sleep(0)  # what yields the pieces may have them all
        file.write(compressor.flush())
        if file.tell() > most:
            raise LimitExceeded(f"the workspace has over {most:,} bytes, packed (AGENTSTORE_MAX_WORKSPACE_BYTES)")
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            raise SandboxFailed(f"a workspace could not be packed: {error}") from error
        raise
    file.seek(0)
    return file  # type: ignore[return-value]


async def unpack(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the archive that is packed in these pieces, in pieces of at most 1 MB.

    Raises:
        SandboxFailed: it is damaged.
    """
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    try:
        async for chunk in chunks:
            # Little of what is packed at a time: it may be a thousand times as large.
            for start in range(0, len(chunk), 1_000):
                plain = decompressor.decompress(chunk[start : start + 1_000])
                for at in range(0, len(plain), CHUNK):
                    yield plain[at : at + CHUNK]
    except zstandard.ZstdError as error:
        raise SandboxFailed(f"a workspace that was kept is damaged: {error}") from error
