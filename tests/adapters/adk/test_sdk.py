"""The session service with the real Runner of google-adk, and a scripted model."""

# pyright: reportMissingImports=false
import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from agentstore import AgentStore
from tests.adapters.adk.events import text_event
from tests.support.documents import ROOT, blocks, run_process, run_python, seed

pytestmark = pytest.mark.adapters


def scripted(*outputs: Any) -> Any:
    """Return a model that gives these outputs, and records the contents that it receives in ``inputs``.

    An output is a text, or the arguments of a call of the tool "weather".
    """
    from google.adk.models import BaseLlm, LlmResponse
    from google.genai.types import Content, FunctionCall, Part

    class Scripted(BaseLlm):  # type: ignore[misc]
        outputs: list[Any]
        inputs: list[list[str]]

        async def generate_content_async(self, llm_request: Any, stream: bool = False) -> AsyncGenerator[Any, None]:
            self.inputs.append(texts_of(llm_request.contents))
            output = self.outputs.pop(0)
            is_text = isinstance(output, str)
            if stream and is_text:
                yield LlmResponse(content=Content(role="model", parts=[Part(text=output[:2])]), partial=True)
            part = Part(text=output) if is_text else Part(function_call=FunctionCall(name="weather", args=output))
            yield LlmResponse(content=Content(role="model", parts=[part]))

    return Scripted(model="scripted", outputs=list(outputs), inputs=[])


def texts_of(contents: Any) -> list[str]:
    """Return the texts of contents, and the names of calls and responses."""
    parts = [part for content in contents for part in content.parts]
    return [each.text or (each.function_call or each.function_response).name for each in parts]


def runner_of(store: Any, *outputs: Any, app_name: str = "chat", **agent: Any) -> Any:
    """Return a Runner of an agent with a scripted model, which is in ``agent.model``."""
    from google.adk.agents import LlmAgent
    from google.adk.runners import Runner

    from agentstore.adapters.adk import AgentStoreSessionService

    return Runner(
        app_name=app_name,
        agent=LlmAgent(name="assistant", model=scripted(*outputs), **agent),
        session_service=AgentStoreSessionService(store),
        auto_create_session=True,
    )


async def ask(runner: Any, question: str, user: str = "alice", session: str = "s", **options: Any) -> str:
    """Run a turn, and return the text of the last event."""
    from google.genai.types import Content, Part

    answer = ""
    message = Content(role="user", parts=[Part(text=question)])
    async for event in runner.run_async(user_id=user, session_id=session, new_message=message, **options):
        for part in (event.content and event.content.parts) or ():
            answer = part.text or answer
    return answer


async def _session(store: Any, **ids: str) -> Any:
    from agentstore.adapters.adk import AgentStoreSessionService

    ids = {"app_name": "chat", "user_id": "alice", "session_id": "s", **ids}
    return await AgentStoreSessionService(store).get_session(**ids)


async def test_the_runner_continues_a_session(store: AgentStore) -> None:
    assert await ask(runner_of(store, "A little."), "Any rain in 杭州?") == "A little."
    runner = runner_of(store, "None there.", output_key="answer")
    assert await ask(runner, "And in Chengdu?") == "None there."
    assert runner.agent.model.inputs == [["Any rain in 杭州?", "A little.", "And in Chengdu?"]]
    session = await _session(store)
    assert session.state == {"answer": "None there."}
    stored = await store.sessions.get_session("alice", "s/chat")
    assert stored is not None
    said = [(each.role, each.text) for each in stored.messages if each.type == "message"]
    assert said == [
        ("user", "Any rain in 杭州?"),
        ("assistant", "A little."),
        ("user", "And in Chengdu?"),
        ("assistant", "None there."),
    ]
    await store.memory.add_sessions("alice")
    found = await store.memory.search_memory("alice", "成都 Chengdu", {"neighbors": False})
    assert [each.text for each in found] == ["And in Chengdu?"]


async def test_tools_change_the_state_of_all_scopes(store: AgentStore) -> None:
    from google.adk.tools import ToolContext

    def weather(city: str, tool_context: ToolContext) -> dict[str, str]:
        """Return the weather."""
        for key in ("app:city", "user:city", "city", "temp:city"):
            tool_context.state[key] = city
        return {"result": "3 mm"}

    runner = runner_of(store, {"city": "Chengdu"}, "A little.", tools=[weather])
    assert await ask(runner, "Any rain?") == "A little."
    assert runner.agent.model.inputs[1] == ["Any rain?", "weather", "weather"]
    session = await _session(store)
    assert session.state == {"city": "Chengdu", "app:city": "Chengdu", "user:city": "Chengdu"}
    stored = await store.sessions.get_session("alice", "s/chat")
    assert stored is not None
    assert [each.type for each in stored.messages] == ["message", "function_call", "function_call_output", "message"]


async def test_partial_events_of_a_stream_are_not_stored(store: AgentStore) -> None:
    from google.adk.agents.run_config import RunConfig, StreamingMode

    config = RunConfig(streaming_mode=StreamingMode.SSE)
    assert await ask(runner_of(store, "A little."), "Any rain?", run_config=config) == "A little."
    assert texts_of(each.content for each in (await _session(store)).events) == ["Any rain?", "A little."]


