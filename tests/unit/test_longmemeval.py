"""The measures of sessions found, as LongMemEval's own scorer defines them."""

import gzip
import json
import math
import random
from pathlib import Path

import pytest

from benchmarks.longmemeval import _interval, _read, score


def _expected_gain(relevances: list[int]) -> float:
    """The gain as the scorer writes it: the first relevance, and the others divided by the logarithm of 2, 3, ..."""
    first, *others = [*relevances, 0][:10]
    return first + sum(each / math.log2(place) for place, each in enumerate(others, 2))


def test_measures_are_those_of_the_scorer() -> None:
    rng = random.Random(1)
    sessions = [f"s{number}" for number in range(50)]
    for _ in range(200):
        ranked, relevant = rng.sample(sessions, rng.randint(0, 40)), rng.sample(sessions, rng.randint(1, 12))
        relevances = [int(each in relevant) for each in ranked]
        found = score(ranked, relevant)
        for k in (5, 10):
            assert found[f"any@{k}"] == 100 * any(each in ranked[:k] for each in relevant)
            assert found[f"all@{k}"] == 100 * all(each in ranked[:k] for each in relevant)
        assert found["R@1"] == 100 * (ranked[:1] != [] and ranked[0] in relevant)
        ideal = _expected_gain([1] * len(relevant))
        assert found["nDCG@10"] == pytest.approx(100 * _expected_gain(relevances) / ideal)


def test_a_file_may_be_compressed(tmp_path: Path) -> None:
    questions = [{"question_id": "q"}]
    (tmp_path / "a.json").write_text(json.dumps(questions))
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps(questions).encode()))
    assert _read(tmp_path / "a.json") == _read(tmp_path / "a.json.gz") == questions


def test_an_interval_has_the_mean_and_narrows_with_the_number_of_values() -> None:
    few, many = (_interval([0.0, 100.0] * count) for count in (20, 500))
    assert few["mean"] == many["mean"] == 50
    assert few["low"] < many["low"] < 50 < many["high"] < few["high"]
