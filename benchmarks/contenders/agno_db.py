"""agno's AsyncPostgresDb: an append is a run that holds the messages, saved as an agent saves a finished run.

That takes two calls: upsert_session of the session without its runs, then upsert_run with the index of the run. The
writers of a session share one AgentSession. Reads load another one, for which agno caches runs that did not change.
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

from benchmarks.contender import USER, PlainMessage

AGENT = "bench"


class Contender:
    """AsyncPostgresDb on asyncpg, with its defaults except for the size of the pool."""

    name = "agno"
    version = importlib.metadata.version("agno")
    durable = True

    def __init__(self, url: str, redis_url: str | None) -> None:
        url = url.replace("postgresql:", "postgresql+asyncpg:", 1)
        self._db = AsyncPostgresDb(db_engine=create_async_postgres_engine(url, pool_size=10, max_overflow=0))
        self._sessions: dict[str, AgentSession] = {}

    async def start(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        await self._db._create_all_tables()

    async def stop(self) -> None:  # noqa: D102
        await self._db.close()

    async def create(self, session: str) -> None:  # noqa: D102
        created = AgentSession(session, AGENT, user_id=USER, session_data={}, created_at=int(time.time()))
        assert await self._db.upsert_session(created) is not None
        self._sessions[session] = created

    def convert(self, messages: Sequence[PlainMessage]) -> list[RunOutput]:
        """Return one run, which is the unit that agno saves."""
        messages = [Message(id=each.id, role=each.role, content=each.text) for each in messages]
        return [RunOutput(str(uuid.uuid4()), AGENT, user_id=USER, messages=messages, status=RunStatus.completed)]

    async def append(self, session: str, messages: list[RunOutput]) -> None:  # noqa: D102
        agent_session = self._sessions[session]
        for run in messages:
            run.session_id = session
            agent_session.upsert_run(run)
            place = resolve_run_index(agent_session, run)
            assert await self._db.upsert_session(agent_session) is not None
            await self._db.upsert_run(run, session, USER, place)

    async def read(self, session: str) -> AgentSession:  # noqa: D102
        found = await self._db.get_session(session, SessionType.AGENT, USER)
        assert isinstance(found, AgentSession)
        return found

    def texts(self, found: AgentSession) -> list[str]:  # noqa: D102
        return [message.content for run in found.runs or () for message in run.messages or ()]

    async def list_sessions(self) -> int:  # noqa: D102
        return len(await self._db.get_sessions(SessionType.AGENT, USER, include_runs=False))
