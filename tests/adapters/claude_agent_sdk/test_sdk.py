"""The session store with the real SDK, and with the Claude Code of its package, which uses a scripted model."""

# pyright: reportMissingImports=false
import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agentstore import AgentStore
from agentstore.adapters.claude_agent_sdk import AgentStoreSessionStore
from tests.adapters.claude_agent_sdk.entries import ALL, entry
from tests.adapters.claude_agent_sdk.model import call, environment, scripted_transport, serve, text
from tests.support.documents import ROOT, blocks, run_process, run_python, seed

pytestmark = pytest.mark.adapters

_HANG_GUARD = 60  # seconds


def _options(model: Any, folder: Path, transcripts: Any, **options: Any) -> Any:
    from claude_agent_sdk import ClaudeAgentOptions

    (folder / "app").mkdir(parents=True, exist_ok=True)
    return ClaudeAgentOptions(
        **{
            "session_store": transcripts,
            "cwd": folder / "app",
            "env": environment(model.url, folder),
            "setting_sources": [],
            "model": "claude-sonnet-4-5",
            **options,
        }
    )


def _forget(folder: Path) -> None:
    """Delete what Claude Code has stored on this host."""
    shutil.rmtree(folder / ".claude", ignore_errors=True)
    assert not (folder / ".claude").exists()


async def _query(prompt: str, options: Any, transport: Any = None) -> tuple[str, str]:
    """Run a turn of Claude Code; return the text of the answer, and the id of the session."""
    from claude_agent_sdk import MirrorErrorMessage, ResultMessage, query

    found = "", ""
    async for message in query(prompt=prompt, options=options, transport=transport):
        assert not isinstance(message, MirrorErrorMessage), message
        if isinstance(message, ResultMessage):
            found = message.result or "", message.session_id
    return found


async def test_a_session_is_resumed_on_another_host(store: AgentStore, tmp_path: Path) -> None:
    from claude_agent_sdk import get_session_messages_from_store, list_sessions_from_store, project_key_for_directory

    transcripts = AgentStoreSessionStore(store, user_id="alice", remember=True)
    app = tmp_path / "app"
    with serve(text("A little."), text("None there."), text("Take one.")) as model:
        answer, id = await _query("Any rain in 杭州?", _options(model, tmp_path, transcripts))
        assert answer == "A little."
        _forget(tmp_path)
        transcripts = AgentStoreSessionStore(store, user_id="alice", remember=True)
        answer, same = await _query("And in Chengdu?", _options(model, tmp_path, transcripts, resume=id))
        assert (answer, same) == ("None there.", id)
        assert model.texts(1) == ["Any rain in 杭州?", "A little.", "And in Chengdu?"]
        _forget(tmp_path)
        options = _options(model, tmp_path, transcripts, continue_conversation=True)
        assert await _query("Umbrella?", options) == ("Take one.", id)
        assert model.texts(2) == ["Any rain in 杭州?", "A little.", "And in Chengdu?", "None there.", "Umbrella?"]
    (listed,) = await list_sessions_from_store(transcripts, str(app))
    assert (listed.session_id, listed.first_prompt, listed.summary) == (id, "Any rain in 杭州?", "Umbrella?")
    messages = await get_session_messages_from_store(transcripts, id, str(app))
    assert [each.type for each in messages] == ["user", "assistant"] * 3
    stored = await store.sessions.get_session("alice", f"{id}/{project_key_for_directory(app)}")
    assert stored is not None
    said = [each.text for each in stored.messages if each.type == "message"]
    assert said == ["Any rain in 杭州?", "A little.", "And in Chengdu?", "None there.", "Umbrella?", "Take one."]
    found = await store.memory.search_memory("alice", "成都 Chengdu", {"neighbors": False})
    assert [each.text for each in found] == ["And in Chengdu?"]
    assert found[0].metadata is not None


