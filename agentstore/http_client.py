"""The HTTP client of embedders, rerankers, extractors and sandbox servers: POST requests whose responses are JSON.

A response is bounded in time, in bytes as received and decompressed, and in the number of its JSON values. Redirects
are not followed. What is retried, if the caller allows several attempts:

- A request that was not sent (host unknown, connection refused, TLS or proxy failed) has no effect on the server: up to
  `unsent_attempts`.
- A request whose response was lost, timed out, or has one of the retried statuses: up to `attempts`, which the caller
  sets above 1 only if the request is safe to repeat.
- Never: other statuses, and responses that are too large or are not valid JSON.

The delay before a retry is random, up to 0.4 s before the first and doubled for each further one, and not shorter than
a Retry-After header requests. If that is longer than 30 s, or if the time for all attempts would be over, there is no
retry.

httpx is imported when a client is created. User and password of the URL, and the bearer token, are sent in a header.
They never appear in an error, a log message or a repr, even if a server repeats them.
"""

import asyncio
import base64
import json
import logging
import random
import re
import zlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import pydantic_core
from pydantic import SecretStr

from agentstore.errors import NotConfigured
from agentstore.event_loops import PerLoop

if TYPE_CHECKING:
    import httpx

_log = logging.getLogger(__name__)

TRANSIENT_STATUSES = frozenset({408, 425, 429, 502, 503, 504, 529})
"""The statuses of a server or proxy that may answer the same request again soon."""

# Seconds: the scale of the random delay before a retry; the longest Retry-After that is waited for; the time to open a
# connection.
_DELAY = 0.2
_MAX_RETRY_AFTER = 30.0
_CONNECT_TIMEOUT = 10.0
# Bytes of the response with an error that are read, and characters of it that are shown.
_MAX_ERROR_BYTES = 10_000
_MAX_EXCERPT = 300
# Bytes from which a response is decoded in a thread.
_MANY_BYTES = 100_000

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


class RequestFailed(Exception):
    """A request failed. The caller raises its own error with this message, which has no secrets."""

    retry_after: float | None = None


class NotSent(RequestFailed):
    """The server could not be reached; it received nothing."""


class ResponseLost(RequestFailed):
    """The server may have received the request; its response did not arrive completely and in time."""


class InvalidResponse(RequestFailed):
    """The response is too large, or is not valid JSON."""


class ErrorStatus(RequestFailed):
    """The response has another status than 200.

    Attributes:
        status: its status.
        excerpt: the beginning of its body.
        retry_after: the seconds after which the server asked to retry, or None.
    """

    def __init__(self, url: str, status: int, excerpt: str, retry_after: float | None) -> None:
        super().__init__(f"{url} returned {status}: {excerpt}")
        self.status = status
        self.excerpt = excerpt
        self.retry_after = retry_after


