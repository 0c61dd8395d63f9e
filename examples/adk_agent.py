"""An agent of Google ADK in the terminal, which continues on any host: ``python adk_agent.py alice``. Ctrl-D ends it.

Needs ``pip install 'agentstore-postgres[adk]'`` and GOOGLE_API_KEY.
"""

# pyright: basic, reportMissingImports=false
import asyncio
import sys

from google.adk.agents import LlmAgent
from google.adk.events import Event
from google.adk.runners import Runner
from google.genai.types import Content, Part

from agentstore import AgentStore
from agentstore.adapters.adk import AgentStoreSessionService


async def chat(user: str) -> None:
    """Print the conversation so far, and answer each line of the input."""
    async with AgentStore() as store:
        service = AgentStoreSessionService(store)
        session = await service.get_session(app_name="terminal", user_id=user, session_id="chat")
        if session is None:
            session = await service.create_session(app_name="terminal", user_id=user, session_id="chat")
        for event in session.events:
            print(f"{event.author}: {_text_of(event)}")
        agent = LlmAgent(name="assistant", model="gemini-2.5-flash", instruction="Be short.")
        runner = Runner(app_name="terminal", agent=agent, session_service=service)
        while line := await asyncio.to_thread(sys.stdin.readline):
            message = Content(role="user", parts=[Part(text=line.strip())])
            async for event in runner.run_async(user_id=user, session_id="chat", new_message=message):
                print(_text_of(event))


def _text_of(event: Event) -> str:
    return "".join(part.text or "" for part in event.content.parts) if event.content and event.content.parts else ""


if __name__ == "__main__":
    asyncio.run(chat(sys.argv[1]))