async def test_a_session_is_rewound(store: AgentStore) -> None:
    runner = runner_of(store, "One.", "Two.", "Three.", output_key="answer")
    await ask(runner, "first")
    await ask(runner, "second")
    turn = (await _session(store)).events[-1].invocation_id
    await runner.rewind_async(user_id="alice", session_id="s", rewind_before_invocation_id=turn)
    assert (await _session(store)).state == {"answer": "One."}
    await ask(runner, "third")
    assert runner.agent.model.inputs[2] == ["first", "One.", "third"]


@pytest.mark.filterwarnings("ignore:ParallelAgent is deprecated")
async def test_parallel_agents_append_to_one_session(store: AgentStore) -> None:
    from google.adk.agents import LlmAgent, ParallelAgent

    runner = runner_of(store)
    agents = [LlmAgent(name=f"a{n}", model=scripted(f"answer {n}"), output_key=f"k{n}") for n in range(5)]
    runner.agent = ParallelAgent(name="all", sub_agents=agents)
    await ask(runner, "go")
    session = await _session(store)
    assert session.state == {f"k{n}": f"answer {n}" for n in range(5)}
    texts = texts_of(each.content for each in session.events if each.content)
    assert sorted(texts) == ["answer 0", "answer 1", "answer 2", "answer 3", "answer 4", "go"]


async def test_twenty_concurrent_turns_lose_nothing(store: AgentStore) -> None:
    """Of one session: a turn that is refused as stale is run again."""
    from google.adk.errors._stale_session_error import StaleSessionError

    await ask(runner_of(store, "Hello."), "Hello")

    async def one(number: int) -> None:
        while True:
            runner = runner_of(store, f"answer {number}", output_key=f"user:k{number}")
            try:
                await ask(runner, f"question {number}")
            except StaleSessionError:
                continue
            return

    await asyncio.gather(*map(one, range(20)))
    session = await _session(store)
    texts = texts_of(each.content for each in session.events)
    for number in range(20):
        assert texts.count(f"answer {number}") == 1
        assert texts.index(f"question {number}") < texts.index(f"answer {number}")
    assert session.state == {f"user:k{number}": f"answer {number}" for number in range(20)}


