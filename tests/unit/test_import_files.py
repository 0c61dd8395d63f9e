"""The files that an import finds in folders and archives."""

import contextlib
import gzip
import io
import json
import random
import zipfile
from pathlib import Path

import pytest

from agentstore import InvalidContent
from agentstore.importing import files
from agentstore.importing.files import File, find
from agentstore.importing.notes import Kind, Note


def _write(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _read(found: File) -> bytes:
    with found.open() as stream:
        return stream.read()


_PARTS = {"conversations-10.json": b"[10]", "conversations-2.json": b"[2]", "conversations-000.json": b"[0]"}


def test_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for name, data in _PARTS.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "chat.html").write_bytes(b"<html>")
    (tmp_path / "users.json").write_bytes(b"[]")
    (tmp_path / ".hidden.json").write_bytes(b"[]")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "log.jsonl.gz").write_bytes(gzip.compress(b'{"a":1}\n'))
    found = list(find("export/", tmp_path))
    assert [each.name for each in found if isinstance(each, File)] == [
        "export/conversations-000.json",
        "export/conversations-2.json",
        "export/conversations-10.json",
        "export/log.jsonl.gz",
    ]
    assert [_read(each) for each in found if isinstance(each, File)] == [b"[0]", b"[2]", b"[10]", b'{"a":1}\n']
    assert [each for each in found if isinstance(each, Note)] == [
        Note("users.json", "it has no conversations", Kind.NOT_IMPORTED)
    ]


def test_folder_without_files_is_reported(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    assert list(find("x", tmp_path)) == [Note("", "the folder has no .json, .jsonl, .gz or .zip files")]


def test_members_of_a_zip_archive(tmp_path: Path) -> None:
    others = {"user.json": b"{}", "message_feedback.json": b"[]", "chat.html": b"", "a/__MACOSX/x.json": b""}
    path = _write(tmp_path / "export.zip", {**_PARTS, **others, "dalle/image.png": b"", "conversations/1.jsonl": b"{}"})
    found = list(find("export.zip", path))
    assert [(each.name, each.is_lines) for each in found if isinstance(each, File)] == [
        ("export.zip/conversations-000.json", False),
        ("export.zip/conversations-2.json", False),
        ("export.zip/conversations-10.json", False),
        ("export.zip/conversations/1.jsonl", True),
    ]
    assert [each.place for each in found if isinstance(each, Note)] == ["message_feedback.json", "user.json"]
    assert [each.size for each in found if isinstance(each, File)] == [3, 3, 4, 2]
    assert {each.path for each in found if isinstance(each, File)} >= {f"{path}/conversations-2.json"}


@pytest.mark.parametrize("bomb", ["zip", "gz"])
def test_compressed_bytes_are_bounded(bomb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_ALWAYS", 10_000)
    zeros = b"0" * 1_000_000
    path = tmp_path / f"bomb.{bomb}"
    if bomb == "zip":
        (note,) = find("bomb", _write(path, {"a.json": zeros}))
        assert isinstance(note, Note)
        assert "expands to 1,000,000 bytes" in note.reason
    else:
        path.write_bytes(gzip.compress(zeros))
        (found,) = find("bomb", path)
        assert isinstance(found, File)
        with found.open() as stream, pytest.raises(InvalidContent, match="more than 200 times"):
            while stream.read(1_000):
                pass
        assert stream.tell() < len(zeros)


def test_size_that_an_archive_declares_is_not_exceeded(tmp_path: Path) -> None:
    """A member that is longer than the archive says is cut off, and reported as damaged."""
    path = _write(tmp_path / "lie.zip", {"a.json": b"0" * 100_000})
    data = bytearray(path.read_bytes())
    for at in range(len(data) - 4):
        if data[at : at + 4] == (100_000).to_bytes(4, "little"):
            data[at : at + 4] = (50).to_bytes(4, "little")
    path.write_bytes(data)
    (found,) = find("lie.zip", path)
    assert isinstance(found, File)
    assert found.size == 50
    with pytest.raises(InvalidContent, match="damaged"):
        _read(found)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_archives_are_reported(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    text = json.dumps([rng.random() for _ in range(3_000)]).encode()
    for name in ("x.zip", "x.json.gz"):
        path = tmp_path / name
        if name.endswith("zip"):
            _write(path, {"a.json": text})
        else:
            path.write_bytes(gzip.compress(text))
        data = bytearray(path.read_bytes())
        for _ in range(3):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data[: rng.choice((len(data), rng.randrange(4, len(data))))])
        for found in find(name, path):
            if isinstance(found, File):  # whatever else is raised fails the test
                with contextlib.suppress(InvalidContent):
                    _read(found)


def test_member_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.zip", {"a.json": b"[]"}, zipfile.ZIP_LZMA)
    assert [each.reason for each in find("x.zip", path) if isinstance(each, Note)] == [
        "compressed by another method than deflate; unpack it and import its files"
    ]
    data = bytearray(_write(path, {"a.json": b"[]"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag of an encrypted member
    path.write_bytes(data)
    assert [each.reason for each in find("x.zip", path) if isinstance(each, Note)] == [
        "encrypted; unpack the ZIP archive and import its files"
    ]
    assert [each.reason for each in find("x.zip", _write(path, {"a.txt": b""})) if isinstance(each, Note)] == [
        "the ZIP archive has no .json or .jsonl files"
    ]


def test_stream_is_decompressed() -> None:
    for data in (b"[1]", gzip.compress(b"[1]")):
        (found,) = find("stdin", io.BufferedReader(io.BytesIO(data)))
        assert isinstance(found, File)
        assert (found.path, found.size) == (None, None)
        assert _read(found) == b"[1]"
