"""Record ``make demo`` as pictures of a terminal: ``python -m tests.support.terminal`` writes docs/home/demo-*.svg.

The demo runs in a pseudo-terminal. A picture shows each line when it was printed, except that long waits are cut short
and that each step waits until its output can have been read. The animation ends with the last screen, and that is all
that a reader sees who prefers no motion.
"""

import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fcntl import ioctl
from html import escape
from pathlib import Path
from xml.etree import ElementTree

from rich.ansi import AnsiDecoder
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "home"
COLUMNS, ROWS = 90, 25
_CELL, _LINE, _LEFT, _TOP = 8.0, 19, 16, 44
_LONGEST_WAIT, _READING, _TYPING = 0.7, 1.3, 0.4
_HEADING = re.compile(r"\d\. ")
_NAMES = {0: "text", 1: "red", 2: "green", 3: "yellow", 4: "blue", 5: "magenta", 6: "cyan", 7: "text"}
# Of each theme: the window, its border, and the colors of the terminal.
THEMES = {
    "light": {
        "window": "#f6f8fa",
        "border": "#afb8c1",
        "text": "#1f2328",
        "dim": "#57606a",
        "cyan": "#0a6177",
        "green": "#116329",
        "red": "#a40e26",
        "yellow": "#7a4d05",
        "blue": "#0550ae",
        "magenta": "#7c3aad",
    },
    "dark": {
        "window": "#0d1117",
        "border": "#484f58",
        "text": "#e6edf3",
        "dim": "#9198a1",
        "cyan": "#56d4dd",
        "green": "#56d364",
        "red": "#ff7b72",
        "yellow": "#e3b341",
        "blue": "#79c0ff",
        "magenta": "#d2a8ff",
    },
}


@dataclass(frozen=True)
class Line:
    """A line of the terminal."""

    seconds: float
    """When it was printed, since the start."""
    text: Text


def record() -> list[Line]:
    """Run the demo from the start, in a copy of its folder, and return what it printed.

    Raises:
        RuntimeError: it failed; the message is what it wrote to stderr.
    """
    with tempfile.TemporaryDirectory(prefix="agentstore-demo-") as name, tempfile.TemporaryFile() as errors:
        os.chmod(name, 0o755)  # the embedded Postgres may run as another user
        shutil.copytree(ROOT / "examples", Path(name, "examples"))
        reading, terminal = pty.openpty()
        ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        environment = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "COLUMNS", "LINES"}}
        environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm", "LANG": "C.UTF-8"}
        began = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "examples/demo.py"], cwd=name, env=environment, stdout=terminal, stderr=errors
        ) as demo:
            os.close(terminal)
            printed = list(_lines(reading, began))
        os.close(reading)
        if demo.returncode:
            errors.seek(0)
            raise RuntimeError(errors.read().decode())
        decoder = AnsiDecoder()
        return [Line(seconds, decoder.decode_line(_in_the_repository(text, name))) for seconds, text in printed]


def _lines(terminal: int, began: float) -> Iterator[tuple[float, str]]:
    """Yield the lines of a terminal, and when they ended, until no process has it open."""
    rest = b""
    while True:
        try:
            read = os.read(terminal, 65536)
        except OSError:  # how Linux reports the end
            read = b""
        if not read:
            break
        *lines, rest = (rest + read).split(b"\r\n")
        yield from ((time.monotonic() - began, line.decode()) for line in lines)
    if rest:
        yield time.monotonic() - began, rest.decode()


def _in_the_repository(text: str, folder: str) -> str:
    """Return a line in which paths are those of a checkout."""
    return re.sub(r"\S*/bin/agentstore\b", ".venv/bin/agentstore", text.replace(f"{folder}/", ""))


def without_figures(lines: list[str]) -> list[str]:
    """Return lines without the spaces, figures and generated ids that differ between two runs."""
    return [re.sub(r"\d+(?:[.,]\d+)*", "0", re.sub(r"\s+|(?<=msg_)[0-9a-f-]+", "", line)) for line in lines]


def text_of(picture: str) -> list[str]:
    """Return the rows of a picture."""
    svg = "{http://www.w3.org/2000/svg}"
    rows = ElementTree.fromstring(picture).iterfind(f".//{svg}g[@class='line']")
    return [" ".join(each.text or "" for each in row.iter(f"{svg}text")) for row in rows]


