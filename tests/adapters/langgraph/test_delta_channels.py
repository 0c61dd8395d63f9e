"""Delta channels: their writes are found along the parents, in the order of a step, and remain as long as needed."""

# pyright: reportMissingImports=false
import random
from typing import Annotated, Any, TypedDict

import pytest

from agentstore import AgentStore
from tests.adapters.langgraph.graphs import MESSAGE, checkpoint_of, config_of, listed

pytestmark = pytest.mark.adapters


@pytest.fixture(params=["Postgres", "InMemory"])
def saver(request: pytest.FixtureRequest) -> Any:
    from agentstore.adapters.langgraph import AgentStoreSaver

    is_postgres = request.param == "Postgres"
    return AgentStoreSaver(request.getfixturevalue("store") if is_postgres else AgentStore.in_memory())


async def _put(
    saver: Any, parent: Any, values: dict[str, Any], *, counters: tuple[str, ...] = (), versions: Any = None
) -> Any:
    """Put a checkpoint after another one; `counters` are delta channels without a stored value."""
    versions = versions or {name: saver.get_next_version(None, None) for name in (*values, *counters)}
    metadata = {"counters_since_delta_snapshot": dict.fromkeys(counters, (1, 1))} if counters else {}
    return await saver.aput(parent, checkpoint_of(values, versions), metadata, versions)


async def _chain(saver: Any, values: list[dict[str, Any]], channels: tuple[str, ...] = ("ch",)) -> list[Any]:
    """Put a chain of checkpoints, each with a write of its number to each channel."""
    configs = [config_of("t")]
    for number, each in enumerate(values):
        counters = tuple(name for name in channels if name not in each)
        configs.append(await _put(saver, configs[-1], each, counters=counters))
        await saver.aput_writes(configs[-1], [(name, number) for name in channels], f"task {number}")
    return configs[1:]


async def _history(saver: Any, config: Any, *channels: str) -> dict[str, tuple[Any, list[Any]]]:
    found = await saver.aget_delta_channel_history(config=config, channels=channels)
    return {name: (each.get("seed", "none"), [write[2] for write in each["writes"]]) for name, each in found.items()}


async def test_writes_after_the_nearest_value_are_returned_the_oldest_first(saver: Any) -> None:
    configs = await _chain(saver, [{}, {"ch": ["old"]}, {}, {"ch": ["value"]}, {}, {}])
    assert await _history(saver, configs[-1], "ch") == {"ch": (["value"], [3, 4])}
    assert await _history(saver, configs[3], "ch") == {"ch": (["old"], [1, 2])}
    assert await _history(saver, configs[1], "ch") == {"ch": ("none", [0])}
    assert await _history(saver, configs[0], "ch") == {"ch": ("none", [])}


async def test_without_an_id_the_history_is_that_of_the_last_checkpoint(saver: Any) -> None:
    configs = await _chain(saver, [{"ch": [1]}, {}, {}])
    assert (
        await _history(saver, config_of("t"), "ch") == await _history(saver, configs[-1], "ch") == {"ch": ([1], [0, 1])}
    )
    assert await _history(saver, config_of("missing"), "ch") == {"ch": ("none", [])}
    assert await _history(saver, config_of("t")) == {}


async def test_each_channel_ends_at_its_own_value(saver: Any) -> None:
    from langgraph.checkpoint.serde.types import _DeltaSnapshot

    values = [{}, {"a": _DeltaSnapshot("of a")}, {}, {"b": 7}, {}]
    configs = await _chain(saver, values, ("a", "b", "c"))
    found = await _history(saver, configs[-1], "a", "b", "c")
    assert (found["a"][0].value, found["a"][1]) == ("of a", [1, 2, 3])
    assert found["b"] == (7, [3])
    assert found["c"] == ("none", [0, 1, 2, 3])


@pytest.mark.parametrize("value", [None, False, 0, "", [], "text", 1.5])
async def test_each_plain_value_of_an_earlier_channel_type_is_a_seed(saver: Any, value: Any) -> None:
    configs = await _chain(saver, [{"ch": value}, {}, {}])
    assert await _history(saver, configs[-1], "ch") == {"ch": (value, [0, 1])}


