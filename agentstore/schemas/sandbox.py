"""Types of sandboxes, their limits, the results of their tools, and the entries of the registry."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from agentstore.errors import InvalidContent

Description = Literal["stdout", "stderr", "returncode"]


class ToolResult(dict[str, Any]):
    """The result of a tool, a dict in AgentScope Runtime's format.

    ``{"content": [{"type": "text", "text": ..., "description": "stdout"}, ...], "isError": False}``. If the code that
    runs in the sandbox fails, ``isError`` is true. An exception is raised only if the sandbox itself could not be used.
    """

    @classmethod
    def of(cls, *content: Mapping[str, Any], is_error: bool = False) -> "ToolResult":
        """Create a result from its parts; :func:`text` creates a part."""
        return cls(content=[dict(each) for each in content], isError=is_error)

    @property
    def is_error(self) -> bool:
        """Whether the tool failed, or the code that it ran."""
        return bool(self.get("isError"))

    @property
    def text(self) -> str:
        """All text parts except the return code, concatenated in order."""
        return "".join(
            each["text"]
            for each in self.get("content", ())
            if each.get("type") == "text" and each.get("description") != "returncode"
        )

    def part(self, description: str) -> str | None:
        """Return the text of the parts with a description, such as "stderr"; None if there are none."""
        found = [each["text"] for each in self.get("content", ()) if each.get("description") == description]
        return "".join(found) if found else None


def text(value: str, description: str) -> dict[str, str]:
    """Return a text part of a result."""
    return {"type": "text", "text": value, "description": description}


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """The limits of one sandbox. Sizes are in bytes, times in seconds.

    Args:
        memory: the memory of all its processes together, and of each one.
        processes: the number of processes and threads.
        disk: the size of its workspace.
        files: the number of files in its workspace.
        file_size: the size of one file.
        open_files: the open files of each process.
        cpu: the processor time of each process.
        output: the output of one call.
    """

    memory: int = 1_000_000_000
    processes: int = 64
    disk: int = 256_000_000
    files: int = 50_000
    file_size: int = 128_000_000
    open_files: int = 256
    cpu: int = 3_600
    output: int = 1_000_000


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """A type of sandbox.

    Args:
        type: the name of the type, which `connect` accepts once it is registered.
        tools: the names of the tools that it offers; None for all tools of its provider.
        limits: its limits; some providers take them from their container images instead.
        environment: environment variables of its processes, in addition to those that the provider sets.
    """

    type: str
    tools: frozenset[str] | None = None
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SandboxInfo:
    """The registry's entry for a sandbox. Times are UTC.

    ``generation`` increases with each new sandbox of the same user, session and type. ``state`` is "starting", "ready"
    or "ending". After ``lease_until`` any process may reap it. ``owner`` identifies the service that created it,
    ``host`` is the name of that service's host.
    """

    user_id: str
    session_id: str
    type: str
    generation: int
    provider: str
    state: str
    owner: str
    host: str
    created_at: datetime
    lease_until: datetime


_TYPES: dict[str, SandboxSpec] = {}


def register_sandbox_type(spec: SandboxSpec) -> None:
    """Register a type of sandbox, or replace the type of the same name, so that `connect` accepts its name."""
    _TYPES[spec.type] = spec


def sandbox_type(name: object) -> SandboxSpec:
    """Return the registered type of a name. The name may also be an enum member that has it as its value.

    Raises:
        InvalidContent: there is no such type.
    """
    name = getattr(name, "value", name)
    found = _TYPES.get(name) if isinstance(name, str) else None
    if found is None:
        raise InvalidContent(
            f"there is no sandbox type {repr(name)[:80]}: expected one of {', '.join(sorted(_TYPES))}, or register it "
            "with register_sandbox_type"
        )
    return found


def specs_of(names: object) -> list[SandboxSpec]:
    """Return the registered types of a list of names; ["base"] for None. None in the list is skipped.

    Raises:
        InvalidContent: there is no such type.
    """
    if names is None:
        return [sandbox_type("base")]
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise InvalidContent(f"sandbox_types must be a list of names, got {repr(names)[:80]}")
    return [sandbox_type(each) for each in names if each is not None]


register_sandbox_type(SandboxSpec("base"))
register_sandbox_type(SandboxSpec("filesystem"))
