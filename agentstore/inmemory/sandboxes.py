"""The sandbox service without a database, for tests."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from weakref import WeakValueDictionary

from agentstore.errors import Closed, SandboxLost
from agentstore.event_loops import PerLoop
from agentstore.inmemory.users import InMemoryUserService
from agentstore.interfaces import Sandbox, SandboxProvider, SandboxService, StopInProgress
from agentstore.sandbox.archive import CHUNK, pack, unpack
from agentstore.sandbox.held import HeldSandbox
from agentstore.sandbox.providers import open_provider
from agentstore.schemas import Page, SandboxInfo, SandboxSpec
from agentstore.schemas.page import check_limit, read_cursor, write_cursor
from agentstore.schemas.payload import check_id
from agentstore.schemas.sandbox import specs_of
from agentstore.settings import Settings, settings_from_environment

_Key = tuple[str, str, str]
Workspaces = dict[_Key, tuple[bytes, datetime]]
"""Archives of workspaces and when they were stored, by user, session and type."""


@dataclass(slots=True, eq=False)
class _Entry:
    key: _Key
    spec: SandboxSpec
    generation: int
    handle: str
    is_lost: bool = False
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class InMemorySandboxService(SandboxService):
    """A :class:`SandboxService` whose registry and stored workspaces are in the memory of one process, for tests.

    Leases do not expire, so `reap` never ends a sandbox.
    """

    def __init__(
        self,
        *,
        provider: SandboxProvider | str | None = None,
        drain_on_stop: bool = True,
        users: InMemoryUserService | None = None,
        workspaces: Workspaces | None = None,
        settings: Settings | None = None,
    ) -> None:
        """Create a service. `users` has the owners, `workspaces` the stored workspaces; none by default.

        The other arguments are those of PostgresSandboxService.
        """
        self._settings = settings or settings_from_environment()
        self._owners = users or InMemoryUserService(settings=self._settings)
        self._provider = open_provider(self._settings, provider=provider)
        self._drain = drain_on_stop
        self._entries: dict[_Key, _Entry] = {}
        self._generations: dict[_Key, int] = {}
        self._workspaces: Workspaces = {} if workspaces is None else workspaces
        self._locks: PerLoop[WeakValueDictionary[_Key, asyncio.Lock]] = PerLoop()
        self._started = self._stopped = False
        self._stop_in_progress = StopInProgress()

    async def start(self) -> None:  # noqa: D102 - documented in the interface
        await self._stop_in_progress.wait()
        self.reopen()
        await self._provider.start()
        self._check_open()
        self._started = True

    def reopen(self) -> None:
        """Accept calls again after a stop. The first call starts the provider."""
        self._stopped = False

    async def stop(self) -> None:  # noqa: D102
        self._started, self._stopped = False, True
        with self._stop_in_progress.during():
            if self._drain:
                for entry in list(self._entries.values()):
                    await self._end(entry, snapshot=True)
            self._entries.clear()
            await self._provider.stop()

    async def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:  # noqa: D102
        return self._started

    async def connect(  # noqa: D102
        self, session_id: str, user_id: str | None = None, sandbox_types: Sequence[str] | None = None
    ) -> list[Sandbox]:
        specs = specs_of(sandbox_types)
        user, session = self._ids(user_id, session_id)
        await self._ready()
        self._owners._add(user)
        found = {spec.type: await self._connect((user, session, spec.type), spec) for spec in specs}
        return [found[spec.type] for spec in specs]

    async def release(  # noqa: D102
        self, session_id: str, user_id: str | None = None, *, snapshot: bool = True
    ) -> list[SandboxInfo]:
        user, session = self._ids(user_id, session_id)
        await self._ready()
        of_session = sorted(
            (entry for key, entry in self._entries.items() if key[:2] == (user, session)), key=_sort_key
        )
        return [self._info(entry) for entry in of_session if await self._end(entry, snapshot=snapshot)]

    async def list(  # noqa: D102
        self, user_id: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[SandboxInfo]:
        user = check_id("" if user_id is None else user_id, "user_id", self._settings)
        check_limit(limit, self._settings.max_page)
        await self._ready()
        after = None if cursor is None else tuple(str(part).encode() for part in read_cursor(cursor, str, str))
        found = sorted((entry for key, entry in self._entries.items() if key[0] == user), key=_sort_key)
        remaining = [entry for entry in found if after is None or _sort_key(entry) > after]
        page = remaining if limit is None else remaining[:limit]
        next_cursor = write_cursor(*page[-1].key[1:]) if page and len(page) == limit else None
        return Page(map(self._info, page), next_cursor)

    async def reap(self) -> int:  # noqa: D102
        await self._ready()
        return 0

    async def delete_workspaces(self, session_id: str, user_id: str | None = None) -> int:  # noqa: D102
        user, session = self._ids(user_id, session_id)
        await self._ready()
        keys = [key for key in self._workspaces if key[:2] == (user, session)]
        for key in keys:
            del self._workspaces[key]
        return len(keys)

    async def _end_all(self, user_id: str) -> None:
        """End the sandboxes of a user without storing their workspaces."""
        for entry in [entry for key, entry in self._entries.items() if key[0] == user_id]:
            await self._end(entry, snapshot=False)

    async def _ready(self) -> None:
        self._check_open()
        if not self._started:
            await self.start()

    def _check_open(self) -> None:
        if self._stopped:
            raise Closed("The sandbox service was stopped: call start() to use it again.")

    def _ids(self, user_id: str | None, session_id: str) -> tuple[str, str]:
        user = check_id("" if user_id is None else user_id, "user_id", self._settings)
        return user, check_id(session_id, "session_id", self._settings)

    async def _connect(self, key: _Key, spec: SandboxSpec) -> Sandbox:
        lock = self._locks.get_or_create(WeakValueDictionary).setdefault(key, asyncio.Lock())
        async with lock:
            entry = self._entries.get(key)
            if entry is not None and not await self._provider.check(entry.handle):
                self._entries.pop(key, None)
                entry.is_lost = True
                await self._provider.destroy(entry.handle)
                entry = None
            if entry is None:
                handle = await self._provider.create(spec)
                if (stored := self._workspaces.get(key)) is not None:
                    try:
                        await self._provider.unpack(handle, unpack(_pieces(stored[0])), self._settings.sandbox_timeout)
                    except BaseException:
                        await asyncio.shield(self._provider.destroy(handle))
                        raise
                self._generations[key] = self._generations.get(key, 0) + 1
                entry = self._entries[key] = _Entry(key, spec, self._generations[key], handle)
            return self._sandbox(entry)

    def _sandbox(self, entry: _Entry) -> Sandbox:
        @asynccontextmanager
        async def use() -> AsyncIterator[None]:
            self._check_open()
            if entry.is_lost:
                user_id, session_id, type_ = entry.key
                raise SandboxLost(
                    f"sandbox {type_!r} of user {user_id!r}, session {session_id!r} ended: call connect again"
                )
            yield

        return HeldSandbox(
            self._provider,
            entry.spec,
            user_id=entry.key[0],
            session_id=entry.key[1],
            generation=entry.generation,
            handle=entry.handle,
            use=use,
            timeout=self._settings.sandbox_timeout,
        )

    async def _end(self, entry: _Entry, *, snapshot: bool) -> bool:
        if snapshot and self._settings.sandbox_snapshots and self._provider.keeps_workspaces:
            with suppress(SandboxLost):  # the previously stored workspace is unchanged
                archive = self._provider.pack(entry.handle, self._settings.sandbox_timeout)
                with await pack(archive, self._settings.max_workspace_bytes) as file:
                    self._workspaces[entry.key] = file.read(), datetime.now(UTC)
        if self._entries.get(entry.key) is not entry:
            return False
        del self._entries[entry.key]
        entry.is_lost = True
        await self._provider.destroy(entry.handle)
        return True

    def _info(self, entry: _Entry) -> SandboxInfo:
        return SandboxInfo(
            *entry.key,
            generation=entry.generation,
            provider=self._provider.name,
            state="ready",
            owner="",
            host="",
            created_at=entry.created_at,
            lease_until=datetime.now(UTC) + timedelta(seconds=self._settings.sandbox_lease),
        )


def _sort_key(entry: _Entry) -> tuple[bytes, ...]:
    return tuple(part.encode() for part in entry.key[1:])


async def _pieces(archive: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(archive), CHUNK):
        yield archive[start : start + CHUNK]
