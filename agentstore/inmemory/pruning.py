"""Pruning of the store without a database, by the rules of docs/retention.md."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from agentstore.inmemory.blobs import InMemoryBlobService
from agentstore.inmemory.checkpoints import InMemoryCheckpointService
from agentstore.inmemory.documents import expired_documents
from agentstore.inmemory.memory import InMemoryMemoryService
from agentstore.inmemory.sandboxes import Workspaces
from agentstore.inmemory.sessions import InMemorySessionHistoryService
from agentstore.inmemory.states import InMemoryStateService
from agentstore.schemas import Pruned
from agentstore.schemas.retention import PruneOptions
from agentstore.settings import Settings


@dataclass(frozen=True)
class _Unit:
    """A session, the memories of a session, or the states of one."""

    id: str
    updated_at: datetime
    expires_at: datetime | None

    @property
    def rank(self) -> tuple[datetime, bytes]:
        return self.updated_at, self.id.encode()


class InMemoryPruning:
    """One run over all users. Memories and states are deleted before sessions, and again with their sessions."""

    def __init__(
        self,
        sessions: InMemorySessionHistoryService,
        memory: InMemoryMemoryService,
        states: InMemoryStateService,
        blobs: InMemoryBlobService,
        checkpoints: InMemoryCheckpointService,
        workspaces: Workspaces,
        options: PruneOptions,
        *,
        settings: Settings,
        dry_run: bool,
    ) -> None:
        """Configure a run. With `dry_run` nothing is deleted, only counted."""
        self._sessions = sessions
        self._memory = memory
        self._states = states
        self._blobs = blobs
        self._checkpoints = checkpoints
        self._workspaces = workspaces
        self._options = options
        self._settings = settings
        self._dry_run = dry_run
        self._now = datetime.now(UTC)

    def prune_user(self, user_id: str) -> Pruned:
        """Prune the data of a user, and return how much was deleted."""
        sessions = self._units(
            {id: each.updated_at for id, each in self._sessions._users.get(user_id, {}).items()},
            lambda id: self._session_ttl(user_id, id),
        )
        buckets = self._memory._users.get(user_id, {})
        heads = {key[1]: head for key, head in self._states._heads.items() if key[0] == user_id}
        units = {
            "memories": self._units(
                {id: self._memory._updated_at[user_id, id] for id in buckets}, lambda _: self._settings.memory_ttl
            ),
            "states": self._units(
                {id: head.updated_at for id, head in heads.items()}, lambda _: self._settings.state_ttl
            ),
        }
        gone: dict[str, set[str]] = {kind: self._choose(kind, of_kind, sessions) for kind, of_kind in units.items()}
        gone["memories"].update(expired_documents(self._memory, user_id))
        gone["sessions"] = self._choose("sessions", sessions, {})
        for id in gone["sessions"]:
            for kind in self._options.following:
                cutoff = self._cutoff(kind, sessions[id])
                unit = units[kind].get(id)
                if cutoff is not None and unit is not None and unit.updated_at < cutoff:
                    gone[kind].add(id)
        pruned = self._delete_rounds(heads, gone["states"]) + self._delete_workspaces(user_id, sessions, gone)
        pruned += self._delete_blobs(user_id, sessions, gone)
        pruned += self._delete_checkpoints(user_id, sessions, gone)
        return pruned + self._delete(user_id, gone)

    def _session_ttl(self, user_id: str, session_id: str) -> int | None:
        ttl = self._sessions._users[user_id][session_id].ttl
        return self._settings.session_ttl if ttl is None else ttl

    def _units(self, times: Mapping[str, datetime], ttl: Callable[[str], int | None]) -> dict[str, _Unit]:
        found = {}
        for id, updated_at in times.items():
            seconds = ttl(id)
            expires_at = None if seconds is None else updated_at + timedelta(seconds=seconds)
            found[id] = _Unit(id, updated_at, expires_at)
        return found

    def _has_expired(self, unit: _Unit) -> bool:
        return unit.expires_at is not None and unit.expires_at <= self._now

    def _choose(self, kind: str, units: Mapping[str, _Unit], sessions: Mapping[str, _Unit]) -> set[str]:
        """Return what is deleted by its own age, or since it has expired."""
        before, keep = self._options.before, self._options.keep[kind]
        follows = kind in self._options.following and self._options.retains_sessions
        ranked = [each for each in units.values() if not self._has_expired(each)]
        ranked = [each for each in ranked if not (follows and each.id in sessions)]
        last = {each.id for each in sorted(ranked, key=lambda each: each.rank, reverse=True)[:keep]}
        return {
            each.id
            for each in units.values()
            if self._has_expired(each)
            or (
                before is not None
                and each.updated_at < before
                and each.id not in last
                and not (follows and each.id in sessions)
            )
        }

    def _cutoff(self, kind: str, session: _Unit) -> datetime | None:
        """Return before which time the memories or states were written that go with a session; None if none do."""
        before = self._options.before
        if kind == "memories" or self._settings.state_ttl is not None or not self._has_expired(session):
            return before
        assert session.expires_at is not None  # noqa: S101
        return session.expires_at if before is None else max(before, session.expires_at)

    def _delete_rounds(self, heads: Mapping[str, Any], gone: set[str]) -> Pruned:
        before = self._options.before
        pruned = Pruned()
        for id, head in heads.items():
            numbers = sorted(head.rounds)
            keep = max(self._options.keep["states"], 1)
            old = [each for each in numbers[:-keep] if before is not None and head.rounds[each].saved_at < before]
            if id not in gone:
                pruned += Pruned(state_rounds=len(old), bytes=sum(len(head.rounds[each].payload) for each in old))
                for each in () if self._dry_run else old:
                    del head.rounds[each]
        return pruned

    def _delete_workspaces(self, user_id: str, sessions: Mapping[str, _Unit], gone: Mapping[str, set[str]]) -> Pruned:
        if self._options.before is None:
            return Pruned()
        pruned = Pruned()
        for key, (archive, saved_at) in list(self._workspaces.items()):
            if key[0] != user_id:
                continue
            has_session = key[1] in sessions and key[1] not in gone["sessions"]
            if saved_at < self._options.before and not (self._options.retains_sessions and has_session):
                pruned += Pruned(workspaces=1, bytes=len(archive))
                if not self._dry_run:
                    del self._workspaces[key]
        return pruned

    def _delete_blobs(self, user_id: str, sessions: Mapping[str, _Unit], gone: Mapping[str, set[str]]) -> Pruned:
        pruned = Pruned()
        for blob, _ in list(self._blobs._versions_of(user_id)):
            has_session = blob.session_id in sessions and blob.session_id not in gone["sessions"]
            is_old = self._options.before is not None and blob.saved_at < self._options.before
            if is_old and not (self._options.retains_sessions and has_session):
                pruned += Pruned(blobs=1, bytes=blob.size)
                if not self._dry_run:
                    self._blobs._delete_version(blob)
        return pruned

    def _delete_checkpoints(self, user_id: str, sessions: Mapping[str, _Unit], gone: Mapping[str, set[str]]) -> Pruned:
        pruned = Pruned()
        for key, stored in list(self._checkpoints._sessions.items()):
            has_session = key[1] in sessions and key[1] not in gone["sessions"]
            is_old = self._options.before is not None and stored.updated_at < self._options.before
            if key[0] == user_id and is_old and not (self._options.retains_sessions and has_session):
                pruned += Pruned(checkpoints=len(stored.checkpoints), bytes=stored.size())
                if not self._dry_run:
                    del self._checkpoints._sessions[key]
        return pruned

    def _delete(self, user_id: str, gone: Mapping[str, set[str]]) -> Pruned:
        """Count and delete what was chosen."""
        messages = [text for id in gone["sessions"] for text in self._sessions._users[user_id][id].messages.values()]
        memories = [stored.payload for id in gone["memories"] for stored in self._memory._users[user_id][id].values()]
        rounds = [each.payload for id in gone["states"] for each in self._states._heads[user_id, id].rounds.values()]
        if not self._dry_run:
            for id in gone["sessions"]:
                del self._sessions._users[user_id][id]
            for id in gone["memories"]:
                self._memory._drop(user_id, id)
            for id in gone["states"]:
                del self._states._heads[user_id, id]
        return Pruned(
            sessions=len(gone["sessions"]),
            messages=len(messages),
            memories=len(memories),
            state_rounds=len(rounds),
            bytes=sum(len(text.encode()) for text in (*messages, *memories, *rounds)),
        )
