"""The saver of LangGraph: values in pieces, users, pruning, copies, any serializer, and concurrent writers."""

# pyright: reportMissingImports=false
import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, AlreadyExists, InvalidContent, LimitExceeded, NotConfigured, Settings
from tests.adapters.langgraph.graphs import MESSAGE, Thread, checkpoint_of, config_of, listed, plain

pytestmark = pytest.mark.adapters


@pytest.fixture(params=["Postgres", "InMemory"])
def any_store(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("store") if request.param == "Postgres" else AgentStore.in_memory()


@pytest.fixture
def saver(any_store: Any) -> Any:
    from agentstore.adapters.langgraph import AgentStoreSaver

    return AgentStoreSaver(any_store)


async def test_each_checkpoint_of_a_growing_value_is_read_exactly(saver: Any) -> None:
    thread = Thread(saver, "t")
    configs = [await thread.append(f"{number} {MESSAGE * 3}") for number in range(120)]
    for number in (0, 1, 7, 8, 9, 63, 64, 118, 119):
        found = await saver.aget_tuple(configs[number])
        assert found.checkpoint["channel_values"]["messages"] == thread.messages[: number + 1]
    found = await listed(saver, config_of("t"))
    assert [len(each.checkpoint["channel_values"]["messages"]) for each in found] == list(range(120, 0, -1))


async def test_each_kind_of_change_is_read_exactly(saver: Any) -> None:
    """In another saver as well, whose store has no recent values."""
    from agentstore.adapters.langgraph import AgentStoreSaver

    chance = random.Random(7)
    thread = Thread(saver, "t")
    await thread.append(*(f"{number} {MESSAGE * chance.randrange(1, 9)}" for number in range(40)))
    expected = {}
    for step in range(60):
        place = chance.randrange(len(thread.messages))
        change = chance.choice(("replace", "insert", "delete", "trim", "reverse", "append"))
        messages = list(thread.messages)
        if change == "replace":
            messages[place] = f"{step} {MESSAGE * chance.randrange(1, 9)}"
        elif change == "insert":
            messages.insert(place, f"{step} {MESSAGE}")
        elif change == "delete":
            del messages[place : place + 3]
        elif change == "trim":
            messages = messages[min(place, 5) :]
        elif change == "reverse":
            messages.reverse()
        thread.messages = messages
        config = await thread.append(f"{step} at the end {MESSAGE}")
        expected[config["configurable"]["checkpoint_id"]] = thread.messages
        if step % 20 == 0:
            thread.saver = AgentStoreSaver(saver._store)
    for id, messages in expected.items():
        found = await saver.aget_tuple(config_of("t", id))
        assert found.checkpoint["channel_values"]["messages"] == messages


async def test_random_calls_have_the_results_of_the_saver_in_memory(saver: Any) -> None:
    from langgraph.checkpoint.memory import InMemorySaver

    chance = random.Random(11)
    savers = [saver, InMemorySaver()]
    values: dict[str, list[Any]] = {}
    stored: dict[str, list[str]] = {"a": [], "b": []}
    for number in range(150):
        thread, namespace = chance.choice("ab"), chance.choice(("", "sub:1"))
        call = chance.choice(("put", "put", "put", "fork", "writes", "writes", "get", "list", "delete"))
        ids = stored[thread]
        if call in ("put", "fork"):
            id = f"{number:08}"
            parent = (chance.choice(ids) if call == "fork" else max(ids)) if ids else None
            grown = [*values.get(parent or "", []), f"{number} {MESSAGE * chance.randrange(1, 20)}"]
            values[id] = grown
            new = {"messages": savers[1].get_next_version(None, None), f"c{number % 5}": number}
            held = {"messages": grown, f"c{number % 5}": chance.choice([None, number, {"x": [number]}, "x" * 3_000])}
            checkpoint = checkpoint_of(held, new, id=id)
            metadata = {"source": "loop", "step": number, "even": number % 2 == 0}
            for each in savers:
                await each.aput(config_of(thread, parent, namespace), checkpoint, metadata, new)
            ids.append(id)
        elif call == "writes" and ids:
            id, task = chance.choice(ids), chance.choice(("t1", "t2", "t3"))
            writes = [(chance.choice(("x", "y", "__error__", "__interrupt__")), f"{number}") for _ in range(3)]
            for each in savers:
                await each.aput_writes(config_of(thread, id, namespace), writes, task, f"~path of {task[::-1]}")
        elif call == "get":
            config = config_of(thread, chance.choice(ids) if ids and number % 2 else None, namespace)
            found = [plain(await each.aget_tuple(config)) for each in savers]
            assert found[0] == found[1]
        elif call == "list":
            options: dict[str, Any] = chance.choice(({}, {"limit": 3}, {"filter": {"even": True}}))
            if ids and number % 3 == 0:
                options = {**options, "before": config_of(thread, chance.choice(ids))}
            config = config_of(thread, None, namespace)
            of_each = [[plain(each) for each in await listed(saver, config, **options)] for saver in savers]
            assert of_each[0] == of_each[1]
        elif call == "delete" and number % 5 == 0:
            for each in savers:
                await each.adelete_thread(thread)
            ids.clear()


async def test_threads_of_the_same_id_belong_to_their_users(saver: Any) -> None:
    for user_id in ("alice", "bob", None):
        await Thread(saver, "t", user_id).append(f"of {user_id}")
    for user_id in ("alice", "bob", None):
        found = await saver.aget_tuple(config_of("t", user_id=user_id))
        assert found.checkpoint["channel_values"]["messages"] == [f"of {user_id}"]
        assert found.config["configurable"].get("user_id") == user_id
        assert (await saver.aget_tuple(found.config)).config == found.config
    assert len(await listed(saver, None)) == 3
    await saver.adelete_thread("t", user_id="bob")
    assert await saver.aget_tuple(config_of("t", user_id="bob")) is None
    assert len(await listed(saver, None)) == 2
    await saver.adelete_thread("t")
    assert await listed(saver, None) == []


async def test_threads_of_a_user_are_erased_with_the_user(any_store: Any, saver: Any) -> None:
    await Thread(saver, "t", "alice").append("x")
    await Thread(saver, "u").append("x")
    assert (await any_store.users.delete_user("alice")).checkpoints == 1
    assert (await any_store.users.delete_user("u")).checkpoints == 1
    assert (await any_store.stats()).checkpoints == 0


async def test_pruning_retains_what_the_latest_checkpoint_needs(saver: Any) -> None:
    thread = Thread(saver, "t", "alice")
    for number in range(40):
        await thread.append(f"{number} {MESSAGE * 5}")
    await saver.aput_writes(thread.config, [("x", "pending")], "task")
    await saver.aprune(["t"])
    (found,) = await listed(saver, config_of("t", user_id="alice"))
    assert found.checkpoint["channel_values"]["messages"] == thread.messages
    assert found.pending_writes == [("task", "x", "pending")]
    await thread.append("after")
    found = await saver.aget_tuple(config_of("t", user_id="alice"))
    assert found.checkpoint["channel_values"]["messages"] == thread.messages
    await saver.aprune(["t"], strategy="delete")
    assert await listed(saver, config_of("t", user_id="alice")) == []


async def test_values_lost_in_a_failover_are_not_referred_to(store: AgentStore, direct_url: str) -> None:
    """A standby that lagged behind lacks the last values, which this process knows."""
    from agentstore.adapters.langgraph import AgentStoreSaver

    thread = Thread(AgentStoreSaver(store), "t")
    for number in range(5):
        await thread.append(f"{number} {MESSAGE * 20}")
    connection = await asyncpg.connect(direct_url)
    last = max(row[0] for row in await connection.fetch("SELECT version FROM agentstore.checkpoint_values"))
    await connection.execute("DELETE FROM agentstore.checkpoint_values WHERE version = $1", last)
    await connection.close()
    config = await thread.append("after")
    found = await thread.saver.aget_tuple(config)
    assert found.checkpoint["channel_values"]["messages"] == thread.messages


async def _put_topic_then_message(saver: Any, between: Callable[[Any, Any], Awaitable[None]]) -> Any:
    """Put a step, a second one with a topic, and, after `between`, a third one that relies on the topic."""
    versions = {"messages": saver.get_next_version(None, None), "topic": saver.get_next_version(None, None)}
    first = await saver.aput(
        config_of("t"),
        checkpoint_of({"messages": ["a"]}, {"messages": versions["messages"]}),
        {},
        {"messages": versions["messages"]},
    )
    values = {"messages": ["a"], "topic": "rain"}
    second = await saver.aput(first, checkpoint_of(values, versions), {}, {"topic": versions["topic"]})
    await between(first, second)
    values, versions = {**values, "messages": ["a", "b"]}, {**versions, "messages": saver.get_next_version("1", None)}
    third = await saver.aput(second, checkpoint_of(values, versions), {}, {"messages": versions["messages"]})
    assert (await saver.aget_tuple(third)).checkpoint["channel_values"] == values


async def test_a_checkpoint_is_complete_after_a_failover_that_lost_its_parent(
    store: AgentStore, direct_url: str
) -> None:
    from agentstore.adapters.langgraph import AgentStoreSaver

    async def lose(first: Any, second: Any) -> None:
        connection = await asyncpg.connect(direct_url)
        await connection.execute("DELETE FROM agentstore.checkpoint_values WHERE channel = 'topic'")
        id = second["configurable"]["checkpoint_id"]
        await connection.execute("DELETE FROM agentstore.checkpoints WHERE id = $1", id)
        await connection.close()

    await _put_topic_then_message(AgentStoreSaver(store), lose)


@pytest.mark.parametrize("deletion", ["thread", "prune", "runs"])
async def test_a_checkpoint_is_complete_after_a_deletion_of_its_parent(saver: Any, deletion: str) -> None:
    """The process has read the thread again meanwhile: it knows the present state, and not that of the parent."""

    async def delete(first: Any, second: Any) -> None:
        if deletion == "thread":
            await saver.adelete_thread("t")
        thread = Thread(saver, "t")
        await thread.append("another branch", run_id="r")
        if deletion == "prune":
            await saver.aprune(["t"])
        elif deletion == "runs":
            await saver.adelete_for_runs(["r"])
        await saver.aget_tuple(config_of("t"))

    await _put_topic_then_message(saver, delete)


async def test_invalid_arguments_of_pruning_are_refused(saver: Any) -> None:
    await Thread(saver, "t").append("x")
    with pytest.raises(InvalidContent, match="strategy"):
        await saver.aprune(["t"], strategy="all")
    with pytest.raises(InvalidContent, match="sequence"):
        await saver.aprune("t", strategy="delete")
    with pytest.raises(InvalidContent, match="sequence"):
        await saver.adelete_for_runs("r")
    with pytest.raises(InvalidContent, match="thread"):
        await saver.aget_tuple({"configurable": {}})
    with pytest.raises(InvalidContent, match="limit"):
        await listed(saver, config_of("t"), limit=-1)
    assert len(await listed(saver, config_of("t"))) == 1


async def test_a_copy_is_independent_of_its_source(saver: Any) -> None:
    thread = Thread(saver, "t", "alice")
    for number in range(20):
        await thread.append(f"{number} {MESSAGE * 5}")
    await saver.acopy_thread("t", "copy")
    await saver.acopy_thread("t", "copy")
    source = [plain(each) for each in await listed(saver, config_of("t", user_id="alice"))]
    await saver.adelete_thread("t")
    copy = [plain(each) for each in await listed(saver, config_of("copy", user_id="alice"))]
    assert [each[1:] for each in copy] == [each[1:] for each in source]
    assert await saver.aget_tuple(config_of("copy")) is None
    await Thread(saver, "own").append("x")
    await saver.acopy_thread("own", "copy of own")
    assert (await saver.aget_tuple(config_of("copy of own"))) is not None
    await saver.acopy_thread("missing", "nothing")
    with pytest.raises(InvalidContent, match="itself"):
        await saver.acopy_thread("copy", "copy")


async def test_a_copy_over_other_values_is_refused(saver: Any) -> None:
    for thread_id in ("a", "b"):
        checkpoint = checkpoint_of({"x": thread_id * 10}, {"x": 1})
        await saver.aput(config_of(thread_id), checkpoint, {}, {"x": 1})
    with pytest.raises(AlreadyExists, match="other values"):
        await saver.acopy_thread("a", "b")
    (found,) = await listed(saver, config_of("b"))
    assert found.checkpoint["channel_values"] == {"x": "b" * 10}


async def test_a_value_that_is_too_large_is_refused_and_nothing_is_written(database_url: str) -> None:
    from agentstore.adapters.langgraph import AgentStoreSaver

    async with AgentStore(database_url, settings=Settings(max_state_bytes=10_000)) as store:
        saver = AgentStoreSaver(store)
        with pytest.raises(LimitExceeded, match=r"messages.*MAX_STATE_BYTES"):
            await Thread(saver, "t").append("x" * 10_000)
        with pytest.raises(LimitExceeded, match="MAX_STATE_BYTES"):
            await saver.aput_writes(config_of("t", "1"), [("x", "x" * 10_000)], "task")
        assert await listed(saver, None) == []


async def test_a_list_is_read_in_parts_that_fit_in_a_response(database_url: str) -> None:
    from agentstore.adapters.langgraph import AgentStoreSaver

    settings = Settings(max_state_bytes=100_000, max_reply_bytes=250_000)
    for store in (AgentStore(database_url, settings=settings), AgentStore.in_memory(settings=settings)):
        async with store:
            saver = AgentStoreSaver(store)
            config, values = config_of("t"), [random.randbytes(60_000).hex()[:90_000] for _ in range(12)]
            for value in values:
                version = saver.get_next_version(None, None)
                about = {"text": value[:30_000]}
                config = await saver.aput(config, checkpoint_of({"x": value}, {"x": version}), about, {"x": version})
            found = await listed(saver, config_of("t"))
            assert [each.checkpoint["channel_values"]["x"] for each in found] == values[::-1]


async def test_encrypted_values_are_read_exactly_and_stored_only_encrypted(store: AgentStore, direct_url: str) -> None:
    from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

    from agentstore.adapters.langgraph import AgentStoreSaver

    saver = AgentStoreSaver(store, serde=EncryptedSerializer.from_pycryptodome_aes(key=b"0" * 32))
    thread = Thread(saver, "t")
    configs = [await thread.append(f"{number} {MESSAGE * 20}", secret="zyzzyva") for number in range(10)]
    await saver.aput_writes(configs[-1], [("x", MESSAGE)], "task")
    for number, config in enumerate(configs):
        found = await saver.aget_tuple(config)
        assert found.checkpoint["channel_values"]["messages"] == thread.messages[: number + 1]
        assert found.metadata["secret"] == "zyzzyva"
    (found,) = await listed(saver, config_of("t"), filter={"step": 3})
    assert found.config == configs[3]
    await saver.aprune(["t"])
    assert len((await saver.aget_tuple(config_of("t"))).checkpoint["channel_values"]["messages"]) == 10
    connection = await asyncpg.connect(direct_url)
    for table in ("checkpoints", "checkpoint_values", "checkpoint_writes"):
        rows = await connection.fetch(f"SELECT t.*::text FROM agentstore.{table} t")
        assert rows
        for row in rows:
            assert MESSAGE.encode().hex() not in str(row)
            assert b"zyzzyva".hex() not in str(row)
    await connection.close()


async def test_synchronous_calls_work_in_any_thread_and_beside_a_running_loop(store: AgentStore) -> None:
    from agentstore.adapters.langgraph import AgentStoreSaver

    saver = AgentStoreSaver(store)
    thread = Thread(saver, "t")
    await thread.append("x")
    assert saver.get_tuple(config_of("t")).checkpoint["channel_values"]["messages"] == ["x"]
    found: list[Any] = []
    workers = [threading.Thread(target=lambda: found.append(list(saver.list(config_of("t"))))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        await asyncio.to_thread(worker.join)
    assert [len(each) for each in found] == [1] * 4
    allowed = saver.with_allowlist([("a", "b")])
    assert allowed.get_tuple(config_of("t")) is not None
    assert (await allowed.aget_tuple(config_of("t"))) is not None


def test_a_url_is_used_without_an_event_loop(database_url: str) -> None:
    from agentstore.adapters.langgraph import AgentStoreSaver

    with AgentStoreSaver(url=database_url) as saver:
        version = saver.get_next_version(None, None)
        saver.put(config_of("t"), checkpoint_of({"x": 1}, {"x": version}, id="1"), {}, {"x": version})
        saver.put_writes(config_of("t", "1"), [("x", 1)], "task")
        assert [each.pending_writes for each in saver.list(config_of("t"))] == [[("task", "x", 1)]]
    with pytest.raises(NotConfigured, match="either a store or a url"):
        AgentStoreSaver()


def test_versions_grow_and_continue_those_of_other_savers() -> None:
    from langgraph.checkpoint.memory import InMemorySaver

    from agentstore.adapters.langgraph import AgentStoreSaver

    saver, other = AgentStoreSaver(AgentStore.in_memory()), InMemorySaver()
    versions = [saver.get_next_version(None, None)]
    for number in range(50):
        versions.append((saver if number % 2 else other).get_next_version(versions[-1], None))
    assert versions == sorted(versions)
    assert len(set(versions)) == len(versions)
    assert saver.get_next_version(7, None) > saver.get_next_version(6, None)


@pytest.mark.parametrize("strategy", ["prune", "copy", "runs"])
async def test_deletions_and_copies_beside_writers_lose_nothing(
    store: AgentStore, database_url: str, strategy: str
) -> None:
    from agentstore.adapters.langgraph import AgentStoreSaver

    # Each with recent values of its own, as in processes of their own.
    savers = [AgentStoreSaver(store), AgentStoreSaver(url=database_url)]
    threads = [Thread(savers[number % 2], f"t{number // 2}", "alice" if number % 4 else None) for number in range(16)]
    for number, thread in enumerate(threads):
        thread.config["configurable"]["checkpoint_ns"] = f"n{number}"
    is_done = asyncio.Event()

    async def write(thread: Thread) -> None:
        for number in range(25):
            await thread.append(f"{number} {MESSAGE * 10}", run_id=f"r{number % 2}" if strategy == "runs" else None)
            await thread.saver.aput_writes(thread.config, [("x", number)], "task")

    async def disturb() -> int:
        count = 0
        while not is_done.is_set():
            for number in range(8):
                if strategy == "prune":
                    await savers[count % 2].aprune([f"t{number}"])
                elif strategy == "copy":
                    await savers[count % 2].acopy_thread(f"t{number}", f"copy {count} of t{number}")
                else:
                    await savers[count % 2].adelete_for_runs([f"r{count % 2}"])
                count += 1
        return count

    disturbing = asyncio.create_task(disturb())
    await asyncio.gather(*map(write, threads))
    is_done.set()
    assert await disturbing >= 8
    by_namespace = {thread.config["configurable"]["checkpoint_ns"]: thread for thread in threads}
    for thread in threads:
        config = {"configurable": {**thread.config["configurable"], "checkpoint_id": ""}}
        found = await savers[0].aget_tuple(config)
        if strategy != "runs":
            assert found.checkpoint["channel_values"]["messages"] == thread.messages
            assert found.pending_writes == [("task", "x", 24)]
        assert strategy != "copy" or len(await listed(savers[0], config)) == 25
    for each in await listed(savers[0], None):
        thread = by_namespace[each.config["configurable"]["checkpoint_ns"]]
        assert each.checkpoint["channel_values"]["messages"] == thread.messages[: each.metadata["step"] + 1]
    await savers[1].close()
