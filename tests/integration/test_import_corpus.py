"""Odd conversations of every format: none vanishes silently, and a later copy adds exactly what is new."""

import json
import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentstore import AgentStore, Settings
from agentstore.importing import Importer, Mover, Note, Target, agentscope2, openai_agents, redis_services
from agentstore.importing.databases import OtherDatabase
from agentstore.importing.notes import Counts
from tests.support import corpus_formats  # noqa: F401 (adds its formats to the corpus)
from tests.support.corpus import FORMATS, PASSED_OVER, PROBLEM, STORED, STORES, Conversation, generate
from tests.support.key_values import KeyValues

pytestmark = pytest.mark.slow

_COUNT = 30
_MARK = re.compile(r"<[^<>]+>")


async def _import_file(store: AgentStore | None, settings: Settings, file: Path) -> tuple[Importer, list[Note]]:
    notes: list[Note] = []

    def report(_: str, note: Note) -> None:
        notes.append(note)

    sessions = None if store is None else store.sessions
    importer = Importer(sessions, settings=settings, report=report)
    await importer.run([("file", file)])
    return importer, notes


async def _marks(store: AgentStore, conversation: Conversation) -> list[str]:
    """Return the marks of the stored messages, in their order."""
    messages = await store.sessions.read_messages(conversation.user, conversation.session)
    if messages is None:
        return []
    return list(dict.fromkeys(_MARK.findall(messages.json().decode())))


def _stored(conversation: Conversation) -> list[str]:
    return [mark for mark, fate in conversation.fates.items() if fate == STORED]


def _check_counts(counts: Counts, notes: list[Note], conversations: list[Conversation], new: int = 0) -> None:
    """Compare the counts with the fates of all messages, and with the notes."""
    fates = Counter(fate for each in conversations for fate in each.fates.values())
    assert counts.input_messages == fates.total() + new
    assert counts.stored_messages == fates[STORED] + new
    assert (counts.passed_over, counts.skipped_messages) == (fates[PASSED_OVER], fates[PROBLEM])
    kinds: Counter[str] = Counter(note.kind for note in notes)
    assert (counts.problems, counts.changed) == (kinds["problem"], kinds["changed"])
    assert kinds["passed over"] == counts.passed_over
    assert sum(note.messages for note in notes) == counts.passed_over + counts.skipped_messages
    assert all(note.place and note.reason for note in notes)


def _same(notes: list[Note]) -> list[Note]:
    return sorted(notes, key=lambda note: (note.place, note.reason))


def test_the_corpus_is_large_and_has_every_fate() -> None:
    conversations = [each for name in (*FORMATS, *STORES) for each in generate(name, _COUNT)]
    assert len(conversations) >= 150
    fates = Counter(fate for each in conversations for fate in each.fates.values())
    assert min(fates[each] for each in (STORED, PASSED_OVER, PROBLEM)) >= 30


@pytest.mark.parametrize("name", FORMATS)
async def test_no_message_of_a_file_vanishes(store: AgentStore, settings: Settings, tmp_path: Path, name: str) -> None:
    file = tmp_path / "file"
    conversations = generate(name, _COUNT)
    file.write_text("\n".join(json.dumps(each.value) for each in conversations))
    dry, dry_notes = await _import_file(None, settings, file)
    first, notes = await _import_file(store, settings, file)
    _check_counts(first.progress, notes, conversations)
    assert _same(dry_notes) == _same(notes)
    assert (dry.progress.messages, dry.progress.records) == (first.progress.messages, first.progress.records)
    before = {}
    for each in conversations:
        assert await _marks(store, each) == _stored(each)
        before[each.session] = await store.sessions.get_session(each.user, each.session)

    again, repeated = await _import_file(store, settings, file)
    assert (again.progress.new_sessions, again.progress.new_messages) == (0, 0)
    assert _same(repeated) == _same(notes)

    file.write_text("\n".join(json.dumps(each.grown) for each in conversations))
    added = sum(len(each.new) for each in conversations)
    for new in (added, 0):
        grown, notes = await _import_file(store, settings, file)
        assert (grown.progress.new_sessions, grown.progress.new_messages) == (0, new)
        _check_counts(grown.progress, notes, conversations, added)
    for each in conversations:
        assert await _marks(store, each) == [*_stored(each), *each.new]
        session, unchanged = await store.sessions.get_session(each.user, each.session), before[each.session]
        assert session is not None
        assert unchanged is not None
        assert session.messages[: len(unchanged.messages)] == unchanged.messages
        assert (session.title, session.metadata) == (unchanged.title, unchanged.metadata)


