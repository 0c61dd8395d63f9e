"""Upgrades of a database that is in use, and upgrades that are interrupted."""

import asyncio
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from agentstore import AgentStore, Conflict, NotConfigured, Settings, Unavailable, migrate
from agentstore.migrating import locking, revisions, steps
from agentstore.migrating.locking import exclusive_connection
from agentstore.repositories.connect import open_database
from tests.migrations.test_revisions import _columns, _load, catalog, checksums
from tests.support.cli import run
from tests.support.psql import pg_dump, psql
from tests.support.servers import Server

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[2]
# An append as every release executes it.
_APPEND = """
WITH head AS (
    UPDATE agentstore.sessions SET next_seq = next_seq + 1 WHERE user_id = 'alice' AND id = 's'
    RETURNING next_seq - 1 AS seq
)
INSERT INTO agentstore.messages (user_id, session_id, seq, id, payload) SELECT 'alice', 's', seq, 'n' || seq, '{}'
FROM head
"""
_LATER_MIGRATIONS = {
    "9001_size.py": """
        op.add_column("messages", sa.Column("size", sa.BigInteger(), nullable=True))
    """,
    "9002_backfill.py": """
        backfill(
            "messages", "size = octet_length(payload::text)", "size IS NULL",
            key=["user_id", "session_id", "seq"], batch=50,
        )
    """,
    "9003_index.py": """
        create_index("messages_size_idx", "messages", ["user_id", "size"])
    """,
}


@pytest.fixture
def later_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the migrations, with three of a later release: a column, its backfill and its index."""
    folder = tmp_path / "migrations"
    shutil.copytree(_ROOT / "migrations", folder, ignore=shutil.ignore_patterns("__pycache__"))
    before = migrate.head()
    for name, body in _LATER_MIGRATIONS.items():
        (folder / "versions" / name).write_text(
            f'"""A migration of a later release."""\nimport sqlalchemy as sa\nfrom alembic import op\n'
            f"from agentstore.migrating.steps import backfill, create_index\n"
            f'revision = "{name[:4]}"\ndown_revision = "{before}"\nphase = "pre"\ndef upgrade():{body}'
        )
        before = name[:4]
    monkeypatch.setattr(revisions, "folder", lambda: folder)
    return folder


# While databases are upgraded, scripts are rendered in the same event loop, in a callback of the upgrade, in a thread
# and in another event loop. Arguments: the URLs of an empty database and of one at revision 0001.
_SCRIPTS_BESIDE_UPGRADES = """
import asyncio, sys
from agentstore import migrate

def scripts():
    return migrate.sql(), migrate.sql(vectors=True), migrate.sql(f"{migrate.head()}:base", downgrade=True)

async def main(empty, first):
    alone, planned = scripts(), await migrate.plan(first)
    rendered = []

    def report(line):
        rendered.append(("in a callback", scripts()))

    async def other_loop():
        while not upgrading.done():
            rendered.append(("in another loop", await asyncio.to_thread(asyncio.run, migrate.plan(first))))
            rendered.append(("in a thread", await asyncio.to_thread(scripts)))

    async def same_loop():
        for turn in range(1_000_000):
            await asyncio.sleep(0)
            if upgrading.done():
                break
            if turn % 10 == 0:
                rendered.append(("in the loop", scripts()))
                rendered.append(("plan in the loop", await migrate.plan(first)))

    upgrading = asyncio.create_task(migrate.upgrade(empty, report=report))
    await asyncio.gather(upgrading, same_loop(), other_loop())
    assert all(each == (planned if isinstance(each, list) else alone) for _, each in rendered), "other scripts"
    await asyncio.gather(migrate.upgrade(first), migrate.plan(empty), migrate.plan(first))
    await migrate.downgrade(first, "0001", lose_data=True)
    print(*sorted({where for where, _ in rendered}), sep=", ")

