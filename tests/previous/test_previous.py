"""The previous release on the schema of this one, while both write to the same session."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from agentstore import migrate
from tests.migrations.test_revisions import _load

_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def previous_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the previous release's code."""
    folder = tmp_path_factory.mktemp("previous")
    subprocess.run(["tar", "-xJf", str(_HERE / "release.tar.xz"), "-C", str(folder)], check=True)
    return folder


def _start(url: str, name: str, code: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(_HERE / "writer.py"), url, name],
        env={**os.environ, "PYTHONPATH": str(code)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _read(process: "subprocess.Popen[str]", count: int) -> int:
    """Wait until a writer has reported `count` more acknowledged messages; return `count`."""
    assert process.stdout is not None
    assert process.stderr is not None
    for _ in range(count):
        assert process.stdout.readline(), process.stderr.read()
    return count


def _stop(process: "subprocess.Popen[str]") -> int:
    """Stop a writer; return how many acknowledged messages it has reported since the last read."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        process.stdin.write("\n")
        process.stdin.flush()
        output, errors = process.stdout.read(), process.stderr.read()
    assert process.returncode == 0, errors
    return len(output.splitlines())


@pytest.mark.slow
def test_old_and_new_code_write_to_one_session_during_an_upgrade(empty_url: str, previous_release: Path) -> None:
    asyncio.run(_load(empty_url, "0003"))  # the previous release's head
    old = {name: _start(empty_url, name, previous_release) for name in ("old0", "old1")}
    acknowledged = {name: _read(process, 1) for name, process in old.items()}
    asyncio.run(migrate.upgrade(empty_url, "pre", run_earlier_post=True))
    new = {name: _start(empty_url, name, _HERE.parents[1]) for name in ("new0", "new1")}
    acknowledged |= {name: _read(process, 1) for name, process in new.items()}
    for name, process in (old | new).items():  # all of them write at the same time
        acknowledged[name] += _read(process, 20)
    for name, process in old.items():
        acknowledged[name] += _stop(process)
    asyncio.run(migrate.upgrade(empty_url))  # no replica of the previous release is left
    for name, process in new.items():
        acknowledged[name] += _stop(process)

    async def check() -> None:
        connection = await asyncpg.connect(empty_url)
        rows = await connection.fetch(
            "SELECT seq, id FROM agentstore.messages WHERE user_id = 'alice' AND session_id = 's' ORDER BY seq"
        )
        assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
        stored = {row[1] for row in rows}
        memories = {
            row[0] for row in await connection.fetch("SELECT id FROM agentstore.memories WHERE user_id = 'alice'")
        }
        for name, count in acknowledged.items():
            assert {f"{name}-{number}" for number in range(count)} <= stored & memories
        await connection.close()

    asyncio.run(check())
