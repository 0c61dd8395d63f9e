"""Sandboxes of AgentScope Runtime's sandbox server, which runs them as containers on another machine.

httpx is imported when a provider is created.
"""

import asyncio
import importlib
import json
import logging
import random
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import SecretStr

from agentstore.errors import AgentStoreError, InvalidContent, NotConfigured, SandboxFailed, SandboxUnavailable
from agentstore.sandbox.commands import shorten
from agentstore.sandbox.managed import ATTEMPTS, RETRY_DELAY, ManagedProvider, RequestNotSent

if TYPE_CHECKING:
    import httpx

_log = logging.getLogger(__name__)

# Statuses of a proxy whose server may be available again soon.
_TRANSIENT_STATUSES = {502, 503, 504}
_LARGEST_REPLY = 32_000_000
_INVALID_URL = "the URL of the sandbox server is not valid: expected one such as https://host:8000, without a query"


class RemoteProvider(ManagedProvider):
    """Sandboxes of a sandbox server, over HTTP.

    Its connections belong to one event loop at a time: stop() closes them, and the next call opens new ones.
    """

    def __init__(self, base_url: str, bearer_token: str | SecretStr | None = None, *, timeout: float = 60.0) -> None:
        """Create a provider; connections are opened when they are needed.

        `base_url` is the URL to which method names are appended. `timeout` is that of one call, in seconds. A user and
        password in `base_url` are sent to a proxy in front of the server. Like the token, they never appear in messages
        or logs.

        Raises:
            NotConfigured: httpx is not installed, or an argument is not valid.
        """
        super().__init__(timeout)
        self._httpx = _import_httpx()
        try:
            parts = urlsplit(base_url)
            usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 80)
        except ValueError:
            # Without the cause, whose message could contain a password.
            raise NotConfigured(_INVALID_URL) from None
        plain = base_url.isprintable() and " " not in base_url and len(base_url) <= 2_000
        if not usable or not plain or parts.query or parts.fragment:
            raise NotConfigured(_INVALID_URL)
        self._url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        try:
            self._httpx.URL(self._url)
        except self._httpx.InvalidURL as error:
            raise NotConfigured(_INVALID_URL) from error
        token = bearer_token.get_secret_value() if isinstance(bearer_token, SecretStr) else bearer_token
        # Checked here, because httpx would put a token that it cannot send into its error message.
        if token and not re.fullmatch(r"[!-~]+", token):
            raise NotConfigured("the bearer token of the sandbox server must consist of printable ASCII characters")
        if token and "@" in parts.netloc:
            raise NotConfigured("pass either a bearer token or a user in the URL of the sandbox server, not both")
        self._token = SecretStr(token) if token else None
        self._auth: httpx.BasicAuth | None = None
        if "@" in parts.netloc:
            self._auth = self._httpx.BasicAuth(unquote(parts.username or ""), unquote(parts.password or ""))
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"RemoteProvider({self._url!r})"

    @property
    def name(self) -> str:
        """The provider's name in AGENTSTORE_SANDBOX_PROVIDER: "remote"."""
        return "remote"

    @property
    def _server(self) -> str:
        return self._url

    async def start(self) -> None:
        """Do nothing: connections are opened when they are needed."""

    async def stop(self) -> None:
        """Wait for cleanup to finish, for a limited time, and close the connections."""
        await super().stop()
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    async def _call(self, method: str, arguments: Mapping[str, Any], timeout: float, attempts: int = 1) -> Any:
        """POST a request, and retry it up to `attempts` times in all.

        A request that could not be sent is retried in any case, up to :data:`ATTEMPTS` times in all.
        """
        try:
            body = json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidContent(
                f"the arguments of {method} cannot be encoded as JSON: {type(error).__name__}"
            ) from error
        url = f"{self._url}/{method}"
        failure: AgentStoreError | None = None
        try:
            async with asyncio.timeout(timeout):
                for attempt in range(1, ATTEMPTS + 1):
                    cause: Exception | None = None
                    failure = None
                    try:
                        status, raw = await self._post(url, body)
                    except (self._httpx.ConnectError, self._httpx.ConnectTimeout, self._httpx.PoolTimeout) as error:
                        cause, allowed = error, ATTEMPTS
                        failure = RequestNotSent(f"{self._url} cannot be reached: {self._redact(str(error))}")
                    except self._httpx.TransportError as error:
                        cause, allowed = error, attempts
                        failure = SandboxUnavailable(f"the connection to {url} broke: {self._redact(str(error))}")
                    else:
                        if status not in _TRANSIENT_STATUSES:
                            return self._parse_reply(method, status, raw)
                        allowed = attempts
                        failure = self._error_from_text(method, f"{status} {self._beginning_of(raw)}")
                    if attempt >= allowed:
                        raise failure from cause
                    _log.debug("attempt %d of %d: %s", attempt, allowed, failure)
                    await asyncio.sleep(random.random() * RETRY_DELAY * 2**attempt)  # noqa: S311 - jitter
        except TimeoutError as error:
            raise failure or SandboxUnavailable(f"{url} did not answer within {timeout:g} s") from error
        raise AssertionError("unreachable")

    async def _post(self, url: str, body: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        raw = bytearray()
        async with self._client_of_this_loop().stream(
            "POST", url, content=body, headers=headers, auth=self._auth
        ) as response:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise SandboxFailed(f"{url} sent a reply with a Content-Encoding that the request did not accept")
            async for piece in response.aiter_raw():
                raw += piece
                if len(raw) > _LARGEST_REPLY:
                    raise SandboxFailed(f"{url} sent a reply of more than {_LARGEST_REPLY:,} bytes")
            return response.status_code, bytes(raw)

    def _parse_reply(self, method: str, status: int, raw: bytes) -> Any:
        if status in (401, 403):
            problem = "requires a bearer token" if self._token is None else "rejected the bearer token"
            raise NotConfigured(f"{self._url} {problem} (status {status}): set AGENTSTORE_SANDBOX_TOKEN")
        if status != 200:
            raise self._error_from_text(method, f"{status} {self._beginning_of(raw)}")
        try:
            reply = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise SandboxFailed(
                f"{self._url} sent a reply to {method} that is not JSON: {self._beginning_of(raw)}"
            ) from error
        if not isinstance(reply, dict) or "data" not in reply:
            raise SandboxFailed(f"{self._url} sent a reply to {method} without data: it is not a sandbox server")
        return reply["data"]

    def _beginning_of(self, raw: bytes) -> str:
        return shorten(self._redact(raw[:1_000].decode(errors="replace")))

    def _redact(self, message: str) -> str:
        """Remove the token from a message, as some servers repeat it in their errors."""
        return message if self._token is None else message.replace(self._token.get_secret_value(), "***")

    def _client_of_this_loop(self) -> "httpx.AsyncClient":
        loop = asyncio.get_running_loop()
        if self._client is not None and self._loop is loop:
            return self._client
        client: httpx.AsyncClient = self._httpx.AsyncClient(
            timeout=self._httpx.Timeout(None, connect=10.0),
            # If the server closes an idle connection just as it is reused, a call that must not be retried fails. So
            # the client closes idle connections sooner than most servers do.
            limits=self._httpx.Limits(max_connections=None, keepalive_expiry=1.0),
            follow_redirects=False,
        )
        self._client, self._loop = client, loop
        return client


def _import_httpx() -> Any:
    try:
        return importlib.import_module("httpx")
    except ImportError as error:
        raise NotConfigured("httpx is not installed: run pip install 'agentstore-postgres[http]'") from error
