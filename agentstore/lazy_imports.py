"""Lazy packages: each name is imported from its module when it is first used (PEP 562)."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def defined_in(names: Mapping[str, str]) -> dict[str, str]:
    """Return the module of each name; `names` has a module's names in one string, separated by spaces."""
    return {name: module for module, listed in names.items() for name in listed.split()}


def lazy_attributes(
    package: str, modules: Mapping[str, str], *, submodules: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package.

    `modules` has the module of each name, as :func:`defined_in` returns them; `submodules` has names that are modules
    themselves. Assign the result under ``if not TYPE_CHECKING``, so that type checkers report names that do not exist,
    and import the names under ``if TYPE_CHECKING``, so that they and editors know their types.
    """
    aliases = submodules or {}

    def get_attribute(name: str) -> Any:
        if name in aliases:
            value: Any = import_module(aliases[name])
        elif name in modules:
            value = getattr(import_module(modules[name]), name)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    def list_attributes() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules, *aliases})

    return get_attribute, list_attributes
