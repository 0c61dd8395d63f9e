"""Work that takes long leaves the event loop free, and gives the same results as in the event loop."""

import asyncio
import gc
import random
import threading
from typing import Any

import pytest

from agentstore import offload
from agentstore.errors import AgentStoreError, InvalidContent, LimitExceeded
from agentstore.schemas import Message
from agentstore.schemas.payload import dump_metadata, dump_state, load_messages, prepare_messages
from agentstore.search import analysis
from agentstore.settings import Settings
from tests.support.heartbeat import longest_gap

_SETTINGS = Settings()


def message(**fields: Any) -> dict[str, Any]:
    return {"id": "m", "role": "user", "content": [{"type": "text", "text": "x"}], **fields}


_LARGE: dict[str, dict[str, Any]] = {
    "list": message(metadata={"a": [0] * 700_000}),
    "keys": message(metadata={f"k{number}": number for number in range(150_000)}),
    "data": message(content=[{"type": "data", "data": {"a": [0.5, None] * 200_000}}]),
    "parts": message(content=[{"type": "text", "text": "x"}] * 20_000),
    "extra": message(future={"a": [[]] * 60_000}, usage={"b": [{}] * 60_000}),
    "mixed": message(content=[{"type": "data", "data": {"a": [1] * 60_000}}, {"type": "text", "text": "é\ud800"}] * 10),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", _LARGE)
async def test_large_messages_are_prepared_and_loaded_as_small_ones(name: str) -> None:
    given = _LARGE[name]
    ((expected, payload),) = prepare_messages(given, _SETTINGS).values()
    ((prepared, in_pieces),) = (await offload.run(prepare_messages, given, _SETTINGS)).values()
    assert prepared == expected
    assert load_messages([in_pieces]) == load_messages([payload]) == [expected]
    assert await offload.run(load_messages, [payload] * 2) == [expected] * 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["list", "data", "parts"])
async def test_the_event_loop_runs_while_large_messages_are_prepared_and_loaded(name: str) -> None:
    given = [{**_LARGE[name], "id": f"m{number}"} for number in range(3)]
    took, gap = await longest_gap(lambda: offload.run(prepare_messages, given, _SETTINGS))
    assert gap < took / 3
    payloads = [payload for _, payload in prepare_messages(given, _SETTINGS).values()] * 3
    took, gap = await longest_gap(lambda: offload.run(load_messages, payloads))
    assert gap < took / 2


async def test_ordinary_work_stays_in_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def to_thread(*_: Any) -> None:
        raise AssertionError("in a thread")

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    given = [message(id=str(number), metadata={"a": [1, 2, {"b": "x"}]}) for number in range(200)]
    prepared = await offload.run(prepare_messages, given, _SETTINGS)
    assert len(await offload.run(load_messages, [payload for _, payload in prepared.values()])) == 200
    assert await offload.run(dump_state, {"a": "x" * 100_000}, _SETTINGS)
    assert (await offload.run(analysis.memory_tokens, "zebra " * 1_000, None, "english")).words == ["zebra"]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (message(metadata={"a": [0] * 200_000, "b": object()}), InvalidContent),
        (message(metadata={"a": [0] * 200_000, "b": float("nan")}), InvalidContent),
        (message(metadata={"a": [0] * 200_000, "b": 10**5_000}), LimitExceeded),
        (message(content=[{"type": "text", "text": "x"}] * 20_000 + [{"type": "unknown"}]), InvalidContent),
        (message(role="nobody", metadata={"a": [0] * 200_000}), InvalidContent),
        (message(metadata={"a": ["x" * 1_000] * 40_000}), LimitExceeded),
    ],
    ids=["object", "nan", "digits", "part", "role", "size"],
)
async def test_large_messages_are_refused_as_small_ones(given: Any, error: type[AgentStoreError]) -> None:
    with pytest.raises(error) as in_loop:
        prepare_messages(given, _SETTINGS)
    with pytest.raises(error) as in_thread:
        await offload.run(prepare_messages, given, _SETTINGS)
    assert type(in_thread.value) is type(in_loop.value)


async def test_large_values_of_random_shapes_are_stored_exactly() -> None:
    rng = random.Random(7)
    for _ in range(10):
        value: Any = [0] * rng.randrange(100_000, 200_000)
        for _ in range(rng.randrange(6)):
            value = rng.choice([[value, "x"], {"k": value, "n": None}, [[1.5] * 20_000, value], {"a": {"b": value}}])
        state = {"state": value}
        text = await offload.run(dump_state, state, _SETTINGS)
        assert text == dump_state(state, _SETTINGS)
        assert await offload.run(dump_metadata, state, _SETTINGS) == text


async def test_garbage_is_collected_after_work_in_threads() -> None:
    assert gc.isenabled()
    was_enabled: list[bool] = []

    def work() -> int:
        offload.spend(10**9)
        was_enabled.append(gc.isenabled())
        return threading.get_ident()

    threads = await asyncio.gather(*(offload.run(work) for _ in range(5)))
    assert threading.get_ident() not in threads
    assert was_enabled == [False] * 5
    assert gc.isenabled()
    assert not offload.works_in_pieces()


def test_messages_of_unusual_classes_are_prepared_at_once() -> None:
    class Scored(Message):
        score: float = 1.0

    given = Scored(role="user", metadata={"a": [0] * 200_000})
    assert '"score":1.0' in asyncio.run(offload.run(prepare_messages, given, _SETTINGS))[given.id][1]
