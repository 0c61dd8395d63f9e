"""The checkpoint saver and the store for LangGraph on agentstore.

::

    from agentstore.adapters.langgraph import AgentStoreSaver

    graph = builder.compile(checkpointer=AgentStoreSaver(store))
    config = {"configurable": {"thread_id": "trip", "user_id": "alice"}}
    await graph.ainvoke({"messages": [("user", "Any rain in Chengdu?")]}, config)

Importing a name of this package imports langgraph-checkpoint.
"""

from typing import TYPE_CHECKING

from agentstore.lazy_imports import defined_in, lazy_attributes

if TYPE_CHECKING:
    from agentstore.adapters.langgraph.saver import AgentStoreSaver
    from agentstore.adapters.langgraph.store import AgentStoreStore

__all__ = ["AgentStoreSaver", "AgentStoreStore"]

_DEFINED_IN = defined_in(
    {
        "agentstore.adapters.langgraph.saver": "AgentStoreSaver",
        "agentstore.adapters.langgraph.store": "AgentStoreStore",
    }
)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_attributes(__name__, _DEFINED_IN)
