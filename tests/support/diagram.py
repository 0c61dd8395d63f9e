"""Draw the diagrams from the code: ``python -m tests.support.diagram`` writes docs/concepts/*.svg, light and dark."""

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from agentstore import AgentStore, Settings
from agentstore.models import UserRow

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "concepts"
_HEIGHT, _DOWN, _GAP = 46, 58, 60
_LETTER = 5.6  # the width of one of a key
# Adapters whose names are not those of their folders.
_FRAMEWORKS = {
    "adk": "Google ADK",
    "agentscope": "AgentScope",
    "agentscope_runtime": "AgentScope Runtime",
    "claude_agent_sdk": "Claude Agent SDK",
    "langgraph": "LangGraph",
    "openai_agents": "OpenAI Agents SDK",
    "pydantic_ai": "Pydantic AI",
}


@dataclass(frozen=True)
class Theme:
    """The colors of a diagram, which has no background. tests/unit/test_pictures.py checks their contrast."""

    name: str
    background: str
    """That of the page."""
    box: str
    part: str
    """The fill of a box within a box."""
    line: str
    text: str
    note: str


LIGHT = Theme("light", "#ffffff", box="#eef2ff", part="#ffffff", line="#4f5fb3", text="#1f2937", note="#4b5563")
DARK = Theme("dark", "#1e2129", box="#2a3050", part="#1e2129", line="#8f9be6", text="#f0f3f9", note="#bcc4d4")


def _svg(title: str, width: int, height: int, theme: Theme, parts: list[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
            f"<title>{title}</title>",
            "<style>text{font-family:system-ui,sans-serif}"
            f".name{{font-size:14px;font-weight:600;fill:{theme.text}}}.key{{font-size:10.5px;fill:{theme.note}}}"
            f".note{{font-size:12px;fill:{theme.note}}}.part{{font-size:12.5px;fill:{theme.text}}}"
            f".box{{fill:{theme.box};stroke:{theme.line}}}.inner{{fill:{theme.part};stroke:{theme.line}}}"
            f".line{{fill:none;stroke:{theme.line};stroke-width:1.3}}.child{{fill:{theme.line}}}"
            ".optional{stroke-dasharray:5 4}</style>",
            '<defs><marker id="child" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto">'
            '<path d="M0 0L8 4L0 8z" class="child"/></marker></defs>',
            *parts,
            "</svg>\n",
        ]
    )


