"""Settings are read from AGENTSTORE_* variables, validated, and hide secrets."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from agentstore import AgentStore, InMemorySessionHistoryService, NotConfigured, Settings


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_SCHEMA", "agents")
    monkeypatch.setenv("AGENTSTORE_POOL_SIZE", "3")
    monkeypatch.setenv("AGENTSTORE_POOLER", "transaction")
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", "postgresql://u:secret@h/db")
    settings = Settings()
    assert (settings.schema, settings.pool_size, settings.pooler) == ("agents", 3, "transaction")
    assert "secret" not in repr(settings)


def test_a_variable_is_read_in_any_case_from_a_file_and_with_another_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "variables"
    file.write_text("agentstore_pool_size=3\n")
    assert Settings(_env_file=file).pool_size == 3
    monkeypatch.setenv("Agentstore_Pool_Size", "4")
    monkeypatch.setenv("other_pool_size", "5")
    assert Settings(_env_file=file).pool_size == 4
    assert Settings(_env_prefix="OTHER_").pool_size == 5
    assert Settings(pool_size=6).pool_size == 6
    file.write_text("UNKNOWN=1\n")
    with pytest.raises(ValidationError, match="unknown"):
        Settings(_env_file=file)


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


@pytest.mark.parametrize("open_", [AgentStore, InMemorySessionHistoryService])
def test_an_invalid_variable_is_named(monkeypatch: pytest.MonkeyPatch, open_: Callable[[], object]) -> None:
    monkeypatch.setenv("AGENTSTORE_POOL_SIZE", "many")
    monkeypatch.setenv("AGENTSTORE_SCHEMA", "Agents")
    with pytest.raises(NotConfigured, match=r"AGENTSTORE_SCHEMA: .*\n?") as raised:
        open_()
    assert "AGENTSTORE_POOL_SIZE: " in str(raised.value)


@pytest.mark.parametrize(
    ("unknown", "known"),
    [
        ("AGENTSTORE_DATABSE_URL", "AGENTSTORE_DATABASE_URL"),
        ("AGENTSTORE_URL", "AGENTSTORE_READ_URL"),
        ("AGENTSTORE_POOLSIZE", "AGENTSTORE_POOL_SIZE"),
        ("AGENTSTORE_DATABASE_PORT", "AGENTSTORE_DATABASE_URL"),
        ("agentstore_x", "AGENTSTORE_"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_known_one(
    monkeypatch: pytest.MonkeyPatch, unknown: str, known: str
) -> None:
    monkeypatch.setenv(unknown, "postgresql://u:secret@h/db")
    with pytest.raises(NotConfigured, match=rf"{unknown} is not .*{known}") as raised:
        AgentStore("postgresql://h/db")
    assert "secret" not in str(raised.value)
    AgentStore("postgresql://h/db", settings=Settings())  # the environment is not used


def test_variables_of_kubernetes_and_of_a_sandbox_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes sets these for every service that is named agentstore, or whose name begins so."""
    for name in (
        *("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_5432_TCP", "PORT_5432_TCP_PROTO"),
        *("PORT_5432_TCP_PORT", "PORT_5432_TCP_ADDR", "DB_SERVICE_HOST", "DB_PORT_5432_TCP_ADDR", "CALL"),
    ):
        monkeypatch.setenv(f"AGENTSTORE_{name}", "tcp://10.0.0.1:5432")
    AgentStore("postgresql://h/db")


def test_the_embedded_postgres_is_named_in_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("AGENTSTORE_EMBEDDED_DIR", str(tmp_path))
    AgentStore()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(tmp_path) in record.message
    assert "AGENTSTORE_DATABASE_URL" in record.message
