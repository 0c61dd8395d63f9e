"""Write files atomically, for their owner only."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replace_file(path: Path, mode: str = "w") -> Iterator[Any]:
    """Open a file for writing that replaces `path` when the block ends, and is discarded if the block fails.

    Only its owner can read it, also if others could read the file that it replaces: it contains what users said. A pipe
    or a device is written to directly.

    Raises:
        PermissionError: `path` exists and is not writable.
        OSError: the file cannot be written.
    """
    encoding = None if "b" in mode else "utf-8"
    if path.exists() and not path.is_file():
        with path.open(mode, encoding=encoding) as file:
            yield file
        return
    path = path.resolve()
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(f"{str(path)!r} is not writable")
    number, name = tempfile.mkstemp(prefix=".agentstore-", dir=path.parent)
    try:
        with os.fdopen(number, mode, encoding=encoding) as file:
            if path.exists():
                old = path.stat()
                if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                    os.chown(name, old.st_uid, old.st_gid)
            yield file
            file.flush()
            os.fsync(number)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
