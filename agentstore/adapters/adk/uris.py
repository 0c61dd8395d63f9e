"""The services for URIs such as ``agentstore://user@host/database``, which ADK's command line accepts.

The functions are what a ``services.yaml`` in the folder of the agents names as classes; :func:`register` does the same
in a program or in a ``services.py``.
"""

# pyright: reportMissingImports=false
from typing import Any

from agentstore.adapters.adk.artifacts import AgentStoreArtifactService
from agentstore.adapters.adk.memory import AgentStoreMemoryService
from agentstore.adapters.adk.sessions import AgentStoreSessionService
from agentstore.errors import NotConfigured
from agentstore.settings import settings_from_environment

_SCHEME = "agentstore"


def register() -> None:
    """Register the services for the scheme ``agentstore`` in ADK's registry. Idempotent."""
    from google.adk.cli.service_registry import get_service_registry

    registry = get_service_registry()
    registry.register_session_service(_SCHEME, session_service)
    registry.register_memory_service(_SCHEME, memory_service)
    registry.register_artifact_service(_SCHEME, artifact_service)


def session_service(uri: str, **_: Any) -> AgentStoreSessionService:
    """Return the session service for a URI. Other arguments of ADK, such as ``agents_dir``, are ignored.

    Args:
        uri: the URL of a database, with the scheme ``agentstore`` instead of ``postgresql``; or ``agentstore://`` for
            the database that AGENTSTORE_DATABASE_URL names.

    Raises:
        NotConfigured: the URI is invalid, or names no database.
    """
    return AgentStoreSessionService(url=_url_of(uri))


def memory_service(uri: str, **_: Any) -> AgentStoreMemoryService:
    """Return the memory service for a URI. The arguments and errors are those of :func:`session_service`."""
    return AgentStoreMemoryService(url=_url_of(uri))


def artifact_service(uri: str, **_: Any) -> AgentStoreArtifactService:
    """Return the artifact service for a URI. The arguments and errors are those of :func:`session_service`."""
    return AgentStoreArtifactService(url=_url_of(uri))


def _url_of(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    if scheme != _SCHEME:
        raise NotConfigured(f"expected a URI that begins with {_SCHEME}://, got the scheme {scheme[:80]!r}")
    if rest:
        return f"postgresql://{rest}"
    url = settings_from_environment().database_url
    if url is None:
        raise NotConfigured(f"{_SCHEME}:// names no database: set AGENTSTORE_DATABASE_URL, or add host and database")
    return url.get_secret_value()
