"""agentstore's public API, with default settings."""

from collections.abc import Sequence
from typing import Any

import agentstore
from agentstore import AgentStore, Message, Session, Settings, TextContent
from benchmarks.contender import USER, PlainMessage


class Contender:
    """AgentStore with its defaults."""

    name = "agentstore"
    version = agentstore.__version__
    durable = True

    def __init__(self, url: str, redis_url: str | None) -> None:
        self._store = AgentStore(url, settings=Settings(auto_migrate="upgrade"))
        self._sessions: dict[str, Session] = {}

    async def start(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        await self._store.start()

    async def stop(self) -> None:  # noqa: D102
        await self._store.stop()

    async def create(self, session: str) -> None:  # noqa: D102
        self._sessions[session] = await self._store.sessions.create_session(USER, session)

    def convert(self, messages: Sequence[PlainMessage]) -> list[Message]:  # noqa: D102
        return [Message(id=each.id, role=each.role, content=[TextContent(text=each.text)]) for each in messages]

    async def append(self, session: str, messages: list[Message]) -> None:  # noqa: D102
        await self._store.sessions.append_message(self._sessions[session], messages)

    async def read(self, session: str) -> Session:  # noqa: D102
        found = await self._store.sessions.get_session(USER, session)
        assert found is not None
        return found

    def texts(self, found: Session) -> list[str]:  # noqa: D102
        return [message.content[0].text for message in found.messages]  # type: ignore[index, union-attr, misc]

    async def list_sessions(self) -> int:  # noqa: D102
        return len(await self._store.sessions.list_sessions(USER))

    async def save_state(self, session: str, state: dict[str, Any]) -> None:  # noqa: D102
        await self._store.states.save_state(USER, state, session)

    async def load_state(self, session: str) -> dict[str, Any]:  # noqa: D102
        found = await self._store.states.export_state(USER, session)
        assert found is not None
        return found

    async def add_memory(self, session: str, messages: list[Message]) -> None:  # noqa: D102
        await self._store.memory.add_memory(USER, messages, session)
