"""A process that writes to a conversation: ``python -m tests.adapters.pydantic_ai.writer URL MODE ARGUMENT``.

``ask QUESTION`` runs an agent, and prints the number of messages before and the answer. ``kill NUMBER`` saves turns of
two messages, and is killed with SIGKILL right after it has sent NUMBER messages to the server since the first turn.
"""

# pyright: reportMissingImports=false
import asyncio
import sys

from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from agentstore import AgentStore
from agentstore.adapters.pydantic_ai import AgentStoreConversationStore
from tests.support.killed import kill_after


def count(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Answer with the number of messages, and the last prompt."""
    part = messages[-1].parts[0]
    return ModelResponse(parts=[TextPart(f"{len(messages)}: {getattr(part, 'content', '')}")])


async def _ask(conversations: AgentStoreConversationStore, question: str) -> None:
    conversation = await conversations.load("trip") or Conversation(conversation_id="trip")
    print(len(conversation.messages))
    result = await Agent(FunctionModel(count)).run(question, conversation=conversation)
    await conversations.save(result)
    print(result.output)


async def _save_turns(conversations: AgentStoreConversationStore, messages: int) -> None:
    conversation = Conversation(conversation_id="trip")
    for turn in range(2):
        if turn == 1:
            kill_after(messages)
        conversation.messages += [
            ModelRequest(parts=[UserPromptPart(f"question {turn}")]),
            ModelResponse(parts=[TextPart(f"answer {turn}")]),
        ]
        await conversations.save(conversation)


async def _main(url: str, mode: str, argument: str) -> None:
    async with AgentStore(url) as store:
        conversations = AgentStoreConversationStore(store, user_id="alice")
        await (_ask(conversations, argument) if mode == "ask" else _save_turns(conversations, int(argument)))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
