"""google-adk's DatabaseSessionService: one append_event per message, as it accepts one at a time.

The writers of a session share one Session object, because separately loaded ones are rejected as stale. Reads load
another one.
"""

import importlib.metadata
from collections.abc import Sequence

from google.adk.events import Event
from google.adk.sessions import DatabaseSessionService, Session
from google.genai.types import Content, Part

from benchmarks.contender import USER, PlainMessage, session_state

APP = "bench"


class Contender:
    """DatabaseSessionService on asyncpg, with its defaults except for the size of the pool."""

    name = "google-adk"
    version = importlib.metadata.version("google-adk")
    durable = True

    def __init__(self, url: str, redis_url: str | None) -> None:
        self._service = DatabaseSessionService(
            url.replace("postgresql:", "postgresql+asyncpg:", 1), pool_size=10, max_overflow=0
        )
        self._sessions: dict[str, Session] = {}

    async def start(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        await self._service.prepare_tables()

    async def stop(self) -> None:  # noqa: D102
        await self._service.close()

    async def create(self, session: str) -> None:  # noqa: D102
        self._sessions[session] = await self._service.create_session(app_name=APP, user_id=USER, session_id=session)

    async def create_with_state(self, session: str, kilobytes: int) -> None:  # noqa: D102
        await self._service.create_session(
            app_name=f"{APP} {kilobytes}", user_id=USER, session_id=session, state=session_state(kilobytes)
        )

    def convert(self, messages: Sequence[PlainMessage]) -> list[Event]:
        """Return events. Each has the timestamp of its creation, which determines the order of reads."""
        return [
            Event(
                id=each.id,
                invocation_id=each.id,
                author="user" if each.role == "user" else "agent",
                content=Content(role="user" if each.role == "user" else "model", parts=[Part(text=each.text)]),
            )
            for each in messages
        ]

    async def append(self, session: str, messages: list[Event]) -> None:  # noqa: D102
        for message in messages:
            await self._service.append_event(self._sessions[session], message)

    async def read(self, session: str) -> Session:  # noqa: D102
        found = await self._service.get_session(app_name=APP, user_id=USER, session_id=session)
        assert found is not None
        return found

    def texts(self, found: Session) -> list[str]:  # noqa: D102
        return [event.content.parts[0].text for event in found.events]

    async def list_sessions(self) -> int:  # noqa: D102
        return len((await self._service.list_sessions(app_name=APP, user_id=USER)).sessions)

    async def list_with_state(self, kilobytes: int, look_at: bool) -> int:  # noqa: D102
        listed = await self._service.list_sessions(app_name=f"{APP} {kilobytes}", user_id=USER)
        if look_at:
            assert all(each.state.get("key 7") is not None for each in listed.sessions)
        return len(listed.sessions)
