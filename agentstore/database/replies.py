"""A limit on the size of a reply, enforced while it arrives."""

import asyncio
from types import TracebackType

import asyncpg

from agentstore.schemas.page import Advice, reply_too_large
from agentstore.settings import Settings

_UNLIMITED = 2**62


class ReplyLimit(asyncio.Protocol):
    """Counts what a connection receives, and aborts it beyond a limit.

    Stands between the transport and asyncpg's protocol: the client never holds much more than the limit, and an
    ordinary reply costs one call for each read of the socket. The server notices when it sends more.

    As a context manager it ends the limit, and raises LimitExceeded if the connection received more.
    """

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        """Stand between a transport and its protocol, from now on."""
        self._transport = transport
        self._protocol = protocol
        self._pass_on = protocol.data_received
        # How many more bytes the connection may receive; negative once it was aborted.
        self._left = _UNLIMITED
        self._most = _UNLIMITED
        self._advice = Advice.RAISE_LIMIT
        transport.set_protocol(self)

    @classmethod
    def begin(cls, driver: asyncpg.Connection, settings: Settings, advice: Advice) -> "ReplyLimit":
        """Let a connection receive at most `max_reply_bytes` from now on; `advice` is the end of the error."""
        transport: asyncio.Transport = driver._transport  # type: ignore[attr-defined]
        limit = transport.get_protocol()
        if not isinstance(limit, cls):
            limit = cls(transport, driver._protocol)  # type: ignore[attr-defined]
        limit._left = limit._most = settings.max_reply_bytes
        limit._advice = advice
        return limit

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._left >= 0:
            self._left = _UNLIMITED
        elif isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            raise reply_too_large(self._most, self._advice) from None

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self._left -= len(data)
        if self._left >= 0:
            self._pass_on(data)
        else:
            self._transport.abort()

    def eof_received(self) -> bool | None:  # noqa: D102
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:  # noqa: D102
        self._protocol.pause_writing()

    def resume_writing(self) -> None:  # noqa: D102
        self._protocol.resume_writing()
