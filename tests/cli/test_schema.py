"""The commands that run and describe migrations: output and exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agentstore import __version__, migrate
from tests.support.cli import run
from tests.support.psql import psql


def test_upgrade_and_downgrade_change_the_exit_code_of_check(empty_url: str) -> None:
    url = {"AGENTSTORE_DATABASE_URL": empty_url}
    head = migrate.head()
    assert run("check", environment=url).code == 3
    assert "agentstore upgrade" in run("check", environment=url).out
    assert run("upgrade", environment=url).code == 0
    assert json.loads(run("current", "--json", environment=url).out) == {
        "current": head,
        "head": head,
        "state": "at head",
        "invalid_indexes": [],
    }
    assert run("check", environment=url).code == 0
    assert run("plan", environment=url).out == "nothing to do\n"
    assert run("downgrade", "-1", environment=url).code == 0
    assert run("check", environment=url).code == (3 if migrate.needed() == head else 6)
    assert json.loads(run("upgrade", "+1", "--json", environment=url).out)["to"] == head
    assert json.loads(run("downgrade", "base", "--json", environment=url).out) == {"from": head, "to": None}


def test_plan_prints_locks_and_sizes_and_upgrade_its_steps(empty_url: str) -> None:
    url = {"AGENTSTORE_DATABASE_URL": empty_url}
    planned = run("plan", environment=url).out
    assert "0001 (pre): Create users, sessions and messages.\n  CREATE TABLE users" in planned
    run("upgrade", "0008", environment=url)
    planned = run("plan", environment=url).out
    assert "safe in use: SHARE UPDATE EXCLUSIVE on sessions, scan of 0 rows, " in planned
    pending = run("plan", "--json", environment=url).json()
    assert {each["revision"] for each in pending} == {each.id for each in migrate.history() if each.id > "0008"}
    (step,) = [each for each in pending if each["revision"] == "0009"]
    assert step["phase"] == "post"
    assert step["effects"][0]["lock"] == "SHARE UPDATE EXCLUSIVE"
    done = run("upgrade", "--wait", "5", environment=url)
    assert "0009: Require that a time to live" in done.err
    assert run("heads", "--json").json() == {
        "schema": migrate.head(),
        "needed": migrate.needed(),
        "vector": migrate.head("vector"),
    }
    assert run("upgrade", "--wait", "-1", environment=url).code == 2


def test_downgrade_that_loses_data_is_refused(empty_url: str) -> None:
    url = {"AGENTSTORE_DATABASE_URL": empty_url}
    run("upgrade", environment=url)
    run("import", "-", "--user", "alice", environment=url, stdin=b'{"messages": [{"role": "user", "content": "hi"}]}')
    done = run("downgrade", "base", environment=url)
    assert (done.code, "would lose data: " in done.err, "1 rows of users" in done.err) == (1, True, True)
    assert run("check", environment=url).code == 0
    assert run("downgrade", "base", "--lose-data", "--yes", environment=url).code == 0


def test_history_and_sql_need_no_database() -> None:
    assert json.loads(run("history", "--json").out)[-1]["previous"] is None
    sql = run("sql", environment={"AGENTSTORE_SCHEMA": "other"}).out
    assert 'CREATE SCHEMA IF NOT EXISTS "other"' in sql
    assert "CREATE TABLE messages" in sql


@pytest.mark.parametrize(
    "command", [[sys.executable, "-m", "agentstore"], [f"{Path(sys.executable).parent}/agentstore"]]
)
def test_version_is_printed(command: list[str]) -> None:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "environment", "code"),
    [
        (("current", "--url", "postgresql://u:hunter2@127.0.0.1:1/x"), {}, 1),
        (("current", "--url", "mysql://u:hunter2@h/x"), {}, 1),
        (("current",), {"AGENTSTORE_DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x"}, 1),
        (("current",), {"AGENTSTORE_POOL_SIZE": "hunter2"}, 1),
        (("upgrade", "--ulr=postgresql://u:hunter2@127.0.0.1:1/x"), {}, 2),
        (("nonsense",), {}, 2),
        (("downgrade",), {}, 2),
    ],
)
def test_errors_do_not_contain_secrets(arguments: tuple[str, ...], environment: dict[str, str], code: int) -> None:
    done = run(*arguments, environment=environment)
    assert done.code == code
    assert done.err
    assert "Traceback" not in done.err
    assert "hunter2" not in done.out + done.err


@pytest.mark.parametrize("command", ["upgrade", "plan", "downgrade", "stamp"])
def test_a_revision_that_does_not_exist_is_a_usage_error(empty_url: str, command: str) -> None:
    for revision in ("nonsense", "9999", "nonsense+1"):
        done = run(command, revision, "--url", empty_url)
        assert done.code == 2
        assert revision in done.err


def test_a_newer_schema_is_left_unchanged(direct_url: str) -> None:
    psql(direct_url, "UPDATE agentstore.agentstore_version SET version_num = '9999';")
    for arguments in (("upgrade",), ("upgrade", "pre"), ("upgrade", "+1"), ("plan",), ("plan", "pre")):
        done = run(*arguments, "--url", direct_url)
        assert (done.code, done.out) == (0, "9999: newer than this release; nothing to do\n")
    done = run("check", "--url", direct_url)
    assert (done.code, done.out) == (4, "9999: newer than this release; nothing to do\n")
    done = run("downgrade", "-1", "--url", direct_url)
    assert (done.code, "newer than this release" in done.err) == (4, True)


def test_plan_says_which_migrations_of_an_earlier_release_had_to_wait(empty_url: str) -> None:
    url = {"AGENTSTORE_DATABASE_URL": empty_url}
    run("upgrade", "0008", environment=url)
    line = (
        "0009: to be run when no replica of the release before the one that added it is left; `upgrade pre` needs "
        "--run-earlier-post\n"
    )
    assert run("plan", "pre", environment=url).out.startswith(line)
    assert line not in run("plan", environment=url).out
    assert run("upgrade", "pre", environment=url).code == 0  # nothing is stored yet
    run("downgrade", "0008", environment=url)
    psql(empty_url, "INSERT INTO agentstore.users (id) VALUES ('alice');")
    done = run("upgrade", "pre", environment=url)
    assert (done.code, "0009. When no replica" in done.err) == (1, True)
    assert run("current", environment=url).out.startswith("0008 ")
    assert run("upgrade", "pre", "--run-earlier-post", environment=url).code == 0
    run("downgrade", "0009", environment=url)
    assert "0009" not in run("plan", "pre", environment=url).out
