"""``agentstore sessions`` and ``agentstore users``: to look, to take out, to delete."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentstore import AgentStore, DataContent, FileContent, ImageContent, Message, Session, TextContent
from agentstore.testing import EXACT_VALUES, HOSTILE_IDS, text
from tests.support.cli import Done, run


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
    shown = run("sessions", "list", "alice", "--limit", "3")
    assert "title 6" in shown.out
    assert "More: --cursor " in shown.out
    assert "user 'bob' has no sessions" in run("sessions", "list", "bob").out


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
    assert run("users", "delete", "bob", "--yes", "--json").json() == {"sessions": 3, "messages": 3}
    assert "deleted: 0 sessions, 0 messages" in run("users", "delete", "bob", "--yes").out
    assert run("users", "show", "bob").code == 1


def test_a_session_is_shown_as_it_was_said() -> None:
    messages = [
        text("你好\nworld [bold]x[/bold]", metadata={"name": "Ann", "timestamp": 1_700_000_000}),
        Message(role="assistant", type="reasoning", content=[TextContent(text="hm")]),
        Message(role="assistant", type="function_call", content=[DataContent(data={"name": "add", "arguments": "{}"})]),
        Message(role="tool", type="function_call_output", content=[DataContent(data={"output": "21"})]),
        Message(role="user", content=[ImageContent(image_url="data:" + "x" * 500), FileContent(filename="a.pdf")]),
        Message(role="assistant", content=None),
    ]
    _store(Session(id="s", user_id="alice", messages=messages, title="标题", metadata={"k": "v"}))
    shown = run("sessions", "show", "alice", "s").out
    expected = ["标题", "alice / s", '{"k": "v"}', "user Ann 2023-11-14 22:13", "你好\nworld [bold]x[/bold]"]
    expected += ["assistant reasoning", "→ add({})", "← 21", f"[image data:{'x' * 115}...]", "[file a.pdf]"]
    at = 0
    for each in expected:
        assert each in shown[at:], each
        at = shown.index(each, at)
    assert Session.model_validate(run("sessions", "show", "alice", "s", "--json").json()) == _read("alice", "s")


def test_the_last_messages_are_shown_and_those_before() -> None:
    _store(Session(id="s", user_id="alice", messages=[text(f"number {n}", id=f"m{n}") for n in range(10)]))
    shown = run("sessions", "show", "alice", "s", "--limit", "3").out
    assert "number 6" not in shown
    assert "number 7" in shown
    assert "--before m7" in shown
    found = run("sessions", "show", "alice", "s", "--limit", "3", "--before", "m7", "--json").json()
    assert [each["id"] for each in found["messages"]] == ["m4", "m5", "m6"]


def test_what_was_stored_cannot_work_on_the_terminal() -> None:
    evil = "\x1b]0;title\x07\x1b[31mred\x9b31m\r\u202egnp"
    _store(Session(id=evil, user_id="alice", title=evil, messages=[text(evil)]))
    for arguments in (
        ("sessions", "list", "alice"),
        ("sessions", "show", "alice", evil),
        ("sessions", "show", evil, evil),
    ):
        done = run(*arguments)
        printed = done.out + done.err
        assert "red" in printed
        for character in "\x1b\x07\x9b\r\u202e":
            assert character not in printed


@pytest.mark.parametrize("id", [id for id in HOSTILE_IDS if not id.startswith("-")])
def test_what_was_exported_is_imported_as_it_was(id: str, tmp_path: Path) -> None:
    session = Session(
        id=id,
        user_id=id,
        title="标题",
        metadata={"values": list(EXACT_VALUES)},
        messages=[
            text("a", id=id),
            Message(role=None, metadata={"values": list(EXACT_VALUES)}, status="in_progress"),
            Message(role="assistant", object="other", type="own", content=[DataContent(data={"x": "\ud800\0"})]),
        ],
    )
    _store(session)
    before = _read(id, id)
    exported = run("sessions", "export", id)
    assert exported.code == 0
    file = tmp_path / "out.jsonl"
    assert run("sessions", "export", id, "-o", str(file)).code == 0
    assert json.loads(file.read_text()) == json.loads(exported.out)
    assert run("users", "delete", id, "--yes").code == 0
    assert run("import", str(file)).code == 0
    assert _read(id, id) == before
    assert run("sessions", "export", id).out == exported.out
    assert [each.name for each in tmp_path.iterdir()] == ["out.jsonl"]


def test_some_sessions_are_exported_or_none() -> None:
    _store(*_sessions(4))
    lines = run("sessions", "export", "alice", "s01", "s03").out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["s01", "s03"]
    assert len(run("sessions", "export", "alice").out.splitlines()) == 4
    assert run("sessions", "export", "bob") == Done(0, "", "")
    missing = run("sessions", "export", "alice", "s09")
    assert missing.code == 1
    assert "user 'alice' has no session 's09'" in missing.err


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    _store(*(Session(id=f"s{n}", user_id="alice", messages=[text("x" * 50_000)]) for n in range(20)))
    command = f"{sys.executable} -m agentstore sessions export alice | head -c 10"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert len(done.stdout) == 10
    assert done.stderr == ""


def test_what_is_deleted_is_counted_and_nobody_is_asked_with_yes() -> None:
    _store(*_sessions(2))
    assert run("sessions", "delete", "alice", "s00", "--yes").out == "deleted: 1 sessions, 1 messages\n"
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
        (("sessions", "list", "alice", "--cursor", "nonsense"), 1),
        (("sessions", "list", "x" * 600), 1),
        (("sessions", "list", "alice", "--limit", "0"), 2),
        (("sessions", "list", "alice", "--limit", "x"), 2),
        (("sessions", "list"), 2),
        (("sessions",), 2),
        (("users", "list", "--cursor", "nonsense"), 1),
        (("users", "show", "\udcff"), 1),
        (("sessions", "export", "alice", "-o", "/nowhere/file"), 1),
    ],
)
def test_what_is_wrong_is_a_line_and_an_exit_code(arguments: tuple[str, ...], code: int) -> None:
    done: Any = run(*arguments)
    assert done.code == code
    assert "Traceback" not in done.err + done.out
    assert done.err or done.out
