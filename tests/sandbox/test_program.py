"""The archive in which the box is shipped to a sandbox."""

import ast
import importlib.util
import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentstore.sandbox import box
from agentstore.sandbox.program import build_archive
from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider
from agentstore.schemas.sandbox import SandboxSpec

# Imported when the first cell is run, from the packages of the sandbox's Python.
KERNEL_PACKAGES = {"ipykernel", "jupyter_client", "zmq"}


@pytest.fixture
def fresh_archive() -> Iterator[None]:
    build_archive.cache_clear()
    yield
    build_archive.cache_clear()


async def run_command(command: str) -> str | None:
    provider = UnsafeSubprocessProvider()
    try:
        handle = await provider.create(SandboxSpec("test"))
        return (await provider.exec(handle, "run_shell_command", {"command": command}, 20)).part("stdout")
    finally:
        await provider.stop()


@pytest.mark.parametrize("file", sorted(Path(box.__path__[0]).glob("*.py")), ids=lambda file: file.name)
def test_box_imports_only_the_standard_library_and_itself(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1
        for name in names:
            assert name.partition(".")[0] in sys.stdlib_module_names | KERNEL_PACKAGES


@pytest.mark.usefixtures("fresh_archive")
def test_archive_is_reproducible() -> None:
    first = build_archive()
    build_archive.cache_clear()
    assert build_archive() == first


def test_archive_has_source_and_bytecode_of_every_module() -> None:
    names = set(zipfile.ZipFile(io.BytesIO(build_archive())).namelist())
    sources = {f"agentstore_box/{file.name}" for file in Path(box.__path__[0]).glob("*.py")} | {"__main__.py"}
    assert names == sources | {f"{name}c" for name in sources}


async def test_box_runs_from_bytecode(monkeypatch: pytest.MonkeyPatch, fresh_archive: None) -> None:
    source = zipfile.ZipFile.writestr

    def write_broken_sources(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
        source(archive, info, b"1 +" if info.filename.endswith(".py") else data)

    monkeypatch.setattr(zipfile.ZipFile, "writestr", write_broken_sources)
    assert await run_command("echo works") == "works\n"


async def test_box_runs_from_source_in_another_version(monkeypatch: pytest.MonkeyPatch, fresh_archive: None) -> None:
    monkeypatch.setattr(importlib.util, "MAGIC_NUMBER", b"\x00\x00\r\n")
    assert await run_command("echo works") == "works\n"
