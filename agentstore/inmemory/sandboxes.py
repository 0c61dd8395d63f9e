"""Sandboxes that are registered in memory."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from weakref import WeakValueDictionary

from agentstore.errors import Closed, SandboxLost
from agentstore.interfaces import Sandbox, SandboxProvider, SandboxService
from agentstore.sandbox.archive import CHUNK, pack, unpack
from agentstore.sandbox.held import HeldSandbox
from agentstore.sandbox.providers import open_provider
from agentstore.schemas import Page, SandboxInfo, SandboxSpec
from agentstore.schemas.page import check_count, read_cursor, write_cursor
from agentstore.schemas.payload import check_id
from agentstore.schemas.sandbox import specs_of
from agentstore.settings import Settings

_Key = tuple[str, str, str]


@dataclass(slots=True, eq=False)
class _Made:
    key: _Key
    spec: SandboxSpec
    generation: int
    handle: str
    is_lost: bool = False
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class InMemorySandboxService(SandboxService):
    """Sandboxes for tests: as :class:`SandboxService` says, of one process, and with it they end.

    Its leases are the process's own: nothing expires, and there is nothing to reap.
    """

    def __init__(
        self,
        *,
        provider: SandboxProvider | str | None = None,
        drain_on_stop: bool = True,
        settings: Settings | None = None,
    ) -> None:
        """`provider` and `drain_on_stop` are those of :class:`agentstore.PostgresSandboxService`."""
        self._settings = settings or Settings()
        self._provider = open_provider(self._settings, provider=provider)
        self._drain = drain_on_stop
        self._made: dict[_Key, _Made] = {}
        self._generations: dict[_Key, int] = {}
        self._workspaces: dict[_Key, bytes] = {}
        self._locks: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()
        self._started = self._stopped = False

    async def start(self) -> None:  # noqa: D102 - the interface says it
        await self._provider.start()
        self._started, self._stopped = True, False

    async def stop(self) -> None:  # noqa: D102
        self._started, self._stopped = False, True
        if self._drain:
            for made in list(self._made.values()):
                await self._end(made, snapshot=True)
        self._made.clear()
        await self._provider.stop()

    async def health(self) -> bool:  # noqa: D102
        return self._started

    async def connect(  # noqa: D102
        self, session_id: str, user_id: str | None = None, sandbox_types: Sequence[str] | None = None
    ) -> list[Sandbox]:
        specs = specs_of(sandbox_types)
        user, session = self._ids(user_id, session_id)
        await self._ready()
        found = {spec.type: await self._connect((user, session, spec.type), spec) for spec in specs}
        return [found[spec.type] for spec in specs]

    async def release(  # noqa: D102
        self, session_id: str, user_id: str | None = None, *, snapshot: bool = True
    ) -> list[SandboxInfo]:
        user, session = self._ids(user_id, session_id)
        await self._ready()
        of_session = sorted((made for key, made in self._made.items() if key[:2] == (user, session)), key=_place)
        return [self._info(made) for made in of_session if await self._end(made, snapshot=snapshot)]

    async def list(  # noqa: D102
        self, user_id: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[SandboxInfo]:
        user = check_id("" if user_id is None else user_id, "user_id", self._settings)
        check_count(limit, "limit", self._settings.max_page)
        await self._ready()
        after = None if cursor is None else tuple(str(part).encode() for part in read_cursor(cursor, str, str))
        found = sorted((made for key, made in self._made.items() if key[0] == user), key=_place)
        rest = [made for made in found if after is None or _place(made) > after]
        page = rest if limit is None else rest[:limit]
        following = write_cursor(*page[-1].key[1:]) if page and len(page) == limit else None
        return Page(map(self._info, page), following)

    async def reap(self) -> int:  # noqa: D102
        await self._ready()
        return 0

    async def delete_workspaces(self, session_id: str, user_id: str | None = None) -> int:  # noqa: D102
        user, session = self._ids(user_id, session_id)
        await self._ready()
        kept = [key for key in self._workspaces if key[:2] == (user, session)]
        for key in kept:
            del self._workspaces[key]
        return len(kept)

    async def _ready(self) -> None:
        if self._stopped:
            raise Closed("The sandbox service was stopped: call start() to use it again.")
        if not self._started:
            await self.start()

    def _ids(self, user_id: str | None, session_id: str) -> tuple[str, str]:
        user = check_id("" if user_id is None else user_id, "user_id", self._settings)
        return user, check_id(session_id, "session_id", self._settings)

    async def _connect(self, key: _Key, spec: SandboxSpec) -> Sandbox:
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            made = self._made.get(key)
            if made is not None and not await self._provider.check(made.handle):
                self._made.pop(key, None)
                made.is_lost = True
                await self._provider.destroy(made.handle)
                made = None
            if made is None:
                handle = await self._provider.create(spec)
                if (kept := self._workspaces.get(key)) is not None:
                    try:
                        await self._provider.unpack(handle, unpack(_pieces(kept)), self._settings.sandbox_timeout)
                    except BaseException:
                        await asyncio.shield(self._provider.destroy(handle))
                        raise
                self._generations[key] = self._generations.get(key, 0) + 1
                made = self._made[key] = _Made(key, spec, self._generations[key], handle)
            return self._sandbox(made)

    def _sandbox(self, made: _Made) -> Sandbox:
        @asynccontextmanager
        async def use() -> AsyncIterator[None]:
            if self._stopped:
                raise Closed("The sandbox service was stopped: call start() to use it again.")
            if made.is_lost:
                raise SandboxLost(f"the sandbox {made.key[2]!r} of user {made.key[0]!r} ended: connect again")
            yield

        return HeldSandbox(
            self._provider,
            made.spec,
            user_id=made.key[0],
            session_id=made.key[1],
            generation=made.generation,
            handle=made.handle,
            use=use,
            timeout=self._settings.sandbox_timeout,
        )

    async def _end(self, made: _Made, *, snapshot: bool) -> bool:
        if snapshot and self._settings.sandbox_snapshots and self._provider.keeps_workspaces:
            with suppress(SandboxLost):  # then what was kept last stands
                archive = self._provider.pack(made.handle, self._settings.sandbox_timeout)
                with await pack(archive, self._settings.max_workspace_bytes) as file:
                    self._workspaces[made.key] = file.read()
        if self._made.get(made.key) is not made:
            return False
        del self._made[made.key]
        made.is_lost = True
        await self._provider.destroy(made.handle)
        return True

    def _info(self, made: _Made) -> SandboxInfo:
        return SandboxInfo(
            *made.key,
            generation=made.generation,
            provider=self._provider.name,
            state="ready",
            owner="",
            host="",
            created_at=made.created_at,
            lease_until=datetime.now(UTC) + timedelta(seconds=self._settings.sandbox_lease),
        )


def _place(made: _Made) -> tuple[bytes, ...]:
    return tuple(part.encode() for part in made.key[1:])


async def _pieces(kept: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(kept), CHUNK):
        yield kept[start : start + CHUNK]
