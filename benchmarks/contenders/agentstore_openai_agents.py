"""The OpenAI Agents SDK on agentstore: what its SQLAlchemySession does, by AgentStoreSession."""

from agentstore import AgentStore, Settings
from agentstore.adapters.openai_agents import AgentStoreSession
from benchmarks.contender import USER
from benchmarks.contenders import openai_agents


class Contender(openai_agents.Contender):
    """AgentStoreSession with its defaults."""

    name = "agentstore, openai-agents"

    def __init__(self, url: str, redis_url: str | None) -> None:
        self._store = AgentStore(url, settings=Settings(auto_migrate="upgrade"))
        self._sessions = {}

    async def start(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        await self._store.start()

    async def stop(self) -> None:  # noqa: D102
        await self._store.stop()

    async def create(self, session: str) -> None:  # noqa: D102
        self._sessions[session] = AgentStoreSession(session, self._store, user_id=USER)
