"""What was measured, as lines on a screen and as Markdown for the docs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.runner import Result


def row(result: Result) -> str:
    """Return a line of the table on the screen."""
    said = [f"{result.contender:22} {result.ms:10.3f} {result.p99_ms:10.3f}"]
    said.append(f"{'' if result.per_second is None else f'{result.per_second:,.0f}/s':>10}")
    said.append(f"{result.ratio:8.2f} ({result.low:.2f}-{result.high:.2f}) {result.rounds:3}")
    if result.p99_ratio is not None:
        said.append(f"p99 {result.p99_ratio:.2f}")
    said += goals(result)
    said += [
        f"{count:,} {name}" for name, count in result.verified.items() if name not in ("expected", "reads") and count
    ]
    return "  ".join(said)


def goals(result: Result) -> list[str]:
    """Return what the goals of a result were, and by how much each was missed."""
    found = []
    if result.goal is not None:
        more = result.per_second is not None
        reached = result.ratio >= result.goal if more else result.ratio <= result.goal
        missed = (result.goal / result.ratio if more else result.ratio / result.goal) - 1
        sign = ">=" if more else "<="
        found.append(f"{sign} {result.goal:.2f} {'yes' if reached else f'NO, by {missed:.0%}'}")
    if result.goal_p99 is not None and result.p99_ratio is not None:
        missed = result.p99_ratio / result.goal_p99 - 1
        found.append(f"p99 <= {result.goal_p99:.2f} {'yes' if missed <= 0 else f'NO, by {missed:.0%}'}")
    return found


def size_rows(sizes: Sequence[dict[str, Any]]) -> list[str]:
    """Return lines of what a message takes."""
    return [
        f"{each['contender']:22} {'' if each['bytes_on_disk'] is None else format(each['bytes_on_disk'], ',.0f'):>10} "
        f"{each['bytes_resident']:10,.0f}"
        for each in sizes
    ]


def markdown(report: dict[str, Any]) -> str:
    """Return what a report has as tables: the text of ``docs/performance/results.md``."""
    about = [f"Python {report['python']}", f"{report['cpus']} CPUs ({report['machine']})"]
    if "versions" in report:
        about += [f"Postgres {report['postgres']} with its defaults", report["loop"]]
        about += [f"{name} {version}" for name, version in report["versions"].items()]
    said = [
        f"# Results\n\nWritten by `make bench`, {report['time']}: {', '.join(about)}. "
        "[performance.md](../performance.md) says how it is measured and what it means.\n"
    ]
    if imported := report.get("imports"):
        said.append(_section("CPU time of imports and commands", _imports(imported)))
    if results := [Result(**each) for each in report.get("results", [])]:
        said += [
            _section("agentstore beside the floor", _ours(results)),
            _section("Everybody, to the floor", _everybody(results)),
            _section("Bytes a message", _sizes(report["sizes"])),
        ]
    if reading := report.get("reading"):
        said.append(_section(f"A session of {reading['messages']:,} messages, read in each way", _reading(reading)))
    if growth := report.get("growth"):
        said += [
            _section(f"Growth with {kind}", _growth([each for each in growth if each["grows"] == kind]))
            for kind in dict.fromkeys(each["grows"] for each in growth)
        ]
    if search := report.get("search"):
        said.append(_section("Search under load", _searching(search)))
    if moved := report.get("import"):
        said.append(_section(f"Export and import of {moved['messages']:,} messages", _moved(moved)))
    if boxes := report.get("sandboxes"):
        said.append(_section("Sandboxes of bubblewrap", _sandboxes(boxes)))
    return "\n".join(said)


def _section(title: str, rows: Iterable[Sequence[str]]) -> str:
    first, *others = rows
    lines = [first, ["---"] * len(first), *others]
    return f"## {title}\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _imports(found: Sequence[Mapping[str, Any]]) -> Iterable[Sequence[str]]:
    yield ["", "ms", "baseline, ms", "ratio", "goal"]
    for each in found:
        figures = [f"{each[name]:.1f}" for name in ("ms", "baseline")]
        yield [each["name"], *figures, f"{each['ratio']:.2f}", f"{each['goal']:.2f}"]


def _ours(results: Sequence[Result]) -> Iterable[Sequence[str]]:
    yield ["", "floor", "agentstore", "ratio (middle half)", "p99 to the floor's", "rounds", "goal"]
    by_case = _by_case(results)
    for case, found in by_case.items():
        floor, ours = found[_floor(found)], found["agentstore"]
        if ours.per_second is None or floor.per_second is None:
            values = [f"{floor.ms:.3f} ms", f"{ours.ms:.3f} ms"]
        else:
            values = [f"{floor.per_second:,.0f}/s", f"{ours.per_second:,.0f}/s"]
        tail = ours.p99_ratio if ours.p99_ratio is not None else ours.p99_ms / floor.p99_ms
        ratio = f"{ours.ratio:.2f} ({ours.low:.2f}-{ours.high:.2f})"
        yield [case, *values, ratio, f"{tail:.2f}", str(ours.rounds), "; ".join(goals(ours))]


def _everybody(results: Sequence[Result]) -> Iterable[Sequence[str]]:
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
    yield ["", "on disk, indexes included", "in memory, once its session was read"]
    for each in sizes:
        disk = "" if each["bytes_on_disk"] is None else f"{each['bytes_on_disk']:,.0f}"
        yield [each["contender"], disk, f"{each['bytes_resident']:,.0f}"]


def _reading(reading: dict[str, Any]) -> Iterable[Sequence[str]]:
    yield ["", "ms", "to get_session", "MB that it leaves", "MB that it needs meanwhile"]
    for way, found in reading["ways"].items():
        yield [way, f"{found['ms']:.1f}", f"{found['ratio']:.2f}", f"{found['kept']:.0f}", f"{found['peak']:.0f}"]


def _growth(growth: Sequence[dict[str, Any]]) -> Iterable[Sequence[str]]:
    yield ["ms", *(f"{size:,}" for size in growth[0]["sizes"])]
    for each in growth:
        cells = zip(each["ms"], each["ratios"], strict=True)
        yield [each["call"], *(f"{ms:.2f} ({ratio:.2f})" for ms, ratio in cells)]


def _searching(search: dict[str, Any]) -> Iterable[Sequence[str]]:
    yield ["ms", "p50", "p95", "a second"]
    for name, found in search.items():
        if isinstance(found, dict):
            rate = found.get("searches_per_second")
            yield [name, f"{found['p50']:.1f}", f"{found['p95']:.1f}", "" if rate is None else f"{rate:,.0f}"]


def _moved(moved: dict[str, Any]) -> Iterable[Sequence[str]]:
    yield ["", "seconds", "MB in memory at the most", "before"]
    for name in ("export", "import"):
        done = moved[name]
        yield [name, f"{done['seconds']:.1f}", f"{done['megabytes']:.0f}", f"{done['before']:.0f}"]
    yield ["the import's rate to COPY's", ", ".join(f"{ratio:.2f}" for ratio in moved["ratios"]), "", ""]


def _sandboxes(boxes: dict[str, Any]) -> Iterable[Sequence[str]]:
    yield ["", "agentstore", "floor", "ratio (middle half)", "goal"]
    for each in boxes["calls"]:
        ratio = f"{each['ratio']:.2f} ({each['low']:.2f}-{each['high']:.2f})"
        yield [each["call"], f"{each['ms']:.2f} ms", f"{each['floor']}: {each['floor_ms']:.2f} ms", ratio, each["goal"]]
    yield [f"make {boxes['at_once']} at once", f"{boxes['at_once_s']:.1f} s", "", "", ""]
