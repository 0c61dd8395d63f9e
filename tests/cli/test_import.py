"""``agentstore import`` of files: what it stores and reports, and that a second run adds nothing."""

import asyncio
import fcntl
import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agentstore import Imported, Session, Settings, Unavailable
from agentstore.importing import Importer
from tests.support.cli import Result, run

RunImport = Callable[..., Result]


@pytest.fixture
def run_import(direct_url: str) -> RunImport:
    def call(*arguments: object, stdin: bytes = b"") -> Result:
        return run("import", *map(str, arguments), "--url", direct_url, stdin=stdin)

    return call


def _stored(url: str, statement: str) -> list[Any]:
    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return asyncio.run(fetch())


_TEXTS = """
SELECT user_id, session_id, seq, payload->'content'->0->>'text', payload->>'role'
FROM agentstore.messages ORDER BY user_id COLLATE "C", session_id COLLATE "C", seq
"""
_COUNTS = "SELECT (SELECT count(*) FROM agentstore.sessions), (SELECT count(*) FROM agentstore.messages)"


def _line(*texts: str, **head: Any) -> str:
    return json.dumps({**head, "messages": [{"role": "user", "content": text} for text in texts]}, ensure_ascii=False)


def test_second_import_adds_nothing(run_import: RunImport, direct_url: str, tmp_path: Path) -> None:
    file = tmp_path / "对话.jsonl"
    file.write_text("\n".join([_line("你好", "hello", user="alice", session="s"), _line("x"), _line("x")]))
    first = run_import(file)
    assert first.code == 0
    assert "3 records with 4 messages" in first.out
    assert "New: 3 sessions, 4 messages." in first.out
    assert _stored(direct_url, _TEXTS)[:2] == [
        ("alice", "s", 1, "你好", "user"),
        ("alice", "s", 2, "hello", "user"),
    ]
    stored = _stored(direct_url, _TEXTS)
    again = run_import(file, "--json").json()
    assert (again["records"], again["new_sessions"], again["new_messages"]) == (3, 0, 0)
    assert _stored(direct_url, _TEXTS) == stored


def test_messages_are_remembered_once_where_they_are_stored(
    run_import: RunImport, direct_url: str, tmp_path: Path
) -> None:
    memories = "SELECT user_id, session_id, payload->'content'->0->>'text' FROM agentstore.memories ORDER BY id"
    file = tmp_path / "conversations.jsonl"
    ids = [{"id": each, "role": "user", "content": each} for each in ("m1", "m2")]
    file.write_text(json.dumps({"user": "alice", "session": "s", "messages": ids}))
    assert run_import(file).code == 0
    assert _stored(direct_url, memories) == []
    for _ in range(2):
        done = run_import(file, "--remember")
        assert "Remembered: 2 messages." in done.out
        assert _stored(direct_url, memories) == [("alice", "s", "m1"), ("alice", "s", "m2")]
    # A message that the session has with another text is not remembered with the text of the file.
    ids[0]["content"] = "other"
    ids.append({"id": "m3", "role": "user", "content": "m3"})
    file.write_text(json.dumps({"user": "alice", "session": "s", "messages": ids}))
    assert run_import(file, "--remember", "--json").code == 5
    assert _stored(direct_url, memories) == [("alice", "s", each) for each in ("m1", "m2", "m3")]
    assert run_import(file, "--remember", "--dry-run", "--json").json().get("remembered") is None
    assert run("export", str(tmp_path / "export"), "--url", direct_url).code == 0
    refused = run_import(tmp_path / "export", "--remember")
    assert (refused.code, "with the memories that it has" in refused.err) == (2, True)


def test_parts_of_a_session_in_several_files_keep_order(run_import: RunImport, direct_url: str, tmp_path: Path) -> None:
    for name in "ab":
        lines = (_line(f"{name}{number}", session=f"s{number % 2}", user="u") for number in range(1_500))
        (tmp_path / name).write_text("\n".join(lines))
    done = run_import(
        tmp_path / "a", tmp_path / "b", "-", "--json", stdin=_line("last", session="s0", user="u").encode()
    )
    assert done.json()["new_messages"] == 3_001
    texts = [row[3] for row in _stored(direct_url, _TEXTS) if row[1] == "s0"]
    assert texts == [f"{name}{number}" for name in "ab" for number in range(0, 1_500, 2)] + ["last"]


