"""``agentstore prune``, ``erase`` and ``stats``."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from agentstore import AgentStore
from agentstore.testing import text
from tests.support.cli import run


@pytest.fixture(autouse=True)
def _database(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)

    async def main() -> None:
        async with AgentStore() as store:
            for number in range(3):
                session = await store.sessions.create_session("alice", f"s{number}")
                await store.sessions.append_message(session, [text("apples"), text("pears")])
                await store.memory.add_memory("alice", session.messages, session.id)
                await store.states.save_state("alice", {"n": number}, session.id)
        connection = await asyncpg.connect(direct_url)
        await connection.execute(
            "UPDATE agentstore.sessions SET updated_at = now() - interval '100 days', "
            "listed_at = now() - interval '100 days' WHERE id <> 's2'"
        )
        await connection.close()

    asyncio.run(main())


def test_dry_run_counts_what_prune_deletes() -> None:
    dry = run("prune", "--older-than", "90d", "--dry-run", "--json").json()
    assert (dry["sessions"], dry["messages"], dry["memories"], dry["dry_run"]) == (2, 4, 0, True)
    assert run("prune", "--older-than", "90d", "--keep-last", "2", "--yes", "--json").json()["sessions"] == 1
    done = run("prune", "--older-than", "90d", "--yes")
    assert done.out.startswith("deleted: 1 session, 2 messages, 0 memories, 0 state rounds, 0 workspaces, ")
    assert (
        run("prune", "-y").out == "deleted: 0 sessions, 0 messages, 0 memories, 0 state rounds, 0 workspaces, 0 bytes\n"
    )
    assert len(run("sessions", "list", "alice", "--json").json()["sessions"]) == 1


@pytest.mark.parametrize(
    "command",
    [
        "erase alice --yes",
        "prune --older-than 90d --yes",
        "sessions delete alice s0 --yes",
        "sessions fork alice s0",
        "sessions rewind alice s0 --first 1",
        "memory delete alice --yes",
        "states delete alice s0 --yes",
    ],
)
def test_commands_that_may_change_many_rows_run_without_the_statement_timeout(direct_url: str, command: str) -> None:
    async def slow_down() -> None:
        connection = await asyncpg.connect(direct_url)
        await connection.execute(
            "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$"
        )
        for table in ("messages", "memories", "state_rounds"):
            events = f"INSERT OR UPDATE OR DELETE ON agentstore.{table}"
            await connection.execute(f"CREATE TRIGGER slow AFTER {events} EXECUTE FUNCTION public.slow()")
        await connection.close()

    asyncio.run(slow_down())
    done = run(*command.split(), environment={"AGENTSTORE_STATEMENT_TIMEOUT": "0.1"})
    assert done.code == 0, done.err


def test_prune_needs_confirmation_but_not_for_a_dry_run() -> None:
    for options in ([], ["--older-than", "90d"], ["--json"]):
        refused = run("prune", *options)
        assert refused.code == 2
        assert "--yes" in refused.err
    assert run("prune", "--older-than", "90d", "--dry-run", "--json").json()["sessions"] == 2  # nothing was deleted


def test_the_nightly_job_leaves_nothing_of_pruned_sessions(direct_url: str) -> None:
    job = Path("docs/retention.md").read_text().split("command: [")[1].split("]")[0]
    arguments = [each.strip(' "') for each in job.split(",")]
    assert arguments[:4] == ["agentstore", "prune", "--older-than", "90d"]
    arguments[arguments.index("50")] = "1"

    async def age_and_count() -> tuple[int, ...]:
        connection = await asyncpg.connect(direct_url)
        for table in ("memory_buckets", "state_heads"):
            await connection.execute(f"UPDATE agentstore.{table} SET updated_at = now() - interval '100 days'")
        counts = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM agentstore.sessions), (SELECT count(*) FROM agentstore.memory_buckets), "
            "(SELECT count(*) FROM agentstore.state_heads)"
        )
        await connection.close()
        return tuple(counts or ())

    assert asyncio.run(age_and_count()) == (3, 3, 3)
    assert run(*arguments[1:]).json()["finished"]
    assert asyncio.run(age_and_count()) == (1, 1, 1)


def test_each_kind_may_have_a_number_of_its_own() -> None:
    options = ["--older-than", "0s", "--keep-sessions", "1", "--keep-memories", "3", "--keep-states", "2", "--json"]
    done = run("prune", *options, "--yes").json()
    assert (done["sessions"], done["memories"], done["state_rounds"]) == (2, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("json_", [True, False])
def test_an_interrupted_prune_prints_what_it_deleted(direct_url: str, number: signal.Signals, json_: bool) -> None:
    arguments = ["prune", "--older-than", "90d", "--pause", "9999999w", "--yes", *(["--json"] if json_ else [])]
    process = subprocess.Popen(
        [sys.executable, "-m", "agentstore", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    async def wait_for_the_first_transaction() -> None:
        connection = await asyncpg.connect(direct_url)
        async with asyncio.timeout(120):
            while await connection.fetchval("SELECT count(*) FROM agentstore.sessions") != 1:
                assert process.poll() is None
                await asyncio.sleep(0.02)
        await connection.close()

    try:
        asyncio.run(wait_for_the_first_transaction())
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + number, err
    if json_:
        done = json.loads(out)
        assert (done["sessions"], done["messages"], done["finished"]) == (2, 4, False)
    else:
        assert out.startswith("deleted: 2 sessions, 4 messages, ")
        assert err.startswith("not finished:")


def test_max_time_is_not_a_failure() -> None:
    done = run("prune", "--older-than", "90d", "--max-time", "0s", "--yes")
    assert (done.code, done.out.split(",")[0]) == (0, "deleted: 0 sessions")
    assert "not finished" in done.err
    done = run("prune", "--older-than", "90d", "--max-time", "9999999w", "--pause", "1ms", "--yes", "--json").json()
    assert (done["sessions"], done["finished"]) == (2, True)


def test_nothing_is_printed_as_deleted_if_the_database_is_not_reached() -> None:
    failed = run("prune", "--yes", "--url", "postgresql://127.0.0.1:1/x")
    assert (failed.code, failed.out) == (1, "")


@pytest.mark.parametrize("age", ["90", "d", "-1d", "1y", "1.5d", "99999999d", ""])
def test_invalid_age_is_a_usage_error(age: str) -> None:
    assert run("prune", "--older-than", age).code == 2


@pytest.mark.parametrize("age", ["9999999w", "0s"])
def test_extreme_ages_are_accepted(age: str) -> None:
    assert run("prune", "--older-than", age, "--dry-run").code == 0


def test_erase_counts_what_it_deletes() -> None:
    assert run("erase", "alice").code == 2  # no terminal to confirm
    counts = {
        "users": 1,
        "sessions": 3,
        "messages": 6,
        "memories": 6,
        "state_rounds": 3,
        "workspaces": 0,
        "values": 0,
        "blobs": 0,
        "checkpoints": 0,
    }
    assert run("erase", "alice", "--yes", "--json").json() == counts
    assert "there is no user 'alice'" in run("erase", "alice", "-y").out


def test_stats_are_printed_as_text_and_json() -> None:
    printed = run("stats").out
    assert "1 user, 3 sessions, 6 messages, 6 memories, 3 state rounds" in printed
    for word in ("state_rounds", "alice", "s2"):
        assert word in printed
    stats = run("stats", "--largest", "1", "--json").json()
    assert (stats["messages"], len(stats["largest_users"]), len(stats["largest_sessions"])) == (6, 1, 1)
    assert stats["bytes"] == sum(each["total_bytes"] for each in stats["tables"])
    assert json.dumps(stats)
