"""Shell commands for sandboxes that have only a shell: file tools, workspace archives, timeouts.

A managed sandbox offers `run_shell_command` and no file tools of its own. The first functions return the text of a
command for its `sh`; those after them check arguments and decode output.
"""

import base64
import posixpath
import shlex
from collections.abc import Mapping
from typing import Any

from agentstore.errors import InvalidContent, SandboxFailed
from agentstore.schemas.sandbox import text

WORKSPACE = "/workspace"
"""The workspace in the containers of AgentScope Runtime. It cannot be configured there."""

LARGEST_FILE = 20_000_000
"""The largest file, in bytes, whose Base64 fits a reply."""

LONGEST_COMMAND = 131_000
"""The longest command in bytes. Linux accepts 131,072 bytes in one argument of a process, such as that of `sh -c`."""

PIECE = 72_000
"""How many bytes to send in one command, where Base64 makes them a third longer."""

PACKED_PIECE = 1_000_000
"""How many bytes of a packed workspace to read at once."""

_KINDS = {"d": "directory", "f": "file"}


def run_in_workspace(command: str, mark: str, timeout: float) -> str:
    """Run a caller's command in the workspace, kill it after `timeout` seconds, and mark its processes for `kill`."""
    return (
        f"cd {WORKSPACE} || exit 1; c={shlex.quote(command)}; export AGENTSTORE_CALL={mark}; "
        f'command -v timeout >/dev/null && exec timeout -k 2 {timeout:.3f} sh -c "$c"; exec sh -c "$c"'
    )


def kill(mark: str) -> str:
    """Kill all processes that have a mark in their environment; three times, because they may fork meanwhile."""
    return (
        "for i in 1 2 3; do for p in /proc/[0-9]*; do "
        f'grep -qF AGENTSTORE_CALL={mark} "$p/environ" 2>/dev/null && kill -9 "${{p#/proc/}}" 2>/dev/null; '
        "done; sleep 0.2; done; true"
    )


def read_file(path: str) -> str:
    """Print a file in Base64."""
    return (
        f"p={shlex.quote(path)}; "
        '[ -e "$p" ] || { echo "$p: No such file" >&2; exit 1; }; '
        '[ -f "$p" ] || { echo "$p: Not a regular file" >&2; exit 1; }; '
        f'n=$(wc -c < "$p") || exit 1; [ "$n" -le {LARGEST_FILE} ] || '
        f'{{ echo "$p: $n bytes are more than the {LARGEST_FILE} that can be read" >&2; exit 1; }}; base64 < "$p"'
    )


def list_files(path: str) -> str:
    """Print the names in a directory in Base64, each as d (directory) or f (file), the name and a NUL."""
    return (
        f"p={shlex.quote(path)}; "
        'cd "$p" || exit 1; for f in .* *; do case "$f" in .|..) continue;; esac; '
        'if [ -d "./$f" ]; then printf \'d%s\\0\' "$f"; '
        'elif [ -e "./$f" ] || [ -L "./$f" ]; then printf \'f%s\\0\' "$f"; fi; done | base64'
    )


def remove_file(path: str) -> str:
    """Remove a file or a directory."""
    return (
        f'p={shlex.quote(path)}; [ -e "$p" ] || [ -L "$p" ] || {{ echo "$p: No such file" >&2; exit 1; }}; rm -rf "$p"'
    )


def write_first(path: str, temporary: str, piece: bytes) -> str:
    """Create the directory of `path` and write the first piece of its content to a temporary file beside it."""
    encoded = shlex.quote(base64.b64encode(piece).decode())
    return f'{_prepare_write(path, temporary)} && printf %s {encoded} | base64 -d > "$t"'


def replace_file(path: str, temporary: str) -> str:
    """Move the temporary file to `path`."""
    return f'{_prepare_write(path, temporary)} && mv -f "$t" "$p"'


def write_whole(path: str, temporary: str, content: bytes) -> str:
    """Write a file that fits one command: to a temporary file, which is moved to `path`."""
    return f'{write_first(path, temporary, content)} && mv -f "$t" "$p"'


def append(path: str, piece: bytes) -> str:
    """Append a piece to a file."""
    encoded = base64.b64encode(piece).decode()
    return f"printf %s {encoded} | base64 -d >> {shlex.quote(path)}"


def create_empty(path: str) -> str:
    """Create an empty file that only its owner may read."""
    return f"umask 077; : > {shlex.quote(path)}"


def remove_temporary(path: str) -> str:
    """Remove a temporary file, if it exists."""
    return f"rm -f {shlex.quote(path)}"


