"""The helper that retries after conflicts: what it retries, how often, and what it raises in the end."""

import pytest

from agentstore.database import retry as retries
from agentstore.database.retry import ATTEMPTS, retry
from agentstore.errors import (
    AgentStoreError,
    Conflict,
    NotFound,
    PoolTimeout,
    StatementFailed,
    Unavailable,
    UnknownOutcome,
)


class _Refused(Exception):
    """An error of the driver."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def _rolled_back(sqlstate: str) -> Unavailable:
    error = Unavailable("rolled back")
    error.__cause__ = _Refused(sqlstate)
    return error


class _Work:
    """Fails with the errors, in order, then returns a result; records the numbers of its attempts."""

    def __init__(self, *errors: AgentStoreError | None, result: object = "done") -> None:
        self.errors = list(errors)
        self.result = result
        self.attempts: list[int] = []

    async def __call__(self, attempt: int) -> object:
        self.attempts.append(attempt)
        if not self.errors:
            return self.result
        if (error := self.errors.pop(0)) is not None:
            raise error
        return None


async def test_conflicts_and_missing_results_are_retried() -> None:
    work = _Work(
        *(StatementFailed("x", each) for each in ("23503", "23505")),
        *map(_rolled_back, ("40P01", "40001")),
        None,
        result=False,
    )
    assert await retry(work, "could not") is False
    assert work.attempts == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "error",
    [StatementFailed("x", "23514"), _rolled_back("25006"), Unavailable("x"), UnknownOutcome("x"), NotFound("x")],
    ids=repr,
)
async def test_other_errors_are_raised_at_once(error: AgentStoreError) -> None:
    work = _Work(error)
    with pytest.raises(type(error)) as raised:
        await retry(work, "could not")
    assert raised.value is error
    assert len(work.attempts) == 1


async def test_attempts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []

    async def record(attempt: int) -> None:
        waits.append(attempt)

    monkeypatch.setattr(retries, "back_off", record)
    last = StatementFailed("last", "23505")
    work = _Work(*(StatementFailed("x", "23503") for _ in range(ATTEMPTS - 1)), last)
    with pytest.raises(Unavailable, match=rf"could not write in {ATTEMPTS} attempts, because of") as raised:
        await retry(work, "could not write")
    assert raised.value.__cause__ is last
    assert (work.attempts, waits) == (list(range(ATTEMPTS)), list(range(ATTEMPTS - 1)))

    work = _Work(*[None] * 3)
    with pytest.raises(Conflict, match="could not write in 3 attempts") as conflict:
        await retry(work, "could not write", attempts=3, error=Conflict)
    assert conflict.value.__cause__ is None
    assert len(work.attempts) == 3


async def test_the_last_repeated_error_is_raised_unchanged() -> None:
    last = PoolTimeout("last")
    work = _Work(UnknownOutcome("x"), StatementFailed("x", "23505"), last)
    with pytest.raises(PoolTimeout) as raised:
        await retry(work, "could not", attempts=3, repeated=(Unavailable, UnknownOutcome))
    assert raised.value is last
    work = _Work(UnknownOutcome("x"), last)
    assert await retry(work, "could not", attempts=3, repeated=(Unavailable, UnknownOutcome)) == "done"
