"""The saver in real graphs: resumed after a kill, interrupted, forked in the past, and in subgraphs."""

# pyright: reportMissingImports=false
import asyncio
import os
import signal
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

import asyncpg
import pytest

from agentstore import AgentStore
from tests.adapters.langgraph.graphs import MESSAGE, Thread, config_of, listed, sizes_sql
from tests.support.documents import ROOT

pytestmark = pytest.mark.adapters


class _State(TypedDict):
    done: list[str]


def _graph(saver: Any, *nodes: str, action: Any = None) -> Any:
    """Return a graph that visits nodes in order; each appends its name after calling `action` with it."""
    from langgraph.graph import END, START, StateGraph

    def node(name: str) -> Any:
        def work(state: _State) -> Any:
            if action is not None:
                action(name)
            return {"done": [*state["done"], name]}

        return work

    builder = StateGraph(_State)
    for name in nodes:
        builder.add_node(name, node(name))
    for first, second in zip((START, *nodes), (*nodes, END), strict=True):
        builder.add_edge(first, second)
    return builder.compile(checkpointer=saver)


_KILLED = """
import asyncio, os, signal, sys
from agentstore import AgentStore
from agentstore.adapters.langgraph import AgentStoreSaver
from tests.adapters.langgraph.test_sdk import _graph

def action(name):
    print(name, flush=True)
    if name == "second":
        os.kill(os.getpid(), signal.SIGKILL)

config = {"configurable": {"thread_id": "t", "user_id": "alice"}}

async def main():
    async with AgentStore(os.environ["URL"]) as store:
        graph = _graph(AgentStoreSaver(store), "first", "second", "third", action=action)
        await graph.ainvoke({"done": []}, config, durability="sync")

if sys.argv[1] == "async":
    asyncio.run(main())
else:
    with AgentStoreSaver(url=os.environ["URL"]) as saver:
        _graph(saver, "first", "second", "third", action=action).invoke({"done": []}, config, durability="sync")
"""


@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_a_graph_that_was_killed_between_two_nodes_is_resumed(
    store: AgentStore, database_url: str, mode: str
) -> None:
    from agentstore.adapters.langgraph import AgentStoreSaver

    environment = {**os.environ, "URL": database_url, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _KILLED, mode, env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert (process.returncode, output.split()) == (-signal.SIGKILL, [b"first", b"second"])
    calls: list[str] = []
    graph = _graph(AgentStoreSaver(store), "first", "second", "third", action=calls.append)
    config: Any = {"configurable": {"thread_id": "t", "user_id": "alice"}}
    assert (await graph.aget_state(config)).next == ("second",)
    assert await graph.ainvoke(None, config) == {"done": ["first", "second", "third"]}
    assert calls == ["second", "third"]


async def test_a_graph_is_continued_from_each_state_of_its_history(store: AgentStore) -> None:
    from agentstore.adapters.langgraph import AgentStoreSaver

    graph = _graph(AgentStoreSaver(store), "a", "b", "c")
    config: Any = {"configurable": {"thread_id": "t", "user_id": "alice"}}
    await graph.ainvoke({"done": ["first"]}, config)
    history = [each async for each in graph.aget_state_history(config)]
    assert [each.next for each in history] == [(), ("c",), ("b",), ("a",), ("__start__",)]
    fork = await graph.aupdate_state(history[2].config, {"done": ["changed"]})
    assert await graph.ainvoke(None, fork) == {"done": ["changed", "b", "c"]}
    for each in history:
        again = await graph.aget_state(each.config)
        assert (again.values, again.next, again.metadata) == (each.values, each.next, each.metadata)
    assert (await graph.aget_state(config)).values == {"done": ["changed", "b", "c"]}


async def test_an_interrupted_graph_is_resumed_with_an_answer(store: AgentStore) -> None:
    from langgraph.types import Command, interrupt

    from agentstore.adapters.langgraph import AgentStoreSaver

    answers: list[Any] = []
    graph = _graph(AgentStoreSaver(store), "ask", action=lambda name: answers.append(interrupt(name)))
    config: Any = {"configurable": {"thread_id": "t"}}
    result = await graph.ainvoke({"done": []}, config)
    assert result["__interrupt__"][0].value == "ask"
    assert await graph.ainvoke(Command(resume="yes"), config) == {"done": ["ask"]}
    assert answers == ["yes"]


async def test_subgraphs_have_namespaces_of_their_own(store: AgentStore) -> None:
    from langgraph.graph import END, START, StateGraph

    from agentstore.adapters.langgraph import AgentStoreSaver

    saver = AgentStoreSaver(store)
    builder = StateGraph(_State)
    builder.add_node("inner", _graph(None, "a", "b"))
    builder.add_edge(START, "inner")
    builder.add_edge("inner", END)
    graph = builder.compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "t", "user_id": "alice"}}
    assert await graph.ainvoke({"done": []}, config) == {"done": ["a", "b"]}
    found = await listed(saver, config)
    namespaces = {each.config["configurable"]["checkpoint_ns"].partition(":")[0] for each in found}
    assert namespaces == {"", "inner"}
    assert [each.checkpoint["id"] for each in found] == sorted((each.checkpoint["id"] for each in found), reverse=True)


