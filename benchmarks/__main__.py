"""``make bench``: what each call costs, of ours, of the floor, of an ORM, and of the packages that people use instead.

Each runs in a process and an environment of its own, on one server, in rounds that they take in turn, until the ratios
to the floor are stable. What was appended is read back and compared, of everybody, as it is measured; whoever loses
something is not left out, it is said.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks import growth, imports, reading, sandboxes, searching, transfer
from benchmarks.cases import cases, writers
from benchmarks.report import markdown, row, size_rows
from benchmarks.runner import (
    CONTENDERS,
    FLOOR,
    ORM,
    OURS,
    Failed,
    Result,
    contenders,
    crowd,
    measure,
    now,
    prefixes,
    server,
)
from benchmarks.runner import as_json as results_as_json
from benchmarks.runner import sizes as measure_sizes

_PARTS = ["imports", "calls", "reading", "growth", "search", "import", "sandboxes"]


def _log(text: str) -> None:
    print(text, flush=True)


async def _side_by_side(given: argparse.Namespace, report: dict[str, Any]) -> bool:
    """Measure everybody; return whether ours and the floor lost nothing."""
    rounds = 3 if given.quick else 41
    wanted = given.only.split(",") if given.only else [ORM] if given.quick else list(CONTENDERS)
    results: list[Result] = []
    async with server(given.url) as (url, url_of):
        admin = await asyncpg.connect(url)
        version = await admin.fetchval("SHOW server_version")
        names = list(dict.fromkeys([FLOOR, OURS, *wanted]))
        async with contenders(url_of, admin, given.peers, names, _log) as running:
            versions = {each.about["name"]: each.about["version"] for each in running.values()}
            loop = running[OURS].about["loop"]
            report.update(postgres=version, versions=versions, loop=loop)
            _log(f"Postgres {version}, {loop}, " + ", ".join(f"{name} {of}" for name, of in versions.items()))
            _log(f"{'':22} {'ms':>10} {'p99 ms':>10} {'appends':>10}   to the floor (middle half), rounds")
            for case in cases(quick=given.quick):
                _log(f"-- {case.name}" + (f", of {case.history:,}" if case.history else ""))
                for result in await measure(case, running, rounds, _log):
                    results.append(result)
                    _log(row(result))
            for one in writers(quick=given.quick):
                _log(f"-- {one.name}")
                # The goals are to be known well; the other crowds are points of a plot.
                for result in await crowd(one, running, rounds if one.goal else min(rounds, 7), _log):
                    results.append(result)
                    _log(row(result))
            found = await prefixes(running, 64, 5 if given.quick else 20)
            report["prefixes"] = found
            for name, counts in found.items():
                _log(
                    f"{name}: of {counts['reads']} reads beside 64 writers {counts['wrong']} were no prefix of the end"
                )
            for process in running.values():
                await process.ask("bye")
        # In new processes, which have no memory left of what was before.
        async with contenders(url_of, admin, given.peers, names, _log) as fresh:
            _log(f"-- bytes a message      {'on disk':>10} {'resident':>10}")
            report["sizes"] = await measure_sizes(fresh, url_of, 1_000 if given.quick else 10_000)
            for line in size_rows(report["sizes"]):
                _log(line)
        for module in running:
            await admin.execute(f'DROP DATABASE "bench_{module}" WITH (FORCE)')
        await admin.close()
    report["results"] = results_as_json(results)
    mine = {running[name].about["name"] for name in (OURS, FLOOR)}
    return all(result.is_whole for result in results if result.contender in mine) and not any(
        counts["wrong"] or counts["lost"] for counts in found.values()
    )


async def _measure(part: str, given: argparse.Namespace, report: dict[str, Any]) -> bool:
    """Measure a part; return whether ours and the floor lost nothing."""
    if part == "calls":
        return await _side_by_side(given, report)
    if part == "reading":
        report[part] = await reading.measure(given.url, _log, quick=given.quick)
    elif part == "imports":
        report[part] = await imports.measure(given.url, _log, quick=given.quick)
    elif part == "growth":
        report[part] = await growth.measure(given.url, given.large, _log, quick=given.quick)
    elif part == "search":
        report[part] = await searching.measure(given.url, _log, quick=given.quick)
    elif part == "sandboxes":
        report[part] = await sandboxes.measure(given.url, _log, quick=given.quick)
    else:
        report[part] = await transfer.measure(30_000 if given.quick else 1_000_000, 1 if given.quick else 3, _log)
    return True


def _write(report: dict[str, Any], given: argparse.Namespace) -> None:
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(report) + "\n", encoding="utf-8")
    if given.plots:
        from benchmarks import plots  # matplotlib is not in every environment

        plots.draw(report, given.plots)
        (given.plots / "results.md").write_text(markdown(report), encoding="utf-8")


def _parts(text: str) -> list[str]:
    if unknown := set(parts := text.split(",")) - set(_PARTS):
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(sorted(unknown))}")
    return parts


async def main() -> int:
    """Measure, print, and write what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes, beside the ORM: fewer rounds, less of each")
    parser.add_argument("--url", help="a server on which databases may be made, instead of an embedded one")
    parser.add_argument("--peers", type=Path, help="the folder of the other packages' environments")
    parser.add_argument("--only", help=f"whom to measure beside ours and the floor, of {', '.join(CONTENDERS)}")
    parser.add_argument(
        "--parts", type=_parts, default=_PARTS, metavar=",".join(_PARTS), help="which of these, in this order"
    )
    parser.add_argument("--large", type=int, default=10_000_000, help="the most rows of a table, as it grows")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write tables, and draw SVGs (needs matplotlib)")
    given = parser.parse_args()
    report: dict[str, Any] = {
        "time": now(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }
    whole = True
    for part in given.parts:
        try:
            whole &= await _measure(part, given, report)
        except Failed as error:
            print(error, file=sys.stderr)
            return 1
        _write(report, given)  # an hour's run may be ended before its end
    if not whole:
        print("something was lost, stored twice or out of order: see above", file=sys.stderr)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
