"""Files and workspaces in the sandboxes of a server, by its shell."""

import base64
import io
import tarfile
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentstore.errors import (
    SandboxFailed,
    SandboxLost,
    SandboxUnavailable,
)
from agentstore.sandbox import commands
from agentstore.sandbox.managed import ManagedProvider
from agentstore.sandbox.remote import RemoteProvider
from tests.sandbox.remote.sandbox_server import SandboxServer
from tests.sandbox.remote.support import BASE, name_in, shell

_FILES = {
    "plain.txt": b"text\n",
    'it\'s "quoted" $HOME `x` \\.txt': b"'\"$`\\",
    "two\nlines": b"a\r\nb\n\n",
    "-rf": b"dash",
    "--help": b"",
    "*": b"star",
    "名前/深い/ñ.txt": "日本語 ñ 😀".encode(),
    "binary": bytes(range(256)) * 10,
    "nul": b"a\0b",
    " leading and trailing ": b" ",
}


@pytest.mark.parametrize("path", _FILES)
async def test_files_are_written_listed_read_and_removed(
    any_provider: ManagedProvider, server: SandboxServer, path: str
) -> None:
    handle = await any_provider.create(BASE)
    content = _FILES[path]
    try:
        written: dict[str, Any] = {"path": path, "content": content.decode()}
    except UnicodeDecodeError:
        written = {"path": path, "blob": base64.b64encode(content).decode()}
    assert not (await any_provider.exec(handle, "write_file", {"path": path, "content": "the one before"}, 60)).is_error
    assert not (await any_provider.exec(handle, "write_file", written, 60)).is_error
    assert (server.folder(name_in(handle)) / path).read_bytes() == content
    read = await any_provider.exec(handle, "read_file", {"path": path}, 60)
    assert not read.is_error
    if "blob" in written:
        assert read["content"] == [{"type": "blob", "blob": written["blob"]}]
    else:
        assert read["content"] == [{"type": "text", "text": written["content"], "description": "content"}]
    first = path.partition("/")[0]
    kind = "directory" if "/" in path else "file"
    listed = await any_provider.exec(handle, "list_files", {}, 60)
    assert listed["content"] == [{"type": "text", "text": first, "description": kind}]
    assert not (await any_provider.exec(handle, "remove_file", {"path": first}, 60)).is_error
    assert (await any_provider.exec(handle, "list_files", {"path": "."}, 60))["content"] == []


async def test_a_failing_file_tool_is_a_result(any_provider: ManagedProvider, server: SandboxServer) -> None:
    handle = await any_provider.create(BASE)
    folder = server.folder(name_in(handle))
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("nowhere")
    await shell(any_provider, handle, "mkfifo pipe")
    for tool, arguments in (
        ("read_file", {"path": "none"}),
        ("read_file", {"path": "folder"}),
        ("read_file", {"path": "pipe"}),
        ("write_file", {"path": "folder", "content": ""}),
        ("write_file", {"path": "pipe/x", "content": ""}),
        ("list_files", {"path": "none"}),
        ("remove_file", {"path": "none"}),
        ("remove_file", {"path": "."}),
        ("read_file", {"path": "../etc/passwd"}),
        ("read_file", {"path": "folder/../../workspace2/x"}),
        ("read_file", {"path": "/etc/passwd"}),
    ):
        result = await any_provider.exec(handle, tool, arguments, 60)
        assert result.is_error, (tool, arguments)
        assert result.part("stderr")
    assert (await any_provider.exec(handle, "list_files", {}, 60)).text == "folderlinkpipe"
    assert not (await any_provider.exec(handle, "remove_file", {"path": "link"}, 60)).is_error