asyncio.run(main(*sys.argv[1:]))
"""


def test_scripts_are_rendered_while_an_upgrade_runs(empty_url: str, direct_url: str, server: Server) -> None:
    """In a process of its own, which a deadlock would stop."""
    name = f"agentstore_test_{uuid4().hex[:8]}"
    asyncio.run(server.execute(f'CREATE DATABASE "{name}"'))
    try:
        asyncio.run(_load(server.url_of(name), "0001"))
        command = [sys.executable, "-c", _SCRIPTS_BESIDE_UPGRADES, empty_url, server.url_of(name)]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "in a callback, in a thread, in another loop, in the loop, plan in the loop\n"
        assert asyncio.run(catalog(empty_url)) == asyncio.run(catalog(direct_url))
    finally:
        asyncio.run(server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.mark.parametrize(
    ("revision", "upgrades", "starts"),
    [
        *((None, 6, 0), ("0001", 6, 0), ("0001", 5, 5)),
        *(pytest.param(*each, marks=pytest.mark.chaos) for each in ((None, 20, 0), ("0001", 20, 0), ("0001", 10, 10))),
    ],
)
def test_processes_upgrade_and_start_at_once_and_all_succeed(
    empty_url: str, direct_url: str, revision: str | None, upgrades: int, starts: int
) -> None:
    if revision is not None:
        asyncio.run(_load(empty_url, revision))
    columns = asyncio.run(_columns(empty_url))
    before = asyncio.run(checksums(empty_url, columns)) if starts == 0 else None
    command = [sys.executable, "-m", "tests.support.forks", str(upgrades), str(starts), empty_url]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert asyncio.run(_fetch(empty_url, "SELECT version_num FROM agentstore.agentstore_version")) == [
        (migrate.head(),)
    ]
    assert asyncio.run(catalog(empty_url)) == asyncio.run(catalog(direct_url))
    if before is not None:
        assert asyncio.run(checksums(empty_url, columns)) == before


async def _fetch(url: str, sql: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql)
    finally:
        await connection.close()


@pytest.mark.parametrize("step", [61, pytest.param(1, marks=pytest.mark.chaos)])
def test_an_upgrade_that_is_killed_at_any_message_is_resumed(server: Server, later_migrations: Path, step: int) -> None:
    template = f"agentstore_test_{uuid4().hex[:8]}"
    asyncio.run(server.execute(f'CREATE DATABASE "{template}"'))
    names = [template]
    try:
        asyncio.run(_load(server.url_of(template), "0001"))
        columns = asyncio.run(_columns(server.url_of(template)))
        before = asyncio.run(checksums(server.url_of(template), columns))
        url = server.url_of("{}").replace("%7B%7D", "{}")
        command = [sys.executable, "-m", "tests.support.killed", str(later_migrations), template, url, "3", str(step)]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=600, check=False)
        names += done.stdout.split()
        assert done.returncode == 0, done.stderr
        assert len(names) > 100 // step
        complete = asyncio.run(catalog(server.url_of(names[-1])))  # of the upgrade that was not killed
        for name in names[1:]:
            assert asyncio.run(catalog(server.url_of(name))) == complete
            assert asyncio.run(checksums(server.url_of(name), columns)) == before
            sizes = "SELECT count(*) FROM agentstore.messages WHERE size IS DISTINCT FROM octet_length(payload::text)"
            assert asyncio.run(_fetch(server.url_of(name), sizes)) == [(0,)]
            version = "SELECT version_num FROM agentstore.agentstore_version"
            assert asyncio.run(_fetch(server.url_of(name), version)) == [("9003",)]
    finally:
        for name in names:
            asyncio.run(server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


@pytest.mark.parametrize("seconds", [5, pytest.param(30, marks=pytest.mark.chaos)])
async def test_no_append_waits_long_while_an_upgrade_waits_for_a_lock(empty_url: str, seconds: int) -> None:
    """A reader that stays in its transaction, about 50 appends a second, and repeated runs of pg_dump."""
    # By migrations, not from a dump: pg_dump locks tables in the order of their creation, and so do migrations. With
    # tables created in another order, one of both may be the victim of a deadlock.
    await migrate.upgrade(empty_url, "0003")
    await asyncio.to_thread(
        psql,
        empty_url,
        "INSERT INTO agentstore.users (id) VALUES ('alice');"
        "INSERT INTO agentstore.sessions (user_id, id, metadata) VALUES ('alice', 's', '{}');",
    )
    reports: list[str] = []
    waits: list[float] = []
    delays: list[float] = []  # of statements that need no lock: how busy the machine is
    writers = 5
    reader_left = done = False

    async def append(name: int) -> None:
        connection = await asyncpg.connect(empty_url, server_settings={"application_name": f"writer {name}"})
        while not done:
            for statement, durations in ((_APPEND, waits), ("SELECT 1", delays)):
                began = time.monotonic()
                await connection.execute(statement)
                durations.append(time.monotonic() - began)
            await asyncio.sleep(0.1)
        await connection.close()

    async def dump() -> None:
        while not done:
            await asyncio.to_thread(pg_dump, empty_url, beside_upgrade=True)

    async def upgrade() -> None:
        nonlocal done
        await migrate.upgrade(empty_url, report=reports.append)
        assert reader_left
        done = True

    reader = await asyncpg.connect(empty_url, server_settings={"application_name": "the reader"})
    await reader.execute("BEGIN; SELECT count(*) FROM agentstore.sessions")

    async def leave() -> None:
        nonlocal reader_left
        await asyncio.sleep(seconds)
        reader_left = True
        await reader.execute("COMMIT")
        await reader.close()

    began = time.monotonic()
    await asyncio.gather(upgrade(), leave(), dump(), *(append(name) for name in range(writers)))
    elapsed = time.monotonic() - began
    # The promise: no statement queues for longer than the migration waits for its lock.
    assert max(waits) < locking._LONGEST_LOCK_TIMEOUT + 1 + 10 * max(delays)
    assert sum(waits) < 0.6 * writers * elapsed
    assert any("'the reader'" in line for line in reports), reports
    ((count,),) = await _fetch(empty_url, "SELECT count(*) FROM agentstore.messages WHERE id LIKE 'n%'")
    assert count == len(waits)


async def test_the_wait_for_another_migrator_is_reported_and_bounded(empty_url: str) -> None:
    reports: list[str] = []
    other = open_database(empty_url)
    async with exclusive_connection(other, time.monotonic() + 60, print):
        with pytest.raises(Unavailable, match=r"Timed out waiting .*: process \d+ .* connected at \d\d:\d\d:\d\d"):
            await migrate.upgrade(empty_url, wait=0.3, report=reports.append)
        assert len(reports) == 1
        assert "another process is migrating: process " in reports[0]
    await migrate.upgrade(empty_url)
    await other.stop()


async def test_the_wait_for_locks_is_bounded_and_changes_nothing(empty_url: str) -> None:
    await _load(empty_url, "0004")
    before = await catalog(empty_url)
    reader = await asyncpg.connect(empty_url)
    await reader.execute("BEGIN; SELECT count(*) FROM agentstore.sessions")
    with pytest.raises(Unavailable, match="lock timeout"):
        await migrate.upgrade(empty_url, wait=1)
    await reader.close()
    assert await catalog(empty_url) == before
    await migrate.upgrade(empty_url)


_HELD = {
    "a snapshot of another transaction": "BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE TABLE public.theirs (i int)",
    "a row of the table": "BEGIN; UPDATE agentstore.sessions SET title = title",
}


@pytest.mark.parametrize("held", _HELD)
async def test_the_wait_of_an_index_build_is_reported_and_bounded(empty_url: str, held: str) -> None:
    await _load(empty_url, "0006")
    holder = await asyncpg.connect(empty_url, server_settings={"application_name": "their job"})
    await holder.execute(_HELD[held])
    reports: list[str] = []
    upgrading = asyncio.create_task(migrate.upgrade(empty_url, wait=3, report=reports.append))
    with pytest.raises(Unavailable, match=r"waiting for process \d+ 'their job', idle in transaction since .*--wait"):
        await asyncio.wait_for(upgrading, 120)
    assert any("waiting for process" in line and "CREATE INDEX CONCURRENTLY" in line for line in reports), reports
    database = open_database(empty_url)
    assert (await migrate.status(database)).current == "0006"
    # A wait that ends in time does not fail.
    upgrading = asyncio.create_task(migrate.upgrade(database, wait=600, report=reports.append))
    reports.clear()
    async with asyncio.timeout(120):
        while not any("waiting for process" in line for line in reports):
            await asyncio.sleep(0.05)
    await holder.execute("ROLLBACK")
    await upgrading
    assert (await migrate.status(database)).state == "at head"
    await holder.close()
    await database.stop()


# The view has the indexes that are created in other databases as well.
_INDEXING = "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database()"


async def test_the_transactions_of_other_databases_are_not_reported_as_blockers(
    server: Server, database_url: str, direct_url: str, template: str
) -> None:
    """A copy of a database has tables with the same oids."""
    name = f"{template}_copy"
    await server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    other = await asyncpg.connect(server.url_of(name))
    await other.execute("BEGIN; LOCK TABLE agentstore.sessions")
    database = open_database(direct_url)
    assert await locking._longest_holder(database) == "it has been released since"
    holder = await asyncpg.connect(direct_url)
    await holder.execute("BEGIN; LOCK TABLE agentstore.messages")
    assert "messages" in await locking._longest_holder(database)
    for each in (other, holder):
        await each.close()
    await database.stop()
    await server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


async def test_an_invalid_index_is_found_and_rebuilt(empty_url: str, direct_url: str) -> None:
    await _load(empty_url, "0006")
    database = open_database(empty_url)
    holder = await asyncpg.connect(empty_url)
    await holder.execute("BEGIN; UPDATE agentstore.sessions SET title = 'x'")
    upgrading = asyncio.create_task(migrate.upgrade(empty_url))
    observer = await asyncpg.connect(empty_url)
    async with asyncio.timeout(60):
        while not (rows := await observer.fetch(_INDEXING)):
            await asyncio.sleep(0.01)
    await observer.fetch("SELECT pg_terminate_backend($1)", rows[0][0])
    with pytest.raises(Unavailable):
        await upgrading
    await holder.execute("COMMIT")
    found = await migrate.status(database)
    assert (found.current, found.invalid_indexes) == ("0006", ("sessions_ttl_idx",))
    checked = await asyncio.to_thread(run, "check", "--url", empty_url)
    assert (checked.code, "sessions_ttl_idx is INVALID" in checked.err) == (3, True)
    await migrate.upgrade(empty_url)
    assert (await migrate.status(database)).invalid_indexes == ()
    assert await catalog(empty_url) == await catalog(direct_url)
    await observer.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'agentstore.sessions_ttl_idx'::regclass"
    )
    assert (await asyncio.to_thread(run, "check", "--url", empty_url)).code == 5
    for each in (holder, observer):
        await each.close()
    await database.stop()


async def test_each_migration_as_sql_has_the_same_result_in_psql(
    empty_url: str, direct_url: str, server: Server
) -> None:
    revisions = [None, *(revision.id for revision in reversed(migrate.history()))]
    for before, after in pairwise(revisions):
        await asyncio.to_thread(psql, empty_url, migrate.sql(f"{before or 'base'}:{after}"))
        database = open_database(empty_url)
        assert (await migrate.status(database)).current == after
        await database.stop()
    assert await catalog(empty_url) == await catalog(direct_url)
    for after, before in pairwise(revisions[::-1]):
        sql = migrate.sql(f"{after}:{before or 'base'}", downgrade=True)
        await asyncio.to_thread(psql, empty_url, sql)
    assert await _columns(empty_url) == {}


async def test_other_tasks_run_during_the_pauses_of_a_backfill(
    empty_url: str, later_migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _load(empty_url, "0009")
    await migrate.upgrade(empty_url, "9001")
    turns = {}
    for ratio in (0.0, 100.0):  # of the pauses to the batches
        monkeypatch.setattr(steps, "_PAUSE_RATIO", ratio)
        await _fetch(empty_url, "UPDATE agentstore.messages SET size = NULL")
        await migrate.stamp(empty_url, "9001")
        upgrading = asyncio.create_task(migrate.upgrade(empty_url, "9002"))
        turns[ratio] = 0
        while not upgrading.done():
            await asyncio.sleep(0.001)
            turns[ratio] += 1
        await upgrading
    assert turns[100.0] > 3 * turns[0.0]


async def test_a_backfill_as_sql_has_the_same_result_in_psql(empty_url: str, later_migrations: Path) -> None:
    await _load(empty_url, "0009")
    await asyncio.to_thread(psql, empty_url, migrate.sql("0009:9003"))
    ((rows, wrong),) = await _fetch(
        empty_url,
        "SELECT count(*), count(*) FILTER (WHERE size IS DISTINCT FROM octet_length(payload::text))"
        " FROM agentstore.messages",
    )
    assert (rows, wrong) == (230, 0)


async def test_pre_migrations_run_before_the_rollout_and_post_migrations_after_it(
    empty_url: str, later_migrations: Path
) -> None:
    (later_migrations / "versions" / "9004_after.py").write_text(
        '"""A migration for after the rollout."""\nrevision = "9004"\ndown_revision = "9003"\nphase = "post"\n'
        "def upgrade(): pass\n"
    )
    await _load(empty_url, "0003")
    database = open_database(empty_url)
    await migrate.upgrade(database, "pre", run_earlier_post=True)
    found = await migrate.status(database)
    assert (found.current, found.state) == (migrate.needed(), "post pending")
    for mode in ("check", "upgrade"):  # neither start runs a post migration
        async with AgentStore(empty_url, settings=Settings(auto_migrate=mode)) as store:
            assert await store.health()
    assert (await migrate.status(database)).state == "post pending"
    assert (await asyncio.to_thread(run, "check", "--url", empty_url)).code == 6
    await migrate.upgrade(database)
    assert (await migrate.status(database)).state == "at head"
    await migrate.upgrade(database, "pre")  # nothing to do
    assert (await migrate.status(database)).state == "at head"
    await database.stop()


def _add_releases(folder: Path) -> None:
    """Add two releases to the later migrations: 9005 (post) and 9006, then 9007 (post) and 9008."""
    before = "9003"
    for number, phase in ((9005, "post"), (9006, "pre"), (9007, "post"), (9008, "pre")):
        (folder / "versions" / f"{number}_later.py").write_text(
            f'"""A migration of a later release."""\nrevision = "{number}"\ndown_revision = "{before}"\n'
            f'phase = "{phase}"\ndef upgrade(): pass\ndef downgrade(): pass\n'
        )
        before = str(number)


async def test_pre_refuses_what_an_earlier_release_has_left_for_after_its_rollout(
    empty_url: str, later_migrations: Path
) -> None:
    """An upgrade over several releases; not at start, which upgrades without being asked."""
    _add_releases(later_migrations)
    database = open_database(empty_url)
    await _load(empty_url, "0009")
    for refused in (
        migrate.upgrade(database, "pre"),
        migrate.upgrade(database, "pre", wait=5.0),
    ):
        with pytest.raises(Conflict, match=r"9005, 9007\. When no replica .*upgrade pre --run-earlier-post"):
            await refused
    assert (await migrate.status(database)).current == "0009"
    # A revision that is named is reached; what is left is refused again.
    await migrate.upgrade(database, "9006")
    with pytest.raises(Conflict, match=r": 9007\."):
        await migrate.upgrade(database, "pre")
    await migrate.upgrade(database, "pre", run_earlier_post=True)
    assert (await migrate.status(database)).current == "9008"
    await migrate.upgrade(database, "pre")  # nothing to do
    await migrate.stamp(database, "9001")
    async with AgentStore(empty_url, settings=Settings(auto_migrate="upgrade")):
        assert (await migrate.status(database)).current == "9008"
    await database.stop()


async def test_an_interrupted_first_upgrade_is_resumed_by_pre(empty_url: str, later_migrations: Path) -> None:
    _add_releases(later_migrations)
    await migrate.upgrade(empty_url, "0005")
    await migrate.upgrade(empty_url, "pre")
    assert await _fetch(empty_url, "SELECT version_num FROM agentstore.agentstore_version") == [("9008",)]


async def test_a_stamp_records_the_revision_and_changes_nothing_else(empty_url: str) -> None:
    await migrate.upgrade(empty_url)
    before = await catalog(empty_url)
    await migrate.stamp(empty_url, "0002")
    assert await _fetch(empty_url, "SELECT version_num FROM agentstore.agentstore_version") == [("0002",)]
    assert (await asyncio.to_thread(run, "stamp", "head", "--url", empty_url)).code == 0
    assert await catalog(empty_url) == before
    assert (await asyncio.to_thread(run, "check", "--url", empty_url)).code == 0
    with pytest.raises(NotConfigured):
        await migrate.stamp(empty_url, "nonsense")
    assert await catalog(empty_url) == before
