"""Draw the plots of the docs as SVG: the cost of calls, throughput, growth, distributions and flame graphs.

Each is drawn for light and dark pages, without a background. ``python -m benchmarks.plots BENCH.JSON FOLDER`` draws
those of a report again.
"""

import json
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

from benchmarks.themes import AGENTSTORE, DARK, LIGHT, MARKERS, Theme

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "agentstore",
    "font.family": ["sans-serif"],
    "figure.figsize": (8, 4.5),
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "savefig.transparent": True,
}
_NARROWEST = 0.004


@contextmanager
def _style(theme: Theme) -> Iterator[None]:
    colors = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    with plt.rc_context(_STYLE | dict.fromkeys(colors, theme.text) | {"grid.color": theme.grid}):
        yield


def draw(report: dict[str, Any], folder: Path) -> None:
    """Draw the plots of the parts that a report has."""
    folder.mkdir(parents=True, exist_ok=True)
    for theme in (LIGHT, DARK):
        with _style(theme):
            if results := report.get("results"):
                _costs(results, theme, folder / "calls.svg")
                _writers(results, theme, folder / "writers.svg")
                _latencies(results, theme, folder / "latencies.svg")
            if growth := report.get("growth"):
                _growth(growth, theme, folder / "growth.svg")


def draw_scale(found: list[dict[str, Any]], path: Path) -> None:
    """Draw the median time of each call by the size of the database, once it is analyzed."""
    by_call: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for each in found:
        if each["statistics"] == "analyzed":
            by_call[each["call"]].append((each["size"], each["median"]))
    for theme in (LIGHT, DARK):
        with _style(theme):
            figure, axes = plt.subplots()
            for number, (call, points) in enumerate(by_call.items()):
                axes.plot(*zip(*points, strict=True), **_line_of_call(number, theme), label=call)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.xaxis.set_major_formatter(_plain)
            axes.yaxis.set_major_formatter(_plain)
            axes.set_xlabel("messages in the database")
            axes.set_ylabel("ms")
            _save(figure, theme, path)


def flames(stacks: Mapping[tuple[str, ...], int], server_share: float, title: str, path: Path) -> None:
    """Draw a flame graph. The width of a function is its share of the time of the call; callers are below."""
    widths: dict[tuple[str, ...], float] = defaultdict(float)
    total = sum(stacks.values())
    for frames, count in stacks.items():
        names = _names(frames)
        for depth in range(1, len(names) + 1):
            widths[names[:depth]] += (1 - server_share) * count / total
    widths = {names: width for names, width in widths.items() if width >= _NARROWEST}
    for theme in (LIGHT, DARK):
        with _style(theme):
            _flames(widths, server_share, title, theme, path)


def _flames(widths: Mapping[tuple[str, ...], float], server_share: float, title: str, theme: Theme, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(12, 0.19 * max(map(len, widths)) + 0.6))
    ends: dict[tuple[str, ...], float] = defaultdict(float)
    for names in sorted(widths, key=lambda names: (len(names), names)):
        start = ends[names] if names in ends else ends[names[:-1]]
        ends[names[:-1]] = start + widths[names]
        ends[names] = start
        color = plt.get_cmap("YlOrRd")(0.15 + zlib.crc32(names[-1].encode()) % 100 / 200)
        _block(axes, start, len(names) - 1, widths[names], names[-1], color, theme)
    _block(axes, 1 - server_share, 0, server_share, "waiting for the server", "lightsteelblue", theme)
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(map(len, widths)))
    axes.set_title(title, fontsize=9)
    _save(figure, theme, path, legend=False)


def _block(axes: Any, x: float, y: float, width: float, label: str, color: Any, theme: Theme) -> None:
    axes.broken_barh([(x, width)], (y, 0.92), facecolors=color, edgecolor=theme.background, linewidth=0.4)
    letters = int(width * 190)
    if letters >= 3:
        text = label if len(label) <= letters else label[: letters - 1] + "…"
        axes.text(x + 0.002, y + 0.42, text, fontsize=6, va="center", color="black", clip_on=True)


def _names(frames: Sequence[str]) -> tuple[str, ...]:
    """Return the functions of a stack. Those without a name are shown as their library, once."""
    names: list[str] = []
    for frame in frames:
        name, _, where = frame.partition(" (")
        if name.startswith("0x"):
            name = where.rsplit("/", 1)[-1].split(".")[0].rstrip(")").lstrip("_") or "?"
        if not names or names[-1] != name:
            names.append(name)
    return tuple(names)


def _costs(results: list[dict[str, Any]], theme: Theme, path: Path) -> None:
    """Draw the time of each call relative to the floor, on a logarithmic axis."""
    calls = [each for each in results if each["per_second"] is None]
    cases = list(dict.fromkeys(each["case"] for each in calls))
    figure, axes = plt.subplots()
    for name in dict.fromkeys(each["contender"] for each in calls):
        own = {each["case"]: each["ratio"] for each in calls if each["contender"] == name}
        places = [cases.index(case) for case in own]
        axes.plot(places, list(own.values()), **(_line(name, theme) | {"linestyle": "none"}))
    axes.set_xticks(range(len(cases)), cases, rotation=30, ha="right")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_plain)
    axes.set_ylabel("time relative to the floor")
    axes.axhline(1, color=theme.text, linewidth=0.8)
    _name_line(axes, -1, (10, 7), "left")
    _save(figure, theme, path)


