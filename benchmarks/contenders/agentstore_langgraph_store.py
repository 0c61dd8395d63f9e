"""LangGraph's store on agentstore: what AsyncPostgresStore does, by AgentStoreStore, which also indexes the texts."""

from agentstore import AgentStore, Settings
from agentstore.adapters.langgraph import AgentStoreStore
from benchmarks.contenders import langgraph_store


class Contender(langgraph_store.Contender):
    """AgentStoreStore with its defaults."""

    name = "agentstore, langgraph store"

    def __init__(self, url: str, redis_url: str | None) -> None:
        self._agentstore = AgentStore(url, settings=Settings(auto_migrate="upgrade"))
        self._store = AgentStoreStore(self._agentstore)

    async def start(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        await self._agentstore.start()

    async def stop(self) -> None:  # noqa: D102
        await self._agentstore.stop()