def pack(archive: str) -> str:
    """Pack the workspace into a compressed tar archive and print its size in bytes."""
    # Exit code 1 of tar: a file changed while it was read.
    return f"umask 077; tar -czf {archive} -C {WORKSPACE} .; code=$?; [ $code -le 1 ] || exit $code; wc -c < {archive}"


def read_packed(archive: str, index: int, *, is_last: bool) -> str:
    """Print a piece of an archive in Base64; after the last one, remove the archive."""
    command = f"dd if={archive} bs={PACKED_PIECE} skip={index} count=1 2>/dev/null | base64"
    return f"{command}; rm -f {archive}" if is_last else command


def unpack(archive: str) -> str:
    """Unpack a compressed tar archive in the workspace and remove the archive."""
    return f"tar -xzf {archive} -o -C {WORKSPACE}; code=$?; rm -f {archive}; exit $code"


def _prepare_write(path: str, temporary: str) -> str:
    folder = posixpath.dirname(path)
    return (
        f"p={shlex.quote(path)}; d={shlex.quote(folder)}; t={shlex.quote(temporary)}; "
        'if [ -d "$p" ]; then echo "$p: Is a directory" >&2; exit 1; fi; mkdir -p "$d"'
    )


def resolve_path(path: object) -> str | None:
    """Return the absolute form of a path in the workspace, or None if it lies outside.

    Raises:
        InvalidContent: it is not a path.
    """
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidContent(f"a path must be a non-empty string without NUL, got {repr(path)[:80]}")
    resolved = posixpath.normpath(posixpath.join(WORKSPACE, path))
    return resolved if resolved == WORKSPACE or resolved.startswith(f"{WORKSPACE}/") else None


def content_to_write(arguments: Mapping[str, Any]) -> bytes:
    """Return the bytes that the arguments of `write_file` hold, as text or in Base64.

    Raises:
        InvalidContent: there is neither, both, or one that cannot be encoded or decoded.
    """
    content, blob = arguments.get("content"), arguments.get("blob")
    try:
        if isinstance(content, str) and blob is None:
            return content.encode()
        if isinstance(content, bytes) and blob is None:
            return content
        if isinstance(blob, str) and content is None:
            return base64.b64decode(blob, validate=True)
    except ValueError as error:
        raise InvalidContent("write_file: content is not valid Unicode, or blob is not valid Base64") from error
    raise InvalidContent("write_file takes either content, a string, or blob, bytes in Base64")


def content_part(content: bytes) -> dict[str, str]:
    """Return the part of a result that holds a file: its text if it is UTF-8, else its bytes in Base64."""
    try:
        return dict(text(content.decode(), "content"))
    except UnicodeDecodeError:
        return {"type": "blob", "blob": base64.b64encode(content).decode()}


def name_parts(listing: bytes) -> list[dict[str, str]]:
    """Return the parts of a result that hold the output of :func:`list_files`, sorted by name."""
    names = sorted(each for each in listing.decode(errors="replace").split("\0") if each)
    parts = ({"type": "text", "text": each[1:], "description": _KINDS[each[0]]} for each in names)
    return sorted(parts, key=lambda part: part["text"])


def decode_base64(output: str) -> bytes:
    """Decode the output of a command that ends in `base64`.

    Raises:
        SandboxFailed: it is not Base64.
    """
    try:
        return base64.b64decode("".join(output.split()), validate=True)
    except ValueError as error:
        raise SandboxFailed(f"the sandbox's shell did not print valid Base64: {shorten(output)}") from error


def shorten(value: str) -> str:
    """Return the beginning of a text, on one line."""
    return " ".join(value[:300].split())


def _schema(name: str, description: str, required: str | None, **arguments: str) -> dict[str, Any]:
    properties = {each: {"type": "string", "description": about} for each, about in arguments.items()}
    parameters = {"type": "object", "properties": properties, "required": [] if required is None else [required]}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"name": name, "json_schema": {"type": "function", "function": function}}


_PATH = "A path in the workspace."
FILE_TOOLS = {
    each["name"]: each
    for each in (
        _schema("read_file", "Return a file of the workspace.", "path", path=_PATH),
        _schema(
            "write_file",
            "Write a file of the workspace; missing folders are created.",
            "path",
            path=_PATH,
            content="Its text.",
            blob="Its bytes in Base64, instead of text.",
        ),
        _schema("list_files", "List the names in a folder of the workspace.", None, path=_PATH),
        _schema("remove_file", "Remove a file, or a folder with everything in it.", "path", path=_PATH),
    )
}
"""The schemas of the file tools, by name."""
