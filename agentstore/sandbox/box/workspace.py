"""Packing the workspace as a tar archive, and unpacking one. tarfile runs in a forked process, behind pipes.

No symbolic link is followed, at any component of a path: the workspace may be changed meanwhile, and of a sandbox that
isolates nothing a link may lead to any file of the machine.
"""

import asyncio
import contextlib
import io
import json
import os
import shutil
import stat
import sys
import tarfile
from collections.abc import Callable

from .children import end, fork, write
from .processes import Child, Processes
from .protocol import CHUNK_SIZE, ArchiveFailed, ToolFailed, encode_frame, read_frame
from .tasks import open_pipe_reader, write_all

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KILLED = "the sandbox reached one of its limits"


async def pack(processes: Processes, workspace: str, disk: int, writer: asyncio.StreamWriter) -> bytes:
    """Send the workspace as a tar archive, in frames, with an empty one at the end; return the response after it.

    Raises:
        ArchiveFailed: it could not be packed.
    """
    reading, writing = os.pipe()
    child = await _start(processes, lambda: _write_archive(workspace, disk, writing), reading, writing)
    stream, transport = await open_pipe_reader(reading)
    try:
        while frame := await read_frame(stream):
            writer.write(encode_frame(frame))
            await writer.drain()
        response = await read_frame(stream)
    except EOFError:
        writer.write(encode_frame(b""))
        raise ArchiveFailed(f"the workspace cannot be packed: {_KILLED}") from None
    finally:
        transport.close()
        await end(processes, child)
    writer.write(encode_frame(b""))
    return encode_frame(response)


async def unpack(processes: Processes, workspace: str, reader: asyncio.StreamReader) -> bytes:
    """Receive a tar archive, in frames up to an empty one, unpack it into the workspace and return the response.

    Raises:
        ArchiveFailed: it could not be unpacked.
    """
    reading, writing = os.pipe()
    archive, sending = os.pipe()
    os.set_blocking(sending, False)
    try:
        child = await _start(processes, lambda: _read_archive(workspace, archive, writing), reading, writing, archive)
    except BaseException:
        os.close(archive)
        os.close(sending)
        raise
    os.close(archive)
    stream, transport = await open_pipe_reader(reading)
    try:
        try:
            while chunk := await read_frame(reader):
                await write_all(sending, chunk)
        except BrokenPipeError:
            while await read_frame(reader):
                pass
        finally:
            os.close(sending)
        return encode_frame(await read_frame(stream))
    except asyncio.IncompleteReadError as error:
        if reader.at_eof():
            raise
        raise ArchiveFailed(f"the archive cannot be unpacked: {_KILLED}") from error
    finally:
        transport.close()
        await end(processes, child)


async def _start(processes: Processes, work: Callable[[], None], reading: int, writing: int, *kept: int) -> Child:
    try:
        return await fork(processes, work, reading, writing, *kept)
    except ToolFailed as error:
        raise ArchiveFailed(str(error)) from error


