"""Assemble the pages of the documentation site: ``python -m tests.support.site`` writes them to .site/pages.

The pages are those of docs/, the README as the home page, and others; tests/support/reference.py writes the reference.
A link to another file of the repository leads to a page with its text, so that the site needs no other. A translation
of an older text says so. ``make docs`` builds the site from these pages; mkdocs.yml has its navigation.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

from tests.support import reference, translations

ROOT = Path(__file__).parents[2]
PAGES = ROOT / ".site" / "pages"
# Pages that are elsewhere in the repository, and their places in the site.
_MOVED = {
    "README.md": "index.md",
    "README.zh.md": "index.zh.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security-policy.md",
    "CONTRIBUTING.md": "contributing.md",
}
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
# The end of a line within a Chinese paragraph, which would be shown as a space: between Chinese characters, perhaps of
# a link, and after full-width punctuation.
_CHINESE_LINE_END = re.compile(
    r"(?<=[\u2018-\u201d\u3000-\u9fff\uff00-\uffef])\n *(?=\[?[\u2018-\u201d\u3000-\u9fff\uff00-\uffef])"
    r"|(?<=[\u3001-\u3011\uff00-\uffef])\n *(?=[A-Za-z\[]|`(?!``))"
)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) (.*)$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
# A picture for light and dark pages, as GitHub shows it.
_PICTURE = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\s*'
    r'<img alt="([^"]+)" src="([^"]+)">\s*</picture>'
)
_LANGUAGE_SWITCH = re.compile(r"^\[[^\]]+\]\(README(\.zh)?\.md\)\n\n", re.MULTILINE)
# What the search shows of files that a page links: programs below the pages, tests not at all.
_SEARCH = {"examples": "boost: 0.2", "tests": "exclude: true"}
# A page that is read in a hurry comes first.
_FIRST = {"operations.md", "operations.zh.md"}
_LANGUAGES = {".py": "python", ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".sql": "sql"}
_STALE = {
    "zh": '!!! warning "本页译文已过期"\n    英文原文在翻译之后有改动，请以<a href="{source}">英文版</a>为准。\n',
}


def place_of(path: str) -> str:
    """Return where the site has a file of the repository, both relative to their roots."""
    if path in _MOVED:
        return _MOVED[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path.replace('.', '-')}.md"


def rewrite_links(text: str, path: str, linked: set[str]) -> str:
    """Return the text of a page for the site, in which its relative links lead to pages of the site.

    `path` is that of the page in the repository; `linked` receives the other files that it links.
    """
    here = PurePosixPath(place_of(path)).parent

    def rewrite(link: re.Match[str]) -> str:
        target = os.path.normpath((PurePosixPath(path).parent / link[1]).as_posix())
        place = place_of(target)
        if place.startswith("source/"):
            linked.add(target)
        return os.path.relpath(place, here)

    parts = []
    end = 0
    for code in [*_CODE.finditer(text), None]:
        parts.append(_LINK.sub(rewrite, text[end : code.start() if code else None]))
        if code:
            parts.append(code[0])
            end = code.end()
    return "".join(parts)


def switch_pictures(text: str) -> str:
    """Return a page whose pictures follow the theme of the site, which a reader may switch."""
    return _PICTURE.sub(r"![\2](\3#only-light)\n![\2](\1#only-dark)", text)


def join_lines(text: str) -> str:
    """Return a Chinese page without the ends of lines that would be shown as spaces; blocks of code are unchanged."""
    parts = []
    end = 0
    for block in [*_FENCE.finditer(text), None]:
        parts.append(_CHINESE_LINE_END.sub("", text[end : block.start() if block else None]))
        if block:
            parts.append(block[0])
            end = block.end()
    return "".join(parts)


def source_page(path: str) -> str:
    """Return a page with the text of a file of the repository, or with those of a folder."""
    file = ROOT / path
    if file.is_dir():
        tracked = subprocess.run(["git", "ls-files", path], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        files = [ROOT / each for each in tracked.split() if not each.endswith(".jsonl")]
    else:
        files = [file]
    search = next((each for folder, each in _SEARCH.items() if path.startswith(folder)), "boost: 0.2")
    parts = [f"---\nsearch:\n  {search}\n---\n# {path}\n"]
    for each in files:
        heading = f"## {each.name}\n\n" if file.is_dir() else ""
        language = _LANGUAGES.get(each.suffix, "text")
        parts.append(f"{heading}``````{language}\n{each.read_text(encoding='utf-8').rstrip()}\n``````\n")
    return "\n".join(parts)


def anchor_of(heading: str) -> str:
    """Return the anchor that GitHub and the site give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def add_anchors(text: str, source: str) -> str:
    """Return a translation whose headings have the anchors of its source, to which pages of any language link.

    Raises:
        ValueError: the headings have other levels than those of the source.
    """
    anchors = _anchors_of_source(text, source)
    for each in reversed(_headings(text)):
        text = f"{text[: each.end()]} {{ #{anchors[anchor_of(each[2])]} }}{text[each.end() :]}"
    return re.sub(r"(?<=\]\(#)[^)]+", lambda link: anchors.get(link[0], link[0]), text)


