"""A session store for the Claude Agent SDK (claude-agent-sdk) on agentstore.

::

    from agentstore.adapters.claude_agent_sdk import AgentStoreSessionStore

    options = ClaudeAgentOptions(session_store=AgentStoreSessionStore(store, user_id="alice"), resume=session_id)
    async for message in query(prompt="Any rain in Chengdu?", options=options):
        print(message)

The SDK copies the transcript of each session to the store, and resumes a session from it on any host. What users and
the model have written is stored as ordinary Messages, so that every other part of agentstore can read it. The package
itself is imported by the first append.
"""

from agentstore.adapters.claude_agent_sdk.session_store import AgentStoreSessionStore
from agentstore.adapters.stores import Store

__all__ = ["AgentStoreSessionStore", "Store"]
