"""Progress is shown on a terminal only."""

import pytest

from agentstore.cli.progress import count_bar, import_bar, move_spinner, prune_spinner, transfer_bar
from agentstore.importing import Moved
from agentstore.importing import Progress as ImportProgress
from agentstore.schemas import Pruned
from agentstore.transfer import Progress as TransferProgress


def _show() -> None:
    """Show each kind of progress once."""
    with count_bar("memories") as progress:
        progress(3, 10)
    done = TransferProgress(total=4, users=1, rows={"messages": 12})
    for unit in ("users", "bytes"):
        with transfer_bar(unit) as tick:
            tick(done)
    for total in (100, None):
        with import_bar(ImportProgress(bytes=50, messages=34), total) as update:
            update()
    with move_spinner(Moved(sessions=5, memories=6, states=7)) as update:
        update()
    with prune_spinner(lambda pruned: f"{pruned.sessions} sessions") as report:
        report(2, Pruned(sessions=8))


def test_progress_is_shown_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    _show()
    out, err = capsys.readouterr()
    assert out == ""
    for text in ("3/10", "1 of 4 users", "12 rows", "34 messages", "5 sessions, 6 memories, 7 states"):
        assert text in err
    assert "2 users, 8 sessions" in err


def test_nothing_is_shown_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _show()
    assert capsys.readouterr() == ("", "")
