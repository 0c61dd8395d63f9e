"""Where a session of ADK is stored: the ids of agentstore for an application and a session.

A session is the session ``session/application`` of its user, so that those of two applications never have the same id.
Slashes and white space in both parts are escaped as in a URL. The application of agentstore is that of ADK.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote

from agentstore.errors import InvalidContent
from agentstore.schemas import Session
from agentstore.schemas.payload import shortened

# White space is escaped too, since agentstore removes it from the ends of an id.
_ESCAPED = re.compile(r"[%/\s]")


def escaped(text: str, name: str) -> str:
    """Return a text without slashes and white space; `name` is for the error message.

    Raises:
        InvalidContent: it is not a string.
    """
    if not isinstance(text, str):
        raise InvalidContent(f"{name} must be a string, got {shortened(text)}")
    return _ESCAPED.sub(lambda found: quote(found[0], safe=""), text)


def stored_id(app_name: str, session_id: str) -> str:
    """Return the id in agentstore of a session of ADK.

    Raises:
        InvalidContent: a part is not a string.
    """
    return f"{escaped(session_id, 'session_id')}/{escaped(app_name, 'app_name')}"


def session_ids_in(sessions: Iterable[Session], app_name: str) -> list[str | None]:
    """Return ADK's id of each session of an application; None if another program created the session."""
    of_app = escaped(app_name, "app_name")
    return [_session_id(each.id, of_app) for each in sessions]


def _session_id(stored: str, of_app: str) -> str | None:
    part, _, rest = stored.partition("/")
    id = unquote(part)
    return id if rest == of_app and part == escaped(id, "session_id") else None
