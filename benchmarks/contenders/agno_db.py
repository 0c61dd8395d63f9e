"""agno's AsyncPostgresDb: an append is a run that holds the messages, saved as an agent saves one when it has ended.

That is two calls: upsert_session of the session without its runs, then upsert_run, at the run's place in the session.
A session's writers share one AgentSession; reads load another, of whose runs agno keeps those that did not change.
"""

import importlib.metadata
import time
import uuid
from collections.abc import Sequence

from agno.db.base import SessionType
from agno.db.postgres import AsyncPostgresDb, create_async_postgres_engine
from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.run.base import RunStatus
from agno.session import AgentSession
from agno.session._utils import resolve_run_index

from benchmarks.contender import USER, Said

AGENT = "bench"


class Contender:
    """Its database on asyncpg, with its defaults but for the size of the pool."""

    name = "agno"
    version = importlib.metadata.version("agno")
    durable = True

    def __init__(self, url: str, redis_url: str | None) -> None:
        url = url.replace("postgresql:", "postgresql+asyncpg:", 1)
        self._db = AsyncPostgresDb(db_engine=create_async_postgres_engine(url, pool_size=10, max_overflow=0))
        self._sessions: dict[str, AgentSession] = {}

    async def start(self) -> None:  # noqa: D102 - see benchmarks.contender
        await self._db._create_all_tables()

    async def stop(self) -> None:  # noqa: D102
        await self._db.close()

    async def create(self, session: str) -> None:  # noqa: D102
        made = AgentSession(session, AGENT, user_id=USER, session_data={}, created_at=int(time.time()))
        assert await self._db.upsert_session(made) is not None
        self._sessions[session] = made

    def make(self, said: Sequence[Said]) -> list[RunOutput]:
        """Make one run, which is what agno saves."""
        messages = [Message(id=each.id, role=each.role, content=each.text) for each in said]
        return [RunOutput(str(uuid.uuid4()), AGENT, user_id=USER, messages=messages, status=RunStatus.completed)]

    async def append(self, session: str, messages: list[RunOutput]) -> None:  # noqa: D102
        kept = self._sessions[session]
        for run in messages:
            run.session_id = session
            kept.upsert_run(run)
            place = resolve_run_index(kept, run)
            assert await self._db.upsert_session(kept) is not None
            await self._db.upsert_run(run, session, USER, place)

    async def read(self, session: str) -> AgentSession:  # noqa: D102
        found = await self._db.get_session(session, SessionType.AGENT, USER)
        assert isinstance(found, AgentSession)
        return found

    def texts(self, found: AgentSession) -> list[str]:  # noqa: D102
        return [message.content for run in found.runs or () for message in run.messages or ()]

    async def list_sessions(self) -> int:  # noqa: D102
        return len(await self._db.get_sessions(SessionType.AGENT, USER, include_runs=False))
