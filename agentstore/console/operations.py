"""The pages about the database: the overview, the extraction queue, operations, and statements."""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any, TypeVar

from starlette.responses import Response

from agentstore import migrating
from agentstore.console import charts
from agentstore.console.view import PAGE_SIZE, Panel, View, load
from agentstore.database.database import Database
from agentstore.errors import AgentStoreError, NotConfigured, NotFound, Unavailable
from agentstore.operations.doctor import Finding, examine
from agentstore.operations.explain import describe, explain
from agentstore.operations.explain import statements as all_statements
from agentstore.operations.metrics import Figures, read_figures
from agentstore.schemas import Page, Stats

T = TypeVar("T")

# Seconds for which results are shared. The counts of all rows take longest.
_STATS, _CHECKS = 30.0, 60.0
_TIMEOUT = 20.0


async def overview(view: View) -> Response:
    """Show counts, growth, the largest users and sessions, the queue, the schema and what the doctor found."""
    stats, findings, figures, schema = await asyncio.gather(
        load(_stats(view)), _findings(view), _figures(view), _schema(view)
    )
    charts_of = {}
    if stats.value is not None:
        days = [(f"{each.day:%d %b}", each.sessions, each.messages) for each in stats.value.growth]
        charts_of = {
            "sessions": charts.bar_chart(
                [(day, sessions) for day, sessions, _ in days], view.text("Sessions by the day of their creation")
            ),
            "messages": charts.bar_chart(
                [(day, messages) for day, _, messages in days], view.text("Messages by the day of their session")
            ),
        }
    return view.render(
        "overview.html",
        stats=stats,
        charts=charts_of,
        findings=findings,
        jobs=_jobs(figures),
        figures=figures,
        schema=schema,
    )


async def _stats(view: View) -> Stats:
    return await view.console.recent.get("stats", _STATS, view.store.stats)


def _database(view: View) -> Database:
    """Return the database of the console.

    Raises:
        NotConfigured: the store is in memory.
    """
    if view.console.database is None:
        raise NotConfigured("this store is in memory: it has no database")
    return view.console.database


async def _findings(view: View) -> Panel[list[Finding]]:
    async def compute() -> list[Finding]:
        return await _within(examine(_database(view)))

    return await load(view.console.recent.get("findings", _CHECKS, compute))


async def _figures(view: View) -> Panel[Figures]:
    async def compute() -> Figures:
        return await _within(read_figures(_database(view)))

    return await load(view.console.recent.get("figures", 5.0, compute))


async def _schema(view: View) -> Panel[migrating.Status]:
    async def compute() -> migrating.Status:
        return await _within(migrating.status(_database(view)))

    return await load(view.console.recent.get("schema", 5.0, compute))


async def _within(call: Awaitable[T]) -> T:
    """Return the result of a call that reads the catalog.

    Raises:
        Unavailable: it takes too long.
        NotConfigured: the login lacks a privilege.
    """
    import asyncpg

    try:
        async with asyncio.timeout(_TIMEOUT):
            return await call
    except TimeoutError:
        raise Unavailable(f"no answer within {_TIMEOUT:.0f} seconds") from None
    except asyncpg.InsufficientPrivilegeError as error:
        raise NotConfigured(f"the login lacks a privilege: {error}") from error
    except asyncpg.PostgresError as error:
        raise AgentStoreError(f"the database refused a query of its catalog: {error}") from error


def _jobs(figures: Panel[Figures]) -> dict[str, int] | None:
    """Return the number of jobs of the extraction queue by their state."""
    if figures.value is None:
        return None
    jobs = figures.value.get("agentstore.extraction.jobs", [])
    return {labels["state"]: int(value) for value, labels in jobs}


async def queue(view: View) -> Response:
    """Show how many jobs there are in each state, and those that wait, are leased or have failed."""
    user_id = view.query("user") or None
    tab = view.query("show")
    memory = view.store.memory
    place: dict[str, Any] = {"limit": PAGE_SIZE, "cursor": view.cursor()}
    listing: Awaitable[Page[Any]]
    if tab == "failed":
        listing = memory.list_failed_extractions(user_id, **place)
    else:
        tab = tab if tab == "leased" else "waiting"
        listing = memory.list_pending_extractions(user_id, leased=tab == "leased", **place)
    figures, listed = await asyncio.gather(_figures(view), load(listing))
    age = (figures.value or {}).get("agentstore.extraction.oldest_due.age", [(0.0, {})])[0][0]
    return view.render(
        "queue.html",
        figures=figures,
        jobs=_jobs(figures),
        oldest=age,
        tab=tab,
        listed=listed,
        user_id=user_id,
        now=datetime.now(UTC),
    )


async def operations(view: View) -> Response:
    """Show the schema, planned migrations, tables and indexes, connections, slow statements, the doctor's findings."""
    recent = view.console.recent

    async def drift() -> list[migrating.Difference]:
        return await _within(migrating.find_drift(_database(view)))

    async def planned() -> list[migrating.Planned]:
        return await _within(migrating.plan(_database(view)))

    async def security() -> migrating.RowSecurity:
        return await _within(migrating.row_security_status(_database(view)))

    stats, findings, schema, differences, plan, rows = await asyncio.gather(
        load(_stats(view)),
        _findings(view),
        _schema(view),
        load(recent.get("drift", _CHECKS, drift)),
        load(recent.get("plan", _CHECKS, planned)),
        load(recent.get("row security", _CHECKS, security)),
    )
    times = sorted(recent.statements.values(), key=lambda each: -each.longest)[:20]
    return view.render(
        "operations.html",
        stats=stats,
        findings=findings,
        schema=schema,
        differences=differences,
        plan=plan,
        row_security=rows,
        pool=view.store.pool_stats(),
        times=times,
        reports=list(recent.reports)[-10:],
        largest=max((each.total_bytes for each in stats.value.tables), default=0) if stats.value else 0,
    )


async def statements(view: View) -> Response:
    """List the statements of the library, or explain one: what it is for, its SQL, and its plan in this database.

    Raises:
        NotFound: there is no such statement.
    """
    database = _database(view)
    name = view.query("name")
    if not name:
        listed = await asyncio.to_thread(lambda: [describe(each, database.settings) for each in all_statements()])
        return view.render("statements.html", statements=listed, found=None, name="")
    if name not in await asyncio.to_thread(all_statements):
        raise NotFound(f"there is no statement {name[:80]!r}")
    found = await load(_within(explain(database, name)))
    return view.render("statements.html", statements=[], found=found, name=name)


async def keys(view: View) -> Response:
    """List the keys that the console understands."""
    return view.render("keys.html")
