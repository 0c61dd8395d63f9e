"""Google ADK on agentstore: what its DatabaseSessionService does, by AgentStoreSessionService."""

from agentstore import AgentStore, Settings
from agentstore.adapters.adk import AgentStoreSessionService
from benchmarks.contenders import google_adk


class Contender(google_adk.Contender):
    """AgentStoreSessionService with its defaults."""

    name = "agentstore, google-adk"

    def __init__(self, url: str, redis_url: str | None) -> None:
        self._store = AgentStore(url, settings=Settings(auto_migrate="upgrade"))
        self._service = AgentStoreSessionService(self._store)
        self._sessions = {}

    async def start(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        await self._store.start()

    async def stop(self) -> None:  # noqa: D102
        await self._store.stop()
