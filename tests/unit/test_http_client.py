"""The HTTP client, by each of its users: limits of responses, retries, credentials, event loops."""

import asyncio
import contextlib
import functools
import gzip
import json
import logging
import threading
import time
import traceback
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from agentstore import (
    EmbeddingFailed,
    ExtractionFailed,
    HttpReranker,
    InMemoryMemoryService,
    NotConfigured,
    OpenAIEmbedder,
    OpenAIExtractor,
    RerankingFailed,
    Settings,
    http_client,
)
from agentstore.errors import AgentStoreError, SandboxFailed, SandboxUnavailable
from agentstore.http_client import HttpClient, InvalidResponse, NotSent, ResponseLost, parse_retry_after
from agentstore.sandbox.remote import RemoteProvider
from agentstore.testing import text
from tests.support.pgbouncer import free_port

_KEY = "sk-hunter2/hunter2"
_PASSWORD = "p@ss/wörd"
_VALID = {
    "/embeddings": {"data": [{"index": 0, "embedding": [1, 2]}]},
    "/chat/completions": {"choices": [{"message": {"content": '{"new": []}'}}]},
    "/get_info": {"data": {}},
    "/rerank": {"results": [{"index": 0, "relevance_score": 1}]},
}

Respond = Callable[[asyncio.StreamWriter, int], Awaitable[None]]


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "_DELAY", 0.01)


class _Server:
    """A server that calls `respond` with a writer and the number of the request; None: with a valid response."""

    def __init__(self, respond: Respond | None = None) -> None:
        self.respond = respond
        self.heads: list[str] = []
        self.times: list[float] = []
        self.connections = 0
        self.closed = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length"))
                await reader.readexactly(length)
                self.heads.append(head)
                self.times.append(asyncio.get_running_loop().time())
                if self.respond is None:
                    path = head.split()[1]
                    writer.write(_response(json.dumps(_VALID[path]).encode()))
                else:
                    await self.respond(writer, len(self.heads))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.closed.set()  # by the client
        finally:
            writer.close()


@asynccontextmanager
async def _server(respond: Respond | None = None) -> AsyncIterator[_Server]:
    server = _Server(respond)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await server.serve(reader, writer)
        except asyncio.CancelledError:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def _always(body: bytes, *headers: str, status: str = "200 OK") -> Respond:
    async def respond(writer: asyncio.StreamWriter, _: int) -> None:
        writer.write(_response(body, *headers, status=status))

    return respond


