"""``agentstore doctor``: output and exit codes. Its findings are tested in tests/integration/test_doctor.py."""

import json

from agentstore import EmbeddedPostgres
from tests.support.cli import run


def test_prints_findings_and_exits_with_1_if_there_is_a_problem(own_server: EmbeddedPostgres) -> None:
    behind = run("doctor", "--url", own_server.url)
    assert behind.code == 1
    assert "BAD  schema" in behind.out
    assert "run `agentstore upgrade`" in behind.out
    assert run("upgrade", "--url", own_server.url).code == 0
    healthy = run("doctor", "--url", own_server.url)
    assert healthy.code == 0
    assert "ok   schema" in healthy.out
    assert {each["check"]: each["state"] for each in run("doctor", "--url", own_server.url, "--json").json()} == {
        line.split()[1]: {"ok": "ok", "WARN": "warning"}[line.split()[0]]
        for line in healthy.out.splitlines()
        if not line.startswith(" ")
    }


def test_unreachable_database_is_a_finding() -> None:
    for url in ("postgresql://u:hunter2@127.0.0.1:1/none", "nonsense://u:hunter2@h"):
        done = run("doctor", "--url", url)
        assert done.code == 1
        assert "BAD  connection" in done.out
        assert "hunter2" not in done.out + done.err
        assert [each["check"] for each in json.loads(run("doctor", "--json", "--url", url).out)] == ["connection"]
