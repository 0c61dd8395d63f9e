"""Connections that may pass from one event loop to another.

A connection of asyncpg belongs to an event loop: its protocol creates futures and timers in that loop, and the loop's
transport reads and writes its socket. With a :class:`Link` as its loop, futures and timers are created in the loop that
uses the connection now, and the transport is one of this module, for which the loop only watches the socket. So an idle
connection can be detached from a loop, even from one that was closed, and attached to another one.
"""

import asyncio
import logging
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import asyncpg

from agentstore.database.errors import DRIVER_ERRORS
from agentstore.database.sockets import release_sockets
from agentstore.event_loops import leave_to_parent, notify_after_fork

_log = logging.getLogger(__name__)

# In bytes: what asyncio's transports read at once, and the limits between which a writer waits.
_READ_SIZE = 256 * 1024
_HIGH_WATER = 64 * 1024
_LOW_WATER = 16 * 1024
# The longest record of TLS: after one, there may be more to read at once.
_RECORD_SIZE = 16 * 1024
# The driver holds the task that cancels a statement until the connection is closed, since it looks for the task by the
# loop, for which it takes the link. So a connection that has had as many is closed.
_MAX_CANCELLATIONS = 100

# Raised by a socket that has nothing to read, or no room to write.
_WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Link:
    """The event loop of one connection, as asyncpg sees it: the loop that uses the connection now.

    Attributes:
        opened_at: when the connection was opened, in seconds of the monotonic clock.
        idle_since: since when it was idle when it was last detached.
        is_reused: whether it was attached to another loop than the one that opened it.
    """

    def __init__(self) -> None:
        """Belong to the running event loop."""
        self.opened_at = self.idle_since = time.monotonic()
        self.is_reused = False
        self._transport: Transport | None = None
        self._cancellations = 0
        self._use(asyncio.get_running_loop())

    def _use(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: asyncio.AbstractEventLoop | None = loop
        self.call_later = loop.call_later  # used by every statement, for its timeout

    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop that uses the connection, or None: it is detached, or the loop is closed."""
        return None if self._loop is None or self._loop.is_closed() else self._loop

    def opened(self, transport: asyncio.BaseTransport) -> None:
        """Note that the connection is open, and its transport."""
        self.opened_at = time.monotonic()
        self._transport = transport if isinstance(transport, Transport) else None

    def detach(self, idle_since: float) -> bool:
        """Detach an idle connection from its loop; return False if it has to be closed with the loop.

        Called in the loop, or after the loop was closed.
        """
        if self._transport is None or self._cancellations or not self._transport.detach():
            return False
        self.idle_since = idle_since
        self._loop = None
        return True

    def attach(self) -> bool:
        """Attach the connection to the running loop; return False if the server has closed it or sent something."""
        if self._transport is None or not self._transport.is_quiet():
            return False
        self._use(asyncio.get_running_loop())
        self.is_reused = True
        self._transport.resume_reading()
        return True

    def is_worn(self) -> bool:
        """Return whether the connection has to be closed instead of reused, after many canceled statements."""
        return self._cancellations >= _MAX_CANCELLATIONS

    # What asyncpg calls.

    def __getattr__(self, name: str) -> Any:
        """Return what the loop has, and the link has not."""
        if (loop := self.__dict__.get("_loop")) is None:
            raise AttributeError(f"the connection belongs to no event loop, which {name!r} needs")
        return getattr(loop, name)

    def is_closed(self) -> bool:
        """Return whether a connection that is finalized cannot be terminated. One that is detached can."""
        return self._loop is not None and self._loop.is_closed()

    def create_future(self) -> "asyncio.Future[Any]":
        """Create a future in the loop that uses the connection. The driver holds this method."""
        return self._loop.create_future()  # type: ignore[union-attr]

    def create_task(self, work: Any, **options: Any) -> "asyncio.Task[Any]":
        """Create a task that cancels a statement."""
        self._cancellations += 1
        return self._loop.create_task(work, **options)  # type: ignore[union-attr]

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, **options: Any
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Connect as the loop does, and take the socket from the loop."""
        context: ssl.SSLContext | None = options.pop("ssl", None)
        loop = asyncio.get_running_loop()
        connected, _ = await loop.create_connection(asyncio.Protocol, host, port, **options)
        transport = Transport(self, _take_socket(connected), factory())
        if context is not None:
            await transport.start_tls(context, host)
        return self._begin(transport)

    async def create_unix_connection(
        self, factory: Callable[[], asyncio.Protocol], path: str
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Connect to a Unix socket as the loop does, and take the socket from the loop."""
        connected, _ = await asyncio.get_running_loop().create_unix_connection(asyncio.Protocol, path)
        return self._begin(Transport(self, _take_socket(connected), factory()))

    async def start_tls(
        self, transport: "Transport", protocol: asyncio.Protocol, context: ssl.SSLContext, *, server_hostname: str
    ) -> "Transport":
        """Encrypt a connection, once the server has agreed to."""
        transport.pause_reading()
        await transport.start_tls(context, server_hostname)
        transport.resume_reading()
        return transport

    def _begin(self, transport: "Transport") -> "tuple[asyncio.Transport, asyncio.Protocol]":
        protocol = transport.get_protocol()
        protocol.connection_made(transport)
        transport.resume_reading()
        return transport, protocol


class Transport(asyncio.Transport):
    """A connected socket, with or without TLS, that the event loop of a link watches."""

    def __init__(self, link: Link, connected: socket.socket, protocol: asyncio.Protocol) -> None:
        """Take over a socket that does not block."""
        super().__init__()
        self._link = link
        self._socket = connected
        self._number = connected.fileno()
        self._protocol: asyncio.Protocol = protocol
        self._is_closing = self._is_reading = self._is_writing = self._is_full = self._was_full = False
        # What the socket had no room for.
        self._unsent = bytearray()

    def get_protocol(self) -> asyncio.Protocol:  # noqa: D102
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:  # noqa: D102
        assert isinstance(protocol, asyncio.Protocol)  # noqa: S101
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the ``socket``, and the ``ssl_object`` of TLS, which is the same."""
        if name == "socket" or (name == "ssl_object" and isinstance(self._socket, ssl.SSLSocket)):
            return self._socket
        return default

    def is_closing(self) -> bool:  # noqa: D102
        return self._is_closing

    def is_reading(self) -> bool:  # noqa: D102
        return self._is_reading

    def pause_reading(self) -> None:  # noqa: D102
        if self._is_reading:
            self._is_reading = False
            if (loop := self._link.loop()) is not None:
                loop.remove_reader(self._number)

    def resume_reading(self) -> None:  # noqa: D102
        if not self._is_reading and not self._is_closing and (loop := self._link.loop()) is not None:
            self._is_reading = True
            loop.add_reader(self._number, self._receive)

    def get_write_buffer_size(self) -> int:  # noqa: D102
        return len(self._unsent)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:  # noqa: D102
        self.write(b"".join(list_of_data))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send data now, and later what the socket has no room for."""
        if self._is_closing:
            return
        sent = 0
        if not self._unsent:
            sent = self._try_send(data)
            if sent == len(data) or self._is_closing:
                return
        self._unsent += memoryview(data)[sent:]
        if not self._is_writing and (loop := self._link.loop()) is not None:
            self._is_writing = True
            loop.add_writer(self._number, self._send)
        if not self._is_full and len(self._unsent) > _HIGH_WATER:
            self._is_full = self._was_full = True
            self._protocol.pause_writing()

    def close(self) -> None:
        """Close the socket now. What was not sent is lost: asyncpg closes a connection that awaits nothing."""
        self._close(None)

    def abort(self) -> None:
        """Close the socket now."""
        self._close(None)

    def detach(self) -> bool:
        """Let the loop forget the socket; return False if something is in progress, or belongs to the loop.

        Once writing was paused, the driver has an event that may belong to the loop.
        """
        if self._is_closing or self._unsent or self._was_full or not self._is_reading:
            return False
        self.pause_reading()
        return True

    def is_quiet(self) -> bool:
        """Return whether the socket is connected and has received nothing, while no loop watches it."""
        if self._is_closing:
            return False
        try:
            self._socket.recv(1)
        except _WOULD_BLOCK:
            return True
        except OSError as error:
            _log.debug("a connection that no event loop used was lost: %s", error)
        return False

    async def start_tls(self, context: ssl.SSLContext, hostname: str) -> None:
        """Negotiate TLS, while nothing is read or written. Closes the socket if that fails."""
        loop = asyncio.get_running_loop()
        try:
            connected = context.wrap_socket(self._socket, server_hostname=hostname, do_handshake_on_connect=False)
            self._socket = connected
            while True:
                try:
                    connected.do_handshake()
                except ssl.SSLWantReadError:
                    await _until_ready(loop.add_reader, loop.remove_reader, self._number)
                except ssl.SSLWantWriteError:
                    await _until_ready(loop.add_writer, loop.remove_writer, self._number)
                else:
                    return
        except BaseException:
            self._close(None)
            raise

    def _receive(self) -> None:
        received = 0
        while self._is_reading:
            try:
                data = self._socket.recv(_READ_SIZE)
            except _WOULD_BLOCK:
                return
            except OSError as error:
                self._close(error)
                return
            if not data:
                self._protocol.eof_received()
                self._close(None)
                return
            try:
                self._protocol.data_received(data)
            except BaseException as error:
                self._close(error if isinstance(error, Exception) else None)
                raise
            received += len(data)
            if len(data) != _RECORD_SIZE or received >= _READ_SIZE:
                return

    def _try_send(self, data: bytes | bytearray | memoryview) -> int:
        """Send what the socket has room for, and return how much that is. TLS sends one record at a time."""
        sent = 0
        try:
            sent = self._socket.send(data)
            while sent < len(data) and sent < _READ_SIZE:
                sent += self._socket.send(memoryview(data)[sent:])
        except _WOULD_BLOCK:
            pass
        except OSError as error:
            self._close(error)
        return sent

    def _send(self) -> None:
        with memoryview(self._unsent) as unsent:
            sent = self._try_send(unsent)
        del self._unsent[:sent]
        if self._is_full and len(self._unsent) <= _LOW_WATER:
            self._is_full = False
            self._protocol.resume_writing()
        if not self._unsent:
            self._stop_writing()

    def _stop_writing(self) -> None:
        if self._is_writing:
            self._is_writing = False
            if (loop := self._link.loop()) is not None:
                loop.remove_writer(self._number)

    def _close(self, error: Exception | None) -> None:
        if self._is_closing:
            return
        self.pause_reading()
        self._stop_writing()
        self._is_closing = True
        self._socket.close()
        if (loop := self._link.loop()) is not None:
            loop.call_soon(self._protocol.connection_lost, error)


class Connect(Protocol):
    """Opens one connection; one that may pass to other event loops, if it receives a link."""

    def __call__(self, *, link: Link | None = None) -> Awaitable[asyncpg.Connection]: ...  # noqa: D102


def link_of(driver: asyncpg.Connection) -> Link | None:
    """Return the link of a connection, or None if it belongs to one event loop."""
    return getattr(driver, "link", None)


class Detached:
    """The idle connections that no event loop uses. Used in any thread.

    They are closed when the object is finalized, or at the end of the process.

    Attributes:
        generation: a number that every stop increments.
    """

    def __init__(self) -> None:
        """Begin without any connection."""
        self.generation = 0
        self._begin()
        notify_after_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._drivers: list[asyncpg.Connection] = []
        self._finalizer = weakref.finalize(self, _terminate, self._drivers)

    def __len__(self) -> int:
        return len(self._drivers)

    def put(self, driver: asyncpg.Connection, idle_since: float, generation: int) -> bool:
        """Detach an idle connection of a pool, and add it; return False if it has to be closed instead.

        Args:
            driver: the connection.
            idle_since: since when it has been idle, in seconds of the monotonic clock.
            generation: that in which its pool was opened. After a stop, the connection is to be closed.
        """
        link = link_of(driver)
        if link is None or driver.is_closed() or driver.is_in_transaction():
            return False
        with self._lock:
            if generation != self.generation or not link.detach(idle_since):
                return False
            self._drivers.append(driver)
        return True

    def take(self) -> asyncpg.Connection | None:
        """Attach the connection that was used last to the running event loop, and return it; None if there is none."""
        while self._drivers:
            with self._lock:
                driver = self._drivers.pop() if self._drivers else None
            if driver is not None:
                if link_of(driver).attach():  # type: ignore[union-attr]
                    return driver
                driver.terminate()
        return None

    def begin_stop(self) -> None:
        """Accept no connection of the pools that are open now."""
        with self._lock:
            self.generation += 1

    async def close(self) -> None:
        """Close all connections, and wait until the server has closed its ends."""
        closing = []
        while (driver := self.take()) is not None:
            closing.append(driver.close())
        for result in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, DRIVER_ERRORS):
                raise result

    def after_fork(self) -> None:
        """Leave the connections to the parent."""
        self._finalizer.detach()
        release_sockets(self._drivers)
        leave_to_parent(self._drivers)
        self._begin()


def _terminate(drivers: list[asyncpg.Connection]) -> None:
    while drivers:
        drivers.pop().terminate()


def _take_socket(transport: asyncio.BaseTransport) -> socket.socket:
    """Return the socket of a transport that has sent and received nothing, and close the transport."""
    its: socket.socket = transport.get_extra_info("socket")
    taken = socket.fromfd(its.fileno(), its.family, its.type, its.proto)
    taken.setblocking(False)
    transport.close()
    return taken


def _resolve(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


async def _until_ready(watch: Callable[..., object], unwatch: Callable[[int], object], number: int) -> None:
    """Wait until a loop reports a socket as ready."""
    ready = asyncio.get_running_loop().create_future()
    watch(number, _resolve, ready)
    try:
        await ready
    finally:
        unwatch(number)
