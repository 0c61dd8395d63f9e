"""``agentstore extract``: a worker that runs until no work is due, or until it is stopped."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentstore.cli.connect import load_settings, run_with_store
from agentstore.cli.options import Cursor, Json, Limit, Url, Wide, new_group, require_text
from agentstore.cli.output import counted, echo, echo_error, echo_json
from agentstore.cli.tables import Column, Table, echo_page
from agentstore.cli.visible import format_id, one_line
from agentstore.errors import Unavailable, UnknownOutcome

if TYPE_CHECKING:
    from agentstore.schemas import Extracted
    from agentstore.store import AgentStore

commands = new_group()

_LONGEST_PAUSE = 60.0


class _Purpose(StrEnum):
    FACTS = "facts"
    EXPERIENCE = "experience"


@commands.command()
def extract(
    watch: Annotated[bool, typer.Option("--watch/--once", help="Run until stopped, or until nothing is due.")] = False,
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Only sessions of this user.", callback=require_text)
    ] = None,
    purpose: Annotated[
        _Purpose | None, typer.Option(help="What to extract; default: AGENTSTORE_EXTRACTION_PURPOSE.")
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Include sessions with recent additions, which may still continue.")
    ] = False,
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, max=100, help="Number of sessions processed concurrently.")
    ] = 1,
    interval: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0.01, max=3600, help="With --watch, seconds between polls when nothing is due."
        ),
    ] = 5.0,
    failed: Annotated[
        bool, typer.Option("--failed", help="List extractions that failed too often; extract nothing.")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Make the failed extractions due again; extract nothing.")
    ] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
    wide: Wide = False,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Extract facts from conversations with a language model.

    AGENTSTORE_EXTRACTION_URL and AGENTSTORE_EXTRACTION_MODEL name the model. Any number of workers may run
    concurrently. A failed extraction is retried later; a stopped worker releases the sessions that it has claimed.
    With --json, one line is printed for each part of a session.

    Exit code: 1 if an extraction failed. After SIGTERM: 143 with --once, since work may be left, and 0 with --watch.
    """
    if failed and retry:
        raise typer.BadParameter("give either --failed or --retry, not both")
    if failed:
        _list_failed(user, limit, cursor, wide, url, json_)
        return
    if retry:
        _retry(user, url, json_)
        return
    from agentstore.search.extraction import configured_extractor
    from agentstore.store import AgentStore

    settings = load_settings()
    if purpose is not None:
        settings = settings.model_copy(update={"extraction_purpose": purpose.value})
    extractor = configured_extractor(settings)

    async def main() -> int:
        async with AgentStore(url, settings=settings, extractor=extractor) as store:
            worker = _Worker(store, user, settled=not now, json_=json_)
            tasks = [asyncio.ensure_future(worker.watch(interval) if watch else worker.once()) for _ in range(workers)]
            running = asyncio.gather(*tasks)
            with suppress(NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _terminate, worker, running)
            try:
                await running
            except asyncio.CancelledError:
                if not worker.is_terminated:
                    raise
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)  # they release what they have claimed
            if watch:
                return 0
            if worker.is_terminated:
                return 128 + signal.SIGTERM
            if not worker.done and not json_:
                echo("nothing is due")
            return 0 if worker.all_succeeded else 1

    if code := asyncio.run(main()):
        raise typer.Exit(code)


def _terminate(worker: _Worker, running: asyncio.Future[Any]) -> None:
    worker.is_terminated = True
    running.cancel()


class _Worker:
    """The state that the tasks of one process share."""

    def __init__(self, store: AgentStore, user: str | None, *, settled: bool, json_: bool) -> None:
        self._store = store
        self._user = user
        self._settled = settled
        self._json = json_
        self.done = 0
        self.all_succeeded = True
        self.is_terminated = False

    async def once(self) -> None:
        """Extract until nothing is due or the endpoint does not respond."""
        while (extracted := await self._next()) is not None and not extracted.outage:
            pass

    async def watch(self, interval: float) -> None:
        """Extract until canceled; pause when nothing is due, with exponential backoff during an outage."""
        pause = interval
        while True:
            try:
                extracted = await self._next()
            except (Unavailable, UnknownOutcome) as error:
                echo_error(str(error))
                is_outage = True
            else:
                if extracted is not None and not extracted.outage:
                    pause = interval
                    continue
                is_outage = extracted is not None
            await asyncio.sleep(pause)
            pause = min(2 * pause, max(_LONGEST_PAUSE, interval)) if is_outage else interval

    async def _next(self) -> Extracted | None:
        for extracted in await self._store.memory.extract(self._user, limit=1, settled=self._settled):
            self.done += 1
            self.all_succeeded = self.all_succeeded and extracted.error is None
            self._print(extracted)
            return extracted
        return None

    def _print(self, extracted: Extracted) -> None:
        place = f"{format_id(extracted.user_id)} {format_id(extracted.session_id)}"
        if self._json:
            echo_json(
                {
                    "user_id": extracted.user_id,
                    "session_id": extracted.session_id,
                    "messages": extracted.messages,
                    "items": [item.model_dump(mode="json") for item in extracted.items],
                    "superseded": list(extracted.superseded),
                    "error": extracted.error,
                    "failed": extracted.failed,
                }
            )
        elif extracted.error is not None:
            outcome = "failed too often, not retried" if extracted.failed else "will be retried"
            echo_error(f"{one_line(extracted.error)} ({outcome})", label=place)
        else:
            written, superseded = len(extracted.items), len(extracted.superseded)
            echo(f"{place}: {counted(message=extracted.messages)}, {written:,} written, {superseded:,} superseded")


def _list_failed(user: str | None, limit: int, cursor: str | None, wide: bool, url: str | None, json_: bool) -> None:
    async def run(store: AgentStore) -> None:
        page = await store.memory.list_failed_extractions(user, limit=limit, cursor=cursor)
        if json_:
            found = [
                {
                    "user_id": each.user_id,
                    "session_id": each.session_id,
                    "first_position": each.first_position,
                    "last_position": each.last_position,
                    "attempts": each.attempts,
                    "failed_at": each.failed_at.isoformat(),
                    "error": each.error,
                }
                for each in page
            ]
            echo_json({"failed": found, "next_cursor": page.next_cursor})
            return
        rows = Table(
            Column("user", "id", heading=True),
            Column("session", "id"),
            Column("error", "text"),
            Column("positions"),
            Column("failed"),
        )
        for each in page:
            rows.add_row(
                format_id(each.user_id),
                format_id(each.session_id),
                each.error,
                f"{each.first_position}-{each.last_position}",
                f"{each.failed_at:%Y-%m-%d %H:%M}",
            )
        echo_page(rows, page, "no failed extractions", wide=wide)

    run_with_store(url, run)


def _retry(user: str | None, url: str | None, json_: bool) -> None:
    async def run(store: AgentStore) -> None:
        count = await store.memory.retry_failed_extractions(user)
        if json_:
            echo_json({"due": count})
        else:
            echo(f"due again: {count:,}")

    run_with_store(url, run)
