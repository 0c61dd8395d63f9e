"""The previous release, as it was, on the schema of this one: it and this one write the same session meanwhile."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

from agentstore import migrate
from tests.migrations.test_revisions import _load

_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def previous_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the previous release's code."""
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


def _wait(process: "subprocess.Popen[str]") -> None:
    """Wait until a writer writes."""
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline(), process.stderr.read()


def test_old_and_new_code_write_one_session_while_it_is_upgraded(empty_url: str, previous_release: Path) -> None:
    asyncio.run(_load(empty_url, "0003"))  # the previous release's
    old = [_start(empty_url, f"old{number}", previous_release) for number in range(2)]
    for each in old:
        _wait(each)
    asyncio.run(migrate.upgrade(empty_url, "pre"))
    new = [_start(empty_url, f"new{number}", _HERE.parents[1]) for number in range(2)]
    for each in new:
        _wait(each)
    time.sleep(1)
    acknowledged = {}
    for name, each in zip(("old0", "old1"), old, strict=True):
        said, errors = each.communicate("\n", timeout=60)
        assert each.returncode == 0, errors
        acknowledged[name] = 1 + len(said.splitlines())
    asyncio.run(migrate.upgrade(empty_url))  # the last replica of the release before is gone
    for name, each in zip(("new0", "new1"), new, strict=True):
        said, errors = each.communicate("\n", timeout=60)
        assert each.returncode == 0, errors
        acknowledged[name] = 1 + len(said.splitlines())

    async def look() -> None:
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
            assert count > 20, acknowledged
            for number in range(count):
                assert {f"{name}-{number}"} <= stored & memories
        await connection.close()

    asyncio.run(look())
