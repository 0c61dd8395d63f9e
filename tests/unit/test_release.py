"""The check of the packages of a release finds what they lack."""

import io
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.release import errors, needed_files, version


def _write(folder: Path, files: set[str]) -> None:
    name = f"agentstore_postgres-{version()}"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        for each in [*files, f"{name}.dist-info/METADATA"]:
            wheel.writestr(each, "")
    with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
        for each in files:
            place = re.sub("^agentstore/migrations/", "migrations/", each)
            archive.addfile(tarfile.TarInfo(f"{name}/{place}"), io.BytesIO())


def test_complete_packages_have_no_errors(tmp_path: Path) -> None:
    _write(tmp_path, needed_files())
    assert list(errors(tmp_path)) == []


@pytest.mark.parametrize("missing", ["agentstore/py.typed", "agentstore/migrations/catalog.json"])
def test_missing_files_are_found_in_both_packages(tmp_path: Path, missing: str) -> None:
    _write(tmp_path, needed_files() - {missing})
    place = missing.replace("agentstore/migrations/", "migrations/")
    assert list(errors(tmp_path)) == [f"the wheel lacks {missing}", f"the source archive lacks {place}"]


def test_other_files_and_missing_packages_are_found(tmp_path: Path) -> None:
    assert "found []" in next(iter(errors(tmp_path)))
    _write(tmp_path, needed_files() | {"agentstore/secret.env"})
    assert list(errors(tmp_path)) == ["the wheel has agentstore/secret.env, which is not in the repository"]
