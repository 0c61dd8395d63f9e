"""The log that the command line writes."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from tests.support.cli import run


@pytest.fixture(autouse=True)
def _logger(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)
    logger = logging.getLogger("agentstore")
    before = logger.level, logger.handlers[:], logger.propagate
    yield
    logger.level, logger.handlers[:], logger.propagate = before


def test_the_log_is_a_json_object_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_LOG_FORMAT", "json")
    monkeypatch.setenv("AGENTSTORE_SLOW_STATEMENT", "0.000000001")
    result = run("sessions", "create", "alice", "s")
    assert result.code == 0
    lines = [json.loads(line) for line in result.err.splitlines()]
    events = {line["event"]: line for line in lines if "event" in line}
    assert events.keys() >= {"connection.opened", "statement.slow"}
    slow = events["statement.slow"]
    assert slow["level"] == "WARNING"
    assert slow["logger"] == "agentstore.database.telemetry"
    assert slow["duration"] > 0
    assert slow["time"].endswith("+00:00")


def test_an_exception_in_the_log_stays_in_its_line() -> None:
    from agentstore.cli.log import JsonFormatter

    try:
        raise ValueError("x\ny")
    except ValueError:
        record = logging.getLogger("agentstore").makeRecord(
            "agentstore", logging.ERROR, "f", 1, "密\n%s", (object,), sys.exc_info(), extra={"event": "e"}
        )
    line = JsonFormatter().format(record)
    assert "\n" not in line
    found = json.loads(line)
    assert found["message"].startswith("密\n<class")
    assert found["exception"].endswith("ValueError: x\ny")
    assert found["event"] == "e"


def test_text_is_what_it_was() -> None:
    result = run("sessions", "create", "alice", "s")
    assert (result.code, result.err) == (0, "")
