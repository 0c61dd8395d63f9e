"""Translation of the driver's errors: the outcome of a failed statement, and the exception to raise."""

import re
import ssl
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError

from agentstore.database.row_security import filtered_view_error, is_filtered_view_error
from agentstore.errors import (
    AgentStoreError,
    LimitExceeded,
    NotConfigured,
    ReadOnly,
    SchemaBehind,
    StatementFailed,
    StatementTimeout,
    Unavailable,
    UnreadableRow,
)


class Outcome(Enum):
    """The outcome of a statement that raised an error."""

    REJECTED = auto()  # the server refused it; executing it again fails in the same way
    ROLLED_BACK = auto()  # it had no effect, and executing it again may succeed
    UNKNOWN = auto()  # the response was lost: it may have been committed


DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

# Raised by the driver directly, or wrapped by SQLAlchemy, depending on SQLAlchemy's version.
# ValueError: an invalid host name.
CONNECT_ERRORS = (DBAPIError, AsyncAdapt_asyncpg_dbapi.Error, ValueError, *DRIVER_ERRORS)

# The server connection has no prepared statement of this name, or one of another client: a pooler shares it.
SHARED_STATEMENTS = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)

# Reported before or instead of a commit: admin_shutdown, cannot_connect_now, deadlock_detected, serialization_failure,
# idle_in_transaction_session_timeout.
_ROLLED_BACK = {"57P01", "57P03", "40P01", "40001", "25P03"}
_QUERY_CANCELED, _TRANSACTION_TIMEOUT, _LOCK_NOT_AVAILABLE = "57014", "25P04", "55P03"
_READ_ONLY = "25006"
# statement_completion_unknown, which poolers and compatible databases report.
_UNKNOWN_COMPLETION = "40003"
_ACCESS_DENIED = {"28000", "28P01", "3D000", "42501"}
_UNDEFINED = {"42P01", "42703", "3F000"}
# Of Citus' coordinator about one of its workers. The outcome is known only where no connection was opened.
_WORKER_LOST = re.compile(
    r"connection to the remote node (?:[^@\s]*@)?(?P<node>\S+) failed with the following error: (?P<reason>.*)"
    r"|failure on connection marked as essential: (?P<essential>\S+)",
    re.DOTALL,
)
_NOT_CONNECTED = re.compile(
    r"Connection refused|timeout expired|could not translate|No route to host|the database system is"
    r"|not currently accepting connections|too many clients"
)
_OUT_OF_RESOURCES = {"53000", "53100", "53200", "53300", "53400", "57P04", "58000", "58030"}


def _unwrap(error: BaseException) -> BaseException:
    """Return the driver's error inside SQLAlchemy's wrappers."""
    while True:
        if isinstance(error, DBAPIError) and error.orig is not None:
            error = error.orig
        elif not isinstance(error, DRIVER_ERRORS) and error.__cause__ is not None:
            error = error.__cause__
        else:
            return error


def is_connection_limit(error: BaseException) -> bool:
    """Return whether a connection was refused since the server, database, role or pooler allows no more of them."""
    error = _unwrap(error)
    # PgBouncer's message has the code of a protocol violation.
    return getattr(error, "sqlstate", None) == "53300" or "no more connections allowed" in str(error)


def is_read_only(error: BaseException) -> bool:
    """Return whether a write was refused because the server accepts none now."""
    return getattr(_unwrap(error), "sqlstate", None) == _READ_ONLY


