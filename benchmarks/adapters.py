"""Overhead of AgentScope Runtime's services over agentstore's own: converting from and to its classes.

Run ``.venv/runtime/bin/python -m benchmarks.adapters`` after ``make runtime`` to measure the real classes.
"""

import asyncio
import gc
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from agentstore import AgentStore, EmbeddedPostgres, Message, Settings, TextContent
from agentstore.adapters.agentscope_runtime import PostgresSessionHistoryService
from agentstore.adapters.agentscope_runtime.upstream import message_classes
from benchmarks.contender import TEXT

Call = Callable[[], Awaitable[object]]
_CALLS, _ROUNDS = 200, 31


async def _compare(name: str, call_of_adapter: Call, native_call: Call) -> str:
    """Time two calls in pairs of rounds, in random order, and return the median and quartiles of the ratios."""
    times: dict[Call, list[float]] = {call_of_adapter: [], native_call: []}
    for _ in range(_ROUNDS):
        for call in random.sample([call_of_adapter, native_call], 2):
            gc.collect()
            began = time.perf_counter()
            for _ in range(_CALLS):
                await call()
            times[call].append((time.perf_counter() - began) / _CALLS * 1000)
    ratios = [first / second for first, second in zip(times[call_of_adapter], times[native_call], strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    return f"{name:64} {statistics.median(times[call_of_adapter]):.3f} ms  {ratio:.2f} ({low:.2f}-{high:.2f})"


async def _main() -> None:
    kind = message_classes().message
    package = kind.__module__.partition(".")[0]
    part: dict[str, Any] = {"type": "text", "text": TEXT}
    with tempfile.TemporaryDirectory() as folder:
        async with (
            EmbeddedPostgres(folder) as server,
            AgentStore(server.url, settings=Settings(auto_migrate="upgrade")) as store,
            PostgresSessionHistoryService(server.url) as service,
        ):
            adapted = await service.create_session("adapters", "adapted")
            native = await store.sessions.create_session("adapters", "native")

            def append(service: Any, session: Any, message_type: Any) -> Call:
                return lambda: service.append_message(session, message_type(role="user", content=[part]))

            for _ in range(10):
                await service.append_message(adapted, kind(role="user", content=[part]))
                await store.sessions.append_message(native, Message(role="user", content=[TextContent(text=TEXT)]))
            get = (
                partial(service.get_session, "adapters", "adapted"),
                partial(store.sessions.get_session, "adapters", "native"),
            )
            print(await _compare(f"get 10 of {package}'s messages, relative to agentstore's", *get))
            both = append(service, adapted, kind), append(store.sessions, native, Message)
            print(await _compare(f"append 1 of {package}'s messages, relative to agentstore's", *both))


if __name__ == "__main__":
    asyncio.run(_main())