def test_a_synchronous_graph_works(database_url: str) -> None:
    from agentstore.adapters.langgraph import AgentStoreSaver

    with AgentStoreSaver(url=database_url) as saver:
        graph = _graph(saver, "a", "b")
        config: Any = {"configurable": {"thread_id": "t"}}
        assert graph.invoke({"done": []}, config) == {"done": ["a", "b"]}
        assert len(list(graph.get_state_history(config))) == 4


async def _grow(saver: Any, thread: Thread, turns: int) -> None:
    for number in range(turns):
        await thread.append(f"{number} question {MESSAGE * 4}")
        await thread.append(f"{number} answer {MESSAGE * 4}")
        await saver.aput_writes(thread.config, [("messages", f"{number} {MESSAGE}")], f"task {number}")


async def test_storage_grows_with_what_is_new_and_a_read_does_not(store: AgentStore, direct_url: str) -> None:
    """Twice the turns take twice the space, and a read has about as many rows."""
    from agentstore.adapters.langgraph import AgentStoreSaver

    saver = AgentStoreSaver(store)
    connection = await asyncpg.connect(direct_url)
    thread = Thread(saver, "t")
    measured = []
    for turns in (100, 100, 200, 400):
        await _grow(saver, thread, turns)
        size = await connection.fetchval(sizes_sql())
        own = await connection.fetchval("SELECT sum(size)::bigint FROM agentstore.checkpoint_values")
        most = await connection.fetchval("SELECT max(cardinality(sources)) FROM agentstore.checkpoint_values")
        raw = len(saver.serde.dumps_typed(thread.messages)[1])
        # Each byte is stored about once for each order of magnitude, instead of once for each version.
        assert own < 6 * raw
        assert most < 40
        measured.append(size)
    await connection.close()
    assert all(following <= 2.3 * size for size, following in pairwise(measured[1:]))
    found = await saver.aget_tuple(config_of("t"))
    assert found.checkpoint["channel_values"]["messages"] == thread.messages


async def test_encrypted_values_take_no_more_than_their_size(store: AgentStore, direct_url: str) -> None:
    from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

    from agentstore.adapters.langgraph import AgentStoreSaver

    saver = AgentStoreSaver(store, serde=EncryptedSerializer.from_pycryptodome_aes(key=b"0" * 32))
    thread = Thread(saver, "t")
    raw = 0
    for number in range(30):
        await thread.append(f"{number} {MESSAGE * 50}")
        raw += len(saver.serde.dumps_typed(thread.messages)[1])
    connection = await asyncpg.connect(direct_url)
    stored = await connection.fetchval("SELECT sum(octet_length(data))::bigint FROM agentstore.checkpoint_values")
    await connection.close()
    assert stored <= raw


def test_the_example_resumes_a_killed_graph(database_url: str, tmp_path: Path) -> None:
    import subprocess

    environment = {**os.environ, "AGENTSTORE_DATABASE_URL": database_url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "examples/langgraph_resume.py"), "trip"]
    first = subprocess.run([*command, "--crash"], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert first.returncode != 0
    assert "plan:" in first.stdout
    assert "book:" not in first.stdout
    second = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert "plan:" not in second.stdout
    assert "book:" in second.stdout
