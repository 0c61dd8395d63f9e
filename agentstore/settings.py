"""Settings: read from ``AGENTSTORE_*`` environment variables, or given as ``Settings(...)``."""

import difflib
import os
import re
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from agentstore.errors import NotConfigured

MAX_SECONDS = 86_400.0
Seconds = Annotated[float, Field(ge=0.001, le=MAX_SECONDS)]
AutoMigrate = Literal["check", "upgrade", "off"]

_PREFIX = "AGENTSTORE_"
# Variables that are no settings, with their values: what Kubernetes sets for each service whose name begins with
# "agentstore", and the mark of the processes of a command in a sandbox.
_NO_SETTING = re.compile(
    r"AGENTSTORE_(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=.*"
    r"|AGENTSTORE_(.*_)?PORT=(tcp|udp|sctp)://.*|AGENTSTORE_CALL=.*",
    re.DOTALL,
)

with warnings.catch_warnings():
    # The setting is named AGENTSTORE_SCHEMA; pydantic's own `schema` is a deprecated classmethod.
    warnings.filterwarnings("ignore", message='Field name "schema"')

    class Settings(BaseSettings):
        """The settings of a store. ``pool_size`` is read from ``AGENTSTORE_POOL_SIZE``, and so on.

        Times are in seconds, sizes in bytes. A blank variable counts as unset where a setting may be unset.

        Raises:
            pydantic.ValidationError: a value is invalid, or a setting is unknown; the message names the setting.
        """

        model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", hide_input_in_errors=True)

        database_url: SecretStr | None = Field(
            default=None, description="The URL of the database, in any form that cloud consoles print."
        )
        migration_database_url: SecretStr | None = Field(
            default=None, description="A direct connection for migrations, if DATABASE_URL goes through a pooler."
        )
        read_url: SecretStr | None = Field(
            default=None, description="A replica of DATABASE_URL, for reads with stale_ok=True."
        )
        schema: str = Field(default="agentstore", description="The Postgres schema of all tables of agentstore.")  # type: ignore[assignment]
        auto_migrate: AutoMigrate | None = Field(
            default=None,
            description="What start() does if the schema is outdated: check (raise SchemaBehind, naming the command to "
            "run), upgrade, or off. Default: check, but upgrade for the embedded Postgres.",
        )

        pool_size: PositiveInt = Field(default=10, description="The maximum number of connections per process.")
        pool_timeout: Seconds = Field(default=30.0, description="How long a call waits for a free connection.")
        connect_timeout: Seconds = Field(
            default=10.0, description="How long one attempt to connect to one host may take."
        )
        row_level_security: bool = Field(
            default=False,
            description="Set the user of each statement for the policies of `agentstore rls enable`.",
        )
        pooler: Literal["none", "transaction"] = Field(
            default="none",
            description="transaction: DATABASE_URL is a pooler (PgBouncer, Supavisor, RDS Proxy) in transaction mode.",
        )
        statement_timeout: Seconds = Field(default=30.0, description="How long one statement may take.")
        lock_timeout: Seconds = Field(
            default=10.0,
            description="How long a statement waits for a lock. Has no effect through a transaction pooler.",
        )

        session_ttl: PositiveInt | None = Field(
            default=None,
            lt=2**31,
            description="How long a session is retained after its last write. Default: indefinitely.",
        )
        memory_ttl: PositiveInt | None = Field(
            default=None,
            lt=2**31,
            description="How long the memories of a session are retained after the last addition. Default: "
            "indefinitely.",
        )
        state_ttl: PositiveInt | None = Field(
            default=None,
            lt=2**31,
            description="How long the states of a session are retained after the last save. Default: indefinitely.",
        )

        text_search_config: str = Field(
            default="english",
            description="The language of text in Latin script, by its Postgres and Snowball name, or simple.",
        )

        hybrid_weight: Annotated[float, Field(ge=0, le=1)] = Field(
            default=0.6,
            description="The weight of the lexical score in a hybrid search; the semantic score has the rest of 1.",
        )
        embedding_url: str | None = Field(
            default=None,
            description="An OpenAI-compatible embeddings API, such as https://api.openai.com/v1.",
        )
        embedding_model: str | None = Field(default=None, description="The embedding model.")
        embedding_api_key: SecretStr | None = Field(
            default=None, description="The API key of EMBEDDING_URL, if it requires one."
        )
        embedding_dimensions: PositiveInt | None = Field(
            default=None, description="The number of dimensions of the embedding model's vectors."
        )
        reranker_url: str | None = Field(
            default=None, description="A reranking API, to whose URL /rerank is appended, such as https://host/v1."
        )
        reranker_model: str | None = Field(
            default=None, description="The reranking model. Default: the single one of a server of TEI."
        )
        reranker_api_key: SecretStr | None = Field(
            default=None, description="The API key of RERANKER_URL, if it requires one."
        )
        reranker_timeout: Seconds = Field(
            default=5.0, description="How long a search waits for a reranker before it returns its results without it."
        )
        reranker_candidates: Annotated[int, Field(ge=1, le=1_000)] = Field(
            default=50, description="The number of best memories of a search that a reranker scores."
        )
        extraction_url: str | None = Field(
            default=None,
            description="An OpenAI-compatible chat completions API, such as https://host/v1. If it is set, added "
            "memories are queued for `agentstore extract`.",
        )
        extraction_model: str | None = Field(default=None, description="The extraction model.")
        extraction_api_key: SecretStr | None = Field(
            default=None, description="The API key of EXTRACTION_URL, if it requires one."
        )
        extraction_purpose: Literal["facts", "experience"] = Field(
            default="facts", description="What is extracted: facts about the user, or experience with tasks."
        )
        extraction_timeout: Seconds = Field(
            default=120.0, description="How long one extraction from a conversation may take."
        )
        extraction_settle: float = Field(
            default=30.0,
            ge=0,
            le=86_400,
            description="How long a session must have had no additions before facts are extracted from it.",
        )

        sandbox_provider: Literal["bubblewrap", "remote", "agentscope_runtime", "unsafe_subprocess"] | None = Field(
            default=None,
            description="The sandbox provider. Default: remote if SANDBOX_URL is set, otherwise bubblewrap.",
        )
        sandbox_url: str | None = Field(
            default=None, description="The URL of a sandbox server, such as https://host:8000."
        )
        sandbox_token: SecretStr | None = Field(
            default=None, description="The bearer token of the sandbox server, if it requires one."
        )
        sandbox_python: str | None = Field(
            default=None,
            description="The Python executable whose packages local sandboxes can import. Default: the current one.",
        )
        sandbox_timeout: Seconds = Field(
            default=60.0,
            description="How long a tool call in a sandbox may take, or a sandbox server to create a sandbox.",
        )
        sandbox_lease: Seconds = Field(
            default=30.0, description="How long a sandbox lives after its lease was last renewed."
        )
        sandbox_idle: Seconds = Field(
            default=3_600.0, description="After how long without a call a replica stops renewing a sandbox's lease."
        )
        sandbox_snapshots: bool = Field(
            default=False,
            description="Store workspaces in the database, so that a new sandbox starts with the previous workspace.",
        )
        sandbox_snapshot_interval: Seconds = Field(
            default=60.0,
            description="How often the workspace of a running sandbox is stored; it is also stored at its end.",
        )

        slow_statement: Annotated[float, Field(gt=0)] | None = Field(
            default=None, description="Log each statement that takes longer, in seconds. Default: none."
        )
        telemetry: Literal["auto", "off"] = Field(
            default="auto",
            description="Whether spans and metrics go to the providers of OpenTelemetry that the application has set.",
        )
        telemetry_sql: bool = Field(default=False, description="Whether spans have the SQL of statements.")
        console_token: SecretStr | None = Field(
            default=None,
            description="What visitors of `agentstore console` have to enter, at least 16 characters. Needed if it "
            "listens on another address than one of this machine.",
        )
        log_format: Literal["text", "json"] = Field(
            default="text", description="How the command line writes its log: as text, or as a JSON object a line."
        )

        embedded_dir: str | None = Field(default=None, description="The data directory of the embedded Postgres.")
        embedded_binaries: str | None = Field(
            default=None,
            description="The installation that the embedded Postgres runs, such as /usr/lib/postgresql/17.",
        )

        max_id_bytes: PositiveInt = Field(default=512, description="The maximum size of a user, session or message id.")
        max_message_bytes: PositiveInt = Field(
            default=32_000_000, description="The maximum size of one message as JSON."
        )
        max_state_bytes: PositiveInt = Field(default=64_000_000, description="The maximum size of one state as JSON.")
        max_reply_bytes: PositiveInt = Field(
            default=256_000_000,
            description="The maximum size of what one call reads: a session, a page, the results of a search.",
        )
        max_blob_bytes: PositiveInt = Field(default=100_000_000, description="The maximum size of one blob.")
        max_workspace_bytes: PositiveInt = Field(
            default=64_000_000, description="The maximum size of one workspace, compressed."
        )
        max_batch: PositiveInt = Field(default=10_000, description="The maximum number of messages of one append.")
        max_page: PositiveInt = Field(default=10_000, description="The maximum number of entries of one page.")
        max_top_k: PositiveInt = Field(
            default=1_000, description="The maximum number of memories that one search returns."
        )
        max_query: PositiveInt = Field(
            default=10_000, description="The number of characters of a query that are used; the rest is ignored."
        )
        max_indexed: PositiveInt = Field(
            default=200_000,
            description="The number of characters of one memory that are indexed; all of them are stored.",
        )

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            """Return the sources of values. One without variables is omitted, since looking up every field is slow."""
            return init_settings, *filter(_has_variables, (env_settings, dotenv_settings)), file_secret_settings

        @field_validator("schema")
        @classmethod
        def _check_schema(cls, value: str) -> str:
            # Compiled into the statements unquoted.
            if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", value) or value.startswith("pg_"):
                raise ValueError(
                    "a schema name consists of lower-case letters, digits and _, does not begin with a digit or pg_, "
                    "and has at most 63 characters"
                )
            return value

        @field_validator(
            *("database_url", "migration_database_url", "read_url", "embedded_dir", "embedded_binaries"),
            *("extraction_url", "extraction_model", "extraction_api_key"),
            *("reranker_url", "reranker_model", "reranker_api_key"),
            *("session_ttl", "memory_ttl", "state_ttl"),
            *("sandbox_provider", "sandbox_url", "sandbox_token", "sandbox_python"),
            *("embedding_url", "embedding_model", "embedding_api_key", "embedding_dimensions"),
            mode="before",
        )
        @classmethod
        def _blank_is_unset(cls, value: object) -> object:
            return None if value == "" else value


