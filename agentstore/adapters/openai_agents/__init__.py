"""Sessions of the OpenAI Agents SDK (openai-agents) on agentstore.

::

    from agentstore.adapters.openai_agents import AgentStoreSession

    session = AgentStoreSession("trip", store, user_id="alice")
    result = await Runner.run(agent, "Any rain in Chengdu?", session=session)

Items are stored as ordinary Messages, so that a conversation can be read by every other part of agentstore, and each
session of agentstore by the SDK. The package itself is not imported.
"""

from agentstore.adapters.openai_agents.session import AgentStoreSession, AgentStoreSessions
from agentstore.adapters.openai_agents.turns import Turn
from agentstore.adapters.stores import Store

__all__ = ["AgentStoreSession", "AgentStoreSessions", "Store", "Turn"]
