"""agentscope-runtime's in-memory services, called like its Redis services: the cost without any storage.

A read and a list copy every message that they return, as the services implement it.
"""

from benchmarks.contenders import runtime_redis  # first: it restricts which modules of the package are imported  # isort: skip

from agentscope_runtime.engine.services.agent_state.state_service import InMemoryStateService
from agentscope_runtime.engine.services.memory.memory_service import InMemoryMemoryService
from agentscope_runtime.engine.services.session_history.session_history_service import InMemorySessionHistoryService


class Contender(runtime_redis.Contender):
    """The same calls on the in-memory services."""

    name = "agentscope-runtime (in memory)"

    def __init__(self, url: str, redis_url: str | None) -> None:
        super().__init__(url, redis_url)
        self._services = InMemorySessionHistoryService(), InMemoryStateService(), InMemoryMemoryService()