def _anchors_of_source(text: str, source: str) -> dict[str, str]:
    """Return the anchors of the headings of a source by those of its translation."""
    originals, headings = _headings(source), _headings(text)
    if [each[1] for each in originals] != [each[1] for each in headings]:
        raise ValueError("a translation needs the headings of its source")
    return {anchor_of(each[2]): anchor_of(original[2]) for each, original in zip(headings, originals, strict=True)}


def link_anchors(text: str, folder: Path) -> str:
    """Return a page in which links to a heading of a translation have the anchor that it has on the site."""

    def rewrite(link: re.Match[str]) -> str:
        page = translations.find((folder / link[1]).resolve())
        if page is None:
            return link[0]
        try:
            anchors = _anchors_of_source(page.page.read_text("utf-8"), page.source.read_text("utf-8"))
        except ValueError:  # out of date: the site has the source in its place
            return link[1]
        return f"{link[1]}#{anchors.get(link[2], link[2])}"

    return re.sub(r"(?<=\]\()(?!\w+:)([^)#\s]+\.zh\.md)#([^)\s]+)", rewrite, text)


def _headings(text: str) -> list[re.Match[str]]:
    """Return the headings of a page; a comment in a block of code is none."""
    return list(_HEADING.finditer(_FENCE.sub(lambda code: "`" * len(code[0]), text)))


def mark_as_stale(text: str, translation: translations.Translation) -> str:
    """Return a translation with a note below its title, which links the newer source."""
    source = f"../{place_of(translation.source_name).removesuffix('.md')}.html"  # a translation is a folder deeper
    note = _STALE[translation.language].format(source=source)
    return re.sub(r"(?m)^# .*\n", lambda title: f"{title[0]}\n{note}", text, count=1)


def _pages_of_repository() -> list[str]:
    docs = [each.relative_to(ROOT).as_posix() for each in sorted(ROOT.glob("docs/**/*")) if each.is_file()]
    return [*docs, *(each for each in _MOVED if (ROOT / each).exists())]


def main() -> None:
    """Write all pages."""
    shutil.rmtree(PAGES, ignore_errors=True)
    linked: set[str] = set()
    for path in _pages_of_repository():
        page = PAGES / place_of(path)
        page.parent.mkdir(parents=True, exist_ok=True)
        if not path.endswith(".md"):
            shutil.copy(ROOT / path, page)
            continue
        text = _LANGUAGE_SWITCH.sub("", (ROOT / path).read_text(encoding="utf-8"))
        text = link_anchors(text, (ROOT / path).parent)
        text = rewrite_links(switch_pictures(text), path, linked)
        if translation := translations.find(ROOT / path):
            # Within the pages of a language, a link to a page leads to its translation if there is one.
            text = text.replace(f".{translation.language}.md", ".md")
            text = translations.without_head(text)  # or the title of the page would not be its first heading
            text = join_lines(text)
            try:
                text = add_anchors(text, translation.source.read_text(encoding="utf-8"))
            except ValueError:
                if not translation.is_stale:
                    raise
                continue  # the site has the source instead
            if translation.is_stale:
                text = mark_as_stale(text, translation)
        if page.name in _FIRST:
            text = f"---\nsearch:\n  boost: 2\n---\n{text}"
        page.write_text(text, encoding="utf-8")
    for name, text in reference.pages().items():
        page = PAGES / "reference" / name
        page.parent.mkdir(exist_ok=True)
        page.write_text(text, encoding="utf-8")
    for path in sorted(linked):
        page = PAGES / place_of(path)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(source_page(path), encoding="utf-8")


if __name__ == "__main__":
    main()
