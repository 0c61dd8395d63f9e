"""Sessions with the real openai-agents: its Runner with a scripted model, its wrappers, and several processes."""

# pyright: reportMissingImports=false
import asyncio
import json
import os
import signal
import sys
import typing
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from agentstore import AgentStore, Message
from agentstore.adapters.openai_agents import AgentStoreSession, AgentStoreSessions
from tests.adapters.openai_agents.items import ITEMS, OTHER_ITEMS
from tests.support.documents import ROOT, blocks, run_process, run_python, seed

pytestmark = pytest.mark.adapters


@pytest.fixture(autouse=True)
def _no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    from agents import set_tracing_disabled

    set_tracing_disabled(True)
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def _scripted(*outputs: list[dict[str, Any]] | BaseException) -> Any:
    """Return a model that answers with these items in turn, each for 10 tokens, and records its inputs."""
    from agents import Model, ModelResponse, Usage
    from openai.types.responses import Response, ResponseCompletedEvent, ResponseOutputItem, ResponseUsage
    from pydantic import TypeAdapter

    parse: Any = TypeAdapter(typing.cast("Any", list)[ResponseOutputItem]).validate_python
    details: dict[str, Any] = {
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }

    class Scripted(Model):  # type: ignore[misc]
        def __init__(self) -> None:
            self.inputs: list[Any] = []

        def _next(self, given: Any) -> Any:
            self.inputs.append(given if isinstance(given, str) else json.loads(json.dumps(given)))
            output = outputs[len(self.inputs) - 1]
            if isinstance(output, BaseException):
                raise output
            return parse(output)

        async def get_response(self, *args: Any, **kwargs: Any) -> Any:
            output = self._next(_input(args, kwargs))
            usage = Usage(requests=1, input_tokens=8, output_tokens=2, total_tokens=10)
            return ModelResponse(output=output, usage=usage, response_id="resp_1")

        async def stream_response(self, *args: Any, **kwargs: Any) -> Any:
            usage = ResponseUsage.model_validate({"input_tokens": 8, "output_tokens": 2, "total_tokens": 10, **details})
            response = Response.model_construct(id="resp_1", output=self._next(_input(args, kwargs)), usage=usage)
            yield ResponseCompletedEvent(type="response.completed", response=response, sequence_number=0)

    return Scripted()


