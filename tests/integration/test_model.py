"""A stateful test: the in-memory service and the one on Postgres, side by side, never disagree."""

import asyncio
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from agentstore import (
    AgentStoreError,
    InMemorySessionHistoryService,
    Message,
    PostgresSessionHistoryService,
    Session,
    SessionHistoryService,
    Settings,
    TextContent,
)

_users = st.sampled_from(["alice", "bob", "", "a:b", "密"])
_sessions = st.sampled_from(["s", "t", "u:v", " s ", "%"])
_ids = st.sampled_from([f"m{number}" for number in range(6)])
_number = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    st.none() | st.booleans() | _number | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_metadata = st.dictionaries(st.text(), _json, max_size=2)
_messages = st.builds(
    lambda id, words, metadata: Message(id=id, role="user", content=[TextContent(text=words)], metadata=metadata),
    _ids,
    st.sampled_from(["hello", "world", "\0", "\ud800"]),
    st.none() | _metadata,
)


def _plain(result: Any) -> Any:
    """A result without its times, which differ, and its lists without their order, which depends on them."""
    if isinstance(result, Session):
        return result.model_dump(exclude={"created_at", "updated_at"})
    if isinstance(result, AgentStoreError):
        return type(result)
    if hasattr(result, "next_cursor"):
        return sorted((_plain(each) for each in result), key=lambda each: each["id"])
    return result


def test_in_memory_and_postgres_never_disagree(database_url: str, settings: Settings) -> None:
    runner = asyncio.Runner()
    postgres = PostgresSessionHistoryService(database_url, settings=settings)
    runs = 0

    class Model(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            nonlocal runs
            runs += 1
            self.prefix = f"run {runs} "  # users of its own
            self.memory = InMemorySessionHistoryService()

        def both(self, name: str, user: str, *arguments: Any, **options: Any) -> None:
            async def call(service: SessionHistoryService) -> Any:
                try:
                    return await getattr(service, name)(self.prefix + user, *arguments, **options)
                except AgentStoreError as error:
                    return error

            one, two = runner.run(call(self.memory)), runner.run(call(postgres))
            assert _plain(one) == _plain(two)

        @rule(
            user=_users,
            session=_sessions,
            exist_ok=st.booleans(),
            metadata=st.dictionaries(st.text(), _json, max_size=2),
        )
        def create(self, user: str, session: str, exist_ok: bool, metadata: dict[str, Any]) -> None:
            self.both("create_session", user, session, exist_ok=exist_ok, title=session or None, metadata=metadata)

        @rule(user=_users, session=_sessions, messages=st.lists(_messages, max_size=4))
        def append(self, user: str, session: str, messages: list[Message]) -> None:
            async def call(service: SessionHistoryService) -> Any:
                target = Session(id=session, user_id=self.prefix + user)
                try:
                    await service.append_message(target, messages)
                except AgentStoreError as error:
                    return error, target.messages
                return None, target.messages

            one, two = runner.run(call(self.memory)), runner.run(call(postgres))
            assert (_plain(one[0]), one[1]) == (_plain(two[0]), two[1])

        @rule(user=_users, session=_sessions, limit=st.none() | st.integers(0, 5), before=st.none() | _ids)
        def get(self, user: str, session: str, limit: int | None, before: str | None) -> None:
            self.both("get_session", user, session, limit=limit, before=before)

        @rule(user=_users, session=_sessions)
        def delete(self, user: str, session: str) -> None:
            self.both("delete_session", user, session)

        @rule(user=_users, session=_sessions, title=st.none() | st.sampled_from(["x", "密", "\0"]))
        def set_title(self, user: str, session: str, title: str | None) -> None:
            self.both("set_title", user, session, title)

        @rule(user=_users, session=_sessions, metadata=_metadata)
        def set_metadata(self, user: str, session: str, metadata: dict[str, Any]) -> None:
            self.both("set_metadata", user, session, metadata)

        @invariant()
        def lists_agree(self) -> None:
            for user in ("alice", "a:b"):
                self.both("list_sessions", user)

    with runner:
        run_state_machine_as_test(Model, settings=_settings)
        runner.run(postgres.stop())


_settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
