"""Retries after conflicts with concurrent writers: which errors are retried, how often, and what is raised in the end.

These SQLSTATEs are conflicts; a statement or transaction that failed with one of them had no effect:

- 23503 (foreign_key_violation): the user, session or bucket was deleted after the statement had found or created it.
- 23505 (unique_violation): another client inserted the row after the statement had found that it was missing.
- 40P01 (deadlock_detected), 40001 (serialization_failure): the server rolled back the transaction in favor of another.

:meth:`Database.fetch` retries a statement after the last two by itself; transactions, and statements after a violated
constraint, are retried by :func:`retry`, as only the caller knows what to check before. Migrations have a loop of their
own, which also retries 55P03 (lock_not_available) until a deadline.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from agentstore.database.telemetry import note_retry
from agentstore.errors import AgentStoreError, StatementFailed, Unavailable

FOREIGN_KEY_VIOLATION, UNIQUE_VIOLATION = "23503", "23505"
CONFLICTS = frozenset({FOREIGN_KEY_VIOLATION, UNIQUE_VIOLATION})
ROLLED_BACK = frozenset({"40P01", "40001"})

ATTEMPTS = 20
"""The maximum number of attempts; with the delays between them, they take a second on average."""

T = TypeVar("T")


async def retry(
    work: Callable[[int], Awaitable[T | None]],
    failure: str,
    *,
    attempts: int = ATTEMPTS,
    repeated: tuple[type[AgentStoreError], ...] = (),
    error: type[AgentStoreError] = Unavailable,
) -> T:
    """Return the result of `work`, which is called again after a conflict, or if it returns None.

    Args:
        work: receives the number of the attempt, from 0. It begins a transaction of its own, if it needs one.
        failure: the beginning of the message if no attempt succeeds: "could not create session 's'".
        attempts: the maximum number of calls.
        repeated: other errors after which `work` is safe to repeat. The last one is raised unchanged.
        error: the exception for `failure`.

    Raises:
        `error`: every attempt had a conflict. Its cause is that of the last attempt.
        AgentStoreError: `work` raised another error.
    """
    cause: AgentStoreError | None = None
    for attempt in range(attempts):
        if attempt:
            note_retry(cause, attempt)
            await back_off(attempt - 1)
        try:
            result = await work(attempt)
        except AgentStoreError as raised:
            if isinstance(raised, repeated):
                if attempt == attempts - 1:
                    raise
            elif not is_conflict(raised):
                raise
            cause = raised
        else:
            if result is not None:
                return result
            cause = None
    raise error(f"{failure} in {attempts} attempts, because of concurrent writes: try again later") from cause


def is_conflict(error: AgentStoreError) -> bool:
    """Return whether a statement or transaction failed because of concurrent writes, and had no effect."""
    if isinstance(error, StatementFailed):
        return error.sqlstate in CONFLICTS
    return isinstance(error, Unavailable) and getattr(error.__cause__, "sqlstate", None) in ROLLED_BACK


async def back_off(attempt: int) -> None:
    """Sleep before a retry: exponential backoff with full jitter, up to 128 ms."""
    await asyncio.sleep(random.random() * 0.002 * 2 ** min(attempt, 6))  # noqa: S311