def _writers(results: list[dict[str, Any]], theme: Theme, path: Path) -> None:
    """Draw appends per second by number of writers, each to its own session and all to one."""
    figure, two_axes = plt.subplots(1, 2, sharex=True, sharey=True)
    throughputs = [each for each in results if each["per_second"]]
    for axes, is_one_session in zip(two_axes, (False, True), strict=True):
        found = [each for each in throughputs if ("one session" in each["case"]) == is_one_session]
        for name in dict.fromkeys(each["contender"] for each in found):
            own = [(_writers_of(each), each["per_second"]) for each in found if each["contender"] == name]
            axes.plot(*zip(*sorted(own), strict=True), **_line(name, theme))
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        writers = sorted({_writers_of(each) for each in throughputs})
        axes.set_xticks(writers, [str(each) for each in writers])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(_plain)
        axes.set_xlabel("writers to one session" if is_one_session else "writers, each to its own session")
        _name_line(axes, -1, (0, 9), "right")
    two_axes[0].set_ylabel("appends per second")
    _save(figure, theme, path)


def _writers_of(result: dict[str, Any]) -> int:
    return int(result["case"].split()[0])


def _latencies(results: list[dict[str, Any]], theme: Theme, path: Path) -> None:
    """Draw the distribution of append latencies: with one writer, and with 64."""
    figure, two_axes = plt.subplots(1, 2)
    for axes, case in zip(two_axes, ("append 1", "64 writers, 64 sessions"), strict=True):
        for each in results:
            if each["case"] == case:
                milliseconds = [max(1e-3, ms) for ms in each["quantiles_ms"]]
                axes.plot(milliseconds, range(101), **_line(each["contender"], theme), markevery=(5, 15))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(_plain)
        axes.set_xlabel(f"ms, {case}")
        _name_line(axes, 50, (-14, 0), "right")
    two_axes[0].set_ylabel("% of calls")
    _save(figure, theme, path)


def _growth(growth: list[dict[str, Any]], theme: Theme, path: Path) -> None:
    """Draw the time of each call by size."""
    kinds = list(dict.fromkeys(each["grows"] for each in growth))
    figure, all_axes = plt.subplots(1, len(kinds), sharey=True, figsize=(12, 5.5))
    # Calls that differ in what follows a comma have the same color in two panels, and no two in one panel have.
    numbers: dict[str, int] = {}
    for kind in kinds:
        calls = list(dict.fromkeys(each["call"].split(",")[0] for each in growth if each["grows"] == kind))
        free = (number for number in range(len(theme.calls)) if number not in {numbers.get(call) for call in calls})
        for call in calls:
            if call not in numbers:
                numbers[call] = next(free)
    for axes, kind in zip(all_axes, kinds, strict=True):
        for each in growth:
            if each["grows"] == kind:
                line = _line_of_call(numbers[each["call"].split(",")[0]], theme)
                axes.plot(each["sizes"], each["ms"], **line, label=each["call"])
        axes.set_xscale("log")
        axes.set_yscale("log")
        sizes = sorted({size for each in growth if each["grows"] == kind for size in each["sizes"]})
        axes.set_xticks(sizes, [_size(each) for each in sizes], fontsize=8)
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(_plain)
        axes.set_xlabel(kind)
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.14), frameon=False)
    all_axes[0].set_ylabel("ms")
    _save(figure, theme, path, legend=False)


def _line(name: str, theme: Theme) -> dict[str, Any]:
    """Return how the line of a contender is drawn."""
    is_agentstore = name == AGENTSTORE
    return {
        "label": name,
        "color": theme.contenders[name],
        "zorder": 3 if is_agentstore else 2,
        "marker": MARKERS[name],
        "markersize": 6 if is_agentstore else 4.5,
        "linewidth": 2.2 if is_agentstore else 1.2,
    }


def _line_of_call(number: int, theme: Theme) -> dict[str, Any]:
    """Return how the line of a call is drawn, in a plot of agentstore alone."""
    markers = list(MARKERS.values())
    color = theme.calls[number % len(theme.calls)]
    return {"color": color, "marker": markers[number % len(markers)], "markersize": 4.5, "linewidth": 1.4}


def _plain(value: float, _: Any) -> str:
    """Return the label of a tick: a number without an exponent."""
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _size(value: int) -> str:
    """Return the label of a size, short enough for a narrow panel."""
    return f"{value // 1_000_000:,} million" if value >= 1_000_000 else f"{value:,}"


def _name_line(axes: Any, point: int, offset: tuple[int, int], alignment: str) -> None:
    """Write the name of agentstore beside one of the points of its line."""
    for line in axes.get_lines():
        if line.get_label() == AGENTSTORE:
            axes.annotate(
                AGENTSTORE,
                (line.get_xdata()[point], line.get_ydata()[point]),
                xytext=offset,
                textcoords="offset points",
                ha=alignment,
                va="center",
                color=line.get_color(),
                fontweight="bold",
            )


def _save(figure: Any, theme: Theme, path: Path, *, legend: bool = True) -> None:
    if legend:
        handles: dict[str, Any] = {}
        for axes in figure.axes:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        figure.legend(handles.values(), handles, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(path.with_stem(f"{path.stem}-{theme.name}"), bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
