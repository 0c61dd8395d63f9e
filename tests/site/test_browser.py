"""The built site in a browser: two versions, both languages, phone and desktop, light and dark.

Playwright is imported where it is used: where these tests are not selected, it need not be installed.
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.support.site import PAGES, ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request, Response

pytestmark = pytest.mark.site

CHROMIUM = "/usr/bin/chromium"
PHONE, DESKTOP = {"width": 360, "height": 760}, {"width": 1280, "height": 900}
_ONLY_NEW = "This sentence is in the newer version only."


def expect(target: Any) -> Any:
    """Return Playwright's assertions about a page or a locator."""
    from playwright.sync_api import expect

    return expect(target)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Publish two versions in a repository of their own, as releases do, and return the URL of a server of both."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PAGES, folder / ".site" / "pages")
    for each in ("mkdocs.yml", "tests/support/site_search.py"):
        (folder / each).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / each, folder / each)
    mike = Path(os.environ["DOCS_BIN"], "mike").absolute()
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PATH": f"{mike.parent}{os.pathsep}{os.environ['PATH']}"}
    for name in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{name}_NAME": "test", f"GIT_{name}_EMAIL": "test@example.com"}

    def run(*command: str | Path) -> None:
        found = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr

    run("git", "init", "--quiet", "--initial-branch=main")
    run("git", "commit", "--quiet", "--allow-empty", "--message=a release")
    run(mike, "deploy", "--branch=pages", "--update-aliases", "0.1", "latest")
    with (folder / ".site/pages/faq.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{_ONLY_NEW}\n")
    run(mike, "deploy", "--branch=pages", "--update-aliases", "0.2", "latest")
    run(mike, "set-default", "--branch=pages", "latest")
    run("git", "worktree", "add", "--quiet", "served", "pages")
    handler = functools.partial(_Quiet, directory=str(folder / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    """A page that loads nothing from elsewhere, and reports no error."""
    opened = browser.new_page(viewport=DESKTOP, locale="en")
    wrong: list[str] = []

    def check_request(request: Request) -> None:
        if not request.url.startswith((site, "data:", "blob:")):
            wrong.append(request.url)

    def check_response(response: Response) -> None:
        # The theme looks for a sitemap beside each page and its translation, and does without one.
        if response.status >= 400 and not response.url.endswith("/sitemap.xml"):
            wrong.append(response.url)

    opened.on("request", check_request)
    opened.on("response", check_response)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    yield opened
    assert wrong == []
    opened.close()


def test_the_switch_leads_to_the_older_version_which_stays(page: Page, site: str) -> None:
    page.goto(f"{site}/")
    page.wait_for_url(f"{site}/0.2/index.html")
    page.goto(f"{site}/latest/faq.html")
    page.wait_for_url(f"{site}/0.2/faq.html")
    expect(page.get_by_text(_ONLY_NEW)).to_have_count(1)
    versions = page.locator(".md-version__link")
    expect(versions).to_have_count(2)
    assert versions.all_text_contents() == ["0.2latest", "0.1"]
    page.locator(".md-version").hover()
    versions.nth(1).click()
    page.wait_for_url(f"{site}/0.1/**")  # the same page, once the site knows its URL
    page.goto(f"{site}/0.1/faq.html")
    expect(page.locator("h1")).to_be_visible()
    expect(page.get_by_text(_ONLY_NEW)).to_have_count(0)


@pytest.mark.parametrize(
    ("language", "query", "first"),
    [
        ("", "Unavailable", "operations.html"),
        ("", "writes fail with Unavailable", "operations.html"),
        ("", "SQLAlchemySession", "openai-agents.html"),
        ("", "PgBouncer", "operations.html"),
        ("", "streaming", "turns.html"),
        ("", "erase", "retention.html"),
        ("zh/", "Unavailable", "operations.html"),
        ("zh/", "SQLAlchemySession", "openai-agents.html"),
        ("zh/", "记忆", "memory.html"),
        ("zh/", "重试", ""),
    ],
)
def test_search_finds_the_page_in_the_language(page: Page, site: str, language: str, query: str, first: str) -> None:
    page.goto(f"{site}/0.2/{language}index.html")
    page.locator(".md-search__input").fill(query)
    found = page.locator(".md-search-result__item")
    expect(found.first).to_be_visible(timeout=20_000)
    places = [str(each.get_attribute("href")) for each in found.locator("a").all()]
    root = f"{site}/0.2/{language}"
    assert places[0].startswith(f"{root}{first}")
    assert [each for each in places if (each.removeprefix(f"{site}/0.2/").startswith("zh/")) != bool(language)] == []
    found.locator("a").first.click()
    page.wait_for_url(f"{root}*.html*")


def test_the_site_speaks_chinese(page: Page, site: str) -> None:
    page.goto(f"{site}/0.2/zh/get-started.html")
    assert page.locator("html").get_attribute("lang") == "zh"
    assert page.locator(".md-search__input").first.get_attribute("placeholder") == "搜索"
    navigation = page.locator(".md-nav--primary").first
    for each in ("快速上手", "核心概念", "使用指南", "消息", "会话列表", "运维", "参考"):
        expect(navigation.get_by_text(each, exact=True).first).to_be_attached()
    page.goto(f"{site}/0.2/get-started.html")
    page.locator(".md-header .md-select").last.hover()
    page.get_by_role("link", name="简体中文").click()
    page.wait_for_url(f"{site}/0.2/zh/get-started.html")


@pytest.mark.parametrize("language", ["", "zh/"])
@pytest.mark.parametrize("name", ["index", "get-started", "concepts", "operations", "reference/services", "import"])
def test_pages_fit_a_phone(page: Page, site: str, language: str, name: str) -> None:
    page.set_viewport_size(PHONE)
    page.goto(f"{site}/0.2/{language}{name}.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_follow_the_theme(page: Page, site: str, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{site}/0.2/concepts.html")
    shown = [each.get_attribute("src") for each in page.locator("article img").all() if each.is_visible()]
    assert [(each or "").split("/")[-1] for each in shown] == [
        f"architecture-{scheme}.svg#only-{scheme}",
        f"data-model-{scheme}.svg#only-{scheme}",
    ]
