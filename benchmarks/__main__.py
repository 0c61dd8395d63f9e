"""Compare agentstore with hand-written asyncpg (the floor), an ORM and packages that solve the same problem.

Each contender has its own process and environment. They use one server and take turns in rounds, until the ratios to
the floor are stable. Appended messages are read back and compared; lost messages are reported for every contender.
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

from benchmarks import (
    frameworks,
    growth,
    longmemeval,
    loops,
    reading,
    sandboxes,
    searching,
    startup,
    telemetry,
    transfer,
)
from benchmarks.cases import cases, writers
from benchmarks.report import markdown, row, size_rows
from benchmarks.runner import (
    AGENTSTORE,
    CONTENDERS,
    FLOOR,
    ORM,
    ContenderFailed,
    Result,
    contenders,
    measure,
    measure_writers,
    now,
    prefixes,
    server,
)
from benchmarks.runner import as_json as results_as_json
from benchmarks.runner import sizes as measure_sizes

# A part that needs a file which the caller has downloaded.
_LONGMEMEVAL = "longmemeval"
_PARTS = ["startup", "calls", "loops", "frameworks", "reading", "growth", "search", "import", "sandboxes", "telemetry"]


def _log(text: str) -> None:
    print(text, flush=True)


async def _measure_calls(options: argparse.Namespace, report: dict[str, Any]) -> bool:
    """Measure all contenders; return whether agentstore and the floor lost nothing."""
    rounds = 3 if options.quick else 41
    wanted = options.only.split(",") if options.only else [ORM] if options.quick else list(CONTENDERS)
    results: list[Result] = []
    async with server(options.url) as (url, url_of):
        admin = await asyncpg.connect(url)
        version = await admin.fetchval("SHOW server_version")
        names = list(dict.fromkeys([FLOOR, AGENTSTORE, *wanted]))
        async with contenders(url_of, admin, options.peers, names, _log) as running:
            versions = {each.about["name"]: each.about["version"] for each in running.values()}
            loop = running[AGENTSTORE].about["loop"]
            report.update(postgres=version, versions=versions, loop=loop)
            _log(f"Postgres {version}, {loop}, " + ", ".join(f"{name} {number}" for name, number in versions.items()))
            _log(f"{'':22} {'ms':>10} {'p99 ms':>10} {'appends':>10}   relative to the floor (middle half), rounds")
            for case in cases(quick=options.quick):
                _log(f"-- {case.name}" + (f", of {case.history:,}" if case.history else ""))
                for result in await measure(case, running, rounds, _log):
                    results.append(result)
                    _log(row(result))
            for scenario in writers(quick=options.quick):
                _log(f"-- {scenario.name}")
                # Cases with a goal need precision; the others are points of a plot.
                for result in await measure_writers(
                    scenario, running, rounds if scenario.goal else min(rounds, 7), _log
                ):
                    results.append(result)
                    _log(row(result))
            found = await prefixes(running, 64, 5 if options.quick else 20)
            report["prefixes"] = found
            for name, counts in found.items():
                _log(
                    f"{name}: {counts['wrong']} of {counts['reads']} reads during the appends of 64 writers were not a "
                    "prefix of the final order"
                )
            for process in running.values():
                await process.run("stop")
        # In new processes, so that memory from earlier cases is not counted.
        async with contenders(url_of, admin, options.peers, names, _log) as fresh:
            _log(f"-- bytes per message      {'on disk':>10} {'resident':>10}")
            report["sizes"] = await measure_sizes(fresh, url_of, 1_000 if options.quick else 10_000)
            for line in size_rows(report["sizes"]):
                _log(line)
        for module in running:
            await admin.execute(f'DROP DATABASE "bench_{module}" WITH (FORCE)')
        await admin.close()
    report["results"] = results_as_json(results)
    own = {running[name].about["name"] for name in (AGENTSTORE, FLOOR)}
    return all(result.is_whole for result in results if result.contender in own) and not any(
        counts["wrong"] or counts["lost"] for counts in found.values()
    )


async def _measure(part: str, options: argparse.Namespace, report: dict[str, Any]) -> bool:
    """Measure a part; return whether agentstore and the floor lost nothing."""
    if part == "calls":
        return await _measure_calls(options, report)
    if part == "reading":
        report[part] = await reading.measure(options.url, _log, quick=options.quick)
    elif part == "startup":
        report[part] = await startup.measure(options.url, _log, quick=options.quick)
    elif part == "loops":
        report[part] = await loops.measure(options.url, _log, quick=options.quick)
    elif part == "growth":
        report[part] = await growth.measure(options.url, options.large, _log, quick=options.quick)
    elif part == "search":
        report[part] = await searching.measure(options.url, _log, quick=options.quick)
    elif part == _LONGMEMEVAL:
        report[part] = await longmemeval.measure(options.url, options.longmemeval, _log, quick=options.quick)
    elif part == "frameworks":
        report[part], is_whole = await frameworks.measure_frameworks(
            options.url, options.adapters, _log, quick=options.quick
        )
        return is_whole
    elif part == "telemetry":
        report[part] = await telemetry.measure(options.url, _log, quick=options.quick)
    elif part == "sandboxes":
        report[part] = await sandboxes.measure(options.url, _log, quick=options.quick)
    else:
        report[part] = await transfer.measure(30_000 if options.quick else 1_000_000, 1 if options.quick else 3, _log)
    return True


def _write(report: dict[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report) + "\n", encoding="utf-8")
    if options.plots:
        from benchmarks import plots  # matplotlib is not installed in every environment

        plots.draw(report, options.plots)
        (options.plots / "results.md").write_text(markdown(report), encoding="utf-8")


def _parts(text: str) -> list[str]:
    known = [*_PARTS, _LONGMEMEVAL]
    if unknown := set(parts := text.split(",")) - set(known):
        raise argparse.ArgumentTypeError(
            f"unknown parts: {', '.join(sorted(unknown))}; expected some of {', '.join(known)}"
        )
    return parts


async def main() -> int:
    """Measure, print the results and write the requested files; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="take two minutes: compare with the ORM only, with less data and fewer rounds",
    )
    parser.add_argument(
        "--url", help="use this server, where the user may create databases, instead of an embedded one"
    )
    parser.add_argument("--peers", type=Path, help="the folder with the environments of the other packages")
    parser.add_argument(
        "--adapters", type=Path, help="the folder with the environments of the frameworks that have an adapter"
    )
    parser.add_argument("--only", help=f"the contenders besides agentstore and the floor, of {', '.join(CONTENDERS)}")
    parser.add_argument(
        "--parts", type=_parts, default=_PARTS, metavar=",".join(_PARTS), help="the parts to measure, in this order"
    )
    parser.add_argument(
        "--longmemeval", type=Path, metavar="FILE", help="LongMemEval's file of questions, for the part longmemeval"
    )
    parser.add_argument("--large", type=int, default=10_000_000, help="the number of rows of the largest table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to this file")
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help="write results.md and SVG plots to this folder (needs matplotlib)"
    )
    options = parser.parse_args()
    if _LONGMEMEVAL in options.parts and options.longmemeval is None:
        parser.error("the part longmemeval needs --longmemeval=FILE")
    report: dict[str, Any] = {
        "time": now(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }
    whole = True
    for part in options.parts:
        try:
            whole &= await _measure(part, options, report)
        except ContenderFailed as error:
            print(error, file=sys.stderr)
            return 1
        _write(report, options)  # after each part, because a run takes an hour and may be interrupted
    if not whole:
        print("messages were lost, duplicated or out of order: see above", file=sys.stderr)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
