"""The sandbox service, whose registry is on Postgres."""

import asyncio
import itertools
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from dataclasses import replace
from functools import partial
from weakref import WeakValueDictionary

from pydantic import SecretStr
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore.database.database import Database
from agentstore.database.retry import back_off, retry
from agentstore.database.statement import Row
from agentstore.database.telemetry import Telemetry
from agentstore.database.url import Password
from agentstore.errors import (
    AgentStoreError,
    Closed,
    InvalidContent,
    SandboxElsewhere,
    SandboxFailed,
    SandboxLost,
    SandboxUnavailable,
)
from agentstore.event_loops import PerLoop
from agentstore.interfaces import Sandbox, SandboxProvider, SandboxService, StopInProgress
from agentstore.repositories.sandboxes.leases import Key, Lease, Leases
from agentstore.repositories.sandboxes.statements import (
    CLAIM,
    DROP,
    LIST,
    LIST_FIRST,
    MARK_ENDING,
    OF_SESSION,
    READY,
    RENEW_ENDING,
    REOPEN,
    TAKE,
    info_from_row,
)
from agentstore.repositories.sandboxes.tasks import BackgroundTasks, cancel_and_wait
from agentstore.repositories.sandboxes.workspaces import Workspaces
from agentstore.repositories.service import PostgresService
from agentstore.repositories.sessions.statements import EXISTS
from agentstore.sandbox.held import HeldSandbox
from agentstore.sandbox.providers import open_provider
from agentstore.schemas import Page, SandboxInfo, SandboxSpec
from agentstore.schemas.page import check_limit, read_cursor, write_cursor
from agentstore.schemas.payload import check_id
from agentstore.schemas.sandbox import specs_of
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

# The number of sandboxes that stop() ends concurrently.
_DRAIN_CONCURRENCY = 8
# After how many seconds without an answer of the database stop() ends no sandbox in order.
_SILENT_AFTER = 2.5
# The slowest accepted rate of restoring a workspace, in bytes per second, in addition to AGENTSTORE_SANDBOX_TIMEOUT.
_SLOWEST_RESTORE = 100_000


