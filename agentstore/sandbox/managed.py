"""Sandboxes of AgentScope Runtime's SandboxManager, independent of how its methods are called.

:class:`ManagedProvider` has two subclasses: one calls the manager over HTTP, the other in this process.
"""

import asyncio
import json
import logging
import posixpath
import re
import zlib
from abc import abstractmethod
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

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
from agentstore.sandbox import commands
from agentstore.sandbox.commands import shorten
from agentstore.schemas.sandbox import SandboxSpec, ToolResult, text

_log = logging.getLogger(__name__)

ATTEMPTS = 3
"""The maximum number of attempts for a request that may be retried."""

RETRY_DELAY = 0.1
"""Seconds before the first retry; doubled for each further one."""

# Seconds within which a running sandbox must answer a health check.
_HEALTH_TIMEOUT = 5.0
# Seconds that a command has, after its timeout, to be killed and answered.
_GRACE = 5.0
# The values in a reply, and the levels of its arrays and objects.
_MAX_VALUES = 200_000
_MAX_DEPTH = 100
# Seconds that stop() waits for cleanup.
_LONGEST_STOP = 10.0

# The file tools, which are run by the shell: their required and their possible arguments.
_FILE_TOOLS = {
    "read_file": ({"path"}, {"path"}),
    "write_file": ({"path"}, {"path", "content", "blob"}),
    "list_files": (set[str](), {"path"}),
    "remove_file": ({"path"}, {"path"}),
}
# The tools of every sandbox, and their one argument.
_GENERIC_TOOLS = {"run_ipython_cell": "code", "run_shell_command": "command"}

_NO_CONTAINER = re.compile(r"No container found (with id|for)")
_NO_ANSWER = re.compile(r"did not start within the specified timeout")
# Docker's and Kubernetes' states of a container in which nothing runs.
_ENDED = {"exited", "dead", "removing", "succeeded", "failed"}


class RequestNotSent(SandboxUnavailable):
    """The manager cannot be reached; no request was sent."""


