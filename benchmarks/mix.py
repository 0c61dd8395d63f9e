"""Compare two checkouts under a mix of calls: ``python -m benchmarks.mix --against=FOLDER``.

Four processes with 50 tasks each make calls without a pause: 80 % get the last 20 messages of a session, 15 % append a
message, 5 % search 100 memories. Each checkout has processes and a database of its own, on one server. They take turns
in rounds of some seconds, so that a ratio compares calls of the same minute.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
from pathlib import Path
from typing import Any

from agentstore import AgentStore, Message, Session, Settings

_PROCESSES, _TASKS = 4, 50
_USERS, _SESSIONS, _MESSAGES = 100, 5, 40
_TEXT = "The tomatoes in the third bed need water every other day, and the peppers none this week. " * 4
_WORDS = [
    f"{first}{second}"
    for first in ["garden", "water", "market", "letter", "winter"]
    for second in "abcdefghijklmnopqrst"
]
_THIS = Path(__file__)


async def _fill(store: AgentStore) -> None:
    rng = random.Random(1)

    async def fill(user: str) -> None:
        for session in range(_SESSIONS):
            created = await store.sessions.create_session(user, f"s{session}")
            await store.sessions.append_message(created, [Message.user(_TEXT) for _ in range(_MESSAGES)])
        texts = [" ".join(rng.choices(_WORDS, k=15)) for _ in range(100)]
        await store.memory.add_memory(user, [Message.user(each) for each in texts], "s0")

    for number in range(0, _USERS, 10):
        await asyncio.gather(*(fill(f"u{each}") for each in range(number, number + 10)))


async def _call(store: AgentStore, rng: random.Random) -> None:
    user, session, part = f"u{rng.randrange(_USERS)}", f"s{rng.randrange(_SESSIONS)}", rng.random()
    if part < 0.8:
        found = await store.sessions.get_session(user, session, limit=20)
        assert found is not None
        assert len(found.messages) == 20
    elif part < 0.95:
        await store.sessions.append_message(Session(id=session, user_id=user), Message.user(_TEXT))
    else:
        assert await store.memory.search(user, " ".join(rng.choices(_WORDS, k=5)))


async def _work(url: str, *, fills: bool) -> None:
    """Fill the database, or make calls for as many seconds as each line of the input says, and print their number."""
    settings = Settings(auto_migrate="upgrade" if fills else "check", pool_size=10)
    async with AgentStore(url, settings=settings) as store:
        if fills:
            await _fill(store)
            return
        await store.health()
        loop, rng = asyncio.get_running_loop(), random.Random(os.getpid())
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            end = loop.time() + float(line)
            times: list[float] = []

            async def task(end: float = end, times: list[float] = times) -> None:
                while (began := loop.time()) < end:
                    await _call(store, rng)
                    times.append(loop.time() - began)

            await asyncio.gather(*(task() for _ in range(_TASKS)))
            print(json.dumps(times), flush=True)


async def _start(checkout: Path, url: str, *arguments: str) -> asyncio.subprocess.Process:
    command = (sys.executable, str(_THIS), "--worker", url, *arguments)
    pipe = asyncio.subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    return await asyncio.create_subprocess_exec(
        *command, cwd=checkout, env=environment, stdin=pipe, stdout=pipe, limit=2**26
    )


async def _round(workers: list[asyncio.subprocess.Process], seconds: float) -> list[float]:
    """Return the times of all calls of a round."""
    for each in workers:
        assert each.stdin is not None
        each.stdin.write(f"{seconds}\n".encode())
    times: list[float] = []
    for each in workers:
        assert each.stdout is not None
        times += json.loads(await each.stdout.readline())
    return times


async def measure(url: str | None, checkouts: list[Path], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return for each round and checkout the calls a second, and the median and p99 of their times in ms."""
    import asyncpg  # not needed by the workers, which import what their checkout has

    from benchmarks.runner import server

    found = []
    async with server(url) as (first, url_of):
        admin = await asyncpg.connect(first)
        workers = []
        for number, checkout in enumerate(checkouts):
            await admin.execute(f"CREATE DATABASE mix_{number}")
            filling = await _start(checkout, url_of(f"mix_{number}"), "--fill")
            await filling.communicate()
            assert filling.returncode == 0
            workers.append([await _start(checkout, url_of(f"mix_{number}")) for _ in range(_PROCESSES)])
            for each in workers[-1]:
                assert each.stdout is not None
                assert await each.stdout.readline() == b"ready\n"
        await admin.execute("VACUUM (ANALYZE)")
        for round_number in range(-1, rounds):  # the first one warms up
            for number in random.sample(range(len(checkouts)), len(checkouts)):
                times = sorted(await _round(workers[number], seconds))
                if round_number >= 0:
                    p99 = times[int(len(times) * 0.99)] * 1_000
                    found.append(
                        {
                            "round": round_number, "checkout": number, "rate": len(times) / seconds,
                            "median": statistics.median(times) * 1_000, "p99": p99,
                        }
                    )  # fmt: skip
        for each in (each for of_checkout in workers for each in of_checkout):
            assert each.stdin is not None
            each.stdin.close()
            await each.wait()
        for number in range(len(checkouts)):
            await admin.execute(f"DROP DATABASE mix_{number} WITH (FORCE)")
        await admin.close()
    return found


def main() -> None:
    """Measure, and print the rates of both checkouts with their ratio in each round."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mix", description=__doc__)
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="a checkout of the commit to compare with")
    parser.add_argument("--url", help="use this server, where the user may create databases, not an embedded one")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0, help="the length of a round of one checkout")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--fill", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        asyncio.run(_work(options.worker, fills=options.fill))
        return
    checkouts = [_THIS.parent.parent, options.against or _THIS.parent.parent]
    found = asyncio.run(measure(options.url, checkouts, options.rounds, options.seconds))
    this, other = ([each for each in found if each["checkout"] == number] for number in (0, 1))
    for name, row in (("this", this), ("other", other)):
        columns = {key: statistics.median(each[key] for each in row) for key in ("rate", "median", "p99")}
        print(f"{name:6} {columns['rate']:8.0f} calls/s  median {columns['median']:6.1f}  p99 {columns['p99']:6.1f} ms")
    ratios = sorted(a["rate"] / b["rate"] for a, b in zip(this, other, strict=True))
    quarter = len(ratios) // 4
    print(f"ratio  {statistics.median(ratios):.2f} ({ratios[quarter]:.2f}-{ratios[-1 - quarter]:.2f})")


if __name__ == "__main__":
    main()
