"""Memory, state and long-term memory of AgentScope 1.0 agents on agentstore.

::

    from agentstore.adapters.agentscope import AgentScopeSessionHistoryMemory

    memory = AgentScopeSessionHistoryMemory(store.sessions, user_id="alice", session_id="s1")
    agent = ReActAgent(..., memory=memory)

Needs agentscope 1.0.9 or a later 1.0. The services may be those of a store, of
:mod:`agentstore.adapters.agentscope_runtime`, or in memory.
"""

from agentstore.adapters.agentscope.history import AgentScopeSessionHistoryMemory
from agentstore.adapters.agentscope.long_term_memory import AgentScopeLongTermMemory
from agentstore.adapters.agentscope.states import AgentScopeSession, NoState

__all__ = ["AgentScopeLongTermMemory", "AgentScopeSession", "AgentScopeSessionHistoryMemory", "NoState"]
