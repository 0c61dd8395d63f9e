"""What was measured, as a table and as Markdown."""

from collections.abc import Sequence
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


def markdown(results: Sequence[Result]) -> str:
    """Return a table of the ratios to the floor: a line a case, a column a contender."""
    names = list(dict.fromkeys(each.contender for each in results))
    lines = ["| | floor | " + " | ".join(name for name in names if not name.startswith("floor")) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    by_case: dict[str, dict[str, Result]] = {}
    for each in results:
        by_case.setdefault(each.case, {})[each.contender] = each
    for case, found in by_case.items():
        cells = [case]
        for name in sorted(names, key=lambda name: not name.startswith("floor")):
            result = found.get(name)
            if result is None:
                cells.append("")
            elif name.startswith("floor"):
                cells.append(f"{result.ms:.2f} ms" if result.per_second is None else f"{result.per_second:,.0f}/s")
            else:
                cells.append(_cell(result))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def size_rows(sizes: Sequence[dict[str, Any]]) -> list[str]:
    """Return lines of what a message takes."""
    return [
        f"{each['contender']:22} {'' if each['bytes_on_disk'] is None else format(each['bytes_on_disk'], ',.0f'):>10} "
        f"{each['bytes_resident']:10,.0f}"
        for each in sizes
    ]


def _cell(result: Result) -> str:
    text = f"{result.ratio:.2f}" if result.ratio < 10 else f"{result.ratio:,.0f}"
    lost = result.verified.get("lost", 0)
    return f"{text}, loses {lost / result.verified['expected']:.0%}" if lost else text
