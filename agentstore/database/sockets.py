"""The sockets of connections whose event loop is closed, or is another process's."""

import asyncio
import os
from collections.abc import Iterable
from contextlib import suppress

import asyncpg


def close_socket(driver: asyncpg.Connection) -> None:
    """Close the socket of a connection that its event loop left open when it was closed. Called in any thread."""
    transport = driver._transport  # type: ignore[attr-defined]
    transport = getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport)
    with suppress(RuntimeError):
        driver.terminate()
    with suppress(RuntimeError):
        transport.abort()
    # What the closed loop refused to schedule; uvloop has closed its sockets itself.
    if getattr(transport, "_sock", None) is not None:
        with suppress(RuntimeError):
            transport._call_connection_lost(None)


def release_sockets(drivers: Iterable[asyncpg.Connection]) -> None:
    """Release the sockets of the parent process in a forked child, without sending or changing anything."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        for driver in drivers:
            transport: asyncio.Transport | None = driver._transport  # type: ignore[attr-defined]
            connected = None if transport is None else transport.get_extra_info("socket")
            if connected is not None and (number := connected.fileno()) >= 0:
                os.dup2(null, number, inheritable=False)
    finally:
        os.close(null)
