"""Print text, tables and JSON.

rich is imported only if something with a style, or a table, is printed on a terminal.
"""

import codecs
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO
from unicodedata import combining, east_asian_width

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console
    from rich.text import Text

    from agentstore.schemas import Page, SandboxInfo

Spans = Sequence[tuple[str, str]]
"""Parts of a text, each with its style, for example "bold red", or with ""."""

# Stored text was written by others. It must not move the cursor, change colors or reverse the direction of writing.
_INVISIBLE = (*range(0x7F, 0xA0), 0x61C, *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x206A), 0xFEFF)
_CONTROLS = {
    **dict.fromkeys(_INVISIBLE, 0xFFFD),
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
}
_ESCAPES = {code: f"\\u{code:04x}" for code in _INVISIBLE}
_TAB = 8


def printable(value: object) -> str:
    """Return a text with its control characters replaced by visible symbols; newlines and tabs stay."""
    return str(value).translate(_CONTROLS)


def one_line(value: object) -> str:
    """Return a text as one printable line, with each run of white space replaced by a space."""
    return " ".join(printable(value).split())


def format_id(id: str) -> str:
    """Return an id unchanged, or quoted and escaped if it could be mistaken for another id."""
    return id if id and id == one_line(id) and id.isprintable() else ascii(id)


def format_bytes(count: int) -> str:
    """Return a number of bytes in the largest unit in which it is at least 1, such as ``1.5 MB``."""
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1_000 and len(units) > 1:
        size, units = size / 1_000, units[1:]
    return f"{size:,.0f} {units[0]}" if units[0] == "bytes" else f"{size:,.1f} {units[0]}"


def dump(value: "BaseModel | SandboxInfo") -> dict[str, Any]:
    """Return the fields of a value for :func:`echo_json`, timestamps in ISO 8601.

    pydantic's JSON mode cannot represent lone surrogates.
    """
    fields = asdict(value) if is_dataclass(value) else value.model_dump(serialize_as_any=True)
    return {name: each.isoformat() if isinstance(each, datetime) else each for name, each in fields.items()}


def terminal(*, stderr: bool = False) -> "Console | None":
    """Return rich's console for stdout or stderr, or None if that is not a terminal.

    FORCE_COLOR and TTY_COMPATIBLE override the detection, as everywhere in rich.
    """
    stream = sys.stderr if stderr else sys.stdout
    if not (stream.isatty() or os.environ.keys() & {"FORCE_COLOR", "TTY_COMPATIBLE"}):
        return None
    console = _console(stderr)
    return console if console.is_terminal else None


@cache
def _console(stderr: bool) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False)


def echo(text: str, style: str = "") -> None:
    """Print a text on stdout."""
    echo_spans([(text, style)])


def echo_error(text: str, label: str = "error", style: str = "red") -> None:
    """Print a text on stderr, after a label with this style."""
    echo_spans([(f"{one_line(label)}:", style), (f" {text}", "")], stderr=True)


def echo_spans(spans: Spans, *, stderr: bool = False) -> None:
    """Print parts of a text, each with its style, and a newline."""
    spans = [(printable(text), style) for text, style in spans]
    if any(style for _, style in spans) and (console := terminal(stderr=stderr)) is not None:
        console.print(_text(spans))
        return
    stream = sys.stderr if stderr else sys.stdout
    stream.write("".join(text for text, _ in spans).expandtabs(_TAB) + "\n")
    stream.flush()


def _text(spans: str | Spans) -> "Text":
    from rich.text import Text

    return Text(spans) if isinstance(spans, str) else Text.assemble(*spans)


def echo_json(value: Any) -> None:
    """Print a value on stdout as a line of JSON."""
    write_json(value, sys.stdout)
    sys.stdout.flush()  # `extract --watch --json` is read line by line


def write_json(value: Any, file: TextIO) -> None:
    """Write a value as a line of JSON in UTF-8, whatever the file's encoding; invisible characters are escaped."""
    text = json.dumps(value, ensure_ascii=codecs.lookup(file.encoding).name != "utf-8")
    if not text.isascii():
        text = text.translate(_ESCAPES)
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate exists in JSON only as its escape
            text = json.dumps(value)
    file.write(text + "\n")


class Table:
    """A table in which no cell is truncated: text that is too wide for the terminal is folded."""

    def __init__(self, *columns: str, **fixed: int) -> None:
        """Create a table without rows. `fixed` columns come last, have this minimum width and are never folded."""
        self._columns = {
            **dict.fromkeys(columns, 0),
            **{name.replace("_", " "): width for name, width in fixed.items()},
        }
        self._rows: list[tuple[str | Spans, ...]] = []

    def add_row(self, *cells: str | Spans) -> None:
        """Add a row with one cell for each column."""
        self._rows.append(cells)

    def echo(self) -> None:
        """Print the table on stdout, without trailing blanks if that is not a terminal."""
        if (console := terminal()) is not None:
            from rich.table import Table as RichTable

            drawn = RichTable(box=None, pad_edge=False, header_style="bold")
            for name, width in self._columns.items():
                if width:
                    drawn.add_column(name, no_wrap=True, min_width=width)
                else:
                    drawn.add_column(name, overflow="fold")
            for row in self._rows:
                drawn.add_row(*map(_text, row))
            console.print(drawn, soft_wrap=False)
            return
        lines = [tuple(self._columns), *(tuple(map(_joined, row)) for row in self._rows)]
        widths = [
            max(least, *(_width(cell) for cell in column))
            for least, column in zip(self._columns.values(), zip(*lines, strict=True), strict=True)
        ]
        for line in lines:
            padded = (cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True))
            sys.stdout.write("  ".join(padded).rstrip() + "\n")


def _joined(cell: str | Spans) -> str:
    return cell if isinstance(cell, str) else "".join(text for text, _ in cell)


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text)


def echo_page(rows: Table, page: "Page[Any]", if_empty: str) -> None:
    """Print a page of a list, or `if_empty`, and the option that prints the next page."""
    if page:
        rows.echo()
    else:
        echo(if_empty)
    if page.next_cursor:
        echo(f"More: --cursor {page.next_cursor}", style="dim")
