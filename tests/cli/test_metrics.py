"""``agentstore metrics``."""

import asyncio
import os
import re
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from agentstore import AgentStore, ExtractionFailed, Settings
from agentstore.operations.metrics import KINDS
from agentstore.testing import text
from tests.support.cli import run, started

ROOT = Path(__file__).parents[2]


class _Never:
    async def extract(self, *_: object, **__: object) -> object:
        raise ExtractionFailed("never called")


@pytest.fixture
def _with_jobs(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)

    async def main() -> None:
        settings = Settings(extraction_settle=0)
        async with AgentStore(direct_url, settings=settings, extractor=_Never()) as store:  # type: ignore[arg-type]
            for user in ("alice", "bob"):
                await store.memory.add_memory(user, [text("likes apples")], "s")

    asyncio.run(main())


def values(printed: str) -> dict[str, float]:
    """Return the values by name and labels."""
    return {
        name: float(value) for name, value in re.findall(r"^(agentstore_\S+?(?:\{.*\})?) (\S+)$", printed, re.MULTILINE)
    }


@pytest.mark.usefixtures("_with_jobs")
def test_the_figures_are_those_of_the_database() -> None:
    found = values(run("metrics").out)
    assert found["agentstore_up"] == 1
    assert found['agentstore_schema_state{state="at head"}'] == 1
    assert sum(value for name, value in found.items() if name.startswith("agentstore_schema_state")) == 1
    assert found['agentstore_extraction_jobs{state="due"}'] == 2
    assert 0 < found["agentstore_extraction_oldest_due_age_seconds"] < 3600
    assert found['agentstore_table_size_bytes{table="memories"}'] > 8192
    as_json = run("metrics", "--json").json()
    assert as_json.keys() == KINDS.keys() - {"agentstore.embedding.backlog"}
    due = [each for each in as_json["agentstore.extraction.jobs"] if each["state"] == "due"]
    assert due == [{"state": "due", "value": 2}]


def test_an_empty_database_has_no_figures_of_tables(empty_url: str) -> None:
    found = values(run("metrics", "--url", empty_url).out)
    assert found["agentstore_up"] == 1
    assert found['agentstore_schema_state{state="behind"}'] == 1
    assert not [name for name in found if "extraction" in name or "table" in name]


def test_a_database_that_does_not_answer_is_not_up() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"postgresql://a@127.0.0.1:{listener.getsockname()[1]}/d"
        result = run("metrics", "--url", url)
    assert result.code == 1
    assert values(result.out) == {"agentstore_up": 0}
    assert "127.0.0.1" in result.err


@pytest.mark.usefixtures("_with_jobs")
def test_they_are_served_until_interrupted() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = (sys.executable, "-m", "agentstore", "metrics", "--serve", str(port))
    with started(command, env=os.environ, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"serving http://127.0.0.1:{port}/metrics\n"
        for _ in range(2):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
                found = values(response.read().decode())
            assert found['agentstore_extraction_jobs{state="due"}'] == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


@pytest.mark.parametrize("address", ["x", "0", "host:", "65536"])
def test_an_address_is_checked(address: str) -> None:
    assert run("metrics", "--serve", address).code == 2


def test_the_documentation_lists_every_figure() -> None:
    page = (ROOT / "docs" / "telemetry.md").read_text()
    listed = re.findall(r"^\| `(agentstore\.[a-z_.]+)` \| (?:`|\|)", page, re.MULTILINE)
    assert listed == list(KINDS)