def _places() -> dict[str, tuple[int, int]]:
    """Return the column and row of each table: those that reference another one are in the column beside it."""
    tables = UserRow.metadata.sorted_tables
    parents = {each.name: [key.referred_table.name for key in each.foreign_key_constraints] for each in tables}
    places = {}
    row = 0
    for child in (name for name, above in parents.items() if above == ["users"]):
        below = [name for name, above in parents.items() if above == [child]]
        places[child] = (1, row)
        places |= {name: (2, row + number) for number, name in enumerate(below)}
        row += max(1, len(below))
    places["users"] = (0, row // 2)
    without_user = [name for name in parents if name not in places]
    return places | {name: (0, row // 2 + 2 + number) for number, name in enumerate(without_user)}


def draw_data_model(theme: Theme) -> str:
    """Return a box for each table with its primary key, and a line for each foreign key."""
    places = _places()
    keys = {each.name: ", ".join(each.primary_key.columns.keys()) for each in UserRow.metadata.sorted_tables}
    box = round(20 + _LETTER * max(map(len, keys.values())))
    corners = {name: (10 + column * (box + _GAP), 10 + row * _DOWN) for name, (column, row) in places.items()}
    lines, boxes = [], []
    for table in UserRow.metadata.sorted_tables:
        x, y = corners[table.name]
        boxes.append(
            f'<rect x="{x}" y="{y}" width="{box}" height="{_HEIGHT}" rx="5" class="box"/>'
            f'<text x="{x + 10}" y="{y + 19}" class="name">{table.name}</text>'
            f'<text x="{x + 10}" y="{y + 36}" class="key">{keys[table.name]}</text>'
        )
        for each in table.foreign_key_constraints:
            left, top = corners[each.referred_table.name]
            path = f"M{left + box} {top + _HEIGHT // 2}h30V{y + _HEIGHT // 2}h30"
            lines.append(f'<path d="{path}" class="line" marker-end="url(#child)"/>')
    width, height = 3 * box + 2 * _GAP + 20, max(row for _, row in places.values()) * _DOWN + _HEIGHT + 20
    return _svg("The tables, their primary keys, and their foreign keys", width, height, theme, [*lines, *boxes])


def frameworks() -> list[str]:
    """Return the names of the frameworks that have an adapter."""
    folders = sorted(each.parent.name for each in ROOT.glob("agentstore/adapters/*/__init__.py"))
    return sorted((_FRAMEWORKS.get(each, each) for each in folders), key=str.lower)


def services() -> list[str]:
    """Return the services of a store, which its docstring lists."""
    listed = inspect.cleandoc(AgentStore.__doc__ or "").partition("Attributes:\n")[2]
    return re.findall(r"^    (\w+): ", listed, re.MULTILINE)


def providers() -> list[str]:
    """Return the providers of sandboxes that isolate."""
    annotation = Settings.model_fields["sandbox_provider"].annotation
    return [name for kind in get_args(annotation) for name in get_args(kind) if not name.startswith("unsafe")]


def draw_architecture(theme: Theme) -> str:
    """Return what runs where: the processes of an application with the library in them, the database, and the rest."""
    adapters, adapters_end = _chips(frameworks(), 32, 106, 552)
    calls, calls_end = _chips([f"store.{each}" for each in services()], 32, adapters_end + 34, 552)
    library_end = calls_end + 34
    database = library_end + 54
    parts = [
        _box(10, 10, 570, library_end, "box", "Each process of your application: replicas, workers, scripts"),
        _note(26, 52, "Your code and its framework call agentstore, a library in the same process."),
        _box(18, 66, 562, library_end - 8, "inner", ""),
        _note(32, 92, "adapters for frameworks, as extras"),
        *adapters,
        _note(32, adapters_end + 22, "services"),
        *calls,
        _note(32, calls_end + 14, "a statement for each call, a pool of connections, telemetry"),
        _box(10, database, 374, database + 84, "box", "Postgres 15 or later: your own, or hosted"),
        _note(26, database + 46, "the schema agentstore: tables by user, full-text indexes"),
        _note(26, database + 66, "no extension is needed; pgvector is optional"),
        _box(398, database, 586, database + 84, "box optional", "Read replica"),
        _note(414, database + 46, "optional: calls that read,"),
        _note(414, database + 66, "with stale_ok=True"),
        _box(610, 10, 820, 30 + 20 * (2 + len(providers())), "box optional", "Sandboxes"),
        _note(626, 52, "optional: run code of agents"),
        *(_note(626, 72 + 20 * n, f"· {each.replace('_', ' ')}") for n, each in enumerate(providers())),
        _box(610, 150, 820, 254, "box optional", "Models"),
        _note(626, 192, "optional: endpoints that"),
        _note(626, 212, "embed, extract facts, rerank"),
        _note(626, 238, "searches need none of them"),
        _box(610, database, 820, database + 84, "box", "agentstore command"),
        _note(626, database + 46, "upgrade, doctor, import,"),
        _note(626, database + 66, "export, prune; the console"),
        _arrow(f"M185 {library_end}V{database}"),
        _arrow(f"M492 {library_end}V{database}", "optional"),
        _arrow("M570 60H610", "optional"),
        _arrow("M570 202H610", "optional"),
        _arrow(f"M715 {database + 84}v24H185v-24"),
    ]
    return _svg("What runs where", 830, database + 120, theme, parts)


def _box(left: int, top: int, right: int, bottom: int, kind: str, title: str) -> str:
    box = f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" rx="5" class="{kind}"/>'
    return f'{box}<text x="{left + 16}" y="{top + 22}" class="name">{title}</text>' if title else box


def _note(x: int, y: int, text: str) -> str:
    return f'<text x="{x}" y="{y}" class="note">{text}</text>'


def _arrow(path: str, kind: str = "") -> str:
    return f'<path d="{path}" class="line {kind}" marker-end="url(#child)"/>'


def _chips(names: list[str], left: int, top: int, right: int) -> tuple[list[str], int]:
    """Return a small box for each name, in rows, and where the next row would begin."""
    parts = []
    x, y = left, top
    for each in names:
        width = round(7.2 * len(each)) + 18
        if x + width > right:
            x, y = left, y + 30
        parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="24" rx="12" class="box"/>'
            f'<text x="{x + width / 2:g}" y="{y + 16.5}" text-anchor="middle" class="part">{each}</text>'
        )
        x += width + 8
    return parts, y + 30


PICTURES = {"data-model": draw_data_model, "architecture": draw_architecture}


def main() -> None:
    """Write each diagram for light and dark pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        for theme in (LIGHT, DARK):
            (FOLDER / f"{name}-{theme.name}.svg").write_text(draw(theme), encoding="utf-8")


if __name__ == "__main__":
    main()
