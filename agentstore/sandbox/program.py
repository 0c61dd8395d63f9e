"""The archive in which :mod:`agentstore.sandbox.box` is shipped to a sandbox."""

import functools
import importlib.util
import io
import marshal
import struct
import zipfile
from pathlib import Path

from agentstore.sandbox import box

# Not "box", which is also the name of a package on PyPI.
_PACKAGE = "agentstore_box"
_MAIN = f"from {_PACKAGE}.__main__ import main\n\nmain()\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@functools.cache
def build_archive() -> bytes:
    """Return the box as an executable zip archive, which ``python -I -S box.pyz`` runs.

    Each module is in it as source and as bytecode of this interpreter, with which a box starts faster. An interpreter
    of another version ignores the bytecode and compiles the source. The archive is built once per process, in memory,
    and its bytes depend only on the sources and the interpreter.
    """
    stream = io.BytesIO()
    # Not compressed: zipimport would have to load zlib.
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "__main__.py", _MAIN.encode())
        for file in sorted(Path(box.__path__[0]).glob("*.py")):
            _add(archive, f"{_PACKAGE}/{file.name}", file.read_bytes())
    return stream.getvalue()


def _add(archive: zipfile.ZipFile, name: str, source: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), source)
    archive.writestr(zipfile.ZipInfo(f"{name}c", _EPOCH), _compile(name, source))


def _compile(name: str, source: bytes) -> bytes:
    """Return the content of a .pyc file that is not checked against its source (PEP 552)."""
    code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    return b"".join(
        (importlib.util.MAGIC_NUMBER, struct.pack("<I", 1), importlib.util.source_hash(source), marshal.dumps(code))
    )
