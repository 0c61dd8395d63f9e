"""Write files atomically."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replace_file(path: Path, mode: str = "w", *, private: bool = False) -> Iterator[Any]:
    """Open a file for writing that replaces `path` when the block ends, and is discarded if the block fails.

    A `private` file can be read by its owner only; any other file has the permissions of the file that it replaces.
    A pipe or a device is written to directly.

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
                os.chmod(name, 0o600 if private else stat.S_IMODE(old.st_mode))
                if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                    os.chown(name, old.st_uid, old.st_gid)
            elif not private:
                mask = os.umask(0)
                os.umask(mask)
                os.chmod(name, 0o666 & ~mask)
            yield file
            file.flush()
            os.fsync(number)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
