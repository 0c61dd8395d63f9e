"""Packing the workspace as a tar archive, and unpacking one. tarfile runs in a thread, behind a pipe."""

import asyncio
import os
import tarfile
import threading
from collections.abc import Iterator

from .protocol import ArchiveFailed, encode_frame, read_frame
from .tasks import join_thread, open_pipe_reader, read_chunk, run_to_completion, write_all


async def pack(workspace: str, disk: int, writer: asyncio.StreamWriter) -> None:
    """Send the workspace as a tar archive, in frames, with an empty one at the end.

    Raises:
        ArchiveFailed: it could not be packed, or its files have more than `disk` bytes.
    """
    reading, writing = os.pipe()
    stream, transport = await open_pipe_reader(reading)
    failure: list[str] = []
    thread = threading.Thread(target=_write_archive, args=(workspace, writing, disk, failure))
    try:
        thread.start()
        while chunk := await read_chunk(stream):
            writer.write(encode_frame(chunk))
            await writer.drain()
    except RuntimeError as error:
        os.close(writing)
        raise ArchiveFailed(f"no thread can be started: {error}") from error
    finally:
        transport.close()
    await join_thread(thread)
    writer.write(encode_frame(b""))
    if failure:
        raise ArchiveFailed(failure[0])


async def unpack(workspace: str, reader: asyncio.StreamReader) -> None:
    """Receive a tar archive, in frames up to an empty one, and unpack it into the workspace.

    Raises:
        ArchiveFailed: it could not be unpacked, or has a member that is not allowed.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    failure: list[str] = []
    thread = threading.Thread(target=_read_archive, args=(workspace, reading, failure))
    try:
        thread.start()
    except RuntimeError as error:
        os.close(reading)
        os.close(writing)
        raise ArchiveFailed(f"no thread can be started: {error}") from error
    complete = False
    try:
        while chunk := await read_frame(reader):
            await write_all(writing, chunk)
        complete = True
    except BrokenPipeError:
        while await read_frame(reader):
            pass
        complete = True
    finally:
        os.close(writing)
        if not complete:
            failure.append("the archive is incomplete")
        await asyncio.shield(run_to_completion(join_thread(thread)))
    if failure:
        raise ArchiveFailed(failure[0])


def _write_archive(workspace: str, writing: int, disk: int, failure: list[str]) -> None:
    """Write the directories, regular files and links of the workspace, without their owners."""
    size = 0

    def prepare(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        nonlocal size
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            return None
        size += member.size
        if size > disk:  # sparse files, whose holes do not count towards the quota
            raise ArchiveFailed("the files of the workspace are larger than its quota")
        place = os.path.join(workspace, member.name)
        needed = 0 if member.issym() else 0o500 if member.isdir() else 0o400
        if needed & ~member.mode:
            os.chmod(place, member.mode | needed)
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    try:
        with os.fdopen(writing, "wb") as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
            for name in sorted(os.listdir(workspace)):
                archive.add(os.path.join(workspace, name), name, filter=prepare)
    except BrokenPipeError:
        pass  # the client has disconnected
    except ArchiveFailed as error:
        failure.append(str(error))
    except (OSError, ValueError, RecursionError, MemoryError, tarfile.TarError) as error:
        failure.append(f"the workspace cannot be packed: {error!r}")


def _read_archive(workspace: str, reading: int, failure: list[str]) -> None:
    """Unpack directories, regular files and links into the workspace."""

    def prepare(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        for member in archive:
            folder = os.path.realpath(os.path.join(workspace, os.path.dirname(member.name)))
            inside = folder == workspace or folder.startswith(workspace + os.sep)
            if not inside or os.path.basename(member.name) == "..":
                raise ArchiveFailed(f"the archive has the member {member.name!r}, which is outside the workspace")
            if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                raise ArchiveFailed(
                    f"the archive has the member {member.name!r}, which is not a regular file, directory or link"
                )
            member.mode &= 0o777
            member.uid, member.gid = os.getuid(), os.getgid()
            member.uname = member.gname = ""
            yield member

    try:
        with os.fdopen(reading, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            # The filters of the standard library reject links that a workspace may well have, such as those of a
            # virtual environment. Here a link leads nowhere but to other files of the sandbox.
            archive.extraction_filter = lambda member, _: member
            archive.extractall(workspace, members=prepare(archive))  # noqa: S202
    except ArchiveFailed as error:
        failure.append(str(error))
    except (OSError, EOFError, ValueError, MemoryError, tarfile.TarError) as error:
        failure.append(f"the archive cannot be unpacked: {error}")
