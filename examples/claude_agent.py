"""Claude Code in the terminal, which continues on any host: ``python claude_agent.py alice``. Ctrl-D ends it.

Needs ``pip install 'agentstore-postgres[claude-agent-sdk]'`` and ANTHROPIC_API_KEY.
"""

# pyright: basic, reportMissingImports=false
import asyncio
import sys

from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, ClaudeSDKClient, TextBlock, list_sessions_from_store

from agentstore import AgentStore
from agentstore.adapters.claude_agent_sdk import AgentStoreSessionStore


async def chat(user: str) -> None:
    """List the sessions of this folder, resume the last one, and answer each line of the input."""
    async with AgentStore() as store:
        transcripts = AgentStoreSessionStore(store, user_id=user, remember=True)
        for info in await list_sessions_from_store(transcripts):
            print(f"{info.session_id}: {info.summary}")
        options = ClaudeAgentOptions(session_store=transcripts, continue_conversation=True)
        async with ClaudeSDKClient(options) as client:
            while line := await asyncio.to_thread(sys.stdin.readline):
                if not line.strip():
                    continue
                for found in await store.memory.search(user, line, {"top_k": 1}):
                    print(f"(remembered: {found.message.text})")
                await client.query(line.strip())
                async for message in client.receive_response():
                    if isinstance(message, AssistantMessage):
                        print("".join(block.text for block in message.content if isinstance(block, TextBlock)))


if __name__ == "__main__":
    asyncio.run(chat(sys.argv[1]))
