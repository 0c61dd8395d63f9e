"""agentscope-runtime's in-memory services, which are called like its Redis services: what it costs not to store at all.

A read and a list copy every message of what they return, as the services do it.
"""

from benchmarks.contenders import runtime_redis  # first: it says what of the package is imported  # isort: skip

from agentscope_runtime.engine.services.agent_state.state_service import InMemoryStateService
from agentscope_runtime.engine.services.memory.memory_service import InMemoryMemoryService
from agentscope_runtime.engine.services.session_history.session_history_service import InMemorySessionHistoryService


class Contender(runtime_redis.Contender):
    """The same calls."""

    name = "agentscope-runtime (in memory)"

    def __init__(self, url: str, redis_url: str | None) -> None:
        super().__init__(url, redis_url)
        self._services = InMemorySessionHistoryService(), InMemoryStateService(), InMemoryMemoryService()
