"""The check of the house style, which `make lint` runs on all tracked files."""

import pytest

from tests.support.language import NEVER, find_phrases


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("An upgrade that was broken off is resumed.", 1),
        ("# The first line.\n# It is said\n# again after a failure.\n", 2),
        ("def test_an_upgrade_is_broken_off() -> None: ...", 1),
        ("one\ntwo\nWhoever calls it\n", 3),
    ],
)
def test_a_phrase_is_found_across_lines_comments_and_names(text: str, line: int) -> None:
    (found,) = find_phrases("x.py", text)
    assert found.startswith(f"x.py:{line}: ")
    assert any(found.endswith(instead) for instead in NEVER.values())


@pytest.mark.parametrize(
    "text", ["It forever retries.", "the offset of ourselves", "manew", "a statement is executed again"]
)
def test_parts_of_other_words_are_not_phrases(text: str) -> None:
    assert list(find_phrases("x.py", text)) == []