def _input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the second argument of a model, after the instructions."""
    return kwargs["input"] if "input" in kwargs else args[1]


def _answer(text: str) -> list[dict[str, Any]]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return [{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}]


def _call(**arguments: Any) -> list[dict[str, Any]]:
    call = {"id": "fc_1", "type": "function_call", "call_id": "c1", "name": "weather", "status": "completed"}
    return [{**call, "arguments": json.dumps(arguments)}]


def _agent(model: Any) -> Any:
    from agents import Agent, function_tool

    @function_tool  # type: ignore[untyped-decorator]
    def weather(city: str) -> str:
        """Return the weather."""
        return f"3 mm in {city}"

    return Agent(name="Assistant", model=model, tools=[weather])


def _texts(items: list[Any]) -> list[str]:
    """Return the text of each item, or its type."""
    found = []
    for item in items:
        content = item.get("content")
        found.append(
            content
            if isinstance(content, str)
            else content[0]["text"]
            if content
            else item.get("output", item.get("type"))
        )
    return found


async def _run(kind: str, agent: Any, given: Any, session: Any, **options: Any) -> Any:
    from agents import Runner

    if kind == "run":
        return await Runner.run(agent, given, session=session, **options)
    result = Runner.run_streamed(agent, given, session=session, **options)
    async for _ in result.stream_events():
        pass
    return result


def test_the_protocols_accept_a_session() -> None:
    from agents.memory import Session, is_openai_responses_compaction_aware_session
    from agents.memory.session import _session_accepts_wrapper

    session = AgentStoreSession("s", typing.cast("AgentStore", object()))
    assert isinstance(session, Session)
    assert _session_accepts_wrapper(session)
    assert not is_openai_responses_compaction_aware_session(session)


def _types(value: Any) -> set[str]:
    """Return the values of "type" of a union of TypedDicts."""
    if typing.get_args(value) and not isinstance(value, type):
        return {each for member in typing.get_args(value) for each in _types(member)}
    found = typing.get_type_hints(value).get("type")
    return {each for each in _literals(found) if isinstance(each, str)}


def _literals(value: Any) -> list[Any]:
    if typing.get_origin(value) is typing.Literal:
        return list(typing.get_args(value))
    return [each for member in typing.get_args(value) for each in _literals(member)]


def test_the_table_has_every_type_of_item() -> None:
    from agents import TResponseInputItem
    from pydantic import TypeAdapter

    types = {item.get("type") for item, *_ in ITEMS.values()} - {None}
    assert types == _types(TResponseInputItem)
    for item, *_ in ITEMS.values():
        TypeAdapter(TResponseInputItem).validate_python(item)


async def test_every_type_of_item_is_read_as_from_sqlite(store: AgentStore, tmp_path: Path) -> None:
    from agents import SQLiteSession

    items: list[Any] = [item for item, *_ in (ITEMS | OTHER_ITEMS).values()]
    ours, theirs = AgentStoreSession("s", store), SQLiteSession("s", tmp_path / "sessions.db")
    for session in (ours, theirs):
        await session.add_items(items)
    assert await ours.get_items() == await theirs.get_items()
    assert await ours.get_items(7) == await theirs.get_items(7)
    assert await ours.pop_item() == await theirs.pop_item()
    theirs.close()


@pytest.mark.parametrize("kind", ["run", "run_streamed"])
async def test_the_runner_continues_a_conversation_in_another_object(store: AgentStore, kind: str) -> None:
    model = _scripted(_call(city="杭州"), _answer("A little."), _answer("None there."))
    first = await _run(kind, _agent(model), "Any rain in 杭州?", AgentStoreSession("s", store, user_id="alice"))
    assert first.final_output == "A little."
    session = AgentStoreSession("s", store, user_id="alice")
    second = await _run(kind, _agent(model), "And in Chengdu?", session)
    assert second.final_output == "None there."
    expected = ["Any rain in 杭州?", "function_call", "3 mm in 杭州", "A little.", "And in Chengdu?", "None there."]
    assert _texts(model.inputs[2]) == expected[:5]
    assert _texts(await session.get_items()) == expected
    turns = await session.turns()
    assert [each.usage["requests"] for each in turns] == [2, 1]
    assert [each.usage["total_tokens"] for each in turns] == [20, 10]
    assert (await session.usage())["input_tokens"] == 24
    stored = await store.sessions.get_session("alice", "s")
    assert stored is not None
    assert [each.type for each in stored.messages][:3] == ["message", "function_call", "function_call_output"]


@pytest.mark.parametrize("kind", ["run", "run_streamed"])
async def test_an_answer_is_generated_again_and_a_turn_is_branched(store: AgentStore, kind: str) -> None:
    model = _scripted(_answer("One."), _answer("Bad."), _answer("Good."), _answer("Other."))
    agent, session = _agent(model), AgentStoreSession("s", store)
    await _run(kind, agent, "first", session)
    await _run(kind, agent, "second", session)
    assert _texts([await session.pop_item(), await session.pop_item()]) == ["Bad.", "second"]
    await _run(kind, agent, "second", session)
    assert _texts(model.inputs[2]) == ["first", "One.", "second"]
    branch = await session.branch(2, "branch")
    await _run(kind, agent, "another", branch)
    assert _texts(model.inputs[3]) == ["first", "One.", "another"]
    assert _texts(await session.get_items()) == ["first", "One.", "second", "Good."]
    assert _texts(await branch.get_items()) == ["first", "One.", "another", "Other."]


@pytest.mark.parametrize("kind", ["run", "run_streamed"])
async def test_the_limit_and_the_user_come_from_the_run(store: AgentStore, kind: str) -> None:
    from agents import RunConfig, SessionSettings

    model = _scripted(*[_answer(str(number)) for number in range(4)])
    sessions = AgentStoreSessions(store, user_id=lambda wrapper: wrapper.context)
    for context in ("alice", "bob", "alice"):
        await _run(kind, _agent(model), f"by {context}", sessions("s"), context=context)
    assert _texts(model.inputs[2]) == ["by alice", "0", "by alice"]
    limited = RunConfig(session_settings=SessionSettings(limit=1))
    await _run(kind, _agent(model), "by bob", sessions("s"), context="bob", run_config=limited)
    assert _texts(model.inputs[3]) == ["1", "by bob"]
    counts = [(await store.sessions.get_session(user, "s")).message_count for user in ("alice", "bob")]  # type: ignore[union-attr]
    assert counts == [4, 4]


@pytest.mark.parametrize("as_dict", [True, False])
async def test_the_settings_limit_what_the_model_receives(store: AgentStore, as_dict: bool) -> None:
    from agents import SessionSettings

    settings: Any = {"limit": 1} if as_dict else SessionSettings(limit=1)
    session, model = AgentStoreSession("s", store, session_settings=settings), _scripted(_answer("1"), _answer("2"))
    await _run("run", _agent(model), "first", session)
    await _run("run", _agent(model), "second", session)
    assert _texts(model.inputs[1]) == ["1", "second"]
    assert _texts(await AgentStoreSession("s", store).get_items()) == ["first", "1", "second", "2"]


@pytest.mark.parametrize("kind", ["run", "run_streamed"])
async def test_a_run_that_fails_leaves_a_conversation_that_can_be_continued(store: AgentStore, kind: str) -> None:
    model = _scripted(_answer("One."), ValueError("the model failed"), _answer("Two."))
    session = AgentStoreSession("s", store)
    await _run(kind, _agent(model), "first", session)
    with pytest.raises(ValueError, match="the model failed"):
        await _run(kind, _agent(model), "second", session)
    await _run(kind, _agent(model), "third", session)
    assert _texts(await session.get_items())[:2] == ["first", "One."]
    assert _texts(await session.get_items())[-2:] == ["third", "Two."]
    assert await session.get_items() == [*model.inputs[2], *_answer("Two.")]


async def test_a_message_of_another_program_is_passed_to_the_model(store: AgentStore) -> None:
    await store.sessions.append("alice", "s", [Message.user("I do not eat peppers."), Message.assistant("Noted.")])
    model = _scripted(_answer("Duck."))
    await _run("run", _agent(model), "What shall I eat?", AgentStoreSession("s", store, user_id="alice"))
    assert _texts(model.inputs[0]) == ["I do not eat peppers.", "Noted.", "What shall I eat?"]


async def test_twenty_concurrent_runs_lose_nothing(store: AgentStore) -> None:
    async def one(number: int) -> None:
        model = _scripted(_answer(f"answer {number}"))
        await _run("run", _agent(model), f"question {number}", AgentStoreSession("s", store))

    await asyncio.gather(*map(one, range(20)))
    texts = _texts(await AgentStoreSession("s", store).get_items())
    assert sorted(texts) == sorted(f"{kind} {number}" for kind in ("question", "answer") for number in range(20))
    for number in range(20):
        assert texts.index(f"question {number}") < texts.index(f"answer {number}")


class _Compacting:
    """The part of OpenAI's client that compacts."""

    def __init__(self, meanwhile: Callable[[], Awaitable[object]] | None = None) -> None:
        self.responses = self
        self.calls: list[Any] = []
        self.meanwhile = meanwhile

    async def compact(self, **given: Any) -> Any:
        from types import SimpleNamespace

        self.calls.append(given)
        if self.meanwhile is not None:
            await self.meanwhile()
        return SimpleNamespace(output=[{"type": "compaction", "encrypted_content": "AA=="}], usage=None)


