"""A graph that continues after a crash: ``python langgraph_resume.py trip --crash``, then without ``--crash``.

Needs ``pip install 'agentstore-postgres[langgraph]' langgraph``.
"""

# pyright: basic, reportMissingImports=false
import asyncio
import os
import sys
from operator import add
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from agentstore import AgentStore
from agentstore.adapters.langgraph import AgentStoreSaver


class Trip(TypedDict):
    """The state of the graph."""

    steps: Annotated[list[str], add]


async def plan(trip: Trip) -> dict[str, list[str]]:
    print("plan: two days in Chengdu", flush=True)
    return {"steps": ["planned"]}


async def book(trip: Trip) -> dict[str, list[str]]:
    if "--crash" in sys.argv:
        os._exit(1)  # as a machine that fails between two nodes
    print("book: the train at nine", flush=True)
    return {"steps": ["booked"]}


async def main(thread: str) -> None:
    """Begin the thread, or continue it after the last node that was completed."""
    builder = StateGraph(Trip)
    builder.add_node("plan", plan)
    builder.add_node("book", book)
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "book")
    builder.add_edge("book", END)
    async with AgentStore() as store:
        graph = builder.compile(checkpointer=AgentStoreSaver(store))
        config: Any = {"configurable": {"thread_id": thread, "user_id": "alice"}}
        has_begun = bool((await graph.aget_state(config)).next)
        result = await graph.ainvoke(None if has_begun else {"steps": []}, config, durability="sync")
        print("done:", ", ".join(result["steps"]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
