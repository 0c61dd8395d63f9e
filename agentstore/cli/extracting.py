"""The command that turns conversations into facts: a worker, for as long as there is work or for good."""

import asyncio
import signal
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.text import Text

from agentstore.cli.console import (
    Json,
    Url,
    as_text,
    complain,
    one_line,
    say,
    say_json,
    say_page,
    settings,
    shown_id,
    table,
    with_store,
)
from agentstore.cli.sessions import Cursor, Limit
from agentstore.errors import Unavailable, UnknownOutcome
from agentstore.schemas import Extracted
from agentstore.search.extraction import configured_extractor
from agentstore.store import AgentStore

app = typer.Typer()

_LONGEST_PAUSE = 60.0


class _Purpose(StrEnum):
    FACTS = "facts"
    EXPERIENCE = "experience"


@app.command()
def extract(
    watch: Annotated[bool, typer.Option("--watch/--once", help="Until stopped, or until nothing is due.")] = False,
    user: Annotated[str | None, typer.Option(help="Only that user's.", callback=as_text)] = None,
    purpose: Annotated[
        _Purpose | None, typer.Option(help="What is extracted; by default AGENTSTORE_EXTRACTION_PURPOSE.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Also from sessions that may still go on.")] = False,
    workers: Annotated[int, typer.Option(min=1, max=100, help="How many sessions at a time.")] = 1,
    interval: Annotated[float, typer.Option(min=0.01, max=3600, help="Seconds between looks for work.")] = 5.0,
    failed: Annotated[bool, typer.Option("--failed", help="List what failed too often instead.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Make what failed due again instead.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Extract facts from what was added to memory, by the model that AGENTSTORE_EXTRACTION_URL and _MODEL name.

    Any number of these may run at once. What fails is tried again later, and what is stopped is given back. With
    --json a line for each part of a session. Exit code 1 if something failed. Stopped by SIGTERM it is 143 with --once,
    which has not done all that was due, and 0 with --watch.
    """
    if failed and retry:
        raise typer.BadParameter("give either --failed or --retry")
    if failed:
        _list_failed(user, limit, cursor, url, json_)
        return
    if retry:
        _retry(user, url, json_)
        return
    chosen = settings()
    if purpose is not None:
        chosen = chosen.model_copy(update={"extraction_purpose": purpose.value})
    extractor = configured_extractor(chosen)

    async def main() -> int:
        async with AgentStore(url, settings=chosen, extractor=extractor) as store:
            worker = _Worker(store, user, settled=not now, json_=json_)
            work = [asyncio.ensure_future(worker.watch(interval) if watch else worker.once()) for _ in range(workers)]
            stopped = asyncio.gather(*work)
            with suppress(NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _stop, worker, stopped)
            try:
                await stopped
            except asyncio.CancelledError:
                if not worker.is_told_to_stop:
                    raise
            finally:
                for each in work:
                    each.cancel()
                await asyncio.gather(*work, return_exceptions=True)  # they give back what they are at
            if watch:
                return 0
            if worker.is_told_to_stop:
                return 128 + signal.SIGTERM
            if not worker.done and not json_:
                say("nothing is due")
            return 0 if worker.is_well else 1

    if code := asyncio.run(main()):
        raise typer.Exit(code)


def _stop(worker: "_Worker", work: "asyncio.Future[Any]") -> None:
    worker.is_told_to_stop = True
    work.cancel()


class _Worker:
    """What the tasks of one process share."""

    def __init__(self, store: AgentStore, user: str | None, *, settled: bool, json_: bool) -> None:
        self._store = store
        self._user = user
        self._settled = settled
        self._json = json_
        self.done = 0
        self.is_well = True
        self.is_told_to_stop = False

    async def once(self) -> None:
        """Work until nothing is due, or the endpoint is out."""
        while (extracted := await self._next()) is not None and not extracted.outage:
            pass

    async def watch(self, interval: float) -> None:
        """Work until cancelled; rest where nothing is due, and for longer each time where something is out."""
        pause = interval
        while True:
            try:
                extracted = await self._next()
            except (Unavailable, UnknownOutcome) as error:
                complain(str(error))
                is_out = True
            else:
                if extracted is not None and not extracted.outage:
                    pause = interval
                    continue
                is_out = extracted is not None
            await asyncio.sleep(pause)
            pause = min(2 * pause, max(_LONGEST_PAUSE, interval)) if is_out else interval

    async def _next(self) -> Extracted | None:
        for extracted in await self._store.memory.extract(self._user, limit=1, settled=self._settled):
            self.done += 1
            self.is_well = self.is_well and extracted.error is None
            self._print(extracted)
            return extracted
        return None

    def _print(self, extracted: Extracted) -> None:
        place = f"{shown_id(extracted.user_id)} {shown_id(extracted.session_id)}"
        if self._json:
            say_json(
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
            fate = "set aside" if extracted.failed else "tried again later"
            complain(f"{one_line(extracted.error)} ({fate})", label=place)
        else:
            written, ended = len(extracted.items), len(extracted.superseded)
            say(f"{place}: {extracted.messages:,} messages, {written:,} written, {ended:,} ended")


def _list_failed(user: str | None, limit: int, cursor: str | None, url: str | None, json_: bool) -> None:
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
            say_json({"failed": found, "next_cursor": page.next_cursor})
            return
        rows = table("user", "session", "error", positions=9, failed=16)
        for each in page:
            rows.add_row(
                Text(shown_id(each.user_id)),
                Text(shown_id(each.session_id)),
                Text(one_line(each.error)),
                f"{each.first_position}-{each.last_position}",
                f"{each.failed_at:%Y-%m-%d %H:%M}",
            )
        say_page(rows, page, "nothing has failed")

    with_store(url, run)


def _retry(user: str | None, url: str | None, json_: bool) -> None:
    async def run(store: AgentStore) -> None:
        count = await store.memory.retry_failed_extractions(user)
        if json_:
            say_json({"due": count})
        else:
            say(f"due again: {count:,}")

    with_store(url, run)
