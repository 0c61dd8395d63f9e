"""The states of agents on Postgres: the statements, then the service that executes them.

The statements of scoped values are in the module ``values``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Text, bindparam, cast, delete, func, select, update

from agentstore import offload
from agentstore.database.retry import retry
from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Row, Statement
from agentstore.errors import Conflict, InvalidContent, LimitExceeded, NotFound, StatementFailed, UnreadableRow
from agentstore.interfaces import StoreStateService
from agentstore.models import StateHeadRow, StateRoundRow
from agentstore.repositories import values as scoped
from agentstore.repositories.retention import has_expired, is_idle, ttl_of
from agentstore.repositories.service import PostgresService
from agentstore.schemas import Deleted, Page, ScopedValues, Session, StateRound, ValueScope
from agentstore.schemas.memory import bucket
from agentstore.schemas.page import Advice, check_count, check_limit
from agentstore.schemas.payload import MAX_TTL, RowKey, check_id, dump_metadata, dump_state, load_object
from agentstore.schemas.state import check_round, pack_state, patch, read_round_cursor, write_round_cursor
from agentstore.schemas.values import check_changes, check_scope, check_sessions, check_value_scope, prepare_values
from agentstore.settings import Settings

_UNPACKED = 20  # bytes that are decompressed and parsed in about the time of one value, see offload.spend

_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_ROUND = bindparam("round_id", type_=BigInteger)
_THIS = (StateHeadRow.user_id == _USER) & (StateHeadRow.session_id == _SESSION)
_ITS_ROUNDS = (StateRoundRow.user_id == _USER) & (StateRoundRow.session_id == _SESSION)
# Reads do not delete states that have expired: they may be executed on a standby.
_ITS_LIVE_ROUNDS = (
    _ITS_ROUNDS & ~select(StateHeadRow.last_round).where(_THIS, has_expired(StateHeadRow.updated_at)).exists()
)
# json is read as text: codecs that the application sets on the driver do not apply to it.
_STATE = (cast(StateRoundRow.payload, Text), StateRoundRow.packed, StateRoundRow.round)
_METADATA = cast(StateRoundRow.metadata_, Text)
SQL = SqlStatements(__file__)

SAVE = SQL("save_state")
SAVE_AFTER = SQL("save_state_after")
SAVE_AT = SQL("save_state_round", overwrites=True)
# Not repeatable, since executed again it would not return the round that it has inserted.
IMPORT = SQL("save_state_round", repeatable=False, overwrites=False)
LAST = Statement(select(StateHeadRow.last_round).where(_THIS), name="states.last", scope="user")
EXPORT = Statement(
    select(*_STATE).where(_ITS_LIVE_ROUNDS, StateRoundRow.round == _ROUND), name="states.export", scope="user"
)
EXISTS = Statement(
    select(StateRoundRow.round).where(_ITS_ROUNDS, StateRoundRow.round == _ROUND), name="states.exists", scope="user"
)
EXPORT_LAST = Statement(
    select(*_STATE).where(_ITS_LIVE_ROUNDS).order_by(StateRoundRow.round.desc()).limit(1),
    name="states.export_last",
    scope="user",
)
LIST = Statement(
    select(StateRoundRow.round, StateRoundRow.size, StateRoundRow.saved_at, _METADATA)
    .where(_ITS_LIVE_ROUNDS, StateRoundRow.round < bindparam("before", type_=BigInteger))
    .order_by(StateRoundRow.round.desc())
    .limit(bindparam("limit", type_=BigInteger)),
    name="states.list",
    scope="user",
)
# Executed before every write if states expire, so that no other statement that writes has to check.
EXPIRE = Statement(
    delete(StateHeadRow).where(_THIS, has_expired(StateHeadRow.updated_at)).returning(StateHeadRow.session_id),
    name="states.expire",
    scope="user",
    repeatable=True,
)
TOUCH = Statement(
    update(StateHeadRow)
    .where(_THIS, is_idle(StateHeadRow.updated_at), ~has_expired(StateHeadRow.updated_at))
    .values(updated_at=func.now())
    .returning(StateHeadRow.session_id),
    name="states.touch",
    scope="user",
    repeatable=True,
)
# Precedes the deletion in its transaction: a deletion that waited for a save would not see the saved round.
LOCK = Statement(
    select(StateHeadRow.last_round).where(_THIS).with_for_update(), name="states.lock", scope="user", repeatable=False
)


DELETE_ONE = SQL("delete_state")
DELETE_ALL = SQL("delete_states")


class PostgresStateService(PostgresService, StoreStateService, area="states"):
    """States stored in Postgres; see :class:`StateService`."""

    async def save_state(  # noqa: D102 - see the interface
        self,
        user_id: str,
        state: Mapping[str, Any],
        session_id: str | None = None,
        round_id: int | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        expected_round: int | None = None,
    ) -> int:
        values = {**self._key(user_id, session_id), "expected": expected_round}
        statement: Statement = SAVE
        if round_id is not None:
            if expected_round is not None:
                raise InvalidContent("pass either round_id or expected_round, not both")
            statement = SAVE_AT
            values |= {"round_id": check_round(round_id)}
        elif expected_round is not None and check_round(expected_round, "expected_round", minimum=0) > 0:
            statement = SAVE_AFTER
        saved = await self._save(statement, values, state, metadata)
        if saved is not None:
            return saved
        last = await self._database.fetch_one(LAST, **self._key(user_id, session_id))
        raise Conflict(
            f"expected_round is {expected_round}, but the highest round of user {user_id!r}, session "
            f"{values['session_id']!r} is {last[0] if last else 0}"
        )

    async def import_state(  # noqa: D102
        self,
        user_id: str,
        session_id: str | None,
        round_id: int,
        state: Mapping[str, Any],
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        values = {**self._key(user_id, session_id), "round_id": check_round(round_id)}
        await self._expire(user_id, values["session_id"])
        if await self._database.fetch_one(EXISTS, **values) is not None:
            return False
        return await self._save(IMPORT, values, state, metadata) is not None

    async def _save(
        self, statement: Statement, values: dict[str, Any], state: Mapping[str, Any], metadata: Mapping[str, Any] | None
    ) -> int | None:
        """Execute one of the statements that save, and return the round; None if it returned no row."""
        values |= await offload.run(_dump, state, metadata, self._settings)
        await self._expire(values["user_id"], values["session_id"])

        async def save(_: int) -> list[Row]:
            try:
                return await self._database.fetch(statement, **values)
            except StatementFailed as error:
                if error.sqlstate == "22003":
                    raise LimitExceeded("there is no number after round 2**63 - 2: pass a round_id") from error
                raise

        rows = await retry(save, f"could not save a state of user {values['user_id']!r}")
        return int(rows[0][0]) if rows else None

    async def export_state(  # noqa: D102
        self, user_id: str, session_id: str | None = None, round_id: int | None = None, *, stale_ok: bool = False
    ) -> dict[str, Any] | None:
        values = self._key(user_id, session_id)
        statement = EXPORT_LAST
        if round_id is not None:
            statement, values["round_id"] = EXPORT, check_round(round_id)
        values["ttl"] = ttl_of(self._settings.state_ttl)
        row = await self._database.read(lambda database: database.fetch_one(statement, **values), stale_ok=stale_ok)
        if row is None:
            return None
        key = "state_rounds", user_id, values["session_id"], row[2]
        return await offload.run(_load, row, key)

    async def list_states(  # noqa: D102
        self,
        user_id: str,
        session_id: str | None = None,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[StateRound]:
        values = self._key(user_id, session_id)
        check_limit(limit, self._settings.max_page)
        values |= {"before": read_round_cursor(cursor), "limit": limit, "ttl": ttl_of(self._settings.state_ttl)}
        rows = await self._database.read(
            lambda database: database.fetch_page(LIST, Advice.SMALLER_LIMIT, **values), stale_ok=stale_ok
        )
        following = write_round_cursor(rows[-1][0]) if rows and len(rows) == limit else None
        rounds = await offload.run(lambda: [_round(row, user_id, values["session_id"]) for row in rows])
        return Page(rounds, following)

    async def delete_state(  # noqa: D102
        self, user_id: str, session_id: str | None = None, round_id: int | None = None
    ) -> Deleted:
        values = self._key(user_id, session_id)
        statement, which = DELETE_ALL, values
        if round_id is not None:
            statement, which = DELETE_ONE, {**values, "round_id": check_round(round_id)}
        async with self._database.transaction() as transaction:
            if not await transaction.fetch(LOCK, **values):
                return Deleted()
            (row,) = await transaction.fetch(statement, **which)
        return Deleted(state_rounds=row[0])

    async def diff_states(  # noqa: D102
        self, user_id: str, a: int, b: int, session_id: str | None = None, *, stale_ok: bool = False
    ) -> list[dict[str, Any]]:
        states = []
        for name, round_id in (("a", check_round(a, "a")), ("b", check_round(b, "b"))):
            state = await self.export_state(user_id, session_id, round_id, stale_ok=stale_ok)
            if state is None:
                raise NotFound(
                    f"session {session_id or 'default'!r} of user {user_id!r} has no round {round_id} (argument {name})"
                )
            states.append(state)
        return await offload.run(patch, *states)

    async def get_values(  # noqa: D102
        self,
        user_id: str | None,
        session_id: str | None = None,
        *,
        app: str = "",
        scope: ValueScope | None = None,
        stale_ok: bool = False,
    ) -> ScopedValues:
        check_scope(scope, check_value_scope(user_id, session_id, app, self._settings))
        rows = await self._database.read(
            lambda database: scoped.read_values(database, user_id, session_id, app, scope), stale_ok=stale_ok
        )
        return await offload.run(scoped.load_values, rows, user_id, session_id)

    async def get_values_of(  # noqa: D102
        self, sessions: Sequence[Session], *, app: str = "", stale_ok: bool = False
    ) -> list[ScopedValues]:
        check_sessions(sessions, app, self._settings)
        if not sessions:
            return []
        keys = [(each.user_id, each.id) for each in sessions]
        rows = await self._database.read(lambda database: scoped.read_values_of(database, keys, app), stale_ok=stale_ok)
        return scoped.load_values_of(rows, keys)

    async def merge_values(  # noqa: D102
        self, user_id: str | None, session_id: str | None = None, *, values: ScopedValues, app: str = ""
    ) -> None:
        narrowest = check_value_scope(user_id, session_id, app, self._settings)
        changes = await offload.run(prepare_values, values, app, self._settings)
        check_changes(changes, narrowest)
        await scoped.merge(self._database, user_id, session_id, changes)

    async def delete_values(  # noqa: D102
        self, user_id: str | None, session_id: str | None = None, *, app: str = ""
    ) -> Deleted:
        scope = check_value_scope(user_id, session_id, app, self._settings)
        return Deleted(values=await scoped.delete_all(self._database, scope, user_id, session_id, app))

    async def touch(self, user_id: str, session_id: str | None = None, *, idle: int = 0) -> None:  # noqa: D102
        values = self._key(user_id, session_id)
        await self._database.fetch(
            TOUCH, **values, idle=check_count(idle, "idle", maximum=MAX_TTL), ttl=ttl_of(self._settings.state_ttl)
        )

    async def _expire(self, user_id: str, session_id: str) -> None:
        """Delete the session's states if they have expired."""
        if self._settings.state_ttl is not None:
            await self._database.fetch(EXPIRE, user_id=user_id, session_id=session_id, ttl=self._settings.state_ttl)

    def _key(self, user_id: str, session_id: str | None) -> dict[str, Any]:
        return {
            "user_id": check_id(user_id, "user_id", self._settings),
            "session_id": bucket(session_id, self._settings),
        }


