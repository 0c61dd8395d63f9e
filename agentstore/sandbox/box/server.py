"""The server of a box: it accepts connections and runs their requests."""

import asyncio
import json
import os
import signal
import socket
from typing import Any

from . import workspace
from .children import FileTools
from .files import Files
from .kernel import Kernel
from .locks import LockCounter
from .processes import Processes
from .protocol import (
    ArchiveFailed,
    InvalidCall,
    KernelMissing,
    Result,
    ToolFailed,
    encode_frame,
    encode_response,
    error_result,
    read_frame,
    text_part,
)
from .shell import Shell
from .tools import TOOLS, check_arguments


class Box:
    """Serve the requests of clients with a kernel, a shell and file tools.

    `config` has the keys ``workspace``, ``scratch`` (paths), ``python`` (the interpreter of the kernel), ``limits``,
    ``environment``, ``tools`` (names, or None for all), ``confined`` and, if the sandbox has a cgroup, ``events``: the
    descriptor of the file in which the kernel counts the processes that it has killed there.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        limits: dict[str, int] = config["limits"]
        self._workspace: str = os.path.realpath(config["workspace"])
        self._disk = limits["disk"]
        self._memory = limits["memory"]
        self._events: int | None = config.get("events")
        self._confined: bool = config["confined"]
        self._tools: set[str] = set(TOOLS if config["tools"] is None else config["tools"]) & set(TOOLS)
        self._notes: list[list[str]] = []
        self._processes = Processes(self._workspace, config["environment"], limits, confined=self._confined)
        self._kernel = Kernel(
            self._processes, python=config["python"], scratch=config["scratch"], output_limit=limits["output"]
        )
        self._shell = Shell(self._processes, limits["output"])
        self._files = FileTools(self._processes, Files(self._workspace, limits["output"]))

    async def serve(self, listening: socket.socket, owner: socket.socket, locks: tuple[int, int] | None = None) -> None:
        """Serve requests until the owner has closed its socket or a client has requested a shutdown.

        `locks` are the arguments of a LockCounter, if the sandbox has one.
        """
        loop = asyncio.get_running_loop()
        if locks is not None:
            LockCounter(*locks).start()
        loop.add_signal_handler(signal.SIGCHLD, self._processes.reap)
        self._stopped: asyncio.Future[None] = loop.create_future()
        loop.add_reader(owner.fileno(), self._stop)
        server = await asyncio.start_unix_server(self._handle_connection, sock=listening)
        async with server:
            owner.setblocking(False)
            owner.send(encode_frame(json.dumps({"ready": True}).encode()))
            _silence_stderr()
            await self._stopped
        if not self._confined:  # else Linux kills all other processes when this one, process 1, exits
            await self._processes.kill_tree(os.getpid(), f"AGENTSTORE_BOX={os.getpid()}")

    def _stop(self) -> None:
        if not self._stopped.done():
            self._stopped.set_result(None)

    async def _handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._handle_request(reader, writer)
        except (OSError, EOFError, ValueError, KeyError):
            pass  # the client has disconnected, or does not speak the protocol
        finally:
            writer.close()

    async def _handle_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = json.loads(await read_frame(reader))
        operation = request["op"]
        if operation == "ping":
            writer.write(encode_frame(b'{"ok": true}'))
        elif operation == "tools":
            writer.write(encode_frame(json.dumps({"result": self._list_tools()}).encode()))
        elif operation == "note":
            for notes in self._notes:
                notes.append(str(request["text"]))
            writer.write(encode_frame(b'{"ok": true}'))
        elif operation == "shutdown":
            self._stop()
            return
        elif operation in ("exec", "unpack", "pack"):
            work: asyncio.Task[dict[str, Any] | bytes] = asyncio.create_task(self._respond(request, reader, writer))
            # Anything that can be read after the request means that the client has disconnected. Not so with an
            # archive: unpack() reads it itself, and notices its end.
            waiting: set[asyncio.Task[Any]] = {work}
            if operation != "unpack":
                waiting.add(asyncio.create_task(reader.read(1)))
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()
            if work.done() and not work.cancelled():
                response = work.result()
                for data in (response,) if isinstance(response, bytes) else encode_response(response):
                    writer.write(data)
                    await writer.drain()
            else:
                await asyncio.wait({work})
        await writer.drain()

    def _list_tools(self) -> dict[str, Any]:
        return {
            "generic": {
                name: {"name": name, "json_schema": {"type": "function", "function": {"name": name, **TOOLS[name]}}}
                for name in TOOLS
                if name in self._tools
            }
        }

    async def _respond(
        self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> dict[str, Any] | bytes:
        """Return the response, or its encoded form."""
        try:
            if request["op"] == "pack":
                return await workspace.pack(self._processes, self._workspace, self._disk, writer)
            if request["op"] == "unpack":
                return await workspace.unpack(self._processes, self._workspace, reader)
            result = await self._call_tool(request["tool"], request["arguments"], float(request["timeout"]))
            return result if isinstance(result, bytes) else {"result": result}
        except InvalidCall as error:
            return {"invalid": str(error)}
        except ArchiveFailed as error:
            return {"failed": str(error)}
        except KernelMissing as error:
            return {"unavailable": str(error)}
        except Exception as error:
            if request["op"] != "exec" and isinstance(error, (OSError, EOFError)):
                raise  # the client has disconnected
            return {"failed": f"{type(error).__name__}: {error}"}

    async def _call_tool(self, tool: Any, arguments: Any, timeout: float) -> Result | bytes:
        if not isinstance(tool, str) or tool not in self._tools:
            raise InvalidCall(f"the sandbox has no tool {tool!r:.80}: it has {', '.join(sorted(self._tools))}")
        check_arguments(tool, arguments)
        notes: list[str] = []
        self._notes = [*self._notes, notes]
        killed = self._count_killed()
        try:
            if tool == "run_ipython_cell":
                result = await self._kernel.run(arguments["code"], timeout, notes)
            elif tool == "run_shell_command":
                result = await self._shell.run(arguments["command"], timeout, notes)
            else:
                return await self._files.call(tool, arguments, timeout)
        except TimeoutError:
            result = error_result(f"timed out after {timeout:g} s")
        except ToolFailed as error:
            result = error_result("".join(f"{note}\n" for note in notes) + str(error))
        except MemoryError:
            result = error_result("the sandbox ran out of memory while the tool was running")
        finally:
            self._notes = [each for each in self._notes if each is not notes]
        if isinstance(result, dict) and self._count_killed() > killed:
            text = (
                f"process killed: the sandbox's processes used {self._memory:,} bytes of memory, all that are allowed\n"
            )
            result["content"].append(text_part(text, "stderr"))
        return result

    def _count_killed(self) -> int:
        """Return how many processes the kernel has killed in this sandbox because of its memory limit."""
        if self._events is None:
            return 0
        lines = os.pread(self._events, 4096, 0).splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(b"oom_kill "))


def _silence_stderr() -> None:
    """Redirect stderr to /dev/null: until now it went to the process that started the box, for its error message."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
