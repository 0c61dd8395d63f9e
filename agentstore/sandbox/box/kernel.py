"""The IPython kernel of a sandbox, and the cells that it runs."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from .processes import Processes, read_ticks
from .protocol import KernelMissing, Result, ToolFailed, error_result, text_part, tool_result
from .tasks import run_to_completion

_MAX_RICH_OUTPUT = 16_000_000
"""Characters of the images and other rich output of a cell."""

# Bytes that a message counts for that is malformed or belongs to another cell.
_USELESS_SIZE = 100

# An IPython kernel whose print() waits until the output is sent after each 100,000 characters. By itself it collects
# whatever is printed within a fifth of a second, and a loop that prints would exceed the memory limit. The output of
# forked processes is sent over a Unix socket, as a sandbox has no TCP.
_KERNEL = """
import sys
del sys.path[0]
from ipykernel import iostream, kernelapp
def prepare_pipe(address):
    import zmq
    prepare = iostream.IOPubThread._setup_pipe_in
    def listen(self):
        bind = zmq.Socket.bind_to_random_port
        zmq.Socket.bind_to_random_port = lambda socket, _: socket.bind(address)
        try:
            prepare(self)
        finally:
            zmq.Socket.bind_to_random_port = bind
    def connect(self):
        context = zmq.Context()
        pipe = context.socket(zmq.PUSH)
        pipe.linger = 3000
        pipe.connect(address)
        return context, pipe
    iostream.IOPubThread._setup_pipe_in, iostream.IOPubThread._setup_pipe_out = listen, connect
prepare_pipe("ipc://" + sys.argv[2] + ".pipe")
write_to_buffer = iostream.OutStream.write
def write(self, string):
    if not isinstance(string, str):
        return write_to_buffer(self, string)
    for start in range(0, len(string) or 1, 100_000):
        piece = string[start : start + 100_000]
        write_to_buffer(self, piece)
        self.unsent = getattr(self, "unsent", 0) + len(piece)
        if self.unsent > 100_000:
            self.unsent = 0
            self.flush()
    return len(string)
