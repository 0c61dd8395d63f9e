"""What a page is made with: its request, its language, the store, and the templates."""

import asyncio
import re
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from importlib.resources import files
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from agentstore import __version__
from agentstore.console import charts, rendering
from agentstore.console.recent import Recent
from agentstore.console.security import Access, ConsoleOptions, Visitor
from agentstore.console.texts import LANGUAGES, choose_language, translate
from agentstore.database.database import Database
from agentstore.errors import AgentStoreError, NotConfigured, Retryable, StatementTimeout, Unavailable
from agentstore.interfaces import Store

T = TypeVar("T")

PAGE_SIZE = 50
"""How many rows a page of a list has."""
THEMES = ("light", "dark")


@dataclass
class Console:
    """What all requests share."""

    store: Store
    database: Database | None
    """The database of the store; None of a store in memory, which has no page about operations."""
    options: ConsoleOptions
    access: Access
    recent: Recent
    """Results that are expensive to compute, and what happened recently."""
    exports: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    followers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(100))


@dataclass(frozen=True)
class Panel(Generic[T]):
    """A part of a page: its value, or why this login may not see it now."""

    value: T | None
    error: AgentStoreError | None = None

    @property
    def reason(self) -> str:
        """Return what the error means, as a text to translate."""
        if isinstance(self.error, NotConfigured):
            return "Hidden from this login" if is_refused(self.error) else "Not available here"
        if isinstance(self.error, StatementTimeout):
            return "This took too long"
        if isinstance(self.error, Unavailable):
            return "The database does not answer"
        return "This could not be read"


class Busy(Retryable):
    """The console does too much of this at once."""


def is_refused(error: NotConfigured) -> bool:
    """Return whether the database refused the login something: it lacks a privilege, or row-level security applies."""
    return error.__cause__ is not None or re.search("row.level.security", str(error), re.IGNORECASE) is not None


async def load(call: Awaitable[T]) -> Panel[T]:
    """Return the result of a call as a panel; an error of the library becomes a part of the page."""
    try:
        return Panel(await call)
    except AgentStoreError as error:
        return Panel(None, error)


class Html(Response):
    """An HTML page. Lone surrogates, which UTF-8 cannot encode, are written as escapes."""

    media_type = "text/html"

    def render(self, content: Any) -> bytes:
        """Encode the page."""
        return str(content).encode(errors="backslashreplace")


class View:
    """A request and the means to answer it."""

    def __init__(self, console: Console, request: Request, visitor: Visitor | None) -> None:
        """Read the language and the theme of the request."""
        self.console = console
        self.store = console.store
        self.request = request
        self.visitor = visitor
        query, cookies = request.query_params, request.cookies
        self.language = choose_language(
            query.get("lang") or cookies.get("agentstore_lang"), request.headers.get("accept-language", "")
        )
        theme = query.get("theme") or cookies.get("agentstore_theme") or ""
        self.theme = theme if theme in THEMES else ""
        self.text = partial(translate, self.language)

    def query(self, name: str, default: str = "") -> str:
        """Return a parameter of the URL."""
        return self.request.query_params.get(name, default)

    def number(self, name: str, default: int, highest: int = 2**62) -> int:
        """Return a parameter of the URL that is a number from 0, or the default if it is none."""
        value = self.query(name)
        return min(int(value), highest) if value.isascii() and value.isdecimal() and len(value) < 20 else default

    def cursor(self) -> str | None:
        """Return the cursor in the URL."""
        return self.query("cursor") or None

    def url(self, path: str, **parameters: object) -> str:
        """Return the URL of a page, below the path prefix; parameters that are None are left out."""
        return self._url(path, parameters)

    def _url(self, path: str, parameters: Mapping[str, object]) -> str:
        given = [(name, str(value)) for name, value in parameters.items() if value is not None]
        return self.console.options.root_path + path + (f"?{urlencode(given)}" if given else "")

    def here(self, **changes: object) -> str:
        """Return the URL of this page with other parameters; a parameter that is None is removed."""
        return self._url(self.path, {**self.request.query_params, **changes})

    @property
    def path(self) -> str:
        """The path of this page, without the prefix."""
        return self.request.url.path.removeprefix(self.console.options.root_path) or "/"

    def render(self, template: str, status: int = 200, /, **values: Any) -> Html:
        """Return a page."""
        context: dict[str, Any] = {
            "view": self,
            "t": self.text,
            "url": self.url,
            "allow_writes": self.console.options.allow_writes,
            "has_database": self.console.database is not None,
            "languages": LANGUAGES,
            "version": __version__,
            "assets": asset_version(),
        }
        assert not context.keys() & values.keys()  # noqa: S101 - what every page has
        html = environment().get_template(template).render(context, **values)
        response = Html(html, status)
        for name in ("lang", "theme"):
            if name in self.request.query_params:
                value = self.language if name == "lang" else self.theme
                self.set_cookie(response, f"agentstore_{name}", value, 31_536_000)
        return response

    def set_cookie(self, response: Response, name: str, value: str, seconds: int) -> None:
        """Add a cookie of the console, which no script and no other site can use, to a response."""
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            path=self.console.access.path,
            secure=self.request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )

    def fragment(self, template: str, /, **values: Any) -> str:
        """Return a part of a page."""
        context = {"view": self, "t": self.text, "url": self.url, "allow_writes": False, **values}
        return environment().get_template(template).render(context)


@cache
def environment() -> Environment:
    """Return the templates, which escape every value that is not marked as safe."""
    found = Environment(
        loader=PackageLoader("agentstore.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "bytes": format_bytes,
        "duration": format_duration,
        "number": lambda value: f"{value:,}",
        "time": format_time,
        "visible": rendering.visible,
        "printable": rendering.printable,
        "summary": rendering.summarize,
        "meter": charts.meter,
    }
    return found


def format_bytes(count: int) -> str:
    """Return a number of bytes in the largest unit in which it is at least 1, such as ``1.5 MB``."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1_000 and len(units) > 1:
        size, units = size / 1_000, units[1:]
    return f"{size:,.0f} B" if units[0] == "B" else f"{size:,.1f} {units[0]}"


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units, such as ``2 h 5 min``."""
    left = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if left >= length or (unit == "s" and not parts):
            parts.append(f"{left // length:,} {unit}")
            left %= length
        elif parts:
            break
    return " ".join(parts[:2])


def format_time(value: datetime | None) -> Markup:
    """Return a time in UTC to the minute, with the exact one as an attribute; empty for None."""
    if value is None:
        return Markup("")
    utc = value.astimezone(UTC)
    return Markup('<time datetime="{}" title="{}"><span>{}</span> {}</time>').format(
        utc.isoformat(), f"{utc:%Y-%m-%d %H:%M:%S} UTC", f"{utc:%Y-%m-%d}", f"{utc:%H:%M}"
    )


@cache
def assets() -> dict[str, tuple[bytes, str]]:
    """Return the content and the media type of each static file by name."""
    folder = files("agentstore.console") / "static"
    types = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
    found = {each.name: (each.read_bytes(), types[each.name.rpartition(".")[2]]) for each in folder.iterdir()}
    return {**found, "code.css": (rendering.style_sheet().encode(), types["css"])}


@cache
def asset_version() -> str:
    """Return a text that changes with any static file, so that browsers may cache them."""
    import hashlib

    digest = hashlib.sha256()
    for name, (content, _) in sorted(assets().items()):
        digest.update(name.encode() + content)
    return digest.hexdigest()[:12]
