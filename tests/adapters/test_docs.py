"""The blocks of code of the page about AgentScope Runtime run, twice on the same database."""

import asyncio
from typing import Any

import pytest

from tests.support.documents import ROOT, blocks, run_python

pytestmark = pytest.mark.runtime


async def test_python_runs_twice(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", database_url)
    monkeypatch.setenv("AGENTSTORE_SANDBOX_PROVIDER", "unsafe_subprocess")
    page = [each for each in blocks(ROOT / "docs/agentscope-runtime.md") if each.language == "python"]
    assert len(page) >= 4
    for _ in range(2):
        names: dict[str, Any] = {}
        for block in page:
            # In a thread, as in a synchronous application: one block uses the synchronous service of sandboxes.
            await asyncio.to_thread(asyncio.run, run_python(block, names))
        assert await names["sessions"].create_session("alice", "s")
        for name in ("sessions", "memory", "states"):
            await names[name].stop()
        await names["service"].stop()
