"""Settings are read from AGENTSTORE_* variables, validated, and hide secrets."""

import pytest
from pydantic import ValidationError

from agentstore import AgentStore, NotConfigured, Settings


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_SCHEMA", "agents")
    monkeypatch.setenv("AGENTSTORE_POOL_SIZE", "3")
    monkeypatch.setenv("AGENTSTORE_POOLER", "transaction")
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", "postgresql://u:secret@h/db")
    settings = Settings()
    assert (settings.schema, settings.pool_size, settings.pooler) == ("agents", 3, "transaction")
    assert "secret" not in repr(settings)


@pytest.mark.parametrize("name", ["Agents", "a-b", 'x"; DROP', "pg_x", "", "a" * 64, "1a"])
def test_a_schema_name_that_needs_quoting_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Settings(schema=name)


@pytest.mark.parametrize("wrong", [{"pool_size": 0}, {"pooler": "session"}, {"statement_timeout": -1}, {"pol_size": 1}])
def test_invalid_settings_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Settings(**wrong)  # type: ignore[arg-type]


def test_without_a_url_and_the_embedded_extra_the_error_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise NotConfigured("not installed")

    monkeypatch.setattr("agentstore.embedded.postgres.bundled_binaries", missing)
    with pytest.raises(NotConfigured, match="AGENTSTORE_DATABASE_URL"):
        AgentStore()


def test_a_blank_url_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", "")
    assert Settings().database_url is None
