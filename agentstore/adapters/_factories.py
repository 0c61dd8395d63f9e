"""Services by the name of their backend, from the environment: AgentScope Runtime's rules."""

import os
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from agentstore.errors import NotConfigured

S = TypeVar("S")


class ServiceFactory(Generic[S]):
    """Makes the service that {PREFIX}BACKEND names, unless it is set the one that is the default.

    Its options are {PREFIX}{BACKEND}_{OPTION} in the environment, as strings, and arguments, which win.
    """

    _prefix: ClassVar[str]
    _default: ClassVar[str]
    _backends: ClassVar[dict[str, Callable[..., Any]]]

    def __init_subclass__(cls, *, prefix: str, default: str = "in_memory") -> None:
        cls._prefix = prefix
        cls._default = default
        cls._backends = {}

    @classmethod
    def register_backend(cls, backend_type: str, constructor: Callable[..., S]) -> None:
        """Make a backend known under a name, whose case means nothing."""
        cls._backends[backend_type.lower()] = constructor

    @classmethod
    async def create(cls, backend_type: str | None = None, **options: Any) -> S:
        """Make a service, without starting it.

        Raises:
            NotConfigured: no such backend is known, or it does not take an option.
        """
        name = (backend_type or os.environ.get(f"{cls._prefix}BACKEND") or cls._default).lower()
        constructor = cls._backends.get(name)
        if constructor is None:
            raise NotConfigured(f"{cls._prefix}BACKEND is one of {', '.join(cls._backends)}, not {name!r}")
        prefix = f"{cls._prefix}{name.upper()}_"
        of_environment = {
            variable.removeprefix(prefix).lower(): value
            for variable, value in os.environ.items()
            if variable.startswith(prefix)
        }
        try:
            made: S = constructor(**{**of_environment, **options})
        except TypeError as error:
            raise NotConfigured(f"the backend {name!r} cannot be made so: {error}") from error
        return made
