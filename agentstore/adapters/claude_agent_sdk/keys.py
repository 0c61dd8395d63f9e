"""Where a transcript is stored: the user, the session and the application of agentstore for a key of the SDK.

A main transcript is the session ``session/project``, the transcript of a subagent ``session/project/subpath``. In the
first two parts, slashes are escaped as in a URL, so that different keys never have the same id. The application is the
project, by which main transcripts are listed; for a subagent it is the id of the main transcript. The id does not begin
with the project, since that of a folder begins with a hyphen, which a command line takes for an option.
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
    main = f"{_escape(_ESCAPED, key['session_id'])}/{project}"
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


def session_id_in(session: Session, app: str) -> str | None:
    """Return the SDK's id of a main transcript in a project; None if another program created the session."""
    id, slash, project = session.id.partition("/")
    return unquote(id) if slash and project == app else None


def subpath_in(session: Session, main_id: str) -> str | None:
    """Return the subpath of a subagent's transcript; None if another program created the session."""
    return unquote(session.id[len(main_id) + 1 :]) if session.id.startswith(f"{main_id}/") else None


def _escape(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda found: quote(found[0], safe=""), text)