def _dump(state: Mapping[str, Any], metadata: Mapping[str, Any] | None, settings: Settings) -> dict[str, Any]:
    """Return the values of a state, and of its metadata, that are stored."""
    text = dump_state(state, settings)
    payload = text.encode()
    packed = pack_state(payload)
    return {
        "payload": text if packed is None else None,
        "packed": packed,
        "size": len(payload),
        "metadata": "{}" if metadata is None else dump_metadata(metadata, settings),
    }


def _load(row: Row, key: RowKey) -> dict[str, Any]:
    return load_object(row[0] if row[1] is None else _unpack(row[1], key), key)


def _unpack(packed: bytes, key: RowKey) -> bytes:
    import zstandard

    try:
        # A frame of this table has the size of its contents.
        offload.spend(max(0, zstandard.frame_content_size(packed)) // _UNPACKED)
        return zstandard.ZstdDecompressor().decompress(packed)
    except zstandard.ZstdError as error:
        raise UnreadableRow(f"the packed state is damaged: {error}", *key) from error


def _round(row: Row, user_id: str, session_id: str) -> StateRound:
    metadata = load_object(row[3], ("state_rounds", user_id, session_id, row[0]))
    return StateRound(round_id=row[0], size=row[1], saved_at=row[2], metadata=metadata)
