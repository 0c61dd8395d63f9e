"""The exceptions that agentstore raises.

::

    AgentStoreError
    ├── NotConfigured      a setting, URL, login or privilege is missing or invalid
    ├── Closed             the store was stopped
    ├── NotFound           a session, state round, user or other object does not exist
    ├── AlreadyExists      an object to be created exists, with exist_ok=False
    ├── Conflict           the same id exists with other content, or an expected value has changed
    ├── InvalidContent     the input is invalid or cannot be stored exactly (also a ValueError)
    ├── LimitExceeded      the input is larger, longer or deeper than a limit allows (also a ValueError)
    ├── Retryable          the call can be repeated as it is
    │   ├── Unavailable    the database could not be reached or did not answer
    │   │   ├── PoolTimeout   no connection became free within pool_timeout
    │   │   └── ReadOnly      the server refuses writes: it is a standby, or was made read-only
    │   ├── EmbeddingFailed   the embedder failed or returned invalid vectors
    │   ├── RerankingFailed   the reranker failed or returned invalid scores
    │   └── SandboxElsewhere  only another replica can reach the sandbox (also a SandboxUnavailable)
    ├── UnknownOutcome     the response to a write was lost, and retrying it is not safe
    ├── StatementTimeout   a statement took longer than statement_timeout, and was rolled back
    ├── StatementFailed    Postgres rejected a statement for another reason; see ``sqlstate``
    ├── UnreadableRow      a stored row is not valid: another program wrote or changed it
    ├── SchemaBehind       the schema is older than this release needs: run ``agentstore upgrade``
    ├── SchemaAhead        a call would change a schema that a newer release has migrated
    ├── ExtractionFailed   the extractor failed or returned an invalid result
    ├── SandboxUnavailable a sandbox cannot be created here, or cannot be reached from here
    ├── SandboxLost        the sandbox ended, or its lease expired: connect again
    └── SandboxFailed      the sandbox provider returned an error or an invalid response

The driver's or client's exception, if there is one, is ``__cause__``. No message contains a password or a key.
"""


class AgentStoreError(Exception):
    """Base class of all exceptions of agentstore."""


class NotConfigured(AgentStoreError):
    """The configuration is incomplete or invalid: no database is named, or a URL, login or privilege is wrong."""


class Closed(AgentStoreError):
    """The store or service was stopped. Call ``start()`` to use it again."""


class NotFound(AgentStoreError):
    """An object that the call needs does not exist."""


class AlreadyExists(AgentStoreError):
    """The object to be created exists already."""


class Conflict(AgentStoreError):
    """The same id was stored with other content, or a value that the caller expected has changed."""


class InvalidContent(AgentStoreError, ValueError):
    """The input is invalid, or cannot be stored so that it round-trips unchanged. Nothing was written."""


class LimitExceeded(AgentStoreError, ValueError):
    """The input is larger, longer or nested deeper than a limit allows, or the result would be.

    Nothing was written, unless the message says so.
    """


class Retryable(AgentStoreError):
    """Base class of the errors after which the same call is safe to repeat: it had no effect, or only once."""


class Unavailable(Retryable):
    """The database could not be reached, or did not answer in time.

    Safe to retry: the call had no effect, or executing it again changes nothing more.
    """


class PoolTimeout(Unavailable):
    """No connection became free within ``pool_timeout``. Nothing was sent to the database.

    Attributes:
        size: the maximum number of connections of the pool.
        in_use: how many of them were checked out.

    Both are None for an engine of the caller whose pool does not report them.
    """

    def __init__(self, message: str, *, size: int | None = None, in_use: int | None = None) -> None:
        super().__init__(message)
        self.size = size
        self.in_use = in_use


class ReadOnly(Unavailable):
    """The server refuses writes: it is a standby, or was made read-only, as by a provider whose disk is full.

    Nothing was written. Reads work. A retry helps only once the store is connected to a server that accepts writes:
    after a failover, if the URL names all hosts with ``target_session_attrs=read-write``.
    """


class EmbeddingFailed(Retryable):
    """The embedder failed, or returned invalid vectors. Safe to retry.

    Memories are stored nevertheless: until they have vectors, they are found by their words.
    """


class RerankingFailed(Retryable):
    """The reranker failed, or returned invalid scores. Searches return their hits in the order without it."""


class UnknownOutcome(AgentStoreError):
    """The connection was lost before the response to a write arrived: it may or may not have been committed.

    Check the data before you retry the call.
    """


class StatementTimeout(AgentStoreError):
    """A statement took longer than ``statement_timeout`` (AGENTSTORE_STATEMENT_TIMEOUT) allows, and was rolled back.

    A retry takes as long: raise the setting, or do less in one call.
    """


class ExtractionFailed(AgentStoreError):
    """An extractor failed on a conversation, which stays in the queue and is retried later.

    Attributes:
        outage: True if the endpoint failed and not this conversation, so that others would fail now as well.
        retry_after: the seconds after which the endpoint asked to retry, or None.
    """

    def __init__(self, message: str, *, outage: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.outage = outage
        self.retry_after = retry_after


class SandboxUnavailable(AgentStoreError):
    """A sandbox cannot be created here, or the existing one cannot be reached from here or does not answer in time."""


class SandboxElsewhere(SandboxUnavailable, Retryable):
    """The sandbox is on another host or sandbox server, which the message names. Nothing was run or ended.

    The same call succeeds on a replica that uses that host or server, and ``connect`` here once its lease has expired.
    """


class SandboxLost(AgentStoreError):
    """The sandbox ended, or its lease expired and another replica took it over: ``connect`` again."""


class SandboxFailed(AgentStoreError):
    """The sandbox provider returned an error, or a response that violates its protocol."""


class StatementFailed(AgentStoreError):
    """Postgres rejected a statement. ``sqlstate`` is its five-character error code."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class UnreadableRow(AgentStoreError):
    """A stored row cannot be read, since another program wrote or changed it. What agentstore stores can be read.

    Attributes:
        table: the table of the row; None if the driver could not decode the row.
        user_id: its user.
        session_id: its session; None for a row of the table "users", and if it is not known.
        id: the id of the message or memory, or its position if the row has no valid id; the number of a state round;
            None for other tables.
        reason: why it cannot be read.
        seq: the number of a message in its session, if it is known.
    """

    def __init__(
        self,
        reason: str,
        table: str | None,
        user_id: str | None,
        session_id: str | None = None,
        id: str | int | None = None,
        seq: int | None = None,
    ) -> None:
        parts = {"user": user_id, "session": session_id, "id" if isinstance(id, str) else "position": id}
        named = ", ".join(f"{name} {value!r:.600}" for name, value in parts.items() if value is not None)
        row = "a row" if table is None else f"a row of the table {table}"
        super().__init__(f"{row} cannot be read ({named}): {reason}")
        self.reason = reason
        self.table = table
        self.user_id = user_id
        self.session_id = session_id
        self.id = id
        self.seq = seq


class SchemaBehind(AgentStoreError):
    """The database schema is older than this release needs: run ``agentstore upgrade``."""


class SchemaAhead(AgentStoreError):
    """A newer release has migrated the schema, and a downgrade or a stamp by this one is refused.

    Everything else works: this release runs on the schema of the next release, and `upgrade` has nothing to do.
    """
