"""The documentation site: its navigation, links, diagram and translations."""

import ast
import re
from pathlib import Path

import pytest

import agentstore
from tests.support import diagram, reference, site_search, translations
from tests.support.documents import PAGES, ROOT, blocks
from tests.support.site import add_anchors, join_lines, link_anchors, mark_as_stale, rewrite_links, switch_pictures
from tests.support.translations import Translation, find, find_all, update


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {each.relative_to(ROOT / "docs").as_posix() for each in PAGES if ROOT / "docs" in each.parents}
    assert {
        each for each in pages if not re.search(rf"(- |: |  ){re.escape(each)}$", navigation, re.MULTILINE)
    } == set()


def test_links_lead_to_pages_of_the_site() -> None:
    linked: set[str] = set()
    text = "[a](docs/memory.md#ranking) [b](tests/x.py) `[c](docs/d.md)` [e](https://x.org/docs/f.md) [g](#h)"
    expected = "[a](memory.md#ranking) [b](source/tests/x-py.md) `[c](docs/d.md)` [e](https://x.org/docs/f.md) [g](#h)"
    assert rewrite_links(text, "README.md", linked) == expected
    assert rewrite_links("[a](../README.md) [b](performance/results.md)", "docs/faq.md", linked) == (
        "[a](index.md) [b](performance/results.md)"
    )
    assert rewrite_links("[a](../performance.md)", "docs/performance/results.md", linked) == "[a](../performance.md)"
    assert linked == {"tests/x.py"}


def test_pictures_follow_the_theme_of_the_site() -> None:
    picture = """<picture>
  <source media="(prefers-color-scheme: dark)" srcset="docs/a-dark.svg">
  <img alt="What it shows" src="docs/a-light.svg">
</picture>"""
    shown = rewrite_links(switch_pictures(f"A\n\n{picture}\n\nB\n"), "README.md", set())
    assert shown == "A\n\n![What it shows](a-light.svg#only-light)\n![What it shows](a-dark.svg#only-dark)\n\nB\n"


def test_every_picture_of_a_page_is_converted() -> None:
    for page in ROOT.glob("docs/**/*.md"):
        assert "<picture" not in switch_pictures(page.read_text(encoding="utf-8")), page