@pytest.mark.parametrize("is_forced", [True, False])
async def test_the_runner_compacts_a_conversation(store: AgentStore, is_forced: bool) -> None:
    from agents.memory import OpenAIResponsesCompactionSession

    client, inner = _Compacting(), AgentStoreSession("s", store, user_id="alice")
    session = OpenAIResponsesCompactionSession(
        "s", inner, client=client, compaction_mode="input",
        should_trigger_compaction=lambda context: not is_forced and len(context["session_items"]) == 4,
    )  # fmt: skip
    model = _scripted(_answer("One."), _answer("Two."), _answer("Three."))
    await _run("run", _agent(model), "first", session)
    await store.sessions.set_title("alice", "s", "Numbers")
    await _run("run", _agent(model), "second", session)
    if is_forced:
        await session.run_compaction({"force": True})
    assert len(client.calls) == 1
    assert [each["type"] for each in await inner.get_items()] == ["compaction"]
    await _run("run", _agent(model), "third", session)
    assert [each.get("type", "message") for each in model.inputs[2]] == ["compaction", "message"]
    stored = await store.sessions.get_session("alice", "s")
    assert stored is not None
    assert (stored.title, len(stored.messages)) == ("Numbers", 3)


@pytest.mark.parametrize("is_encrypted", [False, True])
async def test_what_another_process_adds_during_a_compaction_is_retained(store: AgentStore, is_encrypted: bool) -> None:
    from agents.extensions.memory import EncryptedSession
    from agents.memory import OpenAIResponsesCompactionSession

    def wrap(session: Any) -> Any:
        return EncryptedSession("s", session, encryption_key="a key") if is_encrypted else session

    other = wrap(AgentStoreSession("s", store))
    client = _Compacting(lambda: other.add_items([{"role": "user", "content": "meanwhile"}]))
    session = OpenAIResponsesCompactionSession(
        "s",
        wrap(AgentStoreSession("s", store)),
        client=client,
        compaction_mode="input",
        should_trigger_compaction=lambda context: len(context["session_items"]) >= 2,
    )
    model = _scripted(_answer("One."), _answer("Two."))
    await _run("run", _agent(model), "first", session)
    assert _texts(await other.get_items()) == ["first", "One.", "meanwhile"]
    client.meanwhile = None
    await _run("run", _agent(model), "second", session)
    assert len(client.calls) == 2
    assert [each["type"] for each in await other.get_items()] == ["compaction"]


