"""Where a transcript is stored: the user, the session and the application of agentstore for a key of the SDK.

A main transcript is the session ``project/session``, the transcript of a subagent ``project/session/subpath``. In the
first two parts, slashes are escaped as in a URL, so that different keys never have the same id. The application is the
project, by which main transcripts are listed; for a subagent it is the id of the main transcript.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

from agentstore.errors import InvalidContent
from agentstore.schemas import Session
from agentstore.schemas.payload import shortened

UserOf: TypeAlias = str | Callable[[Any], str] | None
"""The owner of a transcript: an id, a function of the SDK's SessionKey, or None."""

# White space is escaped too, since `create_session` removes it from the ends of an id.
_ESCAPED = re.compile(r"[%/\s]")
_ESCAPED_IN_SUBPATH = re.compile(r"[%\s]")


@dataclass(frozen=True)
class Place:
    """The place of a transcript."""

    user_id: str
    session_id: str
    app: str
    is_main: bool


def place_of(key: Mapping[str, Any], user_of: UserOf) -> Place:
    """Return the place of a key.

    Raises:
        InvalidContent: a part of the key is missing or not a string, or the subpath is empty.
    """
    if not isinstance(key, Mapping):
        raise InvalidContent(f"key must be a dict, got {type(key).__name__}")
    for name in ("project_key", "session_id"):
        if not isinstance(value := key.get(name), str):
            raise InvalidContent(f"{name} of the key must be a string, got {shortened(value)}")
    subpath = key.get("subpath")
    if subpath is not None and (not isinstance(subpath, str) or not subpath):
        raise InvalidContent(f"subpath of the key must be a string that is not empty, got {shortened(subpath)}")
    project = app_of(key["project_key"])
    main = f"{project}/{_escape(_ESCAPED, key['session_id'])}"
    user_id = user_of(key) if callable(user_of) else main if user_of is None else user_of
    if subpath is None:
        return Place(user_id, main, project, is_main=True)
    return Place(user_id, f"{main}/{_escape(_ESCAPED_IN_SUBPATH, subpath)}", main, is_main=False)


def app_of(project_key: str) -> str:
    """Return the application of the main transcripts of a project.

    Raises:
        InvalidContent: it is not a string.
    """
    if not isinstance(project_key, str):
        raise InvalidContent(f"project_key must be a string, got {shortened(project_key)}")
    return _escape(_ESCAPED, project_key)


def last_part(session: Session, app: str) -> str | None:
    """Return what follows the application in the id of a session; None if another program created the session."""
    if not session.id.startswith(f"{app}/"):
        return None
    return unquote(session.id[len(app) + 1 :])


def _escape(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda found: quote(found[0], safe=""), text)
