"""Parsing the keys of AgentScope Runtime's Redis services."""

import pytest

from agentstore.errors import InvalidContent
from agentstore.importing.redis_keys import parse_memory, parse_session, parse_state


def test_ids_of_a_session_are_those_in_its_value() -> None:
    assert parse_session("session:a:b:c", {"user_id": "a", "id": "b:c"}) == ("a", "b:c")
    assert parse_session("session:a:b:c", {"user_id": "a:b", "id": "c"}) == ("a:b", "c")


def test_value_that_does_not_match_the_key_is_refused() -> None:
    with pytest.raises(InvalidContent, match="does not match"):
        parse_session("session:a:b", {"user_id": "a", "id": "c"})


def test_user_of_a_memory_key_may_contain_colons() -> None:
    assert parse_memory("user_memory:a:b") == "a:b"


def test_ambiguous_state_key_is_refused() -> None:
    assert parse_state("user_state:a:b", {}) == ("a", "b")
    with pytest.raises(InvalidContent, match="where the user id ends"):
        parse_state("user_state:a:b:c", {})
