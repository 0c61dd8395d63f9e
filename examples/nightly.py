"""A nightly job: back up, delete what is old, and report. ``python nightly.py /backups``."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agentstore import AgentStore, Retryable

OLD = timedelta(days=90)


async def back_up(store: AgentStore, folder: Path) -> None:
    """Write today's export; one that was interrupted is resumed."""
    path = folder / f"{datetime.now(UTC):%Y-%m-%d}.jsonl"
    path.touch(mode=0o600)
    with path.open("r+b") as file:
        progress = await store.export(file)
    print(f"{path}: {'complete already' if progress is None else f'{path.stat().st_size:,} bytes'}")


async def work(folder: Path) -> None:
    """Do all steps; each may be repeated."""
    async with AgentStore() as store:
        await back_up(store, folder)
        print("deleted:", await store.prune(OLD, keep_last=50, max_time=timedelta(hours=2)))
        print("stored:", await store.stats())


async def work_patiently(folder: Path) -> None:
    """Repeat the work if the database fails for a while."""
    for seconds in (60, 600):
        try:
            return await work(folder)
        except Retryable as error:
            print(f"again in {seconds} s: {error}", file=sys.stderr)
            await asyncio.sleep(seconds)
    return await work(folder)


if __name__ == "__main__":
    asyncio.run(work_patiently(Path(sys.argv[1])))
