"""Find the files to import: in folders, in ZIP archives as they are downloaded, and compressed by gzip.

Nothing is unpacked to the disk. The bytes of an archive are bounded by its size, so that a small file cannot expand to
an endless one.
"""

import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from agentstore.errors import InvalidContent
from agentstore.importing.notes import Kind, Note
from agentstore.transfer.lines import check_file

_SUFFIXES = (".json", ".jsonl", ".ndjson")
_COMPRESSED = (".gz", ".zip")
# Files of the exports of ChatGPT and Claude that have no conversations.
_OTHER = re.compile(
    r"(users?|user_settings|account|message_feedback|model_comparisons|shared_conversations|group_chats|projects"
    r"|memories|memory|shopping|sora|manifest|export_manifest|integrity|tatum_ids|design_chats)(_\w+)?\.json",
    re.IGNORECASE,
)
# An archive expands to at most this many times its size, and always to the bytes after it. JSON shrinks by a factor of
# 5 to 30, a ZIP bomb by up to 1,000.
_MAX_RATIO = 200
_ALWAYS = 64 << 20
_BUFFER = 1 << 18

_DAMAGED = (zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, EOFError)


@dataclass(frozen=True, slots=True)
class File:
    """A file to import."""

    name: str
    """Its name in reports."""
    path: str | None
    """What identifies it; None for a stream."""
    size: int | None
    """The number of bytes to read, if it is known."""
    open: Callable[[], AbstractContextManager[BinaryIO]]
    is_found: bool = False
    """Whether it was found in a folder or an archive, which have other files than those with conversations."""
    is_lines: bool = False
    """Whether its name says that it is JSON Lines."""


def find(name: str, source: Path | BinaryIO) -> Iterator[File | Note]:
    """Yield the files to import for a file, a folder, an archive or a stream; `name` is its name in reports.

    The files of a folder and of an archive are sorted by name, numbers by value, so that ``conversations-2.json`` comes
    before ``conversations-10.json``. Folders within a folder are not read, those within an archive are.

    Raises:
        InvalidContent: a source is neither a Path nor a file that is open for reading in binary mode.
        OSError: a folder or a file cannot be read.
    """
    if not isinstance(source, Path):
        check_file(source)
        yield File(name, None, None, lambda: nullcontext(_decompressed(source)))
    elif source.is_dir():
        children = [each for each in source.iterdir() if each.suffix.lower() in (*_SUFFIXES, *_COMPRESSED)]
        children = [each for each in children if each.is_file() and not each.name.startswith(".")]
        if not children:
            yield Note("", "the folder has no .json, .jsonl, .gz or .zip files")
        for child in sorted(children, key=lambda each: _natural(each.name)):
            if _OTHER.fullmatch(child.name):
                yield _other(child.name)
            else:
                yield from _file(f"{name.rstrip('/')}/{child.name}", child, is_found=True)
    else:
        yield from _file(name, source, is_found=False)


def _file(name: str, path: Path, *, is_found: bool) -> Iterator[File | Note]:
    if path.is_file() and zipfile.is_zipfile(path) and _first_bytes(path, 2) == b"PK":
        yield from _members(name, path)
        return
    is_compressed = path.is_file() and _first_bytes(path, 2) == b"\x1f\x8b"
    stem = path.name.lower().removesuffix(".gz")

    @contextmanager
    def opened() -> Iterator[BinaryIO]:
        with path.open("rb") as stream:
            yield _gunzipped(stream) if is_compressed else stream

    yield File(
        name,
        str(path.resolve()) if path.is_file() else None,
        path.stat().st_size if path.is_file() and not is_compressed else None,
        opened,
        is_found,
        stem.endswith(_SUFFIXES[1:]),
    )


def _members(name: str, path: Path) -> Iterator[File | Note]:
    """Yield the files of a ZIP archive that may have conversations."""
    try:
        archive = zipfile.ZipFile(path)  # closed with the last reference to it, since its members are read later
    except (*_DAMAGED, NotImplementedError, UnicodeDecodeError) as error:
        yield Note("", f"not a valid ZIP archive: {error}")
        return
    infos = [each for each in archive.infolist() if not each.is_dir() and _is_json(each.filename)]
    if not infos:
        yield Note("", "the ZIP archive has no .json or .jsonl files")
        return
    expanded, limit = sum(each.file_size for each in infos), max(_ALWAYS, _MAX_RATIO * path.stat().st_size)
    if expanded > limit:
        yield Note(
            "", f"the ZIP archive expands to {expanded:,} bytes, more than {limit:,} ({_MAX_RATIO} times its size)"
        )
        return
    for info in sorted(infos, key=lambda each: _natural(each.filename)):
        if _OTHER.fullmatch(PurePosixPath(info.filename).name):
            yield _other(info.filename)
        elif info.flag_bits & 1:
            yield Note(info.filename, "encrypted; unpack the ZIP archive and import its files")
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            yield Note(info.filename, "compressed by another method than deflate; unpack it and import its files")
        else:
            yield File(
                f"{name}/{info.filename}",
                f"{path.resolve()}/{info.filename}",
                info.file_size,
                _opener(archive, info),
                is_found=True,
                is_lines=info.filename.lower().endswith(_SUFFIXES[1:]),
            )


def _opener(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], AbstractContextManager[BinaryIO]]:
    @contextmanager
    def opened() -> Iterator[BinaryIO]:
        try:
            with archive.open(info) as stream:
                yield io.BufferedReader(_Expanded(stream), _BUFFER)
        except _DAMAGED as error:
            raise _damaged(error) from error

    return opened


def _is_json(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and "__MACOSX" not in path.parts


def _other(place: str) -> Note:
    return Note(place, "it has no conversations", Kind.NOT_IMPORTED)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return the key that sorts names with numbers in them by the values of these."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name) if part]


def _first_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(count)


def _decompressed(stream: BinaryIO) -> BinaryIO:
    """Return a stream, decompressed if it begins as gzip does."""
    peek = getattr(stream, "peek", None)
    return _gunzipped(stream) if peek is not None and peek(2)[:2] == b"\x1f\x8b" else stream


def _gunzipped(stream: BinaryIO) -> BinaryIO:
    compressed = _Counted(stream)
    return io.BufferedReader(_Expanded(gzip.GzipFile(fileobj=cast("BinaryIO", compressed)), compressed), _BUFFER)


def _damaged(error: Exception) -> InvalidContent:
    return InvalidContent(f"the compressed file is damaged: {error or 'it ends too early'}")


class _Expanded(io.RawIOBase):
    """The data of a compressed stream; reading raises InvalidContent if it is damaged, or expands too far."""

    def __init__(self, stream: io.BufferedIOBase | IO[bytes], compressed: "_Counted | None" = None) -> None:
        self._stream = stream
        self._compressed = compressed
        self._count = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True  # only as far as tell() needs it

    def tell(self) -> int:
        return self._count

    def readinto(self, buffer: Any, /) -> int:
        try:
            data = self._stream.read(len(buffer))
        except _DAMAGED as error:
            raise _damaged(error) from error
        buffer[: len(data)] = data
        self._count += len(data)
        if self._compressed is not None and self._count > max(_ALWAYS, _MAX_RATIO * self._compressed.count):
            raise InvalidContent(f"the compressed file expands to more than {_MAX_RATIO} times its size")
        return len(data)


class _Counted(io.RawIOBase):
    """A stream that counts the bytes that were read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.count = 0
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self.count += len(data)
        return data
