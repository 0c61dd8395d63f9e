"""``agentstore import`` of archives, of folders, and of each format of files."""

import asyncio
import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.cli import Result, run

_FIXTURES = Path(__file__).parent.parent / "support" / "imports"

RunImport = Callable[..., Result]


@pytest.fixture
def run_import(direct_url: str) -> RunImport:
    def call(*arguments: object, stdin: bytes = b"") -> Result:
        return run("import", *map(str, arguments), "--url", direct_url, stdin=stdin)

    return call


def _stored(url: str) -> list[tuple[str, list[str]]]:
    """Return the sessions, each with the roles and texts of its messages."""

    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch("""
                SELECT session_id,
                    array_agg(concat(payload->>'role', ': ', payload->'content'->0->>'text') ORDER BY seq)
                FROM agentstore.messages GROUP BY user_id, session_id ORDER BY session_id
            """)
        finally:
            await connection.close()

    return [tuple(row) for row in asyncio.run(fetch())]


def _zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


_OTHERS = {
    "users.json": b'[{"uuid": "acc-1", "full_name": "Ann"}]',
    "projects.json": b'[{"uuid": "prj-1", "name": "Trip", "docs": [], "created_at": "2025-01-01"}]',
    "settings/other.json": b'{"theme": "dark"}',
    "empty.json": b"[]",
}


def test_zip_archive_is_imported_as_it_was_downloaded(run_import: RunImport, direct_url: str, tmp_path: Path) -> None:
    conversations = (_FIXTURES / "claude.json").read_bytes()
    path = _zip(tmp_path / "data.zip", {"conversations.json": conversations, **_OTHERS})
    done = run_import(path)
    assert done.code == 0
    assert "New: 2 sessions, 7 messages. Skipped: 0, passed over: 2, changed: 0." in done.out
    for name in ("users.json", "projects.json"):
        assert f"{path}: {name}: not imported: it has no conversations" in done.err
    assert f"{path}/empty.json: not imported: empty" in done.err
    assert f"{path}/settings/other.json: not imported: not a known format" in done.err
    stored = _stored(direct_url)
    assert len(stored) == 2
    again = run_import(path, "--json").json()
    assert (again["new_sessions"], again["new_messages"], again["not_imported"]) == (0, 0, 4)
    assert again["input_messages"] == again["stored_messages"] + again["skipped_messages"] + again["passed_over"] == 6
    assert _stored(direct_url) == stored


def test_conversations_that_begin_with_an_odd_one_are_imported(
    run_import: RunImport, direct_url: str, tmp_path: Path
) -> None:
    values = [{"uuid": "odd", "name": "x", "account": {}}, *json.loads((_FIXTURES / "claude.json").read_bytes())]
    done = run_import(_zip(tmp_path / "data.zip", {"conversations.json": json.dumps(values).encode()}))
    assert done.code == 5
    assert "looks like a conversation of Claude's export" in done.err
    assert len(_stored(direct_url)) == 2


def test_newer_archive_adds_what_is_new(run_import: RunImport, direct_url: str, tmp_path: Path) -> None:
    conversations = json.loads((_FIXTURES / "claude.json").read_bytes())
    del conversations[1]["chat_messages"][0]["uuid"]  # its id is derived, and does not depend on the archive's name
    assert run_import(_zip(tmp_path / "june.zip", {"conversations.json": json.dumps(conversations).encode()})).code == 0
    messages = conversations[0]["chat_messages"]
    messages[0] |= {"updated_at": "2025-07-01T00:00:00Z", "files": [], "model": "noted since"}
    messages.append({**messages[-1], "uuid": "c-5", "parent_message_uuid": "c-4"})
    conversations[0]["summary"] = "written since"
    done = run_import(_zip(tmp_path / "july.zip", {"conversations.json": json.dumps(conversations).encode()}), "--json")
    assert (done.code, done.json()["new_messages"]) == (0, 1)
    assert _stored(direct_url)[0][1][-2:] == ["user: ありがとう", "user: ありがとう"]


