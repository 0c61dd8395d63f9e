"""What a contract leaves behind are rows of users."""

import pytest


@pytest.fixture
def database_name(emptied_database: str) -> str:
    return emptied_database