def _has_variables(source: PydanticBaseSettingsSource) -> bool:
    if isinstance(source, DotEnvSettingsSource):
        return bool(source.env_vars)  # a variable of a file that is not a setting is an error
    if isinstance(source, EnvSettingsSource):
        return any(name.lower().startswith(source.env_prefix.lower()) for name in source.env_vars)
    return True


def settings_from_environment() -> Settings:
    """Return the settings of the environment.

    Raises:
        NotConfigured: a variable is invalid, or its name is that of no setting; the message names it.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)
        raise NotConfigured("\n".join(f"{_variable(*each['loc'])}: {_expected(each)}" for each in wrong)) from error
    if unknown := list(_unknown_variables()):
        raise NotConfigured("\n".join(unknown))
    return settings


_EXPECTED = {
    "int_parsing": "expected an integer",
    "float_parsing": "expected a number",
    "bool_parsing": "expected true or false",
    "literal_error": "expected {expected}",
    "greater_than": "expected a number over {gt}",
    "greater_than_equal": "expected at least {ge}",
    "less_than": "expected a number below {lt}",
    "less_than_equal": "expected at most {le}",
}


def _expected(wrong: Any) -> str:
    """Return what was expected of a value. The value is not named, since it may be a password in the wrong place."""
    if (expected := _EXPECTED.get(wrong["type"])) is None:
        return str(wrong["msg"]).removeprefix("Value error, ")
    return expected.format(**wrong.get("ctx", {}))


def _unknown_variables() -> Iterator[str]:
    known = [_variable(name) for name in Settings.model_fields]
    for name, value in sorted(os.environ.items()):
        given = name.upper()  # pydantic-settings reads variables of any case
        if given.startswith(_PREFIX) and given not in known and not _NO_SETTING.fullmatch(f"{given}={value}"):
            nearest = difflib.get_close_matches(given, known, n=1, cutoff=0)
            yield f"{name} is not a setting of agentstore. Is it {nearest[0]}? Correct or unset it."


def _variable(*name: object) -> str:
    return _PREFIX + "_".join(map(str, name)).upper()
