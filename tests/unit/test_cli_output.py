"""Terminal output: the same text with and without a terminal, and no control characters of stored text."""

import io
from contextlib import redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from agentstore.cli.output import Spans, Table, echo, echo_error, echo_spans, format_bytes, format_id, one_line

_CELLS = st.text(st.sampled_from("ab c虾é한🙂e\u0301-[]"), max_size=12).map(one_line)


@given(st.lists(st.tuples(_CELLS, _CELLS, _CELLS), max_size=5))
def test_table_without_a_terminal_is_aligned_as_rich_does(rows: list[tuple[str, str, str]]) -> None:
    table = Table("name", "text", last_used=6)
    drawn = RichTable(box=None, pad_edge=False)
    drawn.add_column("name", overflow="fold")
    drawn.add_column("text", overflow="fold")
    drawn.add_column("last used", no_wrap=True, min_width=6)
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


def test_table_is_folded_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    table = Table("text", time=16)
    table.add_row([("z" * 50, ""), ("match", "bold yellow")], "2024-01-02 03:04")
    table.echo()
    out = capsys.readouterr().out
    assert out.count("z") == 50
    assert "2024-01-02 03:04" in out
    assert len(out.splitlines()) > 2


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


def test_ids_that_could_be_mistaken_are_quoted() -> None:
    assert [format_id(id) for id in ("a b", "a  b", "", "a\n", "李雷")] == ["a b", "'a  b'", "''", "'a\\n'", "李雷"]


def test_bytes_are_in_the_largest_unit() -> None:
    sizes = [format_bytes(count) for count in (0, 999, 1_000, 1_500_000, 2 * 10**15)]
    assert sizes == ["0 bytes", "999 bytes", "1.0 kB", "1.5 MB", "2,000.0 TB"]
