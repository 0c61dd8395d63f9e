"""What the driver raises, and what it is translated into: the outcome of a statement, and our error."""

import ssl
from enum import Enum, auto

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError

from agentstore.errors import (
    AgentStoreError,
    LimitExceeded,
    NotConfigured,
    SchemaBehind,
    StatementFailed,
    Unavailable,
)


class Fate(Enum):
    """What became of a statement that failed."""

    REFUSED = auto()
    UNDONE = auto()  # nothing of it remains, and the same statement may succeed
    UNKNOWN = auto()


DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

# As the driver raises them, or wrapped by SQLAlchemy, which differs from release to release.
# ValueError: a host name that cannot be one.
CONNECT_ERRORS = (DBAPIError, AsyncAdapt_asyncpg_dbapi.Error, ValueError, *DRIVER_ERRORS)

# The server says these before it commits, or instead: admin_shutdown, cannot_connect_now, read_only, deadlock,
# serialization failure.
_UNDONE = {"57P01", "57P03", "25006", "40P01", "40001"}
_LOGIN = {"28000", "28P01", "3D000", "42501"}
_MISSING = {"42P01", "42703", "3F000"}
_BUSY = {"53000", "53100", "53200", "53300", "53400", "55P03", "57014", "57P04", "58000", "58030"}


def _cause(error: BaseException) -> BaseException:
    """The driver's error in SQLAlchemy's wrappings."""
    while True:
        if isinstance(error, DBAPIError) and error.orig is not None:
            error = error.orig
        elif not isinstance(error, DRIVER_ERRORS) and error.__cause__ is not None:
            error = error.__cause__
        else:
            return error


def translate_error(error: BaseException, where: str) -> tuple[Fate, AgentStoreError]:
    """What became of the statement that ended in `error`, and the error to raise."""
    if isinstance(error, asyncpg.PostgresConnectionError) and isinstance(error.__cause__, asyncpg.PostgresError):
        error = error.__cause__  # the server's last words before the connection closed
    if isinstance(error, TimeoutError):
        return Fate.UNKNOWN, Unavailable(f"{where} did not answer in time")
    if isinstance(error, asyncpg.InternalClientError) and "cannot switch to state" in str(error):
        # The server's farewell came in before the statement could be sent, and asyncpg has not seen the end yet.
        return Fate.UNDONE, Unavailable(f"The connection to {where} was closed by the server")
    state = getattr(error, "sqlstate", None)
    if not isinstance(error, asyncpg.PostgresError) or state is None or state[:2] == "08":
        return Fate.UNKNOWN, Unavailable(f"The connection to {where} broke: {error}")
    if state in _UNDONE:
        return Fate.UNDONE, Unavailable(f"{where} undid a statement: {error}")
    if state in ("57P02", "57P05"):
        return Fate.UNKNOWN, Unavailable(f"{where} is going down: {error}")
    if state in _LOGIN:
        return Fate.REFUSED, NotConfigured(f"{where} refused: {error}. See what `agentstore check` says.")
    if state in _MISSING:
        return Fate.REFUSED, SchemaBehind(f"{where} lacks what this release needs ({error}): run `agentstore upgrade`.")
    if state in _BUSY:
        return Fate.REFUSED, Unavailable(f"{where} could not do it now: {error}")
    if state[:2] == "54":
        return Fate.REFUSED, LimitExceeded(f"{where} has a limit: {error}")
    return Fate.REFUSED, StatementFailed(f"{where} refused a statement: {error}", state)


def connection_error(error: BaseException, where: str) -> AgentStoreError:
    """Return the error to raise for a connection that could not be opened."""
    error = _cause(error)
    if isinstance(error, AgentStoreError):
        return error
    if "unsupported startup parameter" in str(error):
        return NotConfigured(f"{where} is a pooler: set AGENTSTORE_POOLER=transaction. ({error})")
    if isinstance(error, (ValueError, ssl.SSLCertVerificationError)):
        return NotConfigured(f"The connection to {where} is not configured: {error}")
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate in _LOGIN:
        return NotConfigured(f"{where} refused the login: {error}")
    if isinstance(error, TimeoutError):
        return Unavailable(f"{where} could not be reached in time")
    return Unavailable(f"{where} could not be reached: {error}")
