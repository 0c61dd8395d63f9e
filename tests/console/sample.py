"""Data that shows every part of the console, and a server for it."""

import asyncio
import base64
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import uvicorn
from starlette.applications import Starlette

from agentstore import AgentStore, Extraction, MemoryItem, Message, ScopedValues, Session, Settings
from agentstore.console.app import create_app
from agentstore.console.recent import Recent
from agentstore.console.security import ConsoleOptions
from agentstore.database.telemetry import Telemetry
from agentstore.schemas.checkpoint import Checkpoint, CheckpointWrite, Serialized


def picture(width: int = 96, height: int = 64) -> str:
    """Return a PNG of a sunset as a ``data:`` URL."""
    rows = b"".join(
        b"\0" + bytes(b for x in range(width) for b in (230 - y, 120 + y // 2, 60 + (x * y) % 90))
        for y in range(height)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


_ANSWER = """\
Here is a plan for **three days** in Lisbon:

1. *Alfama* in the morning, before the crowds
2. The `28` tram, then Graça at sunset
3. A day in [Sintra](https://example.com/sintra)

| day | budget | note |
|---|---|---|
| Friday | €80 | cash for the market |
| Saturday | €120 | book the palace |

```python
def budget(days: int, per_day: float = 95.5) -> float:
    # Museums are free on Sundays.
    return days * per_day
```

> Take the train from Rossio: it runs every half hour.
"""


class Extractor:
    """With which stores queue the messages that are added to the memory. It is never called."""

    name = "sample"
    kinds = ("fact",)

    async def extract(self, messages: Sequence[Message], existing: Sequence[MemoryItem]) -> Extraction:
        """Find nothing."""
        return Extraction()


async def fill_queue(url: str, *, count: int = 12) -> None:
    """Store extractions that wait, are leased and have failed, as workers leave them."""
    async with AgentStore(url, extractor=Extractor()) as store:
        for number in range(count):
            await store.memory.add_memory(f"user {number % 4}", [Message.user("Remember this.")], f"session {number}")
    connection = await asyncpg.connect(url)
    for condition, values in (
        ("% 4 = 1", "lease = session_id, leased_until = now() + interval '4 min', attempts = 1"),
        ("% 4 = 2", "failed_at = now(), is_open = false, attempts = 5, error = 'the endpoint answers 401: <b>no key'"),
        ("% 4 = 3", "run_after = now() - interval '2 h', outages = 2, error = 'the endpoint is down'"),
    ):
        await connection.execute(
            f"UPDATE agentstore.memory_extractions SET {values} "
            f"WHERE session_id LIKE 'session %' AND substr(session_id, 9)::int {condition}"
        )
    await connection.close()


async def fill(store: AgentStore) -> None:
    """Store a trip with tools, images, states and forks; conversations in several scripts; memories and facts."""
    at = datetime.now(UTC) - timedelta(days=2)

    def when(minutes: int) -> dict[str, Any]:
        return {"timestamp": (at + timedelta(minutes=minutes)).isoformat()}

    trip = [
        Message.system("You are a travel assistant. Answer briefly."),
        Message.user("Plan three days in Lisbon, not too expensive, please.", metadata={"name": "Alice"}),
        *Message.from_openai(
            {
                "role": "assistant",
                "content": "I look up the weather and trains first.",
                "tool_calls": [
                    _call("call_1", "get_weather", '{"city": "Lisbon", "days": 3}'),
                    _call("call_2", "search_trains", '{"from": "Rossio", "to": "Sintra"}'),
                ],
            }
        ),
        *Message.from_openai(
            {"role": "tool", "tool_call_id": "call_1", "content": '{"days": [{"max": 24, "rain": 0.1}, {"max": 26}]}'}
        ),
        *Message.from_openai({"role": "tool", "tool_call_id": "call_2", "content": "every 30 minutes, €2.30"}),
        Message.assistant(_ANSWER),
        *Message.from_openai(
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Is this the viewpoint you mean?"},
                    {"type": "image_url", "image_url": {"url": picture()}},
                ],
            }
        ),
        Message.assistant("Yes, that is **Miradouro da Graça**. Sunset is at 20:41."),
    ]
    await store.sessions.create_session(
        "alice", "lisbon", title="Three days in Lisbon", app="travel", metadata={"stage": "plan", "budget": 300}
    )
    for number, message in enumerate(trip):
        message.metadata = {**when(number), **(message.metadata or {})}
        await store.sessions.append("alice", "lisbon", message)
        if number in (1, 6, len(trip) - 1):
            plan = {"city": "Lisbon", "days": 3, "step": number, "done": ["weather", "trains"][: number // 3]}
            await store.states.save_state("alice", {**plan, "budget": {"EUR": 300 - 20 * number}}, "lisbon")
    await store.sessions.fork_session("alice", "lisbon", at=3, new_id="lisbon, cheaper")
    await store.sessions.set_title("alice", "lisbon, cheaper", "Three days in Lisbon, cheaper")
    await store.sessions.fork_session("alice", "lisbon, cheaper", at=2, new_id="porto instead")
    await store.sessions.set_title("alice", "porto instead", "Porto instead")
    await store.states.merge_values(
        "alice", "lisbon", values=ScopedValues({"currency": "EUR"}, {"language": "en"}, {"tickets": 2})
    )
    await store.sessions.append("سارة", "رحلة", [Message.user("أريد السفر إلى لشبونة في مايو، ما رأيك؟")])
    await store.sessions.append("سارة", "رحلة", [Message.assistant("فكرة رائعة! الطقس معتدل، **25 درجة** تقريبًا.")])
    for user in ("alice", "李雷", "سارة"):
        await store.memory.add_sessions(user)
    facts = [
        MemoryItem(text="Alice travels with her sister and prefers trains.", kind="preference", importance=0.8),
        MemoryItem(text="Alice's budget for Lisbon is 300 euros.", kind="fact"),
    ]
    await store.memory.save_items("alice", facts, "lisbon")
    await store.blobs.put(
        "alice", "tickets.pdf", b"%PDF-1.7 not really", content_type="application/pdf", filename="tickets.pdf"
    )
    for width in (64, 240):
        png = base64.b64decode(picture(width, 160).partition(",")[2])
        await store.blobs.put(
            "alice", "viewpoint.png", png, "lisbon", content_type="image/png", metadata={"by": "Alice"}
        )
    await fill_graph(store)
    for day in range(28):  # for the charts
        for number in range(1 + (day * 7) % 5):
            created = datetime.now(UTC) - timedelta(days=day + 1, hours=number)
            messages = [Message.user(f"Note {each} of the day") for each in range(2 + (day + number) % 6)]
            session = Session(id=f"notes-{day}-{number}", user_id="priya", messages=messages)
            session.created_at = session.updated_at = created
            await store.sessions.import_session(session)


async def fill_graph(store: AgentStore) -> None:
    """Store documents in namespaces, and the checkpoints of a graph with a subgraph."""
    await store.documents.put(
        "alice",
        [
            {"id": "profile/food", "text": "Vegetarian; no peppers.", "namespace": "profile", "metadata": {"v": 2}},
            {"id": "trips/lisbon", "text": "Three days, 300 euros, by train.", "namespace": "trips/2026"},
            {"id": "settings", "text": "", "namespace": "profile", "metadata": {"theme": "dark", "seats": ["aisle"]}},
        ],
    )
    values = {
        "messages": Serialized("json", b'[{"role": "user", "content": "Plan three days in Lisbon"}]'),
        "plan": Serialized("msgpack", b"\x82\xa4city\xa6Lisbon\xa4days\x03"),
        "image": Serialized("bytes", b"\x89PNG\xff\x00"),
    }
    parent = None
    for step in range(5):
        about = f'{{"source": "loop", "step": {step}, "writes": {{"plan": null}}}}'.encode()
        checkpoint = Checkpoint(
            "",
            f"1f0{step}-0000",
            Serialized("json", b'{"v": 4, "ts": "2026-11-30T12:00:00+00:00"}'),
            Serialized("json", about),
            parent,
            "run 1",
            {**dict.fromkeys(values, f"{step + 1:032}.0.5"), "branch:to:plan": f"{step + 1:032}.0.5"},
            values,
        )
        await store.checkpoints.put("alice", "lisbon", checkpoint, is_complete=True)
        parent = checkpoint.id
    writes = [CheckpointWrite("task 1", 0, "plan", Serialized("json", b'{"city": "Sintra"}'))]
    await store.checkpoints.put_writes("alice", "lisbon", "", "1f04-0000", writes)
    sub = Checkpoint("search:1", "1f02-5000", Serialized("json", b"{}"), Serialized("json", b'{"step": 0}'))
    await store.checkpoints.put("alice", "lisbon", sub, is_complete=True)


def _call(id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


@dataclass(frozen=True)
class Served:
    """A console that answers, its store, and the loop in which both run."""

    url: str
    store: AgentStore
    app: Starlette
    loop: asyncio.AbstractEventLoop

    def run(self, call: Any) -> Any:
        """Run a coroutine in the loop of the store."""
        return asyncio.run_coroutine_threadsafe(call, self.loop).result(60)

    @property
    def reports(self) -> list[str]:
        """What browsers have refused, as they reported it."""
        return list(self.app.state.console.recent.reports)


@contextmanager
def serving(url: str, options: ConsoleOptions | None = None, settings: Settings | None = None) -> Iterator[Served]:
    """Serve the console of a database on a free port, in a thread."""
    started = threading.Event()
    found: list[Served] = []
    stopping: list[uvicorn.Server] = []
    problems: list[BaseException] = []

    async def main() -> None:
        recent = Recent()
        telemetry = Telemetry(on_statement=recent.add_statement)
        async with AgentStore(url, settings=settings, telemetry=telemetry) as store:
            app = create_app(store, store._database, options, recent=recent)
            config = uvicorn.Config(
                app, port=0, log_level="error", access_log=False, timeout_graceful_shutdown=1, lifespan="off"
            )
            server = uvicorn.Server(config)
            stopping.append(server)
            serving = asyncio.ensure_future(server.serve())
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            root = "" if options is None else options.root_path
            found.append(Served(f"http://127.0.0.1:{port}{root}", store, app, asyncio.get_running_loop()))
            started.set()
            await serving

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            problems.append(error)
            raise
        finally:
            started.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(60)
    if problems:
        raise problems[0]
    try:
        yield found[0]
    finally:
        stopping[0].should_exit = True
        thread.join(30)
