"""The conversation store of Pydantic AI (pydantic-ai) on agentstore.

::

    from agentstore.adapters.pydantic_ai import AgentStoreConversationStore

    conversations = AgentStoreConversationStore(store, user_id="alice")
    conversation = await conversations.load("trip") or Conversation(conversation_id="trip")
    result = await agent.run("Any rain in Chengdu?", conversation=conversation)
    await conversations.save(result)

A conversation is an ordinary session and each of its entries an ordinary Message, so that every other part of
agentstore can read them. Importing this package imports pydantic-ai.
"""

from agentstore.adapters.pydantic_ai.conversations import AgentStoreConversationStore
from agentstore.adapters.pydantic_ai.entries import EntryNotFound
from agentstore.adapters.stores import Store

__all__ = ["AgentStoreConversationStore", "EntryNotFound", "Store"]
