"""Draw the plots of the docs as SVG: the cost of calls, throughput, growth, distributions and flame graphs."""

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "agentstore",
    "figure.figsize": (8, 4.5),
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
}
_AGENTSTORE = "agentstore"
# Each contender has this color in every panel of every plot. Those of Okabe and Ito can be told apart by everybody.
_COLORS = {
    _AGENTSTORE: "#c0392b",
    "floor (asyncpg)": "black",
    "SQLAlchemy ORM": "#0072b2",
    "google-adk": "#e69f00",
    "openai-agents": "#009e73",
    "agno": "#cc79a7",
    "agentscope": "#56b4e9",
    "agentscope-runtime (Redis)": "#8c6d31",
    "agentscope-runtime (in memory)": "#c2b280",
    "langgraph checkpoint": "#6a3d9a",
    "langgraph store": "#b39ddb",
}
_NARROWEST = 0.004


def draw(report: dict[str, Any], folder: Path) -> None:
    """Draw the plots of the parts that a report has."""
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(_STYLE):
        if results := report.get("results"):
            _costs(results, folder / "calls.svg")
            _writers(results, folder / "writers.svg")
            _latencies(results, folder / "latencies.svg")
        if growth := report.get("growth"):
            _growth(growth, folder / "growth.svg")


def draw_scale(found: list[dict[str, Any]], path: Path) -> None:
    """Draw the median time of each call by the size of the database, once it is analyzed."""
    by_call: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for each in found:
        if each["statistics"] == "analyzed":
            by_call[each["call"]].append((each["size"], each["median"]))
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots()
        for number, (call, points) in enumerate(by_call.items()):
            axes.plot(*zip(*points, strict=True), marker="o" if number < 10 else "s", markersize=3, label=call)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("messages in the database")
        axes.set_ylabel("ms")
        _save(figure, path)


def flames(stacks: Mapping[tuple[str, ...], int], server_share: float, title: str, path: Path) -> None:
    """Draw a flame graph. The width of a function is its share of the time of the call; callers are below."""
    widths: dict[tuple[str, ...], float] = defaultdict(float)
    total = sum(stacks.values())
    for frames, count in stacks.items():
        names = _names(frames)
        for depth in range(1, len(names) + 1):
            widths[names[:depth]] += (1 - server_share) * count / total
    widths = {names: width for names, width in widths.items() if width >= _NARROWEST}
    figure, axes = plt.subplots(figsize=(12, 0.19 * max(map(len, widths)) + 0.6))
    ends: dict[tuple[str, ...], float] = defaultdict(float)
    for names in sorted(widths, key=lambda names: (len(names), names)):
        start = ends[names] if names in ends else ends[names[:-1]]
        ends[names[:-1]] = start + widths[names]
        ends[names] = start
        color = plt.get_cmap("YlOrRd")(0.15 + zlib.crc32(names[-1].encode()) % 100 / 200)
        _block(axes, start, len(names) - 1, widths[names], names[-1], color)
    _block(axes, 1 - server_share, 0, server_share, "waiting for the server", "lightsteelblue")
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(map(len, widths)))
    axes.set_title(title, fontsize=9)
    _save(figure, path, legend=False)


def _block(axes: Any, x: float, y: float, width: float, label: str, color: Any) -> None:
    axes.broken_barh([(x, width)], (y, 0.92), facecolors=color, edgecolor="white", linewidth=0.4)
    letters = int(width * 190)
    if letters >= 3:
        text = label if len(label) <= letters else label[: letters - 1] + "…"
        axes.text(x + 0.002, y + 0.42, text, fontsize=6, va="center", clip_on=True)


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


