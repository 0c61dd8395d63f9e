"""Terminal output: the same text with and without a terminal, and no control characters of stored text."""

import io
import re
import subprocess
from contextlib import redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from agentstore import Message, Session
from agentstore.cli import output
from agentstore.cli.output import Spans, cell_width, counted, echo, echo_error, echo_hanging, echo_spans, format_bytes
from agentstore.cli.tables import Column, Table
from agentstore.cli.transcript import echo_transcript
from agentstore.cli.visible import format_id, one_line, printable

_FAMILY = "👩‍👩‍👧‍👦"
_CELLS = (
    st.lists(st.sampled_from([*"ab c虾é한🙂-[]", "e\u0301", _FAMILY, "❤️", "👍🏽"]), max_size=12)
    .map("".join)
    .map(one_line)
)
_LONG_ID = "thread_" + "x" * 100
_UUID = "019370a4-8c5e-7a3b-9f12-0000000000%02d"


@pytest.fixture(autouse=True)
def new_console() -> None:
    """Replace the console of an earlier test by one with colors, which reads the width of the terminal each time."""
    output._console.cache_clear()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FORCE_COLOR", "1")
        environment.setenv("TERM", "xterm")
        environment.delenv("COLUMNS", raising=False)
        output._console(False)


@given(st.lists(st.tuples(_CELLS, _CELLS, _CELLS), max_size=5))
def test_table_without_a_terminal_is_aligned_as_rich_does(rows: list[tuple[str, str, str]]) -> None:
    table = Table(Column("name", "id"), Column("text", "text"), Column("number", "number"))
    drawn = RichTable(box=None, pad_edge=False)
    drawn.add_column("name")
    drawn.add_column("text")
    drawn.add_column("number", justify="right")
    for row in rows:
        table.add_row(*row)
        drawn.add_row(*map(Text, row))
    expected = io.StringIO()
    Console(file=expected, width=10_000, force_terminal=False, no_color=True).print(drawn)
    with redirect_stdout(io.StringIO()) as printed:
        table.echo()
    assert printed.getvalue().splitlines() == [line.rstrip() for line in expected.getvalue().splitlines()]


def test_text_is_styled_only_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    echo("found", style="bold")
    echo_error("gone", label="doctor")
    assert capsys.readouterr() == ("found\n", "doctor: gone\n")
    monkeypatch.setenv("FORCE_COLOR", "1")
    echo("found", style="bold")
    echo_error("gone", label="doctor")
    out, err = capsys.readouterr()
    assert ("\x1b[1m" in out, "\x1b[31m" in err) == (True, True)
    echo("plain")
    assert capsys.readouterr().out == "plain\n"


def _sessions() -> Table:
    table = Table(
        Column("session", "id", heading=True),
        Column("title", "text"),
        Column("messages", "number"),
        Column("created", droppable=True),
        Column("last used"),
    )
    table.add_row(_UUID % 1, "京都旅行の計画" * 8, "2", "2026-11-30 07:55", "2026-11-30 07:56")
    table.add_row(_LONG_ID, f"{_FAMILY} {'z' * 60}", "1,234", "2026-11-30 07:55", "2026-11-30 07:56")
    return table


def _screen(
    table: Table,
    columns: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    wide: bool = False,
) -> list[str]:
    """Return the lines that a terminal with so many columns shows, without styles."""
    for name, value in (("FORCE_COLOR", "1"), ("NO_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", str(columns))):
        monkeypatch.setenv(name, value)
    table.echo(wide=wide)
    return re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120, 300])
def test_ids_are_never_broken_and_other_columns_fit_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = _screen(_sessions(), columns, capsys, monkeypatch)
    for id in (_UUID % 1, _LONG_ID):
        (line,) = [line for line in lines if id in line]
        assert line.startswith(id)
    others = [line for line in lines if _LONG_ID not in line]
    assert max(map(cell_width, others)) <= columns
    text = "".join("".join(lines).split())
    assert text.count("z") == 60
    assert text.count("京") == 8
    assert _FAMILY in text
    assert "1,234" in text


def test_a_narrow_terminal_shows_fewer_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def header(columns: int, **options: bool) -> list[str]:
        lines = _screen(_sessions(), columns, capsys, monkeypatch, **options)
        return lines[0].replace("last used", "used").split()

    assert header(80) == ["session", "messages", "used"]
    assert header(120) == ["session", "title", "messages", "created", "used"]
    assert header(40, wide=True) == header(300)


def test_a_wide_table_has_a_line_for_each_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = _screen(_sessions(), 40, capsys, monkeypatch, wide=True)
    assert len(lines) == 3
    starts = [cell_width(line.rpartition("2026-11-30 07:55")[0]) for line in lines[1:]]
    assert starts[0] == starts[1] > 150


def test_a_heading_is_printed_once_above_its_rows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(Column("user", "id", heading=True), Column("session", "id"), Column("messages", "number"))
    for user, session in (("alice" * 8, 1), ("alice" * 8, 2), ("bob", 3)):
        table.add_row(user, _UUID % session, "5")
    lines = _screen(table, 60, capsys, monkeypatch)
    assert [line for line in lines if not line.startswith(" ")] == ["user", "alice" * 8, "bob"]
    assert lines[2:4] == ["alice" * 8, f"  {_UUID % 1}         5"]


