"""A scripted model behind Anthropic's API, and a scripted Claude Code, for tests of the real SDK without network."""

# pyright: reportMissingImports=false
import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Block = dict[str, Any]


class Model:
    """Answers each request with the next list of blocks, and records the messages that it received."""

    def __init__(self, outputs: Sequence[list[Block]]) -> None:
        self.outputs = list(outputs)
        self.requests: list[list[Any]] = []
        self.url = ""

    def answer(self, body: dict[str, Any]) -> bytes:
        """Return the answer to a request, as the events of a stream."""
        self.requests.append(body["messages"])
        number = len(self.requests)
        blocks = self.outputs[number - 1]
        message = {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 8, "output_tokens": 1},
        }
        events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
        for index, block in enumerate(blocks):
            started, delta = _started(block)
            events += [
                {"type": "content_block_start", "index": index, "content_block": started},
                {"type": "content_block_delta", "index": index, "delta": delta},
                {"type": "content_block_stop", "index": index},
            ]
        reason = "tool_use" if blocks[-1]["type"] == "tool_use" else "end_turn"
        delta = {"stop_reason": reason, "stop_sequence": None}
        events += [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}}, {"type": "message_stop"}]
        return "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events).encode()

    def texts(self, request: int) -> list[str]:
        """Return the texts, calls and outputs of a request, without what Claude Code adds to them."""
        found = []
        for message in self.requests[request]:
            content = message["content"] if message["role"] in ("user", "assistant") else []
            for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
                text = block.get("text") or block.get("name") or json.dumps(block.get("content"))
                if not text.startswith(("<", "\n<")):
                    found.append(text)
        return found


def text(value: str) -> list[Block]:
    """Return the output of a model that is a text."""
    return [{"type": "text", "text": value}]


def call(name: str, **arguments: Any) -> list[Block]:
    """Return the output of a model that is a call of a tool."""
    return [{"type": "tool_use", "id": f"toolu_{name}", "name": name, "input": arguments}]


def _started(block: Block) -> tuple[Block, Block]:
    if block["type"] == "text":
        return {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
    return {**block, "input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}


@contextmanager
def serve(*outputs: list[Block]) -> Iterator[Model]:
    """Serve a scripted model on localhost; its URL is ``url``."""
    model = Model(outputs)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            is_known = self.path.startswith("/v1/messages?") or self.path == "/v1/messages"
            self._send(200, model.answer(body)) if is_known else self._send(404)

        def do_GET(self) -> None:
            self._send(404)

        def do_HEAD(self) -> None:
            self._send(200)

        def log_message(self, *args: Any) -> None:
            pass

        def _send(self, status: int, content: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    model.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield model
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def environment(model_url: str, folder: Path) -> dict[str, str]:
    """Return the variables with which Claude Code uses a scripted model, and stores its files in a folder."""
    return {
        "ANTHROPIC_BASE_URL": model_url,
        "ANTHROPIC_API_KEY": "none",
        "HOME": str(folder),
        "CLAUDE_CONFIG_DIR": str(folder / ".claude"),
        "CLAUDE_CODE_TMPDIR": str(folder),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }


def scripted_transport(path: Path, session_id: str, turns: Sequence[Sequence[dict[str, Any]]]) -> Any:
    """Return a transport as Claude Code's that writes these entries to the transcript at `path`, one list a frame."""
    from claude_agent_sdk import Transport

    class Scripted(Transport):  # type: ignore[misc]
        def __init__(self) -> None:
            self.frames: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        async def connect(self) -> None:
            pass

        async def write(self, data: str) -> None:
            given = json.loads(data)
            if given["type"] == "control_request":
                response = {"subtype": "success", "request_id": given["request_id"], "response": {}}
                self.frames.put_nowait({"type": "control_response", "response": response})
            elif given["type"] == "user":
                for entries in turns:
                    self.frames.put_nowait({"type": "transcript_mirror", "filePath": str(path), "entries": [*entries]})
                result = {"type": "result", "subtype": "success", "duration_ms": 1, "duration_api_ms": 1}
                more = {"is_error": False, "num_turns": 1, "session_id": session_id}
                self.frames.put_nowait({**result, **more})
                self.frames.put_nowait(None)

        async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
            while (frame := await self.frames.get()) is not None:
                yield frame

        async def close(self) -> None:
            pass

        def is_ready(self) -> bool:
            return True

        async def end_input(self) -> None:
            pass

    return Scripted()
