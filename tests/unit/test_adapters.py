"""The releases of frameworks that the adapters support are the same everywhere, and `doctor` finds others."""

import re
import tomllib
from pathlib import Path

import pytest

from agentstore.operations import adapters
from agentstore.operations.doctor import Finding, _adapters
from benchmarks import frameworks

_ROOT = Path(__file__).parents[2]


def test_each_adapter_has_an_extra_with_its_supported_releases() -> None:
    folders = {path.parent.name.replace("_", "-") for path in _ROOT.glob("agentstore/adapters/*/__init__.py")}
    assert folders == adapters.SUPPORTED.keys()
    extras = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, requirement in adapters.SUPPORTED.items():
        assert extras[extra][0] == "".join(requirement)


def test_the_adapters_are_tested_with_supported_releases() -> None:
    makefile = (_ROOT / "Makefile").read_text()
    pinned = re.findall(r"^PINNED_([\w-]+) := ([\w-]+)(?:\[\w+\])?==(\S+)", makefile, re.MULTILINE)
    names = re.search(r"^ADAPTERS := (.*)", makefile, re.MULTILINE)
    assert names is not None
    assert [extra for extra, *_ in pinned] == names[1].split()
    for extra, package, release in pinned:
        assert adapters.SUPPORTED[extra][0] == package
        assert adapters.is_supported(extra, release)
    agentscopes = re.search(r"^AGENTSCOPES := (.*)", makefile, re.MULTILINE)
    assert agentscopes is not None
    assert all(adapters.is_supported("agentscope", each) for each in agentscopes[1].split())


def test_the_benchmark_uses_environments_that_exist() -> None:
    names = re.search(r"^ADAPTERS := (.*)", (_ROOT / "Makefile").read_text(), re.MULTILINE)
    assert names is not None
    assert {environment for environment, *_ in frameworks.FRAMEWORKS} <= {f"{name}.PINNED" for name in names[1].split()}


def test_releases_are_compared_by_their_numbers() -> None:
    for release in ("1.0.9", "1.0.10", "1.0.99", "1.0.9.post1", "1.0.10rc1"):
        assert adapters.is_supported("agentscope", release)
    for release in ("1.0.8", "1.0", "0.9.10", "1.1", "1.1.0", "1.1.0rc1", "1.10", "2", "unknown"):
        assert not adapters.is_supported("agentscope", release)
    for release in ("0.24", "0.24.0", "0.100", "1"):
        assert adapters.is_supported("openai-agents", release)
    assert not adapters.is_supported("openai-agents", "0.23.9")


def test_doctor_names_the_packages_that_are_too_old_or_too_new(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, str] = {}
    monkeypatch.setattr(adapters, "installed", lambda: found)
    assert _adapters() == []
    found["openai-agents"] = "0.24.1"
    assert _adapters() == [Finding("adapters", "ok", "supported packages: openai-agents 0.24.1")]
    found.update({"agentscope": "1.2.0", "claude-agent-sdk": "0.2.1"})
    old = _adapters()
    assert [each.state for each in old] == ["warning", "warning"]
    assert old[0].found == "agentscope 1.2.0 is installed, and its adapter supports >=1.0.9,<1.1"
    assert "agentstore-postgres[claude-agent-sdk]" in old[1].advice


def test_the_releases_of_installed_packages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "SUPPORTED", {"x": ("pytest", ">=1"), "y": ("no-such-package", ">=1")})
    assert adapters.installed() == {"x": pytest.__version__}
