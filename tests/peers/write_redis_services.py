"""Write with AgentScope Runtime 1.0's Redis services, and print what they read back.

Runs where AgentScope Runtime is unpacked. Only the modules of these services are imported, which need redis and
pydantic; empty modules replace their parent packages, which would import everything else.
"""

import asyncio
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

_found = importlib.util.find_spec("agentscope_runtime")
assert _found is not None
assert _found.submodule_search_locations
_ROOT = Path(_found.submodule_search_locations[0])
for _name in ("", ".engine", ".engine.services", ".engine.schemas", ".engine.services.session_history",
              ".engine.services.memory", ".engine.services.agent_state", ".engine.services.utils"):  # fmt: skip
    _module = ModuleType(f"agentscope_runtime{_name}")
    _module.__path__ = [str(_ROOT.joinpath(*_name.split(".")[1:]))]
    sys.modules[_module.__name__] = _module

from agentscope_runtime.engine.schemas.agent_schemas import Message, Role, TextContent  # noqa: E402
from agentscope_runtime.engine.services.agent_state.redis_state_service import RedisStateService  # noqa: E402
from agentscope_runtime.engine.services.memory.redis_memory_service import RedisMemoryService  # noqa: E402
from agentscope_runtime.engine.services.session_history.redis_session_history_service import (  # noqa: E402
    RedisSessionHistoryService,
)


def _message(text: str, role: str = Role.USER) -> Message:
    return Message(role=role, type="message", content=[TextContent(type="text", text=text)], metadata={"n": text})


async def main(url: str) -> None:
    sessions, memory, states = RedisSessionHistoryService(url), RedisMemoryService(url), RedisStateService(url)
    for service in (sessions, memory, states):
        await service.start()
    found = []
    for user, id in (("alice", "s"), ("alice", "会话"), ("a:b", "c")):
        session = await sessions.create_session(user, id)
        for text, role in (("Any rain in 杭州?", Role.USER), ("A little.", Role.ASSISTANT)):
            await sessions.append_message(session, _message(f"{text} {user} {id}", role))
        await memory.add_memory(user, session.messages, id)
        await memory.add_memory(user, [_message("without a session")])
        for step in range(12):
            await states.save_state(user, {"step": step, "plan": ["密"]}, id)
        stored = await sessions.get_session(user, id)
        found.append(
            {
                "user": user,
                "session": id,
                "messages": [message.model_dump() for message in stored.messages],
                "memories": [message.model_dump() for message in await memory.list_memory(user, {"page_size": 100})],
                "state": await states.export_state(user, id),
            }
        )
    print(json.dumps(found))
    for service in (sessions, memory, states):
        await service.stop()


asyncio.run(main(sys.argv[1]))
