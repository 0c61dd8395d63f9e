"""Sandboxes: what they are asked for, what they answer, and what the registry says of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from agentstore.errors import InvalidContent

Description = Literal["stdout", "stderr", "returncode"]


class ToolResult(dict[str, Any]):
    """What a tool answered, in the runtime's form.

    ``{"content": [{"type": "text", "text": ..., "description": "stdout"}, ...], "isError": False}``. What goes wrong
    inside a sandbox, in the code that it was given to run, is an answer with ``isError``; an exception says that the
    sandbox itself could not be asked.
    """

    @classmethod
    def of(cls, *content: Mapping[str, Any], is_error: bool = False) -> "ToolResult":
        """Make one of its parts; :func:`text` makes those."""
        return cls(content=[dict(each) for each in content], isError=is_error)

    @property
    def is_error(self) -> bool:
        """Whether the tool failed."""
        return bool(self.get("isError"))

    @property
    def text(self) -> str:
        """All text of it but the return code, in order."""
        return "".join(
            each["text"]
            for each in self.get("content", ())
            if each.get("type") == "text" and each.get("description") != "returncode"
        )

    def part(self, description: str) -> str | None:
        """Return the text that has a description, such as "stderr"; None if it has none."""
        found = [each["text"] for each in self.get("content", ()) if each.get("description") == description]
        return "".join(found) if found else None


def text(value: str, description: str) -> dict[str, str]:
    """Return a part of a result."""
    return {"type": "text", "text": value, "description": description}


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one sandbox may use. Sizes in bytes, times in seconds.

    ``memory`` is of all its processes together, and of each; ``disk`` and ``files`` are the quota of its workspace;
    ``file_size`` the largest file; ``output`` what one call may print; ``cpu`` the processor time of each process.
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
    """A type of sandbox, as a provider is asked to make one.

    ``tools`` are the names of the tools that it offers, or None for all that its provider has. ``environment`` is what
    processes in it see, beside what the provider sets.
    """

    type: str
    tools: frozenset[str] | None = None
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SandboxInfo:
    """What the registry says of a sandbox. Times are UTC.

    ``generation`` grows with each that is made for the same user, session and type. ``state`` is "starting", "ready"
    or "ending"; after ``lease_until`` it is anybody's to reap. ``owner`` is the service that made it, ``host`` where.
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
    """Make a type of sandbox known, or replace one; `connect` takes its name from then on."""
    _TYPES[spec.type] = spec


def sandbox_type(name: object) -> SandboxSpec:
    """Return the type of that name, which may be a member of an enumeration whose value it is.

    Raises:
        InvalidContent: there is no such type.
    """
    name = getattr(name, "value", name)
    found = _TYPES.get(name) if isinstance(name, str) else None
    if found is None:
        raise InvalidContent(f"there is no sandbox type {name!r}, of {', '.join(sorted(_TYPES))}")
    return found


def specs_of(names: object) -> list[SandboxSpec]:
    """Return the types of these names, "base" if there are none; None among them is passed over.

    Raises:
        InvalidContent: there is no such type.
    """
    if names is None:
        return [sandbox_type("base")]
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise InvalidContent(f"sandbox_types must be a list of names, not {names!r}")
    return [sandbox_type(each) for each in names if each is not None]


register_sandbox_type(SandboxSpec("base"))
register_sandbox_type(SandboxSpec("filesystem"))
