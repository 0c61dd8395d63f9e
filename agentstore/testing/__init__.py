"""Contract suites: pytest classes with the tests that every implementation of a service must pass.

Subclass one in your tests and give it a fixture ``service`` that yields a new, empty service. Needs pytest and
pytest-asyncio, with ``asyncio_mode = "auto"`` or with ``@pytest_asyncio.fixture`` instead of ``@pytest.fixture``::

    class TestMyHistory(SessionHistoryContract):
        @pytest.fixture
        async def service(self):
            async with MySessionHistoryService() as service:
                yield service

:mod:`agentstore.testing.plugin` is the pytest plugin, with fixtures for the tests of applications.
"""

from typing import TYPE_CHECKING

from agentstore.lazy_imports import defined_in, lazy_attributes

if TYPE_CHECKING:
    from agentstore.testing.blobs import BlobContract
    from agentstore.testing.documents import DocumentContract
    from agentstore.testing.memory import MemoryContract
    from agentstore.testing.sandboxes import SandboxContract
    from agentstore.testing.scoped_values import ScopedValuesContract
    from agentstore.testing.sessions import SessionHistoryContract
    from agentstore.testing.states import StateContract
    from agentstore.testing.stores import StoreContract
    from agentstore.testing.values import EXACT_VALUES, HOSTILE_IDS, text

__all__ = [
    "EXACT_VALUES",
    "HOSTILE_IDS",
    "BlobContract",
    "DocumentContract",
    "MemoryContract",
    "SandboxContract",
    "ScopedValuesContract",
    "SessionHistoryContract",
    "StateContract",
    "StoreContract",
    "text",
]

# Where each name of __all__ is defined. Imported when used, since pytest loads the plugin in this package in every run.
_NAMES = {
    "agentstore.testing.blobs": "BlobContract",
    "agentstore.testing.documents": "DocumentContract",
    "agentstore.testing.memory": "MemoryContract",
    "agentstore.testing.sandboxes": "SandboxContract",
    "agentstore.testing.scoped_values": "ScopedValuesContract",
    "agentstore.testing.sessions": "SessionHistoryContract",
    "agentstore.testing.states": "StateContract",
    "agentstore.testing.stores": "StoreContract",
    "agentstore.testing.values": "EXACT_VALUES HOSTILE_IDS text",
}
_DEFINED_IN = defined_in(_NAMES)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_attributes(__name__, _DEFINED_IN)
