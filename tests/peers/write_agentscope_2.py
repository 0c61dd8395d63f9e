"""Write sessions with AgentScope 2's SQL storage, and print them. Runs where AgentScope 2 is installed."""

import asyncio
import json
import sys

from agentscope.app.storage import SessionConfig
from agentscope.app.storage._sql import AsyncSQLAlchemyStorage
from agentscope.message import (
    AssistantMsg,
    Base64Source,
    DataBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultBlock,
    UserMsg,
)
from agentscope.state import AgentState


async def main(url: str) -> None:
    async with AsyncSQLAlchemyStorage(url) as storage:
        for user, id in (("alice", "s1"), ("a:b", "会话")):
            messages = [
                UserMsg(name="Ann", content="Any rain in 杭州?"),
                AssistantMsg(
                    name="Friday",
                    content=[
                        ThinkingBlock(thinking="Ask the tool."),
                        ToolCallBlock(id="c1", name="weather", input='{"city": "杭州"}', state="finished"),
                        ToolResultBlock(id="c1", name="weather", output=[TextBlock(text="3 mm")], state="success"),
                        TextBlock(text="A little:"),
                        TextBlock(text="3 mm."),
                    ],
                    metadata={"mood": "calm"},
                ),
                UserMsg(
                    name="Ann",
                    content=[
                        TextBlock(text="and this?"),
                        DataBlock(source=Base64Source(data="AA==", media_type="image/png"), name="sky.png"),
                    ],
                ),
            ]
            state = AgentState(summary="rain", context=messages[:1])
            config = SessionConfig(workspace_id="w", name=f"Weather for {user}")
            await storage.upsert_session(user, "agent", config, state=state, session_id=id)
            for message in messages:
                await storage.upsert_message(user, id, message)
            stored, _ = await storage.list_messages(user, id)
            print(
                json.dumps(
                    {
                        "user": user,
                        "session": id,
                        "messages": [message.model_dump(mode="json") for message in stored],
                        "state": state.model_dump(mode="json"),
                    }
                )
            )


asyncio.run(main(sys.argv[1]))
