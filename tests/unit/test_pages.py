"""What the README and docs name exists: tests, settings, commands, calls, and the targets of links."""

import re
from pathlib import Path

import pytest

from agentstore import AgentStore, Settings
from tests.support.cli import run

_ROOT = Path(__file__).parents[2]


def _text(page: str) -> str:
    return (_ROOT / page).read_text(encoding="utf-8")


def _table(page: str) -> list[list[str]]:
    """Return the rows of the first table of a page, without its header."""
    lines = _text(page).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_each_promise_names_a_test_that_exists() -> None:
    rows = _table("docs/promises.md")
    assert len(rows) >= 12
    for promise, tests in rows:
        names = re.findall("`([^`]+)`", tests)
        assert names, promise
        file = None
        for name in names:
            named, _, test = name.rpartition("::") if "::" in name else (name, "", "")
            if named.endswith(".py"):
                files = [path for folder in ("agentstore", "tests") for path in (_ROOT / folder).rglob("*.py")]
                (file,) = [path for path in files if path.as_posix().endswith(f"/{named}")]
            else:
                test = name
            assert file is not None
            if test:
                assert f"def {test.removesuffix('...')}" in file.read_text(encoding="utf-8"), name


def test_every_setting_is_in_the_table() -> None:
    named = {name.lower() for row in _table("docs/configuration.md") for name in re.findall("`([A-Z_]+)`", row[0])}
    assert named == set(Settings.model_fields)


def test_every_command_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    commands = set(
        re.findall(r"^agentstore ([a-z]+(?: (?:list|show|export|delete)\b)?)", _text("docs/cli.md"), re.MULTILINE)
    )
    assert {"import", "sessions list", "doctor"} <= commands
    for command in commands:
        assert run(*command.split(), "--help").code == 0, command
    for call in re.findall(r"`store\.(sessions|memory|states|sandboxes|users)\.(\w+)", _text("docs/api.md")):
        assert hasattr(getattr(AgentStore("postgresql://h/db"), call[0]), call[1])


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*_ROOT.glob("*.md"), *_ROOT.glob("docs/**/*.md")], ids=lambda page: page.name)
def test_every_link_target_exists(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("page", [*_ROOT.glob("*.zh.md"), *_ROOT.glob("docs/**/*.zh.md")], ids=lambda page: page.name)
def test_a_translation_links_to_translations(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+\.md)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        target = page.parent / link
        if not link.endswith(".zh.md") and target != page.with_name(f"{page.name.removesuffix('.zh.md')}.md"):
            assert not target.with_suffix(".zh.md").exists(), link
