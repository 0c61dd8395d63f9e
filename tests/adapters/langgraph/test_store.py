"""The store for LangGraph with the types of langgraph-checkpoint, its InMemoryStore beside it, and a real graph."""

# pyright: reportMissingImports=false
import asyncio
import random
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, InvalidContent, NotConfigured, Settings, migrate
from agentstore.operations.grants import grants
from agentstore.testing import EXACT_VALUES
from tests.support.documents import ROOT, blocks, run_python, seed
from tests.support.psql import psql
from tests.support.roles import with_role
from tests.support.traces import traces

pytestmark = pytest.mark.adapters


def _store(store: Any = None, **options: Any) -> Any:
    from agentstore.adapters.langgraph import AgentStoreStore

    return AgentStoreStore(store, **options)


@pytest.fixture(params=["Postgres", "InMemory"])
def any_store(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("store") if request.param == "Postgres" else AgentStore.in_memory()


async def _keys(store: Any, prefix: tuple[str, ...] = (), **options: Any) -> list[str]:
    return [each.key for each in await store.asearch(prefix, **options)]


async def test_item_is_read_replaced_and_deleted(any_store: Any) -> None:
    store = _store(any_store)
    namespace = ("alice", "notes")
    assert await store.aget(namespace, "a") is None
    await store.aput(namespace, "a", {"title": "one", "n": [1, {"x": None}]})
    first = await store.aget(namespace, "a")
    assert (first.value, first.key, first.namespace) == ({"title": "one", "n": [1, {"x": None}]}, "a", namespace)
    assert first.created_at == first.updated_at
    assert first.created_at.tzinfo is not None
    await store.aput(namespace, "a", {"title": "two"})
    second = await store.aget(namespace, "a")
    assert second.value == {"title": "two"}
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at
    assert await store.aget(("alice", "other"), "a") is None
    await store.adelete(namespace, "a")
    await store.adelete(namespace, "a")
    assert await store.aget(namespace, "a") is None


async def test_values_and_names_round_trip(any_store: Any) -> None:
    store = _store(any_store)
    names = ["a", "a/b", "%2F", "a b", " ", "\t\n", "密", "x_", "x%", "\x7f\x01", "a\\b", "😀" * 20]
    for number, name in enumerate(names):
        for labels in ((name,), (name, "x"), ("x", name)):
            value = {"of": [*labels, name], "$langgraph": {"ttl": number}, "$$langgraph": 1, "langgraph": name}
            await store.abatch([_put(labels, name, value)])
    for number, name in enumerate(names):
        for labels in ((name,), (name, "x"), ("x", name)):
            item = await store.aget(labels, name)
            expected = {"of": [*labels, name], "$langgraph": {"ttl": number}, "$$langgraph": 1, "langgraph": name}
            assert (item.namespace, item.key, item.value) == (labels, name, expected)
    for value in EXACT_VALUES:
        await store.aput(("v",), "k", {"x": value, "\ud800": value})
        assert repr((await store.aget(("v",), "k")).value) == repr({"x": value, "\ud800": value})
    assert await store.aget(("v",), "") is None
    await store.aput(("v",), "", {})
    assert (await store.aget(("v",), "")).value == {}


def _put(namespace: Any, key: Any, value: Any, **options: Any) -> Any:
    from langgraph.store.base import PutOp

    return PutOp(namespace, key, value, **options)


async def test_batch_reads_before_it_writes_and_applies_the_last_write_of_an_item(any_store: Any) -> None:
    from langgraph.store.base import GetOp, ListNamespacesOp, SearchOp

    store = _store(any_store)
    await store.abatch([_put(("t", "foo"), "k1", {"d": 1}), _put(("t", "bar"), "k2", {"d": 2})])
    results = await store.abatch(
        [
            _put(("t", "bar"), "k2", {"d": 3}),
            GetOp(("t", "bar"), "k2"),
            _put(("t", "bar"), "k2", None),
            SearchOp(("t",), filter={"d": 1}),
            _put(("t", "bar"), "k2", {"d": 4}),
            ListNamespacesOp(),
            _put(("u",), "gone", {"d": 5}),
            _put(("u",), "gone", None),
            GetOp(("t",), "missing"),
        ]
    )
    assert [results[index] for index in (0, 2, 4, 6, 7, 8)] == [None] * 6
    assert results[1].value == {"d": 2}
    assert [each.key for each in results[3]] == ["k1"]
    assert results[5] == [("t", "bar"), ("t", "foo")]
    assert (await store.aget(("t", "bar"), "k2")).value == {"d": 4}
    assert await store.aget(("u",), "gone") is None


async def test_invalid_operations_are_refused_before_anything_is_written(any_store: Any) -> None:
    from langgraph.store.base import GetOp, ListNamespacesOp, MatchCondition, SearchOp

    store = _store(any_store)
    good = [_put(("bob",), "k", {"x": 1}), _put(("carol",), "k", {"x": 1})]
    wrong = [
        _put((), "k", {}),
        _put(("a", ""), "k", {}),
        _put(("a", 1), "k", {}),
        _put(("a",), 1, {}),
        _put(("a",), "k", [1]),
        _put(("a",), "k", {1: 2}),
        _put(("a",), "k", {"x": float("nan")}),
        _put(("a",), "k", {"x": b""}),
        _put(("a",), "k", {}, ttl=-1),
        _put(("a",), "k", {}, ttl=float("inf")),
        _put(("a",), "k", {}, ttl=True),
        _put(("a",), "k", {"x": "y"}, index="x"),
        _put(("a" * 600,), "k", {}),
        GetOp((), "k"),
        SearchOp(("a",), filter={"x": {"$in": [1]}}),
        SearchOp(("a",), filter=["x"]),
        SearchOp(("a",), limit=-1),
        SearchOp(("a",), offset=1.5),
        ListNamespacesOp(match_conditions=(MatchCondition("infix", ("a",)),)),
        ListNamespacesOp(max_depth=-1),
        "get",
    ]
    for op in wrong:
        with pytest.raises(InvalidContent):
            await store.abatch([*good, op])
            pytest.fail(f"{op} was accepted")
    assert await store.alist_namespaces() == []


async def test_search_is_below_a_prefix_of_whole_labels(any_store: Any) -> None:
    store = _store(any_store)
    namespaces = [("foo",), ("foo", "child"), ("foo", "child", "x"), ("foobar",), ("foobar", "baz"), ("f_o",), ("f%",)]
    for namespace in namespaces:
        await store.aput(namespace, "k", {"v": 1})
    for prefix in [*namespaces, (), ("fo",), ("foo", "ch")]:
        found = {each.namespace for each in await store.asearch(prefix, limit=100)}
        assert found == {each for each in namespaces if each[: len(prefix)] == prefix}


async def test_large_items_are_filtered_in_parts_that_fit_in_a_response(database_url: str) -> None:
    settings = Settings(max_reply_bytes=250_000)
    for store in (AgentStore(database_url, settings=settings), AgentStore.in_memory(settings=settings)):
        async with store:
            adapter = _store(store)
            for number in range(12):
                await adapter.aput(
                    ("t",), f"k{number}", {"n": number, "x": random.randbytes(20_000).hex()}, index=False
                )
            assert await _keys(adapter, ("t",), filter={"n": {"$lt": 2}}) == ["k1", "k0"]


async def test_filters_compare_as_those_of_langgraph(any_store: Any) -> None:
    store = _store(any_store)
    values = {
        "a": {"n": 1, "s": "x", "tags": ["p", "q"], "o": {"k": 1, "l": 2}, "b": True},
        "b": {"n": 2.5, "s": "y", "tags": ["p"], "o": {"k": 2}, "b": False},
        "c": {"n": 10, "s": "2024-05-01", "z": None},
        "d": {"n": 1.0, "s": "10"},
    }
    for key, value in values.items():
        await store.aput(("t",), key, value)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"n": 1}, "ad"),
        ({"n": {"$eq": 1}, "s": "x"}, "a"),
        ({"n": {"$ne": 1}}, "bc"),
        ({"n": {"$gt": 1}}, "bc"),
        ({"n": {"$gte": 2.5, "$lt": 10}}, "b"),
        ({"n": {"$lte": "2.5"}}, "abd"),
        ({"s": {"$gt": "9"}, "n": 1}, "ad"),
        ({"s": {"$lt": "2024-06-01", "$gte": "2024-01-01"}}, "c"),
        ({"tags": ["p"]}, "b"),
        ({"o": {"k": 1}}, "a"),
        ({"o": {"k": {"$gt": 1}}}, "b"),
        ({"b": True}, "a"),
        ({"z": None, "b": {"$ne": True}}, "bcd"),
        ({"missing": {"$gt": 1}}, ""),
        ({}, "abcd"),
    ]
    for conditions, expected in cases:
        assert sorted(await _keys(store, ("t",), filter=conditions)) == sorted(expected), conditions
        found = [await _keys(store, ("t",), filter=conditions, limit=1, offset=n) for n in range(5)]
        assert sorted(key for page in found for key in page) == sorted(expected), conditions


