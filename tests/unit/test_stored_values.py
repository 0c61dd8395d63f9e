"""Values that are parsed when they are first accessed, and are otherwise as all ScopedValues."""

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from agentstore import ScopedValues
from agentstore.schemas.values import StoredValues


def test_each_scope_is_parsed_once_when_it_is_accessed() -> None:
    parsed: list[str] = []

    def user() -> dict[str, Any]:
        parsed.append("user")
        return {"a": 1}

    values = StoredValues.read_by(None, user, user)
    assert values.app == {}
    assert not parsed
    assert values.user is values.user
    assert parsed == ["user"]
    assert values.merged() == {"a": 1}
    assert parsed == ["user", "user"]


def test_they_are_as_values_that_were_given() -> None:
    given = ScopedValues({"a": [1]}, {}, {"s": {"x": None}})

    def stored() -> StoredValues:
        return StoredValues.read_by(lambda: {"a": [1]}, None, lambda: {"s": {"x": None}})

    assert stored() == given
    assert given == stored()
    assert stored() == stored()
    assert stored() != ScopedValues()
    assert stored() != {"a": [1]}
    assert "app={'a': [1]}, user={}, session={'s': {'x': None}}" in repr(stored())
    assert dataclasses.asdict(stored()) == dataclasses.asdict(given)
    for copied in (copy.copy(stored()), copy.deepcopy(stored()), pickle.loads(pickle.dumps(stored()))):
        assert copied == given
    assert dataclasses.replace(stored(), user={"u": 1}) == dataclasses.replace(given, user={"u": 1})
    with pytest.raises(dataclasses.FrozenInstanceError):
        stored().app = {}  # type: ignore[misc]
    with pytest.raises(AttributeError, match="'StoredValues' object has no attribute 'other'"):
        _ = stored().other
    with pytest.raises(TypeError):
        hash(stored())


def test_values_that_cannot_be_parsed_fail_each_time() -> None:
    def fail() -> dict[str, Any]:
        raise ValueError("damaged")

    values = StoredValues.read_by(fail, None, None)
    for _ in range(2):
        with pytest.raises(ValueError, match="damaged"):
            _ = values.app
    assert values.session == {}
