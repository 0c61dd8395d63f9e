"""Contract tests leave only rows of users, so they share a database that is emptied between tests."""

import pytest


@pytest.fixture
def database_name(emptied_database: str) -> str:
    return emptied_database
