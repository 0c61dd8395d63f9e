"""Lazy imports from AgentScope Runtime, if it is installed, without its deprecation warnings.

Some of the runtime's modules import optional packages. A module that fails to import is treated as not installed.
"""

import logging
import warnings
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from agentstore.adapters.agentscope_runtime.message_classes import MessageClasses
from agentstore.schemas import message, session

_log = logging.getLogger(__name__)

_PACKAGE = "agentscope_runtime"


@cache
def message_classes() -> MessageClasses:
    """Return the runtime's Session and Message classes if it is installed, else agentstore's."""
    sessions = _import("engine.schemas.session")
    messages = _import("engine.schemas.agent_schemas")
    if sessions is None or messages is None:
        return MessageClasses(session.Session, message)
    return MessageClasses(sessions.Session, messages)


def register_subclass(service: type, name: str) -> None:
    """Register a class as a virtual subclass of the runtime's service class `name`, if the runtime has it."""
    base = service_class(name)
    if base is not None:
        base.register(service)


def service_class(name: str) -> Any:
    """Return a class of the runtime's ``engine.services`` by its dotted name, or None if it cannot be imported."""
    module, _, attribute = name.rpartition(".")
    return getattr(_import(f"engine.services.{module}"), attribute, None)


def _import(name: str) -> ModuleType | None:
    if find_spec(_PACKAGE) is None:
        return None
    # The runtime warns at each import that its services are deprecated.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return import_module(f"{_PACKAGE}.{name}")
        except Exception as error:  # noqa: BLE001 - a module may raise anything while it is imported
            _log.info("%s.%s cannot be imported: %r", _PACKAGE, name, error)
            return None
