"""The migrations of this release, read from their files without loading Alembic.

A store's start compares the database's revision with these, so reading them must be cheap: neither Alembic nor Mako nor
the migrations themselves are imported. A file is parsed for its docstring and three constants: `revision` and
`down_revision`, which Alembic reads as well, and `phase`.

There are two lines of revisions: the main line "", and "vector", in a folder of its own.
"""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from agentstore.errors import NotConfigured

Phase = Literal["pre", "post"]

_PHASES: dict[object, Phase] = {"pre": "pre", "post": "post"}


@dataclass(frozen=True, slots=True)
class Revision:
    """A migration of this release."""

    id: str
    previous: str | None
    """The id of the revision before it; None for the first one."""
    title: str
    phase: Phase
    """pre: runs before this release starts; the previous release keeps working. post: runs when no replica of the
    previous release is left."""


def head(line: str = "") -> str:
    """Return the id of the newest revision of a line; `line` is "" or "vector"."""
    return history(line)[0].id


def needed(line: str = "") -> str:
    """Return the id of the oldest revision that this release works on: the newest one of the phase `pre`."""
    return next(revision.id for revision in history(line) if revision.phase == "pre")


def history(line: str = "") -> list[Revision]:
    """Return the migrations of a line, the newest first; `line` is "" or "vector".

    Raises:
        NotConfigured: the files cannot be read as one chain of revisions: the installation is damaged.
    """
    return list(_chain(folder() / line))


@cache
def folder() -> Path:
    """Return the folder of the migrations: inside the package of a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "migrations"
    return packaged if packaged.is_dir() else package.parent / "migrations"


@cache
def _chain(line: Path) -> tuple[Revision, ...]:
    """Read the revisions in a line's folder and order them, the newest first."""
    files: dict[str, str] = {}
    successors: dict[str | None, Revision] = {}
    for path in sorted((line / "versions").glob("*.py")):
        if path.name.startswith(("__init__", ".#")):
            continue
        revision = _read(path)
        if revision.id in files:
            raise _damaged(line, f"{files[revision.id]} and {path.name} both define revision {revision.id!r}")
        if (other := successors.get(revision.previous)) is not None:
            raise _damaged(line, f"{files[other.id]} and {path.name} both follow revision {revision.previous!r}")
        files[revision.id], successors[revision.previous] = path.name, revision
    chain: list[Revision] = []
    while (revision_after := successors.get(chain[-1].id if chain else None)) is not None:
        chain.append(revision_after)
    if not chain:
        raise _damaged(line, "no file defines a first revision, whose down_revision is None")
    if unreachable := sorted(files.keys() - {revision.id for revision in chain}):
        raise _damaged(line, f"{', '.join(map(repr, unreachable))} cannot be reached from the first revision")
    return tuple(reversed(chain))


def _read(path: Path) -> Revision:
    """Read the constants and the title in a migration's file."""
    try:
        module = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        raise _damaged(path.parents[1], f"{path.name} is not valid Python: {error}") from error
    values: dict[str, object] = {}
    for statement in module.body:
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                values[target.id] = value.value if isinstance(value, ast.Constant) else ...
    id, previous, phase = values.get("revision"), values.get("down_revision", ...), _PHASES.get(values.get("phase"))
    if not isinstance(id, str) or not id:
        raise _damaged(path.parents[1], f"`revision` in {path.name} is not the text of an id")
    if previous is not None and not isinstance(previous, str):
        raise _damaged(path.parents[1], f"`down_revision` in {path.name} is neither None nor the text of one id")
    if phase is None:
        raise _damaged(path.parents[1], f"`phase` in {path.name} is neither 'pre' nor 'post'")
    title = (ast.get_docstring(module, clean=False) or "").strip().split("\n\n")[0]
    return Revision(id, previous, title, phase)


def _damaged(line: Path, reason: str) -> NotConfigured:
    return NotConfigured(f"The migrations in {line} are not one chain of revisions: {reason}. Reinstall agentstore.")