async def test_items_are_encrypted(store: AgentStore) -> None:
    from agents.extensions.memory import EncryptedSession

    inner: Any = AgentStoreSession("s", store)
    session = EncryptedSession("s", inner, encryption_key="a key of this test")
    model = _scripted(_answer("One."), _answer("Two."))
    await _run("run", _agent(model), "first", session)
    await _run("run", _agent(model), "second", session)
    assert _texts(model.inputs[1]) == ["first", "One.", "second"]
    assert all("__enc__" in each for each in await inner.get_items())
    assert _texts([await session.pop_item()]) == ["Two."]


_KILLED = """
import asyncio, os, signal
from agents import Agent, Runner, function_tool, set_tracing_disabled
from agentstore import AgentStore
from agentstore.adapters.openai_agents import AgentStoreSession
from tests.adapters.openai_agents.test_sdk import _answer, _call, _scripted

@function_tool
def weather(city: str) -> str:
    "Return the weather."
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    set_tracing_disabled(True)
    agent = Agent(name="Assistant", model=_scripted(_answer("One."), _call(city="Chengdu")), tools=[weather])
    async with AgentStore(os.environ["URL"]) as store:
        await Runner.run(agent, "first", session=AgentStoreSession("s", store))
        await Runner.run(agent, "second", session=AgentStoreSession("s", store))

asyncio.run(main())
"""


async def test_the_next_process_knows_what_a_killed_one_stored(store: AgentStore, direct_url: str) -> None:
    environment = {**os.environ, "URL": direct_url, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _KILLED, env=environment)
    assert await process.wait() == -signal.SIGKILL
    session, model = AgentStoreSession("s", store), _scripted(_answer("Two."))
    assert _texts(await session.get_items())[:3] == ["first", "One.", "second"]
    await _run("run", _agent(model), "again", session)
    assert _texts(model.inputs[0]) == ["first", "One.", "second", "again"]
    assert _texts(await session.get_items())[-2:] == ["again", "Two."]


