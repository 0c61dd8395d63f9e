"""What a page reads does not grow with the data: statements and rows are counted, and no time is measured."""

from collections import Counter
from typing import Any

from agentstore import AgentStore, Message, Settings
from agentstore.console.security import ConsoleOptions
from agentstore.database.telemetry import StatementEvent, Telemetry
from agentstore.schemas.checkpoint import Checkpoint, CheckpointWrite, Serialized
from agentstore.testing import text
from tests.console.sample import Extractor
from tests.console.support import browser, check_harmless, path

_VALUE = Serialized("json", b'{"a": [1, 2, 3]}')
_WRITES = ConsoleOptions(allow_writes=True)
# Both are more than any page lists; forks are searched among 200 sessions.
_FEW, _MANY = 210, 420
_TABS = ("sessions", "memories", "facts", "documents", "states", "checkpoints", "files", "sandboxes")


def _pages(user: str) -> list[str]:
    of = {"user": user, "session": "long"}
    return [
        *(path("/user", user=user, show=tab) for tab in _TABS),
        path("/user", user=user, show="documents", namespace="n"),
        path("/session", **of),
        path("/session", **of, after=0),
        path("/session", **of, after=100),
        path("/session", **of, before=150),
        path("/session", **of, around="m100"),
        path("/session/message", **of, seq=100),
        path("/states", **of),
        path("/state", **of, round=1),
        path("/diff", **of, a=1, b=2),
        path("/file", user=user, name="versions"),
        path("/document", user=user, id="d100"),
        path("/checkpoints", **of),
        path("/checkpoint", **of, namespace="", id="c0100"),
        path("/checkpoint", **of, namespace="", id="c0100", channel="a"),
        path("/act/erase", user=user),
        *(path("/queue", user=user, show=tab) for tab in ("waiting", "leased", "failed")),
    ]


_OF_ALL_USERS = [path("/users"), *(path("/queue", show=tab) for tab in ("waiting", "leased", "failed"))]


async def _fill(store: AgentStore, user: str, count: int) -> None:
    messages = [text(f"number {number}", id=f"m{number}") for number in range(count)]
    await store.sessions.append(user, "long", messages)
    await store.documents.put(user, [{"id": f"d{n}", "text": f"t {n}", "namespace": f"n/{n}"} for n in range(count)])
    await store.memory.save_items(user, [{"id": f"f{n}", "text": f"fact {n}", "kind": "fact"} for n in range(count)])
    parent = None
    for number in range(count):
        await store.sessions.create_session(user, f"s{number}", title=f"number {number}")
        await store.memory.add_memory(user, messages[number], f"s{number}")
        await store.states.save_state(user, {"n": number}, "long")
        await store.blobs.put(user, "versions", b"x")
        await store.blobs.put(user, f"b{number}", b"x", f"s{number}")
        given = Checkpoint("", f"c{number:04}", _VALUE, _VALUE, parent, None, {"a": "1"}, {"a": _VALUE})
        await store.checkpoints.put(user, "long", given, is_complete=True)
        await store.checkpoints.put(user, f"s{number}", given, is_complete=True)
        parent = None if number == 0 else given.id


async def test_no_page_reads_more_when_the_data_double(database_url: str, settings: Settings) -> None:
    events: list[StatementEvent] = []
    telemetry = Telemetry(on_statement=events.append)
    async with AgentStore(database_url, settings=settings, telemetry=telemetry, extractor=Extractor()) as store:
        await _fill(store, "few", _FEW)
        async with browser(store, options=_WRITES) as client:

            async def read(where: str) -> tuple[Counter[str], int, int]:
                events.clear()
                response = await client.get(where)
                assert response.status_code == 200, (where, response.text)
                check_harmless(response.text)
                names = Counter(each.name for each in events)
                return names, sum(each.rows or 0 for each in events), len(response.content)

            before = {where: await read(where) for where in _OF_ALL_USERS}
            await _fill(store, "many", _MANY)
            for number in range(60):
                await store.users.set_metadata(f"user {number}", {})
            compared = [(each, before[each], await read(each)) for each in _OF_ALL_USERS if each in before]
            for small, large in zip(_pages("few"), _pages("many"), strict=True):
                compared.append((large, await read(small), await read(large)))
        for where, (names, rows, size), (names_large, rows_large, size_large) in compared:
            if where == path("/users"):  # which has one row at first
                assert (names_large, rows_large) == (names, 50)
                continue
            assert names_large == names, where
            assert rows_large <= rows, where
            # 51 messages, 200 rounds beside them, and 200 sessions among which forks are searched.
            assert rows_large <= 460, where
            assert sum(names.values()) <= 6, (where, names)
            assert size_large <= size * 1.1 + 500, where


async def test_the_pages_of_the_database_execute_the_same_statements(database_url: str, settings: Settings) -> None:
    """Counts are of all rows, but rows that are returned are those of the page."""
    events: list[StatementEvent] = []
    telemetry = Telemetry(on_statement=events.append)
    found = []
    async with AgentStore(database_url, settings=settings, telemetry=telemetry) as store:
        for count in (20, 40):
            for number in range(count):
                await store.sessions.append(f"user {number}", f"s {count}", [text(str(each)) for each in range(count)])
            events.clear()
            async with browser(store, store._database) as client:
                for where in ("/", "/operations"):
                    assert (await client.get(where)).status_code == 200
            found.append((Counter(each.name for each in events), sum(each.rows or 0 for each in events)))
    assert found[1] == found[0]


async def test_a_message_of_10_mb_is_neither_rendered_nor_listed_whole(database_url: str, settings: Settings) -> None:
    large = "word " * 2_000_000
    async with AgentStore(database_url, settings=settings) as store:
        part: dict[str, Any] = {"call_id": "c", "name": "tool", "arguments": large}
        call = {"role": "assistant", "type": "function_call", "content": [{"type": "data", "data": part}]}
        await store.sessions.append("alice", "s", [Message.user(large), call, text("after")])
        writes = [CheckpointWrite("t", 0, "a", Serialized("json", f'"{large}"'.encode()))]
        await store.checkpoints.put("alice", "s", Checkpoint("", "c", _VALUE, _VALUE))
        await store.checkpoints.put_writes("alice", "s", "", "c", writes)
        async with browser(store) as client:
            for where in (
                path("/session", user="alice", session="s"),
                path("/session", user="alice", session="s", after=0),
                path("/session", user="alice", session="s", after=1),
                path("/checkpoint", user="alice", session="s", namespace="", id="c"),
            ):
                page = await client.get(where)
                assert page.status_code == 200
                assert len(page.content) < 80_000, where
            message = await client.get(path("/session/message", user="alice", session="s", seq=1))
            assert len(message.content) < 300_000