async def test_pages_are_newest_first_and_do_not_shift_when_items_are_replaced(any_store: Any) -> None:
    store = _store(any_store)
    for number in range(25):
        await store.aput(("t", str(number % 2)), f"k{number}", {"n": number, "even": number % 2 == 0})
    await store.aput(("t", "0"), "k0", {"n": 0, "even": True})
    expected = [f"k{number}" for number in reversed(range(25))]
    pages = [await _keys(store, ("t",), limit=7, offset=offset) for offset in range(0, 35, 7)]
    assert [key for page in pages for key in page] == expected
    assert await _keys(store, (), limit=7, offset=7) == expected[7:14]
    assert await _keys(store, ("t",), filter={"even": True}, limit=3, offset=2) == ["k20", "k18", "k16"]
    assert await _keys(store, ("t",), filter={"n": {"$lt": 9}}, limit=3, offset=2) == ["k6", "k5", "k4"]
    assert await _keys(store, ("t",), limit=0) == await _keys(store, ("t",), offset=2**70) == []
    assert await _keys(store, ("t",), limit=20_000) == expected


async def test_query_finds_words_and_chinese(any_store: Any) -> None:
    store = _store(any_store)
    await store.aput(("alice", "food"), "tea", {"text": "Alice drinks green tea", "kind": "drink", "n": 1})
    await store.aput(("alice", "food"), "apple", {"text": "她喜欢红色的苹果", "kind": "fruit", "n": 2})
    await store.aput(("alice", "work"), "job", {"notes": [{"text": "writes databases"}], "by": "the tea company"})
    await store.aput(("bob",), "tea", {"text": "Bob hates tea"})
    found = await store.asearch(("alice",), query="Which tea does she drink?")
    assert [each.key for each in found] == ["tea", "job"]
    assert found[0].score > found[1].score > 0
    assert await _keys(store, ("alice",), query="红色苹果") == ["apple"]
    assert await _keys(store, ("alice",), query="database") == ["job"]
    assert await _keys(store, ("alice",), query="tea", filter={"kind": "drink"}) == ["tea"]
    assert await _keys(store, ("alice",), query="tea", filter={"n": {"$gte": 2}}) == []
    pages = [await _keys(store, ("alice",), query="tea", limit=1, offset=offset) for offset in range(3)]
    assert [key for page in pages for key in page] == await _keys(store, ("alice",), query="tea")
    assert await _keys(store, ("alice",), query="tea", limit=1, filter={"n": {"$ne": 1}}) == ["job"]
    everything = await store.asearch((), query="tea")
    assert sorted(each.namespace for each in everything) == [("alice", "food"), ("alice", "work"), ("bob",)]
    assert await _keys(store, ("alice",), query="quinces") == []
    assert len(await _keys(store, ("alice",), query="")) == 3


