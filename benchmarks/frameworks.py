"""Frameworks on agentstore, compared with the Postgres stores that they bring: both in the framework's environment."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.cases import Case, Writers
from benchmarks.report import row
from benchmarks.runner import AGENTSTORE, FLOOR, Result, as_json, contenders, measure, measure_writers, server

# The environment of each framework, of which `make adapters` creates those of ADAPTERS in the Makefile, its own store,
# the adapter, and other stores of it.
FRAMEWORKS = [
    ("openai-agents.PINNED", "openai_agents", "agentstore_openai_agents", ()),
    ("adk.PINNED", "google_adk", "agentstore_google_adk", ()),
    ("langgraph.PINNED", "langgraph_store", "agentstore_langgraph_store", ("langgraph_sqlite_store",)),
    ("langgraph.PINNED", "langgraph_saver", "agentstore_langgraph_saver", ("langgraph_sqlite_saver",)),
]


def _cases(*, quick: bool) -> list[Case]:
    sessions = 1_000 if quick else 10_000
    return [
        Case("ten turns of a new conversation", "append", "converse", {}, goal=1 / 3, max_calls=20),
        _list(sessions, 20, goal=1 / 20),
        _list(sessions, 20, look_at=True),
        _list(sessions, 2),
        _list(sessions, 0),
        Case(f"get one of {sessions:,} items", "get_item", "get_item", {}, history=sessions, goal=1.5),
        Case("put an item", "put_item", "put_item", {}, history=sessions, goal=2.5),
        _state("put a checkpoint with 17 KB", "save_state", quick=quick, goal=1.2),
        _state("get the last checkpoint", "load_state", quick=quick, goal=1.3),
        Case(f"search {sessions:,} items by a field", "search_items", "search_items", {}, history=sessions, goal=1),
    ]


def _list(sessions: int, kilobytes: int, *, look_at: bool = False, goal: float | None = None) -> Case:
    name = f"list {sessions:,} sessions with {kilobytes} KB of state{', and look at each state' * look_at}"
    arguments = {"kilobytes": kilobytes, "look_at": look_at}
    return Case(name, "create_with_state", "list_with_state", arguments, history=sessions, goal=goal, max_calls=20)


def _state(name: str, method: str, *, quick: bool, goal: float) -> Case:
    history = 100 if quick else 1_000
    return Case(f"{name} of {history:,}", "save_state", method, {"session": "state"}, history=history, goal=goal)


async def measure_frameworks(
    url: str | None, adapters: Path | None, log: Callable[[str], None], *, quick: bool
) -> tuple[list[dict[str, Any]], bool]:
    """Measure each framework whose environment exists; return the results, and whether nothing was lost.

    The framework's own store is what the ratios are relative to.
    """
    rounds = 5 if quick else 15
    results: list[Result] = []
    async with server(url) as (admin_url, url_of):
        admin = await asyncpg.connect(admin_url)
        for environment, theirs, ours, others in FRAMEWORKS:
            names = (theirs, ours, *others)
            environments = dict.fromkeys(names, environment)
            async with contenders(url_of, admin, adapters, names, log, environments=environments) as running:
                if len(running) < 2:
                    log(f"-- {environment} does not exist: `make adapters` creates it")
                    continue
                compared = {FLOOR: running[theirs], AGENTSTORE: running[ours]} | {
                    each: running[each] for each in others
                }
                about = running[theirs].about
                log(f"-- {about['name']} {about['version']}: its own store, and agentstore relative to it")
                for case in _cases(quick=quick):
                    if case.requires in about["methods"]:
                        results += _logged(await measure(case, compared, rounds, log), log)
                if "append" in about["methods"]:
                    writers = Writers("64 writers, 64 sessions", 64, 64, goal=3)
                    results += _logged(await measure_writers(writers, compared, rounds, log), log)
                for process in running.values():
                    await process.run("stop")
            for module in names:
                await admin.execute(f'DROP DATABASE IF EXISTS "bench_{module}" WITH (FORCE)')
        await admin.close()
    own = [result for result in results if result.contender.startswith("agentstore")]
    return as_json(results), all(result.is_whole for result in own)


def _logged(results: list[Result], log: Callable[[str], None]) -> list[Result]:
    log(f"   {results[0].case}")
    for result in results:
        log(row(result))
    return results
