"""AgentScope Runtime's services beside our own: what it costs to take and to return its classes.

``.venv/runtime/bin/python -m benchmarks.adapters`` measures it with the real ones, after ``make runtime``.
"""

import asyncio
import tempfile
from functools import partial
from typing import Any

from agentstore import AgentStore, EmbeddedPostgres, Message, Settings, TextContent
from agentstore.adapters import _upstream
from agentstore.adapters.agentscope_runtime import PostgresSessionHistoryService
from benchmarks.rounds import WORDS, Call, Ratio, compare


async def adapters(store: AgentStore, url: str, calls: int, rounds: int) -> list[Ratio]:
    """Append one message and get a session of ten, as the runtime's services and as ours."""
    kind = _upstream.classes().message
    part: dict[str, Any] = {"type": "text", "text": WORDS}
    async with PostgresSessionHistoryService(url) as service:
        theirs = await service.create_session("adapters", "theirs")
        ours = await store.sessions.create_session("adapters", "ours")
        for _ in range(10):
            await service.append_message(theirs, kind(role="user", content=[part]))
            await store.sessions.append_message(ours, Message(role="user", content=[TextContent(text=WORDS)]))
        results = [
            await compare(
                f"get 10 of {kind.__module__.partition('.')[0]}'s, to ours",
                partial(service.get_session, "adapters", "theirs"),
                partial(store.sessions.get_session, "adapters", "ours"),
                calls=calls,
                rounds=rounds,
                goal=1.10,
            )
        ]

        def append(to: Any, session: Any, of: Any) -> Call:
            return lambda: to.append_message(session, of(role="user", content=[part]))

        results.append(
            await compare(
                f"append 1 of {kind.__module__.partition('.')[0]}'s, to ours",
                append(service, theirs, kind),
                append(store.sessions, ours, Message),
                calls=calls,
                rounds=rounds,
                goal=1.10,
            )
        )
    return results


async def _main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            EmbeddedPostgres(folder) as server,
            AgentStore(server.url, settings=Settings(auto_migrate="upgrade")) as store,
        ):
            for result in await adapters(store, server.url, 200, 31):
                print(result.row())


if __name__ == "__main__":
    asyncio.run(_main())
