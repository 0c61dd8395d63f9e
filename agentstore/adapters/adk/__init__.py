"""A session service for Google's Agent Development Kit (google-adk) on agentstore.

::

    from agentstore.adapters.adk import AgentStoreSessionService

    runner = Runner(app_name="weather", agent=agent, session_service=AgentStoreSessionService(store))

Events are stored as ordinary Messages, and the state as scoped values, so that every other part of agentstore can read
them. Importing this package imports google-adk.
"""

from agentstore.adapters.adk.sessions import AgentStoreSessionService
from agentstore.adapters.adk.uris import register, session_service
from agentstore.adapters.stores import Store

__all__ = ["AgentStoreSessionService", "Store", "register", "session_service"]
