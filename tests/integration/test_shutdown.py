"""An application whose connections are silent ends soon after SIGTERM."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.support.proxy import Proxy
from tests.support.served import CALLS

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[2]
_PROMISED = 5.0
# A program that is started meanwhile says how busy the machine is: so often its time is added to what is promised.
_PROGRAM, _MARGIN = "import asyncio, agentstore.store, sqlalchemy.ext.asyncio", 5


async def check_shutdown(server: str, state: str, own_tcp_server: tuple[str, int]) -> None:
    """Start an application, make its connections silent, end it, and check the time that this takes.

    Args:
        server: "asyncio" or "uvicorn".
        state: what the connections are used for: "idle", "in use" or "connecting".
        own_tcp_server: the database.
    """
    url, port = own_tcp_server
    async with Proxy("127.0.0.1", port) as proxy:
        through = url.replace(f":{port}/", f":{proxy.port}/")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.served", through, server),
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            application = int(await process.stdout.readline())
            if state != "connecting":
                assert await _request(application) == b"HTTP/1.1 200 OK\r\n"
                assert await process.stdout.readline() == b"request\n"
                assert proxy.connections >= CALLS
            else:
                (await _connect(application))[1].close()
            opened = proxy.connections
            proxy.blackhole = True
            requests = []
            if state != "idle":
                requests = [asyncio.create_task(_request(application)) for _ in range(3)]
                for _ in requests:
                    assert await process.stdout.readline() == b"request\n"
                if state == "connecting":
                    while proxy.connections == opened:
                        await asyncio.sleep(0.01)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            (code, took), (_, busy) = await asyncio.gather(
                _time(process, began),
                _time(await asyncio.create_subprocess_exec(sys.executable, "-c", _PROGRAM), began),
            )
            assert code in (0, -signal.SIGTERM)
            assert took < _PROMISED + _MARGIN * busy
            for request in requests:
                assert not (await request).startswith(b"HTTP/1.1 200")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _time(process: asyncio.subprocess.Process, began: float) -> tuple[int, float]:
    """Return the exit code of a process, and the seconds from `began` to its end."""
    return await process.wait(), time.monotonic() - began


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the application, as soon as it listens."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)


async def _request(port: int) -> bytes:
    """Send a request, and return the first line of the response."""
    reader, writer = await _connect(port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    try:
        return await reader.readline()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("state", ["idle", "in use", pytest.param("connecting", marks=pytest.mark.chaos)])
async def test_an_application_with_silent_connections_ends_soon_after_sigterm(
    own_tcp_server: tuple[str, int], state: str
) -> None:
    await check_shutdown("asyncio", state, own_tcp_server)