async def test_index_says_which_texts_are_found(any_store: Any) -> None:
    store = _store(any_store, fields=["title"])
    value = {"title": "tea", "body": [{"t": "coffee"}, {"t": "juice"}], "deep": {"x": "water"}}
    await store.aput(("t",), "default", value)
    await store.aput(("t",), "paths", value, index=["body[*].t", "deep.x"])
    await store.aput(("t",), "last", value, index=["body[-1].t"])
    await store.aput(("t",), "all", value, index=["$"])
    await store.aput(("t",), "none", value, index=False)
    expected = {
        "tea": {"default", "all"},
        "coffee": {"paths", "all"},
        "juice": {"paths", "last", "all"},
        "water": {"paths", "all"},
    }
    for query, keys in expected.items():
        assert set(await _keys(store, ("t",), query=query)) == keys
    assert len(await _keys(store, ("t",))) == 5


async def test_namespaces_are_matched_truncated_and_paged(any_store: Any) -> None:
    from langgraph.store.memory import InMemoryStore

    store, expected = _store(any_store), InMemoryStore()
    namespaces = [
        ("a",), ("a", "b"), ("a", "b", "c"), ("a", "b", "d", "e"), ("a", "b", "d", "i"), ("a", "c", "f"), ("ab", "c"),
        ("b", "c", "v1"), ("b", "v1"), ("b", "x", "v1"), ("users", "密", "v1"),
    ]  # fmt: skip
    for each in (store, expected):
        await each.abatch([_put(namespace, "k", {"x": 1}) for namespace in namespaces])
    for options in (
        {}, {"prefix": ("a",)}, {"prefix": ("a", "*", "d")}, {"suffix": ("v1",)}, {"prefix": ("b",), "suffix": ("v1",)},
        {"suffix": ("*", "v1")}, {"max_depth": 2}, {"prefix": ("a", "b"), "max_depth": 3}, {"max_depth": 1},
        {"limit": 3}, {"limit": 3, "offset": 2, "max_depth": 2}, {"offset": 100}, {"prefix": ("*",)},
        {"prefix": ("x",)}, {"limit": 0},
        {"prefix": ["a"], "suffix": ["c"]},
    ):  # fmt: skip
        assert await store.alist_namespaces(**options) == await expected.alist_namespaces(**options), options
    await store.adelete(("b", "v1"), "k")
    assert ("b", "v1") not in await store.alist_namespaces()