def _costs(results: list[dict[str, Any]], path: Path) -> None:
    """Draw the time of each call relative to the floor, on a logarithmic axis."""
    calls = [each for each in results if each["per_second"] is None]
    cases = list(dict.fromkeys(each["case"] for each in calls))
    figure, axes = plt.subplots()
    for name in dict.fromkeys(each["contender"] for each in calls):
        own = {each["case"]: each["ratio"] for each in calls if each["contender"] == name}
        places = [cases.index(case) for case in own]
        axes.plot(places, list(own.values()), **_line(name), linestyle="none")
    axes.set_xticks(range(len(cases)), cases, rotation=30, ha="right")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_plain)
    axes.set_ylabel("time relative to the floor")
    axes.axhline(1, color="black", linewidth=0.8)
    _save(figure, path)


def _writers(results: list[dict[str, Any]], path: Path) -> None:
    """Draw appends per second by number of writers, each to its own session and all to one."""
    figure, two_axes = plt.subplots(1, 2, sharey=True)
    for axes, is_one_session in zip(two_axes, (False, True), strict=True):
        found = [each for each in results if each["per_second"] and ("one session" in each["case"]) == is_one_session]
        for name in dict.fromkeys(each["contender"] for each in found):
            own = [(int(each["case"].split()[0]), each["per_second"]) for each in found if each["contender"] == name]
            axes.plot(*zip(*sorted(own), strict=True), **_line(name))
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        writers = sorted({int(each["case"].split()[0]) for each in found})
        axes.set_xticks(writers, [str(each) for each in writers])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(_plain)
        axes.set_xlabel("writers to one session" if is_one_session else "writers, each to its own session")
        _name_line(axes)
    two_axes[0].set_ylabel("appends per second")
    _save(figure, path)


def _latencies(results: list[dict[str, Any]], path: Path) -> None:
    """Draw the distribution of append latencies: with one writer, and with 64."""
    figure, two_axes = plt.subplots(1, 2)
    for axes, case in zip(two_axes, ("append 1", "64 writers, 64 sessions"), strict=True):
        for each in results:
            if each["case"] == case:
                axes.plot([max(1e-3, ms) for ms in each["quantiles_ms"]], range(101), **_line(each["contender"], ""))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(_plain)
        axes.set_xlabel(f"ms, {case}")
        _name_line(axes)
    two_axes[0].set_ylabel("% of calls")
    _save(figure, path)


def _growth(growth: list[dict[str, Any]], path: Path) -> None:
    """Draw the time of each call by size."""
    kinds = list(dict.fromkeys(each["grows"] for each in growth))
    figure, all_axes = plt.subplots(1, len(kinds), sharey=True, figsize=(11, 4.5))
    for axes, kind in zip(all_axes, kinds, strict=True):
        for each in growth:
            if each["grows"] == kind:
                axes.plot(each["sizes"], each["ms"], marker="o", markersize=3, label=each["call"])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_plain)
        axes.set_xlabel(kind)
        axes.legend(fontsize=7)
    all_axes[0].set_ylabel("ms")
    _save(figure, path, legend=False)


def _line(name: str, marker: str = "o") -> dict[str, Any]:
    is_agentstore = name == _AGENTSTORE
    return {
        "label": name,
        "color": _COLORS.get(name, "gray"),
        "zorder": 3 if is_agentstore else 2,
        "marker": marker,
        "markersize": 6 if is_agentstore else 4,
        "linewidth": 2.2 if is_agentstore else 1.2,
    }


def _plain(value: float, _: Any) -> str:
    """Return the label of a tick: a number without an exponent."""
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _name_line(axes: Any) -> None:
    """Write the name of agentstore beside its line, where it ends."""
    for line in axes.get_lines():
        if line.get_label() == _AGENTSTORE:
            end = line.get_xdata()[-1], line.get_ydata()[-1]
            axes.annotate(
                _AGENTSTORE,
                end,
                xytext=(-4, 7),
                textcoords="offset points",
                ha="right",
                color=line.get_color(),
                fontweight="bold",
            )


def _save(figure: Any, path: Path, *, legend: bool = True) -> None:
    if legend:
        handles: dict[str, Any] = {}
        for axes in figure.axes:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        figure.legend(handles.values(), handles, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
