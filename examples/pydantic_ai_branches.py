"""A conversation of Pydantic AI that branches: ``python pydantic_ai_branches.py alice``. Run it again to continue it.

The model "test" answers without a provider: pass another one, such as ``openai:gpt-5``, as the second argument. Needs
``pip install 'agentstore-postgres[pydantic-ai]'``.
"""

# pyright: basic, reportMissingImports=false
import asyncio
import sys

from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation

from agentstore import AgentStore
from agentstore.adapters.pydantic_ai import AgentStoreConversationStore


async def main(user: str, model: str = "test") -> None:
    """Ask a question, ask it otherwise in a branch, and return to the first answer."""
    async with AgentStore() as store:
        conversations = AgentStoreConversationStore(store, user_id=user)
        agent = Agent(model, instructions="Be short.")
        conversation = await conversations.load("dinner") or Conversation(conversation_id="dinner")
        print(f"{len(conversation.messages)} messages so far")

        result = await agent.run("What shall I eat in Chengdu?", conversation=conversation)
        entries = await conversations.save(result)
        print(f"first answer: {result.output}")

        # Edit the question: the history before it is continued, and the first answer stays stored.
        before = len(conversation.messages)
        revision = result.conversation.revision
        conversation = await conversations.branch("dinner", at=before, expected_revision=revision)
        result = await agent.run("What shall I eat in Chengdu, without peppers?", conversation=conversation)
        await conversations.save(result)
        print(f"second answer: {result.output}")

        record = await conversations.read_record("dinner")
        print(f"branches that were left: {len(record.branches) if record else 0}")

        # Return to the first answer. A fork is a conversation of its own.
        conversation = await conversations.branch(
            "dinner", from_entry=entries[-1].id, expected_revision=result.conversation.revision
        )
        fork = await conversations.fork("dinner")
        print(f"{len(conversation.messages)} messages, and as many in the fork: {len(fork.messages)}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
