"""Sandboxes of AgentScope Runtime's sandbox server, which makes them as containers on another machine.

httpx is imported when a provider is made.
"""

import asyncio
import base64
import importlib
import json
import logging
import posixpath
import random
import re
import shlex
import zlib
from abc import abstractmethod
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from uuid import uuid4

from pydantic import SecretStr

from agentstore.errors import (
    AgentStoreError,
    InvalidContent,
    NotConfigured,
    SandboxElsewhere,
    SandboxFailed,
    SandboxLost,
    SandboxUnavailable,
)
from agentstore.interfaces import SandboxProvider
from agentstore.schemas.sandbox import SandboxSpec, ToolResult, text

_log = logging.getLogger(__name__)

# How often a request is made that may be repeated, and seconds before the second time, doubled with each one.
_ATTEMPTS = 3
_WAIT = 0.1
# Answers of a proxy whose server may be back in a moment.
_PASSING = {502, 503, 504}
_LARGEST_REPLY = 32_000_000
# What fits a reply in Base64.
_LARGEST_FILE = 20_000_000
# Linux takes 131,072 bytes as one argument of a process, such as the command of `sh -c`.
_LONGEST_COMMAND = 131_000
# Of bytes, which are a third more in Base64, in such a command.
_PIECE = 72_000
_PACKED_PIECE = 1_000_000
# Seconds: in which a sandbox that lives says so; that a command has to end and be answered after its timeout; that
# stop() waits for what is cleaned up.
_MOMENT = 5.0
_GRACE = 5.0
_LONGEST_STOP = 10.0

# Where the server's containers have their workspaces; it cannot be set there.
_WORKSPACE = "/workspace"
_OURS = {
    "read_file": ({"path"}, {"path"}),
    "write_file": ({"path"}, {"path", "content", "blob"}),
    "list_files": (set[str](), {"path"}),
    "remove_file": ({"path"}, {"path"}),
}
_GENERIC = {"run_ipython_cell": "code", "run_shell_command": "command"}


class _NotReached(SandboxUnavailable):
    """No request was sent."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a sandbox is: ``name`` is its container's, or while it is made, ``mark`` what that is found by."""

    name: str
    server: str | None
    mark: str = ""


