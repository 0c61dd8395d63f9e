"""An AgentScope Runtime application on agentstore's services: `python runtime_app.py PORT runtime|agentstore`.

The second argument selects whose AgentScopeSessionHistoryMemory the agent uses. Its scripted model repeats all user
messages of the session.
"""

import sys
from typing import Any

from agentscope.agent import ReActAgent
from agentscope.formatter import OpenAIChatFormatter
from agentscope.message import TextBlock
from agentscope.model import ChatModelBase, ChatResponse
from agentscope.pipeline import stream_printing_messages
from agentscope_runtime.adapters.agentscope.memory import AgentScopeSessionHistoryMemory as RuntimeMemory
from agentscope_runtime.engine import AgentApp
from agentscope_runtime.engine.services.agent_state.state_service_factory import StateServiceFactory
from agentscope_runtime.engine.services.session_history.session_history_service_factory import (
    SessionHistoryServiceFactory,
)

from agentstore.adapters.agentscope import AgentScopeSessionHistoryMemory as AgentstoreMemory
from agentstore.adapters.agentscope_runtime import register

register()
Memory = {"runtime": RuntimeMemory, "agentstore": AgentstoreMemory}[sys.argv[2]]
app = AgentApp(app_name="parrot")


class Parrot(ChatModelBase):
    """Repeats all user messages."""

    def __init__(self) -> None:
        super().__init__("parrot", stream=False)

    async def __call__(self, messages: list[dict[str, Any]], *_: Any, **__: Any) -> ChatResponse:
        texts = [part["text"] for each in messages if each["role"] == "user" for part in each["content"]]
        return ChatResponse(content=[TextBlock(type="text", text="You said: " + " / ".join(texts))])


@app.init
async def start(self: Any) -> None:
    self.sessions = await SessionHistoryServiceFactory.create()
    self.states = await StateServiceFactory.create()
    await self.sessions.start()
    await self.states.start()


@app.query(framework="agentscope")
async def answer(self: Any, msgs: Any, request: Any = None, **_: Any) -> Any:
    state = await self.states.export_state(request.user_id, request.session_id)
    agent = ReActAgent(
        name="Polly",
        sys_prompt="You are a parrot.",
        model=Parrot(),
        formatter=OpenAIChatFormatter(),
        memory=Memory(service=self.sessions, user_id=request.user_id, session_id=request.session_id),
    )
    if state:
        agent.load_state_dict(state, strict=False)
    async for msg, last in stream_printing_messages(agents=[agent], coroutine_task=agent(msgs)):
        yield msg, last
    await self.states.save_state(request.user_id, agent.state_dict(), request.session_id)


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(sys.argv[1]))
