"""Every error that agentstore raises on purpose.

::

    AgentStoreError
    ├── NotConfigured      nothing says which database to use, or what it says cannot be used
    ├── Closed             a call after stop()
    ├── NotFound           the session, state or user that the call needs is not there
    ├── AlreadyExists      exist_ok=False, and it does
    ├── Conflict           the same id with other content, or an expectation that no longer holds
    ├── InvalidContent     what cannot be kept exactly (also a ValueError)
    ├── LimitExceeded      more, larger or deeper than a limit allows (also a ValueError)
    ├── Unavailable        the database could not be reached or did not answer: the call may be repeated
    │   └── PoolTimeout    every connection of the pool was in use for too long
    ├── EmbeddingFailed    the embedder gave no vectors, or other ones than it should: the call may be repeated
    ├── UnknownOutcome     the answer to a write was lost, and repeating it would not be the same
    ├── ExtractionFailed   an extractor's endpoint did not answer, or not what was asked for
    ├── SandboxUnavailable no sandbox can be made here, or the one that there is cannot be reached from here
    ├── SandboxLost        the sandbox ended, or its lease went to another: connect again
    ├── SandboxFailed      what makes sandboxes answered with an error, or with nonsense
    ├── StatementFailed    Postgres refused a statement for another reason; ``sqlstate`` says which
    ├── SchemaBehind       the schema is older than this release: run ``agentstore upgrade``
    └── SchemaAhead        the schema has a revision that this release does not know

The error of the driver, where there is one, is ``__cause__``. No message holds a password or a key.
"""


class AgentStoreError(Exception):
    """The root of every error of agentstore."""


class NotConfigured(AgentStoreError):
    """Nothing says which database to use, or what is said cannot be used."""


class Closed(AgentStoreError):
    """The store or service was stopped; ``start()`` opens it again."""


class NotFound(AgentStoreError):
    """What the call needs does not exist."""


class AlreadyExists(AgentStoreError):
    """What the call was told to create exists."""


class Conflict(AgentStoreError):
    """The same id was stored with other content, or an expected state no longer holds."""


class InvalidContent(AgentStoreError, ValueError):
    """The input cannot be stored so that it comes back equal. Nothing was written."""


class LimitExceeded(AgentStoreError, ValueError):
    """The input is larger, longer or deeper than a limit allows. Nothing was written."""


class Unavailable(AgentStoreError):
    """The database could not be reached, or did not answer in time.

    The call may be repeated as it was: it either changed nothing, or repeating it changes nothing more.
    """


class PoolTimeout(Unavailable):
    """Every connection was in use for longer than the pool's timeout. Nothing was sent.

    ``size``: how many connections the pool may have. ``in_use``: how many of them were lent. None where the engine is
    the caller's, and its pool does not say.
    """

    def __init__(self, message: str, *, size: int | None = None, in_use: int | None = None) -> None:
        super().__init__(message)
        self.size = size
        self.in_use = in_use


class EmbeddingFailed(AgentStoreError):
    """The embedder gave no vectors, or other ones than it should. The call may be repeated.

    What was to be stored is stored: memories wait for their vectors, and are found by their words.
    """


class UnknownOutcome(AgentStoreError):
    """The connection broke before the answer to a write came: it may have happened, or not.

    Look before you repeat the call.
    """


class ExtractionFailed(AgentStoreError):
    """An extractor could not say what is in a conversation. The conversation waits in the queue for another try.

    ``outage``: the reason is the endpoint, so that others would fare no better now, and not this conversation.
    ``retry_after``: the seconds that the endpoint asked for.
    """

    def __init__(self, message: str, *, outage: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.outage = outage
        self.retry_after = retry_after


class SandboxUnavailable(AgentStoreError):
    """No sandbox can be made here, or the one that there is cannot be reached from here, or does not answer in time."""


class SandboxElsewhere(SandboxUnavailable):
    """The sandbox lives where it cannot be reached from here: another replica can. The message says where that is."""


class SandboxLost(AgentStoreError):
    """The sandbox ended, or its lease passed and went to another: ``connect`` again."""


class SandboxFailed(AgentStoreError):
    """What makes sandboxes answered with an error, or not in its own protocol."""


class StatementFailed(AgentStoreError):
    """Postgres refused a statement; ``sqlstate`` is its five-character code."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class SchemaBehind(AgentStoreError):
    """The database's schema is older than this release needs."""


class SchemaAhead(AgentStoreError):
    """The database's schema has a revision that this release does not know."""