class _Deadline:
    def __init__(self, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + timeout

    @property
    def left(self) -> float:
        return max(self._end - self._loop.time(), 0.001)


class ManagedProvider(SandboxProvider):
    """What a SandboxManager of AgentScope Runtime makes, however its methods are called.

    Its containers have their size, their environment and their tools from their images: of a spec, only `type` and
    `environment` are used. A cell that takes too long cannot be ended, as the server has no way to say so; a command
    of the shell can. Files are read and written by the shell.
    """

    def __init__(self, timeout: float) -> None:
        if timeout <= 0:
            raise NotConfigured("timeout is more than 0 seconds")
        self._timeout = timeout
        self._cleaning: set[asyncio.Task[None]] = set()

    @property
    def keeps_workspaces(self) -> bool:
        """True: the shell packs them."""
        return True

    @property
    @abstractmethod
    def _server(self) -> str:
        """Which manager this is, in a handle."""

    @abstractmethod
    async def _call(self, method: str, arguments: Mapping[str, Any], timeout: float, attempts: int = 1) -> Any:
        """Return what a method of the manager answers; `attempts` is how often it may be asked.

        Raises:
            _NotReached, SandboxUnavailable, SandboxLost, SandboxFailed, NotConfigured, InvalidContent.
        """

    async def stop(self) -> None:
        """Let what is cleaned up be done, for a while."""
        loop = asyncio.get_running_loop()
        if cleaning := {each for each in self._cleaning if each.get_loop() is loop}:
            _, late = await asyncio.wait(cleaning, timeout=min(self._timeout, _LONGEST_STOP))
            for each in late:
                each.cancel()
            if late:
                _log.warning("%s may have something left of what nobody waited for", self._server)
            await asyncio.gather(*late, return_exceptions=True)
        self._cleaning.clear()

    def reserve(self) -> str:
        """Return the mark that a sandbox will be made with."""
        return json.dumps({"mark": f"agentstore-{uuid4().hex}", "server": self._server})

    async def create(self, spec: SandboxSpec, reserved: str = "") -> str:
        """Make a sandbox and wait until it is healthy.

        Not one from the server's pool: that makes one for each that it lends, so that it is no quicker, takes no
        environment, and gives one of another type when it fails. If the answer does not come, what was made is found
        by the mark that it was made with, and released.
        """
        mark = _place(reserved or self.reserve()).mark
        arguments = {
            "sandbox_type": spec.type,
            "environment": dict(spec.environment),
            "meta": {"session_ctx_id": mark},
        }
        deadline = _Deadline(self._timeout)
        # Twice the time: what comes too late for the caller is still to be released.
        made = asyncio.create_task(self._ask("create", arguments, 2 * self._timeout))
        usable = False
        try:
            async with asyncio.timeout(deadline.left):
                name = await asyncio.shield(made)
            if not isinstance(name, str) or not 0 < len(name) <= 1_000:
                raise SandboxFailed(f"{self._server} made no {spec.type!r} sandbox; its log may say why")
            if await self._ask("check_health", {"identity": name}, deadline.left, _ATTEMPTS) is not True:
                raise SandboxFailed(f"{self._server} made sandbox {name}, which is not healthy")
            usable = True
            return json.dumps({"name": name, "server": self._server})
        except TimeoutError as error:
            raise SandboxUnavailable(f"{self._server} made no sandbox in {self._timeout:g} s") from error
        finally:
            if not usable:
                self._later(self._undo(made, mark))

    async def connect(self, handle: str) -> None:
        """Ask the server whether it knows the sandbox."""
        await self._about(handle, "get_info", {}, self._timeout, _ATTEMPTS)

    async def check(self, handle: str) -> bool:
        """Ask the server for the sandbox, and the sandbox whether it is healthy."""
        deadline = _Deadline(min(_MOMENT, self._timeout))
        try:
            await self._about(handle, "get_info", {}, deadline.left, _ATTEMPTS)
        except SandboxLost:
            return False
        except SandboxFailed as error:
            raise SandboxUnavailable(str(error)) from error
        try:
            # The server waits for one that does not answer for longer than a moment.
            return await self._about(handle, "check_health", {}, deadline.left, _ATTEMPTS) is True
        except _NotReached:
            raise
        except (SandboxLost, SandboxUnavailable, SandboxFailed):
            return False

    async def exec(self, handle: str, tool: str, arguments: Mapping[str, Any], timeout: float) -> ToolResult:
        """Call a tool; see :class:`ManagedProvider` for what a timeout ends."""
        if tool in _OURS:
            needed, possible = _OURS[tool]
            # With other arguments, it is a tool of the sandbox that has the same name.
            if needed <= set(arguments) <= possible:
                return await self._file_call(handle, tool, arguments, _Deadline(timeout))
        if tool in _GENERIC and (set(arguments) != {_GENERIC[tool]} or not isinstance(arguments[_GENERIC[tool]], str)):
            raise InvalidContent(f"{tool} takes {_GENERIC[tool]!r}, a text")
        if tool == "run_shell_command":
            return await self._command(handle, arguments["command"], timeout)
        if tool == "run_ipython_cell":
            # It refuses an empty one.
            return await self._tool(handle, tool, {"code": arguments["code"] or "\n"}, timeout)
        deadline = _Deadline(timeout)
        answer = await self._tool(handle, tool, arguments, timeout)
        if answer.is_error and "500 Server Error" in answer.text and answer.part("stderr") is None:
            # What it says of a tool that is not there, and of some others.
            tools = await self.list_tools(handle, deadline.left)
            names = sorted(name for group in tools.values() for name in group)
            if tool not in names:
                raise InvalidContent(f"there is no tool {tool!r}, of {', '.join(names)}")
        return answer

    async def list_tools(self, handle: str, timeout: float) -> dict[str, Any]:
        """Return the tools as the server says them, and those of files, which are ours."""
        found = await self._about(handle, "list_tools", {}, timeout, _ATTEMPTS)
        if not isinstance(found, dict) or not all(isinstance(group, dict) for group in found.values()):
            raise SandboxFailed(f"{self._server} answered list_tools with no tools")
        return {**found, "generic": {**_SCHEMAS, **found.get("generic", {})}}

    async def destroy(self, handle: str) -> None:
        """Release a sandbox.

        The server's answer is the same for one that is not there and for one that it could not end; its status tells
        them apart.
        """
        place = _place(handle)
        if place.mark:
            names = await self._marked(place.mark, self._timeout)
            for each in names:
                await self._released(each, self._timeout)
            if not names and place.server != self._server:
                raise self._elsewhere(place)
            return
        if await self._released(place.name, self._timeout):
            return
        try:
            status = await self._ask("get_status", {"identity": place.name}, self._timeout, _ATTEMPTS)
        except SandboxLost:
            status = None
        if not status and place.server not in (None, self._server):
            raise self._elsewhere(place)
        if status in _ENDED:
            _log.warning("%s ended sandbox %s and did not remove it, which is %s", self._server, place.name, status)
        elif status:
            raise SandboxFailed(f"{self._server} could not end sandbox {place.name}, which is {status}; see its log")

    async def pack(self, handle: str, timeout: float) -> AsyncIterator[bytes]:
        """Pack into a file beside the workspace, and read that by its offsets."""
        deadline = _Deadline(timeout)
        path = f"/tmp/.agentstore-{uuid4().hex}"  # noqa: S108 - in the sandbox, which is its own
        # 1 is a file that changed meanwhile.
        command = (
            f"umask 077; tar -czf {path} -C {_WORKSPACE} .; code=$?; [ $code -le 1 ] || exit $code; wc -c < {path}"
        )
        opened = zlib.decompressobj(31)
        removed = False
        try:
            size = await self._must(handle, command, deadline)
            if not re.fullmatch("[0-9]{1,15}", size.strip()):
                raise SandboxFailed(f"{self._server} answered {size[:100]!r} for a size")
            count = -(-int(size) // _PACKED_PIECE)
            for place in range(count):
                command = f"dd if={path} bs={_PACKED_PIECE} skip={place} count=1 2>/dev/null | base64"
                last = place == count - 1
                packed = _decoded(await self._must(handle, f"{command}; rm -f {path}" if last else command, deadline))
                if len(packed) > _PACKED_PIECE:
                    raise SandboxFailed(f"{self._server} gave {len(packed):,} bytes for a piece of {_PACKED_PIECE:,}")
                removed = last
                while packed:
                    if piece := opened.decompress(packed, 1_000_000):
                        yield piece
                    packed = opened.unconsumed_tail
            while not opened.eof and (piece := opened.decompress(b"", 1_000_000)):
                yield piece
            if not opened.eof:
                raise SandboxFailed(f"{self._server} gave a part of the workspace's archive only")
        except zlib.error as error:
            raise SandboxFailed(f"{self._server} gave what is no archive: {error}") from error
        finally:
            if not removed:
                self._later(self._try(handle, f"rm -f {path}"))

    async def unpack(self, handle: str, archive: AsyncIterator[bytes], timeout: float) -> None:
        """Write the archive beside the workspace, compressed and in pieces, and unpack that."""
        deadline = _Deadline(timeout)
        path = f"/tmp/.agentstore-{uuid4().hex}"  # noqa: S108 - in the sandbox, which is its own
        packed = zlib.compressobj(1, wbits=31)
        waiting = bytearray()
        removed = False
        try:
            await self._must(handle, f"umask 077; : > {path}", deadline)
            async for piece in archive:
                waiting += packed.compress(piece)
                while len(waiting) >= _PIECE:
                    await self._append(handle, path, bytes(waiting[:_PIECE]), deadline)
                    del waiting[:_PIECE]
            waiting += packed.flush()
            for start in range(0, len(waiting), _PIECE):
                await self._append(handle, path, bytes(waiting[start : start + _PIECE]), deadline)
            command = f"tar -xzf {path} -o -C {_WORKSPACE}; code=$?; rm -f {path}; exit $code"
            await self._must(handle, command, deadline)
            removed = True
        finally:
            if not removed:
                self._later(self._try(handle, f"rm -f {path}"))

    async def _ask(self, method: str, arguments: Mapping[str, Any], timeout: float, attempts: int = 1) -> Any:
        """Call the manager. One that is itself a client of another answers errors as text."""
        data = await self._call(method, arguments, timeout, attempts)
        if isinstance(data, str) and data.startswith("Error:"):
            raise self._refusal(method, data)
        return data

    async def _about(
        self, handle: str, method: str, arguments: Mapping[str, Any], timeout: float, attempts: int = 1
    ) -> Any:
        place = _place(handle)
        if place.mark:
            raise SandboxLost(f"a sandbox of {place.server} was not made to its end")
        try:
            return await self._ask(method, {"identity": place.name, **arguments}, timeout, attempts)
        except SandboxLost as error:
            if place.server not in (None, self._server):
                raise self._elsewhere(place) from error
            raise

    async def _tool(self, handle: str, tool: str, arguments: Mapping[str, Any], timeout: float) -> ToolResult:
        called = {"tool_name": tool, "arguments": dict(arguments)}
        data = await self._about(handle, "call_tool", called, timeout)
        content = data.get("content") if isinstance(data, dict) else None
        if not isinstance(content, list) or not all(map(_is_part, content)):
            raise SandboxFailed(f"{self._server} answered call_tool with what is no result: {_short(str(data))}")
        parts = [{key: value for key, value in each.items() if value is not None} for each in content]
        return ToolResult.of(*parts, is_error=bool(data.get("isError")))

    async def _command(self, handle: str, command: str, timeout: float) -> ToolResult:
        """Run a command in the workspace, so that it ends after its time or when nobody waits for it any more."""
        mark = uuid4().hex
        wrapped = (
            f"cd {_WORKSPACE} || exit 1; c={shlex.quote(command)}; export AGENTSTORE_CALL={mark}; "
            f'command -v timeout >/dev/null && exec timeout -k 2 {timeout:.3f} sh -c "$c"; exec sh -c "$c"'
        )
        if "\0" in command or len(wrapped.encode(errors="replace")) > _LONGEST_COMMAND:
            raise InvalidContent("a command has no NUL and at most about 130,000 bytes; write a longer one to a file")
        loop = asyncio.get_running_loop()
        began = loop.time()
        answered = False
        try:
            answer = await self._tool(handle, "run_shell_command", {"command": wrapped}, timeout + _GRACE)
            answered = True
        except (_NotReached, SandboxLost, InvalidContent, NotConfigured):
            answered = True
            raise
        finally:
            if not answered:
                self._later(self._try(handle, _kill(mark)))
        code = answer.part("returncode")
        if code is None:
            return answer
        parts = answer["content"]
        if code in ("124", "137", "-9") and loop.time() - began >= timeout:
            parts = [*parts, text(f"timed out after {timeout:g} s\n", "stderr")]
        # The server calls it an error if there is anything on stderr.
        return ToolResult.of(*parts, is_error=code != "0")

    async def _run(self, handle: str, command: str, deadline: _Deadline) -> tuple[str, str, str]:
        """Run a command of our own, and return its code, stdout and stderr."""
        answer = await self._tool(handle, "run_shell_command", {"command": command}, deadline.left)
        code = answer.part("returncode")
        if code is None:
            raise SandboxFailed(f"{self._server} could not run a command: {_short(answer.text)}")
        return code, answer.part("stdout") or "", answer.part("stderr") or ""

    async def _must(self, handle: str, command: str, deadline: _Deadline) -> str:
        code, out, said = await self._run(handle, command, deadline)
        if code != "0":
            raise SandboxFailed(f"a command in the sandbox failed with {code}: {_short(said)}")
        return out

    async def _try(self, handle: str, command: str) -> None:
        try:
            await self._run(handle, command, _Deadline(min(self._timeout, _LONGEST_STOP)))
        except AgentStoreError as error:
            _log.debug("nothing was cleaned up in a sandbox: %s", error)

    async def _append(self, handle: str, path: str, piece: bytes, deadline: _Deadline) -> None:
        said = base64.b64encode(piece).decode()
        await self._must(handle, f"printf %s {said} | base64 -d >> {shlex.quote(path)}", deadline)

    async def _file_call(self, handle: str, tool: str, arguments: Mapping[str, Any], deadline: _Deadline) -> ToolResult:
        path = _path(arguments.get("path", "."))
        if path is None:
            return ToolResult.of(text(f"{arguments['path']}: Not in the workspace\n", "stderr"), is_error=True)
        if tool == "write_file":
            return await self._write(handle, path, _bytes(arguments), deadline)
        if tool == "remove_file" and path == _WORKSPACE:
            return ToolResult.of(text("The workspace itself is not removed\n", "stderr"), is_error=True)
        command = {"read_file": _READ, "list_files": _LIST, "remove_file": _REMOVE}[tool]
        code, out, said = await self._run(handle, f"p={shlex.quote(path)}; {command}", deadline)
        if code != "0":
            return ToolResult.of(text(said, "stderr"), text(code, "returncode"), is_error=True)
        if tool == "read_file":
            return ToolResult.of(_content(_decoded(out)))
        if tool == "remove_file":
            return ToolResult.of(text(f"removed {path}\n", "stdout"))
        found = sorted(each for each in _decoded(out).decode(errors="replace").split("\0") if each)
        parts = ({"type": "text", "text": each[1:], "description": _KINDS[each[0]]} for each in found)
        return ToolResult.of(*sorted(parts, key=lambda part: part["text"]))

    async def _write(self, handle: str, path: str, content: bytes, deadline: _Deadline) -> ToolResult:
        """Write beside the file and put it in its place, so that nobody reads half of it."""
        if len(content) > _LARGEST_FILE:
            said = f"{path} would have {len(content):,} bytes; at most {_LARGEST_FILE:,} can be written at once\n"
            return ToolResult.of(text(said, "stderr"), is_error=True)
        folder = posixpath.dirname(path)
        beside = f"{folder}/.agentstore-{uuid4().hex}"
        begin = f"p={shlex.quote(path)}; d={shlex.quote(folder)}; t={shlex.quote(beside)}; {_BEGIN}"
        pieces = [content[start : start + _PIECE] for start in range(0, len(content), _PIECE)] or [b""]
        said = shlex.quote(base64.b64encode(pieces[0]).decode())
        first = f'{begin} && printf %s {said} | base64 -d > "$t"'
        last = 'mv -f "$t" "$p"'
        placed = False
        try:
            if len(pieces) == 1:
                code, _, said = await self._run(handle, f"{first} && {last}", deadline)
            else:
                code, _, said = await self._run(handle, first, deadline)
                if code == "0":
                    for piece in pieces[1:]:
                        await self._append(handle, beside, piece, deadline)
                    code, _, said = await self._run(handle, f"{begin} && {last}", deadline)
            placed = code == "0"
        finally:
            if not placed:
                self._later(self._try(handle, f"rm -f {shlex.quote(beside)}"))
        if not placed:
            return ToolResult.of(text(said, "stderr"), text(code, "returncode"), is_error=True)
        return ToolResult.of(text(f"wrote {len(content)} bytes to {path}\n", "stdout"))

    async def _released(self, name: str, timeout: float) -> bool:
        """Release it, and return whether the server says that it did. That may be asked twice."""
        try:
            answer = await self._ask("release", {"identity": name}, timeout, 2)
        except SandboxLost:
            return False
        if not isinstance(answer, bool):
            raise SandboxFailed(f"{self._server} answered release with {_short(str(answer))}")
        return answer

    async def _undo(self, made: "asyncio.Task[Any]", mark: str) -> None:
        """Release what a call of create made, or may have made, that nobody has."""
        deadline = _Deadline(2 * self._timeout)
        lost = False
        try:
            name = await made
        except (_NotReached, NotConfigured, InvalidContent):
            return
        except SandboxUnavailable:
            name, lost = None, True
        except AgentStoreError:
            name = None
        wait = _WAIT
        while True:
            try:
                names = [name] if isinstance(name, str) else await self._marked(mark, deadline.left)
                for each in names:
                    await self._released(each, deadline.left)
                # If its answer was lost, it may still be at it.
                if names or not lost:
                    return
            except AgentStoreError as error:
                _log.debug("what create may have made is not released yet: %s", error)
            if deadline.left < wait:
                _log.warning("%s may have made a sandbox that nobody has, marked %s", self._server, mark)
                return
            await asyncio.sleep(wait)
            wait = min(2 * wait, 2.0)

    async def _marked(self, mark: str, timeout: float) -> list[str]:
        found = await self._ask("get_session_mapping", {"session_ctx_id": mark}, timeout, _ATTEMPTS)
        return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    def _refusal(self, method: str, said: str) -> AgentStoreError:
        """The error that the manager's words are."""
        if _NO_CONTAINER.search(said):
            return SandboxLost(f"{self._server} has no such sandbox (any more): {_short(said)}")
        if _NO_ANSWER.search(said):
            return SandboxUnavailable(f"{self._server} does not reach the sandbox: {_short(said)}")
        return SandboxFailed(f"{self._server} answered {method} with an error: {_short(said)}")

    def _elsewhere(self, place: _Place) -> SandboxElsewhere:
        name = place.name or place.mark
        return SandboxElsewhere(f"sandbox {name} is one of {place.server}; this is {self._server}")


class RemoteProvider(ManagedProvider):
    """Sandboxes of a sandbox server, over HTTP.

    It holds connections, of one event loop at a time: stop() closes them, and the next call opens others.
    """

    def __init__(self, base_url: str, bearer_token: str | SecretStr | None = None, *, timeout: float = 60.0) -> None:
        """`base_url` is what the names of the server's methods are added to. `timeout` is in seconds, of one call.

        A user and password in `base_url` are for a proxy before the server; they, too, are never shown.

        Raises:
            NotConfigured: httpx is not installed, or an argument is none.
        """
        super().__init__(timeout)
        self._httpx = _module("httpx", "http")
        try:
            parts = urlsplit(base_url)
            usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 80)
        except ValueError:
            # It would show a password that is in it.
            raise NotConfigured(_NO_URL) from None
        plain = base_url.isprintable() and " " not in base_url and len(base_url) <= 2_000
        if not usable or not plain or parts.query or parts.fragment:
            raise NotConfigured(_NO_URL)
        self._url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        try:
            self._httpx.URL(self._url)
        except self._httpx.InvalidURL as error:
            raise NotConfigured(_NO_URL) from error
        token = bearer_token.get_secret_value() if isinstance(bearer_token, SecretStr) else bearer_token
        # httpx would say what it cannot send.
        if token and not re.fullmatch(r"[!-~]+", token):
            raise NotConfigured("the bearer token of the sandbox server has other characters than printable ASCII")
        if token and "@" in parts.netloc:
            raise NotConfigured("a sandbox server has a bearer token, or a user in its URL, and not both")
        self._token = SecretStr(token) if token else None
        self._user: Any = None
        if "@" in parts.netloc:
            self._user = self._httpx.BasicAuth(unquote(parts.username or ""), unquote(parts.password or ""))
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"RemoteProvider({self._url!r})"

    @property
    def name(self) -> str:
        """Its name in AGENTSTORE_SANDBOX_PROVIDER, "remote"."""
        return "remote"

    @property
    def _server(self) -> str:
        return self._url

    async def start(self) -> None:
        """Do nothing: connections are opened when they are needed."""

    async def stop(self) -> None:
        """Let what is cleaned up be done, and close the connections."""
        await super().stop()
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    async def _call(self, method: str, arguments: Mapping[str, Any], timeout: float, attempts: int = 1) -> Any:
        """POST until there is an answer.

        What was not sent is sent again in any case, for :data:`_ATTEMPTS`.
        """
        try:
            body = json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidContent(f"an argument cannot be said in JSON: {type(error).__name__}") from error
        url = f"{self._url}/{method}"
        failed: AgentStoreError | None = None
        try:
            async with asyncio.timeout(timeout):
                for attempt in range(1, _ATTEMPTS + 1):
                    cause: Exception | None = None
                    failed = None
                    try:
                        status, raw = await self._post(url, body)
                    except (self._httpx.ConnectError, self._httpx.ConnectTimeout, self._httpx.PoolTimeout) as error:
                        cause, most = error, _ATTEMPTS
                        failed = _NotReached(f"{self._url} cannot be reached: {self._hidden(str(error))}")
                    except self._httpx.TransportError as error:
                        cause, most = error, attempts
                        failed = SandboxUnavailable(f"the connection to {url} broke: {self._hidden(str(error))}")
                    else:
                        if status not in _PASSING:
                            return self._answer(method, status, raw)
                        failed, most = self._refusal(method, f"{status} {self._said(raw)}"), attempts
                    if attempt >= most:
                        raise failed from cause
                    _log.debug("attempt %d of %d: %s", attempt, most, failed)
                    await asyncio.sleep(random.random() * _WAIT * 2**attempt)  # noqa: S311 - spreads callers
        except TimeoutError as error:
            raise failed or SandboxUnavailable(f"{url} did not answer in {timeout:g} s") from error
        raise AssertionError("unreachable")

    async def _post(self, url: str, body: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        raw = bytearray()
        async with self._client_of_this_loop().stream(
            "POST", url, content=body, headers=headers, auth=self._user
        ) as response:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise SandboxFailed(f"{url} answered in an encoding that was not asked for")
            async for piece in response.aiter_raw():
                raw += piece
                if len(raw) > _LARGEST_REPLY:
                    raise SandboxFailed(f"{url} answered more than {_LARGEST_REPLY:,} bytes")
            return response.status_code, bytes(raw)

    def _answer(self, method: str, status: int, raw: bytes) -> Any:
        if status in (401, 403):
            wanted = "wants a bearer token" if self._token is None else "refused the bearer token"
            raise NotConfigured(f"{self._url} {wanted} ({status}): AGENTSTORE_SANDBOX_TOKEN names it")
        if status != 200:
            raise self._refusal(method, f"{status} {self._said(raw)}")
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise SandboxFailed(f"{self._url} answered {method} with no JSON: {self._said(raw)}") from error
        if not isinstance(answer, dict) or "data" not in answer:
            raise SandboxFailed(f"{self._url} answered {method} without data: it is no sandbox server")
        return answer["data"]

    def _said(self, raw: bytes) -> str:
        """The beginning of an answer."""
        return _short(self._hidden(raw[:1_000].decode(errors="replace")))

    def _hidden(self, said: str) -> str:
        """What some servers repeat, without the token."""
        return said if self._token is None else said.replace(self._token.get_secret_value(), "***")

    def _client_of_this_loop(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client = self._httpx.AsyncClient(
                timeout=self._httpx.Timeout(None, connect=10.0),
                # An idle connection that the server closes just when it is used again fails a call that may not be
                # repeated: ours are closed before those of most servers.
                limits=self._httpx.Limits(max_connections=None, keepalive_expiry=1.0),
                follow_redirects=False,
            )
            self._loop = loop
        return self._client


_NO_URL = "the URL of the sandbox server is none: one is such as https://host:8000"
_NO_CONTAINER = re.compile(r"No container found (with id|for)")
_NO_ANSWER = re.compile(r"did not start within the specified timeout")
# What Docker and Kubernetes call a container in which nothing runs.
_ENDED = {"exited", "dead", "removing", "succeeded", "failed"}
_KINDS = {"d": "directory", "f": "file"}


def _schema(name: str, description: str, needed: str | None, **arguments: str) -> dict[str, Any]:
    properties = {each: {"type": "string", "description": said} for each, said in arguments.items()}
    parameters = {"type": "object", "properties": properties, "required": [] if needed is None else [needed]}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"name": name, "json_schema": {"type": "function", "function": function}}


_IN = "A path in the workspace."
_SCHEMAS = {
    each["name"]: each
    for each in (
        _schema("read_file", "Return a file of the workspace.", "path", path=_IN),
        _schema(
            "write_file",
            "Write a file of the workspace, with the folders that it needs.",
            "path",
            path=_IN,
            content="Its text.",
            blob="Its bytes in Base64, instead of text.",
        ),
        _schema("list_files", "List the names in a folder of the workspace.", None, path=_IN),
        _schema("remove_file", "Remove a file, or a folder with all that is in it.", "path", path=_IN),
    )
}

# Commands on "$p", an absolute path.
_READ = (
    '[ -e "$p" ] || { echo "$p: No such file" >&2; exit 1; }; '
    '[ -f "$p" ] || { echo "$p: Not a regular file" >&2; exit 1; }; '
    f'n=$(wc -c < "$p") || exit 1; [ "$n" -le {_LARGEST_FILE} ] || '
    f'{{ echo "$p: $n bytes are more than the {_LARGEST_FILE} that can be read" >&2; exit 1; }}; base64 < "$p"'
)
_LIST = (
    'cd "$p" || exit 1; for f in .* *; do case "$f" in .|..) continue;; esac; '
    'if [ -d "./$f" ]; then printf \'d%s\\0\' "$f"; '
    'elif [ -e "./$f" ] || [ -L "./$f" ]; then printf \'f%s\\0\' "$f"; fi; done | base64'
)
_REMOVE = '[ -e "$p" ] || [ -L "$p" ] || { echo "$p: No such file" >&2; exit 1; }; rm -rf "$p"'
_BEGIN = 'if [ -d "$p" ]; then echo "$p: Is a directory" >&2; exit 1; fi; mkdir -p "$d"'


def _kill(mark: str) -> str:
    """A command that ends all processes that have a mark in their environment: more than once, as they may fork."""
    return (
        "for i in 1 2 3; do for p in /proc/[0-9]*; do "
        f'grep -qF AGENTSTORE_CALL={mark} "$p/environ" 2>/dev/null && kill -9 "${{p#/proc/}}" 2>/dev/null; '
        "done; sleep 0.2; done; true"
    )


def _place(handle: str) -> _Place:
    """Read a handle: JSON, or the name of a container."""
    if not handle.startswith("{"):
        return _Place(handle, None)
    try:
        said = json.loads(handle)
        if "mark" in said:
            return _Place("", said.get("server"), str(said["mark"]))
        return _Place(str(said["name"]), said.get("server"))
    except (ValueError, LookupError) as error:
        raise SandboxFailed(f"{handle[:100]!r} is no handle of a sandbox server's") from error


def _path(path: object) -> str | None:
    """Where a path is, or None if that is not in the workspace."""
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidContent(f"{path!r} is no path")
    found = posixpath.normpath(posixpath.join(_WORKSPACE, path))
    return found if found == _WORKSPACE or found.startswith(f"{_WORKSPACE}/") else None


def _bytes(arguments: Mapping[str, Any]) -> bytes:
    """What is to be written."""
    content, blob = arguments.get("content"), arguments.get("blob")
    try:
        if isinstance(content, str) and blob is None:
            return content.encode()
        if isinstance(content, bytes) and blob is None:
            return content
        if isinstance(blob, str) and content is None:
            return base64.b64decode(blob, validate=True)
    except ValueError as error:
        raise InvalidContent("content is no Unicode, or blob no Base64") from error
    raise InvalidContent("write_file takes content, a text, or blob, bytes in Base64")


def _content(content: bytes) -> dict[str, str]:
    try:
        return dict(text(content.decode(), "content"))
    except UnicodeDecodeError:
        return {"type": "blob", "blob": base64.b64encode(content).decode()}


def _decoded(said: str) -> bytes:
    try:
        return base64.b64decode("".join(said.split()), validate=True)
    except ValueError as error:
        raise SandboxFailed(f"the sandbox's shell answered what is no Base64: {_short(said)}") from error


def _is_part(part: object) -> bool:
    return (
        isinstance(part, dict)
        and isinstance(part.get("type"), str)
        and (part["type"] != "text" or isinstance(part.get("text"), str))
    )


def _short(said: str) -> str:
    return " ".join(said[:300].split())


def _module(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotConfigured(
            f"{name} is not installed: pip install 'agentstore-postgres[{extra}]' brings it."
        ) from error
