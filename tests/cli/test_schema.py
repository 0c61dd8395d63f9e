"""The command line: what it prints, and its exit codes."""

import json
import subprocess
import sys

import pytest

from agentstore import __version__, migrate


def _run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    import os

    return subprocess.run(
        [sys.executable, "-m", "agentstore", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


def test_the_life_of_a_schema(empty_url: str) -> None:
    url = {"AGENTSTORE_DATABASE_URL": empty_url}
    head = migrate.head()
    assert _run("check", **url).returncode == 3
    assert "agentstore upgrade" in _run("check", **url).stdout
    assert _run("upgrade", **url).returncode == 0
    assert json.loads(_run("current", "--json", **url).stdout) == {"current": head, "head": head, "state": "at head"}
    assert _run("check", **url).returncode == 0
    assert _run("downgrade", "-1", **url).returncode == 0
    assert _run("check", **url).returncode == 3
    assert json.loads(_run("upgrade", "+1", "--json", **url).stdout)["to"] == head
    assert json.loads(_run("downgrade", "base", "--json", **url).stdout) == {"from": head, "to": None}


def test_history_and_sql_need_no_database() -> None:
    assert json.loads(_run("history", "--json").stdout)[-1]["previous"] is None
    sql = _run("sql", AGENTSTORE_SCHEMA="other").stdout
    assert 'CREATE SCHEMA IF NOT EXISTS "other"' in sql
    assert "CREATE TABLE messages" in sql


def test_version() -> None:
    assert _run("--version").stdout.strip() == __version__


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
def test_what_goes_wrong_is_a_line_without_secrets(
    arguments: tuple[str, ...], environment: dict[str, str], code: int
) -> None:
    done = _run(*arguments, **environment)
    assert done.returncode == code
    assert done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_an_unknown_revision_is_said(empty_url: str) -> None:
    done = _run("upgrade", "nonsense", "--url", empty_url)
    assert done.returncode == 4
    assert "nonsense" in done.stderr
