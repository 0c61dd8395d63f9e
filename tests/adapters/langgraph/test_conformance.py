"""LangGraph's conformance suite, with the asynchronous and the synchronous methods, on Postgres and in memory."""

# pyright: reportMissingImports=false
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentstore import AgentStore

pytestmark = pytest.mark.adapters

# As many as the suite has in the release that the Makefile names.
_TESTS = 81


def _blocking(saver: Any) -> Any:
    """Return a saver whose asynchronous methods call the synchronous ones of another saver."""
    from langgraph.checkpoint.base import BaseCheckpointSaver

    class Blocking(BaseCheckpointSaver):  # type: ignore[misc]
        async def aget_tuple(self, config: Any) -> Any:
            return saver.get_tuple(config)

        async def alist(self, config: Any, **options: Any) -> AsyncIterator[Any]:
            for each in saver.list(config, **options):
                yield each

        async def aput(self, *args: Any) -> Any:
            return saver.put(*args)

        async def aput_writes(self, *args: Any, **options: Any) -> None:
            saver.put_writes(*args, **options)

        async def adelete_thread(self, thread_id: str) -> None:
            saver.delete_thread(thread_id)

        async def adelete_for_runs(self, run_ids: Any) -> None:
            saver.delete_for_runs(run_ids)

        async def acopy_thread(self, source: str, target: str) -> None:
            saver.copy_thread(source, target)

        async def aprune(self, thread_ids: Any, **options: Any) -> None:
            saver.prune(thread_ids, **options)

        async def aget_delta_channel_history(self, **options: Any) -> Any:
            return saver.get_delta_channel_history(**options)

    return Blocking()


@pytest.fixture(params=["Postgres", "InMemory"])
def any_store(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("store") if request.param == "Postgres" else AgentStore.in_memory()


@pytest.mark.parametrize("is_blocking", [False, True], ids=["async", "sync"])
async def test_all_tests_of_the_suite_pass(any_store: Any, is_blocking: bool) -> None:
    from langgraph.checkpoint.conformance import checkpointer_test, validate

    from agentstore.adapters.langgraph import AgentStoreSaver

    @checkpointer_test(name="agentstore")  # type: ignore[untyped-decorator, unused-ignore]
    async def savers() -> AsyncIterator[Any]:
        saver = AgentStoreSaver(any_store)
        yield _blocking(saver) if is_blocking else saver

    report = await validate(savers)
    results = report.results.values()
    assert [failure for each in results for failure in each.failures or ()] == []
    assert all(each.detected for each in results)
    assert sum(each.tests_passed for each in results) == _TESTS