@dataclass(frozen=True, slots=True)
class _Handle:
    """A parsed handle: the ``name`` of a container, or the ``mark`` of a sandbox that is being created."""

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
    """Sandboxes of a SandboxManager of AgentScope Runtime.

    Its containers get their size, environment and tools from their images: of a SandboxSpec, only `type` and
    `environment` are used. A cell that exceeds its timeout cannot be ended, because the manager has no call for it; a
    shell command can. Files are read and written by shell commands.
    """

    def __init__(self, timeout: float) -> None:
        if timeout <= 0:
            raise NotConfigured(f"timeout must be a number of seconds greater than 0, got {timeout!r}")
        self._timeout = timeout
        self._cleanups: set[asyncio.Task[None]] = set()

    @property
    def keeps_workspaces(self) -> bool:
        """True: shell commands pack and unpack them."""
        return True

    @property
    @abstractmethod
    def _server(self) -> str:
        """Which manager this is, as stored in handles."""

    @abstractmethod
    async def _call(self, method: str, arguments: Mapping[str, Any], timeout: float, attempts: int = 1) -> Any:
        """Call a method of the manager, with at most `attempts` attempts, and return its result.

        Raises:
            RequestNotSent, SandboxUnavailable, SandboxLost, SandboxFailed, NotConfigured, InvalidContent.
        """

    async def stop(self) -> None:
        """Wait for cleanup to finish, for a limited time."""
        loop = asyncio.get_running_loop()
        if cleanups := {each for each in self._cleanups if each.get_loop() is loop}:
            _, late = await asyncio.wait(cleanups, timeout=min(self._timeout, _LONGEST_STOP))
            for each in late:
                each.cancel()
            if late:
                _log.warning("cleanup did not finish: %s may have unused sandboxes or temporary files", self._server)
            await asyncio.gather(*late, return_exceptions=True)
        self._cleanups.clear()

    def reserve(self) -> str:
        """Return a handle with the mark that a sandbox will be created with."""
        return json.dumps({"mark": f"agentstore-{uuid4().hex}", "server": self._server})

    async def create(self, spec: SandboxSpec, reserved: str = "") -> str:
        """Create a sandbox and wait until it is healthy.

        The manager's pool is not used: it creates a container for each one that it hands out, so it is no faster; it
        accepts no environment, and it returns a container of another type when creation fails. If the response is lost,
        the sandbox is found by its mark and released.
        """
        mark = _parse_handle(reserved or self.reserve()).mark
        arguments = {
            "sandbox_type": spec.type,
            "environment": dict(spec.environment),
            "meta": {"session_ctx_id": mark},
        }
        deadline = _Deadline(self._timeout)
        # Twice the caller's timeout: a sandbox that is created too late for the caller must still be released.
        creating = asyncio.create_task(self._request("create", arguments, 2 * self._timeout))
        succeeded = False
        try:
            async with asyncio.timeout(deadline.left):
                name = await asyncio.shield(creating)
            if not isinstance(name, str) or not 0 < len(name) <= 1_000:
                raise SandboxFailed(f"{self._server} did not create a {spec.type!r} sandbox; its log may show why")
            if await self._request("check_health", {"identity": name}, deadline.left, ATTEMPTS) is not True:
                raise SandboxFailed(f"{self._server} created sandbox {name}, which is not healthy")
            succeeded = True
            return json.dumps({"name": name, "server": self._server})
        except TimeoutError as error:
            raise SandboxUnavailable(f"{self._server} did not create a sandbox within {self._timeout:g} s") from error
        finally:
            if not succeeded:
                self._clean_up_later(self._undo_create(creating, mark))

    async def connect(self, handle: str) -> None:
        """Check that the manager has the sandbox."""
        await self._request_for(handle, "get_info", {}, self._timeout, ATTEMPTS)

    async def check(self, handle: str) -> bool:
        """Return whether the manager has the sandbox and it is healthy."""
        deadline = _Deadline(min(_HEALTH_TIMEOUT, self._timeout))
        try:
            await self._request_for(handle, "get_info", {}, deadline.left, ATTEMPTS)
        except SandboxLost:
            return False
        except SandboxFailed as error:
            raise SandboxUnavailable(str(error)) from error
        try:
            # The server waits longer than this deadline for a sandbox that does not answer.
            return await self._request_for(handle, "check_health", {}, deadline.left, ATTEMPTS) is True
        except RequestNotSent:
            raise
        except (SandboxLost, SandboxUnavailable, SandboxFailed):
            return False

    async def exec(self, handle: str, tool: str, arguments: Mapping[str, Any], timeout: float) -> ToolResult:
        """Call a tool; see :class:`ManagedProvider` for what a timeout ends."""
        if tool in _FILE_TOOLS:
            required, possible = _FILE_TOOLS[tool]
            # With other arguments, it is a tool of the same name that the sandbox has itself.
            if required <= set(arguments) <= possible:
                return await self._call_file_tool(handle, tool, arguments, _Deadline(timeout))
        if tool in _GENERIC_TOOLS:
            name = _GENERIC_TOOLS[tool]
            if set(arguments) != {name} or not isinstance(arguments[name], str):
                raise InvalidContent(f"{tool} takes exactly one argument, {name!r}, a string")
        if tool == "run_shell_command":
            return await self._run_user_command(handle, arguments["command"], timeout)
        if tool == "run_ipython_cell":
            # The server rejects an empty cell.
            return await self._call_tool(handle, tool, {"code": arguments["code"] or "\n"}, timeout)
        deadline = _Deadline(timeout)
        result = await self._call_tool(handle, tool, arguments, timeout)
        if result.is_error and "500 Server Error" in result.text and result.part("stderr") is None:
            # The server's response for an unknown tool, but also for other failures.
            tools = await self.list_tools(handle, deadline.left)
            names = sorted(name for group in tools.values() for name in group)
            if tool not in names:
                raise InvalidContent(f"the sandbox has no tool {tool[:80]!r}: it has {', '.join(names)}")
        return result

    async def list_tools(self, handle: str, timeout: float) -> dict[str, Any]:
        """Return the server's tools and the file tools of this provider."""
        found = await self._request_for(handle, "list_tools", {}, timeout, ATTEMPTS)
        if not isinstance(found, dict) or not all(isinstance(group, dict) for group in found.values()):
            raise SandboxFailed(f"{self._server} returned no groups of tools for list_tools")
        return {**found, "generic": {**commands.FILE_TOOLS, **found.get("generic", {})}}

    async def destroy(self, handle: str) -> None:
        """Release a sandbox.

        The server's response is the same for a sandbox that does not exist and for one that it could not end; only the
        status distinguishes them.
        """
        parsed = _parse_handle(handle)
        if parsed.mark:
            names = await self._find_by_mark(parsed.mark, self._timeout)
            for each in names:
                await self._release(each, self._timeout)
            if not names and parsed.server != self._server:
                raise self._elsewhere_error(parsed)
            return
        if await self._release(parsed.name, self._timeout):
            return
        try:
            status = await self._request("get_status", {"identity": parsed.name}, self._timeout, ATTEMPTS)
        except SandboxLost:
            status = None
        if not status and parsed.server not in (None, self._server):
            raise self._elsewhere_error(parsed)
        if status in _ENDED:
            _log.warning("%s ended sandbox %s but did not remove it (%s)", self._server, parsed.name, status)
        elif status:
            raise SandboxFailed(
                f"{self._server} could not end sandbox {parsed.name}, whose status is {status}; see its log"
            )

    async def pack(self, handle: str, timeout: float) -> AsyncIterator[bytes]:
        """Pack the workspace into a temporary file in the sandbox, and read that by offset."""
        deadline = _Deadline(timeout)
        path = _temporary_path()
        decompressor = zlib.decompressobj(31)
        removed = False
        try:
            size = await self._run_checked(handle, commands.pack(path), deadline)
            if not re.fullmatch("[0-9]{1,15}", size.strip()):
                raise SandboxFailed(f"{self._server} returned {size[:80]!r} for the size of the packed workspace")
            count = -(-int(size) // commands.PACKED_PIECE)
            for index in range(count):
                is_last = index == count - 1
                command = commands.read_packed(path, index, is_last=is_last)
                packed = commands.decode_base64(await self._run_checked(handle, command, deadline))
                if len(packed) > commands.PACKED_PIECE:
                    raise SandboxFailed(
                        f"{self._server} returned {len(packed):,} bytes for a piece of {commands.PACKED_PIECE:,}"
                    )
                removed = is_last
                while packed:
                    if piece := decompressor.decompress(packed, 1_000_000):
                        yield piece
                    packed = decompressor.unconsumed_tail
            while not decompressor.eof and (piece := decompressor.decompress(b"", 1_000_000)):
                yield piece
            if not decompressor.eof:
                raise SandboxFailed(f"{self._server} returned an incomplete archive of the workspace")
        except zlib.error as error:
            raise SandboxFailed(f"{self._server} returned an archive that cannot be decompressed: {error}") from error
        finally:
            if not removed:
                self._clean_up_later(self._try_command(handle, commands.remove_temporary(path)))

    async def unpack(self, handle: str, archive: AsyncIterator[bytes], timeout: float) -> None:
        """Write the compressed archive to a temporary file in the sandbox, in pieces, and unpack that."""
        deadline = _Deadline(timeout)
        path = _temporary_path()
        compressor = zlib.compressobj(1, wbits=31)
        buffer = bytearray()
        removed = False
        try:
            await self._run_checked(handle, commands.create_empty(path), deadline)
            async for piece in archive:
                buffer += compressor.compress(piece)
                while len(buffer) >= commands.PIECE:
                    await self._append(handle, path, bytes(buffer[: commands.PIECE]), deadline)
                    del buffer[: commands.PIECE]
            buffer += compressor.flush()
            for start in range(0, len(buffer), commands.PIECE):
                await self._append(handle, path, bytes(buffer[start : start + commands.PIECE]), deadline)
            await self._run_checked(handle, commands.unpack(path), deadline)
            removed = True
        finally:
            if not removed:
                self._clean_up_later(self._try_command(handle, commands.remove_temporary(path)))

    async def _request(self, method: str, arguments: Mapping[str, Any], timeout: float, attempts: int = 1) -> Any:
        """Call the manager. A manager that is itself a client of another one returns errors as text."""
        data = await self._call(method, arguments, timeout, attempts)
        if not _is_bounded(data):
            raise SandboxFailed(
                f"{self._server} returned more than {_MAX_VALUES:,} values for {method}, "
                f"or more than {_MAX_DEPTH} levels"
            )
        if isinstance(data, str) and data.startswith("Error:"):
            raise self._error_from_text(method, data)
        return data

    async def _request_for(
        self, handle: str, method: str, arguments: Mapping[str, Any], timeout: float, attempts: int = 1
    ) -> Any:
        """Call a method of the manager for one sandbox."""
        parsed = _parse_handle(handle)
        if parsed.mark:
            raise SandboxLost(f"the creation of a sandbox on {parsed.server} did not finish")
        try:
            return await self._request(method, {"identity": parsed.name, **arguments}, timeout, attempts)
        except SandboxLost as error:
            if parsed.server not in (None, self._server):
                raise self._elsewhere_error(parsed) from error
            raise

    async def _call_tool(self, handle: str, tool: str, arguments: Mapping[str, Any], timeout: float) -> ToolResult:
        data = await self._request_for(handle, "call_tool", {"tool_name": tool, "arguments": dict(arguments)}, timeout)
        content = data.get("content") if isinstance(data, dict) else None
        if not isinstance(content, list) or not all(map(_is_part, content)):
            raise SandboxFailed(f"{self._server} returned no valid result for call_tool: {shorten(str(data))}")
        parts = [{key: value for key, value in each.items() if value is not None} for each in content]
        return ToolResult.of(*parts, is_error=bool(data.get("isError")))

    async def _run_user_command(self, handle: str, command: str, timeout: float) -> ToolResult:
        """Run a caller's command in the workspace. It is killed after `timeout`, and when the caller is canceled."""
        mark = uuid4().hex
        wrapped = commands.run_in_workspace(command, mark, timeout)
        if "\0" in command or len(wrapped.encode(errors="replace")) > commands.LONGEST_COMMAND:
            raise InvalidContent(
                "a command must have no NUL and at most about 130,000 bytes; write a longer one to a file and run that"
            )
        loop = asyncio.get_running_loop()
        began = loop.time()
        answered = False
        try:
            result = await self._call_tool(handle, "run_shell_command", {"command": wrapped}, timeout + _GRACE)
            answered = True
        except (RequestNotSent, SandboxLost, InvalidContent, NotConfigured):
            answered = True
            raise
        finally:
            if not answered:
                self._clean_up_later(self._try_command(handle, commands.kill(mark)))
        code = result.part("returncode")
        if code is None:
            return result
        parts = result["content"]
        if code in ("124", "137", "-9") and loop.time() - began >= timeout:
            parts = [*parts, text(f"timed out after {timeout:g} s\n", "stderr")]
        # The server reports an error whenever there is output on stderr.
        return ToolResult.of(*parts, is_error=code != "0")

    async def _run_command(self, handle: str, command: str, deadline: _Deadline) -> tuple[str, str, str]:
        """Run a command of this provider, and return its exit code, stdout and stderr."""
        result = await self._call_tool(handle, "run_shell_command", {"command": command}, deadline.left)
        code = result.part("returncode")
        if code is None:
            raise SandboxFailed(f"{self._server} could not run a command: {shorten(result.text)}")
        return code, result.part("stdout") or "", result.part("stderr") or ""

    async def _run_checked(self, handle: str, command: str, deadline: _Deadline) -> str:
        """Run a command of this provider, and return its stdout. An exit code other than 0 is an error."""
        code, stdout, stderr = await self._run_command(handle, command, deadline)
        if code != "0":
            raise SandboxFailed(f"a command in the sandbox failed with exit code {code}: {shorten(stderr)}")
        return stdout

    async def _try_command(self, handle: str, command: str) -> None:
        """Run a command that cleans up; an error is logged."""
        try:
            await self._run_command(handle, command, _Deadline(min(self._timeout, _LONGEST_STOP)))
        except AgentStoreError as error:
            _log.debug("cleanup in a sandbox failed: %s", error)

    async def _append(self, handle: str, path: str, piece: bytes, deadline: _Deadline) -> None:
        await self._run_checked(handle, commands.append(path, piece), deadline)

    async def _call_file_tool(
        self, handle: str, tool: str, arguments: Mapping[str, Any], deadline: _Deadline
    ) -> ToolResult:
        path = commands.resolve_path(arguments.get("path", "."))
        if path is None:
            return ToolResult.of(text(f"{arguments['path']}: Not in the workspace\n", "stderr"), is_error=True)
        if tool == "write_file":
            return await self._write_file(handle, path, commands.content_to_write(arguments), deadline)
        if tool == "remove_file" and path == commands.WORKSPACE:
            return ToolResult.of(text("The workspace itself cannot be removed\n", "stderr"), is_error=True)
        command = {
            "read_file": commands.read_file,
            "list_files": commands.list_files,
            "remove_file": commands.remove_file,
        }[tool](path)
        code, stdout, stderr = await self._run_command(handle, command, deadline)
        if code != "0":
            return ToolResult.of(text(stderr, "stderr"), text(code, "returncode"), is_error=True)
        if tool == "read_file":
            return ToolResult.of(commands.content_part(commands.decode_base64(stdout)))
        if tool == "remove_file":
            return ToolResult.of(text(f"removed {path}\n", "stdout"))
        return ToolResult.of(*commands.name_parts(commands.decode_base64(stdout)))

    async def _write_file(self, handle: str, path: str, content: bytes, deadline: _Deadline) -> ToolResult:
        """Write a temporary file beside the target and rename it, so that readers never see a part of the content."""
        if len(content) > commands.LARGEST_FILE:
            message = f"{path}: {len(content):,} bytes are more than the {commands.LARGEST_FILE:,} that can be written"
            return ToolResult.of(text(f"{message}\n", "stderr"), is_error=True)
        temporary = f"{posixpath.dirname(path)}/.agentstore-{uuid4().hex}"
        size = commands.PIECE
        pieces = [content[start : start + size] for start in range(0, len(content), size)] or [b""]
        replaced = False
        try:
            if len(pieces) == 1:
                command = commands.write_whole(path, temporary, content)
                code, _, stderr = await self._run_command(handle, command, deadline)
            else:
                command = commands.write_first(path, temporary, pieces[0])
                code, _, stderr = await self._run_command(handle, command, deadline)
                if code == "0":
                    for piece in pieces[1:]:
                        await self._append(handle, temporary, piece, deadline)
                    command = commands.replace_file(path, temporary)
                    code, _, stderr = await self._run_command(handle, command, deadline)
            replaced = code == "0"
        finally:
            if not replaced:
                self._clean_up_later(self._try_command(handle, commands.remove_temporary(temporary)))
        if not replaced:
            return ToolResult.of(text(stderr, "stderr"), text(code, "returncode"), is_error=True)
        return ToolResult.of(text(f"wrote {len(content)} bytes to {path}\n", "stdout"))

    async def _release(self, name: str, timeout: float) -> bool:
        """Release a sandbox, and return whether the server released it. Releasing is safe to retry once."""
        try:
            released = await self._request("release", {"identity": name}, timeout, 2)
        except SandboxLost:
            return False
        if not isinstance(released, bool):
            raise SandboxFailed(f"{self._server} returned {shorten(str(released))} for release, expected a boolean")
        return released

    async def _undo_create(self, creating: "asyncio.Task[Any]", mark: str) -> None:
        """Release the sandbox that a failed or canceled create has created, or may have created."""
        deadline = _Deadline(2 * self._timeout)
        answer_lost = False
        try:
            name = await creating
        except (RequestNotSent, NotConfigured, InvalidContent):
            return
        except SandboxUnavailable:
            name, answer_lost = None, True
        except AgentStoreError:
            name = None
        delay = RETRY_DELAY
        while True:
            try:
                names = [name] if isinstance(name, str) else await self._find_by_mark(mark, deadline.left)
                for each in names:
                    await self._release(each, deadline.left)
                # If the response was lost, the server may still be creating it.
                if names or not answer_lost:
                    return
            except AgentStoreError as error:
                _log.debug("a sandbox that create may have created is not released yet: %s", error)
            if deadline.left < delay:
                _log.warning("%s may have created an unused sandbox, marked %s", self._server, mark)
                return
            await asyncio.sleep(delay)
            delay = min(2 * delay, 2.0)

    async def _find_by_mark(self, mark: str, timeout: float) -> list[str]:
        found = await self._request("get_session_mapping", {"session_ctx_id": mark}, timeout, ATTEMPTS)
        return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []

    def _clean_up_later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)

    def _error_from_text(self, method: str, message: str) -> AgentStoreError:
        """Return the exception for an error message of the manager."""
        if _NO_CONTAINER.search(message):
            return SandboxLost(f"{self._server} does not have this sandbox, or no longer: {shorten(message)}")
        if _NO_ANSWER.search(message):
            return SandboxUnavailable(f"{self._server} cannot reach the sandbox: {shorten(message)}")
        return SandboxFailed(f"{self._server} returned an error for {method}: {shorten(message)}")

    def _elsewhere_error(self, handle: _Handle) -> SandboxElsewhere:
        name = handle.name or handle.mark
        return SandboxElsewhere(f"sandbox {name} belongs to {handle.server}; this provider uses {self._server}")


