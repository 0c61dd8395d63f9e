"""Shell commands."""

import asyncio
import os
from typing import Any

from .processes import Processes
from .protocol import InvalidCall, Result, ToolFailed, text_part, tool_result
from .tasks import run_to_completion

_SHELL = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"


class Shell:
    """Run shell commands, each with a timeout and a limit of its output in bytes."""

    def __init__(self, processes: Processes, output_limit: int) -> None:
        self._processes = processes
        self._limit = output_limit
        self._calls = 0

    async def run(self, command: str, timeout: float, notes: list[str]) -> Result:
        """Run a command and return its stdout, stderr and exit code.

        A command that takes longer than `timeout` seconds or prints too much is killed, with all that it started, and
        the result says so. `notes` are lines that are added to stderr. Processes in the background outlive a command
        that ends by itself.

        Raises:
            InvalidCall: the command has a NUL character.
            ToolFailed: the shell cannot be started.
        """
        if "\0" in command:
            raise InvalidCall("a command cannot contain a NUL character")
        self._calls += 1
        mark = f"AGENTSTORE_CALL={self._calls}-{os.getpid()}"
        output, errors = _OutputPipe(self._limit), _OutputPipe(self._limit)
        name, _, value = mark.partition("=")
        try:
            pid, exited = await self._processes.start(
                [_SHELL, "-c", command],
                {name: value},
                stdout=output.writing,
                stderr=errors.writing,
                adopts_orphans=True,
            )
        except ToolFailed:
            output.close()
            errors.close()
            raise
        output.start()
        errors.start()
        reason = ""
        try:
            waiting: set[asyncio.Future[Any]] = {exited, output.overflowed, errors.overflowed}
            done, _ = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if exited in done:
                # Processes in the background may hold the pipes open indefinitely; what the command itself printed is
                # already in them.
                await asyncio.wait({output.ended, errors.ended}, timeout=0.05)
            if output.overflowed.done() or errors.overflowed.done():
                reason = f"the command was killed: it printed more than {self._limit:,} bytes"
            elif exited not in done:
                reason = f"timed out after {timeout:g} s"
            if reason:
                await self._processes.kill_tree(pid, mark)
                await asyncio.wait({exited}, timeout=1)
        except asyncio.CancelledError:
            await asyncio.shield(run_to_completion(self._processes.kill_tree(pid, mark)))
            raise
        finally:
            output.close()
            errors.close()
        code = exited.result() if exited.done() else -9
        remarks = "".join(f"{note}\n" for note in [*notes, reason] if note)
        error_text = errors.text()
        if remarks and error_text and not error_text.endswith("\n"):
            error_text += "\n"
        parts = [text_part(output.text(), "stdout")]
        if error_text + remarks:
            parts.append(text_part(error_text + remarks, "stderr"))
        parts.append(text_part(str(code if code >= 0 else 128 - code), "returncode"))
        return tool_result(*parts, is_error=bool(reason) or code != 0)


class _OutputPipe:
    """A pipe that collects what a process prints, up to a limit in bytes."""

    def __init__(self, limit: int) -> None:
        loop = asyncio.get_running_loop()
        self._limit = limit
        self._output = bytearray()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.overflowed: asyncio.Future[None] = loop.create_future()
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)

    def start(self) -> None:
        """Close the writing end, which the process has inherited, and begin to read."""
        os.close(self.writing)
        self.writing = -1
        asyncio.get_running_loop().add_reader(self._reading, self._read)

    def _read(self) -> None:
        try:
            chunk = os.read(self._reading, 65_536)
        except BlockingIOError:
            return
        room = self._limit - len(self._output)
        self._output += chunk[:room]
        if len(chunk) > room and not self.overflowed.done():
            self.overflowed.set_result(None)
        if not chunk or self.overflowed.done():
            asyncio.get_running_loop().remove_reader(self._reading)
            if not self.ended.done():
                self.ended.set_result(None)

    def close(self) -> None:
        """Stop reading and close the pipe."""
        asyncio.get_running_loop().remove_reader(self._reading)
        os.close(self._reading)
        if self.writing >= 0:
            os.close(self.writing)
        for future in (self.ended, self.overflowed):
            future.cancel()

    def text(self) -> str:
        """Return the output, with replacement characters for bytes that are not UTF-8."""
        return self._output.decode(errors="replace")
