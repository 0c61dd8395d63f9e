"""Draw the data model from the models: ``python -m tests.support.diagram`` writes docs/concepts/data-model.svg."""

from pathlib import Path

from agentstore.models import UserRow

PATH = Path(__file__).parents[2] / "docs" / "concepts" / "data-model.svg"
_WIDTH, _HEIGHT, _ACROSS, _DOWN = 224, 46, 284, 58


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


def draw() -> str:
    """Return the SVG: a box for each table with its primary key, a line for each foreign key."""
    places = _places()
    lines, boxes = [], []
    for table in UserRow.metadata.sorted_tables:
        x, y = _corner(places[table.name])
        key = ", ".join(column.name for column in table.primary_key)
        boxes.append(
            f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="5" class="box"/>'
            f'<text x="{x + 10}" y="{y + 19}" class="name">{table.name}</text>'
            f'<text x="{x + 10}" y="{y + 36}" class="key">{key}</text>'
        )
        for each in table.foreign_key_constraints:
            left, top = _corner(places[each.referred_table.name])
            path = f"M{left + _WIDTH} {top + _HEIGHT // 2}h30V{y + _HEIGHT // 2}h30"
            lines.append(f'<path d="{path}" class="line" marker-end="url(#child)"/>')
    width, height = 2 * _ACROSS + _WIDTH + 20, max(row for _, row in places.values()) * _DOWN + _HEIGHT + 20
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">',
            "<title>The tables, their primary keys, and their foreign keys</title>",
            "<style>text{font-family:sans-serif}.name{font-size:14px;font-weight:600;fill:#1f2937}"
            ".key{font-size:10.5px;fill:#4b5563}.box{fill:#eef2ff;stroke:#4f5fb3}"
            ".line{fill:none;stroke:#4f5fb3;stroke-width:1.3}.child{fill:#4f5fb3}</style>",
            '<defs><marker id="child" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto">'
            '<path d="M0 0L8 4L0 8z" class="child"/></marker></defs>',
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            *lines,
            *boxes,
            "</svg>\n",
        ]
    )


def _corner(place: tuple[int, int]) -> tuple[int, int]:
    return 10 + place[0] * _ACROSS, 10 + place[1] * _DOWN


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(draw(), encoding="utf-8")
