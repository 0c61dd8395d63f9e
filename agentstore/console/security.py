"""Who may use the console: the login, the cookie, forms that cannot be forged, and the headers of each response."""

import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentstore.errors import NotConfigured

COOKIE_SECONDS = 12 * 3_600
"""How long a login lasts."""
SHORTEST_TOKEN = 16
"""The minimum length of a token, in characters."""
# It becomes a part of headers, in which other characters have a meaning.
_ROOT_PATH = re.compile("(?:/[A-Za-z0-9._~-]+)*")
# Headers that proxies add, besides X-Forwarded-For and others that begin so.
_FORWARDED = {"forwarded", "via", "x-real-ip"}
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}
# Failed logins of one address within a period in seconds, and the number of addresses that are remembered.
_FAILURES, _PERIOD, _ADDRESSES = 5, 60.0, 10_000


@dataclass(frozen=True)
class ConsoleOptions:
    """How the console is served.

    Attributes:
        host: the address that the server listens on. Any other than a loopback address needs a token.
        token: what a visitor has to enter; None allows every visitor that can reach a loopback address.
        root_path: the path prefix under which a proxy publishes the console, such as "/console".
        allow_writes: whether sessions, users and others can be renamed and deleted; otherwise pages only read.
    """

    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    root_path: str = ""
    allow_writes: bool = False

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            NotConfigured: the token is missing or too short, or the path prefix is not valid.
        """
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise NotConfigured(
                f"AGENTSTORE_CONSOLE_TOKEN must have at least {SHORTEST_TOKEN} characters, got {len(self.token)}"
            )
        if self.token is None and not is_loopback(self.host):
            raise NotConfigured(
                f"the console on {self.host!r} can be reached from other hosts, so it needs a token: set "
                "AGENTSTORE_CONSOLE_TOKEN, for example to the output of `openssl rand -hex 32`"
            )
        if not _ROOT_PATH.fullmatch(self.root_path):
            raise NotConfigured(
                "the path prefix must consist of / and names of ASCII letters, digits and the characters ._~-, and not "
                f"end with /, got {self.root_path[:80]!r}"
            )


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is one of this machine that no other host reaches."""
    if host in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Visitor:
    """A browser with a valid cookie."""

    id: str
    form_token: str
    """What each form of this browser has to contain."""


class Access:
    """Issues and verifies cookies. They hold no secret and are not stored: another process accepts them too."""

    def __init__(self, options: ConsoleOptions) -> None:
        """Derive the key of cookies from the token, or choose a random one for this process."""
        self._token = options.token
        secret = secrets.token_bytes(32) if options.token is None else options.token.encode()
        self._key = hmac.digest(secret, b"agentstore console", "sha256")
        # Of its own for each key: consoles on several ports of a host share their cookies.
        self.cookie = f"agentstore_{self._sign('cookie')[:12]}"
        self.path = options.root_path or "/"
        self.needs_login = options.token is not None
        self.limit = LoginLimit()

    def _sign(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), "sha256").hex()

    def is_token(self, given: str) -> bool:
        """Return whether a text is the token, in a time that does not depend on where it differs."""
        digests = [hashlib.sha256(each.encode(errors="replace")).digest() for each in (given, self._token or "")]
        return self._token is not None and hmac.compare_digest(*digests)

    def issue(self) -> tuple[str, Visitor]:
        """Return the value of a new cookie, and its visitor."""
        id = f"{secrets.token_urlsafe(18)}.{int(time.time()) + COOKIE_SECONDS}"
        return f"{id}.{self._sign(id)}", self._visitor(id)

    def read(self, cookie_header: str) -> Visitor | None:
        """Return the visitor of a request, or None if its cookie is missing, forged or expired."""
        # Applications on other ports of the host set cookies too, such as JSON, which http.cookies does not parse.
        id, _, signature = cookie_parser(cookie_header).get(self.cookie, "").rpartition(".")
        expires = id.rpartition(".")[2]
        if not hmac.compare_digest(signature.encode(), self._sign(id).encode()):
            return None
        return self._visitor(id) if expires.isdecimal() and int(expires) > time.time() else None

    def _visitor(self, id: str) -> Visitor:
        return Visitor(id, self._sign(f"form {id}"))

    def is_form_token(self, visitor: Visitor, given: str) -> bool:
        """Return whether a form was created for this visitor."""
        return hmac.compare_digest(visitor.form_token.encode(), given.encode(errors="replace"))


class LoginLimit:
    """Counts failed logins by address: the network of an IPv6 address, whose owner has all of its addresses."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Create a limit without failures."""
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Return for how many seconds an address may not try again; 0 if it may."""
        times = self._failures.get(_network(address), deque())
        now = self._clock()
        while times and now - times[0] >= _PERIOD:
            times.popleft()
        return _PERIOD - (now - times[0]) if len(times) >= _FAILURES else 0.0

    def fail(self, address: str) -> None:
        """Record a failed login."""
        network = _network(address)
        self._failures.setdefault(network, deque(maxlen=_FAILURES)).append(self._clock())
        self._failures.move_to_end(network)
        if len(self._failures) > _ADDRESSES:
            self._failures.popitem(last=False)


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)


class PathPrefix:
    """Removes the path prefix from requests, for proxies that leave it and for those that have removed it."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        """Wrap an application."""
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and self._prefix:
            path = str(scope["path"])
            if path == self._prefix or path.startswith(f"{self._prefix}/"):
                path = path[len(self._prefix) :] or "/"
            scope = {**scope, "root_path": self._prefix, "path": self._prefix + path}
        await self._app(scope, receive, send)


class SecureHeaders:
    """Adds the headers that restrict what a browser does with a response, and refuses names of other hosts.

    Without a token, the name of the host in a request has to be one of a loopback address: a page of another site
    could otherwise let its own name point here (DNS rebinding), and read the console. And no proxy may have forwarded
    it: whom a proxy serves cannot be known here, and it may name any host.
    """

    def __init__(self, app: ASGIApp, options: ConsoleOptions) -> None:
        """Wrap an application."""
        self._app = app
        self._options = options
        self._headers = {
            "content-security-policy": policy(options.root_path),
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "permissions-policy": "camera=(), geolocation=(), microphone=()",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        if self._options.token is None and (problem := _problem(headers)) is not None:
            await _refuse(problem, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


def _host_name(host: str) -> str:
    """Return the name in a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _problem(headers: Headers) -> str | None:
    """Return why a request without a login is refused, or None if it was sent to this machine without a proxy."""
    host = headers.get("host", "")
    if not is_loopback(_host_name(host)):
        return f"The console was opened as {host[:80]!r}. Without a token it answers only to a loopback address"
    forwarded = next((name for name in headers if name in _FORWARDED or name.startswith("x-forwarded-")), None)
    if forwarded is not None:
        return f"A proxy has forwarded the request (it has the header {forwarded[:80]!r}). A proxy needs a token"
    return None


async def _refuse(problem: str, send: Send) -> None:
    text = f"{problem}: open it as http://127.0.0.1, or set AGENTSTORE_CONSOLE_TOKEN.\n"
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 421, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode(errors="backslashreplace")})


def policy(root_path: str) -> str:
    """Return the Content-Security-Policy: nothing inline, nothing evaluated, nothing from another origin."""
    parts = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
        # Sent at once, unlike those of report-to, which Chromium collects for a minute.
        "report-uri": f"{root_path}/csp-report",
    }
    return "; ".join(f"{name} {value}" for name, value in parts.items())
