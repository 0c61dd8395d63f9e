"""A sandbox server that speaks AgentScope Runtime's protocol, with faults that tests inject.

Its sandboxes are folders. Their commands run as processes of this machine, and their cells in this process.
"""

import base64
import contextlib
import io
import json
import shutil
import subprocess
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

GENERIC = {
    name: {
        "name": name,
        "json_schema": {"type": "function", "function": {"name": name, "parameters": {"required": [argument]}}},
    }
    for name, argument in (("run_ipython_cell", "code"), ("run_shell_command", "command"))
}


class SandboxServer:
    """A SandboxManager, and the requests that its HTTP server has received.

    ``faults`` holds the faults of a method's next requests, in order; an empty string is none. Some take the place of
    the call: "drop before" closes the connection, "redirect", a status such as "500", and "reply ..." for that body.
    "slow" waits for ``gate``, after setting ``arrived``; "slow, " may precede another fault. The others follow the
    call: "drop after" closes the connection, "garble after" sends incomplete JSON, "502 after", "encoded" sends a
    Content-Encoding, "half" sends a part of the reply, and "huge" sends an endless one.
    """

    def __init__(self, root: Path, token: str | None = None, user: str | None = None) -> None:
        self.root, self.token, self.user = root, token, user
        self.containers: dict[str, str] = {}
        self.environments: dict[str, dict[str, str]] = {}
        self.sessions: dict[str, list[str]] = {}
        self.statuses: dict[str, str] = {}
        self.requests: Counter[str] = Counter()
        self.faults: dict[str, list[str]] = {}
        self.running = 0
        self.lock, self.cells = threading.Lock(), threading.Lock()
        self.variables: dict[str, dict[str, Any]] = {}
        self.arrived, self.gate = threading.Event(), threading.Event()
        self.url = ""

    def folder(self, name: str) -> Path:
        return self.root / name / "workspace"

    def temporary(self, name: str) -> list[str]:
        """Return the names of temporary files."""
        return sorted(each.name for each in (self.root / name / "tmp").iterdir())

    # The methods of the manager, called by name.

    def create(
        self, sandbox_type: str, environment: dict[str, str] | None = None, meta: dict[str, str] | None = None
    ) -> str:
        if sandbox_type not in ("base", "filesystem"):
            raise ValueError(f"'{sandbox_type}' is not a valid SandboxType")
        name = f"sandbox_{uuid4().hex[:12]}"
        self.folder(name).mkdir(parents=True)
        (self.root / name / "tmp").mkdir()
        with self.lock:
            self.containers[name] = sandbox_type
            self.environments[name] = environment or {}
            if meta:
                self.sessions.setdefault(meta["session_ctx_id"], []).append(name)
        return name

    def release(self, identity: str) -> bool:
        with self.lock:
            if self.containers.pop(identity, None) is None:
                return False
            for names in self.sessions.values():
                if identity in names:
                    names.remove(identity)
            if identity in self.statuses:
                return False
        shutil.rmtree(self.root / identity, ignore_errors=True)
        return True

    def get_info(self, identity: str) -> dict[str, Any]:
        if identity not in self.containers:
            raise RuntimeError(f"No container found with id: {identity}.")
        return {"container_name": identity, "url": "http://localhost:1", "runtime_token": "secret"}

    def get_status(self, identity: str) -> str | None:
        return "running" if identity in self.containers else self.statuses.get(identity)

    def get_session_mapping(self, session_ctx_id: str) -> list[str]:
        return self.sessions.get(session_ctx_id, [])

    def check_health(self, identity: str) -> bool:
        return bool(self.get_info(identity))

    def list_tools(self, identity: str) -> dict[str, Any]:
        self.get_info(identity)
        return {"generic": GENERIC, "more": {"echo": {"name": "echo"}}}

    def call_tool(self, identity: str, tool_name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.get_info(identity)
        if tool_name == "echo":
            return _result([("stdout", json.dumps(arguments))], is_error=False)
        if tool_name not in GENERIC:
            message = "500 Server Error: Internal Server Error for url: http://localhost:1/fastapi/mcp/call_tool"
            return {"isError": True, "content": [{"type": "text", "text": message}]}
        if tool_name == "run_shell_command":
            command = arguments["command"].replace("/workspace", str(self.folder(identity)))
            line = ["sh", "-c", command.replace("/tmp/.agentstore", f"{self.root / identity}/tmp/.agentstore")]
        else:
            return self._cell(identity, arguments["code"])
        with self.lock:
            self.running += 1
        try:
            environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", **self.environments[identity]}
            done = subprocess.run(line, capture_output=True, cwd="/", env=environment, timeout=60, check=False)
        finally:
            with self.lock:
                self.running -= 1
        parts = [("stdout", done.stdout.decode())]
        if done.stderr:
            parts.append(("stderr", done.stderr.decode()))
        parts.append(("returncode", str(done.returncode)))
        return _result(parts, is_error=bool(done.stderr))

    def _cell(self, identity: str, code: str) -> dict[str, Any]:
        out, error = io.StringIO(), ""
        with self.cells, contextlib.redirect_stdout(out):
            try:
                exec(code, self.variables.setdefault(identity, {}))
            except Exception:  # noqa: BLE001 - a cell is any code
                error = traceback.format_exc()
        return _result([("stdout", out.getvalue())] + ([("stderr", error)] if error else []), is_error=bool(error))


def _result(parts: list[tuple[str, str]], *, is_error: bool) -> dict[str, Any]:
    content = [
        {"type": "text", "text": text, "annotations": None, "meta": None, "description": name} for name, text in parts
    ]
    return {"meta": None, "content": content, "structuredContent": None, "isError": is_error}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    sandboxes: SandboxServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close the connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        sandboxes = self.server.sandboxes
        method = self.path.removeprefix("/")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with sandboxes.lock:
            sandboxes.requests[method] += 1
            faults = sandboxes.faults.get(method)
            fault = faults.pop(0) if faults else ""
        credentials = self.headers.get("Authorization")
        if sandboxes.token and credentials != f"Bearer {sandboxes.token}":
            return self._send_json(401, {"detail": f"Invalid authentication credentials: {credentials}"})
        if sandboxes.user and credentials != f"Basic {base64.b64encode(sandboxes.user.encode()).decode()}":
            return self._send_json(401, {"detail": "no such user"})
        if fault == "drop before":
            return self._drop()
        if fault.startswith("slow"):
            sandboxes.arrived.set()
            sandboxes.gate.wait(120)
            fault = fault.removeprefix("slow, ")
        if fault == "redirect":
            return self._send(307, b"", location="http://127.0.0.1:9/")
        if fault.isdigit():
            return self._send_json(int(fault), {"detail": f"it is {fault}; credentials: {credentials}"})
        if fault.startswith("reply "):
            return self._send(200, fault.removeprefix("reply ").encode())
        try:
            data = getattr(sandboxes, method)(**body)
        except (RuntimeError, ValueError, TypeError) as error:
            return self._send_json(500, {"detail": f"Error in {method}: {error}"})
        if fault == "drop after":
            return self._drop()
        if fault == "garble after":
            return self._send(200, b'{"data": ')
        if fault == "502 after":
            return self._send_json(502, {"detail": "bad gateway"})
        if fault == "encoded":
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if fault == "half":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"data": ')
            return self._drop()
        if fault == "huge":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            while True:
                self.wfile.write(b" " * 1_000_000)
        return self._send_json(200, {"data": data})

    def _send_json(self, status: int, value: object) -> None:
        self._send(status, json.dumps(value).encode())

    def _send(self, status: int, raw: bytes, location: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        if location is not None:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(raw)

    def _drop(self) -> None:
        self.close_connection = True
        self.wfile.flush()


@contextlib.contextmanager
def sandbox_server(root: Path, token: str | None = None, user: str | None = None) -> Iterator[SandboxServer]:
    sandboxes = SandboxServer(root, token, user)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.sandboxes = sandboxes
    sandboxes.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield sandboxes
    finally:
        sandboxes.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
