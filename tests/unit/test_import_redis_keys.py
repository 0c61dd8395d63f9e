"""What the keys of AgentScope Runtime's Redis services mean."""

import pytest

from agentstore.errors import InvalidContent
from agentstore.importing.redis_keys import of_memory, of_session, of_state


def test_the_value_says_whose_a_session_is() -> None:
    assert of_session("session:a:b:c", {"user_id": "a", "id": "b:c"}) == ("a", "b:c")
    assert of_session("session:a:b:c", {"user_id": "a:b", "id": "c"}) == ("a:b", "c")


def test_a_value_of_another_key_is_refused() -> None:
    with pytest.raises(InvalidContent, match="another key"):
        of_session("session:a:b", {"user_id": "a", "id": "c"})


def test_the_user_of_a_memory_may_have_colons() -> None:
    assert of_memory("user_memory:a:b") == "a:b"


def test_a_state_with_one_colon_more_is_anybodys() -> None:
    assert of_state("user_state:a:b", {}) == ("a", "b")
    with pytest.raises(InvalidContent, match="where the user's id ends"):
        of_state("user_state:a:b:c", {})
