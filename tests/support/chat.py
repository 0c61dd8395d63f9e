"""An endpoint that speaks OpenAI's chat completions, as far as an extractor does: it answers what a test tells it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

KEY = "sk-test-1234567890"


@dataclass
class Reply:
    """What is answered: a model's text, or, with `body`, anything."""

    content: str = '{"new": []}'
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None

    def bytes(self) -> bytes:
        said = {"choices": [{"index": 0, "message": {"role": "assistant", "content": self.content}}]}
        body = json.dumps(said).encode() if self.body is None else self.body
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, **self.headers}.items())
        return f"HTTP/1.1 {self.status} Said\r\n{lines}\r\n".encode() + body


def found(*new: str, changed: dict[int, str] | None = None, ended: list[int] | None = None, **more: Any) -> Reply:
    """The answer of a model that found these facts."""
    return Reply(
        json.dumps(
            {
                "new": [{"text": text, "importance": 0.7, "messages": []} for text in new],
                "changed": [{"known": number, "text": text} for number, text in (changed or {}).items()],
                "ended": ended or [],
                **more,
            }
        )
    )


class ChatEndpoint:
    """Answers each request with the next of `replies`, or by `answer`; keeps what it was asked."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.answer: Callable[[dict[str, Any]], Awaitable[Reply]] | None = None
        self.asked: list[dict[str, Any]] = []
        self.headers: list[str] = []
        self.url = ""

    def questions(self) -> list[dict[str, Any]]:
        """What the model was given, each time."""
        return [json.loads(asked["messages"][1]["content"]) for asked in self.asked]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:"))
            asked = json.loads(await reader.readexactly(length))
            assert head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
            self.asked.append(asked)
            self.headers.append(head)
            reply = self.replies.pop(0) if self.replies else None
            if reply is None:
                reply = found() if self.answer is None else await self.answer(asked)
            writer.write(reply.bytes())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the caller has gone
        finally:
            writer.close()


@asynccontextmanager
async def chat_endpoint() -> AsyncIterator[ChatEndpoint]:
    """Run an endpoint until the block ends."""
    endpoint = ChatEndpoint()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await endpoint._serve(reader, writer)
        except asyncio.CancelledError:
            writer.close()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield endpoint
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