class PostgresSandboxService(PostgresService, SandboxService, area="sandboxes"):
    """Sandboxes with a registry on Postgres. See :class:`SandboxService`.

    The service renews the lease of each sandbox that it uses. A sandbox counts as in use until AGENTSTORE_SANDBOX_IDLE
    seconds after its last call. With AGENTSTORE_SANDBOX_SNAPSHOTS its workspace is saved when the sandbox ends, and
    every AGENTSTORE_SANDBOX_SNAPSHOT_INTERVAL seconds, and the next sandbox starts with the stored workspace.
    """

    def __init__(
        self,
        dsn: str | URL | None = None,
        *,
        base_url: str | None = None,
        bearer_token: str | SecretStr | None = None,
        provider: SandboxProvider | str | None = None,
        drain_on_stop: bool = True,
        engine: AsyncEngine | None = None,
        settings: Settings | None = None,
        password: Password | None = None,
        database: Database | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Create a service that is not connected yet.

        `base_url` is the URL of a sandbox server and `bearer_token` its token. Without a URL, `provider` is used: a
        SandboxProvider or the name of one. The default is AGENTSTORE_SANDBOX_PROVIDER; if that is not set, "remote" if
        AGENTSTORE_SANDBOX_URL is set, else "bubblewrap". `stop` ends the sandboxes that this service has created,
        unless `drain_on_stop` is false. The other arguments are those of :class:`PostgresService`.

        Raises:
            NotConfigured: no database is configured, or there is no such provider.
        """
        super().__init__(
            dsn, engine=engine, settings=settings, password=password, database=database, telemetry=telemetry
        )
        self._owns_provider = provider is None or isinstance(provider, str)
        self._provider = open_provider(self._settings, base_url=base_url, bearer_token=bearer_token, provider=provider)
        self._workspaces = Workspaces(self._database, self._settings)
        self._drain = drain_on_stop
        self._host = socket.gethostname()
        self._tasks = BackgroundTasks()
        self._leases = Leases(self._database, self._settings, self._provider, self._tasks)
        self._locks: PerLoop[WeakValueDictionary[Key, asyncio.Lock]] = PerLoop()
        # What runs in each event loop: the first one renews leases, and runs until all sandboxes have ended.
        self._loop_tasks: PerLoop[tuple[asyncio.Task[None], asyncio.Task[None]]] = PerLoop()
        self._connecting = BackgroundTasks()
        self._stopped = False
        self._stop_in_progress = StopInProgress()

    async def start(self) -> None:
        """Connect, check the schema, and check that sandboxes can be created here.

        Raises:
            SandboxUnavailable: they cannot; the message says what to install.
        """
        await self._stop_in_progress.wait()
        self.reopen()
        await super().start()
        await self._provider.start()
        self._check_open()

    def reopen(self) -> None:
        """Accept calls again after a stop. The first call checks that sandboxes can be created here."""
        self._stopped = False

    async def stop(self) -> None:
        """End the sandboxes that this service has created, unless `drain_on_stop` is false, and close connections."""
        self._stopped = True
        with self._stop_in_progress.during():
            await self._stop()

    async def _stop(self) -> None:
        try:
            # Leases are renewed until all sandboxes have ended.
            await cancel_and_wait([*self._connecting, *(tasks[1] for tasks in self._loop_tasks.values())])
            own = [lease for lease in self._leases if lease.is_own] if self._drain else []
            # Without the database, no sandbox can be ended in order: their leases expire.
            if own and not await self._database.is_silent(_SILENT_AFTER):
                semaphore = asyncio.Semaphore(_DRAIN_CONCURRENCY)
                await asyncio.gather(*(self._drain_one(lease, semaphore) for lease in own))
            await self._tasks.wait()
        finally:
            self._leases.clear()
            await cancel_and_wait([task for tasks in self._loop_tasks.clear() for task in tasks])
            if self._owns_provider:
                await self._provider.stop()
            await super().stop()

    async def connect(  # noqa: D102 - documented in the interface
        self, session_id: str, user_id: str | None = None, sandbox_types: Sequence[str] | None = None
    ) -> list[Sandbox]:
        specs = specs_of(sandbox_types)
        user, session = self._ids(user_id, session_id)
        await self._ready()
        leases = {spec.type: await self._connect((user, session, spec.type), spec) for spec in specs}
        return [self._sandbox(leases[spec.type]) for spec in specs]

    async def release(  # noqa: D102
        self, session_id: str, user_id: str | None = None, *, snapshot: bool = True
    ) -> list[SandboxInfo]:
        user, session = self._ids(user_id, session_id)
        await self._ready()
        leases = []
        for row in await self._database.fetch(OF_SESSION, user_id=user, session_id=session):
            lease = self._leases.from_row(row)
            if row["provider"] != self._provider.name:
                raise self._other_provider_error(lease, row)
            if lease.handle and not lease.is_own and not row["has_expired"]:
                with suppress(SandboxLost):  # only its row is left to delete
                    await self._provider.connect(lease.handle)
            leases.append((lease, row))
        ended = []
        for lease, row in leases:
            if row["has_expired"]:
                is_ended = await self._reap(row, force=True, snapshot=snapshot)
            else:
                is_ended = await self._mark_ending(lease) and await self._end(lease, snapshot)
            if is_ended:
                ended.append(info_from_row(row))
        return ended

    async def list(  # noqa: D102
        self, user_id: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[SandboxInfo]:
        user = self._user(user_id)
        check_limit(limit, self._settings.max_page)
        if cursor is None:
            rows = await self._database.fetch(LIST_FIRST, user_id=user, limit=limit)
        else:
            session, type_ = read_cursor(cursor, str, str)
            rows = await self._database.fetch(LIST, user_id=user, limit=limit, after_session=session, after_type=type_)
        next_cursor = write_cursor(rows[-1][1], rows[-1][2]) if rows and len(rows) == limit else None
        return Page(map(info_from_row, rows), next_cursor)

    async def reap(self) -> int:  # noqa: D102
        await self._ready()
        reaped = 0
        async for row in self._leases.find_expired():
            try:
                reaped += await self._reap(row)
            except SandboxElsewhere as error:
                _log.info("the %s is left to other processes: %s", self._leases.from_row(row), error)
            except (SandboxUnavailable, SandboxFailed) as error:  # retried by any process once the lease expires
                _log.warning("the %s could not be ended: %s", self._leases.from_row(row), error)
        return reaped

    async def delete_workspaces(self, session_id: str, user_id: str | None = None) -> int:  # noqa: D102
        user, session = self._ids(user_id, session_id)
        return await self._workspaces.delete(user, session)

    @property
    def _snapshots(self) -> bool:
        return self._settings.sandbox_snapshots and self._provider.keeps_workspaces

    def _ids(self, user_id: str | None, session_id: str) -> tuple[str, str]:
        return self._user(user_id), check_id(session_id, "session_id", self._settings)

    def _user(self, user_id: str | None) -> str:
        return check_id("" if user_id is None else user_id, "user_id", self._settings)

    async def _ready(self) -> None:
        """Start the database, the provider and the background tasks at the first call in this event loop."""
        self._check_open()
        if self._are_loops_running():
            return
        await self._database.start()
        await self._provider.start()
        self._check_open()
        # Checked again without an await before the tasks are created: of several concurrent first calls, one does it.
        if self._are_loops_running():
            return
        loop = asyncio.get_running_loop()
        # In a context of their own: they are no part of the trace of the call that happens to be the first.
        renewing = loop.create_task(self._leases.keep_renewing(), context=Context())
        self._loop_tasks.set((renewing, loop.create_task(self._maintain(), context=Context())))

    def _are_loops_running(self) -> bool:
        tasks = self._loop_tasks.get()
        return tasks is not None and not any(task.done() for task in tasks)

    def _check_open(self) -> None:
        if self._stopped:
            raise Closed("The sandbox service was stopped: call start() to use it again.")

    def _sandbox(self, lease: Lease) -> HeldSandbox:
        user_id, session_id, _ = lease.key
        return HeldSandbox(
            self._provider,
            lease.spec,
            user_id=user_id,
            session_id=session_id,
            generation=lease.generation,
            handle=lease.handle,
            use=partial(self._use, lease),
            timeout=self._settings.sandbox_timeout,
        )

    @asynccontextmanager
    async def _use(self, lease: Lease) -> AsyncIterator[None]:
        """Check that this service still holds the sandbox, and have its lease renewed during the call."""
        self._check_open()
        lease.used_at = time.monotonic()
        if not lease.is_lost and lease.used_at >= lease.expires_at:
            await self._leases.renew(lease.key[0], [lease])
        if lease.is_lost:
            raise SandboxLost(f"the {lease} ended, or its lease expired and it was taken over: call connect again")
        lease.calls_in_progress += 1
        try:
            yield
        finally:
            lease.calls_in_progress -= 1
            lease.used_at = time.monotonic()

    async def _connect(self, key: Key, spec: SandboxSpec) -> Lease:
        """Return the existing sandbox, or create it."""
        row = await self._leases.find(key)
        if row is not None and (lease := await self._reuse(key, spec, row)) is not None:
            return lease
        self._check_open()
        # In a separate task, so that stop() can cancel it.
        task = self._connecting.start(self._connect_exclusively(key, spec))
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is None or not current.cancelling():
                self._check_open()
            raise

    async def _connect_exclusively(self, key: Key, spec: SandboxSpec) -> Lease:
        """Return the existing sandbox, or create it. In this process, one task per key at a time."""
        lock = self._locks.get_or_create(WeakValueDictionary).setdefault(key, asyncio.Lock())
        async with lock:
            began = time.monotonic()
            for attempt in itertools.count():
                if attempt:
                    await back_off(attempt - 1)
                row = await self._leases.find(key)
                seconds = time.monotonic() - began
                # Enough for another process to create it, to end it, or to lose its lease.
                if attempt and seconds > self._settings.sandbox_lease + 2 * self._settings.sandbox_timeout:
                    state = "is claimed by other processes" if row is None else f"is {row['state']} on {row['host']}"
                    raise SandboxUnavailable(
                        f"sandbox {key[2]!r} of user {key[0]!r}, session {key[1]!r} {state}, and could not be used "
                        f"within {seconds:.0f} s: try again later"
                    )
                if row is not None and row["state"] != "ready" and not row["has_expired"]:
                    continue
                if row is not None and (lease := await self._reuse(key, spec, row)) is not None:
                    return lease
                if row is not None and row["provider"] == self._provider.name:
                    await self._end_unusable(row)
                    continue
                if row is None and not attempt:
                    await self._refuse_swapped(key)
                if (lease := await self._create(key, spec)) is not None:
                    return lease
        raise AssertionError("unreachable")

    async def _refuse_swapped(self, key: Key) -> None:
        """Refuse ids in the order of the other services, unless row-level security hides the rows that show it.

        Raises:
            InvalidContent: the ids can only have been swapped.
        """
        user, session, _ = key
        if self._settings.row_level_security or user == session:
            return
        if await self._database.fetch(EXISTS, user_id=session, session_id=user) and not await self._database.fetch(
            EXISTS, user_id=user, session_id=session
        ):
            raise InvalidContent(
                f"user {user!r} has no session {session!r}, but user {session!r} has a session {user!r}: sandboxes "
                f"are connected by session_id, then user_id; pass them by name"
            )

    async def _reuse(self, key: Key, spec: SandboxSpec, row: Row) -> Lease | None:
        """Return the lease of a row's sandbox if it is ready, its lease has not expired and it answers, else None."""
        if row["state"] != "ready" or row["has_expired"]:
            return None
        lease = self._leases.get(key)
        if lease is None or lease.generation != row["generation"]:
            lease = self._leases.from_row(row)
            lease.spec = spec
            if row["provider"] != self._provider.name:
                raise self._other_provider_error(lease, row)
            try:
                await self._provider.connect(lease.handle)
            except SandboxLost:
                return None
        if not await self._provider.check(lease.handle):
            return None
        lease.used_at = time.monotonic()
        if lease.used_at >= lease.expires_at:
            await self._leases.renew(key[0], [lease])
            if lease.is_lost:
                return None
        current = self._leases.get(key)
        if current is None or current.generation < lease.generation:
            if current is not None:
                self._leases.lose(current)
            self._leases.add(lease)
            return lease
        return current

    async def _end_unusable(self, row: Row) -> None:
        """End the sandbox of a row that has expired or does not answer, so that a new one can be created.

        Raises:
            SandboxUnavailable, SandboxFailed: it could not be ended.
        """
        if row["has_expired"]:
            await self._reap(row, force=True)
        elif await self._mark_ending(lease := self._leases.from_row(row)):  # it does not answer
            await self._end(lease, snapshot=False)

    async def _create(self, key: Key, spec: SandboxSpec) -> Lease | None:
        """Claim the key and create a sandbox. Return None if another process has claimed the key."""
        lease = Lease(key, spec, time.time_ns() // 1_000, is_own=True, expires_at=0.0)
        requested_at = time.monotonic()
        reserved = self._provider.reserve()
        # Not canceled with the caller: a canceled INSERT could still commit, after its row was dropped.
        claiming = self._tasks.start(self._claim(lease, reserved))
        try:
            generation = await asyncio.shield(claiming)
        except BaseException:
            lease.is_lost = True
            self._tasks.start(self._drop_claim(lease, claiming))
            raise
        if generation is None:
            return None
        if (previous := self._leases.get(key)) is not None:
            self._leases.lose(previous)
        lease.generation, lease.expires_at = generation, requested_at + self._settings.sandbox_lease
        self._leases.add(lease)
        handle = ""
        try:
            handle = await self._provider.create(spec, reserved)
            if self._snapshots:
                await self._restore_workspace(lease, handle)
            requested_at = time.monotonic()
            values = {**lease.where, "handle": handle, "lease_time": self._leases.duration}
            if not await self._database.fetch(READY, **values):
                raise SandboxLost(f"the {lease} was released while it was being created")
        except BaseException:
            self._leases.forget(lease)
            await self._tasks.finish(self._undo_create(lease, handle))
            raise
        lease.handle = handle
        lease.expires_at = requested_at + self._settings.sandbox_lease
        return lease

    async def _claim(self, lease: Lease, reserved: str) -> int | None:
        """Insert the row in state "starting" and return its generation, or None if another process holds the key."""
        values = {
            **lease.where,
            "provider": self._provider.name,
            "owner": self._leases.owner,
            "host": self._host,
            "lease_time": self._leases.duration,
            "reserved": reserved or None,
        }

        async def claim(_: int) -> tuple[int | None]:
            # A lost lease is that of a canceled caller.
            row = None if lease.is_lost else await self._database.fetch_one(CLAIM, **values)
            return (None if row is None else int(row[0]),)

        (generation,) = await retry(claim, f"could not create the {lease}")
        return generation

    async def _drop_claim(self, lease: Lease, claiming: asyncio.Task[int | None]) -> None:
        """Delete the row of a canceled caller's claim. A claim that failed may have inserted it, too."""
        (generation,) = await asyncio.gather(claiming, return_exceptions=True)
        if isinstance(generation, int):
            lease.generation = generation
        if generation is not None:
            await self._drop(lease)

    async def _restore_workspace(self, lease: Lease, handle: str) -> None:
        """Unpack the stored workspace, if there is one, in a new sandbox."""
        stored = await self._workspaces.open(*lease.key)
        if stored is None:
            return
        archive, size = stored
        timeout = self._settings.sandbox_timeout + size / _SLOWEST_RESTORE
        try:
            await self._provider.unpack(handle, archive, timeout)
        except (SandboxFailed, SandboxUnavailable) as error:
            raise type(error)(
                f"the stored workspace of the {lease} ({size:,} bytes, compressed) could not be restored: {error}. "
                "Call delete_workspaces or run `agentstore sandboxes forget` to delete it."
            ) from error

    async def _undo_create(self, lease: Lease, handle: str) -> None:
        """Destroy the sandbox of a failed create and delete its row."""
        if not handle or await self._leases.try_to_destroy(lease, handle):
            await self._drop(lease)

    async def _drop(self, lease: Lease) -> bool:
        """Delete the row, and return whether it existed. An error is logged: the lease will expire."""
        try:
            return bool(await self._database.fetch(DROP, **lease.where))
        except AgentStoreError as error:
            _log.warning("the %s is still registered: %s", lease, error)
            return False

    async def _mark_ending(self, lease: Lease) -> bool:
        """Set the state to "ending", so that no client starts to use it. Return whether the row exists."""
        try:
            return bool(await self._database.fetch(MARK_ENDING, **lease.where, lease_time=self._leases.duration))
        except BaseException:
            if lease.handle:  # the statement may have been executed
                self._tasks.start(self._reopen(lease))
            raise

    async def _end(self, lease: Lease, snapshot: bool = True) -> bool:
        """End a sandbox whose state is "ending", and return whether this call deleted its row."""
        async with self._renewing_ending(lease):
            lease.is_lost = True  # files written from now on would not be saved
            try:
                if snapshot and self._snapshots and lease.handle:
                    await self._save_workspace(lease)
            except BaseException:
                lease.is_lost = self._leases.get(lease.key) is not lease
                await self._tasks.finish(self._reopen(lease))
                raise
            self._leases.forget(lease)
            return await self._tasks.finish(self._destroy(lease))

    async def _reap(self, row: Row, *, force: bool = False, snapshot: bool = True) -> bool:
        """Save the workspace of a sandbox whose lease has expired and end it. Return whether this call ended it.

        With `force`, a sandbox that cannot be reached from here is only removed from the registry: the processes that
        can reach it had the duration of a lease to end it.

        Raises:
            SandboxUnavailable, SandboxFailed: it could not be ended from here. Any process may retry once the lease has
                expired again.
        """
        return await self._tasks.finish(self._reap_uncanceled(row, force, snapshot))

    async def _reap_uncanceled(self, row: Row, force: bool, snapshot: bool) -> bool:
        lease = self._leases.from_row(row)
        saves, is_alive = snapshot and self._snapshots, False
        try:
            is_alive = bool(lease.handle) and await self._provider.check(lease.handle)
        except (SandboxUnavailable, SandboxFailed) as error:
            if isinstance(error, SandboxElsewhere) and not force and row["expired_for"] <= self._leases.duration:
                raise  # a process that can reach it may save its workspace; if there is none, it is ended later
            if saves:
                _log.warning("the latest changes to the workspace of the %s were not saved: %s", lease, error)
        values = {"owner": self._leases.owner, "host": self._host, "lease_time": self._leases.duration}
        taken = await self._database.fetch_one(TAKE, **lease.where, **values)
        if taken is None:  # its lease was renewed, or another process took it over
            return False
        self._leases.forget(lease)
        lease = replace(lease, generation=taken[0], is_lost=True, handle=row["handle"] or "")
        async with self._renewing_ending(lease):
            try:
                if saves and is_alive:
                    await self._save_workspace(lease)
            except AgentStoreError as error:
                _log.warning("the latest changes to the workspace of the %s were not saved: %s", lease, error)
            try:
                return await self._destroy(lease)
            except SandboxElsewhere as error:
                if not force:
                    raise
                _log.warning("the %s is removed from the registry without being ended: %s", lease, error)
                return await self._drop(lease)

    async def _destroy(self, lease: Lease) -> bool:
        """Destroy the sandbox, then delete its row. Return whether the row existed."""
        if lease.handle:
            await self._provider.destroy(lease.handle)
        return bool(await self._database.fetch(DROP, **lease.where))

    @asynccontextmanager
    async def _renewing_ending(self, lease: Lease) -> AsyncIterator[None]:
        """Renew the lease of a sandbox while this process ends it, so that no other process reaps it."""

        async def keep_renewing() -> None:
            while True:
                await asyncio.sleep(self._settings.sandbox_lease / 3)
                try:
                    await self._database.fetch(RENEW_ENDING, **lease.where, lease_time=self._leases.duration)
                except AgentStoreError as error:  # the next round retries before the lease expires
                    _log.warning("the lease of the %s was not renewed: %s", lease, error)

        task = asyncio.get_running_loop().create_task(keep_renewing())
        try:
            yield
        finally:
            await cancel_and_wait([task])

    async def _reopen(self, lease: Lease) -> None:
        """Set the state back to "ready". An error is logged: the lease will expire."""
        try:
            await self._database.fetch(REOPEN, **lease.where)
        except AgentStoreError as error:
            _log.warning("the %s is still marked as ending: %s", lease, error)

    async def _save_workspace(self, lease: Lease) -> None:
        """Save the workspace of a running sandbox, unless another process has taken the sandbox over."""
        try:
            archive = self._provider.pack(lease.handle, self._settings.sandbox_timeout)
            saved_at = time.monotonic()
            await self._workspaces.save(*lease.key, lease.generation, archive)
            lease.saved_at = saved_at
        except SandboxLost as error:
            _log.warning("the latest changes to the workspace of the %s were not saved: %s", lease, error)

    async def _drain_one(self, lease: Lease, semaphore: asyncio.Semaphore) -> None:
        async with semaphore:
            try:
                if await self._mark_ending(lease):
                    await self._end(lease)
            except Exception:  # noqa: BLE001 - the other sandboxes must end, too
                _log.warning("the %s could not be ended", lease, exc_info=True)

    def _other_provider_error(self, lease: Lease, row: Row) -> SandboxElsewhere:
        return SandboxElsewhere(
            f"the {lease} was created by provider {row['provider']!r} on host {row['host']}; this service uses "
            f"provider {self._provider.name!r}"
        )

    async def _maintain(self) -> None:
        """Save workspaces at their interval, and reap sandboxes whose lease has expired, until canceled."""
        reaped_at = time.monotonic()
        lease_time, interval = self._settings.sandbox_lease, self._settings.sandbox_snapshot_interval
        while True:
            await asyncio.sleep(min(lease_time, interval) * (0.4 + 0.2 * random.random()))  # noqa: S311
            now = time.monotonic()
            for lease in self._leases if self._snapshots else ():
                is_changed = lease.calls_in_progress or lease.saved_at < lease.used_at
                if lease.handle and is_changed and now - max(lease.saved_at, lease.save_tried_at) >= interval:
                    lease.save_tried_at = now
                    try:
                        await self._save_workspace(lease)
                    except Exception:  # noqa: BLE001 - retried after the interval; other sandboxes must be saved
                        _log.warning("the workspace of the %s was not saved", lease, exc_info=True)
            # Under row-level security this service sees one user at a time; `agentstore sandboxes reap` sees all users.
            if now - reaped_at >= lease_time and not self._settings.row_level_security:
                reaped_at = now
                try:
                    await self.reap()
                except Exception:  # noqa: BLE001 - retried in the next round
                    _log.warning("expired sandboxes were not reaped", exc_info=True)
