"""Large JSON is encoded and decoded in pieces as it is at once."""

import json
import random
from typing import Any

import pydantic_core
import pytest

from agentstore import json_pieces
from agentstore.exact_json import dumps_checked

_SCALARS: list[Any] = [
    *(1, -7, 2.5, None, True, 2**70, -1e-7, "", 'a,]}{["\\', 'x"},"y', "é\ud800", "\u2028,", "},", "],"),
]
_KEYS = ["k", "a,b", "}],", "", '"q"', "é"]


def random_value(rng: random.Random, depth: int) -> Any:
    kind = rng.random()
    if depth <= 0 or kind < 0.3:
        return rng.choice(_SCALARS)
    if kind < 0.65:
        return [random_value(rng, depth - 1) for _ in range(rng.randrange(8))]
    return {f"{rng.choice(_KEYS)}{number}": random_value(rng, depth - 1) for number in range(rng.randrange(8))}


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_pieces, "_PIECE", 200)
    monkeypatch.setattr(json_pieces, "_SHORT", 20)


@pytest.mark.usefixtures("small_pieces")
def test_pieces_are_those_of_the_whole() -> None:
    rng = random.Random(3)
    for _ in range(400):
        value = random_value(rng, rng.randrange(1, 7))
        text = json.dumps(value, separators=(",", ":"))
        assert json.dumps(json_pieces.loads(text), separators=(",", ":")) == text
        spaced = json.dumps(value, indent=1)
        assert json_pieces.loads(spaced.encode()) == value
        assert json_pieces.dumps(value, lambda part: json.dumps(part, separators=(",", ":"))) == text


@pytest.mark.usefixtures("small_pieces")
def test_damaged_text_is_refused_as_the_standard_library_does() -> None:
    rng = random.Random(4)
    refused = 0
    for _ in range(1_000):
        text = json.dumps(random_value(rng, 5), separators=(",", ":"))
        at = rng.randrange(len(text))
        damaged = text[:at] + rng.choice(',]}[{"1 ') + text[at + rng.randrange(2) :]
        try:
            expected = json.loads(damaged)
        except ValueError:
            refused += 1
            with pytest.raises(ValueError, match=r"."):
                json_pieces.loads(damaged)
        else:
            assert json_pieces.loads(damaged) == expected
    assert refused > 100


@pytest.mark.parametrize(
    "value",
    [
        {"a": [0] * 300_000},
        {f"k{number}": number for number in range(60_000)},
        [{"b": number} for number in range(60_000)],
        [[{"a": [1, {"b": 2}, "x"]}] * 3] * 10_000,
        {"a": {"b": {"c": ["x" * 200_000, [1.5] * 100_000]}}},
    ],
    ids=["list", "keys", "dicts", "nested", "deep"],
)
def test_no_piece_is_large(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def encode(part: Any) -> str:
        sizes.append(0 if isinstance(part, str) else json_pieces.size_of(part, 10**9))
        return dumps_checked(part)

    text = json_pieces.dumps(value, encode)
    assert text == dumps_checked(value)
    assert max(sizes) <= 3 * json_pieces._PIECE
    from_json = pydantic_core.from_json
    lengths: list[int] = []

    def decode(part: str, **options: Any) -> Any:
        lengths.append(len(part))
        return from_json(part, **options)

    monkeypatch.setattr(pydantic_core, "from_json", decode)
    assert json_pieces.loads(text) == value
    assert max(lengths) <= json_pieces._PIECE + 2
    assert sum(lengths) < 4 * len(text)


def test_the_size_of_a_value_is_found_without_visiting_all_of_it() -> None:
    class Endless(list[Any]):
        def __len__(self) -> int:
            raise AssertionError("visited")

    assert json_pieces.is_large([[0] * 1_000_000, Endless()][:1])
    assert not json_pieces.is_large({"a": [1, "x", {"b": None}]})
    assert json_pieces.has_large_container({"a": {"b": [0] * 200_000}})
    assert not json_pieces.has_large_container({"a": [{"b": [0] * 50}] * 50})