def test_equal_messages_in_other_files_of_a_session_are_distinct(
    run_import: RunImport, direct_url: str, tmp_path: Path
) -> None:
    for name, texts in (("monday", ("yes", "go")), ("tuesday", ("yes", "stop"))):
        (tmp_path / name).write_text(_line(*texts, session="s"))
        assert run_import(tmp_path / name).code == 0
        assert run_import(tmp_path / name).code == 0
    assert [row[3] for row in _stored(direct_url, _TEXTS)] == ["yes", "go", "yes", "stop"]
    for text in ("wait", "end"):
        assert run_import("-", stdin=_line("yes", text, session="s").encode()).code == 0
    assert [row[3] for row in _stored(direct_url, _TEXTS)][4:] == ["yes", "wait", "yes", "end"]


def test_moved_file_adds_nothing_if_its_messages_have_ids_or_it_names_no_sessions(
    run_import: RunImport, direct_url: str, tmp_path: Path
) -> None:
    said = [{"id": f"m{number}", "role": "user", "content": "yes"} for number in range(2)]
    lines = [{"session": "s", "messages": said}, {"session": "t", **said[0]}]
    (tmp_path / "a").write_text("\n".join([*map(json.dumps, lines), _line("yes"), _line("yes", "no", user="alice")]))
    assert run_import(tmp_path / "a").code == 0
    assert _stored(direct_url, _COUNTS) == [(4, 6)]
    (tmp_path / "b").mkdir()
    (tmp_path / "a").rename(tmp_path / "b" / "c")
    assert run_import(tmp_path / "b" / "c", "--json").json()["new_messages"] == 0
    assert _stored(direct_url, _COUNTS) == [(4, 6)]


def test_files_with_equal_beginnings_are_separate_sessions(
    run_import: RunImport, direct_url: str, tmp_path: Path
) -> None:
    for name in "ab":
        lines = [{"role": "system", "content": "You are helpful."}, {"role": "user", "content": f"What is {name}?"}]
        (tmp_path / name).write_text(
            "\n".join(json.dumps(line) for line in (*lines, {"role": "user", "content": "yes"}))
        )
    assert run_import(tmp_path / "a", tmp_path / "b").code == 0
    assert _stored(direct_url, _COUNTS) == [(2, 6)]


