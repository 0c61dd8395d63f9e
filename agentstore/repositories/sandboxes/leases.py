"""The sandboxes that one service uses, and the renewal of their leases."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from agentstore.database.database import Database
from agentstore.database.statement import Row
from agentstore.errors import AgentStoreError, SandboxFailed, SandboxUnavailable
from agentstore.event_loops import notify_after_fork
from agentstore.interfaces import SandboxProvider
from agentstore.repositories.sandboxes.statements import EXPIRED, FIND, RENEW
from agentstore.repositories.sandboxes.tasks import BackgroundTasks
from agentstore.schemas import SandboxSpec
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

_EXPIRED_PAGE = 100

Key = tuple[str, str, str]
"""User, session and type."""


@dataclass(slots=True, eq=False)
class Lease:
    """A sandbox that this service uses. Times are those of the monotonic clock.

    ``handle`` stays empty until the workspace is restored: before that, the sandbox is neither used nor saved.
    """

    key: Key
    spec: SandboxSpec
    generation: int
    # Whether this service created the sandbox. If so, it destroys it on stop, and after losing it.
    is_own: bool
    # No other process can take the sandbox over before this time.
    expires_at: float
    handle: str = ""
    is_lost: bool = False
    calls_in_progress: int = 0
    used_at: float = field(default_factory=time.monotonic)
    saved_at: float = field(default_factory=time.monotonic)
    # When saving the workspace was last attempted, successfully or not.
    save_tried_at: float = 0.0

    @property
    def where(self) -> dict[str, Any]:
        """The parameters of a statement that matches this generation of the row."""
        user_id, session_id, type_ = self.key
        return {"user_id": user_id, "session_id": session_id, "type": type_, "generation": self.generation}

    def __str__(self) -> str:
        return f"sandbox {self.key[2]!r} of user {self.key[0]!r}, session {self.key[1]!r}"


class Leases:
    """The leases of one service by key. Iterating yields the leases of that moment."""

    def __init__(
        self, database: Database, settings: Settings, provider: SandboxProvider, tasks: BackgroundTasks
    ) -> None:
        self._database = database
        self._settings = settings
        self._provider = provider
        self._owner = uuid4().hex
        self._tasks = tasks
        self._leases: dict[Key, Lease] = {}
        notify_after_fork(self)

    def after_fork(self) -> None:
        """Leave the sandboxes of the parent to it."""
        self._owner = uuid4().hex
        self.clear()

    @property
    def owner(self) -> str:
        """The name of this service and process in the registry."""
        return self._owner

    def __iter__(self) -> Iterator[Lease]:
        return iter(list(self._leases.values()))

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def duration(self) -> timedelta:
        """The duration of a lease: AGENTSTORE_SANDBOX_LEASE."""
        return timedelta(seconds=self._settings.sandbox_lease)

    def get(self, key: Key) -> Lease | None:
        """Return the lease of this service for a key, or None."""
        return self._leases.get(key)

    def add(self, lease: Lease) -> None:
        """Add a lease, or replace the one of the same key."""
        self._leases[lease.key] = lease

    def clear(self) -> None:
        """Mark every lease as lost and remove it."""
        for lease in self._leases.values():
            lease.is_lost = True
        self._leases = {}

    def from_row(self, row: Row) -> Lease:
        """Return this service's lease for a row, or else a new one, not added, that describes the row's sandbox."""
        key = (row["user_id"], row["session_id"], row["type"])
        lease = self._leases.get(key)
        if lease is not None and lease.generation == row["generation"]:
            return lease
        is_own = row["owner"] == self._owner
        handle = "" if row["state"] == "starting" else row["handle"] or ""
        return Lease(key, SandboxSpec(key[2]), row["generation"], is_own, expires_at=0.0, handle=handle)

    async def find(self, key: Key) -> Row | None:
        """Read the row of a key."""
        return await self._database.fetch_one(FIND, user_id=key[0], session_id=key[1], type=key[2])

    async def find_expired(self) -> AsyncIterator[Row]:
        """Read the rows of this service's provider whose lease has expired now, of all users and each once.

        The caller may leave a row expired, and may work on one for so long that the lease of an earlier one expires
        again.
        """
        began = time.monotonic()
        key: tuple[datetime, str, str, str] = (datetime.min.replace(tzinfo=UTC), "", "", "")
        while True:
            rows = await self._database.fetch(
                EXPIRED,
                provider=self._provider.name,
                elapsed=timedelta(seconds=time.monotonic() - began),
                after_lease=key[0],
                after_user=key[1],
                after_session=key[2],
                after_type=key[3],
                limit=_EXPIRED_PAGE,
            )
            for row in rows:
                yield row
            if len(rows) < _EXPIRED_PAGE:
                return
            last = rows[-1]
            key = last["lease_until"], last["user_id"], last["session_id"], last["type"]

    async def renew(self, user_id: str, leases: Sequence[Lease]) -> None:
        """Renew leases of one user. Those whose generation is gone are lost, see :meth:`lose`."""
        requested_at = time.monotonic()
        rows = await self._database.fetch(
            RENEW,
            user_id=user_id,
            session_ids=[lease.key[1] for lease in leases],
            types=[lease.key[2] for lease in leases],
            generations=[lease.generation for lease in leases],
            lease_time=self.duration,
        )
        states = {tuple(row)[:3]: row["state"] for row in rows}
        for lease in leases:
            state = states.get((*lease.key[1:], lease.generation))
            if state is None:
                self.lose(lease)
            elif state != "ending":
                lease.expires_at = requested_at + self._settings.sandbox_lease

    async def keep_renewing(self) -> None:
        """Renew the leases of sandboxes in use, three times per lease duration, until canceled."""
        while True:
            await asyncio.sleep(self._settings.sandbox_lease / 3)
            now = time.monotonic()
            users: dict[str, list[Lease]] = {}
            for lease in self:
                if lease.calls_in_progress or now - lease.used_at < self._settings.sandbox_idle:
                    users.setdefault(lease.key[0], []).append(lease)
                elif now >= lease.expires_at:
                    await self._lose_if_reaped(lease)
            for user_id, leases in users.items():
                try:
                    await self.renew(user_id, leases)
                except Exception:  # noqa: BLE001 - the next round retries before the lease expires
                    _log.warning("the leases of user %r's sandboxes were not renewed", user_id, exc_info=True)

    def forget(self, lease: Lease) -> None:
        """Remove a lease, and mark it and this service's lease of the same key as lost, unless that one is newer."""
        lease.is_lost = True
        current = self._leases.get(lease.key)
        if current is not None and current.generation == lease.generation:
            current.is_lost = True
            del self._leases[lease.key]
        elif current is not None and current.generation < lease.generation:
            self.lose(current)

    def lose(self, lease: Lease) -> None:
        """Remove a lease that another process has released or taken over. Destroy the sandbox if it was created here.

        It is destroyed in the background, after the other process has saved its workspace.
        """
        lease.is_lost = True
        if self._leases.get(lease.key) is lease:
            del self._leases[lease.key]
        if lease.is_own and lease.handle:
            _log.warning("the %s was released or reaped by another process", lease)
            self._tasks.start(self._destroy_lost(lease))

    async def try_to_destroy(self, lease: Lease, handle: str) -> bool:
        """Destroy the sandbox; log a failure and return False."""
        try:
            await self._provider.destroy(handle)
        except (SandboxUnavailable, SandboxFailed) as error:
            _log.warning("the %s could not be ended: %s", lease, error)
            return False
        return True

    async def _destroy_lost(self, lease: Lease) -> None:
        """Wait until the process that took the sandbox over has saved its workspace, then destroy it."""
        until = time.monotonic() + self._settings.sandbox_lease + 2 * self._settings.sandbox_timeout
        while time.monotonic() < until:
            try:
                row = await self.find(lease.key)
            except AgentStoreError as error:
                _log.warning("could not find out whether the workspace of the %s is being saved: %s", lease, error)
                break
            if row is None or row["handle"] != lease.handle or row["state"] != "ending" or row["has_expired"]:
                break
            await asyncio.sleep(min(1.0, self._settings.sandbox_lease / 10))
        await self.try_to_destroy(lease, lease.handle)

    async def _lose_if_reaped(self, lease: Lease) -> None:
        """Lose the lease of an idle sandbox once another process has reaped it."""
        try:
            row = await self.find(lease.key)
        except AgentStoreError as error:
            _log.warning("could not find out whether the lease of the %s is still held: %s", lease, error)
            return
        if row is None or row["generation"] != lease.generation:
            self.lose(lease)