async def test_the_transcript_of_a_subagent_is_stored(store: AgentStore, tmp_path: Path) -> None:
    from claude_agent_sdk import get_subagent_messages_from_store, list_subagents_from_store

    transcripts = AgentStoreSessionStore(store, user_id="alice")
    task = {"description": "Rain", "prompt": "Find the rain.", "subagent_type": "general-purpose"}
    with serve(call("Agent", **task, run_in_background=False), text("3 mm."), text("It rains."), text("Yes.")) as model:
        answer, id = await _query("Ask an agent.", _options(model, tmp_path, transcripts, allowed_tools=["Agent"]))
        assert answer == "It rains."
        (agent,) = await list_subagents_from_store(transcripts, id, str(tmp_path / "app"))
        messages = await get_subagent_messages_from_store(transcripts, id, agent, str(tmp_path / "app"))
        assert [each.type for each in messages] == ["user", "assistant"]
        assert messages[0].parent_tool_use_id == "toolu_Agent"
        _forget(tmp_path)
        answer, _ = await _query("Sure?", _options(model, tmp_path, transcripts, resume=id))
        assert answer == "Yes."
        assert model.texts(3)[:2] == ["Ask an agent.", "Agent"]
        assert "3 mm." in model.texts(3)[2]
    listed = await store.sessions.list_sessions("alice")
    assert len({each.app for each in listed}) == len(listed) == 2


_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from claude_agent_sdk import create_sdk_mcp_server, tool
from agentstore import AgentStore
from agentstore.adapters.claude_agent_sdk import AgentStoreSessionStore
from tests.adapters.claude_agent_sdk.model import call, serve, text
from tests.adapters.claude_agent_sdk.test_sdk import _options, _query

@tool("weather", "Return the weather.", {"city": str})
async def weather(arguments):
    await asyncio.to_thread(sys.stdin.readline)
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    folder = Path(os.environ["FOLDER"])
    async with AgentStore(os.environ["URL"]) as store:
        transcripts = AgentStoreSessionStore(store)
        options = {
            "mcp_servers": {"city": create_sdk_mcp_server("city", tools=[weather])},
            "allowed_tools": ["mcp__city__weather"],
            "session_store_flush": "eager",
        }
        with serve(text("One."), call("mcp__city__weather", city="Chengdu")) as model:
            _, id = await _query("first", _options(model, folder, transcripts, **options))
            print(id, flush=True)
            await _query("second", _options(model, folder, transcripts, resume=id, **options))

asyncio.run(main())
"""


async def test_the_next_process_knows_what_a_killed_one_stored(
    store: AgentStore, direct_url: str, tmp_path: Path
) -> None:
    from claude_agent_sdk import project_key_for_directory

    pipe = asyncio.subprocess.PIPE
    variables = {
        **os.environ,
        "URL": direct_url,
        "PYTHONPATH": str(ROOT),
        "FOLDER": str(tmp_path),
        "TMPDIR": str(tmp_path),
    }
    command = (sys.executable, "-c", _KILLED)
    process = await asyncio.create_subprocess_exec(*command, env=variables, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    id = (await process.stdout.readline()).decode().strip()
    transcripts = AgentStoreSessionStore(store)
    key: Any = {"project_key": project_key_for_directory(tmp_path / "app"), "session_id": id}
    async with asyncio.timeout(_HANG_GUARD):
        while "toolu_mcp__city__weather" not in json.dumps(await transcripts.load(key)):
            assert process.returncode is None
            await asyncio.sleep(0.05)
    process.stdin.write(b"\n")
    assert await process.wait() == -signal.SIGKILL
    _forget(tmp_path)
    with serve(text("Two.")) as model:
        answer, same = await _query("again", _options(model, tmp_path, transcripts, resume=id))
        assert (answer, same) == ("Two.", id)
        known = model.texts(0)
        assert known[:3] == ["first", "One.", "second"]
        assert known[-1] == "again"


async def test_twenty_concurrent_turns_lose_nothing(store: AgentStore, tmp_path: Path) -> None:
    """By the SDK's own mirror, all to one session; each writes its entries in several frames."""
    id = str(uuid4())
    path = tmp_path / "projects" / "-srv-app" / f"{id}.jsonl"

    async def one(number: int) -> list[Any]:
        question = entry(2 * number + 1, "user", f"question {number}")
        answer = entry(2 * number + 2, "assistant", [{"type": "text", "text": f"answer {number}"}])
        turns = [[question, {"type": "mode", "mode": str(number)}], [answer]]
        model = type("Model", (), {"url": ""})
        options = _options(model, tmp_path, AgentStoreSessionStore(store), session_store_flush="eager")
        options.env["CLAUDE_CONFIG_DIR"] = str(tmp_path)
        await _query("go", options, scripted_transport(path, id, turns))
        return [each for turn in turns for each in turn]

    written = await asyncio.gather(*map(one, range(20)))
    stored = await AgentStoreSessionStore(store).load({"project_key": "-srv-app", "session_id": id})
    assert stored is not None
    assert len(stored) == 60
    for entries in written:
        places = [stored.index(each) for each in entries]
        assert places == sorted(places)