def test_corrected_or_appended_file_adds_only_new_messages(
    run_import: RunImport, direct_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "log"
    lines = [_line(text, session="s", time=f"2024-01-0{day}") for day, text in enumerate(["yes", "yes", "no"], 1)]
    lines += ['{"role": "user", "content": "loose"}']
    file.write_text("\n".join(["{broken", *lines[1:]]))
    assert run_import(file).code == 5
    file.write_text("\n".join([*lines, _line("new", session="s")]))
    assert run_import(file, "--json").json()["new_messages"] == 2
    assert sorted(row[3] for row in _stored(direct_url, _TEXTS)) == ["loose", "new", "no", "yes", "yes"]


def test_messages_that_cannot_be_stored_are_skipped_one_by_one(
    run_import: RunImport, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTSTORE_MAX_BATCH", "10")
    monkeypatch.setenv("AGENTSTORE_MAX_MESSAGE_BYTES", "10000")
    said = [{"role": "user", "content": str(number), "id": f"m{number}"} for number in range(25)]
    bad: list[Any] = [*said]
    bad[3] = {"role": "bot", "content": "x"}
    bad[7] = {**said[7], "content": "x" * 10_000}
    bad[11] = "no message"
    bad[13] = {**said[13], "id": "\0"}
    bad[17] = {"role": "assistant", "content": "", "tool_calls": "x"}
    reports = []
    for arguments in (["--dry-run"], [], []):
        line = json.dumps({"session": "s", "messages": bad}).encode()
        done = run_import("-", "--json", *arguments, stdin=line)
        assert done.code == 5
        report = json.loads(done.out)
        assert [report[name] for name in ("input_messages", "stored_messages", "skipped_messages")] == [25, 20, 5]
        assert (report["messages"], report["problems"], report["passed_over"], report["changed"]) == (20, 5, 0, 0)
        assert {each["place"] for each in report["left_out"]} == {"line 1"}
        reports.append({each["reason"] for each in report["left_out"]})
    assert reports[0] == reports[1] == reports[2]
    for number, reason in {
        3: "role:",
        7: "message 'm7' has",
        11: "expected an object",
        13: "NUL",
        17: "tool_calls",
    }.items():
        assert any(each.startswith(f"messages[{number}]: ") and reason in each for each in reports[0])
    assert _stored(direct_url, _COUNTS) == [(1, 20)]
    corrected = {"session": "s", "messages": said}
    assert run_import("-", "--json", stdin=json.dumps(corrected).encode()).json()["new_messages"] == 5
    assert _stored(direct_url, _COUNTS) == [(1, 25)]


def test_conversation_without_a_valid_message_is_not_stored(run_import: RunImport, direct_url: str) -> None:
    lines = [{"session": "s", "messages": [7, None]}, {"session": "t", "messages": [{"role": "user", "content": "x"}]}]
    lines[1]["messages"][0]["id"] = "x" * 600  # type: ignore[index]
    for arguments in (["--dry-run"], []):
        done = run_import("-", "--json", *arguments, stdin="\n".join(map(json.dumps, lines)).encode())
        report = json.loads(done.out)
        assert (report["records"], report["input_messages"], report["skipped_messages"]) == (0, 3, 3)
    assert _stored(direct_url, _COUNTS) == [(0, 0)]


def test_conversation_that_is_refused_counts_its_messages(run_import: RunImport, direct_url: str) -> None:
    said = [{"role": "user", "content": str(number)} for number in range(3)]
    lines = [{"session": "x" * 600, "messages": said}, {"user": ["x"], "messages": said}, {"messages": "x"}]
    done = run_import("-", "--json", stdin="\n".join(map(json.dumps, lines)).encode())
    report = json.loads(done.out)
    assert (report["problems"], report["input_messages"], report["skipped_messages"]) == (3, 6, 6)
    assert "all of its 3 messages are skipped" in done.err
    assert _stored(direct_url, _COUNTS) == [(0, 0)]


def test_conversation_of_another_user_counts_all_of_its_messages(run_import: RunImport) -> None:
    said = [{"id": "m", "role": "user", "content": "x"}]
    lines = [
        {"user": "bob", "session": "s", "messages": [*said, *said, {"role": "bot"}, 7]},
        {"user": "alice", "session": "s", "messages": said},
        {"user": "bob", "session": "t", "messages": [7]},
    ]
    text = "\n".join(map(json.dumps, lines)).encode()
    report = json.loads(run_import("-", "--json", "--dry-run", "--only-user", "alice", stdin=text).out)
    counted = ("input_messages", "stored_messages", "skipped_messages", "passed_over")
    assert [report[name] for name in counted] == [6, 1, 5, 0]


def test_metadata_that_cannot_be_stored_is_reported_and_the_messages_are_stored(
    run_import: RunImport, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTSTORE_MAX_MESSAGE_BYTES", "1000")
    for arguments in (["--dry-run"], []):
        done = run_import(
            "-", "--json", *arguments, stdin=_line("x", session="s", metadata={"x": "y" * 1_500}).encode()
        )
        report = json.loads(done.out)
        assert (done.code, report["stored_messages"], report["problems"], report["skipped_messages"]) == (5, 1, 1, 0)
        assert "the metadata is not stored" in report["left_out"][0]["reason"]
    assert _stored(direct_url, _COUNTS) == [(1, 1)]


def test_session_of_many_lines_has_the_time_of_the_first(
    run_import: RunImport, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentstore.importing.importer._WINDOW_MESSAGES", 10)
    lines = [_line(str(number), session="s", time="2023-05-20") for number in range(95)]
    assert run_import("-", stdin="\n".join(lines).encode()).code == 0
    times = (
        "SELECT DISTINCT created_at::date::text, updated_at::date::text, listed_at::date::text FROM agentstore.sessions"
    )
    assert _stored(direct_url, times) == [("2023-05-20",) * 3]
    assert run_import("-", stdin=_line("later", session="s").encode()).code == 0
    assert _stored(
        direct_url, "SELECT count(*) FROM agentstore.sessions WHERE updated_at > now() - interval '1 day'"
    ) == [(1,)]


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z"])
def test_time_outside_the_range_of_postgres_is_reported(run_import: RunImport, direct_url: str, time: str) -> None:
    bad = json.dumps({"object": "session", "id": "bad", "user_id": "u", "messages": [], "created_at": time})
    for arguments in ((), ("--dry-run",)):
        done = run_import("-", *arguments, stdin=f"{bad}\n{_line('x', session='s', time=time)}".encode())
        assert done.code == 5
        assert "stdin: line 1: created_at is " in done.err
    assert _stored(direct_url, _COUNTS) == [(1, 1)]
    assert run("sessions", "list", "default", "--url", direct_url).code == 0


def test_large_invalid_values_are_shortened_in_errors(run_import: RunImport) -> None:
    done = run_import("-", stdin=json.dumps({"messages": [{"role": "x" * 1_000_000, "content": "x"}]}).encode())
    assert done.code == 5
    assert len(done.err) < 1_000


@pytest.mark.slow
def test_interrupt_ends_an_import_that_waits_for_a_pipe(direct_url: str) -> None:
    command = [sys.executable, "-m", "agentstore", "import", "-", "--url", direct_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        # More than the format is detected from, so that the import is running once all of it is read.
        process.stdin.write("\n".join(_line("x" * 100) for _ in range(400)).encode())
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4)) != bytes(4):  # until all is read
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        # A signal between two reads is handled after the next read, so it is sent again, as a user would press Ctrl-C
        # again; the second that is handled ends the process. A shell reports both as 130.
        while process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
        assert process.returncode in (130, -signal.SIGINT)
        assert b"Traceback" not in process.stderr.read()


async def test_failed_import_stores_nothing_afterwards(tmp_path: Path) -> None:
    class Failing:
        stored = 0

        async def import_session(self, session: Session, *, differences: str) -> Imported:
            assert differences == "keep"
            self.stored += 1
            if self.stored == 3:
                raise Unavailable("gone")
            await asyncio.sleep(0.01)
            return Imported(1, 1)

    file = tmp_path / "file"
    file.write_text("\n".join(_line(str(number)) for number in range(50)))
    failing = Failing()
    importer = Importer(failing, settings=Settings(), report=lambda *_: None)
    with pytest.raises(Unavailable):
        await importer.run([("file", file)])
    assert asyncio.all_tasks() == {asyncio.current_task()}  # none is left that could store
    assert failing.stored < 10


def test_messages_without_a_conversation_form_one_session(run_import: RunImport, direct_url: str) -> None:
    lines = b'{"role": "user", "content": "a"}\n{"role": "assistant", "content": "b"}\n'
    assert run_import("-", "--user", "alice", "--session", "s", stdin=lines).code == 0
    assert [row[:4] for row in _stored(direct_url, _TEXTS)] == [("alice", "s", 1, "a"), ("alice", "s", 2, "b")]


def test_invalid_lines_are_skipped_and_reported(run_import: RunImport, direct_url: str, tmp_path: Path) -> None:
    file = tmp_path / "mixed.jsonl"
    good = [_line(f"good {number}", session="s", user="u") for number in range(4)]
    file.write_bytes(
        b"\n".join(
            [
                good[0].encode(),
                b'{"messages": [',
                good[1].encode(),
                b'{"messages": [{"role": "user", "content": "whole"}, {"role": "bot", "content": "x"}]}',
                '{"messages": "编码"}'.encode("gbk"),
                b'{"messages": [], "session": "' + b"x" * 600 + b'"}',
                good[2].encode(),
                b'{"session": "s", "user": "u", "messages": [{"role": "user", "content": "new", "id": "m"}]}',
                b'{"session": "s", "user": "u", "messages": [{"role": "user", "content": "other", "id": "m"}]}',
                good[3].encode(),
            ]
        )
    )
    done = run_import(file, "--json")
    assert done.code == 5
    assert "Traceback" not in done.err
    summary = json.loads(done.out)
    reasons = {each["place"]: each["reason"] for each in summary["left_out"]}
    assert sorted(reasons) == ["line 2", "line 4", "line 5", "line 6", "line 9"]
    assert "not JSON" in reasons["line 2"]
    assert "messages[1]: role: 'bot' is not one of" in reasons["line 4"]
    assert "not UTF-8" in reasons["line 5"]
    assert "600 bytes" in reasons["line 6"]
    assert "'m'" in reasons["line 9"]
    for place, reason in reasons.items():
        assert f"{file}: {place}: {reason}" in done.err
    assert summary["problems"] == 5
    texts = ["whole", "good 0", "good 1", "good 2", "new", "good 3"]
    assert [row[3] for row in _stored(direct_url, _TEXTS)] == texts
    assert _stored(direct_url, _COUNTS) == [(2, 6)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (bytes(range(256)) * 10, "binary"),
        ("{}".encode("utf-16"), "UTF-16"),
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "compressed twice"),
        (b"PK\x03\x04 cut off", "truncated"),
        (gzip.compress(b'{"agentstore":"export","version":1}', mtime=0), "an export of agentstore, which is imported"),
        (b'{"prompt": "x"}\n' * 3, "line 3: not a known format"),
        (b"user,content\nalice,hi\n", "line 1: not JSON"),
        (b'{"messages": [{"role": "user", "content": "cut o', "line 1: not JSON: EOF"),
        (b'{"messages": [{"role": "user", "content": "' + b"x" * 3_000_000 + b'"}]}', "line 1: 3,000,047 bytes"),
    ],
)
def test_unsupported_files_are_reported(
    run_import: RunImport, direct_url: str, tmp_path: Path, data: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTSTORE_MAX_MESSAGE_BYTES", "1000000")
    (tmp_path / "bad").write_bytes(data)
    (tmp_path / "good").write_text(_line("x"))
    done = run_import(tmp_path / "bad", tmp_path / "good")
    assert done.code == 5
    assert f"{tmp_path / 'bad'}: " in done.err
    assert reason in done.err
    assert "Traceback" not in done.err
    assert _stored(direct_url, _COUNTS) == [(1, 1)]


def test_many_problems_are_counted_and_some_reported(run_import: RunImport) -> None:
    done = run_import("-", stdin=b"no\n" * 1_000)
    assert done.err.count("stdin: line") == 50
    assert "950 more were skipped" in done.err
    assert "Skipped: 1,000." in done.out


def test_what_is_passed_over_or_changed_is_counted_and_some_reported(run_import: RunImport) -> None:
    said = {"author": {"role": "user"}, "create_time": 1_700_000_000.0}
    nodes: dict[str, Any] = {"n0": {"message": {**said, "id": "m", "content": {"parts": ["x"]}}}}
    nodes |= {f"n{number}": {"parent": f"n{number - 1}", "message": {**said, "id": "e"}} for number in range(1, 61)}
    export = {"conversation_id": "c", "title": "cut \ud83d", "mapping": nodes, "current_node": "n60"}
    done = run_import("-", stdin=json.dumps([export]).encode())
    assert done.code == 0
    assert done.err.count("passed over: mapping.n") == 50
    assert "10 more were passed over" in done.err
    assert "element 1 (byte 1): changed: title: " in done.err
    assert done.out.endswith("Skipped: 0, passed over: 60, changed: 1.\n")
    report = run_import("-", "--json", stdin=json.dumps([export]).encode()).json()
    counted = ("input_messages", "stored_messages", "skipped_messages", "passed_over", "changed", "problems")
    assert [report[name] for name in counted] == [61, 1, 0, 60, 1, 0]
    assert report["left_out"] == []
    assert [each["kind"] for each in report["notes"]] == ["passed over"] * 50 + ["changed"]


def test_truncated_file_is_imported_up_to_the_end(run_import: RunImport, direct_url: str) -> None:
    conversation = {
        "mapping": {
            "m": {
                "message": {
                    "id": "m",
                    "author": {"role": "user"},
                    "content": {"content_type": "text", "parts": ["hi"]},
                },
                "parent": None,
            }
        },
        "current_node": "m",
    }
    data = json.dumps([{**conversation, "id": f"c{number}"} for number in range(3)]).encode()
    done = run_import("-", stdin=data[:-10])
    assert done.code == 5
    assert "element 3 (byte " in done.err
    assert "ends inside this element" in done.err
    assert [row[:4] for row in _stored(direct_url, _TEXTS)] == [("default", f"c{n}", 1, "hi") for n in range(2)]


def test_dry_run_reports_problems_without_a_database() -> None:
    lines = "\n".join([_line("x"), "{", _line("x", user="\0"), _line("x", session="x" * 600)])
    done = run("import", "-", "--dry-run", "--url", "postgresql://nobody@127.0.0.1:1/none", stdin=lines.encode())
    assert done.code == 5
    assert "1 record with 1 message" in done.out
    assert "nothing was stored" in done.out
    for place in ("line 2", "line 3", "line 4"):
        assert f"stdin: {place}: " in done.err


_EXPORTED = {"object": "session", "user_id": "u", "messages": []}
_SAID = {"object": "message", "id": "m", "role": "user", "content": [{"type": "text", "text": "a"}]}
_OTHER = {**_SAID, "content": [{"type": "text", "text": "b"}]}
_OLD = "2020-01-01T00:00:00Z"
_REFUSED: dict[str, list[dict[str, Any]]] = {
    "ttl": [{**_EXPORTED, "id": "s", "ttl": 0}, {**_EXPORTED, "id": "s", "ttl": 2**31}],
    "lineage": [{**_EXPORTED, "id": "s", "forked_from": "x" * 513}, {**_EXPORTED, "id": "s", "forked_at": -1}],
    "ids": [{**_EXPORTED, "id": "x" * 513}, {"user": "\0", "messages": []}, {"session": "s", **_SAID, "id": "\0"}],
    "title": [{**_EXPORTED, "id": "s", "title": "x" * 10_001}],
    "time": [{**_EXPORTED, "id": "s", "created_at": "0001-01-01T00:00:00Z"}],
    "expired": [{**_EXPORTED, "id": "s", "updated_at": _OLD}, {"time": _OLD, "messages": [_SAID]}],
    "expired by its own ttl": [{**_EXPORTED, "id": "s", "updated_at": _OLD, "ttl": 60}],
    "same id in two lines": [{"session": "s", "messages": [_SAID]}, {"session": "s", "messages": [_OTHER]}],
    "same id in two messages": [{"session": "s", **_SAID}, {"session": "s", **_SAID}, {"session": "s", **_OTHER}],
    "some": [{"messages": [_SAID]}, {"session": "s", "ttl": 5, "messages": [_SAID, None]}, {"messages": [_OTHER]}],
    "none": [
        {"session": "s", "messages": [_SAID, _SAID, _OTHER]},
        {"session": "t", "title": "\0", "messages": []},
        {**_EXPORTED, "id": "s", "forked_from": "", "ttl": 1},
    ],
}


def test_dry_run_knows_what_it_would_have_stored(
    run_import: RunImport, monkeypatch: pytest.MonkeyPatch, direct_url: str
) -> None:
    monkeypatch.setattr("agentstore.importing.importer._WINDOW_MESSAGES", 2)
    monkeypatch.setenv("AGENTSTORE_SESSION_TTL", "86400")
    lines = [{"session": "s", "messages": [{**_SAID, "id": f"m{number}"}]} for number in range(200)]
    lines += [{"session": "s", "messages": [{**_OTHER, "id": f"m{number}"}]} for number in range(0, 200, 20)]
    lines += [{"session": "s", "messages": [{**_SAID, "id": f"m{number}", "usage": {}}]} for number in range(5)]
    lines += [{"session": "s", "time": _OLD, "messages": [_SAID]}, {"session": "t", "time": _OLD, "messages": [_SAID]}]
    text = "\n".join(map(json.dumps, lines)).encode()
    dry, done = (run_import("-", "--json", *arguments, stdin=text) for arguments in (["--dry-run"], []))
    assert dry.err == done.err
    assert done.err.count("different text") == 10
    assert done.err.count("has expired") == 1
    assert _stored(direct_url, _COUNTS) == [(1, 201)]


@pytest.mark.parametrize("name", _REFUSED)
def test_dry_run_reports_what_the_import_refuses(
    run_import: RunImport, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("AGENTSTORE_SESSION_TTL", "86400")
    lines = "\n".join(json.dumps(each) for each in _REFUSED[name]).encode()
    dry, done = (run_import("-", "--json", *arguments, stdin=lines) for arguments in (["--dry-run"], []))
    assert dry.code == done.code == (0 if name == "none" else 5)
    reports = [json.loads(each.out) for each in (dry, done)]
    compared = ("records", "messages", "problems", "passed_over", "changed", "skipped_messages", "notes")
    assert [reports[0][key] for key in compared] == [reports[1][key] for key in compared]
    assert [each["place"] for each in reports[0]["left_out"]] == [each["place"] for each in reports[1]["left_out"]]
    assert (reports[1]["problems"] > 0) == (name != "none")


def test_missing_file_is_reported_before_anything_is_stored(
    run_import: RunImport, direct_url: str, tmp_path: Path
) -> None:
    (tmp_path / "good").write_text(_line("x"))
    for missing in (tmp_path / "none", tmp_path / "good" / "none"):
        done = run_import(tmp_path / "good", missing)
        assert done.code == 2
        assert "there is no file" in done.err
    assert _stored(direct_url, _COUNTS) == [(0, 0)]


@pytest.mark.slow
def test_killed_import_leaves_complete_conversations_and_resumes(
    run_import: RunImport, direct_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "long.jsonl"
    lines = [_line(*(f"{number}-{part}" for part in range(10)), session=f"s{number}") for number in range(2_000)]
    file.write_text("\n".join(lines))
    process = subprocess.Popen([sys.executable, "-m", "agentstore", "import", str(file), "--url", direct_url])
    deadline = time.monotonic() + 60
    while _stored(direct_url, _COUNTS)[0][0] < 200:
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    process.wait()
    # In one statement, since a transaction of before the kill may still commit.
    sizes = _stored(
        direct_url,
        "SELECT count(m.id) FROM agentstore.sessions s LEFT JOIN agentstore.messages m "
        "ON (m.user_id, m.session_id) = (s.user_id, s.id) GROUP BY s.id",
    )
    assert set(sizes) == {(10,)}
    assert len(sizes) < 2_000
    assert run_import(file, "--json").json()["new_sessions"] <= 2_000 - len(sizes)
    assert _stored(direct_url, _COUNTS) == [(2_000, 20_000)]


def test_unreachable_database_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "good").write_text(_line("x"))
    done = run("import", str(tmp_path / "good"), "--url", "postgresql://u:hunter2@127.0.0.1:1/none")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "hunter2" not in done.err


def _peak(url: str, file: Path) -> tuple[dict[str, Any], int]:
    """Import in a new process; return its JSON output, and its peak memory in MB as reported by Linux."""
    program = (
        "import runpy, sys\n"
        "try: runpy.run_module('agentstore', run_name='__main__')\n"
        "finally: print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "import", str(file), "--url", url, "--json"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    return json.loads(done.stdout), int(done.stderr.split()[1]) // 1024


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(direct_url: str, tmp_path: Path) -> None:
    peaks = []
    for size in (400, 2_000):
        file = tmp_path / str(size)
        with file.open("w") as lines:
            for number in range(size):
                lines.write(
                    _line(*(f"{number} {part} " + "x" * 1_600 for part in range(6)), session=f"{size}-{number}")
                )
                lines.write("\n")
        summary, peak = _peak(direct_url, file)
        assert summary["new_messages"] == 6 * size
        peaks.append(peak)
    # 4 and 19 MB of text, in windows of 2,000 messages.
    assert peaks[1] < peaks[0] + 14


@pytest.mark.labelled
def test_labelled_conversations_are_imported_completely(direct_url: str, tmp_path: Path, labelled: Path) -> None:
    """Import all conversations of a folder of labeled data: counts and texts match, and memory does not grow."""
    expected: list[tuple[str, str, int, str, str]] = []
    peaks = []
    for path in sorted(labelled.glob("*.jsonl.gz")):
        file = tmp_path / path.stem
        count = 0
        with gzip.open(path, "rt", encoding="utf-8") as users, file.open("w", encoding="utf-8") as lines:
            for user in map(json.loads, users):
                for session, group in itertools.groupby(user["docs"], key=lambda doc: doc["session"]):
                    docs = list(group)
                    messages = [{"role": doc["role"], "content": doc["text"], "name": doc["name"]} for doc in docs]
                    head = {"user": user["user"], "session": str(session), "time": docs[0]["time"]}
                    lines.write(json.dumps({**head, "messages": messages}, ensure_ascii=False) + "\n")
                    expected += [
                        (user["user"], str(session), seq, doc["text"], doc["role"]) for seq, doc in enumerate(docs, 1)
                    ]
                    count += len(docs)
        summary, peak = _peak(direct_url, file)
        print(
            f"{path.stem}: {count:,} messages in {summary['seconds']} s, {count / summary['seconds']:,.0f}/s, {peak} MB"
        )
        peaks.append(peak)
        assert summary["new_messages"] == summary["messages"] == count
        assert _peak(direct_url, file)[0]["new_messages"] == 0
    assert len(expected) > 15_000
    assert _stored(direct_url, _TEXTS) == sorted(expected)
    assert max(peaks) < min(peaks) + 60
