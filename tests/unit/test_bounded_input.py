"""What callers give is refused or cut before it is decoded, normalized or shown."""

import tracemalloc
from collections.abc import Callable

import pytest

from agentstore.errors import AgentStoreError
from agentstore.schemas.memory import read_memory_cursor
from agentstore.schemas.memory_filters import read_search_filters
from agentstore.schemas.page import check_limit, read_cursor, write_cursor
from agentstore.schemas.payload import check_title
from agentstore.schemas.state import patch, read_round_cursor
from agentstore.schemas.times import local_time
from agentstore.search import analysis
from agentstore.settings import Settings

_LARGE = "A" * 4_000_000
_LIGATURE = "\ufdfa"  # normalized to 18 characters


def peak_of(call: Callable[[], object]) -> int:
    """Return how many bytes a call allocated at most, beyond those that existed before."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "call",
    [
        lambda: read_cursor(_LARGE, str),
        lambda: read_memory_cursor(_LARGE),
        lambda: read_round_cursor(_LARGE),
        lambda: check_limit(_LARGE),  # type: ignore[arg-type]
        lambda: check_limit([_LARGE] * 1_000),  # type: ignore[arg-type]
        lambda: check_title(_LARGE),
        lambda: read_search_filters({"since": _LARGE}, Settings()),
        lambda: read_search_filters({_LARGE: 1}, Settings()),
        lambda: read_search_filters({"strategy": [_LARGE] * 1_000}, Settings()),
    ],
    ids=["cursor", "memories", "rounds", "limit", "limits", "title", "time", "filter", "strategy"],
)
def test_large_values_are_refused_without_being_copied(call: Callable[[], object]) -> None:
    def refused() -> None:
        with pytest.raises(AgentStoreError) as error:
            call()
        assert len(str(error.value)) < 1_000

    assert peak_of(refused) < len(_LARGE) / 4


def test_a_large_string_is_not_parsed_as_a_time() -> None:
    digits = "1" * 4_000_000
    assert peak_of(lambda: local_time(digits)) < len(digits) / 4
    assert local_time(digits) is None
    assert local_time("2023-05-08") is not None


def test_cursors_of_the_longest_ids_are_read() -> None:
    key = ("\U0001f600" * 128, "\x01" * 512)
    assert read_cursor(write_cursor(*key), str, str) == list(key)


def test_normalization_is_bounded_before_it_expands() -> None:
    text = _LIGATURE * 200_000
    most = 2 * len(text) + 10_000
    assert len(analysis._normalize(text)) <= most
    # The text has four bytes a character at most; besides the normalized text there are its copies and the tokens.
    assert peak_of(lambda: analysis.memory_tokens(text, None, "english")) < 4 * 4 * most
    assert analysis.memory_tokens(text, None, "english").is_cut


@pytest.mark.parametrize("text", [_LIGATURE, "½ ﬁ… " * 40_000, "한국어 " * 50_000, "①" * 200_000])
def test_ordinary_texts_are_normalized_completely(text: str) -> None:
    found = analysis.memory_tokens(f"{text} zebra", None, "english")
    assert "zebra" in found.words
    assert not found.is_cut


def test_large_states_are_compared_by_keys() -> None:
    import jsonpatch

    before = {"a": [0] * 200_000, "b": {"x/y": 1, "z": [1, 2]}, "gone": 1, "same": {"n": None}}
    after = {"a": [0] * 200_001, "b": {"x/y": 1.0, "z": [1, 2]}, "new": True, "same": {"n": None}}
    found = patch(before, after)
    assert sorted((each["op"], each["path"]) for each in found) == [
        ("add", "/new"),
        ("remove", "/gone"),
        ("replace", "/a"),
        ("replace", "/b/x~1y"),
    ]
    applied = jsonpatch.apply_patch(before, found)
    assert repr(dict(sorted(applied.items()))) == repr(dict(sorted(after.items())))
    assert patch(after, after) == []
