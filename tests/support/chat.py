"""A fake endpoint for OpenAI's chat completions, with the responses that a test gives."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

KEY = "sk-test-1234567890"


@dataclass
class Reply:
    """A response: the text of a model, or any `body`."""

    content: str = '{"new": []}'
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None

    def bytes(self) -> bytes:
        completion = {"choices": [{"index": 0, "message": {"role": "assistant", "content": self.content}}]}
        body = json.dumps(completion).encode() if self.body is None else self.body
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, **self.headers}.items())
        return f"HTTP/1.1 {self.status} Status\r\n{lines}\r\n".encode() + body


def facts_reply(*new: str, changed: dict[int, str] | None = None, ended: list[int] | None = None, **more: Any) -> Reply:
    """Return the response of a model that extracted these facts."""
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
    """Responds to each request with the next of `replies`, or by calling `answer`; records the requests."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.answer: Callable[[dict[str, Any]], Awaitable[Reply]] | None = None
        self.requests: list[dict[str, Any]] = []
        self.headers: list[str] = []
        self.url = ""

    def inputs(self) -> list[dict[str, Any]]:
        """Return the input of the model in each request."""
        return [json.loads(request["messages"][1]["content"]) for request in self.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:"))
            request = json.loads(await reader.readexactly(length))
            assert head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
            self.requests.append(request)
            self.headers.append(head)
            reply = self.replies.pop(0) if self.replies else None
            if reply is None:
                reply = facts_reply() if self.answer is None else await self.answer(request)
            writer.write(reply.bytes())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has disconnected
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
