"""``agentstore states``, and ``agentstore sessions fork`` and ``rewind``."""

import asyncio
import json
from pathlib import Path

import pytest

from agentstore import AgentStore
from agentstore.testing import text
from tests.support.cli import run


@pytest.fixture(autouse=True)
def _database(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)

    async def main() -> None:
        async with AgentStore() as store:
            session = await store.sessions.create_session("alice", "s")
            for number in range(1, 4):
                await store.sessions.append_message(session, text(str(number), id=f"m{number}"))
                await store.states.save_state("alice", {"step": number, "密": "\x00"}, "s", metadata={"n": number})
            await store.states.save_state("alice", {"of": "default"})

    asyncio.run(main())


def test_rounds_are_listed_in_pages() -> None:
    page = run("states", "list", "alice", "s", "--limit", "2", "--json").json()
    assert [(each["round_id"], each["metadata"]) for each in page["rounds"]] == [(3, {"n": 3}), (2, {"n": 2})]
    rest = run("states", "list", "alice", "s", "--limit", "2", "--cursor", page["next_cursor"], "--json").json()
    assert [each["round_id"] for each in rest["rounds"]] == [1]
    assert '{"n": 3}' in run("states", "list", "alice", "s").out
    assert len(run("states", "list", "alice", "--json").json()["rounds"]) == 1
    assert "session 's' of user 'bob' has no states" in run("states", "list", "bob", "s").out


def test_show_prints_the_exact_state() -> None:
    assert run("states", "show", "alice", "s").json() == {"step": 3, "密": "\x00"}
    assert run("states", "show", "alice", "s", "--round", "1").json() == {"step": 1, "密": "\x00"}
    assert run("states", "show", "alice").json() == {"of": "default"}
    missing = run("states", "show", "alice", "s", "--round", "9")
    assert (missing.code, missing.err) == (1, "error: session 's' of user 'alice' has no round 9\n")
    assert run("states", "show", "alice", "s", "--round", "0").code == 2


def test_diff_prints_a_json_patch() -> None:
    assert run("states", "diff", "alice", "s", "1", "3", "--json").json() == [
        {"op": "replace", "path": "/step", "value": 3}
    ]
    assert run("states", "diff", "alice", "s", "1", "3").out == "replace  /step 3\n"
    assert run("states", "diff", "alice", "s", "2", "2").out == "no changes\n"
    assert run("states", "diff", "alice", "s", "2", "7").code == 1


def test_delete_removes_one_round_or_all() -> None:
    assert run("states", "delete", "alice", "s").code == 2  # no terminal to confirm
    assert run("states", "delete", "alice", "s", "--round", "2", "-y", "--json").json() == {"state_rounds": 1}
    assert run("states", "delete", "alice", "s", "-y").out == "deleted: 2 rounds\n"
    assert "nothing deleted" in run("states", "delete", "alice", "s", "-y").out


def test_sessions_are_forked_and_rewound_with_their_states() -> None:
    fork = run("sessions", "fork", "alice", "s", "--at", "m2", "--json").json()
    assert (fork["forked_from"], fork["forked_at"]) == ("s", 2)
    assert run("states", "show", "alice", fork["id"]).json()["step"] == 2
    assert "has the first 0 messages" in run("sessions", "fork", "alice", "s", "--first", "0", "--new-id", "f").out
    assert run("sessions", "fork", "alice", "s", "--new-id", "f").code == 1
    assert run("sessions", "fork", "alice", "s", "--at", "m2", "--first", "1").code == 2
    assert run("sessions", "rewind", "alice", "s").code == 2
    assert run("sessions", "rewind", "alice", "s", "--first", "3", "--json").json()["kept_in"] is None
    back = run("sessions", "rewind", "alice", "s", "--at", "m1", "--json").json()
    assert back["forked_from"] is None
    assert len(run("sessions", "show", "alice", back["kept_in"], "--json").json()["messages"]) == 2
    assert len(run("sessions", "show", "alice", "s", "--json").json()["messages"]) == 1
    assert run("sessions", "rewind", "alice", "s", "--first", "0", "--no-keep").code == 2
    assert run("sessions", "rewind", "alice", "s", "--first", "0", "--no-keep", "-y").out == (
        "session 's' now has 0 messages\n"
    )
    assert run("sessions", "rewind", "alice", "nope", "--first", "0").code == 1


def test_no_command_loads_a_session_that_it_does_not_print(direct_url: str, tmp_path: Path) -> None:
    async def append() -> None:
        async with AgentStore() as store:
            for number in range(5):
                await store.sessions.append("alice", "s", text("x" * 20_000, id=f"large {number}"))

    asyncio.run(append())
    file = str(tmp_path / "export")
    for command in (
        "append alice s more", "fork alice s --new-id f", "rewind alice s --first 7", "rename alice s title",
        "rewind alice f --first 6 --no-keep -y", "list alice", f"export alice s f -o {file}", "delete alice s -y",
    ):  # fmt: skip
        done = run("sessions", *command.split(), environment={"AGENTSTORE_MAX_REPLY_BYTES": "50000"})
        assert done.code == 0, (command, done.err)
    lines = [json.loads(line) for line in Path(file).read_text().splitlines()]
    assert [[each["id"] for each in line["messages"]] for line in lines] == [
        ["m1", "m2", "m3", *(f"large {number}" for number in range(count))] for count in (4, 3)
    ]


def test_export_and_import_preserve_the_lineage_of_a_fork() -> None:
    run("sessions", "fork", "alice", "s", "--new-id", "f")
    exported = run("sessions", "export", "alice", "f").out
    run("sessions", "delete", "alice", "f", "-y")
    assert run("import", "-", stdin=exported.encode()).code == 0
    assert run("sessions", "export", "alice", "f").out == exported


def test_states_are_saved() -> None:
    assert run("states", "save", "alice", "saved", '{"plan": ["见"], "n": 12345678901234567890}').out == "round 1\n"
    text = '{"a": "é"}'
    options = ("--expected-round", "1", "--metadata", '{"by": "cli"}', "--json")
    assert run("states", "save", "alice", "saved", "-", *options, stdin=text.encode()).json() == {"round_id": 2}
    assert run("states", "show", "alice", "saved").out == text + "\n"
    shown = run("states", "show", "alice", "saved", "--round", "1").out
    assert shown == '{"plan": ["见"], "n": 12345678901234567890}\n'
    assert "cli" in run("states", "list", "alice", "saved").out
    late = run("states", "save", "alice", "saved", "{}", "--expected-round", "1", "--json")
    assert (late.code, late.error()["type"]) == (1, "Conflict")
    assert run("states", "save", "alice", "saved", "{}", "--round", "1").out == "round 1\n"
    assert run("states", "show", "alice", "saved", "--round", "1").out == "{}\n"
