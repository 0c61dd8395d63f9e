"""The packages of the frameworks that have an adapter: which releases are supported, and which are installed."""

import re
from importlib.metadata import PackageNotFoundError, version
from itertools import dropwhile

SUPPORTED = {
    "adk": ("google-adk", ">=2.13,<3"),
    "agentscope": ("agentscope", ">=1.0.9,<1.1"),
    "agentscope-runtime": ("agentscope-runtime", ">=1.0.5,<1.1"),
    "claude-agent-sdk": ("claude-agent-sdk", ">=0.2.189"),
    "langgraph": ("langgraph-checkpoint", ">=4.3,<5"),
    "openai-agents": ("openai-agents", ">=0.24"),
    "pydantic-ai": ("pydantic-ai-slim", ">=2.66,<3"),
}
"""For each extra with an adapter the package of the framework, and its releases that pyproject.toml requires."""

_RELEASE = re.compile(r"\d+(?:\.\d+)*")


def installed() -> dict[str, str]:
    """Return the installed releases of the packages, by the names of the extras."""
    found = {}
    for extra, (package, _) in SUPPORTED.items():
        try:
            found[extra] = version(package)
        except PackageNotFoundError:
            continue
    return found


def is_supported(extra: str, release: str) -> bool:
    """Return whether an adapter supports a release of its package; a pre-release is treated as the release."""
    given = _numbers(release)
    for limit in SUPPORTED[extra][1].split(","):
        if limit.startswith(">=") and given < _numbers(limit[2:]):
            return False
        if limit.startswith("<") and given >= _numbers(limit[1:]):
            return False
    return True


def _numbers(release: str) -> tuple[int, ...]:
    """Return the numbers of a release without zeros at the end, so that 1.0 equals 1.0.0."""
    found = _RELEASE.match(release)
    numbers = [int(each) for each in found[0].split(".")] if found is not None else []
    return tuple(dropwhile(lambda number: number == 0, reversed(numbers)))[::-1]
