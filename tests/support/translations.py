"""Translations of pages: ``python -m tests.support.translations`` lists those that are stale, and exits with 1.

``README.zh.md`` is the translation of README.md into Chinese. Its first line records the text that it translates by a
hash: ``<!-- translates README.md 0123456789ab -->``. A translator who has brought a page up to date runs the module
with ``--update PAGE``.
"""

import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_NAME = re.compile(r"(.+)\.(zh)\.md")
_HEAD = re.compile(r"<!-- translates (\S+) ([0-9a-f]{12}) -->\n")


@dataclass(frozen=True)
class Translation:
    """A page, and the page that it translates."""

    page: Path
    source: Path
    language: str
    is_stale: bool

    @property
    def source_name(self) -> str:
        """The path of the source in the repository."""
        return self.source.relative_to(ROOT).as_posix()


def hash_of(text: str) -> str:
    """Return the hash by which a translation records the text of its source."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def find(page: Path) -> Translation | None:
    """Return what a page translates; None unless it is a translation.

    Raises:
        ValueError: its first line does not record its source.
    """
    if (name := _NAME.fullmatch(page.name)) is None:
        return None
    source = page.with_name(f"{name[1]}.md")
    head = _HEAD.match(page.read_text(encoding="utf-8"))
    if head is None or head[1] != source.name:
        raise ValueError(f"{page.name} does not begin with <!-- translates {source.name} HASH -->")
    return Translation(page, source, name[2], head[2] != hash_of(source.read_text(encoding="utf-8")))


def without_head(text: str) -> str:
    """Return a translation without the line that records its source."""
    return _HEAD.sub("", text, count=1)


def find_all(root: Path = ROOT) -> Iterator[Translation]:
    """Yield the translations of the repository."""
    for page in sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")]):
        if translation := find(page):
            yield translation


def update(page: Path) -> None:
    """Record that a translation is that of the present text of its source."""
    name = _NAME.fullmatch(page.name)
    assert name is not None, page
    source = page.with_name(f"{name[1]}.md")
    head = f"<!-- translates {source.name} {hash_of(source.read_text(encoding='utf-8'))} -->\n"
    text = page.read_text(encoding="utf-8")
    page.write_text(head + without_head(text), encoding="utf-8")


def main(arguments: list[str]) -> int:
    """List stale translations, or update one."""
    if arguments[:1] == ["--update"]:
        for name in arguments[1:]:
            update(Path(name).resolve())
        return 0
    stale = [each for each in find_all() if each.is_stale]
    for each in stale:
        print(f"{each.page.relative_to(ROOT)}: {each.source_name} has changed since it was translated")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