def draw(lines: list[Line], theme: str) -> str:
    """Return the picture of what the demo printed."""
    colors = THEMES[theme]
    rows = list(_rows(lines))
    width, height = 2 * _LEFT + COLUMNS * _CELL, _TOP + ROWS * _LINE + 10
    last = max(0, len(rows) - ROWS)
    end = rows[-1][0]
    frames = "".join(
        f"{100 * seconds / end:.2f}%{{transform:translateY(-{max(0, number + 1 - ROWS) * _LINE}px)}}"
        for number, (seconds, _) in enumerate(rows)
        if number + 1 > ROWS
    )
    classes = "".join(f".{name}{{fill:{color}}}" for name, color in colors.items() if name not in {"window", "border"})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" width="{width:g}" role="img">',
        "<title>make demo, in a terminal</title>",
        "<style>"
        'text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Noto Sans Mono",'
        '"Noto Sans Mono CJK SC",monospace;white-space:pre}.bold{font-weight:700}'
        f"{classes}"
        f".screen{{transform:translateY(-{last * _LINE}px);animation:scroll {end:.2f}s step-end}}"
        f"@keyframes scroll{{0%{{transform:translateY(0)}}{frames}}}"
        ".line{animation:print 1ms backwards}@keyframes print{from{visibility:hidden}}"
        "@media (prefers-reduced-motion:reduce){.screen,.line{animation:none}}"
        "</style>",
        f'<clipPath id="screen"><rect x="1" y="{_TOP - 5}" width="{width - 2:g}" height="{height - _TOP + 4}"/>'
        "</clipPath>",
        f'<rect x=".5" y=".5" width="{width - 1:g}" height="{height - 1}" rx="8" fill="{colors["window"]}" '
        f'stroke="{colors["border"]}"/>',
        *(f'<circle cx="{x}" cy="18" r="5.5" fill="{colors["border"]}"/>' for x in (20, 38, 56)),
        f'<text x="{width / 2:g}" y="22" text-anchor="middle" class="dim">agentstore: make demo</text>',
        '<g clip-path="url(#screen)"><g class="screen">',
        *(
            f'<g class="line" style="animation-delay:{seconds:.2f}s">{_row(text, _TOP + _LINE * number + 8)}</g>'
            for number, (seconds, text) in enumerate(rows)
        ),
        "</g></g></svg>\n",
    ]
    return "\n".join(parts)


def _rows(lines: list[Line]) -> Iterator[tuple[float, Text]]:
    """Yield the rows of the screen, and when each is shown, from the command that starts the demo."""
    console = Console(width=COLUMNS)
    yield 0.0, Text("$ make demo", "cyan")
    shown, previous = _TYPING, 0.0
    for line in lines:
        is_heading = _HEADING.match(line.text.plain) is not None
        shown += max(_READING if is_heading else 0, min(line.seconds - previous, _LONGEST_WAIT))
        previous = line.seconds
        for row in line.text.wrap(console, COLUMNS) or [Text()]:
            yield shown, row
        if line.text.plain.startswith("$ "):
            shown += _TYPING


def _row(text: Text, y: int) -> str:
    """Return the runs of a row: each has one style, and the width of its cells whatever font shows it."""
    parts = []
    place = 0
    for segment in text.render(Console(width=COLUMNS)):
        style = segment.style
        names = []
        if style and style.color:
            names.append(_color(style.color.number))
        elif style and style.dim:
            names.append("dim")
        else:
            names.append("text")
        names += ["bold"] if style and style.bold else []
        for run in re.findall(r"[\u2e80-\uffef]+|[^\u2e80-\uffef]+", segment.text.rstrip("\n")):
            cells = cell_len(run)
            if stripped := run.strip():
                x = _LEFT + (place + cell_len(run[: run.index(stripped)])) * _CELL
                parts.append(
                    f'<text x="{x:g}" y="{y}" textLength="{cell_len(stripped) * _CELL:g}" '
                    f'lengthAdjust="spacingAndGlyphs" class="{" ".join(names)}">{escape(stripped)}</text>'
                )
            place += cells
    return "".join(parts)


def _color(number: int | None) -> str:
    """Return the class of one of the sixteen colors of a terminal; the bright ones are those of the theme too.

    Raises:
        ValueError: the themes do not have it.
    """
    if number == 8:
        return "dim"
    name = _NAMES.get(number % 8) if number is not None and number < 16 else None
    if name is None:
        raise ValueError(f"the themes have no color {number}")
    return name


def main() -> None:
    """Write the pictures."""
    lines = record()
    FOLDER.mkdir(exist_ok=True)
    for theme in THEMES:
        (FOLDER / f"demo-{theme}.svg").write_text(draw(lines, theme), encoding="utf-8")


if __name__ == "__main__":
    main()
