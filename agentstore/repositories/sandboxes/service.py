"""Sandboxes on Postgres: the statements of the registry, then the service that goes by it."""

import asyncio
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4
from weakref import WeakValueDictionary

from pydantic import SecretStr
from sqlalchemy import (
    ARRAY,
    URL,
    BigInteger,
    Interval,
    Text,
    bindparam,
    case,
    delete,
    func,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore.database.database import Database
from agentstore.database.statement import Row, Statement
from agentstore.database.url import Password
from agentstore.errors import (
    AgentStoreError,
    Closed,
    SandboxElsewhere,
    SandboxFailed,
    SandboxLost,
    SandboxUnavailable,
    StatementFailed,
    Unavailable,
)
from agentstore.interfaces import Sandbox, SandboxProvider, SandboxService
from agentstore.models import SandboxRow
from agentstore.repositories.sandboxes.workspaces import Workspaces
from agentstore.repositories.service import PostgresService, back_off
from agentstore.repositories.users import insert_user_if_missing
from agentstore.sandbox.held import HeldSandbox
from agentstore.sandbox.providers import open_provider
from agentstore.schemas import Page, SandboxInfo, SandboxSpec
from agentstore.schemas.page import check_count, read_cursor, write_cursor
from agentstore.schemas.payload import check_id
from agentstore.schemas.sandbox import specs_of
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

_TRIES = 20
_REAPED = 100
# Sandboxes that a stop ends at the same time.
_AT_ONCE = 8
# Bytes a second in which a workspace is filled at the least, beside the time that a call may take.
_SLOWEST = 100_000

_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_TYPE = bindparam("type", type_=Text)
_GENERATION = bindparam("generation", type_=BigInteger)
_LEASE = bindparam("lease_time", type_=Interval)
_OWNER, _HOST = bindparam("owner", type_=Text), bindparam("host", type_=Text)
_THIS = (SandboxRow.user_id == _USER) & (SandboxRow.session_id == _SESSION) & (SandboxRow.type == _TYPE)
_HELD = _THIS & (SandboxRow.generation == _GENERATION)
_LEASED = func.now() + _LEASE
_INFO = (
    SandboxRow.user_id,
    SandboxRow.session_id,
    SandboxRow.type,
    SandboxRow.generation,
    SandboxRow.provider,
    SandboxRow.state,
    SandboxRow.owner,
    SandboxRow.host,
    SandboxRow.created_at,
    SandboxRow.lease_until,
)
_ROW = (
    *_INFO,
    SandboxRow.handle,
    (SandboxRow.lease_until < func.now()).label("has_expired"),
    (func.now() - SandboxRow.lease_until).label("since"),
)


def _claim() -> Statement:
    """Make the row, and the user if it is the first. No row: another one has it.

    One of another provider is taken over when it has expired: nobody may be left who could end that.
    """
    values: dict[str, Any] = {
        "user_id": _USER,
        "session_id": _SESSION,
        "type": _TYPE,
        "generation": _GENERATION,
        "state": literal("starting"),
        "handle": bindparam("reserved", type_=Text),
        "provider": bindparam("provider", type_=Text),
        "owner": _OWNER,
        "host": _HOST,
        "created_at": func.now(),
        "lease_until": _LEASED,
    }
    claim = upsert(SandboxRow).from_select(list(values), select(*values.values()).select_from(insert_user_if_missing()))
    taken: dict[str, Any] = {
        name: claim.excluded[name] for name in values if name not in ("user_id", "session_id", "type")
    }
    taken["generation"] = func.greatest(SandboxRow.generation + 1, claim.excluded.generation)
    claim = claim.on_conflict_do_update(
        index_elements=["user_id", "session_id", "type"],
        set_=taken,
        where=(SandboxRow.lease_until < claim.excluded.created_at) & (SandboxRow.provider != claim.excluded.provider),
    )
    return Statement(claim.returning(SandboxRow.generation), repeatable=False)


def _renew() -> Statement:
    """Renew leases of a user, locked in the order of their keys; the rows are those that are still held.

    What is ending is renewed by whoever ends it, and by nobody if that one died.
    """
    arrays = (
        bindparam("session_ids", type_=ARRAY(Text)),
        bindparam("types", type_=ARRAY(Text)),
        bindparam("generations", type_=ARRAY(BigInteger)),
    )
    held = func.unnest(*arrays).table_valued("session_id", "type", "generation").render_derived(name="held")
    key = (SandboxRow.session_id, SandboxRow.type, SandboxRow.generation)
    locked = (
        select(*key)
        .where(SandboxRow.user_id == _USER, tuple_(*key).in_(select(*held.c)))
        .order_by(SandboxRow.session_id, SandboxRow.type)
        .with_for_update()
        .cte("locked")
        .prefix_with("MATERIALIZED")
    )
    return Statement(
        update(SandboxRow)
        .where(
            SandboxRow.user_id == _USER,
            SandboxRow.session_id == locked.c.session_id,
            SandboxRow.type == locked.c.type,
        )
        .values(lease_until=case((SandboxRow.state == "ending", SandboxRow.lease_until), else_=_LEASED))
        .returning(*key, SandboxRow.state),
        repeatable=True,
    )


CLAIM = _claim()
FIND = Statement(select(*_ROW).where(_THIS))
OF_SESSION = Statement(
    select(*_ROW).where(SandboxRow.user_id == _USER, SandboxRow.session_id == _SESSION).order_by(SandboxRow.type)
)
READY = Statement(
    update(SandboxRow)
    .where(_HELD, SandboxRow.state == "starting")
    .values(state="ready", handle=bindparam("handle", type_=Text), lease_until=_LEASED)
    .returning(SandboxRow.generation),
    repeatable=False,
)
RENEW = _renew()
END = Statement(
    update(SandboxRow).where(_HELD).values(state="ending", lease_until=_LEASED).returning(SandboxRow.generation),
    repeatable=True,
)
HOLD = Statement(
    update(SandboxRow)
    .where(_HELD, SandboxRow.state == "ending")
    .values(lease_until=_LEASED)
    .returning(SandboxRow.generation),
    repeatable=True,
)
REOPEN = Statement(
    update(SandboxRow)
    .where(_HELD, SandboxRow.state == "ending")
    .values(state="ready")
    .returning(SandboxRow.generation),
    repeatable=True,
)
DROP = Statement(delete(SandboxRow).where(_HELD).returning(SandboxRow.generation), repeatable=False)
# Of all users. What is found is looked at again when it is taken.
EXPIRED = Statement(
    select(*_ROW)
    .where(SandboxRow.lease_until < func.now(), SandboxRow.provider == bindparam("provider", type_=Text))
    .order_by(SandboxRow.lease_until)
    .limit(bindparam("limit", type_=BigInteger))
)
# Another generation: whoever held it has lost it.
TAKE = Statement(
    update(SandboxRow)
    .where(_HELD, SandboxRow.lease_until < func.now())
    .values(generation=SandboxRow.generation + 1, state="ending", owner=_OWNER, host=_HOST, lease_until=_LEASED)
    .returning(SandboxRow.generation),
    repeatable=False,
)
_LIST = select(*_INFO).where(SandboxRow.user_id == _USER).order_by(SandboxRow.session_id, SandboxRow.type)
LIST_FIRST = Statement(_LIST.limit(bindparam("limit", type_=BigInteger)))
LIST = Statement(
    _LIST.where(
        tuple_(SandboxRow.session_id, SandboxRow.type)
        > tuple_(bindparam("after_session", type_=Text), bindparam("after_type", type_=Text))
    ).limit(bindparam("limit", type_=BigInteger))
)

_T = TypeVar("_T")
_Key = tuple[str, str, str]


@dataclass(slots=True, eq=False)
class _Lease:
    """A sandbox that this service uses. Times are of the monotonic clock.

    ``handle`` is empty until its workspace is filled: what is there before is neither used nor kept.
    """

    key: _Key
    spec: SandboxSpec
    generation: int
    is_own: bool
    # Until then nobody else can have taken it.
    until: float
    handle: str = ""
    is_lost: bool = False
    # Calls that are on their way.
    calls: int = 0
    used: float = field(default_factory=time.monotonic)
    kept: float = field(default_factory=time.monotonic)
    # When it was last tried to keep its workspace, whatever came of it.
    tried: float = 0.0

    @property
    def where(self) -> dict[str, Any]:
        user_id, session_id, type_ = self.key
        return {"user_id": user_id, "session_id": session_id, "type": type_, "generation": self.generation}

    def __str__(self) -> str:
        return f"sandbox {self.key[2]!r} of user {self.key[0]!r}, session {self.key[1]!r}"


class PostgresSandboxService(PostgresService, SandboxService):
    """Sandboxes that are registered on Postgres. See :class:`SandboxService`.

    While a sandbox is in use, whoever uses it renews its lease. It is not in use any more when it was not called for
    AGENTSTORE_SANDBOX_IDLE seconds. With AGENTSTORE_SANDBOX_SNAPSHOTS its workspace is kept when it ends, and every
    now and then, and a new one begins with what was kept.
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
    ) -> None:
        """`base_url` is a sandbox server's, which `bearer_token` opens; without one `provider` makes them.

        That is a SandboxProvider or the name of one; by default what AGENTSTORE_SANDBOX_PROVIDER names, or bubblewrap.
        `stop` ends the sandboxes that this service has made, unless `drain_on_stop` is false. The other arguments are
        those of the other services.

        Raises:
            NotConfigured: nothing names a database, or there is no such provider.
        """
        super().__init__(dsn, engine=engine, settings=settings, password=password, database=database)
        self._provider_is_ours = provider is None or isinstance(provider, str)
        self._provider = open_provider(self._settings, base_url=base_url, bearer_token=bearer_token, provider=provider)
        self._workspaces = Workspaces(self._database, self._settings)
        self._drain = drain_on_stop
        self._owner = uuid4().hex
        self._host = socket.gethostname()
        self._leases: dict[_Key, _Lease] = {}
        self._locks: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()
        self._at_work: list[asyncio.Task[None]] = []
        self._connecting: set[asyncio.Task[_Lease]] = set()
        self._endings: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False

    async def start(self) -> None:
        """Connect, check the schema, and see that sandboxes can be made here.

        Raises:
            SandboxUnavailable: they cannot; the message says what to install.
        """
        await super().start()
        await self._provider.start()
        self.reopen()

    def reopen(self) -> None:
        """Answer calls again after a stop; the first of them sees whether sandboxes can be made here."""
        self._stopped = False

    async def stop(self) -> None:
        """End the sandboxes that this service has made, unless it was told to leave them, and close what is open."""
        self._stopped = True
        try:
            # The leases are renewed until all is ended.
            await _end_all([*self._connecting, *self._at_work[1:]])
            if self._drain:
                at_once = asyncio.Semaphore(_AT_ONCE)
                own = [lease for lease in self._leases.values() if lease.is_own]
                await asyncio.gather(*(self._drained(lease, at_once) for lease in own))
            if endings := _of_this_loop(self._endings):
                await asyncio.wait(endings)
        finally:
            for lease in self._leases.values():
                lease.is_lost = True
            at_work, self._at_work, self._leases = self._at_work, [], {}
            await _end_all(at_work)
            if self._provider_is_ours:
                await self._provider.stop()
            await super().stop()

    async def connect(  # noqa: D102 - the interface says it
        self, session_id: str, user_id: str | None = None, sandbox_types: Sequence[str] | None = None
    ) -> list[Sandbox]:
        specs = specs_of(sandbox_types)
        user, session = self._ids(user_id, session_id)
        await self._ready()
        found = {spec.type: await self._connect((user, session, spec.type), spec) for spec in specs}
        return [self._sandbox(found[spec.type]) for spec in specs]

    async def release(  # noqa: D102
        self, session_id: str, user_id: str | None = None, *, snapshot: bool = True
    ) -> list[SandboxInfo]:
        user, session = self._ids(user_id, session_id)
        await self._ready()
        leases = []
        for row in await self._database.fetch(OF_SESSION, user_id=user, session_id=session):
            lease = self._known(row)
            if row["provider"] != self._provider.name:
                raise self._foreign(lease, row)
            if lease.handle and not lease.is_own and not row["has_expired"]:
                with suppress(SandboxLost):  # then there is nothing to end but its row
                    await self._provider.connect(lease.handle)
            leases.append((lease, row))
        ended = []
        for lease, row in leases:
            if row["has_expired"]:
                is_ended = await self._reap(row, insists=True, snapshot=snapshot)
            else:
                is_ended = await self._mark(lease) and await self._end(lease, snapshot)
            if is_ended:
                ended.append(_info(row))
        return ended

    async def list(  # noqa: D102
        self, user_id: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[SandboxInfo]:
        user = self._user(user_id)
        check_count(limit, "limit", self._settings.max_page)
        if cursor is None:
            rows = await self._database.fetch(LIST_FIRST, user_id=user, limit=limit)
        else:
            session, type_ = read_cursor(cursor, str, str)
            rows = await self._database.fetch(LIST, user_id=user, limit=limit, after_session=session, after_type=type_)
        following = write_cursor(rows[-1][1], rows[-1][2]) if rows and len(rows) == limit else None
        return Page(map(_info, rows), following)

    async def reap(self) -> int:  # noqa: D102
        await self._ready()
        reaped = 0
        provider = self._provider.name
        while rows := await self._database.fetch(EXPIRED, provider=provider, limit=_REAPED):
            for row in rows:
                try:
                    reaped += await self._reap(row)
                except SandboxElsewhere as error:
                    _log.info("the %s is left to others: %s", self._known(row), error)
                except (SandboxUnavailable, SandboxFailed) as error:  # another one tries, after a lease
                    _log.warning("the %s could not be ended: %s", self._known(row), error)
            if len(rows) < _REAPED:
                break
        return reaped

    async def delete_workspaces(self, session_id: str, user_id: str | None = None) -> int:  # noqa: D102
        user, session = self._ids(user_id, session_id)
        return await self._workspaces.delete(user, session)

    @property
    def _lease(self) -> timedelta:
        return timedelta(seconds=self._settings.sandbox_lease)

    @property
    def _snapshots(self) -> bool:
        return self._settings.sandbox_snapshots and self._provider.keeps_workspaces

    def _ids(self, user_id: str | None, session_id: str) -> tuple[str, str]:
        return self._user(user_id), check_id(session_id, "session_id", self._settings)

    def _user(self, user_id: str | None) -> str:
        return check_id("" if user_id is None else user_id, "user_id", self._settings)

    async def _ready(self) -> None:
        self._check_open()
        if self._is_at_work():
            return
        await self._database.start()
        await self._provider.start()
        self._check_open()
        # Looked at again, with nothing awaited in between: of several first calls one begins the work.
        if self._is_at_work():
            return
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # what another one had will never be done
            self._loop, self._locks = loop, WeakValueDictionary()
            self._endings, self._connecting = _of_this_loop(self._endings), _of_this_loop(self._connecting)
        self._at_work = [loop.create_task(self._keep_leases()), loop.create_task(self._look_after())]

    def _is_at_work(self) -> bool:
        loop = asyncio.get_running_loop()
        return bool(self._at_work) and all(task.get_loop() is loop and not task.done() for task in self._at_work)

    def _check_open(self) -> None:
        if self._stopped:
            raise Closed("The sandbox service was stopped: call start() to use it again.")

    def _sandbox(self, lease: _Lease) -> HeldSandbox:
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
    async def _use(self, lease: _Lease) -> AsyncIterator[None]:
        """Make sure that a sandbox is ours to use, and that its lease is renewed meanwhile."""
        self._check_open()
        lease.used = time.monotonic()
        if not lease.is_lost and lease.used >= lease.until:
            await self._renew(lease.key[0], [lease])
        if lease.is_lost:
            raise SandboxLost(f"the {lease} ended, or its lease passed and another one took it: connect again")
        lease.calls += 1
        try:
            yield
        finally:
            lease.calls -= 1
            lease.used = time.monotonic()

    async def _connect(self, key: _Key, spec: SandboxSpec) -> _Lease:
        """Return the sandbox that lives, or make it."""
        row = await self._find(key)
        if row is not None and (lease := await self._reuse(key, spec, row)) is not None:
            return lease
        self._check_open()
        # In a task of its own, which a stop can end.
        task = asyncio.get_running_loop().create_task(self._connect_in_turn(key, spec))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        try:
            return await task
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is None or not this.cancelling():
                self._check_open()
            raise

    async def _connect_in_turn(self, key: _Key, spec: SandboxSpec) -> _Lease:
        """Return the sandbox that lives, or make it: of this process one task at a time."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            began, waits = time.monotonic(), 0
            while True:
                row = await self._find(key)
                if row is not None and row["state"] != "ready" and not row["has_expired"]:
                    seconds = time.monotonic() - began
                    if seconds > self._settings.sandbox_lease + 2 * self._settings.sandbox_timeout:
                        raise SandboxUnavailable(
                            f"sandbox {key[2]!r} of user {key[0]!r}, session {key[1]!r} is {row['state']} on "
                            f"{row['host']} for {seconds:.0f} s"
                        )
                    await back_off(waits)
                    waits += 1
                    continue
                if row is not None and (lease := await self._reuse(key, spec, row)) is not None:
                    return lease
                if row is not None and row["provider"] == self._provider.name:
                    await self._clear(row)
                    continue
                if (lease := await self._make(key, spec)) is not None:
                    return lease

    async def _find(self, key: _Key) -> Row | None:
        return await self._database.fetch_one(FIND, user_id=key[0], session_id=key[1], type=key[2])

    async def _reuse(self, key: _Key, spec: SandboxSpec, row: Row) -> _Lease | None:
        """Return the sandbox of a row, if it is ready, lives and is not to be reaped."""
        if row["state"] != "ready" or row["has_expired"]:
            return None
        lease = self._leases.get(key)
        if lease is None or lease.generation != row["generation"]:
            lease = self._known(row)
            lease.spec = spec
            if row["provider"] != self._provider.name:
                raise self._foreign(lease, row)
            try:
                await self._provider.connect(lease.handle)
            except SandboxLost:
                return None
        if not await self._provider.check(lease.handle):
            return None
        lease.used = time.monotonic()
        if lease.used >= lease.until:
            await self._renew(key[0], [lease])
            if lease.is_lost:
                return None
        known = self._leases.get(key)
        if known is None or known.generation < lease.generation:
            if known is not None:
                self._lose(known)
            self._leases[key] = known = lease
        return known

    async def _clear(self, row: Row) -> None:
        """End what is registered and of no use, so that there is room for another.

        Raises:
            SandboxUnavailable, SandboxFailed: it could not be ended.
        """
        if row["has_expired"]:
            await self._reap(row, insists=True)
        elif await self._mark(lease := self._known(row)):  # it does not answer
            await self._end(lease, snapshot=False)

    async def _make(self, key: _Key, spec: SandboxSpec) -> _Lease | None:
        """Make a sandbox; None if another one does."""
        lease = _Lease(key, spec, time.time_ns() // 1_000, is_own=True, until=0.0)
        asked = time.monotonic()
        reserved = self._provider.reserve()
        # A claim that was cancelled on its way could be made after it was dropped, so it is not cancelled.
        claiming = self._start_ending(self._claimed(lease, reserved))
        try:
            generation = await asyncio.shield(claiming)
        except BaseException:
            lease.is_lost = True
            self._start_ending(self._unclaim(lease, claiming))
            raise
        if generation is None:
            return None
        if (old := self._leases.get(key)) is not None:
            self._lose(old)
        lease.generation, lease.until = generation, asked + self._settings.sandbox_lease
        self._leases[key] = lease
        handle = ""
        try:
            handle = await self._provider.create(spec, reserved)
            if self._snapshots:
                await self._fill(lease, handle)
            asked = time.monotonic()
            if not await self._database.fetch(READY, **lease.where, handle=handle, lease_time=self._lease):
                raise SandboxLost(f"the {lease} was released while it was made")
        except BaseException:
            self._forget(lease)
            await self._to_the_end(self._undo(lease, handle))
            raise
        lease.handle = handle
        lease.until = asked + self._settings.sandbox_lease
        return lease

    async def _claimed(self, lease: _Lease, reserved: str) -> int | None:
        values = {
            **lease.where,
            "provider": self._provider.name,
            "owner": self._owner,
            "host": self._host,
            "lease_time": self._lease,
            "reserved": reserved or None,
        }
        for attempt in range(_TRIES):
            if lease.is_lost:  # nobody waits for it any more
                return None
            try:
                row = await self._database.fetch_one(CLAIM, **values)
            except StatementFailed as error:
                if error.sqlstate != "23503":  # the user was deleted in between
                    raise
            else:
                return None if row is None else int(row[0])
            await back_off(attempt)
        raise Unavailable(f"user {lease.key[0]!r} is deleted all the time")

    async def _unclaim(self, lease: _Lease, claiming: asyncio.Task[int | None]) -> None:
        """Drop what a claim that nobody waits for claims; one that failed may have claimed all the same."""
        (generation,) = await asyncio.gather(claiming, return_exceptions=True)
        if isinstance(generation, int):
            lease.generation = generation
        if generation is not None:
            await self._drop(lease)

    async def _fill(self, lease: _Lease, handle: str) -> None:
        """Fill the workspace of a new sandbox with what was kept of the last."""
        kept = await self._workspaces.open(*lease.key)
        if kept is None:
            return
        archive, size = kept
        timeout = self._settings.sandbox_timeout + size / _SLOWEST
        try:
            await self._provider.unpack(handle, archive, timeout)
        except (SandboxFailed, SandboxUnavailable) as error:
            raise type(error)(
                f"the {lease} could not be filled with the workspace that was kept ({size:,} bytes, packed): {error}. "
                "delete_workspaces, or `agentstore sandboxes forget`, deletes that."
            ) from error

    async def _undo(self, lease: _Lease, handle: str) -> None:
        """Leave nothing of a sandbox that could not be made."""
        if not handle or await self._try_to_destroy(lease, handle):
            await self._drop(lease)

    async def _try_to_destroy(self, lease: _Lease, handle: str) -> bool:
        try:
            await self._provider.destroy(handle)
        except (SandboxUnavailable, SandboxFailed) as error:
            _log.warning("the %s could not be ended: %s", lease, error)
            return False
        return True

    async def _drop(self, lease: _Lease) -> bool:
        try:
            return bool(await self._database.fetch(DROP, **lease.where))
        except AgentStoreError as error:  # then its lease passes
            _log.warning("the %s is registered still: %s", lease, error)
            return False

    async def _mark(self, lease: _Lease) -> bool:
        """Mark a sandbox as ending, so that nobody begins to use it; return whether it is there still."""
        try:
            return bool(await self._database.fetch(END, **lease.where, lease_time=self._lease))
        except BaseException:
            if lease.handle:  # it may have been marked all the same
                self._start_ending(self._reopen(lease))
            raise

    async def _end(self, lease: _Lease, snapshot: bool = True) -> bool:
        """End a sandbox that is marked as ending, and return whether it was this call that ended it."""
        async with self._held(lease):
            lease.is_lost = True  # what is written from now on would not be kept
            try:
                if snapshot and self._snapshots and lease.handle:
                    await self._keep(lease)
            except BaseException:
                lease.is_lost = self._leases.get(lease.key) is not lease
                await self._to_the_end(self._reopen(lease))
                raise
            self._forget(lease)
            return await self._to_the_end(self._remove(lease))

    async def _reap(self, row: Row, *, insists: bool = False, snapshot: bool = True) -> bool:
        """End a sandbox whose lease has passed, and keep its workspace; return whether it was this call that did.

        If it `insists`, one that lives elsewhere is forgotten: whoever could have ended it had a lease's time for that.

        Raises:
            SandboxUnavailable, SandboxFailed: it could not be ended from here; another one tries, after a lease.
        """
        return await self._to_the_end(self._reaped(row, insists, snapshot))

    async def _reaped(self, row: Row, insists: bool, snapshot: bool) -> bool:
        lease = self._known(row)
        keeps, lives = snapshot and self._snapshots, False
        try:
            lives = bool(lease.handle) and await self._provider.check(lease.handle)
        except (SandboxUnavailable, SandboxFailed) as error:
            if isinstance(error, SandboxElsewhere) and not insists and row["since"] <= self._lease:
                raise  # whoever is there keeps its workspace; if nobody is, it is ended later
            if keeps:
                _log.warning("the workspace of the %s is as it was last kept: %s", lease, error)
        values = {"owner": self._owner, "host": self._host, "lease_time": self._lease}
        taken = await self._database.fetch_one(TAKE, **lease.where, **values)
        if taken is None:  # it was used again, or another one has it
            return False
        self._forget(lease)
        lease = replace(lease, generation=taken[0], is_lost=True, handle=row["handle"] or "")
        async with self._held(lease):
            try:
                if keeps and lives:
                    await self._keep(lease)
            except AgentStoreError as error:
                _log.warning("the workspace of the %s is as it was last kept: %s", lease, error)
            try:
                return await self._remove(lease)
            except SandboxElsewhere as error:
                if not insists:
                    raise
                _log.warning("the %s is forgotten: %s", lease, error)
                return await self._drop(lease)

    async def _remove(self, lease: _Lease) -> bool:
        if lease.handle:
            await self._provider.destroy(lease.handle)
        return bool(await self._database.fetch(DROP, **lease.where))

    @asynccontextmanager
    async def _held(self, lease: _Lease) -> AsyncIterator[None]:
        """Keep others from ending a sandbox as well, for as long as that takes."""

        async def hold() -> None:
            while True:
                await asyncio.sleep(self._settings.sandbox_lease / 3)
                try:
                    await self._database.fetch(HOLD, **lease.where, lease_time=self._lease)
                except AgentStoreError as error:  # there is time for another try
                    _log.warning("the lease of the %s was not renewed: %s", lease, error)

        task = asyncio.get_running_loop().create_task(hold())
        try:
            yield
        finally:
            await _end_all([task])

    async def _reopen(self, lease: _Lease) -> None:
        try:
            await self._database.fetch(REOPEN, **lease.where)
        except AgentStoreError as error:  # then its lease passes
            _log.warning("the %s is marked as ending still: %s", lease, error)

    async def _keep(self, lease: _Lease) -> None:
        """Keep the workspace of a sandbox that lives, if it is still ours."""
        try:
            archive = self._provider.pack(lease.handle, self._settings.sandbox_timeout)
            kept = time.monotonic()
            await self._workspaces.save(*lease.key, lease.generation, archive)
            lease.kept = kept
        except SandboxLost as error:
            _log.warning("the workspace of the %s is as it was last kept: %s", lease, error)

    async def _drained(self, lease: _Lease, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            try:
                if await self._mark(lease):
                    await self._end(lease)
            except Exception:  # noqa: BLE001 - of one: the others are to end all the same
                _log.warning("the %s could not be ended", lease, exc_info=True)

    def _known(self, row: Row) -> _Lease:
        """Return what this service has of a row's sandbox, or how another one's looks from here."""
        key = (row["user_id"], row["session_id"], row["type"])
        known = self._leases.get(key)
        if known is not None and known.generation == row["generation"]:
            return known
        is_own = row["owner"] == self._owner
        handle = "" if row["state"] == "starting" else row["handle"] or ""
        return _Lease(key, SandboxSpec(key[2]), row["generation"], is_own, until=0.0, handle=handle)

    def _foreign(self, lease: _Lease, row: Row) -> SandboxElsewhere:
        return SandboxElsewhere(
            f"the {lease} was made by {row['provider']} on {row['host']}; this service has {self._provider.name}"
        )

    def _forget(self, lease: _Lease) -> None:
        """Let go of a sandbox, and of what this service has under its key, but for what was made there since."""
        lease.is_lost = True
        known = self._leases.get(lease.key)
        if known is not None and known.generation == lease.generation:
            known.is_lost = True
            del self._leases[lease.key]
        elif known is not None and known.generation < lease.generation:
            self._lose(known)

    async def _renew(self, user_id: str, leases: Sequence[_Lease]) -> None:
        """Renew leases of a user; those that are not there any more are lost, and what is ours of them is ended."""
        asked = time.monotonic()
        rows = await self._database.fetch(
            RENEW,
            user_id=user_id,
            session_ids=[lease.key[1] for lease in leases],
            types=[lease.key[2] for lease in leases],
            generations=[lease.generation for lease in leases],
            lease_time=self._lease,
        )
        states = {tuple(row)[:3]: row["state"] for row in rows}
        for lease in leases:
            state = states.get((*lease.key[1:], lease.generation))
            if state is None:
                self._lose(lease)
            elif state != "ending":
                lease.until = asked + self._settings.sandbox_lease

    def _lose(self, lease: _Lease) -> None:
        lease.is_lost = True
        if self._leases.get(lease.key) is lease:
            del self._leases[lease.key]
        if lease.is_own and lease.handle:
            _log.warning("the %s was released or reaped elsewhere", lease)
            self._start_ending(self._end_lost(lease))

    async def _end_lost(self, lease: _Lease) -> None:
        """End what was ours, once the one who took it over has kept its workspace."""
        until = time.monotonic() + self._settings.sandbox_lease + 2 * self._settings.sandbox_timeout
        while time.monotonic() < until:
            try:
                row = await self._find(lease.key)
            except AgentStoreError as error:
                _log.warning("whether the %s is being kept is not known: %s", lease, error)
                break
            if row is None or row["handle"] != lease.handle or row["state"] != "ending" or row["has_expired"]:
                break
            await asyncio.sleep(min(1.0, self._settings.sandbox_lease / 10))
        await self._try_to_destroy(lease, lease.handle)

    async def _keep_leases(self) -> None:
        """Renew the leases of what is in use, three times in the time of one."""
        while True:
            await asyncio.sleep(self._settings.sandbox_lease / 3)
            now = time.monotonic()
            users: dict[str, list[_Lease]] = {}
            for lease in list(self._leases.values()):
                if lease.calls or now - lease.used < self._settings.sandbox_idle:
                    users.setdefault(lease.key[0], []).append(lease)
                elif now >= lease.until:
                    await self._look_again(lease)
            for user_id, leases in users.items():
                try:
                    await self._renew(user_id, leases)
                except Exception:  # noqa: BLE001 - there is time for another try
                    _log.warning("the leases of user %r's sandboxes were not renewed", user_id, exc_info=True)

    async def _look_again(self, lease: _Lease) -> None:
        """Let go of what nobody has called for long, once another one has reaped it."""
        try:
            row = await self._find(lease.key)
        except AgentStoreError as error:
            _log.warning("whether the %s is ours still is not known: %s", lease, error)
            return
        if row is None or row["generation"] != lease.generation:
            self._lose(lease)

    async def _look_after(self) -> None:
        """Keep workspaces, and reap what nobody uses any more."""
        reaped = time.monotonic()
        lease_time, interval = self._settings.sandbox_lease, self._settings.sandbox_snapshot_interval
        while True:
            await asyncio.sleep(min(lease_time, interval) * (0.4 + 0.2 * random.random()))  # noqa: S311
            now = time.monotonic()
            for lease in list(self._leases.values()) if self._snapshots else ():
                is_changed = lease.calls or lease.kept < lease.used
                if lease.handle and is_changed and now - max(lease.kept, lease.tried) >= interval:
                    lease.tried = now
                    try:
                        await self._keep(lease)
                    except Exception:  # noqa: BLE001 - it goes on, and so do the others
                        _log.warning("the workspace of the %s was not kept", lease, exc_info=True)
            # Where one user is seen at a time, whoever may see all has to do it: `agentstore sandboxes reap`.
            if now - reaped >= lease_time and not self._settings.row_level_security:
                reaped = now
                try:
                    await self.reap()
                except Exception:  # noqa: BLE001 - there is another time
                    _log.warning("sandboxes that nobody uses were not ended", exc_info=True)

    def _start_ending(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    async def _to_the_end(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do what has to be done even if the caller is cancelled meanwhile."""
        task = self._start_ending(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_say_what_failed)
            raise


def _say_what_failed(task: asyncio.Task[Any]) -> None:
    """Log the error of what nobody waits for any more."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("a sandbox was not ended: %s", error)


def _of_this_loop(tasks: Iterable[asyncio.Task[_T]]) -> set[asyncio.Task[_T]]:
    loop = asyncio.get_running_loop()
    return {task for task in tasks if task.get_loop() is loop}


async def _end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    here = _of_this_loop(tasks)
    for task in here:
        task.cancel()
    if here:
        await asyncio.wait(here)


def _info(row: Row) -> SandboxInfo:
    return SandboxInfo(*tuple(row)[: len(_INFO)])
