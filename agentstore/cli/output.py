"""Print text and JSON.

rich is imported only if something with a style, or a table, is printed on a terminal, or to measure other text than
ASCII.
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

from agentstore.cli.visible import escape_json, one_line, printable

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console
    from rich.text import Text

    from agentstore.schemas import SandboxInfo

Spans = Sequence[tuple[str, str]]
"""Parts of a text, each with its style, for example "bold red", or with ""."""

_TAB = 8


def format_bytes(count: int) -> str:
    """Return a number of bytes in the largest unit in which it is at least 1, such as ``1.5 MB``."""
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1_000 and len(units) > 1:
        size, units = size / 1_000, units[1:]
    return f"{size:,.0f} {units[0]}" if units[0] == "bytes" else f"{size:,.1f} {units[0]}"


def counted(**counts: int) -> str:
    """Return numbers with their nouns, the singular of which are the arguments: ``1 memory, 2,000 state rounds``."""
    return ", ".join(f"{count:,} {_noun(name.replace('_', ' '), count)}" for name, count in counts.items())


def _noun(singular: str, count: int) -> str:
    if count == 1:
        return singular
    return f"{singular[:-1]}ies" if singular.endswith("y") else f"{singular}{'es' if singular.endswith('x') else 's'}"


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
        text = escape_json(text)
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate exists in JSON only as its escape
            text = json.dumps(value)
    file.write(text + "\n")


def cell_width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def wrap(spans: Spans, width: int) -> list[Spans]:
    """Return the lines of parts of a text, none wider than `width`; a word that is wider is broken."""
    if all(not text for text, _ in spans):
        return []
    lines = _text(spans).wrap(_console(False), max(width, 2), tab_size=_TAB)
    for line in lines:
        line.rstrip()
    return [_parts(line) for line in lines]


def _parts(line: "Text") -> Spans:
    """Return the parts of a text whose styles do not overlap."""
    parts: list[tuple[str, str]] = []
    end = 0
    for span in sorted(line.spans):
        parts += [(line.plain[end : span.start], ""), (line.plain[span.start : span.end], str(span.style))]
        end = span.end
    return [*parts, (line.plain[end:], "")]


def echo_hanging(label: Spans, text: str, style: str = "", *, indent: int, wide: bool = False) -> None:
    """Print a text after a label that is no wider than `indent`, its other lines indented.

    On a terminal, long lines are wrapped, unless `wide`.
    """
    console = None if wide else terminal()
    lines: list[Spans]
    if console is None:
        lines = [[(line, style)] for line in text.split("\n")] if text else []
    else:
        lines = wrap([(printable(text), style)], console.width - indent)
    start = [*label, (" " * (indent - sum(cell_width(part) for part, _ in label)), "")]
    for line in lines:
        echo_spans([*start, *line] if any(part for part, _ in line) else [])
        start = [(" " * indent, "")]