def test_a_translation_is_stale_once_its_source_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translations, "ROOT", tmp_path)
    source, page = tmp_path / "page.md", tmp_path / "page.zh.md"
    source.write_text("# Title\n", encoding="utf-8")
    page.write_text("# 标题\n\n正文\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"page\.zh\.md does not begin with"):
        find(page)
    update(page)
    assert find(page) == Translation(page, source, "zh", is_stale=False)
    source.write_text("# Another title\n", encoding="utf-8")
    assert find(page) == Translation(page, source, "zh", is_stale=True)
    assert [each.is_stale for each in find_all(tmp_path)] == [True]
    assert find(source) is None


def test_a_stale_translation_says_so_below_its_title() -> None:
    stale = Translation(ROOT / "docs" / "faq.zh.md", ROOT / "docs" / "faq.md", "zh", is_stale=True)
    marked = mark_as_stale("<!-- head -->\n# 标题\n\n正文\n", stale)
    assert re.fullmatch(r'<!-- head -->\n# 标题\n\n!!! warning .*href="\.\./faq\.html".*\n\n正文\n', marked, re.DOTALL)


def test_the_end_of_a_chinese_line_is_no_space() -> None:
    code = "\n\n```python\n# 完成：\nawait x\n```\n\n列表：\n- 一\n- 二\n"
    assert join_lines(f"见\n[导入](a.md)，\n`append` 与\nAPI；\n  调用：{code}") == (
        f"见[导入](a.md)，`append` 与\nAPI；调用：{code}"
    )


def test_headings_of_a_translation_have_the_anchors_of_its_source() -> None:
    source = "# Title\n\n## The `first` part\n\n```bash\n# no heading\n```\n\n## What it costs\n"
    text = "# 标题\n\n## 第一部分\n\n```bash\n# 注释\n```\n\n[见下](#代价) [b](b.md#c)\n\n## 代价\n"
    assert add_anchors(text, source) == (
        "# 标题 { #title }\n\n## 第一部分 { #the-first-part }\n\n```bash\n# 注释\n```\n\n"
        "[见下](#what-it-costs) [b](b.md#c)\n\n## 代价 { #what-it-costs }\n"
    )
    with pytest.raises(ValueError, match="the headings of its source"):
        add_anchors("# 标题\n", source)


def test_the_reference_is_that_of_the_code() -> None:
    docstring = "Do it.\n\n    See :meth:`create`, with ``None``.\n\n"
    docstring += "    Raises:\n        NotFound: there is none,\n            at all."
    assert reference.markdown(docstring) == (
        "Do it.\n\nSee `create`, with `None`.\n\n**Raises**\n\n- `NotFound`: there is none,\n    at all."
    )
    settings = reference.settings()
    assert all(f"`AGENTSTORE_{name.upper()}`" in settings for name in agentstore.Settings.model_fields)
    assert "| `AGENTSTORE_SESSION_TTL` | `int | None` |  |" in settings
    assert "| `code` | `str | None` | The code of an error message. |" in reference.values()
    services = reference.services()
    assert "### store.sessions.window\n" in services
    assert "async create_session(\n    user_id: str,\n" in services


def test_the_search_of_a_language_has_its_pages() -> None:
    places = ["faq.html", "faq.html#why", "adk.html", "zh/faq.html", "zh/faq.html#why"]
    index = {"config": {"lang": ["en", "zh"]}, "docs": [{"location": each, "text": each} for each in places]}
    english, chinese = site_search.split(index)
    assert english["config"] == {"lang": ["en"]}
    assert [each["location"] for each in english["docs"]] == ["faq.html", "faq.html#why", "adk.html"]
    assert chinese["config"] == {"lang": ["en", "zh"]}
    assert [each["location"] for each in chinese["docs"]] == ["zh/faq.html", "zh/faq.html#why", "zh/adk.html"]


def test_links_lead_to_headings_of_translations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translations, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    source, page = tmp_path / "docs/page.md", tmp_path / "docs/page.zh.md"
    source.write_text("# Title\n\n## First\n", encoding="utf-8")
    page.write_text("# 标题\n\n## 第一\n", encoding="utf-8")
    update(page)
    text = "[a](docs/page.zh.md#第一) [b](docs/page.zh.md) [c](docs/page.md#first) [d](https://x.org/page.zh.md#x)"
    assert link_anchors(text, tmp_path) == text.replace("#第一", "#first")


def _code(page: Path) -> list[str]:
    """Return the blocks of a page without their comments, which are translated."""
    return [re.sub(r"\s*#.*", "", each.code) for each in blocks(page)]


@pytest.mark.parametrize("page", list(find_all()), ids=lambda each: each.page.name)
def test_the_code_of_a_translation_is_that_of_its_source(page: Translation) -> None:
    if not page.is_stale:
        assert _code(page.page) == _code(page.source)


def test_every_public_name_has_an_example() -> None:
    examples = [each.code for page in PAGES for each in blocks(page) if each.language == "python"]
    examples += [each.read_text(encoding="utf-8") for each in (ROOT / "examples").glob("*.py")]
    used: set[str] = set()  # a name that is only imported, or is a word of a comment, has no example
    for example in examples:
        for node in ast.walk(ast.parse(example)):
            if isinstance(node, ast.Name | ast.Attribute):
                used.add(node.id if isinstance(node, ast.Name) else node.attr)
    assert [name for name in agentstore.__all__ if name not in used] == []


def test_every_call_has_an_example() -> None:
    found = list(reference.examples())
    assert [f"{title}.{name}" for title, name, example in found if not example] == []
    assert ("store.sessions", "pop_messages") in {(title, name) for title, name, _ in found}
    assert len(found) > 90


def test_an_example_is_the_statement_that_makes_the_call() -> None:
    found = {f"{title}.{name}": example for title, name, example in reference.examples()}
    assert found["store.sessions.pop_messages"] == (
        "From [messages.md](../messages.md):\n\n```python\n"
        'undone = await store.sessions.pop_messages("alice", "edits", 1)  # the last one, removed\n```'
    )
    services = reference.services()
    for example in found.values():
        assert example in services


def test_every_service_is_in_the_reference() -> None:
    listed = {
        each.removeprefix("### store.").split(".")[0] for each in re.findall(r"### store\.\w+\.", reference.services())
    }
    assert listed == set(diagram.services())
