"""What a word may have been meant to be."""

import time

import pytest

from agentstore.search import spelling
from agentstore.search.analysis import tokens, words


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("resturant", "restaurant"), ("adress", "address"), ("recieve", "receive"), ("kuberntes", "kubernetes"),
        ("tommorow", "tomorrow"), ("fotosynthesis", "photosynthesis"), ("equarium", "aquarium"), ("сестар", "сестра"),
    ],
)  # fmt: skip
def test_a_word_with_a_letter_wrong_is_found(wrong: str, right: str) -> None:
    (known,), (unknown,) = tokens(right, "english"), tokens(wrong, "english")
    assert spelling.corrections(unknown, {known, "other"}) == [known]


def test_the_likelier_of_several_come_first_and_few_are_taken() -> None:
    known = {"meat", "mat", "met", "moet"}
    assert spelling.corrections("maet", known)[0] == "meat"
    assert len(spelling.corrections("maet", known)) == spelling.MAX_CORRECTIONS


def test_a_word_that_has_a_known_token_is_known() -> None:
    assert spelling.unknown_tokens(words("my e-bike and snake_case", "english"), {"bike", "snake"}) == []
    assert spelling.unknown_tokens(words("zebras and apples", "english"), {"appl"}) == ["zebra"]


def test_nothing_is_looked_for_where_another_word_tells_enough() -> None:
    assert spelling.unknown_tokens(words("zebras and apples", "english"), {"appl"}, {"appl"}) == []


def test_an_identifier_is_known_only_as_a_whole() -> None:
    assert spelling.unknown_tokens(words("3f2a9bcd", "english"), {"3", "f", "2"}) == ["3f2a9bcd"]
    assert spelling.replacements(["3f2a9bcd"], set()) == {"3f2a9bcd*": spelling.PREFIX_WEIGHT}


def test_little_is_looked_for() -> None:
    many = words(" ".join(f"zeb{letter}ra" for letter in "qwertyuiop"), "english")
    assert len(spelling.unknown_tokens(many, set())) == spelling.MAX_UNKNOWN
    assert spelling.unknown_tokens(words("zebra okapi " * 100, "english"), set()) == []
    assert spelling.unknown_tokens(words("虾 abc 12 , 😀", "english"), set()) == []
    began = time.perf_counter()
    assert len(spelling.all_spellings(["x" * 16, "abcdefghijklmnop", "cccccccc"])) < 4_000
    assert time.perf_counter() - began < 5


def test_no_token_of_a_text_looks_like_a_beginning() -> None:
    assert not [token for token in tokens("a* *b c** 词*", "english") if token.endswith(spelling.PREFIX)]
