"""Attacks by code in sandboxes: an innocent sandbox beside them works, and the application hardly notices them."""

import asyncio
import contextlib
import random
import statistics
import textwrap
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from agentstore.errors import SandboxLost
from agentstore.sandbox.bubblewrap import BubblewrapProvider
from agentstore.sandbox.cgroups import find_cgroups
from agentstore.schemas.sandbox import SandboxLimits, SandboxSpec
from tests.sandbox.conftest import TIMEOUT

LIMITS = SandboxLimits(memory=400_000_000, processes=32, disk=32_000_000, files=1_000)

ATTACKS = {
    "processor": "for _ in range(5): os.fork()\nwhile True: pass",
    "memory": "while os.fork(): time.sleep(0.001)\nx = b'x' * 40_000_000\ntime.sleep(60)",
    "forks": "while True: os.fork()",
    "locks": """
        import fcntl
        for _ in range(4): os.fork()
        with open(f"/tmp/{os.getpid()}", "w") as file:
            for count in range(1 << 40):
                with contextlib.suppress(OSError): fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 2 * count)
    """,
    "sockets": """
        for _ in range(4): os.fork()
        pairs = []
        while True:
            try:
                pairs.append(socket.socketpair())
                pairs[-1][0].setblocking(False)
                while True: pairs[-1][0].send(bytes(60_000))
            except BlockingIOError: pass
            except OSError: time.sleep(0.01)
    """,
    "terminals": """
        for _ in range(4): os.fork()
        while True:
            with contextlib.suppress(OSError): os.openpty()
    """,
    "pipes": """
        for _ in range(4): os.fork()
        while True:
            try:
                pipe = os.pipe()
                os.set_blocking(pipe[1], False)
                while True: os.write(pipe[1], bytes(4096))
            except BlockingIOError: pass
            except OSError: time.sleep(0.01)
    """,
    "mappings": """
        import mmap
        for _ in range(4): os.fork()
        maps = []
        while True:
            try: maps.append(mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, len(maps) % 2 + 1))
            except OSError: time.sleep(0.01)
    """,
    "files": """
        for count in range(1 << 40):
            with contextlib.suppress(OSError), open(f"/tmp/{count}", "wb") as file: file.write(bytes(1_000_000))
    """,
    "daemons": """
        while True:
            with contextlib.suppress(OSError):
                if os.fork() == 0:
                    os.setsid()
                    os.environ.clear()
                    if os.fork() == 0: time.sleep(60)
                    os._exit(0)
    """,
}


@pytest.fixture(params=["cgroups", "no cgroups"] if find_cgroups() else ["no cgroups"])
async def provider(request: pytest.FixtureRequest) -> AsyncIterator[BubblewrapProvider]:
    provider = BubblewrapProvider()
    await provider.start()
    if request.param == "no cgroups":
        provider._cgroups = None
    yield provider
    await provider.stop()


async def attack(provider: BubblewrapProvider, name: str, seconds: float) -> None:
    """Attack in a sandbox of its own, until the timeout or until the sandbox is ended."""
    handle = await provider.create(SandboxSpec("test", limits=LIMITS))
    code = "import contextlib, os, signal, socket, time\n" + textwrap.dedent(ATTACKS[name])
    script = {"path": "attack.py", "content": code}
    with contextlib.suppress(SandboxLost):
        await provider.exec(handle, "write_file", script, TIMEOUT)
        await provider.exec(handle, "run_shell_command", {"command": "python3 attack.py"}, seconds)
    await provider.destroy(handle)


async def work(provider: BubblewrapProvider, handle: str) -> None:
    """Do what an innocent user does."""
    command = {"command": "python3 -c 'print(sum(range(1_000_000)))' > sum && cat sum"}
    assert (await provider.exec(handle, "run_shell_command", command, TIMEOUT)).part("stdout") == "499999500000\n"
    assert (await provider.exec(handle, "read_file", {"path": "sum"}, TIMEOUT)).text == "499999500000\n"
    assert (await provider.exec(handle, "run_ipython_cell", {"code": "print(6 * 7)"}, TIMEOUT)).text == "42\n"


async def run_pair(provider: BubblewrapProvider, chosen: list[str], seconds: float) -> None:
    innocent = await provider.create(SandboxSpec("test", limits=LIMITS))
    attacks = [asyncio.create_task(attack(provider, name, seconds)) for name in chosen]
    while not all(each.done() for each in attacks):
        await work(provider, innocent)
    await asyncio.gather(*attacks)
    await work(provider, innocent)
    await provider.destroy(innocent)


@pytest.mark.bubblewrap
@pytest.mark.parametrize("chosen", [["memory", "locks"], ["sockets", "forks"]], ids=" and ".join)
async def test_innocent_sandbox_works_beside_two_attacks(provider: BubblewrapProvider, chosen: list[str]) -> None:
    await run_pair(provider, chosen, 2)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(100))
async def test_innocent_sandbox_works_beside_random_attacks(provider: BubblewrapProvider, seed: int) -> None:
    await run_pair(provider, random.Random(seed).sample(sorted(ATTACKS), 2), 3)


async def percentile_99(connection: "asyncpg.Connection[asyncpg.Record]", seconds: float) -> float:
    """Return the latency of a query every 10 ms, in seconds: the 99th percentile."""
    latencies = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter()
        await connection.fetchval("SELECT 1")
        latencies.append(time.perf_counter() - began)
        await asyncio.sleep(0.01)
    return statistics.quantiles(latencies, n=100)[-1]


@pytest.mark.chaos
@pytest.mark.parametrize("name", ["processor", "memory", "forks", "locks", "sockets", "terminals"])
async def test_application_is_hardly_slower_during_an_attack(
    provider: BubblewrapProvider, direct_url: str, name: str
) -> None:
    """The medians of alternating measurements are compared, since other work of the machine comes and goes."""
    connection = await asyncpg.connect(direct_url)
    idle, attacked = [], []
    for _ in range(5):
        idle.append(await percentile_99(connection, 3))
        running = asyncio.create_task(attack(provider, name, 4))
        await asyncio.sleep(1)
        attacked.append(await percentile_99(connection, 3))
        await running
    await connection.close()
    ratio = statistics.median(attacked) / statistics.median(idle)
    print(f"{name}: the 99th percentile of a query is {ratio:.2f} times that of an idle machine")
    assert ratio <= 2
