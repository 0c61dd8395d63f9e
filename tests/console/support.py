"""Requests to a console without a server, and what its pages consist of."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import httpx

from agentstore.console.app import create_app
from agentstore.console.security import ConsoleOptions
from agentstore.database.database import Database
from agentstore.interfaces import Store

TOKEN = "a token of the tests"


def path(name: str, /, **parameters: object) -> str:
    """Return the path of a page with parameters."""
    return f"{name}?{urlencode({key: str(value) for key, value in parameters.items()})}"


@asynccontextmanager
async def browser(
    store: Store,
    database: Database | None = None,
    options: ConsoleOptions | None = None,
    *,
    base: str = "http://127.0.0.1",
    **arguments: Any,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the console of a store."""
    app = create_app(store, database, options)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, **arguments)
    async with httpx.AsyncClient(transport=transport, base_url=base) as client:
        yield client


class Document(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, name: str, value: str | None = None) -> list[dict[str, str | None]]:
        """Return the attributes of the elements of a tag that have an attribute, with a value if it is given."""
        return [
            attributes
            for each, attributes in self.elements
            if each == tag and name in attributes and (value is None or attributes[name] == value)
        ]

    def fields(self) -> dict[str, str]:
        """Return the hidden fields of all forms."""
        return {
            str(each["name"]): each["value"] or "" for each in self.all("input", "type", "hidden") if "value" in each
        }


_TAGS = {
    *("html", "head", "body", "meta", "title", "link", "script", "header", "main", "footer", "nav", "aside", "section"),
    *(
        "article",
        "div",
        "p",
        "span",
        "a",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "li",
        "dl",
        "dt",
        "dd",
        "bdi",
    ),
    *("table", "thead", "tbody", "tr", "th", "td", "form", "label", "input", "button", "select", "option", "details"),
    *("summary", "time", "code", "pre", "strong", "b", "i", "em", "s", "mark", "br", "hr", "blockquote", "img", "svg"),
    *("rect", "path", "figure", "figcaption", "kbd"),
}


def check_harmless(html: str) -> Document:
    """Check that a page has only elements of the console, and nothing inline that a browser would run or load."""
    found = Document(html)
    for tag, attributes in found.elements:
        assert tag in _TAGS, f"<{tag}> {attributes}"
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} {name}={value}"
            assert name not in ("style", "srcdoc", "srcset", "formaction", "ping"), f"{tag} {name}={value}"
        source = attributes.get("src") or ""
        assert source.startswith(("/static/", "/session/media?", "/file/image?")) or not source, source
        assert tag != "script" or source.startswith("/static/console.js"), attributes
        assert tag != "link" or str(attributes["href"]).startswith("/static/"), attributes
        assert tag != "form" or str(attributes.get("action")).startswith("/"), attributes
        assert tag != "meta" or "http-equiv" not in attributes, attributes
        target = attributes.get("href") or ""
        assert target.startswith(("/", "#", "http://", "https://", "mailto:")) or not target, target
        assert not target.startswith("//"), target
    assert len(found.all("main", "id", "main")) == 1
    return found


async def pages_of(client: httpx.AsyncClient, where: str, rel: str = "next") -> AsyncIterator[Document]:
    """The pages of a list, from one on in the direction of a link."""
    while True:
        page = check_harmless((await client.get(where)).text)
        yield page
        links = page.all("a", "rel", rel)
        if not links:
            return
        where = str(links[0]["href"])


async def links_of_rows(client: httpx.AsyncClient, where: str) -> list[str]:
    """Return the links of the rows of a list, on all of its pages, each of which has at most 50."""
    pages = [[str(each["href"]) for each in page.all("a", "data-row")] async for page in pages_of(client, where)]
    assert all(len(each) <= 50 for each in pages)
    return [each for page in pages for each in page]