def test_matches_keep_their_style_when_wrapped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    table = Table(Column("text", "text"), Column("time"))
    table.add_row([("z" * 50 + " ", ""), ("match", "bold yellow"), (" end", "")], "2024-01-02 03:04")
    table.echo()
    out = capsys.readouterr().out
    assert out.count("z") == 50
    assert "\x1b[1;33mmatch\x1b[0m end" in out


def test_long_lines_are_wrapped_with_a_hanging_indent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "word " * 20 + f"\n\n    code {_FAMILY * 20}"
    echo_hanging([("ok", "green")], text, indent=4)
    assert capsys.readouterr().out == f"ok  {'word ' * 20}\n\n        code {_FAMILY * 20}\n"
    for name, value in (("FORCE_COLOR", "1"), ("NO_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "30")):
        monkeypatch.setenv(name, value)
    echo_hanging([("ok", "")], text, indent=4)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok  word word word word word"
    assert all(line.startswith("    ") or not line for line in lines[1:])
    assert max(map(cell_width, lines)) <= 30
    assert "".join(lines).count(_FAMILY) == 20
    assert "        code" in lines


@pytest.mark.parametrize("color", ["", "1"])
def test_control_characters_are_replaced(
    color: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", color)
    spans: Spans = [("\x1b]0;title\x07", "bold"), ("\r\u202e\u2028", "")]
    echo_spans(spans)
    out = capsys.readouterr().out
    assert "␛]0;title␇" in out
    assert not set("\x07\r\u202e\u2028") & set(out)


@pytest.mark.parametrize(
    ("id", "shown"),
    [
        ("a b", "a b"),
        ("a  b", "'a  b'"),
        ("", "''"),
        (" a", "' a'"),
        ("a\n", r"$'a\n'"),
        ("it's\\\t", r"$'it\'s\\\t'"),
        ("李雷", "李雷"),
        (f"李雷-{_FAMILY}", f"李雷-{_FAMILY}"),
        ("a\u200db", r"$'a\u200db'"),
        ("李\u3000雷", r"$'李\u3000雷'"),
        ("a\u00adb", r"$'a\u00adb'"),
        ("a\U000e0041", r"$'a\U000e0041'"),
        ("\u2800", r"$'\u2800'"),
    ],
)
def test_ids_that_could_be_mistaken_are_quoted_for_a_shell(id: str, shown: str) -> None:
    assert format_id(id) == shown
    if shown != id:
        environment = {"LC_ALL": "C.UTF-8"}
        done = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True, env=environment)
        assert done.stdout.decode() == id


@pytest.mark.parametrize(
    "text",
    [
        *(_FAMILY, "🧔🏽‍♂️", "🏳️‍🌈", "❤️", "1️⃣", "می\u200cخواهم", "葛\U000e0100"),
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # the flag of England
    ],
)
def test_characters_that_join_stay_where_they_do(text: str) -> None:
    assert printable(text) == text
    assert printable(f"a{text}b") == f"a{text}b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u200bb", "a<U+200B>b"),
        ("a\u200db", "a<U+200D>b"),
        ("👩\u200d", "👩<U+200D>"),
        ("می\u200c", "می<U+200C>"),
        ("❤️\ufe0f\U000e0101", "❤️<U+FE0F><U+E0101>"),
        ("hi\U000e0068\U000e0069", "hi<U+E0068><U+E0069>"),
        ("🏴\U000e0067\U000e0062", "🏴<U+E0067><U+E0062>"),
        ("a\u00ad\u034f\u3164", "a<U+00AD><U+034F><U+3164>"),
        ("\x7f\x9b", "␡<U+009B>"),
    ],
)
def test_invisible_characters_are_made_visible(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def test_bytes_are_in_the_largest_unit() -> None:
    sizes = [format_bytes(count) for count in (0, 999, 1_000, 1_500_000, 2 * 10**15)]
    assert sizes == ["0 bytes", "999 bytes", "1.0 kB", "1.5 MB", "2,000.0 TB"]


def test_numbers_agree_with_their_nouns() -> None:
    assert counted(session=1, memory=1, state_round=1, sandbox=1) == "1 session, 1 memory, 1 state round, 1 sandbox"
    assert counted(session=0, memory=2_000, state_round=2, sandbox=2) == (
        "0 sessions, 2,000 memories, 2 state rounds, 2 sandboxes"
    )


def test_the_output_of_a_tool_begins_beside_its_arrow(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(id="s", user_id="alice", message_count=1, messages=[Message.tool("x" * 50, "call")])
    for name, value in (("FORCE_COLOR", "1"), ("NO_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "40")):
        monkeypatch.setenv(name, value)
    echo_transcript(session)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert lines[1].startswith("alice / s, 1 message")
    assert lines[-2:] == [f"  ← {'x' * 36}", f"    {'x' * 14}"]