def test_folder_of_parts_is_imported_in_order(run_import: RunImport, direct_url: str, tmp_path: Path) -> None:
    for number in (0, 2, 10):
        line = {"session": "s", "messages": [{"role": "user", "content": str(number)}]}
        (tmp_path / f"conversations-{number}.json").write_text(json.dumps([line]))
    (tmp_path / "log.jsonl.gz").write_bytes(gzip.compress(b'{"session": "t", "role": "user", "content": "x"}\n'))
    (tmp_path / "user.json").write_text("{}")
    done = run_import(tmp_path)
    assert done.code == 0
    assert _stored(direct_url) == [("s", ["user: 0", "user: 2", "user: 10"]), ("t", ["user: x"])]
    assert run_import(tmp_path, "--json").json()["new_messages"] == 0


def test_damaged_member_is_reported_and_the_others_are_imported(
    run_import: RunImport, direct_url: str, tmp_path: Path
) -> None:
    data = json.dumps({"session": "s", "messages": [{"role": "user", "content": "x" * 5_000}]}).encode()
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.jsonl", data)
        archive.writestr("2.jsonl", data.replace(b'"s"', b'"t"'))
    damaged = bytearray(path.read_bytes())
    damaged[1_000] ^= 1
    path.write_bytes(damaged)
    done = run_import(path)
    assert done.code == 5
    assert f"{path}/1.jsonl: the compressed file is damaged" in done.err
    assert [session for session, _ in _stored(direct_url)] == ["t"]


def test_batch_is_joined_whatever_the_order_of_its_files(run_import: RunImport, direct_url: str) -> None:
    done = run_import(_FIXTURES / "batch_output.jsonl", _FIXTURES / "batch_input.jsonl")
    assert done.code == 0
    assert "the request 'request-3' failed: 'This request could not be executed" in done.err
    assert sorted(messages for _, messages in _stored(direct_url)) == [
        ["user: question 1", "assistant: answer 1"],
        ["user: question 2", "assistant: answer 2"],
        ["user: question 3"],
    ]
    again = run_import(_FIXTURES / "batch_input.jsonl", _FIXTURES / "batch_output.jsonl", "--json").json()
    assert (again["new_sessions"], again["new_messages"]) == (0, 0)
    alone = run_import(_FIXTURES / "batch_output.jsonl", "--json")
    counts = json.loads(alone.out)
    assert (alone.code, counts["skipped_messages"], counts["new_messages"]) == (5, 2, 0)


@pytest.mark.parametrize("name", sorted(each.name for each in _FIXTURES.iterdir() if "output" not in each.name))
def test_each_format_is_imported_once(name: str, run_import: RunImport, direct_url: str) -> None:
    first = run_import(_FIXTURES / name, "--json")
    counts = first.json()
    assert first.code == 0
    assert counts["input_messages"] == counts["stored_messages"] + counts["passed_over"]
    assert counts["new_messages"] > 0
    stored = _stored(direct_url)
    again = run_import(_FIXTURES / name, "--json").json()
    assert (again["new_sessions"], again["new_messages"]) == (0, 0)
    assert _stored(direct_url) == stored


def test_formats_are_listed() -> None:
    listed = run("import", "--list-formats", "--json").json()
    assert {"chatgpt", "claude", "open-webui", "librechat", "sharegpt"} <= {each["name"] for each in listed}
    text = run("import", "--list-formats")
    assert text.code == 0
    assert '"chat_messages"' in text.out
    assert run("import").code == 2


def test_unknown_format_is_named_with_what_it_resembles(run_import: RunImport, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('[{"uuid": "u", "name": "n", "account": {}}]')
    done = run_import(path)
    assert done.code == 5
    assert """looks like a conversation of Claude's export, but "chat_messages" is missing""" in done.err


def test_session_of_messages_on_lines_is_dated_by_them(run_import: RunImport, direct_url: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = [{"role": "user", "content": str(day), "timestamp": f"2014-01-0{day}"} for day in (2, 3, 1)]
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert run_import(path, "--user", "u").code == 0
    (session,) = run("sessions", "list", "u", "--json", "--url", direct_url).json()["sessions"]
    assert session["created_at"].startswith("2014-01-01")
    assert session["updated_at"].startswith("2014-01-03")
