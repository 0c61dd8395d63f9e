"""What can be set: ``AGENTSTORE_*`` in the environment, or ``Settings(...)`` in code."""

import re
import warnings
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(ge=0.001, le=86_400.0)]
AutoMigrate = Literal["check", "upgrade", "off"]

with warnings.catch_warnings():
    # AGENTSTORE_SCHEMA is the setting's name; pydantic's own `schema` is a deprecated classmethod.
    warnings.filterwarnings("ignore", message='Field name "schema"')

    class Settings(BaseSettings):
        """The settings of a store. Each is read from ``AGENTSTORE_`` and its name in capitals.

        Times are in seconds, sizes in bytes.

        Raises:
            pydantic.ValidationError: a value is not of its kind; the message names the setting.
        """

        model_config = SettingsConfigDict(env_prefix="AGENTSTORE_", extra="forbid", hide_input_in_errors=True)

        database_url: SecretStr | None = Field(default=None, description="Any form that a cloud console prints.")
        migration_database_url: SecretStr | None = Field(
            default=None, description="A direct connection for migrations, where DATABASE_URL goes through a pooler."
        )
        schema: str = Field(default="agentstore", description="The Postgres schema of all our tables.")  # type: ignore[assignment]
        auto_migrate: AutoMigrate | None = Field(
            default=None,
            description="What start() does about an older schema: check (refuse, naming the command), upgrade, or "
            "off. Default: check; upgrade on the embedded Postgres.",
        )

        pool_size: PositiveInt = Field(default=10, description="The most connections that a process opens.")
        pool_timeout: Seconds = Field(default=30.0, description="How long a call waits for a connection.")
        connect_timeout: Seconds = Field(default=10.0, description="How long one attempt to connect may take.")
        row_level_security: bool = Field(
            default=False,
            description="Name the user of each statement to the server, for the policies of `agentstore rls enable`.",
        )
        pooler: Literal["none", "transaction"] = Field(
            default="none",
            description="transaction: the URL is a pooler's (PgBouncer, Supavisor, RDS Proxy) in that mode.",
        )
        statement_timeout: Seconds = Field(default=30.0, description="How long one statement may take.")
        lock_timeout: Seconds = Field(
            default=10.0, description="How long a statement waits for a lock. Not sent through a transaction pooler."
        )

        session_ttl: PositiveInt | None = Field(
            default=None, lt=2**31, description="How long after its last write a session is kept. Default: for ever."
        )
        memory_ttl: PositiveInt | None = Field(
            default=None, lt=2**31, description="How long after the last addition a session's memories are kept."
        )
        state_ttl: PositiveInt | None = Field(
            default=None, lt=2**31, description="How long after the last save a session's states are kept."
        )

        text_search_config: str = Field(
            default="english",
            description="The language of words in Latin letters, as Postgres and Snowball name it, or simple.",
        )

        hybrid_weight: Annotated[float, Field(ge=0, le=1)] = Field(
            default=0.6, description="What words count in a hybrid search; meaning counts the rest of 1."
        )
        embedding_url: str | None = Field(
            default=None, description="An OpenAI-compatible API that embeds, such as https://api.openai.com/v1."
        )
        embedding_model: str | None = Field(default=None, description="The model that it embeds with.")
        embedding_api_key: SecretStr | None = Field(default=None, description="Its key, where it wants one.")
        embedding_dimensions: PositiveInt | None = Field(
            default=None, description="How many numbers a vector of that model has."
        )
        extraction_url: str | None = Field(
            default=None,
            description="An endpoint that speaks OpenAI's chat completions, as https://host/v1. Set, additions are "
            "queued for `agentstore extract`.",
        )
        extraction_model: str | None = Field(default=None, description="The model that extracts.")
        extraction_api_key: SecretStr | None = Field(default=None, description="Where the endpoint wants one.")
        extraction_purpose: Literal["facts", "experience"] = Field(
            default="facts", description="What is extracted: facts about the user, or experience with tasks."
        )
        extraction_timeout: Seconds = Field(default=120.0, description="How long extracting may take, each time.")
        extraction_settle: float = Field(
            default=30.0,
            ge=0,
            le=86_400,
            description="How long nothing is added to a session before facts are extracted from it.",
        )

        sandbox_provider: Literal["bubblewrap", "remote", "agentscope_runtime", "unsafe_subprocess"] | None = Field(
            default=None, description="What makes sandboxes. Default: remote where SANDBOX_URL is set, else bubblewrap."
        )
        sandbox_url: str | None = Field(default=None, description="A sandbox server, such as https://host:8000.")
        sandbox_token: SecretStr | None = Field(default=None, description="Its bearer token, where it wants one.")
        sandbox_python: str | None = Field(
            default=None, description="The Python whose packages sandboxes on this machine have. Default: this one."
        )
        sandbox_timeout: Seconds = Field(
            default=60.0, description="How long one call of a sandbox's tool may take, or a sandbox server to make one."
        )
        sandbox_lease: Seconds = Field(
            default=30.0, description="How long a sandbox is kept that nobody says to be in use any more."
        )
        sandbox_idle: Seconds = Field(
            default=3_600.0, description="How long nobody calls a sandbox before it is in use no more."
        )
        sandbox_snapshots: bool = Field(
            default=False, description="Keep workspaces in the database, so that a new sandbox begins with the last."
        )
        sandbox_snapshot_interval: Seconds = Field(
            default=60.0, description="How often a workspace in use is kept, beside when its sandbox ends."
        )

        embedded_dir: str | None = Field(default=None, description="The data folder of the embedded Postgres.")
        embedded_binaries: str | None = Field(
            default=None,
            description="The installation that the embedded Postgres runs, such as /usr/lib/postgresql/17.",
        )

        max_id_bytes: PositiveInt = Field(default=512, description="A user, session or message id, in UTF-8.")
        max_message_bytes: PositiveInt = Field(default=32_000_000, description="One message, as JSON.")
        max_state_bytes: PositiveInt = Field(default=64_000_000, description="One state, as JSON.")
        max_workspace_bytes: PositiveInt = Field(default=64_000_000, description="One workspace, packed.")
        max_batch: PositiveInt = Field(default=10_000, description="The messages of one append.")
        max_page: PositiveInt = Field(default=10_000, description="The entries of one page.")
        max_top_k: PositiveInt = Field(default=1_000, description="The memories that one search returns.")
        max_query: PositiveInt = Field(default=10_000, description="The characters of a question that are looked for.")
        max_indexed: PositiveInt = Field(
            default=200_000, description="The characters of one memory that can be found; all of it is kept."
        )

        @field_validator("schema")
        @classmethod
        def _plain_name(cls, value: str) -> str:
            # Compiled into statements as it stands, so nothing that would need quoting.
            if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", value) or value.startswith("pg_"):
                raise ValueError("a schema is named in lower-case letters, digits and _, at most 63, not pg_...")
            return value

        @field_validator(
            *("database_url", "migration_database_url", "embedded_dir", "embedded_binaries"),
            *("extraction_url", "extraction_model", "extraction_api_key"),
            *("session_ttl", "memory_ttl", "state_ttl"),
            *("sandbox_provider", "sandbox_url", "sandbox_token", "sandbox_python"),
            *("embedding_url", "embedding_model", "embedding_api_key", "embedding_dimensions"),
            mode="before",
        )
        @classmethod
        def _blank_is_unset(cls, value: object) -> object:
            return None if value == "" else value
