"""Check that a release can be published: ``python -m tests.support.release``, once both packages are in dist/.

Exits with 1 if the packages are wrong. With ``--final``, what is left to do before an upload is an error too.
"""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.support import translations

ROOT = Path(__file__).parents[2]


def version() -> str:
    """Return the version of the package."""
    found = re.search(r'^__version__ = "([^"]+)"', (ROOT / "agentstore/__init__.py").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def needed_files() -> set[str]:
    """Return the files of the package that are not Python, and the migrations, as the wheel has them."""
    listed = ["git", "ls-files", "agentstore", "migrations"]
    tracked = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {re.sub(r"^migrations/", "agentstore/migrations/", each) for each in tracked}


def errors(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the packages in a folder."""
    expected = f"agentstore_postgres-{version()}"
    wheels, archives = list(folder.glob("*.whl")), list(folder.glob("*.tar.gz"))
    if [each.name for each in archives] != [f"{expected}.tar.gz"] or len(wheels) != 1:
        yield f"expected one wheel and {expected}.tar.gz, found {[each.name for each in folder.iterdir()]}"
        return
    with zipfile.ZipFile(wheels[0]) as wheel:
        in_wheel = set(wheel.namelist())
    with tarfile.open(archives[0]) as archive:
        in_archive = {name.partition("/")[2] for name in archive.getnames()}
    needed = needed_files()
    assert {"agentstore/py.typed", "agentstore/migrations/catalog.json"} <= needed
    for missing in sorted(needed - in_wheel):
        yield f"the wheel lacks {missing}"
    for missing in sorted(re.sub(r"^agentstore/migrations/", "migrations/", each) for each in needed):
        if missing not in in_archive:
            yield f"the source archive lacks {missing}"
    for other in sorted(in_wheel - needed):
        if ".dist-info/" not in other:
            yield f"the wheel has {other}, which is not in the repository"
    if not re.search(rf"^## {re.escape(version())}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE):
        yield f"CHANGELOG.md has no section of {version()}"


def left_to_do() -> Iterator[str]:
    """Yield what has to be done before an upload."""
    if f"## {version()} (unreleased)" in (ROOT / "CHANGELOG.md").read_text("utf-8"):
        yield f"CHANGELOG.md: replace (unreleased) by the date of {version()}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    if "urls" not in project:
        yield "pyproject.toml: add [project.urls]; without them the links of the README do not work on PyPI"
    for each in translations.find_all():
        if each.is_stale:
            yield f"{each.page.relative_to(ROOT)}: translate what has changed in {each.source_name}"


def main(arguments: list[str]) -> int:
    """Print what is wrong and what is left to do, and return the exit code."""
    wrong = list(errors(ROOT / "dist"))
    for each in wrong:
        print(f"error: {each}")
    left = list(left_to_do())
    for each in left:
        print(f"left to do: {each}")
    return 1 if wrong or (left and "--final" in arguments) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
