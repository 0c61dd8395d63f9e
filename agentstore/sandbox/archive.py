"""Stored workspaces: tar archives, compressed with Zstandard and split into chunks."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from typing import BinaryIO

from agentstore.errors import LimitExceeded, SandboxFailed

CHUNK = 1_000_000
"""The size of a chunk in bytes; the last one may be smaller."""

_MAX_IN_MEMORY = 8 * CHUNK
# The maximum size of an archive as a multiple of the maximum compressed size: a larger one has sparse files, or was
# built to take long.
_MAX_RATIO = 32


async def pack(archive: AsyncIterator[bytes], most: int) -> BinaryIO:
    """Compress an archive into a temporary file, and return the open file at its beginning.

    Raises:
        LimitExceeded: it has more than `most` bytes compressed, or more than 32 times as many uncompressed.
        SandboxFailed: the temporary file could not be written.
    """
    import zstandard

    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
    file = tempfile.SpooledTemporaryFile(max_size=_MAX_IN_MEMORY)  # noqa: SIM115 - the caller closes it
    size = 0
    try:
        async for chunk in archive:
            size += len(chunk)
            if size > most * _MAX_RATIO:
                raise LimitExceeded(
                    f"the workspace has more than {most * _MAX_RATIO:,} bytes uncompressed ({_MAX_RATIO} times "
                    "AGENTSTORE_MAX_WORKSPACE_BYTES)"
                )
            file.write(compressor.compress(chunk))
            if file.tell() > most:
                break
            await asyncio.sleep(0)  # the iterator may never wait, and other tasks must run
        file.write(compressor.flush())
        if file.tell() > most:
            raise LimitExceeded(
                f"the workspace has more than {most:,} bytes compressed (AGENTSTORE_MAX_WORKSPACE_BYTES)"
            )
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            raise SandboxFailed(f"the workspace could not be packed: {error}") from error
        raise
    file.seek(0)
    return file  # type: ignore[return-value]


async def unpack(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Decompress the chunks of a stored workspace, and yield the archive in chunks of at most 1 MB.

    Raises:
        SandboxFailed: the stored workspace is damaged.
    """
    import zstandard

    decompressor = zstandard.ZstdDecompressor().decompressobj()
    try:
        async for chunk in chunks:
            # In small steps: a kilobyte may decompress to a megabyte.
            for start in range(0, len(chunk), 1_000):
                plain = decompressor.decompress(chunk[start : start + 1_000])
                for at in range(0, len(plain), CHUNK):
                    yield plain[at : at + CHUNK]
    except zstandard.ZstdError as error:
        raise SandboxFailed(f"the stored workspace is damaged: {error}") from error