class HttpClient:
    """A client of one server, usable in any number of event loops. Each has its own connections.

    Close it in each event loop in which it was used, unless it keeps no connections.
    """

    def __init__(
        self, base_url: str, token: str | SecretStr | None = None, *, what: str, settings: str, keepalive: float = 5.0
    ) -> None:
        """Create a client; connections are opened when they are needed.

        Args:
            base_url: the URL to which paths are appended; it may have a user and a password, but no query.
            token: sent as a bearer token.
            what: what the server is, for errors: "the sandbox server".
            settings: the prefix of the settings that configure it, for errors: "AGENTSTORE_SANDBOX".
            keepalive: seconds after which an idle connection is closed; 0: it is closed after each request.

        Raises:
            NotConfigured: httpx is not installed, an argument is not valid, or the environment names a proxy that
                cannot be used.
        """
        try:
            import httpx
        except ImportError as error:
            raise NotConfigured("httpx is not installed: run pip install 'agentstore-postgres[http]'") from error
        self._httpx: ModuleType = httpx
        self._what = what
        parts = self._parse_url(base_url, settings)
        self.url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        key = token.get_secret_value() if isinstance(token, SecretStr) else token or ""
        # Checked here, because httpx would put a token that it cannot send into its error message.
        if not all("!" <= each <= "~" for each in key):
            raise NotConfigured(f"the key or token of {what} must consist of printable ASCII characters without spaces")
        if key and "@" in parts.netloc:
            raise NotConfigured(f"pass either a key or token of {what}, or a user in its URL, not both")
        self.has_token = bool(key)
        authorization, secrets = f"Bearer {key}" if key else "", {key}
        if "@" in parts.netloc:
            userinfo = parts.netloc.rpartition("@")[0]
            user, password = unquote(parts.username or ""), unquote(parts.password or "")
            encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
            authorization = f"Basic {encoded}"
            secrets |= {userinfo, f"{user}:{password}", encoded, password, parts.password or ""}
            # A shorter user would be redacted in words.
            secrets |= {each for each in (user, parts.username or "") if len(each) > 3}
        self._authorization = SecretStr(authorization)
        # Also as JSON strings: servers repeat parts of a request in their errors.
        secrets |= {json.dumps(each)[1:-1] for each in secrets}
        secrets |= {each.replace("/", r"\/") for each in secrets}
        self._secrets = [SecretStr(each) for each in sorted(filter(None, secrets), key=len, reverse=True)]
        self._keepalive = keepalive
        self._tls: Any = httpx.create_ssl_context() if parts.scheme == "https" else False
        self._clients: PerLoop[httpx.AsyncClient] = PerLoop()
        self._create_client()  # fails if the proxy settings are not valid

    def __repr__(self) -> str:
        return f"HttpClient({self.url!r})"

    async def close(self) -> None:
        """Close the connections of the running event loop; the next request opens new ones."""
        client = self._clients.pop()
        if client is not None:
            await client.aclose()

    async def post(
        self,
        path: str,
        body: bytes,
        *,
        timeout: float,
        max_bytes: int,
        max_values: int = 200_000,
        total: float | None = None,
        attempts: int = 1,
        unsent_attempts: int = 1,
        retried: frozenset[int] = TRANSIENT_STATUSES,
    ) -> Any:
        """POST JSON, and return the decoded JSON of the response.

        Args:
            path: appended to the URL, beginning with a slash.
            body: JSON.
            timeout: seconds for each attempt, from opening the connection to the last byte of the response.
            max_bytes: the maximum size of the response, as received and decompressed.
            max_values: the maximum number of values in the response, including those of arrays and objects.
            total: seconds for all attempts together, with the delays between them; unlimited by default.
            attempts: the maximum number of attempts for a request that is safe to repeat.
            unsent_attempts: the maximum number of attempts while the request cannot be sent, if more than `attempts`.
            retried: the statuses that are retried.

        Raises:
            NotSent, ResponseLost, InvalidResponse, ErrorStatus: the last attempt failed.
            NotConfigured: the environment names a proxy that cannot be used.
        """
        now = asyncio.get_running_loop().time
        end = None if total is None else now() + total
        failure: RequestFailed
        attempt = 0
        while True:
            attempt += 1
            left = timeout if end is None else min(timeout, end - now())
            try:
                async with asyncio.timeout(left):
                    return await self._attempt(self.url + path, body, max_bytes, max_values)
            except TimeoutError as error:
                limit = timeout if total is None else min(timeout, total)
                failure, allowed = ResponseLost(f"{self.url}{path} did not respond within {limit:g} s"), attempts
                failure.__cause__ = error
            except NotSent as error:
                failure, allowed = error, max(attempts, unsent_attempts)
            except ResponseLost as error:
                failure, allowed = error, attempts
            except ErrorStatus as error:
                failure, allowed = error, attempts if error.status in retried else 1
            delay = random.random() * _DELAY * 2**attempt  # noqa: S311 - jitter
            if failure.retry_after is not None:
                delay = max(delay, failure.retry_after)
            if attempt >= allowed or delay > _MAX_RETRY_AFTER or (end is not None and now() + delay >= end):
                raise failure
            _log.debug("attempt %d of %d: %s", attempt, allowed, failure)
            await asyncio.sleep(delay)

    def excerpt(self, value: Any) -> str:
        """Return the beginning of what the server sent, on one line, without secrets and control characters."""
        try:
            text = value if isinstance(value, (str, bytes)) else str(value)
        except RecursionError:
            return ""
        start = text[:_MAX_ERROR_BYTES]
        start = self._redact(start.decode(errors="replace") if isinstance(start, bytes) else start)
        if len(text) > _MAX_ERROR_BYTES:
            # The end may be a part of a secret.
            start = start[: -max((len(each) for each in self._secrets), default=1)]
        line = " ".join(start[: 2 * _MAX_EXCERPT].split())[:_MAX_EXCERPT]
        return "".join(each if each.isprintable() else "\ufffd" for each in line)

    async def _attempt(self, url: str, body: bytes, max_bytes: int, max_values: int) -> Any:
        """Send the request once."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "gzip"}
        if authorization := self._authorization.get_secret_value():
            headers["Authorization"] = authorization
        client = self._clients.get_or_create(self._create_client)
        raw = bytearray()
        try:
            async with client.stream("POST", url, content=body, headers=headers) as response:
                is_error = response.status_code != 200
                async for piece in response.aiter_raw():
                    raw += piece
                    if is_error and len(raw) > _MAX_ERROR_BYTES:
                        break
                    if len(raw) > max_bytes:
                        raise InvalidResponse(f"{url} sent a response of more than {max_bytes:,} bytes")
        except (self._httpx.ConnectError, self._httpx.ConnectTimeout, self._httpx.ProxyError) as error:
            raise NotSent(f"{url} could not be reached: {self._describe(error)}") from self._safe_cause(error)
        except self._httpx.TransportError as error:
            message = f"the connection to {url} broke: {self._describe(error)}"
            raise ResponseLost(message) from self._safe_cause(error)
        encoding = response.headers.get("content-encoding", "identity").lower()
        if is_error:
            excerpt = self.excerpt(_decompress(encoding, bytes(raw), _MAX_ERROR_BYTES + 1) or b"")
            raise ErrorStatus(
                url, response.status_code, excerpt, parse_retry_after(response.headers.get("retry-after"))
            )
        if len(raw) > _MANY_BYTES or encoding != "identity":
            return await asyncio.to_thread(self._decode, url, encoding, bytes(raw), max_bytes, max_values)
        return self._decode(url, encoding, bytes(raw), max_bytes, max_values)

    def _decode(self, url: str, encoding: str, raw: bytes, max_bytes: int, max_values: int) -> Any:
        """Decompress and parse a response."""
        data = _decompress(encoding, raw, max_bytes + 1)
        if data is None:
            raise InvalidResponse(f"{url} sent a response that cannot be decompressed from {self.excerpt(encoding)}")
        if len(data) > max_bytes:
            raise InvalidResponse(f"{url} sent a response of more than {max_bytes:,} bytes when decompressed")
        # Characters in strings count only if the number matters: removing the strings takes longer than parsing, and
        # with many of them much longer. Each value has at most two strings, itself and its key, of two quotes each.
        if _count_values(data) > max_values and (
            data.count(b'"') - data.count(b'\\"') > 4 * max_values or _count_values(_STRING.sub(b"", data)) > max_values
        ):
            raise InvalidResponse(f"{url} sent a response with more than {max_values:,} values")
        try:
            try:
                return pydantic_core.from_json(data, allow_inf_nan=False, cache_strings="keys")
            except ValueError as error:
                if "recursion" in str(error):  # 200 levels
                    raise
                return json.loads(data, parse_constant=_refuse)  # lone surrogates, which pydantic's parser rejects
        except (ValueError, RecursionError):
            # Without the cause, which has the response.
            raise InvalidResponse(f"{url} sent a response that is not valid JSON: {self.excerpt(data)}") from None

    def _describe(self, error: Exception) -> str:
        return self.excerpt(str(error)) or type(error).__name__

    def _safe_cause(self, error: Exception) -> Exception | None:
        """Return the error as a cause, unless a message in its chain has a secret that the server repeated."""
        cause: BaseException | None = error
        while cause is not None:
            if self._redact(str(cause)) != str(cause):
                return None
            cause = cause.__cause__ or cause.__context__
        return error

    def _redact(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret.get_secret_value(), "***")
        return text

    def _parse_url(self, base_url: str, settings: str) -> SplitResult:
        parts = None
        try:
            parts = urlsplit(base_url)
            is_valid = (
                parts.scheme in ("http", "https")
                and bool(parts.hostname)
                and parts.port != 0
                and not parts.query
                and not parts.fragment
                and base_url.isprintable()
                and " " not in base_url
                and len(base_url) <= 2_000
            )
            is_valid = is_valid and bool(self._httpx.URL(base_url).host)
        except (ValueError, self._httpx.InvalidURL):
            is_valid = False
        if parts is None or not is_valid:
            # Without the URL and the cause, which may have a password.
            raise NotConfigured(
                f"the URL of {self._what} must consist of http:// or https://, a host and a path, without a query or "
                f"fragment: check {settings}_URL"
            )
        return parts

    def _create_client(self) -> "httpx.AsyncClient":
        try:
            client: httpx.AsyncClient = self._httpx.AsyncClient(
                verify=self._tls,
                timeout=self._httpx.Timeout(None, connect=_CONNECT_TIMEOUT),
                limits=self._httpx.Limits(
                    max_connections=None,
                    max_keepalive_connections=20 if self._keepalive else 0,
                    keepalive_expiry=self._keepalive,
                ),
                follow_redirects=False,
            )
        except (ImportError, ValueError, self._httpx.InvalidURL):
            # Without the cause, which may have a password.
            raise NotConfigured(
                f"{self._what} cannot be reached by the proxy configured in the environment: check HTTP_PROXY, "
                "HTTPS_PROXY, ALL_PROXY and NO_PROXY. A socks5:// proxy requires the package socksio."
            ) from None
        return client


def strip_key(key: str | SecretStr | None) -> str:
    """Return an API key without white space around it, such as the end of the line of its file; empty for None."""
    return (key.get_secret_value() if isinstance(key, SecretStr) else key or "").strip()


def parse_retry_after(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header, given as a number or as a date; None if it is neither."""
    header = (header or "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", header):
        return float(header)
    try:
        time = parsedate_to_datetime(header)
        return max((time.replace(tzinfo=time.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _decompress(encoding: str, raw: bytes, max_bytes: int) -> bytes | None:
    """Return at most `max_bytes` of the decompressed data; None if it is incomplete or in another encoding."""
    if encoding == "identity":
        return raw
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return None
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib
    try:
        data = decompressor.decompress(raw, max_bytes)
    except zlib.error:
        return None
    return data if len(data) == max_bytes or (decompressor.eof and not decompressor.unused_data) else None


def _count_values(data: bytes) -> int:
    """Return the number of JSON values in data without strings, at least."""
    return sum(map(data.count, (b"[", b"{", b",")))


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