async def test_random_calls_return_what_those_of_in_memory_store_do(any_store: Any) -> None:
    from langgraph.store.base import GetOp, SearchOp
    from langgraph.store.memory import InMemoryStore

    rng = random.Random(7)
    ours, model = _store(any_store), InMemoryStore()
    namespaces = [("a",), ("a", "b"), ("a", "b", "c"), ("a", "x"), ("ab",), ("c", "b")]
    for _ in range(120):
        ops: list[Any] = []
        for _ in range(rng.randint(1, 5)):
            namespace, key = rng.choice(namespaces), rng.choice("klmno")
            kind = rng.random()
            if kind < 0.5:
                value = {"n": rng.randint(0, 5), "s": rng.choice("xyz"), "o": {"p": rng.randint(0, 2)}}
                ops.append(_put(namespace, key, None if kind < 0.1 else value))
            elif kind < 0.75:
                ops.append(GetOp(namespace, key))
            else:
                condition = rng.choice(
                    [
                        None,
                        {"n": rng.randint(0, 5)},
                        {"n": {"$gt": rng.randint(0, 5)}},
                        {"s": {"$ne": "x"}},
                        {"o": {"p": 1}},
                        {"s": rng.choice("xyz"), "n": {"$lte": 3}},
                        {"o": {"p": {"$gte": 1}}},
                    ]
                )
                prefix = rng.choice([*namespaces, ()])
                ops.append(SearchOp(prefix, filter=condition, limit=100))
        expected, found = await model.abatch(ops), await ours.abatch(ops)
        for op, one, other in zip(ops, expected, found, strict=True):
            assert _plain(other) == _plain(one), op
    listed = {namespace for namespace in namespaces if await model.asearch(namespace, limit=1)}
    assert {each for each in await ours.alist_namespaces() if await model.asearch(each)} <= listed