_POP = """
import asyncio, json, os, sys
from agentstore import AgentStore
from agentstore.adapters.openai_agents import AgentStoreSession

async def main():
    async with AgentStore(os.environ["URL"]) as store:
        session = AgentStoreSession("s", store)
        await session.get_items(1)
        print("ready", flush=True)
        sys.stdin.readline()
        while (item := await session.pop_item()) is not None:
            print(json.dumps(item), flush=True)

asyncio.run(main())
"""


async def test_four_processes_pop_each_item_once(store: AgentStore, direct_url: str) -> None:
    await AgentStoreSession("s", store).add_items([{"role": "user", "content": str(number)} for number in range(200)])
    pipe = asyncio.subprocess.PIPE
    environment = {**os.environ, "URL": direct_url, "PYTHONPATH": str(ROOT)}
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", _POP, stdin=pipe, stdout=pipe, env=environment)
        for _ in range(4)
    ]
    for each in processes:
        assert each.stdout is not None
        assert await each.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(each.communicate(b"\n") for each in processes))
    assert [each.returncode for each in processes] == [0] * 4
    popped = [[json.loads(line)["content"] for line in out.splitlines()] for out, _ in outputs]
    assert sorted(int(each) for some in popped for each in some) == list(range(200))
    assert sum(map(bool, popped)) > 1


async def test_imported_items_are_read_as_they_were(
    store: AgentStore, direct_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So are items that `agentstore import --from openai-agents` stores."""
    from agents import SQLiteSession

    from tests.support.cli import run

    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)
    items: list[Any] = [item for item, *_ in ITEMS.values() if item.get("role") or item.get("type")]
    theirs = SQLiteSession("s", tmp_path / "sessions.db")
    await theirs.add_items(items)
    theirs.close()
    command = ("import", "--from", "openai-agents", f"sqlite:///{tmp_path}/sessions.db", "--user", "alice", "--json")
    done = await asyncio.to_thread(run, *command)
    assert json.loads(done.out)["new_messages"] == len(items)
    assert await AgentStoreSession("s", store, user_id="alice").get_items() == items


async def test_the_python_of_the_page_runs_twice(
    store: AgentStore, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import agents

    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", database_url)
    page = [each for each in blocks(ROOT / "docs/openai-agents.md") if each.language == "python"]
    assert len(page) >= 3
    from agents.extensions.memory import SQLAlchemySession

    engine = create_async_engine(make_url(database_url).set(drivername="postgresql+asyncpg"))
    old = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}]
    theirs = SQLAlchemySession("old-chat", engine=engine, create_tables=True)
    await theirs.add_items(old)
    environment = {"OLD_DATABASE_URL": engine.url.render_as_string(hide_password=False)}
    printed = []
    for _ in range(2):
        model = _scripted(*[_answer("A little.")] * 20)
        names = {**await seed(store), "engine": engine, "model": model, "Agent": agents.Agent, "Runner": agents.Runner}
        for block in page:
            if "asyncio.run(" in block.code:
                (tmp_path / "move.py").write_text(block.code, encoding="utf-8")
                printed.append(await run_process("python", "move.py", environment=environment, folder=tmp_path))
            else:
                await run_python(block, names)
        old.append({"role": "user", "content": "And today?"})  # what the old version stores between two copies
        await theirs.add_items(old[-1:])
    assert printed == ["old-chat of alice: 2 copied\n", "old-chat of alice: 1 copied\n"]
    assert await AgentStoreSession("old-chat", store, user_id="alice").get_items() == old[:3]
    await AgentStoreSession("old-chat", store, user_id="alice").add_items([{"role": "user", "content": "New"}])
    last = await run_process("python", "move.py", environment=environment, folder=tmp_path)
    assert last == "old-chat of alice: differs, since both stores have new items\n"
    await engine.dispose()
