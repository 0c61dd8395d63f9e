"""LangGraph's checkpoints on agentstore: what AsyncPostgresSaver does, by AgentStoreSaver."""

from agentstore import AgentStore, Settings
from agentstore.adapters.langgraph import AgentStoreSaver
from benchmarks.contenders import langgraph_saver


class Contender(langgraph_saver.Contender):
    """AgentStoreSaver with its defaults."""

    name = "agentstore, langgraph checkpoint"

    def __init__(self, url: str, redis_url: str | None) -> None:
        self._store = AgentStore(url, settings=Settings(auto_migrate="upgrade"))
        self._saver = AgentStoreSaver(self._store)
        self._last = {}

    async def start(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        await self._store.start()

    async def stop(self) -> None:  # noqa: D102
        await self._store.stop()
