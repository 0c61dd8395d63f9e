"""What of AgentScope Runtime is installed, imported when it is needed and without its notices.

Its parts import much else, and some of them packages that not everybody has: what cannot be imported is not there.
"""

import logging
import warnings
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from agentstore.adapters._classes import Classes
from agentstore.schemas import message, session

_log = logging.getLogger(__name__)

_PACKAGE = "agentscope_runtime"


@cache
def classes() -> Classes:
    """Return the runtime's sessions and messages where it is installed, else ours."""
    sessions = _module("engine.schemas.session")
    messages = _module("engine.schemas.agent_schemas")
    if sessions is None or messages is None:
        return Classes(session.Session, message)
    return Classes(sessions.Session, messages)


def be_one(service: type, kind: str) -> None:
    """Let isinstance say that a class of ours is a service of the runtime's, where it has them."""
    base = service_class(kind)
    if base is not None:
        base.register(service)


def service_class(name: str) -> Any:
    """Return what the runtime has under a name among its services; None: this release has it not, or lacks a part."""
    module, _, attribute = name.rpartition(".")
    return getattr(_module(f"engine.services.{module}"), attribute, None)


def _module(name: str) -> ModuleType | None:
    if find_spec(_PACKAGE) is None:
        return None
    # It says of its services that they are to go, at each import.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return import_module(f"{_PACKAGE}.{name}")
        except Exception as error:  # noqa: BLE001 - a part that breaks at its import is not there for anybody
            _log.info("%s.%s cannot be imported: %r", _PACKAGE, name, error)
            return None