async def test_the_mirror_stores_what_it_repeats_once(
    store: AgentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK appends the same entries again after an error, those without a uuid too."""
    from agentstore import Unavailable
    from agentstore.repositories import PostgresSessionHistoryService

    append, failures = PostgresSessionHistoryService.append, iter([True, True, False])

    async def lose_response(*args: Any, **kwargs: Any) -> Any:
        done = await append(*args, **kwargs)
        if next(failures):
            raise Unavailable("the response was lost")
        return done

    transcripts = AgentStoreSessionStore(store)
    key: Any = {"project_key": "-srv-app", "session_id": str(uuid4())}
    await transcripts.append(key, [{"type": "mode"}])
    monkeypatch.setattr(PostgresSessionHistoryService, "append", lose_response)
    path = tmp_path / "projects" / "-srv-app" / f"{key['session_id']}.jsonl"
    options = _options(type("Model", (), {"url": ""}), tmp_path, transcripts)
    options.env["CLAUDE_CONFIG_DIR"] = str(tmp_path)
    await _query("go", options, scripted_transport(path, key["session_id"], [ALL]))
    assert await transcripts.load(key) == [{"type": "mode"}, *ALL]


async def test_the_calls_of_the_sdk_on_a_store_work(
    store: AgentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from claude_agent_sdk import (
        delete_session_via_store,
        fork_session_via_store,
        get_session_info_from_store,
        get_session_messages_from_store,
        import_session_to_store,
        list_sessions_from_store,
        project_key_for_directory,
        rename_session_via_store,
        tag_session_via_store,
    )

    transcripts, app, id = AgentStoreSessionStore(store, user_id="alice"), str(tmp_path), str(uuid4())
    entries = [{**entry(n, "user", f"prompt {n}"), "sessionId": id} for n in range(1, 30)]
    path = tmp_path / ".claude" / "projects" / project_key_for_directory(app) / f"{id}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in entries), encoding="utf-8")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / ".claude"))
    for _ in range(2):
        await import_session_to_store(id, transcripts, directory=app, batch_size=10)
    assert len(await get_session_messages_from_store(transcripts, id, app)) == 29
    await rename_session_via_store(transcripts, id, "Rain", app)
    await tag_session_via_store(transcripts, id, "weather", app)
    forked = await fork_session_via_store(transcripts, id, app, title="Fork")
    listed = {each.session_id: each for each in await list_sessions_from_store(transcripts, app)}
    assert {each: (info.custom_title, info.tag) for each, info in listed.items()} == {
        id: ("Rain", "weather"),
        forked.session_id: ("Fork", None),
    }
    for each, info in listed.items():
        slow = await get_session_info_from_store(transcripts, each, app)
        assert slow is not None
        assert (slow.custom_title, slow.tag, slow.first_prompt) == (info.custom_title, info.tag, info.first_prompt)
    await delete_session_via_store(transcripts, id, app)
    assert [each.session_id for each in await list_sessions_from_store(transcripts, app)] == [forked.session_id]


async def test_the_example_continues_where_it_ended(store: AgentStore, database_url: str, tmp_path: Path) -> None:
    program = (sys.executable, str(ROOT / "examples" / "claude_agent.py"), "alice")
    with serve(text("A little."), text("None there.")) as model:
        variables = {**environment(model.url, tmp_path), "AGENTSTORE_DATABASE_URL": database_url}
        first = await run_process(*program, environment=variables, folder=tmp_path, stdin="Any rain in 杭州?\n")
        assert first == "A little.\n"
        _forget(tmp_path)
        second = await run_process(*program, environment=variables, folder=tmp_path, stdin="\nIn Chengdu? 杭州?\n")
        assert second.endswith(": Any rain in 杭州?\n(remembered: Any rain in 杭州?)\nNone there.\n")
        assert model.texts(1) == ["Any rain in 杭州?", "A little.", "In Chengdu? 杭州?"]


async def test_the_python_of_the_page_runs_twice(
    store: AgentStore,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from claude_agent_sdk import project_key_for_directory

    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)
    page = [each for each in blocks(ROOT / "docs/claude-agent-sdk.md") if each.language == "python"]
    assert len(page) >= 3
    with serve(*[text("None in 成都.")] * 4) as model:
        for name, value in environment(model.url, tmp_path).items():
            monkeypatch.setenv(name, value)
        for run in (1, 2):
            names = await seed(store)
            for block in page:
                await run_python(block, names)
            printed = capsys.readouterr().out.splitlines()
            assert printed[0] == "None in 成都."
            assert printed.count("4") == run
            assert len(await store.sessions.list_sessions("alice", app=project_key_for_directory(tmp_path))) == run
        assert model.texts(1) == ["Any rain in Chengdu?", "None in 成都.", "And tomorrow?"]


_APPEND = """
import asyncio, os, sys
from agentstore import AgentStore
from agentstore.adapters.claude_agent_sdk import AgentStoreSessionStore

async def main():
    writer, key = sys.argv[1], {"project_key": "p", "session_id": "s"}
    async with AgentStore(os.environ["URL"]) as store:
        transcripts = AgentStoreSessionStore(store)
        async def write(task):
            for n in range(int(os.environ["APPENDS"])):
                place = f"{writer}/{task}/{n}"
                entries = [{"type": "mode", "at": place}, {"type": "x", "uuid": place, "at": place}]
                await transcripts.append(key, entries)
        await asyncio.gather(*map(write, range(int(os.environ["TASKS"]))))

asyncio.run(main())
"""


async def test_four_processes_lose_nothing_and_keep_the_order_of_each_caller(
    store: AgentStore, direct_url: str
) -> None:
    tasks, appends = 10, 20
    variables = {**os.environ, "URL": direct_url, "PYTHONPATH": str(ROOT), "TASKS": str(tasks), "APPENDS": str(appends)}
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", _APPEND, str(number), env=variables)
        for number in range(4)
    ]
    assert await asyncio.gather(*(each.wait() for each in processes)) == [0] * 4
    stored = await AgentStoreSessionStore(store).load({"project_key": "p", "session_id": "s"})
    assert stored is not None
    assert len(stored) == 4 * tasks * appends * 2
    by_caller: dict[str, list[int]] = {}
    for first, second in zip(stored[::2], stored[1::2], strict=True):
        assert first["at"] == second["at"]
        caller, _, number = first["at"].rpartition("/")
        by_caller.setdefault(caller, []).append(int(number))
    assert set(map(tuple, by_caller.values())) == {tuple(range(appends))}
    assert len(by_caller) == 4 * tasks
