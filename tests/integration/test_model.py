"""A stateful test: the in-memory services and the Postgres services return the same results."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from agentstore import (
    AgentStore,
    AgentStoreError,
    InMemoryMemoryService,
    InMemorySessionHistoryService,
    InMemoryStateService,
    MemoryHit,
    Message,
    Session,
    Settings,
    StateRound,
    TextContent,
)

# The first values are frequent, so that calls meet the data of earlier calls.
_users = st.sampled_from(["alice"] * 4 + ["", "a:b"])
_sessions = st.sampled_from(["s"] * 3 + ["t", " s "])
_namespaces = st.sampled_from([None] * 9 + ["a", "a/b", "b"])
_ids = st.sampled_from([f"m{number}" for number in range(6)])
_places = st.sampled_from(["m0", "m1", "m2", "m5", 0, 1, 2, 9])
_new = st.sampled_from(["f1", "f2", "f3", "t"])
_number = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    st.none() | st.booleans() | _number | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_metadata = st.dictionaries(st.text(), _json, max_size=2)
_states = st.dictionaries(st.text(), _json, max_size=3)
_rounds = st.sampled_from([1, 2, 1, 2, 3, 9])
_TEXTS = ["apples", "pears and apples", "红色的苹果", "plums"]
_words = st.sampled_from([*_TEXTS, "applse", ""])
_memories = st.builds(
    lambda id, words, role: Message(
        id=id, role=role, content=[TextContent(text=words)], metadata={"timestamp": "2026-01-02T03:04:05Z"}
    ),
    _ids,
    _words,
    st.sampled_from(["user", "assistant"]),
)
_messages = st.builds(
    lambda id, words, metadata: Message(id=id, role="user", content=[TextContent(text=words)], metadata=metadata),
    _ids,
    st.sampled_from(["hello", "world", "\0", "\ud800"]),
    st.none() | _metadata,
)


def _plain(result: Any) -> Any:
    """Return a result without timestamps, which differ, and lists sorted, since their order depends on timestamps."""
    if isinstance(result, Session):
        return result.model_dump(exclude={"created_at", "updated_at"})
    if isinstance(result, StateRound):
        return repr(result.model_dump(exclude={"saved_at"}))
    if isinstance(result, MemoryHit):
        return result.message.id, result.session_id, result.position, round(result.score, 9), result.snippet
    if isinstance(result, AgentStoreError):
        return type(result)
    if hasattr(result, "next_cursor"):
        plain = [_plain(each) for each in result]
        return sorted(plain, key=lambda each: each["id"]) if plain and isinstance(plain[0], dict) else plain
    if isinstance(result, list):
        return [_plain(each) for each in result]
    return repr(result) if isinstance(result, dict) else result


@pytest.mark.parametrize("examples", [12, pytest.param(100, marks=pytest.mark.chaos)])
def test_in_memory_and_postgres_return_the_same_results(database_url: str, settings: Settings, examples: int) -> None:
    runner = asyncio.Runner()
    postgres = AgentStore(database_url, settings=settings)
    runs = 0
    effective: Counter[str] = Counter()  # calls with a result that is not empty

    class Model(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            nonlocal runs
            runs += 1
            self.prefix = f"run {runs} "  # each run has its own users
            states = InMemoryStateService()
            self.in_memory: dict[str, Any] = {
                "sessions": InMemorySessionHistoryService(states=states),
                "states": states,
                "memory": InMemoryMemoryService(),
            }

        def compare(self, call: str, user: str, *arguments: Any, **options: Any) -> None:
            kind, name = call.split(".")

            async def execute(service: Any) -> Any:
                try:
                    return await getattr(service, name)(self.prefix + user, *arguments, **options)
                except AgentStoreError as error:
                    return error

            in_memory = runner.run(execute(self.in_memory[kind]))
            in_postgres = runner.run(execute(getattr(postgres, kind)))
            assert _plain(in_memory) == _plain(in_postgres)
            effective[call] += bool(in_memory) and not isinstance(in_memory, AgentStoreError)

        @initialize()
        def begin(self) -> None:
            self.compare("sessions.create_session", "alice", "s")
            for number in range(3):
                self.append("alice", "s", [Message(id=f"m{number}", role="user")])
                self.compare("states.save_state", "alice", {"n": [number, True]}, "s")
            messages = [Message(id=f"m{n}", role="user", content=[TextContent(text=_TEXTS[n])]) for n in range(3)]
            self.compare("memory.add_memory", "alice", messages, "s")
            self.search("alice", _TEXTS[0], {})
            self.diff("alice", "s", 1, 2)
            self.export("alice", "s", None)
            self.get("alice", "s", None, None)
            self.fork("alice", "s", 2, "f0")
            self.rewind("alice", "f0", 1, True, "f4")
            self.delete_state("alice", "f4", None)
            self.delete("alice", "f4")

        @rule(
            user=_users,
            session=_sessions,
            exist_ok=st.booleans(),
            metadata=st.dictionaries(st.text(), _json, max_size=2),
        )
        def create(self, user: str, session: str, exist_ok: bool, metadata: dict[str, Any]) -> None:
            self.compare(
                "sessions.create_session", user, session, exist_ok=exist_ok, title=session or None, metadata=metadata
            )

        @rule(user=_users, session=_sessions, messages=st.lists(_messages, max_size=4))
        def append(self, user: str, session: str, messages: list[Message]) -> None:
            async def call(service: Any) -> Any:
                target = Session(id=session, user_id=self.prefix + user)
                try:
                    await service.append_message(target, messages)
                except AgentStoreError as error:
                    return error, target.messages
                return None, target.messages

            error, appended = runner.run(call(self.in_memory["sessions"]))
            error_in_postgres, appended_in_postgres = runner.run(call(postgres.sessions))
            assert (_plain(error), appended) == (_plain(error_in_postgres), appended_in_postgres)

        @rule(user=_users, session=_sessions, limit=st.none() | st.integers(0, 5), before=st.none() | _ids)
        def get(self, user: str, session: str, limit: int | None, before: str | None) -> None:
            self.compare("sessions.get_session", user, session, limit=limit, before=before)

        @rule(user=_users, session=_sessions)
        def delete(self, user: str, session: str) -> None:
            self.compare("sessions.delete_session", user, session)

        @rule(user=_users, session=_sessions, title=st.none() | st.sampled_from(["x", "密", "\0"]))
        def set_title(self, user: str, session: str, title: str | None) -> None:
            self.compare("sessions.set_title", user, session, title)

        @rule(user=_users, session=_sessions, metadata=_metadata)
        def set_metadata(self, user: str, session: str, metadata: dict[str, Any]) -> None:
            self.compare("sessions.set_metadata", user, session, metadata)

        @rule(user=_users, session=_sessions, at=st.none() | _places, new=_new)
        def fork(self, user: str, session: str, at: str | int | None, new: str) -> None:
            self.compare("sessions.fork_session", user, session, at=at, new_id=new)

        @rule(user=_users, session=_sessions, at=_places, keep=st.booleans(), new=_new)
        def rewind(self, user: str, session: str, at: str | int, keep: bool, new: str) -> None:
            self.compare("sessions.rewind_session", user, session, at, keep=keep, new_id=new)

        @rule(
            user=_users,
            session=_sessions,
            state=_states,
            round_id=st.none() | _rounds,
            expected=st.none() | st.integers(0, 6),
            metadata=st.none() | _metadata,
        )
        def save(
            self,
            user: str,
            session: str,
            state: dict[str, Any],
            round_id: int | None,
            expected: int | None,
            metadata: dict[str, Any] | None,
        ) -> None:
            options = {"expected_round": None if round_id else expected, "metadata": metadata}
            self.compare("states.save_state", user, state, session, round_id, **options)

        @rule(user=_users, session=_sessions, round_id=st.none() | _rounds)
        def export(self, user: str, session: str, round_id: int | None) -> None:
            self.compare("states.export_state", user, session, round_id)

        @rule(user=_users, session=_sessions, a=_rounds, b=_rounds)
        def diff(self, user: str, session: str, a: int, b: int) -> None:
            self.compare("states.diff_states", user, a, b, session)

        @rule(user=_users, session=_sessions, round_id=st.none() | _rounds)
        def delete_state(self, user: str, session: str, round_id: int | None) -> None:
            self.compare("states.delete_state", user, session, round_id)

        @rule(
            user=_users,
            session=_sessions,
            messages=st.lists(_memories, max_size=4),
            namespace=_namespaces,
            metadata=st.sampled_from([None, {"n": 1}, {"n": True}, {"n": 1, "x": "y"}, {"x": None, "n": 1.0}]),
        )
        def remember(
            self, user: str, session: str, messages: list[Message], namespace: str | None, metadata: dict[str, Any]
        ) -> None:
            messages = [each.model_copy(update={"metadata": metadata}) for each in messages]
            self.compare("memory.add_memory", user, messages, session, namespace=namespace)

        @rule(
            user=_users,
            words=_words,
            filters=st.fixed_dictionaries(
                {},
                optional={
                    "top_k": st.integers(0, 5),
                    "session_id": _sessions | st.lists(_sessions, max_size=3),
                    "exclude_session_id": _sessions,
                    "neighbors": st.booleans(),
                    "namespace": _namespaces,
                    "metadata": st.sampled_from([{}, {}, {"n": 1}, {"n": 1.0, "x": None}, {"x": "y"}]),
                    "role": st.sampled_from(["user", "assistant"]),
                    "order": st.just("chronological"),
                    "min_score": st.sampled_from([0.0, 0.5, 2.0]),
                },
            ),
        )
        def search(self, user: str, words: str, filters: dict[str, Any]) -> None:
            question = Message(role="user", content=[TextContent(text=words)])
            self.compare("memory.search", user, question, filters)

        @rule(
            user=_users,
            page=st.integers(1, 3),
            size=st.integers(1, 4),
            of=st.sampled_from([None] * 6 + [["s"], ["t", " s "], []]),
            namespace=_namespaces,
        )
        def list_memory(self, user: str, page: int, size: int, of: list[str] | None, namespace: str | None) -> None:
            filters = {"page_num": page, "page_size": size, "session_id": of, "namespace": namespace}
            self.compare("memory.list_memory", user, filters)

        @rule(user=_users, session=st.none() | _sessions)
        def forget(self, user: str, session: str | None) -> None:
            self.compare("memory.delete_memory", user, session)

        @invariant()
        def lists_agree(self) -> None:
            self.compare("sessions.list_sessions", "alice")
            self.compare("states.list_states", "alice", "s")

    without_result = {"sessions.set_title", "sessions.set_metadata", "memory.add_memory"}

    def is_effective() -> bool:
        return all(count > examples // 20 for call, count in effective.items() if call not in without_result)

    with runner:
        run_state_machine_as_test(Model, settings=_settings(examples))
        for _ in range(10):  # one of the calls may have found nothing in a few random runs
            if not is_effective():
                run_state_machine_as_test(Model, settings=_settings(examples))
        runner.run(postgres.stop())
    assert is_effective(), effective


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=60,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
