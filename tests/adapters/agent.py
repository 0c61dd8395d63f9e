"""One turn of an AgentScope agent on agentstore: `python agent.py MEMORY SESSION TEXT` prints its answer.

MEMORY is `session`, an agentstore session, or `state`, AgentScope's own memory, saved by AgentScopeSession. The
scripted model repeats all user messages and everything retrieved from other sessions.
"""

import asyncio
import sys
from typing import Any

from agentscope.agent import ReActAgent
from agentscope.formatter import OpenAIChatFormatter
from agentscope.memory import InMemoryMemory
from agentscope.message import Msg, TextBlock
from agentscope.model import ChatModelBase, ChatResponse

from agentstore import AgentStore
from agentstore.adapters.agentscope import AgentScopeLongTermMemory, AgentScopeSession, AgentScopeSessionHistoryMemory


class Parrot(ChatModelBase):
    """Repeats all user messages."""

    def __init__(self) -> None:
        super().__init__("parrot", stream=False)

    async def __call__(self, messages: list[dict[str, Any]], *_: Any, **__: Any) -> ChatResponse:
        texts = [part["text"] for each in messages if each["role"] == "user" for part in each["content"]]
        return ChatResponse(content=[TextBlock(type="text", text=" / ".join(texts))])


async def main(kind: str, session_id: str, text: str) -> None:
    async with AgentStore() as store:
        session = AgentScopeSession(store.states)
        long_term = AgentScopeLongTermMemory(store.memory, "alice", session_id)
        agent = ReActAgent(
            name="Polly",
            sys_prompt="You are a parrot.",
            model=Parrot(),
            formatter=OpenAIChatFormatter(),
            memory=InMemoryMemory()
            if kind == "state"
            else AgentScopeSessionHistoryMemory(store.sessions, "alice", session_id),
            long_term_memory=long_term,
            long_term_memory_mode="static_control",
        )
        agent.set_console_output_enabled(False)
        await session.load_session_state(session_id, "alice", agent=agent)
        answer = await agent(Msg("Alice", text, "user"))
        await long_term.record(await agent.memory.get_memory())  # in 1.0.9 the agent does not record every answer
        await session.save_session_state(session_id, "alice", agent=agent)
        print(answer.get_text_content())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
