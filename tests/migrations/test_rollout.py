"""A rolling deployment: two releases run side by side, restart at any time, and are rolled back and forward again.

The later release is a copy of this one with three more migrations. Each replica first runs ``agentstore upgrade pre``,
as an init container, and then an application that writes and reads without a pause.
"""

import asyncio
import json
import os
import random
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from agentstore import AgentStore, migrate

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[2]
_WRITER = _ROOT / "tests" / "previous" / "writer.py"
_MIGRATIONS = {
    "9001_rollout": ("pre", 'op.add_column("messages", sa.Column("rollout", sa.BigInteger(), nullable=True))'),
    "9002_index": ("pre", 'create_index("messages_rollout_idx", "messages", ["user_id", "rollout"])'),
    "9003_check": (
        "post",
        'op.create_check_constraint("messages_rollout_check", "messages", "rollout IS NULL OR rollout > 0")',
    ),
}
_DOWNGRADES = {
    "9001_rollout": 'op.drop_column("messages", "rollout")',
    "9002_index": 'op.drop_index("messages_rollout_idx", "messages")',
    "9003_check": 'op.drop_constraint("messages_rollout_check", "messages")',
}

# What they add to the expected schema, as in migrations/catalog.json.
_CATALOG = [
    ("9001", None, "column", "messages", "rollout", "bigint"),
    ("9002", None, "index", "messages", "messages_rollout_idx", "USING btree (user_id, rollout)"),
    ("9003", None, "constraint", "messages", "messages_rollout_check", "CHECK (((rollout IS NULL) OR (rollout > 0)))"),
]


@pytest.fixture
def later_release(tmp_path: Path) -> Path:
    """A folder with the code of this release, and with migrations of which one waits until its rollout is complete."""
    folder = tmp_path / "later"
    for name in ("agentstore", "migrations"):
        shutil.copytree(_ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    before = migrate.head()
    for name, (phase, upgrade) in _MIGRATIONS.items():
        (folder / "migrations" / "versions" / f"{name}.py").write_text(
            f'"""A migration of a later release."""\nimport sqlalchemy as sa\nfrom alembic import op\n'
            f'from agentstore.migrating.steps import create_index\nrevision = "{name[:4]}"\n'
            f'down_revision = "{before}"\nphase = "{phase}"\n'
            f"def upgrade():\n    {upgrade}\ndef downgrade():\n    {_DOWNGRADES[name]}\n"
        )
        before = name[:4]
    catalog = folder / "migrations" / "catalog.json"
    expected = json.loads(catalog.read_text())
    expected[""] += _CATALOG
    catalog.write_text(json.dumps(expected))
    return folder


async def _start(release: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        cwd=release,
        env={**os.environ, "PYTHONPATH": str(release)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def _command(release: Path, *arguments: str, code: int = 0) -> None:
    """Run ``agentstore`` of a release, and check its exit code."""
    process = await _start(release, "-m", "agentstore", *arguments)
    output = b"".join(await process.communicate())
    assert process.returncode == code, output.decode()


class _Replica:
    """A replica: its init container and its application, of the release that it was started with."""

    def __init__(self, name: str, url: str) -> None:
        self._name, self._url = name, url
        self._starts = 0
        self.acknowledged: dict[str, int] = {}
        self.release = Path()

    async def start(self, release: Path) -> None:
        """Run the init container, then the application until it has written and read once."""
        self.release = release
        await _command(release, "upgrade", "pre", "--url", self._url)
        self._starts += 1
        name = f"{self._name}.{self._starts}"
        self._process = await _start(release, str(_WRITER), self._url, name)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._errors = asyncio.create_task(self._process.stderr.read())
        assert (await self._process.stdout.readline()).endswith(b"\n"), (await self._errors).decode()
        self._written = asyncio.create_task(self._process.stdout.read())
        self._current = name

    async def stop(self, *, kill: bool) -> None:
        """End the application, by SIGKILL or by the request to end; it must have been working until then."""
        process = self._process
        assert process.stdin is not None
        assert process.returncode is None, (await self._errors).decode()
        if kill:
            process.kill()
        else:
            process.stdin.write(b"\n")
            process.stdin.close()
        lines, errors = await self._written, await self._errors
        assert await process.wait() == (-9 if kill else 0), errors.decode()
        assert b"Traceback" not in errors
        self.acknowledged[self._current] = 1 + lines.count(b"\n")

    async def restart(self, release: Path | None = None, *, kill: bool) -> None:
        """Stop, and start with a release, by default with the same one."""
        await self.stop(kill=kill)
        await self.start(release or self.release)

    def abandon(self) -> None:
        """Kill the application after a failure."""
        if self._starts and self._process.returncode is None:
            self._process.kill()


@asynccontextmanager
async def _replicas(number: int, url: str) -> AsyncIterator[list[_Replica]]:
    replicas = [_Replica(f"r{index}", url) for index in range(number)]
    try:
        yield replicas
    finally:
        for each in replicas:
            each.abandon()


@pytest.mark.chaos
@pytest.mark.parametrize(("number", "restarts", "seed"), [(2, 1, 0), (3, 3, 1), (3, 3, 2)])
async def test_releases_side_by_side_restart_and_are_rolled_back_without_a_failure(
    empty_url: str, later_release: Path, number: int, restarts: int, seed: int
) -> None:
    rng = random.Random(seed)

    async def roll(release: Path) -> None:
        """Replace one replica after the other, while others restart."""
        for each in rng.sample(replicas, number):
            await each.restart(release, kill=rng.random() < 0.5)
            if restarts > 1:
                others = rng.sample(replicas, rng.randrange(restarts))
                await asyncio.gather(*(other.restart(kill=rng.random() < 0.5) for other in others))
        await asyncio.gather(*(each.restart(kill=True) for each in rng.sample(replicas, 1)))

    async with _replicas(number, empty_url) as replicas:
        await _command(_ROOT, "upgrade", "pre", "--url", empty_url)
        async with AgentStore(empty_url) as store:
            await store.sessions.create_session("alice", "s")
        await asyncio.gather(*(each.start(_ROOT) for each in replicas))
        await _command(later_release, "check", "--url", empty_url, code=3)
        await roll(later_release)
        for release, code in ((_ROOT, 4), (later_release, 6)):
            await _command(release, "check", "--url", empty_url, code=code)
        await roll(_ROOT)
        await roll(later_release)
        await _command(later_release, "upgrade", "--url", empty_url)  # no replica of the earlier release is left
        await _command(later_release, "check", "--url", empty_url)
        if restarts > 1:
            # Back again, after the last migrations: their downgrade comes first.
            await _command(later_release, "downgrade", "9002", "--url", empty_url)
            await roll(_ROOT)
            await roll(later_release)
        await asyncio.gather(*(each.stop(kill=False) for each in replicas))

    connection = await asyncpg.connect(empty_url)
    rows = await connection.fetch("SELECT seq, id FROM agentstore.messages ORDER BY seq")
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    memories = {row[0] for row in await connection.fetch("SELECT id FROM agentstore.memories")}
    stored = {row[1] for row in rows} & memories
    for each in replicas:
        assert len(each.acknowledged) >= 4
        for name, count in each.acknowledged.items():
            assert stored.issuperset(f"{name}-{message}" for message in range(count))
    await connection.close()