async def test_writes_of_parallel_tasks_are_in_the_order_of_their_paths(saver: Any) -> None:
    parent = await _put(saver, config_of("t"), {}, counters=("ch",))
    child = await _put(saver, parent, {}, counters=("ch",))
    for path, task in (("~b", "1"), ("~a", "3"), ("~a", "2"), ("", "9")):
        await saver.aput_writes(parent, [("ch", f"{path}{task}.{n}") for n in range(2)], task, path)
    expected = ["9.0", "9.1", "~a2.0", "~a2.1", "~a3.0", "~a3.1", "~b1.0", "~b1.1"]
    assert await _history(saver, child, "ch") == {"ch": ("none", expected)}
    assert [write[2] for write in (await saver.aget_tuple(parent)).pending_writes] == expected


async def test_only_the_parents_of_a_fork_contribute(saver: Any) -> None:
    configs = await _chain(saver, [{"ch": ["root"]}, {}, {}, {}])
    fork = await _put(saver, configs[1], {}, counters=("ch",))
    assert await _history(saver, fork, "ch") == {"ch": (["root"], [0, 1])}


async def test_long_chains_are_followed_in_pages(saver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentstore.repositories.checkpoints import service

    monkeypatch.setattr(service, "_CHAIN", 4)
    configs = await _chain(saver, [{"ch": ["root"]}, *({} for _ in range(12))])
    assert await _history(saver, configs[-1], "ch") == {"ch": (["root"], list(range(12)))}


async def test_random_histories_equal_those_of_the_saver_in_memory(saver: Any) -> None:
    from langgraph.checkpoint.memory import InMemorySaver

    chance = random.Random(3)
    other = InMemorySaver()
    ids: list[str] = []
    for number in range(60):
        id, parent = f"{number:04}", chance.choice(ids) if ids and number % 4 == 0 else max(ids, default=None)
        values = {name: [number, MESSAGE * chance.randrange(30)] for name in "ab" if chance.random() < 0.15}
        versions = dict.fromkeys("ab", f"{number}")
        for each in (saver, other):
            config = config_of("t", parent)
            await each.aput(config, checkpoint_of(values, versions, id=id), {}, versions)
            for task in "xyz"[: number % 4]:
                writes = [(name, f"{id} {task} {name}") for name in "abc"]
                await each.aput_writes(config_of("t", id), writes, task, f"~{number * 7 % 5}")
        ids.append(id)
    for id in ids:
        arguments: dict[str, Any] = {"config": config_of("t", id), "channels": ["a", "b", "c"]}
        expected = await other.aget_delta_channel_history(**arguments)
        assert await saver.aget_delta_channel_history(**arguments) == expected
        assert saver.get_delta_channel_history(**arguments) == expected


async def test_pruning_and_copying_retain_what_a_delta_channel_is_computed_from(saver: Any) -> None:
    configs = await _chain(saver, [{}, {"ch": ["old"]}, {}, {"ch": ["value"]}, {}, {}])
    expected = await _history(saver, configs[-1], "ch")
    await saver.acopy_thread("t", "copy")
    assert await _history(saver, config_of("copy"), "ch") == expected
    await saver.aprune(["t"])
    assert await _history(saver, config_of("t"), "ch") == expected
    assert [each.config for each in await listed(saver, config_of("t"))] == configs[:2:-1]
    await saver.aprune(["t"])
    assert await _history(saver, config_of("t"), "ch") == expected
    assert len(await listed(saver, config_of("t"))) == 3


def _extend(state: list[str], writes: list[list[str]]) -> list[str]:
    return [*state, *(each for write in writes for each in write)]


async def test_a_graph_with_a_delta_channel_continues_after_each_pruning(saver: Any) -> None:
    from langgraph.channels.delta import DeltaChannel
    from langgraph.graph import END, START, StateGraph

    class State(TypedDict):
        items: Annotated[list[str], DeltaChannel(_extend, snapshot_frequency=5)]

    builder = StateGraph(State)
    builder.add_node("answer", lambda state: {"items": [f"answer to {len(state['items'])}"]})
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    graph = builder.compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "t", "user_id": "alice"}}
    expected: list[str] = []
    for turn in range(14):
        result = await graph.ainvoke({"items": [f"turn {turn}"]}, config)
        expected += [f"turn {turn}", f"answer to {len(expected) + 1}"]
        assert result["items"] == expected
        if turn % 3 == 2:
            await saver.aprune(["t"])
        assert (await graph.aget_state(config)).values["items"] == expected
    assert len(await listed(saver, config)) < 20
