"""Write to a session until a line arrives on stdin, with the release on PYTHONPATH: ``python writer.py URL NAME``.

Prints the number of each message when it has been acknowledged.
"""

import asyncio
import sys

from agentstore import AgentStore, Message, Session, TextContent


async def main(url: str, name: str) -> None:
    """Append messages and add memories, both with the ids NAME-0, NAME-1, ..."""
    stop = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    async with AgentStore(url) as store:
        number = 0
        while not stop.done():
            message = Message(id=f"{name}-{number}", role="user", content=[TextContent(text=f"apples {number}")])
            await store.sessions.append_message(Session(id="s", user_id="alice"), [message])
            await store.memory.add_memory("alice", [message], "s")
            if number % 10 == 0:
                await store.memory.search("alice", "apples")
                assert await store.sessions.get_session("alice", "s", limit=3) is not None
                assert await store.sessions.list_sessions("alice")
            print(number, flush=True)
            number += 1
            await asyncio.sleep(0.02)  # leaves the processes that start beside it time


asyncio.run(main(sys.argv[1], sys.argv[2]))
