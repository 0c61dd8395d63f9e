"""The file tools. They accept paths in the workspace only."""

import base64
import contextlib
import difflib
import fnmatch
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable
from typing import Any

from .protocol import MAX_FILE_SIZE, Result, error_result, text_part, tool_result


class Files:
    """The tools that read and change files. A path outside the workspace is an error.

    The check protects callers from paths that a model made up. It is not a defense against code in the sandbox, which
    could swap a link after the check, but has access to the same files without the tools.
    """

    def __init__(self, workspace: str, limit: int) -> None:
        self._workspace = workspace
        self._limit = limit

    def call(self, tool: str, arguments: dict[str, Any]) -> Result:
        """Call a tool by its name, with arguments that match its schema. Failures are results."""
        tools: dict[str, Callable[..., Result]] = {
            "read_file": self._read_file,
            "write_file": self._write_file,
            "list_files": self._list_files,
            "remove_file": self._remove_file,
            "create_directory": self._create_directory,
            "list_directory": self._list_directory,
            "move_file": self._move_file,
            "get_file_info": self._get_file_info,
            "search_files": self._search_files,
            "read_multiple_files": self._read_multiple_files,
            "edit_file": self._edit_file,
            "directory_tree": self._directory_tree,
            "list_allowed_directories": self._list_allowed_directories,
        }
        try:
            return tools[tool](**arguments)
        except OSError as error:
            return error_result(
                f"{error.strerror or error}: {arguments.get('path') or arguments.get('source') or error}"
            )
        except ValueError as error:
            return error_result(str(error))

    def _resolve(self, path: str) -> str:
        """Return the absolute path, with all symbolic links resolved."""
        found = os.path.realpath(os.path.join(self._workspace, path))
        if found != self._workspace and not found.startswith(self._workspace + os.sep):
            raise ValueError(f"{path} is not in the workspace")
        return found

    def _resolve_parent(self, path: str) -> str:
        """Return the absolute path, with links resolved in its directory, but not in its last component."""
        whole = os.path.join(self._workspace, path).rstrip("/")
        if os.path.basename(whole) in ("", ".", ".."):
            return self._resolve(path)
        return os.path.join(self._resolve(os.path.dirname(whole)), os.path.basename(whole))

    def _read(self, path: str) -> bytes:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        opened = os.open(self._resolve(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(opened, "rb") as file:
            status = os.fstat(opened)
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{path} is not a regular file")
            content = file.read(MAX_FILE_SIZE + 1)
        if len(content) > MAX_FILE_SIZE:
            raise ValueError(f"{path} is larger than {MAX_FILE_SIZE:,} bytes: read it in parts, with a shell command")
        return content

    def _write(self, absolute: str, content: bytes) -> None:
        """Replace a file atomically: write it under a temporary name, then rename it. Its mode is preserved."""
        if os.path.isdir(absolute):
            raise ValueError(f"{os.path.relpath(absolute, self._workspace)} is a directory")
        os.makedirs(os.path.dirname(absolute), exist_ok=True)
        try:
            mode = stat.S_IMODE(os.stat(absolute).st_mode)
        except FileNotFoundError:
            mode = 0o644
        temporary = os.path.join(os.path.dirname(absolute), f".{os.urandom(6).hex()}.unfinished")
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                os.fchmod(file.fileno(), mode)
            os.replace(temporary, absolute)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise

    def _read_file(self, path: str) -> Result:
        content = self._read(path)
        try:
            return tool_result(text_part(content.decode(), "content"))
        except UnicodeDecodeError:
            return tool_result({"type": "blob", "blob": base64.b64encode(content).decode(), "description": "content"})

    def _write_file(self, path: str, content: str = "", blob: str | None = None) -> Result:
        data = content.encode() if blob is None else base64.b64decode(blob, validate=True)
        self._write(self._resolve(path), data)
        return tool_result(text_part(f"wrote {len(data)} bytes to {path}\n", "stdout"))

    def _entries(self, path: str) -> list[tuple[str, bool]]:
        with os.scandir(self._resolve(path)) as entries:
            return sorted((_decode_name(each.name), each.is_dir()) for each in entries)

    def _list_files(self, path: str = ".") -> Result:
        parts: list[dict[str, Any]] = []
        size = 0
        for name, is_directory in self._entries(path):
            size += len(name.encode())
            if size > self._limit:
                parts.append(text_part(f"the listing is longer than {self._limit:,} bytes\n", "stderr"))
                return tool_result(*parts, is_error=True)
            parts.append(text_part(name, "directory" if is_directory else "file"))
        return tool_result(*parts)

    def _remove_file(self, path: str) -> Result:
        absolute = self._resolve_parent(path)
        if absolute == self._workspace:
            raise ValueError("the workspace itself cannot be removed")
        if os.path.isdir(absolute) and not os.path.islink(absolute):
            shutil.rmtree(absolute)
        else:
            os.unlink(absolute)
        return tool_result(text_part(f"removed {path}\n", "stdout"))

    def _create_directory(self, path: str) -> Result:
        os.makedirs(self._resolve(path), exist_ok=True)
        return tool_result(text_part(f"created {path}\n", "stdout"))

    def _list_directory(self, path: str) -> Result:
        return self._join_lines(
            f"[{'DIR' if is_directory else 'FILE'}] {name}" for name, is_directory in self._entries(path)
        )

    def _move_file(self, source: str, destination: str) -> Result:
        before, after = self._resolve_parent(source), self._resolve_parent(destination)
        if before == self._workspace:
            raise ValueError("the workspace itself cannot be moved")
        if os.path.lexists(after):
            raise ValueError(f"{destination} already exists")
        os.rename(before, after)
        return tool_result(text_part(f"moved {source} to {destination}\n", "stdout"))

    def _get_file_info(self, path: str) -> Result:
        status = os.stat(self._resolve(path))
        return self._join_lines(
            [
                f"size: {status.st_size}",
                f"created: {_format_time(status.st_ctime)}",
                f"modified: {_format_time(status.st_mtime)}",
                f"accessed: {_format_time(status.st_atime)}",
                f"isDirectory: {str(stat.S_ISDIR(status.st_mode)).lower()}",
                f"isFile: {str(stat.S_ISREG(status.st_mode)).lower()}",
                f"permissions: {stat.S_IMODE(status.st_mode):03o}",
            ]
        )

    def _search_files(self, path: str, pattern: str, excludePatterns: list[str] | None = None) -> Result:  # noqa: N803
        found = []
        top = self._resolve(path)
        for folder, folders, files in os.walk(top):
            for name in list(folders) + files:
                relative = os.path.relpath(os.path.join(folder, name), top)
                if any(_matches(relative, each) for each in excludePatterns or ()):
                    if name in folders:
                        folders.remove(name)
                elif _matches(relative, pattern):
                    found.append(_decode_name(os.path.relpath(os.path.join(folder, name), self._workspace)))
        return self._join_lines(sorted(found) or ["No matches found"])

    def _read_multiple_files(self, paths: list[str]) -> Result:
        parts: list[dict[str, Any]] = []
        size = 0
        for path in paths:
            try:
                value = self._read(path).decode(errors="replace")
            except (OSError, ValueError) as error:
                value = f"Error - {error}"
            size += len(value)
            if size > MAX_FILE_SIZE:
                raise ValueError(f"the files are larger than {MAX_FILE_SIZE:,} bytes together: read fewer of them")
            parts.append(text_part(f"{path}:\n{value}\n", "content"))
        return tool_result(*parts)

    def _edit_file(self, path: str, edits: list[dict[str, str]], dryRun: bool = False) -> Result:  # noqa: N803
        absolute = self._resolve(path)
        before = after = self._read(path).decode()
        for edit in edits:
            if not edit["oldText"] or edit["oldText"] not in after:
                raise ValueError(f"{path} does not contain the text {edit['oldText'][:80]!r}")
            after = after.replace(edit["oldText"], edit["newText"], 1)
        # Before the file is changed: a comparison may take longer than the call.
        lines = difflib.unified_diff(before.splitlines(), after.splitlines(), path, path, lineterm="")
        result = self._join_lines(lines)
        if not dryRun:
            self._write(absolute, after.encode())
        return result

    def _directory_tree(self, path: str) -> Result:
        count = 0

        def tree(absolute: str) -> list[dict[str, Any]]:
            nonlocal count
            with os.scandir(absolute) as entries:
                listed = sorted(entries, key=lambda each: each.name)
            found: list[dict[str, Any]] = []
            for each in listed:
                count += len(each.name) + 50
                if count > self._limit:
                    raise ValueError(f"the directory tree of {path} is longer than {self._limit:,} bytes")
                if each.is_dir(follow_symlinks=False):
                    found.append({"name": _decode_name(each.name), "type": "directory", "children": tree(each.path)})
                else:
                    found.append({"name": _decode_name(each.name), "type": "file"})
            return found

        try:
            return tool_result(text_part(json.dumps(tree(self._resolve(path)), indent=2, ensure_ascii=False), "stdout"))
        except RecursionError:
            raise ValueError(f"the directory tree of {path} is nested too deeply") from None

    def _list_allowed_directories(self) -> Result:
        return self._join_lines([self._workspace])

    def _join_lines(self, lines: Iterable[str]) -> Result:
        text = "".join(f"{line}\n" for line in lines)
        if len(text) > self._limit:
            return tool_result(
                text_part(text[: self._limit], "stdout"),
                text_part(f"the output is longer than {self._limit:,} bytes\n", "stderr"),
                is_error=True,
            )
        return tool_result(text_part(text, "stdout"))


def _decode_name(name: str) -> str:
    """Return a file name as text, with replacement characters for bytes that are not UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def _matches(path: str, pattern: str) -> bool:
    if any(character in pattern for character in "*?["):
        return fnmatch.fnmatch(path, pattern) or fnmatch.fnmatch(os.path.basename(path), pattern)
    return pattern.lower() in os.path.basename(path).lower()


def _format_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