class _Frames(io.RawIOBase):
    """A stream that writes frames of CHUNK_SIZE bytes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        self._buffer += data
        while len(self._buffer) >= CHUNK_SIZE:
            self._send(CHUNK_SIZE)
        return len(data)

    def finish(self) -> None:
        """Write what is left."""
        if self._buffer:
            self._send(len(self._buffer))

    def _send(self, size: int) -> None:
        write(self._descriptor, [encode_frame(bytes(self._buffer[:size]))])
        del self._buffer[:size]


def _respond(descriptor: int, failure: str) -> None:
    response = {"failed": failure} if failure else {"ok": True}
    write(descriptor, [encode_frame(json.dumps(response).encode())])


def _write_archive(workspace: str, disk: int, writing: int) -> None:
    """Write the directories, regular files and links of the workspace, without their owners."""
    stream = _Frames(writing)
    failure = ""
    try:
        top = os.open(workspace, _FOLDER)
        with tarfile.open(fileobj=stream, mode="w|", bufsize=65_536) as archive:
            _Packer(archive, top, disk).pack_folder("")
        stream.finish()
    except ArchiveFailed as error:
        failure = str(error)
    except (OSError, ValueError, RecursionError, MemoryError, tarfile.TarError) as error:
        failure = f"the workspace cannot be packed: {error!r}"
    write(writing, [encode_frame(b"")])
    _respond(writing, failure)


class _Packer:
    """Add files to an archive, through descriptors of their folders."""

    def __init__(self, archive: tarfile.TarFile, top: int, disk: int) -> None:
        self._archive = archive
        self._top = top
        self._room = disk
        self._names: dict[tuple[int, int], str] = {}

    def pack_folder(self, path: str) -> None:
        """Add everything in a folder, and in those below it."""
        waiting = [path]
        while waiting:
            path = waiting.pop()
            folder = _open_folder(self._top, path)
            try:
                below = [each for name in sorted(os.listdir(folder)) if (each := self._add(folder, path, name))]
            finally:
                os.close(folder)
            waiting += reversed(below)

    def _add(self, folder: int, path: str, name: str) -> str | None:
        """Add one file, and return its path if it is a folder."""
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        member = tarfile.TarInfo(os.path.join(path, name))
        member.mode, member.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
        if stat.S_ISDIR(status.st_mode):
            member.type = tarfile.DIRTYPE
            _make_accessible(folder, name, status.st_mode, 0o500)
            self._archive.addfile(member)
            return member.name
        if stat.S_ISLNK(status.st_mode):
            member.type, member.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=folder)
            self._archive.addfile(member)
        elif stat.S_ISREG(status.st_mode):
            first = self._names.setdefault((status.st_dev, status.st_ino), member.name)
            if first != member.name:
                member.type, member.linkname = tarfile.LNKTYPE, first
                self._archive.addfile(member)
                return None
            _make_accessible(folder, name, status.st_mode, 0o400)
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with open(os.open(name, flags, dir_fd=folder), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    return None  # it has been replaced since
                member.size = status.st_size
                self._room -= member.size
                if self._room < 0:  # sparse files, whose holes do not count towards the quota
                    raise ArchiveFailed("the files of the workspace are larger than its quota")
                self._archive.addfile(member, file)
        return None


def _make_accessible(folder: int, name: str, mode: int, needed: int) -> None:
    """Add the bits to the mode of a file that its owner needs to read it."""
    if not needed & ~mode:
        return
    mode = stat.S_IMODE(mode) | needed
    if sys.platform != "linux":
        os.chmod(name, mode, dir_fd=folder, follow_symlinks=False)
        return
    opened = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not stat.S_ISLNK(os.fstat(opened).st_mode):  # it may have been replaced
            os.chmod(f"/proc/self/fd/{opened}", mode)
    finally:
        os.close(opened)


def _open_folder(top: int, path: str, *, create: bool = False) -> int:
    """Open a folder below another one, component by component, and follow no link.

    Raises:
        OSError: it does not exist, or a component is not a folder.
    """
    opened = os.dup(top)
    try:
        for name in path.split("/"):
            if name in ("", "."):
                continue
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o777, dir_fd=opened)
            below = os.open(name, _FOLDER, dir_fd=opened)
            os.close(opened)
            opened = below
    except BaseException:
        os.close(opened)
        raise
    return opened


def _read_archive(workspace: str, reading: int, writing: int) -> None:
    """Unpack directories, regular files and links into the workspace."""
    failure = ""
    try:
        top = os.open(workspace, _FOLDER)
        with os.fdopen(reading, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            folders = [each for member in archive if (each := _extract(archive, member, top))]
        for path, mode, time in reversed(folders):  # after what is in them, which may need more rights
            folder = _open_folder(top, path)
            os.fchmod(folder, mode)
            os.utime(folder, (time, time))
            os.close(folder)
    except ArchiveFailed as error:
        failure = str(error)
    except (OSError, EOFError, ValueError, MemoryError, tarfile.TarError) as error:
        failure = f"the archive cannot be unpacked: {error}"
    _respond(writing, failure)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, top: int) -> tuple[str, int, int] | None:
    """Unpack one member. Of a folder, return its path, its mode and its time, which are set when all is unpacked."""
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise ArchiveFailed(
            f"the archive has the member {member.name!r:.200}, which is not a regular file, directory or link"
        )
    path, name = _split(member.name)
    folder = _open_folder(top, path, create=True)
    try:
        if name == "":  # the workspace itself
            return None
        if member.isdir():
            os.close(_open_folder(folder, name, create=True))
            return member.name, member.mode & 0o777, int(member.mtime)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=folder)
        elif member.islnk():
            path, source = _split(member.linkname)
            other = _open_folder(top, path)
            try:
                os.link(source, name, src_dir_fd=other, dst_dir_fd=folder, follow_symlinks=False)
            finally:
                os.close(other)
        else:
            content = archive.extractfile(member)
            assert content is not None  # noqa: S101
            opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
            with open(opened, "wb") as file:
                shutil.copyfileobj(content, file, CHUNK_SIZE)
                file.flush()
                os.fchmod(opened, member.mode & 0o777)
                os.utime(opened, (member.mtime, member.mtime))
    finally:
        os.close(folder)
    return None


def _split(name: str) -> tuple[str, str]:
    """Return the folder and the name of a member; the name is empty for the workspace itself.

    Raises:
        ArchiveFailed: it is outside the workspace.
    """
    path, _, last = name.rstrip("/").rpartition("/")
    if name.startswith("/") or ".." in (last, *path.split("/")):
        raise ArchiveFailed(f"the archive has the member {name!r:.200}, which is outside the workspace")
    return path, "" if last == "." else last
