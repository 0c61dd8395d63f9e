"""Spelling corrections and prefixes for unknown words."""

import pytest

from agentstore.search import spelling
from agentstore.search.analysis import tokens, words
from tests.support.scaling import cpu_time


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("resturant", "restaurant"), ("adress", "address"), ("recieve", "receive"), ("kuberntes", "kubernetes"),
        ("tommorow", "tomorrow"), ("fotosynthesis", "photosynthesis"), ("equarium", "aquarium"), ("сестар", "сестра"),
    ],
)  # fmt: skip
def test_a_misspelled_word_is_corrected(wrong: str, right: str) -> None:
    (known,), (unknown,) = tokens(right, "english"), tokens(wrong, "english")
    assert spelling.corrections(unknown, {known, "other"}) == [known]


def test_corrections_are_few_and_the_likeliest_comes_first() -> None:
    known = {"meat", "mat", "met", "moet"}
    assert spelling.corrections("maet", known)[0] == "meat"
    assert len(spelling.corrections("maet", known)) == spelling.MAX_CORRECTIONS


def test_a_word_with_a_known_token_is_known() -> None:
    assert spelling.unknown_tokens(words("my e-bike and snake_case", "english"), {"bike", "snake"}) == []
    assert spelling.unknown_tokens(words("zebras and apples", "english"), {"appl"}) == ["zebra"]


def test_nothing_is_corrected_if_another_word_is_selective() -> None:
    assert spelling.unknown_tokens(words("zebras and apples", "english"), {"appl"}, {"appl"}) == []


def test_an_identifier_is_known_only_as_a_whole_and_searched_as_a_prefix() -> None:
    assert spelling.unknown_tokens(words("3f2a9bcd", "english"), {"3", "f", "2"}) == ["3f2a9bcd"]
    assert spelling.replacements(["3f2a9bcd"], set()) == {"3f2a9bcd*": spelling.PREFIX_WEIGHT}


def test_the_number_of_corrected_words_and_candidates_is_limited() -> None:
    many = words(" ".join(f"zeb{letter}ra" for letter in "qwertyuiop"), "english")
    assert len(spelling.unknown_tokens(many, set())) == spelling.MAX_UNKNOWN
    assert spelling.unknown_tokens(words("zebra okapi " * 100, "english"), set()) == []
    assert spelling.unknown_tokens(words("虾 abc 12 , 😀", "english"), set()) == []
    assert len(spelling.all_spellings(["x" * 16, "abcdefghijklmnop", "cccccccc"])) < 4_000
    # Three long words have about 25 times as many candidates as one of four letters has.
    one = max(cpu_time(lambda: spelling.all_spellings(["abcd"]), repeat=10), 0.000_01)
    assert cpu_time(lambda: spelling.all_spellings(["x" * 16, "abcdefghijklmnop", "cccccccc"])) < 500 * one


def test_no_token_of_a_text_looks_like_a_prefix() -> None:
    assert not [token for token in tokens("a* *b c** 词*", "english") if token.endswith(spelling.PREFIX)]