def classify_error(error: BaseException, where: str) -> tuple[Outcome, AgentStoreError]:
    """Return the outcome of the statement that raised `error`, and the exception to raise; `where` is the database."""
    error = _unwrap(error)
    if isinstance(error, asyncpg.PostgresConnectionError) and isinstance(error.__cause__, asyncpg.PostgresError):
        error = error.__cause__  # the last error that the server sent before the connection closed
    if isinstance(error, TimeoutError):
        return Outcome.UNKNOWN, Unavailable(f"{where} did not answer within AGENTSTORE_STATEMENT_TIMEOUT")
    if isinstance(error, asyncpg.InternalClientError) and "cannot switch to state" in str(error):
        # The server's termination message arrived before the statement was sent; asyncpg has not seen EOF yet.
        return Outcome.ROLLED_BACK, Unavailable(f"The connection to {where} was closed by the server")
    state = getattr(error, "sqlstate", None)
    if isinstance(error, asyncpg.PostgresError) and (lost := _WORKER_LOST.search(str(error))) is not None:
        return _worker_error(lost, where)
    if not isinstance(error, asyncpg.PostgresError) or state is None or state[:2] == "08":
        return Outcome.UNKNOWN, Unavailable(f"The connection to {where} was lost: {error}")
    if state in _ROLLED_BACK:
        return Outcome.ROLLED_BACK, Unavailable(f"{where} rolled back a statement: {error}")
    if state == _READ_ONLY:
        return Outcome.ROLLED_BACK, ReadOnly(
            f"{where} accepts no writes now: {error}. It is a standby, or was made read-only, as by a provider "
            "whose disk is full: run `agentstore doctor`. Nothing was written, and a retry helps only after a "
            "failover: name all hosts in the URL, with target_session_attrs=read-write."
        )
    if state == _UNKNOWN_COMPLETION:
        return Outcome.UNKNOWN, Unavailable(f"{where} does not know whether a statement was completed: {error}")
    if isinstance(error, SHARED_STATEMENTS):
        return Outcome.REJECTED, NotConfigured(
            f"{where} is a connection pooler in transaction mode, which breaks prepared statements: set "
            f"AGENTSTORE_POOLER=transaction; for an engine, its statement_cache_size to 0. ({error})"
        )
    if state in ("57P02", "57P05"):
        return Outcome.UNKNOWN, Unavailable(f"{where} is shutting down: {error}")
    if is_filtered_view_error(error):
        return Outcome.REJECTED, filtered_view_error(where)
    if state in _ACCESS_DENIED:
        return Outcome.REJECTED, NotConfigured(f"{where} denied access: {error}. Run `agentstore check` for details.")
    if state in _UNDEFINED:
        return Outcome.REJECTED, SchemaBehind(
            f"{where} lacks a table or column that this release needs ({error}): run `agentstore upgrade`."
        )
    # The two causes of a canceled query differ in the message only. Where the server translates it, the usual one is
    # assumed.
    if state == _TRANSACTION_TIMEOUT or (state == _QUERY_CANCELED and "user request" not in str(error)):
        return Outcome.REJECTED, StatementTimeout(
            f"{where} canceled a statement, which had no effect ({error}): raise AGENTSTORE_STATEMENT_TIMEOUT, or the "
            "limit of the role or engine if that is lower, or do less in one call. A retry takes as long."
        )
    if state == _LOCK_NOT_AVAILABLE:
        return Outcome.REJECTED, Unavailable(
            f"{where} could not execute a statement now, since another transaction has held a lock for longer than "
            f"AGENTSTORE_LOCK_TIMEOUT: {error}"
        )
    if state in _OUT_OF_RESOURCES or state == _QUERY_CANCELED:
        return Outcome.REJECTED, Unavailable(f"{where} could not execute a statement now: {error}")
    if state[:2] == "54":
        return Outcome.REJECTED, LimitExceeded(f"A statement exceeds a limit of {where}: {error}")
    return Outcome.REJECTED, StatementFailed(f"{where} rejected a statement: {error}", state)


def _worker_error(lost: re.Match[str], where: str) -> tuple[Outcome, AgentStoreError]:
    """Return the outcome of a statement for which a worker of a distributed database could not be reached."""
    reason = (lost["reason"] or "the connection was lost").split("\n")[0].strip()
    translated = Unavailable(
        f"The worker {lost['node'] or lost['essential']} of {where}, which stores the rows of some users, could not be "
        f"reached: {reason}"
    )
    return Outcome.REJECTED if _NOT_CONNECTED.search(lost["reason"] or "") else Outcome.UNKNOWN, translated


def undecodable(values: Mapping[str, Any]) -> UnreadableRow:
    """Return the error for a row that the driver could not decode; `values` are the parameters of the statement."""
    reason = "a timestamp is not in the years 1 to 9999, as only another program writes it"
    return UnreadableRow(reason, None, values.get("user_id"), values.get("session_id"))


def translate_error(error: BaseException, where: str) -> AgentStoreError:
    """Return the exception to raise for a failed statement whose outcome makes no difference to the caller."""
    return classify_error(error, where)[1]


def connection_error(error: BaseException, where: str) -> AgentStoreError:
    """Return the exception to raise for a connection that could not be opened."""
    error = _unwrap(error)
    if isinstance(error, AgentStoreError):
        return error
    if "unsupported startup parameter" in str(error):
        return NotConfigured(f"{where} is a connection pooler: set AGENTSTORE_POOLER=transaction. ({error})")
    if is_filtered_view_error(error):
        return filtered_view_error(where)
    if isinstance(error, (ValueError, ssl.SSLCertVerificationError)):
        return NotConfigured(f"The connection to {where} is not configured correctly: {error}")
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return NotConfigured(
            f"{where} names a database that does not exist: correct the URL, or create it with CREATE DATABASE"
        )
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate in _ACCESS_DENIED:
        return NotConfigured(f"{where} rejected the login: {error}")
    if isinstance(error, TimeoutError):
        return Unavailable(f"{where} could not be reached in time")
    if is_read_only(error):
        return translate_error(error, where)
    return Unavailable(f"{where} could not be reached: {error}")


def advice_on_size(*, is_shared: bool, is_limited: bool) -> str:
    """Return what to do where no connection became free: other loops may have some, the server may refuse more."""
    if is_limited:
        return "The server refuses more: raise its connection limit, or that of the database or role."
    if is_shared:
        return "Raise AGENTSTORE_POOL_SIZE: several event loops of this process share it."
    return "Raise AGENTSTORE_POOL_SIZE, or find out what holds the connections."
