"""What an import of the databases of ADK's own session services stores: the same as the service of this package."""

# pyright: reportMissingImports=false
from collections.abc import Mapping
from typing import Any

from agentstore.adapters.adk.keys import stored_id
from agentstore.adapters.adk.sessions import dump_changes, metadata_of
from agentstore.adapters.adk.state import wrap
from agentstore.schemas.payload import strip_id


def session_of(app_name: str, session_id: str) -> tuple[str, dict[str, Any]]:
    """Return the id and the metadata of the session for one of ADK.

    Raises:
        InvalidContent: an id is not a string.
    """
    session_id = strip_id(session_id)
    return stored_id(app_name, session_id), metadata_of(session_id)


def values_of_scope(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scoped values for the state of a session, a user or an application, by keys without prefix."""
    return wrap(dump_changes(state))
