"""``agentstore sessions`` and ``agentstore users``: list, show, export and delete."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agentstore import AgentStore, DataContent, FileContent, ImageContent, Message, Session, TextContent
from agentstore.testing import EXACT_VALUES, HOSTILE_IDS, text
from tests.support.cli import run, started


@pytest.fixture(autouse=True)
def _database(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)


def _store(*sessions: Session) -> None:
    async def main() -> None:
        async with AgentStore() as store:
            for session in sessions:
                await store.sessions.import_session(session)

    asyncio.run(main())


def _read(user: str, session: str) -> Session | None:
    async def main() -> Session | None:
        async with AgentStore() as store:
            return await store.sessions.get_session(user, session)

    return asyncio.run(main())


def _sessions(count: int, user: str = "alice") -> list[Session]:
    return [
        Session(id=f"s{number:02}", user_id=user, title=f"title {number}", messages=[text(str(number))])
        for number in range(count)
    ]


def test_sessions_are_listed_in_pages() -> None:
    _store(*_sessions(7))
    seen: list[str] = []
    cursor: list[str] = []
    while True:
        page = run("sessions", "list", "alice", "--limit", "3", "--json", *cursor).json()
        seen += [each["id"] for each in page["sessions"]]
        if page["next_cursor"] is None:
            break
        cursor = ["--cursor", page["next_cursor"]]
    assert sorted(seen) == [f"s{number:02}" for number in range(7)]
    assert "messages" not in page["sessions"][0]
    printed = run("sessions", "list", "alice", "--limit", "3")
    assert "title 6" in printed.out
    assert "More: --cursor " in printed.out
    assert "user 'bob' has no sessions" in run("sessions", "list", "bob").out


def test_sessions_are_listed_by_filters_and_across_users() -> None:
    _store(
        Session(
            id="a",
            user_id="alice",
            title="Trip to Kyoto",
            metadata={"plan": "pro"},
            updated_at=datetime.fromisoformat("2026-01-01T00:00Z"),
        ),
        Session(
            id="b",
            user_id="alice",
            title="京都旅行",
            updated_at=datetime.fromisoformat("2026-01-02T00:00Z"),
            created_at=datetime.fromisoformat("2025-01-01T00:00Z"),
        ),
        Session(
            id="c",
            user_id="bob",
            title="trip",
            updated_at=datetime.fromisoformat("2026-01-03T00:00Z"),
            created_at=datetime.fromisoformat("2024-01-01T00:00Z"),
        ),
    )
    assert run("sessions", "create", "李雷", "d", "--app", "chat").code == 0

    def listed(*arguments: str) -> list[str]:
        return [each["id"] for each in run("sessions", "list", *arguments, "--json").json()["sessions"]]

    assert listed() == ["d", "c", "b", "a"]
    assert listed("--order", "created") == ["d", "a", "b", "c"]
    assert listed("alice") == ["b", "a"]
    assert listed("--title", "TRIP") == ["c", "a"]
    assert listed("alice", "--title", "旅行") == ["b"]
    assert listed("--metadata", '{"plan": "pro"}') == ["a"]
    assert listed("--since", "2026-01-02", "--until", "2026-01-03") == ["b"]
    assert listed("--app", "chat") == ["d"]
    lines = run("sessions", "list").out.splitlines()
    assert lines[0].split() == ["user", "session", "title", "messages", "created", "last", "used"]
    assert lines[1].split()[:2] == ["李雷", "d"]
    assert run("sessions", "list", "alice").out.startswith("session  title")
    assert "there are no sessions that match" in run("sessions", "list", "--title", "none").out
    page = run("sessions", "list", "--limit", "3", "--json").json()
    assert listed("--cursor", page["next_cursor"]) == ["a"]


def test_sessions_are_created_appended_to_and_renamed() -> None:
    id = run("sessions", "create", "alice").out.strip()
    assert len(id) == 36
    made = ("sessions", "create", "alice", "s", "--title", "标题", "--metadata", '{"n": 1}', "--ttl", "60", "--json")
    created = run(*made).json()
    assert (created["id"], created["title"], created["metadata"], created["ttl"]) == ("s", "标题", {"n": 1}, 60)
    again = run("sessions", "create", "alice", "s", "--json")
    assert (again.code, again.error()["type"]) == (1, "AlreadyExists")
    for _ in range(2):  # with an id it is idempotent
        assert run("sessions", "append", "alice", "s", "hello", "--id", "m1").out == "#1 m1\n"
    lines = "first\n  第二 👩‍👩‍👧‍👦\n".encode()
    answer = run("sessions", "append", "alice", "s", "-", "--role", "assistant", "--json", stdin=lines).json()
    assert answer["seq"] == 2
    late = run("sessions", "append", "alice", "s", "late", "--expected-seq", "1", "--json")
    assert (late.code, late.error()["type"]) == (1, "Conflict")
    missing = run("sessions", "append", "alice", "none", "x", "--json")
    assert (missing.code, missing.error()["type"]) == (1, "NotFound")
    assert run("sessions", "append", "alice", "none", "x", "--create").code == 0
    stored = _read("alice", "s")
    assert stored is not None
    assert [(each.role, each.text) for each in stored.messages] == [
        ("user", "hello"),
        ("assistant", "first\n  第二 👩‍👩‍👧‍👦"),
    ]
    assert datetime.fromisoformat(answer["created_at"]) == stored.messages[1].created_at
    assert "is now 'new'" in run("sessions", "rename", "alice", "s", "new").out
    assert run("sessions", "rename", "alice", "s", "", "--json").json() == {"id": "s", "title": None}
    assert run("sessions", "rename", "alice", "nope", "x").code == 1
    assert run("sessions", "append", "alice", "s", "-", stdin=b"\xff").code == 2


def test_users_are_listed_shown_and_deleted() -> None:
    _store(*_sessions(2), *_sessions(3, "bob"), *_sessions(1, "李雷"))
    page = run("users", "list", "--limit", "2", "--json").json()
    assert [each["id"] for each in page["users"]] == ["alice", "bob"]
    assert [each["id"] for each in run("users", "list", "--cursor", page["next_cursor"], "--json").json()["users"]] == [
        "李雷"
    ]
    assert "bob" in run("users", "list").out
    assert run("users", "show", "李雷", "--json").json()["id"] == "李雷"
    assert "agentstore sessions list" in run("users", "show", "李雷").out
    nothing = {
        "users": 0,
        "sessions": 0,
        "messages": 0,
        "memories": 0,
        "state_rounds": 0,
        "workspaces": 0,
        "values": 0,
        "blobs": 0,
        "checkpoints": 0,
    }
    assert run("users", "delete", "bob", "--yes", "--json").json() == {
        **nothing,
        "users": 1,
        "sessions": 3,
        "messages": 3,
    }
    assert run("erase", "bob", "--yes", "--json").json() == nothing
    assert "nothing deleted: there is no user 'bob'" in run("users", "delete", "bob", "--yes").out
    assert run("users", "show", "bob").code == 1


def test_show_prints_all_kinds_of_messages() -> None:
    messages = [
        text("你好\nworld [bold]x[/bold]", metadata={"name": "Ann", "timestamp": 1_700_000_000}),
        Message(role="assistant", type="reasoning", content=[TextContent(text="hm")]),
        Message(role="assistant", type="function_call", content=[DataContent(data={"name": "add", "arguments": "{}"})]),
        Message(role="tool", type="function_call_output", content=[DataContent(data={"output": "21"})]),
        Message(role="user", content=[ImageContent(image_url="data:" + "x" * 500), FileContent(filename="a.pdf")]),
        Message(role="assistant", content=None),
        Message(role="assistant", type="error", code="429", message="rate limited"),
        Message(role="tool", type="function_call_output", content=[DataContent(data={"output": "x", "exit_code": 1})]),
    ]
    _store(Session(id="s", user_id="alice", messages=messages, title="标题", metadata={"k": "v"}))
    printed = run("sessions", "show", "alice", "s").out
    expected = ["标题", "alice / s", '{"k": "v"}', "user Ann 2023-11-14 22:13", "\n  你好\n  world [bold]x[/bold]"]
    expected += ["assistant reasoning", "→ add({})", "← 21", f"[image data:{'x' * 115}...]", "[file a.pdf]"]
    expected += ["assistant error ", " #7 msg_", "\n  429 rate limited", '{"output": "x", "exit_code": 1}']
    position = 0
    for part in expected:
        assert part in printed[position:], part
        position = printed.index(part, position)
    found, stored = run("sessions", "show", "alice", "s", "--json").json(), _read("alice", "s")
    assert stored is not None
    assert [each.pop("seq") for each in found["messages"]] == list(range(1, 9))
    times = [datetime.fromisoformat(each.pop("created_at")) for each in found["messages"]]
    assert times == [each.created_at for each in stored.messages]
    assert Session.model_validate(found) == stored
    assert ", 8 messages" in printed


def test_show_limits_to_the_last_messages() -> None:
    _store(Session(id="s", user_id="alice", messages=[text(f"number {n}", id=f"m{n}") for n in range(10)]))
    printed = run("sessions", "show", "alice", "s", "--limit", "3").out
    assert "number 6" not in printed
    assert "number 7" in printed
    assert "--limit 3 --before=m7" in printed
    assert "Earlier" not in run("sessions", "show", "alice", "s", "--limit", "10").out
    assert "Earlier" not in run("sessions", "show", "alice", "s", "--limit", "3", "--before=m3").out
    found = run("sessions", "show", "alice", "s", "--limit", "3", "--before", "m7", "--json").json()
    assert [each["id"] for each in found["messages"]] == ["m4", "m5", "m6"]


_EVIL = "\x1b]0;title\x07\x1b[31mred\x9b31m\r\u202egnp\u2028\u200b\nassistant 2026-01-01 00:00"


def test_stored_text_cannot_control_the_terminal(tmp_path: Path) -> None:
    _store(Session(id=_EVIL, user_id="alice", title=_EVIL, messages=[text(_EVIL)]))
    file = tmp_path / "\x1b[31mred"
    file.write_text("{")
    for arguments in (
        ("sessions", "list", "alice"),
        ("sessions", "show", "alice", _EVIL),
        ("sessions", "show", "alice", _EVIL, "--json"),
        ("sessions", "show", _EVIL, _EVIL),
        ("sessions", "export", "alice"),
        ("import", str(file)),
    ):
        done = run(*arguments)
        printed = done.out + done.err
        assert "red" in printed
        for character in "\x1b\x07\x9b\r\u202e\u2028\u200b":
            assert character not in printed
    printed = run("sessions", "show", "alice", _EVIL).out
    assert sum(line.startswith("assistant") for line in printed.splitlines()) == 0


def test_similar_ids_are_distinguishable() -> None:
    ids = ["a b", "a\nb", "a  b", "a\u2028b", "", " ", "李雷", "-x"]
    _store(*(Session(id=id, user_id=id) for id in ids))
    printed = [line.rstrip().rpartition("  2")[0].rstrip() for line in run("users", "list").out.splitlines()[1:]]
    assert sorted(printed) == sorted(["a b", r"$'a\nb'", "'a  b'", r"$'a\u2028b'", "''", "' '", "李雷", "-x"])


@pytest.mark.parametrize("id", HOSTILE_IDS)
def test_export_and_import_round_trip_exactly(id: str, tmp_path: Path) -> None:
    session = Session(
        id=id,
        user_id=id,
        title="标题",
        metadata={"values": list(EXACT_VALUES)},
        messages=[
            text("a", id=id),
            Message(role=None, metadata={"values": list(EXACT_VALUES)}, status="in_progress"),
            Message(role="assistant", object="other", type="own", content=[DataContent(data={"x\ud800": "\ud800\0"})]),
        ],
    )
    _store(session)
    before = _read(id, id)
    file = tmp_path / "out.jsonl"
    assert run("sessions", "export", "-o", str(file), "--", id).code == 0
    assert [each.name for each in tmp_path.iterdir()] == ["out.jsonl"]
    assert run("users", "delete", "--yes", "--", id).code == 0
    assert run("import", str(file)).code == 0
    assert _read(id, id) == before
    exported = run("sessions", "export", "--", id)
    assert exported.code == 0
    assert exported.out == file.read_text()


def test_long_session_is_exported_in_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    _store(Session(id="s", user_id="alice", title="t", messages=[text("x" * 800) for _ in range(20)]))
    before = _read("alice", "s")
    monkeypatch.setenv("AGENTSTORE_MAX_MESSAGE_BYTES", "2000")
    exported = run("sessions", "export", "alice").out
    assert len(exported.splitlines()) > 5
    assert run("users", "delete", "alice", "--yes").code == 0
    assert run("import", "-", stdin=exported.encode()).code == 0
    assert _read("alice", "s") == before


def test_export_replaces_a_file_atomically(tmp_path: Path) -> None:
    _store(*_sessions(2))
    target = tmp_path / "private.jsonl"
    target.write_text("previous content")
    target.chmod(0o644)
    link = tmp_path / "link.jsonl"
    link.symlink_to(target)
    for arguments in (("alice", "s00", "none"), ("alcie",)):
        assert run("sessions", "export", *arguments, "-o", str(link)).code == 1
        assert target.read_text() == "previous content"
        assert target.stat().st_mode & 0o777 == 0o644
    assert run("sessions", "export", "alice", "-o", str(link)).code == 0
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o600
    assert len(target.read_text().splitlines()) == 2
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.jsonl", "private.jsonl"]
    assert run("sessions", "export", "alice", "-o", os.devnull).code == 0
    assert Path(os.devnull).is_char_device()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "agentstore", "sessions", "export", "alice", "-o", str(pipe)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        read = subprocess.run(["timeout", "60", "cat", str(pipe)], capture_output=True, check=True)
    assert len(read.stdout.splitlines()) == 2
    assert process.returncode == 0
    assert pipe.is_fifo()


@pytest.mark.parametrize("command", [("export",), ("export", "--user", "alice"), ("sessions", "export", "alice", "-o")])
def test_exported_files_are_readable_by_their_owner_only(command: tuple[str, ...], tmp_path: Path) -> None:
    _store(*_sessions(1))
    mask = os.umask(0)
    try:
        assert run(*command, str(tmp_path / "new")).code == 0
    finally:
        os.umask(mask)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_standard_streams_are_no_error(closed: str) -> None:
    _store(*_sessions(1))
    for command, code in (("users list", 0), ("users delete alice", 2), ("import -", 2 if "<" in closed else 5)):
        stdin = "" if "<" in closed else " </dev/null"
        done = subprocess.run(
            ["sh", "-c", f"{sys.executable} -m agentstore {command}{stdin} {closed}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr


def test_export_is_utf_8_in_every_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    _store(Session(id="é", user_id="é", messages=[text("你好é😀")]))
    command = [sys.executable, "-m", "agentstore", "sessions", "export", "é"]
    done = subprocess.run(
        command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, timeout=60, check=True
    )
    assert json.loads(done.stdout.decode("utf-8"))["messages"][0]["content"][0]["text"] == "你好é😀"


def test_lone_surrogates_are_printed_as_escapes() -> None:
    _store(Session(id="s", user_id="alice", metadata={"x\ud800": "\ud800"}))

    async def set_metadata() -> None:
        async with AgentStore() as store:
            await store.users.set_metadata("alice", {"x\ud800": "\ud800"})

    asyncio.run(set_metadata())
    (session,) = run("sessions", "list", "alice", "--json").json()["sessions"]
    (user,) = run("users", "list", "--json").json()["users"]
    for found in (session, user, run("users", "show", "alice", "--json").json()):
        assert found["metadata"] == {"x\ud800": "\ud800"}


def test_selected_sessions_are_exported() -> None:
    _store(*_sessions(4))
    lines = run("sessions", "export", "alice", "s01", "s03").out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["s01", "s03"]
    assert len(run("sessions", "export", "alice").out.splitlines()) == 4
    assert run("sessions", "export", "bob").code == 1
    missing = run("sessions", "export", "alice", "s09")
    assert missing.code == 1
    assert "user 'alice' has no session 's09'" in missing.err


def test_closed_pipe_is_no_error() -> None:
    _store(*(Session(id=f"s{n}", user_id="alice", messages=[text("x" * 50_000)]) for n in range(20)))
    command = f"{sys.executable} -m agentstore sessions export alice | head -c 10"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert len(done.stdout) == 10
    assert done.stderr == ""


def test_delete_counts_and_needs_confirmation() -> None:
    _store(*_sessions(2))
    assert run("sessions", "delete", "alice", "s00", "--yes").out == "deleted: 1 session, 1 message\n"
    assert "nothing deleted" in run("sessions", "delete", "alice", "s00", "--yes").out
    assert run("sessions", "delete", "alice", "s00", "-y", "--json").json() == {"sessions": 0, "messages": 0}
    for command in (("sessions", "delete", "alice", "s01"), ("users", "delete", "alice")):
        refused = run(*command)
        assert refused.code == 2
        assert "--yes" in refused.err
    assert _read("alice", "s01") is not None


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("sessions", "show", "alice", "none"), 1),
        (("sessions", "show", "alice", "none", "--before", "m"), 1),
        (("sessions", "list", "alice", "--cursor", "nonsense"), 2),
        (("sessions", "list", "x" * 600), 2),
        (("sessions", "list", "alice", "--limit", "0"), 2),
        (("sessions", "list", "alice", "--limit", "x"), 2),
        (("sessions", "list", "--until", "soon"), 2),
        (("sessions",), 2),
        (("users", "list", "--cursor", "nonsense"), 2),
        (("users", "show", "\udcff"), 2),
        (("import", "--user", "\udcff", "-"), 2),
        (("sessions", "export", "alice", "-o", "/nowhere/file"), 2),
    ],
)
def test_errors_have_a_message_and_an_exit_code(arguments: tuple[str, ...], code: int) -> None:
    done: Any = run(*arguments)
    assert done.code == code
    assert "Traceback" not in done.err + done.out
    assert done.err or done.out


def test_show_follows_a_session() -> None:
    _store(Session(id="s", user_id="alice", messages=[text(str(number), id=f"m{number}") for number in range(3)]))
    command = [
        sys.executable,
        "-m",
        "agentstore",
        "sessions",
        "show",
        "alice",
        "s",
        "--follow",
        "--json",
        "--limit",
        "0",
    ]
    with started(command) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["messages"] == []
        assert run("sessions", "append", "alice", "s", "new").code == 0
        found = json.loads(process.stdout.readline())
        assert (found["seq"], found["content"][0]["text"]) == (4, "new")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert run("sessions", "show", "alice", "s", "--follow", "--before", "m1").code == 2
