"""The time limits of statements: each is interrupted at its own end, by one timer for all."""

import asyncio

import pytest

from agentstore.database.deadlines import Deadlines


def _timers(loop: asyncio.AbstractEventLoop) -> int:
    return sum(not timer.cancelled() for timer in loop._scheduled)  # type: ignore[attr-defined]


async def _wait(deadlines: Deadlines, timeout: float, event: asyncio.Event) -> str:
    try:
        with deadlines.limit(timeout):
            await event.wait()
    except TimeoutError:
        return "timeout"
    return "done"


async def test_each_block_is_interrupted_at_its_own_end() -> None:
    deadlines, never = Deadlines(), asyncio.Event()
    loop = asyncio.get_running_loop()
    ends: dict[str, float] = {}

    async def wait(name: str) -> None:
        assert await _wait(deadlines, 0.2, never) == "timeout"
        ends[name] = loop.time()

    began = loop.time()
    first = asyncio.create_task(wait("first"))
    await asyncio.sleep(0.1)
    second_began = loop.time()
    second = asyncio.create_task(wait("second"))
    await asyncio.gather(first, second)
    assert ends["first"] - began >= 0.2
    assert ends["second"] - second_began >= 0.2
    assert ends["first"] < ends["second"]
    # The interruption is no cancellation of the tasks, which continue.
    assert first.cancelling() == second.cancelling() == 0


async def test_all_blocks_share_one_timer() -> None:
    deadlines, event = Deadlines(), asyncio.Event()
    loop = asyncio.get_running_loop()
    before = _timers(loop)
    blocks = [asyncio.create_task(_wait(deadlines, 60, event)) for _ in range(20)]
    await asyncio.sleep(0)
    assert _timers(loop) == before + 1
    event.set()
    assert await asyncio.gather(*blocks) == ["done"] * 20
    assert await _wait(deadlines, 60, event) == "done"
    assert _timers(loop) == before + 1
    deadlines.stop()
    assert _timers(loop) == before


async def test_a_stop_leaves_the_limit_of_what_is_in_progress() -> None:
    deadlines, never = Deadlines(), asyncio.Event()
    block = asyncio.create_task(_wait(deadlines, 0.1, never))
    await asyncio.sleep(0)
    deadlines.stop()
    assert await block == "timeout"
    assert await _wait(deadlines, 0.1, never) == "timeout"  # and of what begins afterwards


async def test_a_canceled_caller_gets_the_cancellation() -> None:
    deadlines, never = Deadlines(), asyncio.Event()
    block = asyncio.create_task(_wait(deadlines, 60, never))
    await asyncio.sleep(0)
    block.cancel()
    with pytest.raises(asyncio.CancelledError):
        await block


async def test_a_caller_canceled_at_the_deadline_gets_the_cancellation() -> None:
    deadlines, never = Deadlines(), asyncio.Event()
    block = asyncio.create_task(_wait(deadlines, 0.05, never))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_at(next(iter(deadlines._pending)).end, block.cancel)
    with pytest.raises(asyncio.CancelledError):
        await block


async def test_errors_of_the_block_are_raised_unchanged() -> None:
    deadlines = Deadlines()
    with pytest.raises(ValueError, match="x"), deadlines.limit(60):
        raise ValueError("x")
    assert not deadlines._pending


async def test_an_error_at_the_deadline_leaves_the_task_uncanceled() -> None:
    deadlines, never = Deadlines(), asyncio.Event()
    with pytest.raises(ValueError, match="at the end"), deadlines.limit(0.05):
        try:
            await never.wait()
        except asyncio.CancelledError:
            raise ValueError("at the end") from None
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