def _temporary_path() -> str:
    return f"/tmp/.agentstore-{uuid4().hex}"  # noqa: S108 - in the sandbox, which has its own /tmp


def _parse_handle(handle: str) -> _Handle:
    """Parse a handle: JSON, or the plain name of a container."""
    if not handle.startswith("{"):
        return _Handle(handle, None)
    try:
        fields = json.loads(handle)
        if "mark" in fields:
            return _Handle("", fields.get("server"), str(fields["mark"]))
        return _Handle(str(fields["name"]), fields.get("server"))
    except (ValueError, LookupError) as error:
        raise SandboxFailed(f"{handle[:80]!r} is not the handle of a managed sandbox") from error


def _is_bounded(value: Any) -> bool:
    """Return whether a reply has so few values and levels that it can be printed and encoded."""
    waiting = [(value, 1)]
    count = 0
    while waiting:
        value, depth = waiting.pop()
        below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        count += len(below)
        if count > _MAX_VALUES or depth > _MAX_DEPTH:
            return False
        waiting += [(each, depth + 1) for each in below if isinstance(each, (dict, list))]
    return True


def _is_part(part: object) -> bool:
    return (
        isinstance(part, dict)
        and isinstance(part.get("type"), str)
        and (part["type"] != "text" or isinstance(part.get("text"), str))
    )
