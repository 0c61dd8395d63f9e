"""The store without ``await``: agentstore.sync."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any, assert_type

import pytest

from agentstore import AgentStoreError, Closed, Message, NotFound, Page, Session, Settings
from agentstore.sync import AgentStore
from agentstore.testing import text

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(database_url: str, settings: Settings) -> Iterator[AgentStore]:
    with AgentStore(database_url, settings=settings) as opened:
        yield opened


def test_all_services_and_calls_without_await(store: AgentStore) -> None:
    session = store.sessions.create_session("alice", "s", title="A title")
    assert_type(session, Session)
    store.sessions.append_message(session, [text("one zebra"), text("two")])
    assert [message.text for message in session.messages] == ["one zebra", "two"]
    messages = store.sessions.iter_messages("alice", "s", batch=1)
    assert_type(messages, Iterator[Message])
    assert [message.text for message in messages] == ["one zebra", "two"]
    store.memory.add_memory("alice", session.messages, "s")
    assert [hit.message.text for hit in store.memory.search("alice", "zebra", {"top_k": 1})] == ["one zebra"]
    assert store.states.save_state("alice", {"plan": []}, "s") == 1
    assert store.states.export_state("alice", "s") == {"plan": []}
    listed = store.sessions.list_sessions("alice")
    assert_type(listed, Page[Session])
    assert [each.title for each in listed] == ["A title"]
    assert store.sessions.change_metadata("alice", "s", lambda metadata: {**metadata, "n": 1}) == {"n": 1}
    assert store.stats().messages == 2
    file = io.BytesIO()
    assert store.export(file) is not None
    assert store.users.delete_user("alice").sessions == 1
    file.seek(0)
    store.restore(file)
    restored = store.sessions.get_session("alice", "s")
    assert restored is not None
    assert restored.messages == session.messages
    assert store.health()
    assert store.prune(keep_last=1).finished


def test_sandboxes_without_await(database_url: str, settings: Settings) -> None:
    settings = settings.model_copy(update={"sandbox_provider": "unsafe_subprocess"})
    with AgentStore(database_url, settings=settings) as store:
        (sandbox,) = store.sandboxes.connect("s", "alice")
        assert (sandbox.session_id, sandbox.type) == ("s", "base")
        assert not sandbox.run_shell_command("true").is_error
        assert [info.session_id for info in store.sandboxes.list("alice")] == ["s"]
        assert len(store.sandboxes.release("s", "alice")) == 1


def test_an_iterator_that_is_left_early_holds_nothing(store: AgentStore) -> None:
    store.sessions.append("alice", "s", [text(str(number)) for number in range(10)])
    for message in store.sessions.iter_messages("alice", "s", batch=2):
        if message.text == "3":
            break
    iterator = store.sessions.iter_messages("alice", "s", batch=2)
    assert next(iterator).text == "0"
    assert store._target._database.checked_out() == 0  # type: ignore[attr-defined]
    store.stop()
    del iterator


def test_errors_keep_their_type_and_traceback(store: AgentStore) -> None:
    with pytest.raises(NotFound) as caught:
        store.sessions.append("alice", "s", text("x"), create=False)
    lines = "".join(traceback.format_exception(caught.value))
    assert "test_sync.py" in lines
    assert "repositories/sessions" in lines
    with pytest.raises(NotFound):
        list(store.sessions.iter_messages("alice", "missing"))


def test_calls_in_many_threads(store: AgentStore) -> None:
    def append(number: int) -> None:
        for call in range(10):
            store.sessions.append("alice", "s", text(f"{number} {call}"))

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(append, range(8)))
    session = store.sessions.get_session("alice", "s")
    assert session is not None
    assert session.message_count == len({message.text for message in session.messages}) == 80
    assert sum(thread.name == "agentstore" for thread in threading.enumerate()) == 1


async def test_a_call_in_a_running_loop_blocks_and_returns(store: AgentStore) -> None:
    assert store.sessions.get_session("alice", "s") is None
    assert asyncio.get_running_loop().is_running()


def test_a_callback_that_calls_the_store_is_an_error(store: AgentStore) -> None:
    store.sessions.create_session("alice", "s")

    def change(metadata: dict[str, Any]) -> dict[str, Any]:
        store.sessions.get_session("alice", "s")
        return metadata

    with pytest.raises(AgentStoreError, match="callback"):
        store.sessions.change_metadata("alice", "s", change)


def test_callbacks_see_the_context_of_the_caller(store: AgentStore) -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("of the caller")
    store.sessions.create_session("alice", "s")
    found = store.sessions.change_metadata("alice", "s", lambda metadata: {"found": variable.get()})
    assert found == {"found": "of the caller"}


def test_stop_ends_the_thread_and_start_begins_again(database_url: str, settings: Settings) -> None:
    def threads() -> int:
        return sum(thread.name == "agentstore" for thread in threading.enumerate())

    before = threads()
    store = AgentStore(database_url, settings=settings)
    assert threads() == before
    assert store.sessions.get_session("alice", "s") is None
    assert threads() == before + 1
    store.stop()
    assert threads() == before
    with pytest.raises(Closed):
        store.sessions.get_session("alice", "s")
    store.start()
    assert store.sessions.get_session("alice", "s") is None
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda _: store.stop(), range(4)))
    assert threads() == before


def test_keyboard_interrupt_ends_a_call(store: AgentStore) -> None:
    store.sessions.create_session("alice", "s")
    began, ended, interrupted = (threading.Event() for _ in range(3))

    def interrupt() -> None:
        began.wait()
        # A signal that arrives right before the main thread waits for a lock is handled after the wait, or with the
        # next signal.
        while not interrupted.wait(0.1):
            os.kill(os.getpid(), signal.SIGINT)

    def handle(*_: object) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    async def wait() -> None:
        began.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    handler = signal.signal(signal.SIGINT, handle)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            store._runner.run(wait())  # type: ignore[attr-defined]
    finally:
        signal.signal(signal.SIGINT, handler)
    thread.join()
    assert ended.wait(60)
    assert store.sessions.window("alice", "s", max_tokens=1, count=lambda message: 1) == []


@pytest.mark.parametrize("has_begun", [True, False])
def test_keyboard_interrupt_while_a_call_is_submitted_ends_it(
    store: AgentStore, monkeypatch: pytest.MonkeyPatch, has_begun: bool
) -> None:
    store.sessions.create_session("alice", "s")
    began, ended = threading.Event(), threading.Event()
    submit = asyncio.run_coroutine_threadsafe

    async def wait() -> None:
        began.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    def interrupted(work: Any, loop: asyncio.AbstractEventLoop) -> Any:
        if has_begun:
            submit(work, loop)
            assert began.wait(60)
        else:
            work.close()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
        store._runner.run(wait())  # type: ignore[attr-defined]
    assert ended.wait(60) if has_begun else not began.is_set()
    assert store.sessions.window("alice", "s", max_tokens=1, count=lambda message: 1) == []


# Uses a store in forked children and ends without stop(). Arguments: the URL of a database.
_PROGRAM = """
import os, sys, threading
from agentstore.sync import AgentStore
from agentstore.testing import text

store = AgentStore(sys.argv[1])
store.sessions.append("alice", "s", text("of the parent"))
children = []
for number in range(3):
    if (child := os.fork()) == 0:
        store.sessions.append("alice", "s", text(f"of child {number}"))
        assert sum(thread.name == "agentstore" for thread in threading.enumerate()) == 1
        sys.exit()  # not os._exit: finalizers are called
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
store.sessions.append("alice", "s", text("of the parent"))
print(store.sessions.get_session("alice", "s").message_count)
"""


@pytest.mark.slow
def test_forked_children_and_the_end_of_the_process(direct_url: str) -> None:
    command = [sys.executable, "-W", "error", "-c", _PROGRAM, direct_url]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "5\n")
