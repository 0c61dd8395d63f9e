"""``agentstore extract``: once, as a watching worker, stopped by signals, and retrying failures."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore
from agentstore.testing import text
from tests.support.chat import KEY, ChatEndpoint, Reply, chat_endpoint, facts_reply
from tests.support.cli import run

pytestmark = pytest.mark.slow


@pytest.fixture
def endpoint() -> Iterator[ChatEndpoint]:
    """An endpoint in its own thread, since a command runs an event loop in this one."""
    ready, stop = threading.Event(), asyncio.Event()
    running: list[tuple[asyncio.AbstractEventLoop, ChatEndpoint]] = []

    async def serve() -> None:
        async with chat_endpoint() as opened:
            running.append((asyncio.get_running_loop(), opened))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    ready.wait()
    loop, opened = running[0]
    yield opened
    loop.call_soon_threadsafe(stop.set)
    thread.join()


@pytest.fixture(autouse=True)
def _environment(direct_url: str, endpoint: ChatEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATABASE_URL": direct_url,
        "EXTRACTION_URL": endpoint.url,
        "EXTRACTION_MODEL": "small",
        "EXTRACTION_API_KEY": KEY,
        "EXTRACTION_SETTLE": "0",
    }.items():
        monkeypatch.setenv(f"AGENTSTORE_{name}", value)


def _add(*sessions: str) -> None:
    async def add() -> None:
        async with AgentStore() as store:
            for session in sessions:
                await store.memory.add_memory("alice", text("I live in Lyon"), session)

    asyncio.run(add())


def test_extracts_what_is_due(endpoint: ChatEndpoint) -> None:
    assert run("extract").out == "nothing is due\n"
    _add("s")
    endpoint.replies = [facts_reply("lives in Lyon", "is \x1b[31mAnn")]
    assert run("extract", "--user", "bob").out == "nothing is due\n"
    done = run("extract")
    assert (done.code, done.out) == (0, "alice s: 1 message, 2 written, 0 superseded\n")
    assert "lives in Lyon" in run("memory", "search", "alice", "Lyon").out
    _add("t")
    endpoint.replies = [facts_reply(ended=[1])]
    done = run("extract", "--purpose", "experience", "--json")
    (line,) = [json.loads(each) for each in done.out.splitlines()]
    assert (line["session_id"], line["messages"], line["items"], line["superseded"]) == ("t", 1, [], [])
    assert "experience" in endpoint.requests[-1]["messages"][0]["content"]


def test_now_includes_recently_changed_sessions(endpoint: ChatEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_EXTRACTION_SETTLE", "600")
    _add("s", "t")
    assert run("extract").out == "nothing is due\n"
    assert len(run("extract", "--now", "--workers", "2").out.splitlines()) == 2


def test_failures_are_reported_listed_and_retried(
    endpoint: ChatEndpoint, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _add("s")
    endpoint.replies = [Reply(status=500, body=f"\x1b[31m {KEY}".encode())]
    done = run("extract")
    assert done.code == 1
    assert "returned 500" in done.err
    assert "will be retried" in done.err
    assert KEY not in done.err
    assert "\x1b" not in done.err
    assert run("extract", "--failed").out == "no failed extractions\n"

    async def make_due() -> None:
        connection = await asyncpg.connect(direct_url)
        await connection.execute("UPDATE agentstore.memory_extractions SET run_after = now(), attempts = 4")
        await connection.close()

    asyncio.run(make_due())
    endpoint.replies = [Reply("no")]
    assert "not retried" in run("extract").err
    printed = run("extract", "--failed").out
    assert "alice" in printed
    assert "1-1" in printed
    (failed,) = run("extract", "--failed", "--json").json()["failed"]
    assert (failed["user_id"], failed["attempts"]) == ("alice", 6)  # including one of the outage
    assert run("extract", "--retry", "--json").json() == {"due": 1}
    assert run("extract", "--retry").out == "due again: 0\n"
    assert run("extract").code == 0
    assert run("extract", "--retry", "--failed").code == 2
    monkeypatch.delenv("AGENTSTORE_EXTRACTION_URL")
    assert "AGENTSTORE_EXTRACTION_URL" in run("extract").err


def test_terminated_run_exits_with_143_and_does_not_report_completion(endpoint: ChatEndpoint) -> None:
    _add("s")
    requested, may_answer = threading.Event(), threading.Event()

    async def hang(_: dict[str, Any]) -> Reply:
        requested.set()
        await asyncio.to_thread(may_answer.wait)
        return facts_reply()

    endpoint.answer = hang
    once = subprocess.Popen(
        [sys.executable, "-m", "agentstore", "extract", "--once"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert requested.wait(60)
        once.send_signal(signal.SIGTERM)
        out, err = once.communicate(timeout=60)
    finally:
        may_answer.set()
        once.kill()
    assert (once.returncode, out) == (143, b""), err


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
async def test_stopped_watch_releases_its_claim_and_killed_watch_leaves_it(
    stop: signal.Signals,
    code: int,
    endpoint: ChatEndpoint,
    direct_url: str,
    observer: asyncpg.Connection,
) -> None:
    requested = asyncio.Event()
    loop, is_over = asyncio.get_running_loop(), threading.Event()

    async def hang(_: dict[str, Any]) -> Reply:
        loop.call_soon_threadsafe(requested.set)
        while not is_over.is_set():
            await asyncio.sleep(0.01)
        return facts_reply()

    async with AgentStore() as store:
        watch = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "agentstore", "extract", "--watch", "--interval", "0.05"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ},
            # A shell lets background jobs ignore SIGINT, and child processes inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        endpoint.replies = [facts_reply("lives in Lyon")]
        await store.memory.add_memory("alice", text("I live in Lyon"), "s")
        assert watch.stdout is not None
        async with asyncio.timeout(60):
            assert await watch.stdout.readline() == b"alice s: 1 message, 1 written, 0 superseded\n"
            endpoint.answer = hang
            await store.memory.add_memory("alice", text("I live in Nice"), "s")
            await requested.wait()
            (job,) = await observer.fetch("SELECT * FROM agentstore.memory_extractions")
            assert (job["lease"] is None, job["attempts"]) == (False, 1)
            watch.send_signal(stop)
            _, err = await watch.communicate()
        is_over.set()
        assert watch.returncode == code, err
        assert b"Traceback" not in err
        (job,) = await observer.fetch("SELECT * FROM agentstore.memory_extractions")
        endpoint.answer = None
        if stop == signal.SIGKILL:
            assert await store.memory.extract() == []
            await observer.execute("UPDATE agentstore.memory_extractions SET leased_until = now()")
        else:
            assert (job["lease"], job["attempts"]) == (None, 0)
        (done,) = await store.memory.extract()
        assert done.error is None
