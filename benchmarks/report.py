"""Format measurements, as lines for the terminal and as Markdown for the docs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.longmemeval import METRICS
from benchmarks.runner import Result


def row(result: Result) -> str:
    """Return a line of the table that is printed."""
    cells = [f"{result.contender:22} {result.ms:10.3f} {result.p99_ms:10.3f}"]
    cells.append(f"{'' if result.per_second is None else f'{result.per_second:,.0f}/s':>10}")
    cells.append(f"{result.ratio:8.2f} ({result.low:.2f}-{result.high:.2f}) {result.rounds:3}")
    if result.p99_ratio is not None:
        cells.append(f"p99 {result.p99_ratio:.2f}")
    cells += goals(result)
    cells += [
        f"{count:,} {name}" for name, count in result.verified.items() if name not in ("expected", "reads") and count
    ]
    return "  ".join(cells)


def goals(result: Result) -> list[str]:
    """Return the goals of a result, and by how much each was missed."""
    found = []
    if result.goal is not None:
        is_rate = result.per_second is not None
        excess = (result.goal / result.ratio if is_rate else result.ratio / result.goal) - 1
        found.append(f"{'>=' if is_rate else '<='} {result.goal:.2f}, {_verdict(excess)}")
    if result.goal_p99 is not None and result.p99_ratio is not None:
        found.append(f"p99 <= {result.goal_p99:.2f}, {_verdict(result.p99_ratio / result.goal_p99 - 1)}")
    return found


def _verdict(excess: float) -> str:
    return "met" if excess <= 0 else f"MISSED by {excess:.1%}"


def size_rows(sizes: Sequence[dict[str, Any]]) -> list[str]:
    """Return lines with the size of a message."""
    return [
        f"{each['contender']:22} {'' if each['bytes_on_disk'] is None else format(each['bytes_on_disk'], ',.0f'):>10} "
        f"{each['bytes_resident']:10,.0f}"
        for each in sizes
    ]


def markdown(report: dict[str, Any]) -> str:
    """Return a report as tables: the text of ``docs/performance/results.md``."""
    about = [f"Python {report['python']}", f"{report['cpus']} CPUs ({report['machine']})"]
    if "versions" in report:
        about += [f"Postgres {report['postgres']} with its defaults", report["loop"]]
        about += [f"{name} {version}" for name, version in report["versions"].items()]
    sections = [
        f"# Results\n\nWritten by `make bench`, {report['time']}: {', '.join(about)}. "
        "[performance.md](../performance.md) describes the method and discusses the figures.\n"
    ]
    if imported := report.get("startup"):
        sections.append(_section("CPU time of imports and commands", _imports(imported)))
    if results := [Result(**each) for each in report.get("results", [])]:
        sections += [
            _section("agentstore compared with the floor", _agentstore(results)),
            _section("All contenders, relative to the floor", _contenders(results)),
            _section("Bytes per message", _sizes(report["sizes"])),
        ]
    if short := report.get("loops"):
        sections.append(_section("Calls in short event loops", _loops(short)))
    if reading := report.get("reading"):
        sections.append(_section(f"Ways to read a session of {reading['messages']:,} messages", _reading(reading)))
    if telemetry := report.get("telemetry"):
        sections.append(_section("Telemetry: an append of one caller", _telemetry(telemetry)))
    if growth := report.get("growth"):
        sections += [
            _section(f"Growth with the number of {kind}", _growth([each for each in growth if each["grows"] == kind]))
            for kind in dict.fromkeys(each["grows"] for each in growth)
        ]
    if search := report.get("search"):
        sections.append(_section("Search under load", _searching(search)))
    if found := report.get("longmemeval"):
        title = f"Sessions found, of {found['questions']} questions of {found['file']}"
        sections.append(_section(title, _longmemeval(found)))
    if transfer := report.get("import"):
        sections.append(_section(f"Export and import of {transfer['messages']:,} messages", _transfer(transfer)))
    if measured := report.get("frameworks"):
        sections.append(_section("Frameworks on agentstore", _frameworks(measured)))
    if sandboxes := report.get("sandboxes"):
        sections.append(_section("Sandboxes of bubblewrap", _sandboxes(sandboxes)))
    return "\n".join(sections)


def _section(title: str, rows: Iterable[Sequence[str]]) -> str:
    first, *others = rows
    lines = [first, ["---"] * len(first), *others]
    return f"## {title}\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _imports(found: Sequence[Mapping[str, Any]]) -> Iterable[Sequence[str]]:
    yield ["", "ms", "baseline, ms", "ratio", "goal"]
    for each in found:
        figures = [f"{each[name]:.1f}" for name in ("ms", "baseline")]
        yield [each["name"], *figures, f"{each['ratio']:.2f}", f"{each['goal']:.2f}"]


def _loops(found: Sequence[Mapping[str, Any]]) -> Iterable[Sequence[str]]:
    times = ("run, ms", "its calls, ms", "the calls in one loop, ms", "a run without calls, ms", "our CPU time, ms")
    yield ["call", "calls in each asyncio.run", *times, "ratio of the run", "of its calls", "goal"]
    for each in found:
        goal = "" if each["goal"] is None else f"<= {each['goal']:.2f}"
        names = ("run_ms", "calls_ms", "one_ms", "empty_ms", "ours_cpu_ms")
        figures = [f"{each[name]:.3f}" for name in names]
        yield [each["name"], str(each["calls"]), *figures, f"{each['ratio']:.2f}", f"{each['calls_ratio']:.2f}", goal]


def _agentstore(results: Sequence[Result]) -> Iterable[Sequence[str]]:
    yield ["", "floor", "agentstore", "ratio (middle half)", "p99 relative to the floor", "rounds", "goal"]
    by_case = _by_case(results)
    for case, found in by_case.items():
        floor, own = found[_floor(found)], found["agentstore"]
        if own.per_second is None or floor.per_second is None:
            values = [f"{floor.ms:.3f} ms", f"{own.ms:.3f} ms"]
        else:
            values = [f"{floor.per_second:,.0f}/s", f"{own.per_second:,.0f}/s"]
        tail = own.p99_ratio if own.p99_ratio is not None else own.p99_ms / floor.p99_ms
        ratio = f"{own.ratio:.2f} ({own.low:.2f}-{own.high:.2f})"
        yield [case, *values, ratio, f"{tail:.2f}", str(own.rounds), "; ".join(goals(own))]


def _contenders(results: Sequence[Result]) -> Iterable[Sequence[str]]:
    names = list(dict.fromkeys(each.contender for each in results if not each.contender.startswith("floor")))
    yield ["", *names]
    for case, found in _by_case(results).items():
        yield [case, *(_cell(found[name]) if name in found else "" for name in names)]


def _by_case(results: Sequence[Result]) -> dict[str, dict[str, Result]]:
    by_case: dict[str, dict[str, Result]] = {}
    for each in results:
        by_case.setdefault(each.case, {})[each.contender] = each
    return by_case


def _floor(found: dict[str, Result]) -> str:
    return next(name for name in found if name.startswith("floor"))


def _cell(result: Result) -> str:
    text = f"{result.ratio:.2f}" if result.ratio < 10 else f"{result.ratio:,.0f}"
    lost = result.verified.get("lost", 0)
    return f"{text}, loses {lost / result.verified['expected']:.0%}" if lost else text


def _sizes(sizes: Sequence[dict[str, Any]]) -> Iterable[Sequence[str]]:
    yield ["", "on disk, with indexes", "in memory, after its session was read"]
    for each in sizes:
        disk = "" if each["bytes_on_disk"] is None else f"{each['bytes_on_disk']:,.0f}"
        yield [each["contender"], disk, f"{each['bytes_resident']:,.0f}"]


def _reading(reading: dict[str, Any]) -> Iterable[Sequence[str]]:
    yield ["", "ms", "relative to get_session", "MB afterwards", "MB at the peak"]
    for way, found in reading["ways"].items():
        yield [way, f"{found['ms']:.1f}", f"{found['ratio']:.2f}", f"{found['kept']:.0f}", f"{found['peak']:.0f}"]


def _telemetry(kinds: dict[str, dict[str, dict[str, float]]]) -> Iterable[Sequence[str]]:
    yield ["", "us", "relative to a store without", "us of client CPU", "relative"]
    for kind, found in kinds.items():
        cells = [kind]
        for each in (found["wall"], found["cpu"]):
            cells += [f"{each['seconds'] * 1e6:.0f}", f"{each['ratio']:.2f} ({each['low']:.2f}-{each['high']:.2f})"]
        yield cells


def _growth(growth: Sequence[dict[str, Any]]) -> Iterable[Sequence[str]]:
    yield ["ms", *(f"{size:,}" for size in growth[0]["sizes"])]
    for each in growth:
        cells = zip(each["ms"], each["ratios"], strict=True)
        yield [each["call"], *(f"{ms:.2f} ({ratio:.2f})" for ms, ratio in cells)]


def _searching(search: dict[str, Any]) -> Iterable[Sequence[str]]:
    yield ["ms", "p50", "p95", "searches per second"]
    for name, found in search.items():
        if isinstance(found, dict):
            rate = found.get("searches_per_second")
            yield [name, f"{found['p50']:.1f}", f"{found['p95']:.1f}", "" if rate is None else f"{rate:,.0f}"]


def _longmemeval(found: dict[str, Any]) -> Iterable[Sequence[str]]:
    yield ["%", *METRICS]
    for strategy, means in found["strategies"].items():
        yield [strategy, *("{mean:.1f} ({low:.1f}-{high:.1f})".format(**means[name]) for name in METRICS)]


def _transfer(transfer: dict[str, Any]) -> Iterable[Sequence[str]]:
    yield ["", "seconds", "MB at the peak", "MB before"]
    for name in ("export", "import"):
        done = transfer[name]
        yield [name, f"{done['seconds']:.1f}", f"{done['megabytes']:.0f}", f"{done['before']:.0f}"]
    yield ["import rate relative to COPY", ", ".join(f"{ratio:.2f}" for ratio in transfer["ratios"]), "", ""]


def _frameworks(measured: Sequence[dict[str, Any]]) -> Iterable[Sequence[str]]:
    yield ["store", "call", "time, or rate", "relative to the framework's own store", "goal"]
    for each in (Result(**values) for values in measured):
        value = f"{each.ms:.2f} ms" if each.per_second is None else f"{each.per_second:,.0f}/s"
        ratio = f"{each.ratio:.2f} ({each.low:.2f}-{each.high:.2f})"
        yield [each.contender, each.case, value, ratio, ", ".join(goals(each))]


def _sandboxes(sandboxes: dict[str, Any]) -> Iterable[Sequence[str]]:
    yield ["", "agentstore", "floor", "ratio (middle half)", "goal"]
    for each in sandboxes["calls"]:
        ratio = f"{each['ratio']:.2f} ({each['low']:.2f}-{each['high']:.2f})"
        yield [each["call"], f"{each['ms']:.2f} ms", f"{each['floor']}: {each['floor_ms']:.2f} ms", ratio, each["goal"]]
    yield [f"create {sandboxes['at_once']} concurrently", f"{sandboxes['at_once_s']:.1f} s", "", "", ""]