def _plain(result: Any) -> Any:
    if isinstance(result, list):
        return sorted(map(_plain, result))
    return result if result is None else (result.namespace, result.key, repr(sorted(result.value.items())))


async def test_items_expire_and_reads_restart_the_time(any_store: Any) -> None:
    store = _store(any_store, ttl={"default_ttl": 60})
    namespace = ("t",)
    await store.aput(namespace, "default", {"x": "tea"})
    await store.aput(namespace, "never", {"x": "tea"}, ttl=None)
    await store.aput(namespace, "at once", {"x": "tea"}, ttl=0)
    assert await store.aget(namespace, "at once") is None
    assert (
        sorted(await _keys(store, namespace))
        == sorted(await _keys(store, namespace, query="tea"))
        == [
            "default",
            "never",
        ]
    )
    await store.aput(("gone",), "k", {}, ttl=0)
    assert await store.alist_namespaces() == [namespace]

    async def until() -> dict[str, datetime | None]:
        found = await any_store.documents.list("t")
        return {each.item.id: each.item.valid_until for each in found}

    async def is_renewed(read: Any) -> bool:
        before = await until()
        await read
        after = await until()
        assert after["langgraph/t/never"] is None
        old, new = before["langgraph/t/default"], after["langgraph/t/default"]
        assert old is not None
        assert new is not None
        assert old <= new <= datetime.now(UTC) + timedelta(minutes=61)
        return new > old

    assert await is_renewed(store.aget(namespace, "default"))
    assert not await is_renewed(store.aget(namespace, "default", refresh_ttl=False))
    assert await is_renewed(store.asearch(namespace))
    assert await is_renewed(store.asearch((), query="tea"))
    assert not await is_renewed(store.asearch(namespace, refresh_ttl=False))
    assert await is_renewed(store.aput(namespace, "default", {"x": "tea"}))
    quiet = _store(any_store, ttl={"refresh_on_read": False})
    assert not await is_renewed(quiet.aget(namespace, "default"))
    assert not await is_renewed(quiet.asearch(namespace))
    assert await store.asweep_ttl() == 2
    assert await store.asweep_ttl() == 0
    assert len(await until()) == 2


async def test_prune_deletes_expired_items(any_store: Any) -> None:
    store = _store(any_store)
    for number in range(3):
        await store.aput((f"u{number}",), "k", {"x": "tea"}, ttl=0)
    await store.aput(("u0",), "stays", {"x": "tea"}, ttl=60)
    counted = await any_store.prune(dry_run=True)
    assert (counted.memories, counted.bytes > 0) == (3, True)
    assert (await any_store.prune()).memories == 3
    assert (await any_store.prune()).memories == 0
    assert await _keys(store) == ["stays"]


async def test_sweeper_deletes_regularly_until_it_is_stopped(store: AgentStore, observer: asyncpg.Connection) -> None:
    adapter = _store(store)
    await adapter.aput(("t",), "k", {}, ttl=0)
    adapter.start_ttl_sweeper(0.0001)
    adapter.start_ttl_sweeper(0.0001)
    count = "SELECT count(*) FROM agentstore.memories"
    async with asyncio.timeout(60):
        while await observer.fetchval(count):
            await asyncio.sleep(0.01)
    assert await asyncio.to_thread(adapter.stop_ttl_sweeper)
    assert adapter.stop_ttl_sweeper()
    await adapter.aput(("t",), "k", {}, ttl=0)
    assert await observer.fetchval(count) == 1


