"""agentscope-runtime's Redis services for sessions, states and memory, without expiry of their data.

Only the modules of these services are imported, which need only redis and pydantic. Empty modules take the place of the
packages that contain them, because the real ones import all dependencies of the runtime.
"""

import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_found = importlib.util.find_spec("agentscope_runtime")
assert _found is not None
assert _found.submodule_search_locations
for _name in ("", ".engine", ".engine.services", ".engine.schemas", ".engine.services.session_history",
              ".engine.services.memory", ".engine.services.agent_state", ".engine.services.utils"):  # fmt: skip
    _module = ModuleType(f"agentscope_runtime{_name}")
    _module.__path__ = [str(Path(_found.submodule_search_locations[0]).joinpath(*_name.split(".")[1:]))]
    sys.modules[_module.__name__] = _module

from agentscope_runtime.engine.schemas.agent_schemas import Message, TextContent  # noqa: E402
from agentscope_runtime.engine.schemas.session import Session  # noqa: E402
from agentscope_runtime.engine.services.agent_state.redis_state_service import RedisStateService  # noqa: E402
from agentscope_runtime.engine.services.memory.redis_memory_service import RedisMemoryService  # noqa: E402
from agentscope_runtime.engine.services.session_history.redis_session_history_service import (  # noqa: E402
    RedisSessionHistoryService,
)

from benchmarks.contender import USER, PlainMessage  # noqa: E402


class Contender:
    """The services as applications call them. The writers of a session share one Session object."""

    name = "agentscope-runtime (Redis)"
    version = importlib.metadata.version("agentscope-runtime")
    durable = False

    def __init__(self, url: str, redis_url: str | None) -> None:
        self._services: tuple[Any, Any, Any] = (
            RedisSessionHistoryService(redis_url, ttl_seconds=None),
            RedisStateService(redis_url, ttl_seconds=None),
            RedisMemoryService(redis_url, ttl_seconds=None),
        )
        self._sessions: dict[str, Session] = {}

    async def start(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        for service in self._services:
            await service.start()
        self._history, self._states, self._memory = self._services

    async def stop(self) -> None:  # noqa: D102
        for service in self._services:
            await service.stop()

    async def create(self, session: str) -> None:  # noqa: D102
        self._sessions[session] = await self._history.create_session(USER, session)

    def convert(self, messages: Sequence[PlainMessage]) -> list[Message]:  # noqa: D102
        return [Message(id=each.id, role=each.role, content=[TextContent(text=each.text)]) for each in messages]

    async def append(self, session: str, messages: list[Message]) -> None:  # noqa: D102
        await self._history.append_message(self._sessions[session], messages)

    async def read(self, session: str) -> Session:  # noqa: D102
        return await self._history.get_session(USER, session)

    def texts(self, found: Session) -> list[str]:  # noqa: D102
        return [message.content[0].text for message in found.messages]

    async def list_sessions(self) -> int:  # noqa: D102
        return len(await self._history.list_sessions(USER))

    async def save_state(self, session: str, state: dict[str, Any]) -> None:  # noqa: D102
        await self._states.save_state(USER, state, session)

    async def load_state(self, session: str) -> dict[str, Any]:  # noqa: D102
        found: dict[str, Any] = await self._states.export_state(USER, session)
        return found

    async def add_memory(self, session: str, messages: list[Message]) -> None:  # noqa: D102
        await self._memory.add_memory(USER, messages, session)
