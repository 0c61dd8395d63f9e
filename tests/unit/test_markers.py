"""What `make test` leaves out is left out alike wherever tests are selected by other markers."""

import re
import tomllib
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def test_each_list_of_markers_is_that_of_make_test() -> None:
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    (listed,) = re.findall(r"not \((.*)\)", settings["addopts"])
    left_out = listed.split(" or ")
    assert sorted(left_out) == sorted(each.partition(":")[0] for each in settings["markers"])
    for file, pattern in (
        ("Makefile", r"^OTHERS := (.*)$"),
        (".ci/run", r"^not_elsewhere='not \((.*)\)'$"),
    ):
        (found,) = re.findall(pattern, (_ROOT / file).read_text(), re.MULTILINE)
        assert {"slow", *found.split(" or ")} == set(left_out), file
