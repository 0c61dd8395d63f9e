"""Tables that fit the terminal: ids are never broken, and no text is cut off."""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from agentstore.cli.output import Spans, cell_width, echo, echo_spans, terminal, wrap
from agentstore.cli.visible import printable

if TYPE_CHECKING:
    from agentstore.schemas import Page

_GAP = 2
_LEAST_TEXT = 24
_LONGEST_ID = 41  # of those that agentstore generates: "item_" and a UUID


class Column(NamedTuple):
    """A column of a table."""

    name: str
    kind: Literal["value", "number", "id", "text"] = "value"
    """Only a text is wrapped; a number is aligned to the right."""
    droppable: bool = False
    """Whether it is left out if the terminal is too narrow for all columns."""
    heading: bool = False
    """Of the first column: if the terminal is too narrow, it is printed above the rows that have the same value."""


class _Layout(NamedTuple):
    """How a table fits a terminal."""

    widths: dict[int, int]
    """The widths of the columns that are beside one another."""
    below: Sequence[int] = ()
    """The texts that are below their row."""
    heading: bool = False
    """Whether the first column is above its rows."""
    width: int = 0
    """The width of the terminal."""

    @property
    def indent(self) -> int:
        return _GAP if self.heading else 0


class Table:
    """Rows of cells, each a text or parts of a text with their styles.

    Without a terminal, or with `wide`, each row is one line. Otherwise the table fits the width of the terminal:
    droppable columns are left out, the last first; if that is not enough, texts are printed below their row; then the
    first column, if it is a heading, above its rows. What follows a long id in its row continues on the next line.
    """

    def __init__(self, *columns: Column) -> None:
        self._columns = columns
        self._rows: list[tuple[Spans, ...]] = []

    def add_row(self, *cells: str | Spans) -> None:
        """Add a row with one cell for each column."""
        self._rows.append(tuple(_as_line(*each) for each in zip(cells, self._columns, strict=True)))

    def echo(self, *, wide: bool = False) -> None:
        """Print the table on stdout."""
        console = terminal()
        layout = self._layout(None if wide or console is None else console.width)
        names = tuple([(column.name, "bold")] for column in self._columns)
        if layout.heading:
            echo_spans(names[0])
        for line in self._lines(names, layout):
            echo_spans(line)
        heading: Spans | None = None
        for row in self._rows:
            if layout.heading and row[0] != heading:
                heading = row[0]
                echo_spans(heading)
            for line in self._lines(row, layout):
                echo_spans(line)
            indent = " " * (layout.indent + _GAP)
            for index in layout.below:
                for line in wrap(row[index], layout.width - len(indent)):
                    echo_spans([(indent, ""), *line])

    def _layout(self, width: int | None) -> _Layout:
        columns = range(len(self._columns))
        taken = [[len(column.name), *(_width(row[n]) for row in self._rows)] for n, column in enumerate(self._columns)]
        longest = [max(widths) for widths in taken]
        if width is None:
            return _Layout(dict(enumerate(longest)))
        least = [
            min(longest[n], _LEAST_TEXT)
            if column.kind == "text"
            else max(each for each in taken[n] if each <= _LONGEST_ID or column.kind != "id")
            for n, column in enumerate(self._columns)
        ]
        texts = [index for index in columns if self._columns[index].kind == "text"]
        layout = _Layout({})
        for below, heading in ((), False), (texts, False), (texts, self._columns[0].heading):
            beside = [index for index in columns if index not in below and not (heading and index == 0)]
            droppable = [index for index in beside if self._columns[index].droppable]
            layout = _Layout({}, below, heading, width)
            while True:
                spare = width - layout.indent - sum(least[index] + _GAP for index in beside) + _GAP
                layout = layout._replace(widths={index: least[index] for index in beside})
                if spare >= 0 or not droppable:
                    break
                beside.remove(droppable.pop())
            if spare >= 0:
                for index in set(texts) & set(beside):
                    layout.widths[index] = min(longest[index], least[index] + spare)
                    spare -= layout.widths[index] - least[index]
                break
        return layout

    def _lines(self, row: Sequence[Spans], layout: _Layout) -> Iterator[Spans]:
        """Yield the lines of a row."""
        lines: list[list[tuple[int, Spans]]] = [[]]
        first, start = 0, layout.indent
        for index, width in layout.widths.items():
            cell, kind = row[index], self._columns[index].kind
            taken = _width(cell)
            parts = wrap(cell, width) if kind == "text" and taken > width else [cell]
            for number, part in enumerate(parts, first):
                if number == len(lines):
                    lines.append([])
                lines[number].append((start + width - taken if kind == "number" else start, part))
            if taken > width and kind == "id":
                first += 1
                lines.append([])
            start += width + _GAP
        for line in lines:
            spans: list[tuple[str, str]] = []
            end = 0
            for begin, part in line:
                if any(text for text, _ in part):
                    spans += [(" " * (begin - end), ""), *part]
                    end = begin + _width(part)
            if spans or line is lines[0]:
                yield spans


def _as_line(cell: str | Spans, column: Column) -> Spans:
    """Return a cell as printable parts without line breaks."""
    if isinstance(cell, str):
        text = printable(cell)
        return [(text if column.kind == "id" else " ".join(text.split()), "")]
    return [(re.sub(r"\s+", " ", printable(text)), style) for text, style in cell]


def _width(cell: Spans) -> int:
    return cell_width("".join(text for text, _ in cell))


def echo_page(rows: Table, page: "Page[Any]", if_empty: str, *, wide: bool = False) -> None:
    """Print a page of a list, or `if_empty`, and the option that prints the next page."""
    if page:
        rows.echo(wide=wide)
    else:
        echo(if_empty)
    if page.next_cursor:
        echo(f"More: --cursor {page.next_cursor}", style="dim")