class _User:
    """One of the users of the client, with one call of each."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._opened: list[OpenAIEmbedder | HttpReranker | RemoteProvider] = []

    async def call(self, url: str, *, key: str | None = _KEY, timeout: float = 30.0) -> object:
        if self.name == "embedder":
            embedder = OpenAIEmbedder(url, "m", dimensions=2, api_key=key, timeout=timeout, attempts=3)
            self._opened.append(embedder)
            return await embedder.embed(["a"])
        if self.name == "reranker":
            reranker = HttpReranker(url, "m", api_key=key, timeout=timeout, attempts=3)
            self._opened.append(reranker)
            return await reranker.rerank("x", ["a"])
        if self.name == "extractor":
            return await OpenAIExtractor(url, "m", key, timeout=timeout).extract([text("x")], [])
        provider = RemoteProvider(url, key, timeout=timeout)
        self._opened.append(provider)
        await provider.connect("x")
        return None

    async def close(self) -> None:
        for each in self._opened:
            if isinstance(each, RemoteProvider):
                await each.stop()
            else:
                await each.close()


_ERRORS = (EmbeddingFailed, ExtractionFailed, RerankingFailed, SandboxFailed, SandboxUnavailable)


@pytest.fixture(params=["embedder", "extractor", "reranker", "sandbox"])
async def user(request: pytest.FixtureRequest) -> AsyncIterator[_User]:
    user = _User(request.param)
    yield user
    await user.close()


async def _endless(writer: asyncio.StreamWriter, _: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"f4240\r\n" + b" " * 1_000_000 + b"\r\n")
        await writer.drain()


async def _endless_headers(writer: asyncio.StreamWriter, _: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: " + b"x" * 1_000 + b"\r\n")
        await writer.drain()


_ZSTD_BOMB = bytes.fromhex("28b52ffd0050") + bytes.fromhex("02001020") * 1_000
_UNUSABLE = {
    "oversized": (_always(b" " * 40_000_000), "more than [0-9,]+ bytes"),
    "endless": (_endless, "more than [0-9,]+ bytes"),
    "endless headers": (_endless_headers, "broke"),
    "zstd bomb": (_always(_ZSTD_BOMB, "Content-Encoding: zstd"), "decompressed from zstd"),
    "br": (_always(b"\x0b\x02\x80{}\x03", "Content-Encoding: br"), "decompressed from br"),
    "gzip twice": (_always(b"", "Content-Encoding: gzip, gzip"), "decompressed from gzip, gzip"),
    "half gzip": (_always(gzip.compress(b"{}")[:-4], "Content-Encoding: gzip"), "decompressed from gzip"),
    "no gzip": (_always(b"{}", "Content-Encoding: gzip"), "decompressed from gzip"),
    "values": (_always(b'{"data": [' + b"0," * 400_000 + b"0]}"), "more than [0-9,]+ (values|bytes)"),
    "strings": (_always(b'["' + b'","' * 400_000 + b'"]'), "more than [0-9,]+ (values|bytes)"),
    "nested": (_always(b'{"data": ' + b"[" * 300 + b"]" * 300 + b"}"), "not valid JSON"),
    "arrays": (_always(b"[" * 400_000), "more than [0-9,]+ (values|bytes)"),
    "deep": (_always(b"[" * 1_000), "not valid JSON"),
    "garbage": (_always(b"<html>\x1b[2J\xff"), r"not valid JSON: <html>�\[2J�$"),
    "NaN": (_always(b'{"data": NaN}'), "not valid JSON"),
    "Infinity": (_always(b'{"data": -Infinity}'), "not valid JSON"),
    "digits": (_always(b'{"data": ' + b"9" * 5_000 + b"}"), "not valid JSON"),
    "UTF-8": (_always(b'{"data": "\xff"}'), "not valid JSON"),
    "status": (_always(b"no", status="404 X"), "404"),
    "endless error": (_always(b"x" * 40_000_000, status="400 X"), "400"),
}


@pytest.mark.parametrize("fault", _UNUSABLE)
async def test_unusable_responses_are_typed_errors(user: _User, fault: str) -> None:
    respond, message = _UNUSABLE[fault]
    async with _server(respond) as server:
        with pytest.raises(_ERRORS, match=message) as raised:
            await user.call(server.url)
    # Only what the connection lost may be sent again.
    assert len(server.heads) == 1 or fault == "endless headers"
    if isinstance(raised.value, ExtractionFailed):
        assert raised.value.outage == (fault in ("status", "endless headers"))


@pytest.mark.parametrize(
    ("encoding", "header"), [("gzip", b"\x1f\x8b\x08" + b"\0" * 7), ("deflate", b"\x78\x9c")], ids=["gzip", "deflate"]
)
async def test_a_decompression_bomb_is_not_decompressed(user: _User, encoding: str, header: bytes) -> None:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    megabyte = compressor.compress(b" " * 1_000_000) + compressor.flush(zlib.Z_FULL_FLUSH)
    # As large as the user accepts before decompression, and at least ten times too large after it.
    count, largest = (320, 100_000_000) if user.name == "sandbox" else (40, 10_000_000)
    async with _server(_always(header + megabyte * count, f"Content-Encoding: {encoding}")) as server:
        tracemalloc.start()
        try:
            with pytest.raises(_ERRORS, match=r"more than [0-9,]+ bytes when decompressed"):
                await user.call(server.url)
            assert tracemalloc.get_traced_memory()[1] < largest
        finally:
            tracemalloc.stop()


async def test_a_slow_response_ends_with_the_timeout(user: _User) -> None:
    async def drip(writer: asyncio.StreamWriter, _: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)  # less than any timeout for a single read

    async with _server(drip) as server:
        with pytest.raises(_ERRORS, match=r"did not respond within 0\.2 s"):
            await user.call(server.url, timeout=0.2)
        await asyncio.wait_for(server.closed.wait(), 60)


async def test_compressed_responses_are_decompressed(user: _User) -> None:
    async def respond(writer: asyncio.StreamWriter, number: int) -> None:
        path = server.heads[-1].split()[1]
        body, encoding = json.dumps(_VALID[path]).encode(), "gzip" if number == 1 else "deflate"
        packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
        writer.write(_response(packed, f"Content-Encoding: {encoding}"))

    async with _server(respond) as server:
        await user.call(server.url)
        await user.call(server.url)
        assert "accept-encoding: gzip\r\n" in server.heads[0].lower()


async def test_text_with_many_commas_is_not_many_values() -> None:
    value = '[{"\\,' * 100_000
    async with _server(_always(json.dumps({"data": value}).encode())) as server:
        client = HttpClient(server.url, what="the server", settings="X", keepalive=0)
        assert await client.post("/x", b"{}", timeout=60, max_bytes=2_000_000, max_values=10) == {"data": value}
        with pytest.raises(InvalidResponse, match="more than 1 values"):
            server.respond = _always(b"[1,2]")
            await client.post("/x", b"{}", timeout=60, max_bytes=100, max_values=1)


@pytest.mark.parametrize("value", [b'"",', b'"\\\\",', b'"a":"b",', b"{},", b"0,"])
async def test_counting_the_values_of_a_response_is_faster_than_parsing_it(value: bytes) -> None:
    values = value * (8_000_000 // len(value))
    data = b'{%b"a":0}' % values if b":" in value else b"[%b0]" % values

    def measure(call: Callable[[], object]) -> float:
        began = time.thread_time()
        with contextlib.suppress(InvalidResponse, ValueError):
            call()
        return time.thread_time() - began

    client = HttpClient("http://localhost", what="the server", settings="X")
    parse = functools.partial(json.loads, data)
    decode = functools.partial(client._decode, "http://localhost", "identity", data, len(data), 200_000)
    # The least of several: other processes of the machine slow down some.
    parsed, decoded = (min(measure(call) for _ in range(3)) for call in (parse, decode))
    assert decoded < parsed


async def test_redirects_are_not_followed(user: _User) -> None:
    async with (
        _server() as other,
        _server(_always(b"", f"Location: {other.url}/embeddings", status="307 X")) as server,
    ):
        with pytest.raises(_ERRORS, match="307"):
            await user.call(server.url)
        assert (len(server.heads), other.connections) == (1, 0)


async def test_refused_connections_are_reported(user: _User) -> None:
    errors = (EmbeddingFailed, ExtractionFailed, RerankingFailed, SandboxUnavailable)
    with pytest.raises(errors, match="could not be reached") as raised:
        await user.call(f"http://127.0.0.1:{free_port()}", timeout=5)
    assert type(raised.value.__cause__).__name__ == "ConnectError"
    if isinstance(raised.value, ExtractionFailed):
        assert raised.value.outage


# The number of requests of each user, whose last one may succeed.
_REQUESTS = {"429": (3, 1, 3), "500": (3, 1, 1), "503": (3, 1, 3), "400": (1, 1, 1), "lost": (3, 1, 3)}


@pytest.mark.parametrize("fault", _REQUESTS)
async def test_retries_are_bounded(user: _User, fault: str) -> None:
    kind = "embedder" if user.name == "reranker" else user.name
    expected = dict(zip(("embedder", "extractor", "sandbox"), _REQUESTS[fault], strict=True))[kind]
    failures = 0

    async def respond(writer: asyncio.StreamWriter, number: int) -> None:
        if number > failures:
            path = server.heads[-1].split()[1]
            writer.write(_response(json.dumps(_VALID[path]).encode()))
        elif fault == "lost":
            writer.close()
        else:
            writer.write(_response(b"", status=f"{fault} X"))

    async with _server(respond) as server:
        failures = expected
        with pytest.raises(_ERRORS):
            await user.call(server.url)
        assert len(server.heads) == expected
        server.heads.clear()
        failures = expected - 1
        await user.call(server.url)
        assert len(server.heads) == expected


@pytest.mark.parametrize("in_seconds", [True, False])
async def test_retry_after_is_respected(user: _User, in_seconds: bool) -> None:
    async def respond(writer: asyncio.StreamWriter, number: int) -> None:
        if number == 1:
            time = "0.5" if in_seconds else format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
            writer.write(_response(b"", f"Retry-After: {time}", status="429 X"))
        else:
            await _respond_validly(writer)

    async def _respond_validly(writer: asyncio.StreamWriter) -> None:
        writer.write(_response(json.dumps(_VALID[server.heads[-1].split()[1]]).encode()))

    async with _server(respond) as server:
        if user.name == "extractor":
            with pytest.raises(ExtractionFailed) as raised:
                await user.call(server.url)
            assert 0.1 < (raised.value.retry_after or 0) <= 2
        else:
            await user.call(server.url)
            # A date has no fractions of seconds.
            assert server.times[1] - server.times[0] >= (0.5 if in_seconds else 0.9)
        server.respond = _always(b"", "Retry-After: 3600", status="429 X")
        server.heads.clear()
        with pytest.raises(_ERRORS, match="429"):
            await user.call(server.url)
        assert len(server.heads) == 1


async def test_attempts_end_before_the_total_time_is_over() -> None:
    async with _server(_always(b"", "Retry-After: 20", status="503 X")) as server:
        client = HttpClient(server.url, what="the server", settings="X")
        with pytest.raises(http_client.ErrorStatus, match="503"):
            await client.post("/x", b"{}", timeout=10, total=10, max_bytes=100, attempts=1_000)
        assert len(server.heads) == 1
        await client.close()
    client = HttpClient(f"http://127.0.0.1:{free_port()}", what="the server", settings="X")
    with pytest.raises(NotSent):
        await client.post("/x", b"{}", timeout=10, total=10, max_bytes=100, unsent_attempts=3)
    await client.close()


async def _echo(writer: asyncio.StreamWriter, head: str, fault: str) -> None:
    """Repeat the credentials of a request."""
    authorization = next(line[15:] for line in head.splitlines() if line.lower().startswith("authorization: "))
    secret = authorization.split()[1]
    both = f"{authorization} {_PASSWORD}" if authorization.startswith("Basic") else authorization
    bodies = {
        "error": (f"no {both} {json.dumps(both)}", "500 X"),
        "slashes": (json.dumps({"detail": both}).replace("/", r"\/"), "400 X"),
        "not JSON": (both, "200 OK"),
        "no fields": (json.dumps({"error": [both]}), "200 OK"),
        "status line": ("", secret),
    }
    body, status = bodies[fault]
    writer.write(_response(body.encode(), status=status))
    writer.close()


@pytest.mark.parametrize("fault", ["error", "slashes", "not JSON", "no fields", "status line"])
@pytest.mark.parametrize("in_url", [False, True], ids=["token", "user"])
async def test_credentials_are_never_shown(
    user: _User, in_url: bool, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    for logger in ("agentstore", "httpx"):
        caplog.set_level(logging.DEBUG, logger)

    async def respond(writer: asyncio.StreamWriter, _: int) -> None:
        await _echo(writer, server.heads[-1], fault)

    async with _server(respond) as server:
        url = server.url.replace("//", "//quokka:p%40ss%2Fw%C3%B6rd@") if in_url else server.url
        with pytest.raises(_ERRORS) as raised:
            await user.call(url, key=None if in_url else _KEY)
    sent = "cXVva2thOnBAc3Mvd8O2cmQ=" if in_url else _KEY
    assert any(line.endswith(f" {sent}") for line in server.heads[0].splitlines())
    shown = "".join(traceback.format_exception(raised.value)) + caplog.text + repr(user._opened)
    for each in (sent[:8], "quokka", "p@ss", "p%40ss"):
        assert each not in shown


def test_a_token_is_not_shown_in_part_where_an_excerpt_is_cut() -> None:
    client = HttpClient("http://host", "sk-hunter2" * 20, what="the server", settings="X")
    for length in range(190, 210):
        shown = client.excerpt(" " * length + "sk-hunter2" * 20 * 100)
        assert set(shown) <= set("*"), shown


@pytest.mark.parametrize(
    "url",
    [
        *("host:8000", "ftp://host", "http://", "http://[::secret", "http://secret@a b", "http://secret@host:port"),
        *("http://host/?token=secret", "http://host/\x07secret", "http://host/#secret", "http://xn--/", "http://h:0"),
        "http://host/" + "secret" * 1_000,
    ],
)
def test_invalid_urls_are_refused_without_showing_them(url: str) -> None:
    with pytest.raises(NotConfigured, match="X_URL") as raised:
        HttpClient(url, what="the server", settings="X")
    assert "secret" not in "".join(traceback.format_exception(raised.value)).partition("agentstore.errors")[2]


@pytest.mark.parametrize("token", ["secret\n", "sécret", "sec ret", "secret\x7f"])
def test_tokens_that_cannot_be_sent_are_refused_without_showing_them(token: str) -> None:
    with pytest.raises(NotConfigured) as raised:
        HttpClient("http://host", token, what="the server", settings="X")
    assert "ret" not in str(raised.value)
    with pytest.raises(NotConfigured, match="not both"):
        HttpClient("http://user@host", "secret", what="the server", settings="X")


@pytest.mark.parametrize("make", ["embedder", "sandbox"])
async def test_event_loops_do_not_share_connections(make: str) -> None:
    async with _server() as server:
        embedder = OpenAIEmbedder(server.url, "m", dimensions=2)
        provider = RemoteProvider(server.url)
        both = threading.Barrier(2, timeout=60)

        async def use() -> None:
            for _ in range(3):
                if make == "embedder":
                    await embedder.embed(["a"])
                else:
                    await provider.connect("x")
                both.wait()  # the loops take turns
            await (embedder.close() if make == "embedder" else provider.stop())

        await asyncio.gather(*(asyncio.to_thread(asyncio.run, use()) for _ in range(2)))
        assert (server.connections, len(server.heads)) == (2, 6)


@pytest.mark.parametrize("owned", ["embedder", "reranker"])
async def test_connections_are_closed_with_their_owner(owned: str) -> None:
    async with _server() as server:
        embedding = Settings(embedding_url=server.url, embedding_model="m", embedding_dimensions=2)
        settings = embedding if owned == "embedder" else Settings(reranker_url=server.url)
        async with InMemoryMemoryService(settings=settings) as service:
            for each in ("x", "y"):
                await service.add_memory("alice", [text(each)])
                if owned == "reranker":
                    await service.search("alice", each)
            assert (server.connections, len(server.heads)) == (1, 2)
            assert not server.closed.is_set()
        await asyncio.wait_for(server.closed.wait(), 60)


async def test_an_extractor_keeps_no_connections() -> None:
    async with _server() as server:
        await OpenAIExtractor(server.url, "m").extract([text("x")], [])
        await asyncio.wait_for(server.closed.wait(), 60)


async def test_a_client_with_lost_connections_is_used_again() -> None:
    async def close(writer: asyncio.StreamWriter, _: int) -> None:
        writer.close()

    async with _server(close) as server:
        client = HttpClient(server.url, what="the server", settings="X")
        with pytest.raises(ResponseLost, match="broke"):
            await client.post("/embeddings", b"{}", timeout=60, max_bytes=1_000)
        server.respond = None
        assert await client.post("/embeddings", b"{}", timeout=60, max_bytes=1_000) == _VALID["/embeddings"]
        assert repr(client) == f"HttpClient({server.url!r})"
        await client.close()


def test_retry_after_may_be_a_fraction_or_a_date() -> None:
    found = [parse_retry_after(each) for each in ("7", "1.5", "", "soon", "nan", None)]
    assert found == [7, 1.5, None, None, None, None]
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    assert 3500 < (parse_retry_after(format_datetime(in_an_hour, usegmt=True)) or 0) <= 3600
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_errors_of_the_client_are_never_raised_to_callers() -> None:
    """Each user translates them into an AgentStoreError of its own."""
    assert not issubclass(http_client.RequestFailed, AgentStoreError)