async def test_twenty_concurrent_turns_of_one_application_never_wait_or_mix(store: AgentStore) -> None:
    """Of as many sessions and users, with a state of the application that each turn changes."""

    async def one(number: int) -> None:
        app, user = f"app {number % 2}", f"user {number % 4}"
        runner = runner_of(store, f"answer {number}", app_name=app, output_key=f"app:k{number}")
        await ask(runner, f"question {number}", user, str(number // 4))

    await asyncio.gather(*map(one, range(20)))
    for number in range(20):
        ids = {"app_name": f"app {number % 2}", "user_id": f"user {number % 4}", "session_id": str(number // 4)}
        session = await _session(store, **ids)
        assert texts_of(each.content for each in session.events) == [f"question {number}", f"answer {number}"]
        assert session.state == {f"app:k{n}": f"answer {n}" for n in range(number % 2, 20, 2)}


async def test_two_applications_with_the_same_ids_never_meet(store: AgentStore) -> None:
    for app in ("one", "two"):
        await ask(runner_of(store, f"I am {app}.", app_name=app, output_key="user:name"), "Who are you?")
    for app in ("one", "two"):
        runner = runner_of(store, "Yes.", app_name=app)
        await ask(runner, "Sure?")
        assert runner.agent.model.inputs == [["Who are you?", f"I am {app}.", "Sure?"]]
        assert (await _session(store, app_name=app)).state == {"user:name": f"I am {app}."}


_KILLED = """
import asyncio, os, signal
from agentstore import AgentStore
from tests.adapters.adk.test_sdk import ask, runner_of

def weather(city: str) -> str:
    "Return the weather."
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with AgentStore(os.environ["URL"]) as store:
        runner = runner_of(store, "One.", {"city": "Chengdu"}, tools=[weather], output_key="answer")
        await ask(runner, "first")
        await ask(runner, "second")

asyncio.run(main())
"""


async def test_the_next_process_knows_what_a_killed_one_stored(store: AgentStore, direct_url: str) -> None:
    environment = {**os.environ, "URL": direct_url, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _KILLED, env=environment)
    assert await process.wait() == -signal.SIGKILL
    session = await _session(store)
    assert texts_of(each.content for each in session.events) == ["first", "One.", "second", "weather"]
    assert session.state == {"answer": "One."}
    runner = runner_of(store, "Two.")
    assert await ask(runner, "again") == "Two."
    known = runner.agent.model.inputs[0]
    assert known[:3] == ["first", "One.", "second"]
    assert known[-1] == "again"


_APPEND = """
import asyncio, os, sys
from agentstore import AgentStore
from agentstore.adapters.adk import AgentStoreSessionService
from google.adk.errors._stale_session_error import StaleSessionError
from tests.adapters.adk.events import delta_event

async def main():
    async with AgentStore(os.environ["URL"]) as store:
        service = AgentStoreSessionService(store)
        ids = {"app_name": "chat", "user_id": "alice", "session_id": "s"}
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(25):
            event = delta_event({f"{sys.argv[1]}/{number}": number, f"app:{sys.argv[1]}": number})
            while True:
                try:
                    await service.append_event(await service.get_session(**ids), event)
                    break
                except StaleSessionError:
                    pass

asyncio.run(main())
"""


async def test_four_processes_lose_nothing(store: AgentStore, direct_url: str) -> None:
    from agentstore.adapters.adk import AgentStoreSessionService

    await AgentStoreSessionService(store).create_session(app_name="chat", user_id="alice", session_id="s")
    pipe = asyncio.subprocess.PIPE
    environment = {**os.environ, "URL": direct_url, "PYTHONPATH": str(ROOT)}
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _APPEND, str(writer), stdin=pipe, stdout=pipe, env=environment
        )
        for writer in range(4)
    ]
    for each in processes:
        assert each.stdout is not None
        assert await each.stdout.readline() == b"ready\n"
    await asyncio.gather(*(each.communicate(b"\n") for each in processes))
    assert [each.returncode for each in processes] == [0] * 4
    session = await _session(store)
    expected = {f"{writer}/{number}": number for writer in range(4) for number in range(25)}
    assert session.state == {**expected, **{f"app:{writer}": 24 for writer in range(4)}}
    assert len(session.events) == 100


async def test_the_example_continues_where_it_ended(store: AgentStore, database_url: str, tmp_path: Path) -> None:
    program = (sys.executable, "-W", "ignore", str(ROOT / "examples" / "adk_agent.py"), "alice")
    (tmp_path / "sitecustomize.py").write_text(
        "from google.adk.models import LLMRegistry\n"
        "from tests.adapters.adk.test_sdk import scripted\n"
        "LLMRegistry.new_llm = staticmethod(lambda name: scripted('Hello.'))\n"
    )
    environment = {"AGENTSTORE_DATABASE_URL": database_url, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    first = await run_process(*program, environment=environment, folder=tmp_path, stdin="Any rain in 杭州?\n")
    assert first.endswith("Hello.\n")
    second = await run_process(*program, environment=environment, folder=tmp_path, stdin="And today?\n")
    assert "user: Any rain in 杭州?\nassistant: Hello.\n" in second
    assert second.endswith("Hello.\n")


async def test_the_python_of_the_page_runs_twice(
    store: AgentStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", database_url)
    page = [each for each in blocks(ROOT / "docs/adk.md") if each.language == "python"]
    assert len(page) >= 2
    for _ in range(2):
        names = {**await seed(store), "model": scripted(*["A little."] * 20), "text_event": text_event}
        for block in page:
            await run_python(block, names)


async def test_adk_creates_the_services_for_a_uri(
    store: AgentStore, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.adk.cli import service_registry
    from google.adk.cli.utils.service_factory import (
        create_artifact_service_from_options,
        create_memory_service_from_options,
        create_session_service_from_options,
    )

    from agentstore.adapters.adk import (
        AgentStoreArtifactService,
        AgentStoreMemoryService,
        AgentStoreSessionService,
        register,
    )

    (yaml,) = [each for each in blocks(ROOT / "docs/adk.md") if each.language == "yaml"]
    (tmp_path / "services.yaml").write_text(yaml.code)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", database_url)
    uris = (f"agentstore://{database_url.partition('://')[2]}", "agentstore://")
    loads: list[Callable[[], Any]] = [register, lambda: service_registry.load_services_module(str(tmp_path))]
    for number, load in enumerate(loads):
        monkeypatch.setattr(service_registry, "_service_registry_instance", None)
        load()
        for uri in uris:
            service = create_session_service_from_options(base_dir=tmp_path, session_service_uri=uri)
            assert isinstance(service, AgentStoreSessionService)
            async with service:
                await service.create_session(app_name=f"chat {number}", user_id="alice")
            memory = create_memory_service_from_options(base_dir=tmp_path, memory_service_uri=uri)
            assert isinstance(memory, AgentStoreMemoryService)
            async with memory:
                assert not (await memory.search_memory(app_name="chat", user_id="alice", query="x")).memories
            artifacts = create_artifact_service_from_options(base_dir=tmp_path, artifact_service_uri=uri)
            assert isinstance(artifacts, AgentStoreArtifactService)
            async with artifacts:
                assert await artifacts.list_artifact_keys(app_name="chat", user_id="alice") == []
    assert len(await store.sessions.list_sessions("alice")) == 4


async def test_uris_that_name_no_database_are_refused() -> None:
    from agentstore import NotConfigured
    from agentstore.adapters.adk import session_service

    for uri in ("agentstore://", "postgresql://host/db", "", "agentstore:host"):
        with pytest.raises(NotConfigured):
            session_service(uri)