@pytest.mark.parametrize("name", FORMATS)
async def test_each_real_difference_is_reported_once_and_the_rest_is_stored(
    store: AgentStore, settings: Settings, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "file"
    conversations = generate(name, _COUNT)
    file.write_text("\n".join(json.dumps(each.value) for each in conversations))
    _, before = await _import_file(store, settings, file)
    changed = [each.changed() for each in conversations]
    file.write_text("\n".join(json.dumps(value) for value, _ in changed))
    done, notes = await _import_file(store, settings, file)
    assert done.progress.new_sessions == 0
    differences = [note for note in notes if "different text" in note.reason]
    assert len(differences) == sum(count for _, count in changed) > 0
    assert len({note.reason for note in differences}) == len(differences)
    assert len(notes) - len(differences) == len(before)
    for each in conversations:
        assert await _marks(store, each) == [*_stored(each), *each.new]


def _write(name: str, conversations: list[Conversation], values: list[Any], file: Path) -> Any:
    """Write the data of another application: a SQLite file, or the keys of Redis, which are returned."""
    if name == "redis":
        return {
            f"session:{each.user}:{each.session}": json.dumps(
                {"id": each.session, "user_id": each.user, "messages": value}
            )
            for each, value in zip(conversations, values, strict=True)
        }
    file.unlink(missing_ok=True)
    with closing(sqlite3.connect(file)) as database, database:
        if name == "agentscope-2":
            database.execute("CREATE TABLE sessions (id, user_id, agent_id, created_at, updated_at, payload)")
            database.execute("CREATE TABLE messages (session_id, msg_id, created_at, payload)")
        else:
            database.execute("CREATE TABLE agent_sessions (session_id, created_at, updated_at)")
            database.execute("CREATE TABLE agent_messages (id INTEGER, session_id, message_data, created_at)")
        for each, value in zip(conversations, values, strict=True):
            rows = [(each.session, f"{number:04}", json.dumps(message)) for number, message in enumerate(value)]
            if name == "agentscope-2":
                database.execute("INSERT INTO sessions VALUES (?, ?, 'a', NULL, NULL, '{}')", (each.session, each.user))
                database.executemany("INSERT INTO messages VALUES (?, ?, '2024-01-02', ?)", rows)
            else:
                database.execute("INSERT INTO agent_sessions VALUES (?, NULL, NULL)", (each.session,))
                database.executemany(
                    "INSERT INTO agent_messages VALUES (?, ?, ?, '2024-01-02')",
                    [(int(number), session, data) for session, number, data in rows],
                )
    return None


async def _move(store: AgentStore | None, settings: Settings, name: str, file: Path) -> tuple[Mover, list[Note]]:
    notes: list[Note] = []
    target = (
        None
        if store is None
        else Target(store.sessions, store.memory, store.states, store.sessions, store.documents, store.checkpoints)
    )
    mover = Mover(target, settings=settings, report=notes.append)
    if name == "redis":
        await mover.run(redis_services.read("redis://h"))
    else:
        async with OtherDatabase(f"sqlite:///{file}") as database:
            is_agentscope = name == "agentscope-2"
            await mover.run(agentscope2.read(database) if is_agentscope else openai_agents.read(database, "alice"))
    return mover, notes


@pytest.mark.parametrize("name", STORES)
async def test_no_message_of_another_store_vanishes(
    store: AgentStore, settings: Settings, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    conversations = generate(name, _COUNT)

    def write(values: list[Any]) -> None:
        keys = _write(name, conversations, values, file)
        monkeypatch.setattr("redis.asyncio.from_url", lambda *_, **__: KeyValues(keys))

    write([each.value for each in conversations])
    dry, dry_notes = await _move(None, settings, name, file)
    first, notes = await _move(store, settings, name, file)
    _check_counts(first.moved, notes, conversations)
    assert _same(dry_notes) == _same(notes)
    assert (dry.moved.sessions, dry.moved.messages) == (first.moved.sessions, first.moved.messages)
    for each in conversations:
        assert await _marks(store, each) == _stored(each)
    again, repeated = await _move(store, settings, name, file)
    assert (again.moved.new_sessions, again.moved.new_messages) == (0, 0)
    assert _same(repeated) == _same(notes)

    write([each.grown for each in conversations])
    added = sum(len(each.new) for each in conversations)
    grown, notes = await _move(store, settings, name, file)
    assert grown.moved.new_sessions == sum(
        STORED not in each.fates.values() and bool(each.new) for each in conversations
    )
    assert grown.moved.new_messages >= added > 0
    _check_counts(grown.moved, notes, conversations, added)
    changed = [each.changed() for each in conversations]
    write([value for value, _ in changed])
    done, notes = await _move(store, settings, name, file)
    assert (done.moved.new_sessions, done.moved.new_messages) == (0, 0)
    differences = [note for note in notes if "different text" in note.reason]
    assert len(differences) == sum(count for _, count in changed)
    for each in conversations:
        assert await _marks(store, each) == [*_stored(each), *each.new]