async def test_items_belong_to_the_user_that_the_namespace_names(any_store: Any) -> None:
    def second(namespace: tuple[str, ...]) -> str:
        return namespace[1]

    store = _store(any_store, user_id=second)
    for user in ("alice", "bob"):
        await store.aput(("memories", user), "k", {"x": f"tea of {user}"})
    assert [each.id for each in await any_store.users.list_users()] == ["alice", "bob"]
    assert len(await store.asearch(("memories",))) == len(await store.asearch(("memories",), query="tea")) == 2
    assert await store.alist_namespaces(prefix=("memories",)) == [("memories", "alice"), ("memories", "bob")]
    with pytest.raises(InvalidContent, match="names no user"):
        await store.aput(("memories",), "k", {})
    await any_store.users.delete_user("alice")
    assert [each.namespace for each in await store.asearch(("memories",))] == [("memories", "bob")]
    fixed = _store(any_store, user_id="carol")
    await fixed.aput(("x", "y"), "k", {"x": "z"})
    assert [each.namespace for each in await fixed.asearch(())] == [("x", "y")]


async def test_items_are_memories_of_their_user(any_store: Any) -> None:
    await _store(any_store).aput(("alice", "food"), "tea", {"text": "Alice drinks green tea"})
    (hit,) = await any_store.memory.search("alice", "tea")
    assert (hit.item.id, hit.item.namespace) == ("langgraph/alice/food/tea", "langgraph/alice/food")
    assert hit.item.metadata == {"text": "Alice drinks green tea"}


async def test_concurrent_puts_of_one_item_leave_one_of_them(store: AgentStore) -> None:
    adapter = _store(store)
    await adapter.aput(("t",), "k", {"n": -1})
    created_at = (await adapter.aget(("t",), "k")).created_at
    ops = [[_put(("t",), key, {"n": n, "text": f"text {n}"}) for key in ("k", "l", "m")] for n in range(16)]
    for each in ops[::2]:
        each.reverse()
    for _ in range(5):
        await asyncio.gather(*(adapter.abatch(each) for each in ops))
    items = [await adapter.aget(("t",), key) for key in ("k", "l", "m")]
    assert items[0].created_at == created_at
    for item in items:
        assert item.value["text"] == f"text {item.value['n']}"
        assert item.value["n"] in range(16)
    assert len(await adapter.asearch(("t",))) == 3
    assert await adapter.aget(("t",), "k") == items[0]


def test_synchronous_calls_work_from_threads_and_beside_a_running_loop(database_url: str, settings: Settings) -> None:
    with _on_postgres(database_url, settings) as adapter:
        adapter.put(("t",), "k", {"x": "tea"})
        assert adapter.get(("t",), "k").value == {"x": "tea"}
        assert [each.key for each in adapter.search(("t",), query="tea")] == ["k"]
        assert adapter.list_namespaces() == [("t",)]

        def write(number: int) -> None:
            for n in range(5):
                adapter.put(("t",), f"{number}", {"n": n})

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(adapter.search(("t",), limit=100)) == 5
        adapter.delete(("t",), "k")
        assert adapter.get(("t",), "k") is None

        async def inside() -> Any:
            await adapter.aput(("t",), "async", {"x": 1})
            return adapter.get(("t",), "async").value

        assert asyncio.run(inside()) == {"x": 1}
        assert adapter.sweep_ttl() == 0


def _on_postgres(url: str, settings: Settings) -> Any:
    return _store(AgentStore(url, settings=settings))


async def test_url_instead_of_a_store(direct_url: str, database_url: str) -> None:
    async with _store(url=database_url) as adapter:
        await adapter.aput(("t",), "k", {"x": 1})
        assert (await adapter.aget(("t",), "k")).value == {"x": 1}
    for wrong in ({}, {"url": database_url, "store": AgentStore.in_memory()}):
        with pytest.raises(NotConfigured):
            _store(**wrong)