async def test_a_large_file_is_written_in_pieces_and_replaced_atomically(
    provider: RemoteProvider, server: SandboxServer
) -> None:
    handle = await provider.create(BASE)
    content = "ä" * 200_000
    server.requests.clear()
    await provider.exec(handle, "write_file", {"path": "large", "content": content}, 60)
    assert server.requests["call_tool"] > 5
    assert (await provider.exec(handle, "read_file", {"path": "large"}, 60)).text == content
    server.faults["call_tool"] = ["", "", "reply {}"]
    with pytest.raises(SandboxFailed):
        await provider.exec(handle, "write_file", {"path": "large", "content": "b" * 200_000}, 60)
    await provider.stop()
    assert (await provider.exec(handle, "read_file", {"path": "large"}, 60)).text == content
    assert (await provider.exec(handle, "list_files", {}, 60)).text == "large"


async def test_a_file_that_is_too_large_for_a_reply_is_a_result(
    provider: RemoteProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await provider.create(BASE)
    await shell(provider, handle, "truncate -s 20000001 large")
    result = await provider.exec(handle, "read_file", {"path": "large"}, 60)
    assert result.is_error
    assert "20000001" in result.text
    monkeypatch.setattr(commands, "LARGEST_FILE", 10)
    assert (await provider.exec(handle, "write_file", {"path": "a", "content": "x" * 11}, 60)).is_error


async def _archive(raw: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(raw), 100_000):
        yield raw[start : start + 100_000]


async def test_a_workspace_is_packed_and_unpacked(
    any_provider: ManagedProvider, server: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "PACKED_PIECE", 50_000)
    assert any_provider.keeps_workspaces
    one, other = await any_provider.create(BASE), await any_provider.create(BASE)
    folder = server.folder(name_in(one))
    random = bytes((place * 7919 >> 3) % 256 for place in range(150_000))
    files = {**_FILES, "a/b/random": random, "zeros": bytes(3_000_000)}
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / "run").write_bytes(b"#!/bin/sh\n")
    (folder / "run").chmod(0o755)
    (folder / "link").symlink_to("plain.txt")
    (folder / "empty").mkdir()
    pieces = [piece async for piece in any_provider.pack(one, 60)]
    assert max(map(len, pieces)) <= 1_000_000
    raw = b"".join(pieces)
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        assert "./a/b/random" in archive.getnames()
    await any_provider.unpack(other, _archive(raw), 60)
    filled = server.folder(name_in(other))
    assert {path: (filled / path).read_bytes() for path in files} == files
    assert (filled / "run").stat().st_mode & 0o777 == 0o755
    assert (filled / "link").is_symlink()
    assert (filled / "empty").is_dir()
    assert not server.temporary(name_in(one))
    assert not server.temporary(name_in(other))


async def test_an_interrupted_pack_or_unpack_leaves_no_temporary_file(
    provider: RemoteProvider, server: SandboxServer
) -> None:
    handle = await provider.create(BASE)
    (server.folder(name_in(handle)) / "zeros").write_bytes(bytes(3_000_000))
    pieces = provider.pack(handle, 60)
    async for _ in pieces:
        break
    await pieces.aclose()  # type: ignore[attr-defined]
    with pytest.raises(SandboxFailed):
        await provider.unpack(handle, _archive(b"this is no archive" * 100), 60)

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await provider.unpack(handle, broken(), 60)
    await provider.stop()
    server.faults["call_tool"] = ["", "half"]
    with pytest.raises(SandboxUnavailable):
        await provider.unpack(handle, _archive(bytes(10)), 60)
    await provider.stop()
    assert not server.temporary(name_in(handle))
    await provider.destroy(handle)
    with pytest.raises(SandboxLost):
        await anext(provider.pack(handle, 60))


@pytest.mark.parametrize("outputs", [["²"], ["9" * 5_000], ["10", base64.b64encode(bytes(1_000_001)).decode()]])
async def test_invalid_output_while_packing_is_an_error(
    provider: RemoteProvider, monkeypatch: pytest.MonkeyPatch, outputs: list[str]
) -> None:
    handle = await provider.create(BASE)

    async def next_output(*_: object) -> str:
        return outputs.pop(0)

    monkeypatch.setattr(provider, "_run_checked", next_output)
    with pytest.raises(SandboxFailed):
        async for _ in provider.pack(handle, 60):
            pass
