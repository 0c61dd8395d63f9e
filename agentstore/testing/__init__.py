"""Contract suites: pytest classes with the tests that every implementation of a service must pass.

Subclass one in your tests and give it a fixture ``service`` that yields a new, empty service. Needs pytest and
pytest-asyncio, with ``asyncio_mode = "auto"`` or with ``@pytest_asyncio.fixture`` instead of ``@pytest.fixture``::

    class TestMyHistory(SessionHistoryContract):
        @pytest.fixture
        async def service(self):
            async with MySessionHistoryService() as service:
                yield service
"""

from agentstore.testing.memory import MemoryContract
from agentstore.testing.sandboxes import SandboxContract
from agentstore.testing.sessions import SessionHistoryContract
from agentstore.testing.states import StateContract
from agentstore.testing.stores import StoreContract
from agentstore.testing.values import EXACT_VALUES, HOSTILE_IDS, text

__all__ = [
    "EXACT_VALUES",
    "HOSTILE_IDS",
    "MemoryContract",
    "SandboxContract",
    "SessionHistoryContract",
    "StateContract",
    "StoreContract",
    "text",
]