iostream.OutStream.write = write
del write, prepare_pipe
kernelapp.launch_new_instance()
"""

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class Kernel:
    """An IPython kernel, started by the first cell and restarted after it has exited. Cells run one at a time."""

    def __init__(self, processes: Processes, *, python: str, scratch: str, output_limit: int) -> None:
        self._processes = processes
        self._python = python
        self._scratch = scratch
        self._limit = output_limit
        self._turn = asyncio.Lock()
        self._pid = 0
        self._exited: asyncio.Future[int] | None = None
        self._client: Any = None
        self._folder = ""
        self._starts = 0
        self._cancel = asyncio.Event()

    async def run(self, code: str, timeout: float, notes: list[str]) -> Result:
        """Run a cell and return what it printed, displayed and raised.

        `timeout` is in seconds and includes the wait for earlier cells and the start of the kernel. A cell that takes
        longer or prints too much is interrupted; if it does not stop, the kernel is killed. `notes` are lines that are
        added to stderr.

        Raises:
            KernelMissing: ipykernel or jupyter_client is not installed.
            ToolFailed: the kernel cannot be started.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
        except TimeoutError:
            return error_result(f"timed out after {timeout:g} s while waiting for earlier cells")
        # A cell that has begun is followed to its end, so that the next one finds an idle kernel or none.
        cancel = self._cancel = asyncio.Event()
        run = run_to_completion(self._run(code, deadline, timeout, notes))
        run.add_done_callback(lambda _: self._turn.release())
        try:
            return await asyncio.shield(run)
        except asyncio.CancelledError:
            cancel.set()
            raise

    async def _run(self, code: str, deadline: float, timeout: float, notes: list[str]) -> Result:
        lost = ""
        for attempt in (1, 2):
            cell = _Cell(self._limit)
            if self._exited is None or self._exited.done():
                if self._starts:
                    lost = "the kernel had exited and was restarted: the variables of earlier cells are lost"
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._start()
                except TimeoutError:
                    await self._stop()
                    self._starts = 0
                    return error_result(f"timed out after {timeout:g} s while the kernel was starting")
                except ToolFailed:
                    await self._stop()
                    raise
            began = read_ticks()
            reason = await self._execute(cell, code, deadline, timeout)
            if reason and self._pid:
                await self._processes.kill_started_since(self._pid, f"AGENTSTORE_CALL={self._folder}", began)
            if reason != "exited":
                break
            if attempt == 2 or cell.began:
                lost = "the kernel exited: all variables are lost"
                break
            # The kernel was exiting when the cell arrived (exit() takes a moment): run the cell in a new one.
        cell.errors += "".join(f"{each}\n" for each in [*notes, lost, "" if reason == "exited" else reason] if each)
        return cell.result(is_error=cell.failed or bool(reason))

    async def _execute(self, cell: "_Cell", code: str, deadline: float, timeout: float) -> str:
        """Send a cell to the kernel and collect its output.

        Returns why the cell was interrupted; "exited" if the kernel exited; "" if the cell ended by itself.
        """
        client, loop = self._client, asyncio.get_running_loop()
        assert self._exited is not None  # noqa: S101
        request = client.execute(code, store_history=True, allow_stdin=False)
        reply = asyncio.ensure_future(client.shell_channel.get_msg())
        message = asyncio.ensure_future(client.iopub_channel.get_msg())
        canceled = asyncio.ensure_future(self._cancel.wait())
        reason, until = "", deadline
        try:
            while True:
                waiting = {
                    message,
                    self._exited,
                    *(() if reason else (canceled,)),
                    *(() if reply.done() else (reply,)),
                }
                remaining = max(0.0, until - loop.time())
                done, _ = await asyncio.wait(waiting, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
                if message in done:
                    try:
                        cell.add(message.result(), request)
                    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
                        cell.add_malformed()
                    if cell.idle:
                        return reason
                    message = asyncio.ensure_future(client.iopub_channel.get_msg())
                    if cell.full and not reason:
                        reason = f"the cell was interrupted: it printed more than {self._limit:,} bytes"
                        until = self._interrupt()
                elif self._exited in done:
                    await self._stop()
                    return reason or "exited"
                elif canceled in done and not reason:
                    reason, until = "canceled", self._interrupt()
                elif reply in done and not _is_reply_to(reply, request):
                    # The late reply to an earlier cell.
                    reply = asyncio.ensure_future(client.shell_channel.get_msg())
                elif reply in done:
                    # A message above MAXMSGSIZE closes the connection for output, so that "idle" may never arrive.
                    until = min(until, loop.time() + 1)
                elif reply.done():
                    return reason or "the cell printed more in one message than the sandbox accepts"
                elif not reason:
                    reason, until = f"timed out after {timeout:g} s", self._interrupt()
                else:
                    await self._stop()
                    return f"{reason}; the kernel did not stop and was killed: all variables are lost"
        finally:
            for task in (reply, message, canceled):
                task.cancel()

    def _interrupt(self) -> float:
        """Interrupt the kernel and its process group, and return the time until which it may take to stop."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGINT)
        return asyncio.get_running_loop().time() + 2

    async def _start(self) -> None:
        for folder in _find_packages():
            if folder not in sys.path:
                sys.path.append(folder)
        try:
            import ipykernel  # noqa: F401
            from jupyter_client.asynchronous.client import AsyncKernelClient
        except ImportError as error:
            raise KernelMissing(
                f"the sandbox's Python has no IPython kernel ({error}): run pip install 'agentstore-postgres[sandbox]'"
            ) from error
        self._starts += 1
        self._folder = os.path.join(self._scratch, f".kernel-{os.urandom(8).hex()}")
        place, key = os.path.join(self._folder, "k"), os.urandom(16).hex()
        information: dict[str, Any] = {"transport": "ipc", "ip": place, "signature_scheme": "hmac-sha256"}
        for number, name in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1):
            information[f"{name}_port"] = number
        try:
            file = _write_connection_file(self._folder, json.dumps({**information, "key": key}))
        except OSError as error:
            raise ToolFailed(f"the kernel cannot be started: {error}") from error
        command = [self._python, "-c", _KERNEL, "-f", file, "--HistoryManager.enabled=False"]
        environment = {"AGENTSTORE_CALL": self._folder}
        nowhere = subprocess.DEVNULL
        self._pid, self._exited = await self._processes.start(command, environment, stdout=nowhere, stderr=nowhere)
        while not _exists(f"{place}-2"):
            if self._exited.done():
                raise ToolFailed("the kernel exited while it was starting")
            await asyncio.sleep(0.01)
        self._client = AsyncKernelClient()
        self._client.load_connection_info({**information, "key": key.encode()})
        self._client.context.setsockopt(_import_zmq().MAXMSGSIZE, 4 * self._limit + _MAX_RICH_OUTPUT)
        self._client.start_channels(stdin=False, hb=False, control=False)
        # The channels connect independently: a reply on one does not mean that output arrives on the other. Cells may
        # run only once it does.
        while True:
            request = self._client.kernel_info()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.25):
                    while (await self._client.iopub_channel.get_msg())["parent_header"].get("msg_id") != request:
                        pass
                    break
            if self._exited.done():
                raise ToolFailed("the kernel exited while it was starting")
        await self._client.shell_channel.get_msg()

    async def _stop(self) -> None:
        """Kill the kernel and what it started, if it has not exited by itself, and remove its files."""
        if self._client is not None:
            self._client.stop_channels()
            self._client = None
        if self._pid:
            await self._processes.kill_tree(self._pid, f"AGENTSTORE_CALL={self._folder}")
            self._pid = 0
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


class _Cell:
    """The output of one cell, collected from the kernel's messages."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.output = ""
        self.errors = ""
        self._rich: list[dict[str, Any]] = []
        self._size = {"stdout": 0, "stderr": 0, "rich": 0, "useless": 0}
        self.has_malformed = False
        self.began = self.idle = self.failed = self.full = False

    def add(self, message: dict[str, Any], request: str) -> None:
        """Add a message of the kernel, unless it belongs to another request."""
        if message["parent_header"].get("msg_id") != request:
            self._count_useless()
            return
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "status":
            self.idle = content["execution_state"] == "idle"
        elif kind == "execute_input":
            self.began = True
        elif kind == "stream":
            self._print(content["name"], content["text"])
        elif kind == "error":
            self.failed = True
            self._print("stderr", _ANSI.sub("", "\n".join(content["traceback"])) + "\n")
        elif kind == "execute_result":
            self._display(content["data"], f"Out[{content['execution_count']}]: ")
        elif kind in ("display_data", "update_display_data"):
            self._display(content["data"], "")

    def add_malformed(self) -> None:
        """Say once that there were messages that cannot be read, and count them as output."""
        if not self.has_malformed:
            self.errors += "the kernel sent a malformed message\n"
        self.has_malformed = self.failed = True
        self._count_useless()

    def _count_useless(self) -> None:
        self._size["useless"] += _USELESS_SIZE
        self.full = self.full or self._size["useless"] > self._limit

    def _print(self, stream: str, value: str) -> None:
        stream = "stderr" if stream == "stderr" else "stdout"
        encoded = value.encode(errors="replace")
        room = self._limit - self._size[stream]
        if len(encoded) > room:
            self.full = True
            encoded, value = encoded[:room], encoded[:room].decode(errors="ignore")
        self._size[stream] += len(encoded)
        if stream == "stderr":
            self.errors += value
        else:
            self.output += value

    def _display(self, data: dict[str, Any], prefix: str) -> None:
        images = [kind for kind in data if kind in ("image/png", "image/jpeg", "image/gif", "image/webp")]
        texts = [kind for kind in data if _is_rich_text(kind)]
        if "text/plain" in data and (prefix or not (images or texts)):
            self._print("stdout", f"{prefix}{data['text/plain']}\n")
        for kind in images + texts:
            value = data[kind]
            if not isinstance(value, str):
                raise TypeError(f"{kind} must be a string")
            self._size["rich"] += len(value)
            if self._size["rich"] > _MAX_RICH_OUTPUT:
                self.full = True
                return
            if kind in images:
                value = value.replace("\n", "")
                part = {"type": "image", "data": value, "mimeType": kind, "description": "display_data"}
                self._rich.append(part)
            else:
                self._rich.append(text_part(value, kind))

    def result(self, *, is_error: bool) -> Result:
        """Return the output as the result of the tool."""
        parts: list[dict[str, Any]] = [text_part(self.output, "stdout")]
        if self.errors:
            parts.append(text_part(self.errors, "stderr"))
        return tool_result(*parts, *self._rich, is_error=is_error)


def _is_reply_to(reply: "asyncio.Future[dict[str, Any]]", request: str) -> bool:
    try:
        return bool(reply.result()["parent_header"]["msg_id"] == request)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return False


def _is_rich_text(kind: str) -> bool:
    return kind == "image/svg+xml" or (kind.startswith("text/") and kind != "text/plain")


def _exists(path: str) -> bool:
    return os.path.exists(path)


def _write_connection_file(folder: str, text: str) -> str:
    os.mkdir(folder, 0o700)
    path = os.path.join(folder, "connection.json")
    with open(path, "w") as file:
        file.write(text)
    return path


def _import_zmq() -> Any:
    import zmq

    return zmq


def _find_packages() -> Iterator[str]:
    """Yield the folders of installed packages. The box starts without ``site`` and needs them only for the kernel."""
    import site

    yield from os.environ.get("PYTHONPATH", "").split(":")
    yield from site.getsitepackages()
