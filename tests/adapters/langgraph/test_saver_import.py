"""What PostgresSaver has stored is imported: threads continue here where they ended."""

# pyright: reportMissingImports=false
import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from agentstore import AgentStore
from tests.adapters.langgraph.graphs import checkpoint_of
from tests.support.cli import run

pytestmark = pytest.mark.adapters


@pytest.fixture
def source(direct_url: str, empty_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A saver of the other package in a database of its own."""
    from langgraph.checkpoint.postgres import PostgresSaver

    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)
    with PostgresSaver.from_conn_string(empty_url) as other:
        other.setup()
        yield other


async def _import(url: str, *options: str, code: int = 0) -> Any:
    done = await asyncio.to_thread(run, "import", "--from", "langgraph", url, "--json", *options)
    assert done.code == code, done.err
    return json.loads(done.out)


def _saver(store: AgentStore) -> Any:
    from agentstore.adapters.langgraph import AgentStoreSaver

    return AgentStoreSaver(store)


def _graph(saver: Any) -> Any:
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.types import interrupt

    def think(state: Any) -> dict[str, Any]:
        return {"messages": [("ai", f"thought {len(state['messages'])}")]}

    def ask(state: Any) -> dict[str, Any]:
        return {"messages": [("ai", f"you said {interrupt('sure?')}")]}

    builder = StateGraph(MessagesState)
    builder.add_node("think", think)
    builder.add_node("ask", ask)
    builder.add_edge(START, "think")
    builder.add_edge("think", "ask")
    return builder.compile(checkpointer=saver)


def _config(thread_id: str, **more: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id, **more}}


def _plain(checkpoint: Any) -> Any:
    configurable = checkpoint.config["configurable"]
    parent = (checkpoint.parent_config or {}).get("configurable", {}).get("checkpoint_id")
    writes = sorted((task, channel, repr(value)) for task, channel, value in checkpoint.pending_writes or ())
    return configurable["checkpoint_id"], parent, checkpoint.checkpoint, dict(checkpoint.metadata), writes


async def test_threads_are_imported_and_continue(source: Any, empty_url: str, store: AgentStore) -> None:
    from langgraph.types import Command

    configs = [_config("one"), _config("two", user_id="alice")]
    for config in configs:
        graph = _graph(source)
        for number in range(3):
            await asyncio.to_thread(graph.invoke, {"messages": [("user", f"question {number}")]}, config)
            await asyncio.to_thread(graph.invoke, Command(resume=f"yes {number}"), config)
        await asyncio.to_thread(graph.invoke, {"messages": [("user", "the last")]}, config)
    expected = [[_plain(each) for each in source.list(config)] for config in configs]
    dry = await _import(empty_url, "--dry-run")
    assert dry["checkpoints"] == sum(map(len, expected))
    for _ in range(2):
        assert (await _import(empty_url))["checkpoints"] == dry["checkpoints"]
        saver = _saver(store)
        for config, wanted in zip(configs, expected, strict=True):
            assert [_plain(each) async for each in saver.alist(config)] == wanted
    assert [user.id for user in await store.users.list_users()] == ["alice", "one"]
    for config in configs:
        result = await _graph(saver).ainvoke(Command(resume="yes"), config)
        assert [each.content for each in result["messages"]][-2:] == ["thought 10", "you said yes"]


async def test_threads_of_many_pages_belong_to_the_given_user(
    source: Any, empty_url: str, store: AgentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = _graph(source)
    for number in range(40):
        await asyncio.to_thread(graph.invoke, {"messages": [("user", "hello")]}, _config(f"t{number}"))
    moved = await _import(empty_url, "--user", "carol")
    assert moved["checkpoints"] == len(list(source.list(None))) > 100
    assert [user.id for user in await store.users.list_users()] == ["carol"]
    found = await _saver(store).aget_tuple(_config("t39", user_id="carol"))
    assert found.checkpoint == source.get_tuple(_config("t39")).checkpoint


@pytest.mark.parametrize("gap", ["missing", "refused"])
async def test_a_checkpoint_without_its_parent_is_imported_with_all_of_its_values(
    source: Any, empty_url: str, store: AgentStore, monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    """Its parent has set a channel that it does not change."""
    config, parent = _config("t", checkpoint_ns=""), ""
    steps = [{"messages": ["a"]}, {"messages": ["x" * 9_000], "topic": ["rain"]}, {"messages": ["b"]}]
    values: dict[str, Any] = {}
    versions: dict[str, str] = {}
    for step in steps:
        parent = config["configurable"].get("checkpoint_id", "")
        new = {channel: source.get_next_version(versions.get(channel), None) for channel in step}
        values, versions = {**values, **step}, {**versions, **new}
        config = await asyncio.to_thread(source.put, config, checkpoint_of(values, versions), {}, new)
    if gap == "missing":
        with source._cursor() as cursor:
            cursor.execute("DELETE FROM checkpoints WHERE checkpoint_id = %s", [parent])
    else:
        monkeypatch.setenv("AGENTSTORE_MAX_STATE_BYTES", "5000")
    assert (await _import(empty_url, code=0 if gap == "missing" else 5))["checkpoints"] == 2
    found = await _saver(store).aget_tuple(_config("t"))
    assert found.checkpoint["channel_values"] == {"messages": ["b"], "topic": ["rain"]}