async def test_nodes_of_a_graph_read_and_write_memory(any_store: Any) -> None:
    from langgraph.graph import END, START, StateGraph
    from langgraph.store.base import BaseStore
    from typing_extensions import TypedDict

    class State(TypedDict):
        user: str
        text: str
        known: list[str]

    async def remember(state: State, *, store: BaseStore) -> dict[str, Any]:
        await store.aput((state["user"], "memories"), state["text"], {"data": state["text"]})
        return {}

    async def recall(state: State, *, store: BaseStore) -> dict[str, Any]:
        found = await store.asearch((state["user"], "memories"), query=state["text"])
        return {"known": [each.value["data"] for each in found]}

    builder = StateGraph(State)
    builder.add_node("remember", remember)
    builder.add_node("recall", recall)
    builder.add_edge(START, "recall")
    builder.add_edge("recall", "remember")
    builder.add_edge("remember", END)
    graph = builder.compile(store=_store(any_store))
    first = {"user": "alice", "text": "I drink green tea", "known": []}
    assert (await graph.ainvoke(first))["known"] == []
    assert (await graph.ainvoke({"user": "alice", "text": "Which tea?", "known": []}))["known"] == ["I drink green tea"]
    assert (await graph.ainvoke({"user": "bob", "text": "Which tea?", "known": []}))["known"] == []


async def test_the_python_of_the_page_runs_twice(
    store: AgentStore, database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", database_url)
    page = [each for each in blocks(ROOT / "docs/langgraph.md") if each.language == "python"]
    assert len(page) >= 2
    for _ in range(2):
        names = {**await seed(store), "__name__": __name__}
        for block in page:
            await run_python(block, names)
    assert capsys.readouterr().out.count("['Alice drinks green tea']") == 2


async def test_erasing_the_user_leaves_nothing(store: AgentStore, observer: asyncpg.Connection) -> None:
    adapter, word = _store(store), "zyzzyva"
    await adapter.aput((word, "notes"), word, {word: word, "text": f"likes {word}"}, ttl=60)
    await adapter.aput(("bob", "notes"), "k", {"text": "likes tea"})
    assert await traces(observer, word, word)
    assert (await store.users.delete_user(word)).memories == 1
    assert await traces(observer, word, word) == []
    assert len(await adapter.asearch(())) == 1


async def test_export_and_restore_keep_items(any_store: Any, other_url: str) -> None:
    import io

    adapter = _store(any_store)
    await adapter.aput(("alice", "n"), "k", {"text": "likes tea", "n": [1, None]}, ttl=60)
    await adapter.aput(("bob",), "k", {}, index=False)
    before = [await adapter.aget(namespace, "k", refresh_ttl=False) for namespace in (("alice", "n"), ("bob",))]
    await any_store.export(file := io.BytesIO())
    async with AgentStore(other_url) as other:
        for target in (other, AgentStore.in_memory()):
            file.seek(0)
            await target.restore(file)
            restored = _store(target)
            assert [await restored.aget(each.namespace, "k") for each in before] == before
            assert await _keys(restored, ("alice",), query="tea") == ["k"]


@pytest.fixture
async def secured(direct_url: str, database_url: str) -> AsyncIterator[AgentStore]:
    name = "agentstore_langgraph_test"
    psql(direct_url, f"CREATE ROLE {name} LOGIN; " + "; ".join(grants(app=name)) + ";")
    await migrate.enable_row_security(direct_url)
    try:
        async with AgentStore(with_role(direct_url, name), settings=Settings(row_level_security=True)) as store:
            yield store
    finally:
        psql(direct_url, f"DROP OWNED BY {name}; DROP ROLE {name};")


async def test_row_level_security_allows_calls_about_one_user(secured: AgentStore) -> None:
    adapter = _store(secured)
    for user in ("alice", "bob"):
        await adapter.aput((user, "notes"), "k", {"text": f"tea of {user}"}, ttl=60)
        assert (await adapter.aget((user, "notes"), "k")).value == {"text": f"tea of {user}"}
        assert await _keys(adapter, (user,), query="tea") == await _keys(adapter, (user,)) == ["k"]
        assert await adapter.alist_namespaces(prefix=(user,)) == [(user, "notes")]
    await adapter.adelete(("alice", "notes"), "k")
    for call in (adapter.asearch(()), adapter.alist_namespaces(), adapter.asweep_ttl()):
        with pytest.raises(NotConfigured):
            await call
