"""Sessions and their messages on Postgres: the statements, then the class that says them.

Each method is one statement, so one round trip and one transaction, unless another caller is in the way.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter
from sqlalchemy import (
    ARRAY,
    CTE,
    URL,
    BigInteger,
    ColumnElement,
    SQLColumnExpression,
    Text,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal_column,
    null,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import BYTEA, JSON
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql.elements import Grouping

from agentstore.database.database import Database
from agentstore.database.statement import Row, Statement, generic_plan
from agentstore.database.url import Password
from agentstore.errors import AgentStoreError, AlreadyExists, Conflict, NotFound, StatementFailed, Unavailable
from agentstore.exact_json import loads, no_collection
from agentstore.interfaces import SessionHistoryService
from agentstore.models import MessageRow, SessionRow
from agentstore.repositories.retention import is_idle, is_not_expired
from agentstore.repositories.service import PostgresService, back_off
from agentstore.repositories.sessions.appends import Appends, Key, time_of
from agentstore.repositories.sessions.copies import CUT_OFF, FIND, FORK, LOCK, LOCK_STATES
from agentstore.repositories.states import EXPIRE as EXPIRE_STATES
from agentstore.repositories.users import insert_user_if_missing
from agentstore.schemas import Deleted, Imported, Message, MessagesLike, Page, Session, StoredMessages
from agentstore.schemas.memory import bucket
from agentstore.schemas.page import check_batch, check_count, read_cursor, write_cursor
from agentstore.schemas.payload import (
    aware,
    check_id,
    check_list,
    check_missing_session,
    check_place,
    check_title,
    check_ttl,
    dump_metadata,
    load_messages,
    new_session_id,
    prepare_messages,
    same_content,
)
from agentstore.schemas.session import extend_messages
from agentstore.settings import Settings

# Postgres reads it as 'infinity', so the first page needs no statement of its own.
_NEWEST = (datetime.max.replace(tzinfo=UTC), "")
_SESSIONS = TypeAdapter(list[Session])
_TRIES = 20
# The bytes of messages, as they are stored, that an iterator holds.
_AT_ONCE = 8_000_000

_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_LIMIT = bindparam("limit", type_=BigInteger)
_OF_USER = SessionRow.user_id == _USER
_ROW = _OF_USER & (SessionRow.id == _SESSION)
_THIS = _ROW & is_not_expired(SessionRow)
_ITS_MESSAGES = (MessageRow.user_id == _USER) & (MessageRow.session_id == _SESSION)
# json as text: the driver's codecs, which may be the application's own, never see it.
_HEAD = (
    SessionRow.created_at,
    SessionRow.updated_at,
    SessionRow.title,
    cast(SessionRow.metadata_, Text).label("metadata"),
    SessionRow.forked_from,
    SessionRow.forked_at,
    SessionRow.ttl,
)
# As the bytes of its text, which are validated as they are.
_PAYLOAD = func.json_send(MessageRow.payload).label("payload")
_WIDTH = len(_HEAD)
_NO_HEAD = (null(),) * _WIDTH
_NOW = func.now()


def _make(is_new: ColumnElement[bool], **more: ColumnElement[Any]) -> CTE:
    """Make the session where `is_new`, with `more` of its columns, and the user if it is the first."""
    values = {
        "user_id": _USER,
        "id": _SESSION,
        "title": bindparam("title", type_=Text),
        "metadata": cast(bindparam("metadata", type_=Text), JSON),
        "ttl": bindparam("ttl", type_=BigInteger),
        **more,
    }
    return (
        upsert(SessionRow)
        .from_select(list(values), select(*values.values()).select_from(insert_user_if_missing(is_new)).where(is_new))
        .on_conflict_do_nothing(index_elements=["user_id", "id"])
        .returning(*_HEAD)
        .cte("made")
    )


def _create() -> Statement:
    """Make the session, and the user if it is the first; or read what is there, and write nothing.

    No row at all: another caller has just made it, which this statement's snapshot does not see.
    """
    old = select(*_HEAD).where(_THIS).cte("old").prefix_with("MATERIALIZED")
    new = _make(~select(old.c.created_at).exists())
    messages: Any = (
        select(literal_column("false"), *_NO_HEAD, _PAYLOAD)
        .where(_ITS_MESSAGES, select(old.c.created_at).exists())
        .order_by(MessageRow.seq)
    )
    return Statement(
        union_all(
            select(literal_column("false").label("made"), *old.c, cast(null(), BYTEA).label("payload")),
            select(literal_column("true"), *new.c, null()),
            messages,
        ),
        repeatable=True,
    )


def _get() -> Statement:
    """The session's row and its messages, told apart by created_at; none of either if there is no session."""
    messages: Any = select(*_NO_HEAD, _PAYLOAD).where(_ITS_MESSAGES).order_by(MessageRow.seq)
    return Statement(union_all(select(*_HEAD, null().label("payload")).where(_THIS), messages), repeatable=True)


def _get_last(end: SQLColumnExpression[int]) -> Statement:
    """The session's row, in its last column `end`, and as many of its messages as are wanted that are before `end`.

    They are found by their numbers, which have no gaps. With LIMIT, Postgres would take a plan for ten rows to be so
    much better than one for any number of them that it makes one for each call, which takes as long as all the rest.
    """
    head = select(*_HEAD, cast(null(), BYTEA).label("payload"), end.label("end")).where(_THIS).cte("head")
    head = head.prefix_with("MATERIALIZED")
    until = select(head.c.end).scalar_subquery()
    messages: Any = (
        select(*_NO_HEAD, _PAYLOAD, null())
        .where(_ITS_MESSAGES, MessageRow.seq >= func.coalesce(until - _LIMIT, 1), MessageRow.seq < until)
        .order_by(MessageRow.seq)
    )
    return Statement(union_all(select(head), messages), repeatable=True)


def _claim(count: ColumnElement[int], *where: ColumnElement[bool], now: ColumnElement[Any] = _NOW) -> CTE:
    """Claim the session's next `count` positions.

    Locks the session's row until the commit: appends to one session follow each other without a gap, appends to
    different sessions share nothing.
    """
    return (
        update(SessionRow)
        .where(_THIS, *where)
        .values(_claims(count, now))
        .returning((SessionRow.next_seq - count).label("base"), SessionRow.updated_at)
        .cte("claimed")
    )


def _claims(count: ColumnElement[int], now: ColumnElement[Any] = _NOW) -> dict[str, ColumnElement[Any]]:
    """What becomes of a session's row whose next `count` positions are claimed.

    listed_at stays what it is within a minute, so no index is written. Neither time goes back: now() is when the
    statement began, which may have waited for a later one.
    """
    return {
        "next_seq": SessionRow.next_seq + count,
        "updated_at": func.greatest(SessionRow.updated_at, now),
        "listed_at": func.greatest(SessionRow.listed_at, func.date_trunc("minute", now)),
    }


_GIVEN = (
    func.unnest(bindparam("ids", type_=ARRAY(Text)), bindparam("payloads", type_=ARRAY(Text)))
    .table_valued("id", "payload", with_ordinality="position", name="given")
    .render_derived()
)
_MESSAGE = ["user_id", "session_id", "seq", "id", "payload", "created_at"]


def _append() -> Statement:
    """Insert the messages into the positions that it claims, and return a row for each, the first one's with the time.

    No row: no session. 23505: an id is there already.
    """
    claimed = _claim(bindparam("count", type_=BigInteger))
    seq = claimed.c.base + _GIVEN.c.position - 1
    # Once and not for each message: the driver takes longer to read times than the server to write messages.
    first = Grouping(bindparam("ids", type_=ARRAY(Text)))[1]
    time = case((MessageRow.id == first, MessageRow.created_at))
    return Statement(
        # A row for each message, and not a count of them: without RETURNING, Citus would take COPY for the insert.
        insert(MessageRow)
        .from_select(
            _MESSAGE, select(_USER, _SESSION, seq, _GIVEN.c.id, cast(_GIVEN.c.payload, JSON), claimed.c.updated_at)
        )
        .returning(time),
        repeatable=True,  # with the same ids it changes nothing more
    )


def _append_to_many() -> Statement:
    """Insert the messages of several sessions, and return the number of each session, from 1, and its time.

    Each session has `counts` messages, which begin after the first `firsts` of all; `numbers` says whose each message
    is. It waits for nobody: a session that another transaction has, or that is not there, is left out, and its number
    is not returned. 23505: an id is there already, and nothing was stored. Citus refuses it, since it locks the
    sessions of several users.
    """
    wanted = (
        func.unnest(
            *(generic_plan(bindparam(name, type_=ARRAY(Text))) for name in ("users", "sessions")),
            *(generic_plan(bindparam(name, type_=ARRAY(BigInteger))) for name in ("counts", "firsts")),
        )
        .table_valued("user_id", "id", "count", "first", with_ordinality="number", name="wanted")
        .render_derived()
    )
    given = (
        func.unnest(
            generic_plan(bindparam("numbers", type_=ARRAY(BigInteger))),
            *(generic_plan(bindparam(name, type_=ARRAY(Text))) for name in ("ids", "payloads")),
        )
        .table_valued("number", "id", "payload", with_ordinality="position", name="given")
        .render_derived()
    )
    free = (
        select(SessionRow.user_id, SessionRow.id, wanted.c.count, wanted.c.first, wanted.c.number)
        .join(wanted, (SessionRow.user_id == wanted.c.user_id) & (SessionRow.id == wanted.c.id))
        .where(is_not_expired(SessionRow))
        .with_for_update(key_share=True, skip_locked=True, of=SessionRow)
        .cte("free")
        .prefix_with("MATERIALIZED")
    )
    claimed = (
        update(SessionRow)
        .where(SessionRow.user_id == free.c.user_id, SessionRow.id == free.c.id)
        .values(_claims(free.c.count))
        .returning(
            SessionRow.user_id,
            SessionRow.id,
            (SessionRow.next_seq - free.c.count - free.c.first).label("base"),
            SessionRow.updated_at,
            free.c.number,
        )
        .cte("claimed")
    )
    seq = claimed.c.base + given.c.position - 1
    made = (
        insert(MessageRow)
        .from_select(
            _MESSAGE,
            select(
                claimed.c.user_id, claimed.c.id, seq, given.c.id, cast(given.c.payload, JSON), claimed.c.updated_at
            ).join(given, given.c.number == claimed.c.number),
        )
        .returning(literal_column("1"))
        .cte("made")
    )
    return Statement(select(claimed.c.number, claimed.c.updated_at).add_cte(made), repeatable=True)


def _append_again() -> Statement:
    """Insert those of the messages that are not there, unless one is there with another text than it has now.

    Returns each message's id, that other text, whether it is new, and the time if any were stored. `same` are ids
    whose other text was found to mean the same, `at` is the time of what is stored, if it is not now. An id that comes
    in between is 23505, and the statement is said again: a snapshot does not see what it waited for.
    """
    at = func.coalesce(bindparam("at", type_=SessionRow.updated_at.type), func.now())
    there = _ITS_MESSAGES & (MessageRow.id == _GIVEN.c.id)
    stored = cast(MessageRow.payload, Text)
    differs = (stored != _GIVEN.c.payload) & (_GIVEN.c.id != func.all(bindparam("same", type_=ARRAY(Text))))
    known = (
        select(
            _GIVEN.c.id,
            _GIVEN.c.payload,
            _GIVEN.c.position,
            MessageRow.seq.is_(None).label("fresh"),
            case((differs, stored)).label("stored"),
        )
        .select_from(_GIVEN.outerjoin(MessageRow, there))
        .cte("known")
        .prefix_with("MATERIALIZED")
    )
    need = select(func.count().filter(known.c.fresh).label("fresh"), func.count(known.c.stored).label("differing")).cte(
        "need"
    )
    claimed = _claim(need.c.fresh, need.c.fresh > 0, need.c.differing == 0, now=at)
    seq = claimed.c.base + func.row_number().over(order_by=known.c.position) - 1
    made = (
        insert(MessageRow)
        .from_select(
            _MESSAGE,
            select(_USER, _SESSION, seq, known.c.id, cast(known.c.payload, JSON), claimed.c.updated_at).where(
                known.c.fresh
            ),
        )
        .returning(literal_column("1"))
        .cte("made")
    )
    return Statement(
        select(known.c.id, known.c.stored, known.c.fresh, select(claimed.c.updated_at).scalar_subquery())
        .order_by(known.c.position)
        .add_cte(made),
        repeatable=True,
    )


def _import() -> Statement:
    """Make the session with its messages and its times, and the user if it is the first, unless it is there.

    No row: it is there, or another caller has just made it. A time to come would keep the session on top of its
    user's list, so none is taken.
    """
    kind = SessionRow.updated_at.type
    now = func.now(type_=kind)
    created, updated = bindparam("created_at", type_=kind), bindparam("updated_at", type_=kind)
    created_at = func.least(func.coalesce(created, updated, now), now)
    updated_at = func.greatest(created_at, func.least(func.coalesce(updated, now), now))
    made = _make(
        ~select(SessionRow.id).where(_THIS).exists(),
        next_seq=bindparam("count", type_=BigInteger) + 1,
        created_at=created_at,
        updated_at=updated_at,
        listed_at=func.date_trunc("minute", updated_at),
        forked_from=bindparam("forked_from", type_=Text),
        forked_at=bindparam("forked_at", type_=BigInteger),
    )
    messages = (
        insert(MessageRow)
        .from_select(
            _MESSAGE,
            select(_USER, _SESSION, _GIVEN.c.position, _GIVEN.c.id, cast(_GIVEN.c.payload, JSON), made.c.updated_at),
        )
        .returning(literal_column("1"))
        .cte("messages_made")
    )
    # Said again after a lost answer it writes nothing more; what it made is then counted as there before.
    return Statement(select(made.c.updated_at).add_cte(messages), repeatable=True)


def _get_after() -> Statement:
    """Messages after a position, with theirs: as many as are wanted, or as are about 8 MB, and one at the least."""
    kept = select(SessionRow.id).where(_THIS).exists()
    next_ones = (
        select(MessageRow.seq, MessageRow.payload)
        .where(_ITS_MESSAGES, MessageRow.seq > bindparam("after_seq", type_=BigInteger), kept)
        .order_by(MessageRow.seq)
        .limit(_LIMIT)
        .subquery("next")
    )
    # As they are stored: a size that needs no reading of what is stored apart.
    size = func.pg_column_size(next_ones.c.payload)
    before = func.sum(size).over(order_by=next_ones.c.seq) - size
    sized = select(next_ones.c.seq, next_ones.c.payload, before.label("before")).subquery("sized")
    payload = func.json_send(sized.c.payload)
    return Statement(
        select(sized.c.seq, payload).where(sized.c.before < literal_column(str(_AT_ONCE))).order_by(sized.c.seq)
    )


CREATE = _create()
# Said again after a lost answer, it would find the session that it made itself and take it for another's.
CREATE_NEW = Statement(CREATE.construct, repeatable=False)
IMPORT = _import()
GET = _get()
GET_LAST = _get_last(SessionRow.next_seq)
GET_BEFORE = _get_last(
    select(MessageRow.seq).where(_ITS_MESSAGES, MessageRow.id == bindparam("before", type_=Text)).scalar_subquery()
)
GET_AFTER = _get_after()
APPEND = _append()
APPEND_TO_MANY = _append_to_many()
APPEND_AGAIN = _append_again()
LIST = Statement(
    # Where a page is to be gone on from, and nowhere else, since the driver would read a time more of each session.
    select(SessionRow.id, *_HEAD, case((_LIMIT.is_not(None), SessionRow.listed_at)).label("listed_at"))
    .where(
        _OF_USER,
        is_not_expired(SessionRow),
        tuple_(SessionRow.listed_at, SessionRow.id)
        < tuple_(bindparam("before", type_=SessionRow.listed_at.type), bindparam("before_id", type_=Text)),
    )
    .order_by(SessionRow.listed_at.desc(), SessionRow.id.desc())
    .limit(_LIMIT)
)
# The messages go by the foreign key. Their number is the counter's, which no append can move once the row is locked.
DELETE = Statement(delete(SessionRow).where(_ROW).returning(SessionRow.next_seq - 1))
IS_KEPT = Statement(select(SessionRow.id).where(_THIS))
# What has expired gives way to a new session of the same id.
EXPIRE = Statement(
    delete(SessionRow).where(_ROW, ~is_not_expired(SessionRow)).returning(SessionRow.id), repeatable=True
)
TOUCH = Statement(
    update(SessionRow)
    .where(_THIS, is_idle(SessionRow.updated_at))
    .values(updated_at=func.now())
    .returning(SessionRow.id),
    repeatable=True,
)
SET_TTL = Statement(
    update(SessionRow).where(_THIS).values(ttl=bindparam("ttl", type_=BigInteger)).returning(SessionRow.id),
    repeatable=True,
)
SET_TITLE = Statement(
    update(SessionRow).where(_THIS).values(title=bindparam("title", type_=Text)).returning(SessionRow.id),
    repeatable=True,
)
LOCK_METADATA = Statement(select(cast(SessionRow.metadata_, Text)).where(_THIS).with_for_update(), repeatable=False)
SET_METADATA = Statement(
    update(SessionRow)
    .where(_THIS)
    .values(metadata_=cast(bindparam("metadata", type_=Text), JSON))
    .returning(SessionRow.id),
    repeatable=True,
)


class _Fetch(Protocol):
    """Says a statement, by itself or in a transaction."""

    async def __call__(self, statement: Statement, /, **values: Any) -> list[Row]: ...


class PostgresSessionHistoryService(PostgresService, SessionHistoryService):
    """Conversation history that survives the process and its replicas. See :class:`SessionHistoryService`."""

    def __init__(
        self,
        dsn: str | URL | None = None,
        *,
        missing_session: Literal["error", "create"] = "error",
        engine: AsyncEngine | None = None,
        settings: Settings | None = None,
        password: Password | None = None,
        database: Database | None = None,
    ) -> None:
        """`missing_session="create"`: get and append create the session that is missing, as upstream's in memory do.

        The other arguments are :class:`PostgresService`'s.
        """
        super().__init__(dsn, engine=engine, settings=settings, password=password, database=database)
        self._create_missing = check_missing_session(missing_session)
        self._appends: Appends | None = None

    async def create_session(  # noqa: D102 - the interface says it
        self,
        user_id: str,
        session_id: str | None = None,
        *,
        exist_ok: bool = True,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        ttl: int | None = None,
    ) -> Session:
        check_id(user_id, "user_id", self._settings)
        session_id = check_id(new_session_id(session_id), "session_id", self._settings)
        return await self._create(
            user_id,
            session_id,
            exist_ok=exist_ok,
            title=check_title(title),
            metadata="{}" if metadata is None else dump_metadata(metadata, self._settings),
            ttl=check_ttl(ttl),
        )

    async def _create(
        self,
        user_id: str,
        session_id: str,
        *,
        exist_ok: bool = True,
        title: str | None = None,
        metadata: str = "{}",
        ttl: int | None = None,
    ) -> Session:
        """Create the session with exactly this id, or return it."""
        values = {"user_id": user_id, "session_id": session_id, "title": title, "metadata": metadata, "ttl": ttl}
        for attempt in range(_TRIES):
            try:
                rows = await self._database.fetch(CREATE if exist_ok else CREATE_NEW, **values)
            except StatementFailed as error:
                if error.sqlstate != "23503":  # the user was deleted in between
                    raise
                rows = []
            if rows:
                head = next(row for row in rows if row[1] is not None)
                if not head[0] and not exist_ok:
                    raise AlreadyExists(f"user {user_id!r} has a session {session_id!r}")
                return self._session(
                    user_id, session_id, tuple(head)[1:], [row[_WIDTH + 1] for row in rows if row[1] is None]
                )
            await self._database.fetch(EXPIRE, user_id=user_id, session_id=session_id)
            await back_off(attempt)
        raise Unavailable(f"session {session_id!r} of user {user_id!r} is deleted and created all the time")

    async def get_session(  # noqa: D102
        self, user_id: str, session_id: str, *, limit: int | None = None, before: str | None = None
    ) -> Session | None:
        found = await self._read(user_id, session_id, limit, before)
        if found is None:
            return await self._create(user_id, session_id) if self._create_missing else None
        return self._session(user_id, session_id, *found)

    async def read_messages(  # noqa: D102
        self, user_id: str, session_id: str, *, limit: int | None = None, before: str | None = None
    ) -> StoredMessages | None:
        found = await self._read(user_id, session_id, limit, before)
        if found is not None:
            return StoredMessages(found[1])
        if not self._create_missing:
            return None
        await self._create(user_id, session_id)
        return StoredMessages()

    async def _read(
        self, user_id: str, session_id: str, limit: int | None, before: str | None
    ) -> tuple[tuple[Any, ...], list[bytes]] | None:
        """Return a session's head and its messages, all or the last of them; None if there is no session."""
        check_id(user_id, "user_id", self._settings)
        check_id(session_id, "session_id", self._settings)
        limit = check_count(limit, "limit")
        values: dict[str, Any] = {"user_id": user_id, "session_id": session_id}
        if before is not None:
            check_id(before, "before", self._settings)
            rows = await self._database.fetch(GET_BEFORE, **values, limit=limit, before=before)
        elif limit is not None:
            rows = await self._database.fetch(GET_LAST, **values, limit=limit)
        else:
            rows = await self._database.fetch(GET, **values)
        head = next((row for row in rows if row[0] is not None), None)
        if head is None:
            return None
        if before is not None and head[_WIDTH + 1] is None:
            raise NotFound(f"session {session_id!r} of user {user_id!r} has no message {before!r}")
        return tuple(head), [row[_WIDTH] for row in rows if row[0] is None]

    async def iter_messages(  # noqa: D102
        self, user_id: str, session_id: str, *, batch: int = 1_000
    ) -> AsyncIterator[Message]:
        check_id(user_id, "user_id", self._settings)
        check_id(session_id, "session_id", self._settings)
        check_batch(batch, self._settings.max_page)
        values = {"user_id": user_id, "session_id": session_id, "limit": batch}
        after = 0
        while rows := await self._database.fetch(GET_AFTER, **values, after_seq=after):
            after = rows[-1][0]
            for message in load_messages([row[1] for row in rows]):
                yield message
        if after:
            return
        if self._create_missing:
            await self._create(user_id, session_id)
        elif not await self._database.fetch(IS_KEPT, user_id=user_id, session_id=session_id):
            raise NotFound(f"user {user_id!r} has no session {session_id!r}")

    async def list_sessions(  # noqa: D102
        self, user_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[Session]:
        check_id(user_id, "user_id", self._settings)
        check_count(limit, "limit", self._settings.max_page)
        before, before_id = _NEWEST if cursor is None else read_cursor(cursor, datetime, str)
        rows = await self._database.fetch(LIST, user_id=user_id, before=before, before_id=before_id, limit=limit)
        following = write_cursor(rows[-1][_WIDTH + 1], rows[-1][0]) if rows and len(rows) == limit else None
        # Within the page by the second: the minute is only what the index knows.
        rows.sort(key=itemgetter("updated_at"), reverse=True)
        with no_collection(len(rows)):
            # In one pass: half of the time of a constructor's call for each.
            sessions = _SESSIONS.validate_python(
                [{**row, "user_id": user_id, "metadata": _metadata(row["metadata"])} for row in rows]
            )
        return Page(sessions, following)

    async def append_message(self, session: Session, message: MessagesLike) -> None:  # noqa: D102
        check_id(session.user_id, "user_id", self._settings)
        check_id(session.id, "session_id", self._settings)
        check_list(session.messages)
        prepared = prepare_messages(message, self._settings)
        if not prepared:
            return
        values = _values(session, prepared)
        key = session.user_id, session.id
        appends = self._appends_of_this_loop()
        if not appends.takes(key, values["payloads"]):
            updated_at = await self._append(appends, key, values)
        elif appends.begin(key):
            try:
                updated_at = await self._append(appends, key, values)
            finally:
                appends.end(key)
        else:
            updated_at = await appends.wait(key, values["ids"], values["payloads"])
            if updated_at is None:
                updated_at = await self._append(appends, key, values)
        extend_messages(session, (each for each, _ in prepared.values()), updated_at)

    def _appends_of_this_loop(self) -> Appends:
        appends = self._appends
        if appends is None or appends.loop is not asyncio.get_running_loop():
            appends = self._appends = Appends(self._database, APPEND, APPEND_TO_MANY)
        return appends

    async def _append(self, appends: Appends, key: Key, values: dict[str, Any]) -> datetime | None:
        """Append by a statement of one's own; return the time, or None where all was there already."""
        for _ in range(_TRIES):
            try:
                rows = await self._database.fetch(APPEND, **values, count=len(values["ids"]))
            except StatementFailed as error:
                if error.sqlstate != "23505":
                    raise
                appends.keep_apart(key)
                stored, updated_at = await self._append_again(values)
                if stored is not None:
                    return updated_at
            else:
                if rows:
                    appends.take_back(key)
                    return time_of(rows)
            if not self._create_missing:
                break
            await self._create(*key)
        raise NotFound(f"user {key[0]!r} has no session {key[1]!r}")

    async def _append_again(self, values: dict[str, Any]) -> tuple[int | None, datetime | None]:
        """Store those of the messages that are not stored; what comes in between makes it begin anew."""
        for attempt in range(_TRIES):
            try:
                return await self._append_missing(self._database.fetch, values)
            except StatementFailed as error:
                if error.sqlstate != "23505":
                    raise
                await back_off(attempt)
        raise Unavailable(f"other writers store the same messages in session {values['session_id']!r} all the time")

    async def _append_missing(
        self, fetch: _Fetch, values: dict[str, Any], at: datetime | None = None
    ) -> tuple[int | None, datetime | None]:
        """Store those of the messages that are not stored.

        Return how many, or None where there is no session, and the time if anything was stored.
        """
        same: list[str] = []
        while True:
            rows = await fetch(APPEND_AGAIN, **values, same=same, at=at)
            differing = {row[0]: row[1] for row in rows if row[1] is not None}
            if not differing:
                fresh, updated_at = sum(row[2] for row in rows), rows[0][3]
                return (None if fresh and updated_at is None else fresh), updated_at
            # Another text is not another message: a release may write the same one differently.
            ours = dict(zip(values["ids"], values["payloads"], strict=True))
            for id, stored in differing.items():
                if not same_content(stored, ours[id]):
                    raise Conflict(
                        f"session {values['session_id']!r} of user {values['user_id']!r} has a message {id!r} with "
                        f"other content"
                    )
            same += differing

    async def import_session(self, session: Session) -> Imported:
        """Store a conversation that was kept elsewhere, or what is missing of it; return what was new.

        A new session is made whole, in one statement: its messages, its title and metadata, its lineage, and its
        times where it has them. One that is there keeps all that it has, and messages that it lacks are appended to
        it. So it may be repeated, and broken off at any time. More than `max_batch` messages are a
        transaction of several statements.

        Raises:
            Conflict: a message's id is stored with other content.
            InvalidContent, LimitExceeded: something cannot be kept; nothing was written.
        """
        check_id(session.user_id, "user_id", self._settings)
        check_id(session.id, "session_id", self._settings)
        check_list(session.messages)
        size = self._settings.max_batch
        parts = [
            _values(session, prepare_messages(session.messages[start : start + size], self._settings))
            for start in range(0, len(session.messages) or 1, size)
        ]
        head = {
            "title": check_title(session.title),
            "metadata": dump_metadata(session.metadata, self._settings),
            "created_at": aware(session.created_at, "created_at"),
            "updated_at": aware(session.updated_at, "updated_at"),
            "forked_from": None
            if session.forked_from is None
            else check_id(session.forked_from, "forked_from", self._settings),
            "forked_at": check_count(session.forked_at, "forked_at"),
            "ttl": check_ttl(session.ttl),
            # Not a time to come, which would keep the session on top of its user's list.
            "at": min(session.updated_at, datetime.now(UTC)) if session.updated_at is not None else None,
        }
        for attempt in range(_TRIES):
            try:
                if len(parts) == 1:
                    imported = await self._import(self._database.fetch, parts, head)
                else:
                    async with self._database.transaction() as transaction:
                        imported = await self._import(transaction.fetch, parts, head)
            except StatementFailed as error:
                # The user was deleted in between, or a message came in between.
                if error.sqlstate not in ("23503", "23505"):
                    raise
                imported = None
            if imported is not None:
                return imported
            await self._database.fetch(EXPIRE, user_id=session.user_id, session_id=session.id)
            await back_off(attempt)
        raise Unavailable(f"session {session.id!r} of user {session.user_id!r} is written to all the time")

    async def _import(self, fetch: _Fetch, parts: list[dict[str, Any]], head: dict[str, Any]) -> Imported | None:
        """Make the session of the first part, or take the one that is there, and append what it lacks of all parts.

        None: it was deleted in between.
        """
        made = bool(await fetch(IMPORT, **parts[0], **head, count=len(parts[0]["ids"])))
        if not made and not await fetch(IS_KEPT, user_id=parts[0]["user_id"], session_id=parts[0]["session_id"]):
            return None
        new = len(parts[0]["ids"]) if made else 0
        for part in parts[1:] if made else parts:
            stored, _ = await self._append_missing(fetch, part, head["at"]) if part["ids"] else (0, None)
            if stored is None:
                return None
            new += stored
        return Imported(sessions=int(made), messages=new)

    async def delete_session(self, user_id: str, session_id: str) -> Deleted:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        check_id(session_id, "session_id", self._settings)
        row = await self._database.fetch_one(DELETE, user_id=user_id, session_id=session_id)
        return Deleted() if row is None else Deleted(sessions=1, messages=row[0])

    async def fork_session(  # noqa: D102
        self, user_id: str, session_id: str, *, at: str | int | None = None, new_id: str | None = None
    ) -> Session:
        values = self._copy_values(user_id, session_id, new_id)
        kind = None if at is None else check_place(at, self._settings)
        place = {} if kind is None else {"at": at}
        new = {"user_id": user_id, "session_id": values["new_id"]}
        row = None
        for is_last in (False, True):
            try:
                row = await self._database.fetch_one(FORK[kind], **values, **place)
                break
            except StatementFailed as error:
                # What has expired is in nobody's way.
                if is_last or error.sqlstate != "23505" or not await self._expire(self._database.fetch, **new):
                    raise _not_copied(error, values) from error
        if row is None:
            raise NotFound(f"user {user_id!r} has no session {session_id!r}")
        if row[1] is None:
            raise NotFound(f"session {session_id!r} of user {user_id!r} has no message {at!r}")
        if row[2]:
            raise _is_taken(values)
        copy = await self.get_session(user_id, values["new_id"])
        if copy is None:
            raise NotFound(f"session {values['new_id']!r} of user {user_id!r} was deleted as soon as it was there")
        return copy

    async def rewind_session(  # noqa: D102
        self, user_id: str, session_id: str, at: str | int, *, keep: bool = True, new_id: str | None = None
    ) -> Session:
        values = self._copy_values(user_id, session_id, new_id)
        new, states = values.pop("new_id"), values.pop("state_session")
        kind = check_place(at, self._settings)
        async with self._database.transaction() as transaction:
            locked = await transaction.fetch(LOCK, **values)
            if not locked:
                raise NotFound(f"user {user_id!r} has no session {session_id!r}")
            await transaction.fetch(LOCK_STATES, user_id=user_id, state_session=states)
            count = locked[0][0]
            if kind is str:
                found = await transaction.fetch(FIND, **values, message_id=at)
                place = found[0][0] if found else None
            else:
                place = at if at <= count else None
            if place is None:
                raise NotFound(f"session {session_id!r} of user {user_id!r} has no message {at!r}")
            if place < count:
                if keep:
                    await self._expire(transaction.fetch, user_id, new)
                    try:
                        (forked,) = await transaction.fetch(FORK[None], **values, state_session=states, new_id=new)
                    except StatementFailed as error:
                        raise _not_copied(error, {**values, "new_id": new}) from error
                    if forked[2]:
                        raise _is_taken({**values, "new_id": new})
                await transaction.fetch(CUT_OFF, **values, state_session=states, at=place)
            rows = await transaction.fetch(GET, **values)
        head = next(row for row in rows if row[0] is not None)
        return self._session(user_id, session_id, tuple(head), [row[_WIDTH] for row in rows if row[0] is None])

    async def _expire(self, fetch: _Fetch, user_id: str, session_id: str) -> bool:
        """Delete the session and the states of this id that have expired; return whether there were any."""
        sessions = await fetch(EXPIRE, user_id=user_id, session_id=session_id)
        states = await fetch(EXPIRE_STATES, user_id=user_id, session_id=session_id, ttl=self._settings.state_ttl)
        return bool(sessions or states)

    def _copy_values(self, user_id: str, session_id: str, new_id: str | None) -> dict[str, Any]:
        return {
            "user_id": check_id(user_id, "user_id", self._settings),
            "session_id": check_id(session_id, "session_id", self._settings),
            "state_session": bucket(session_id, self._settings),
            "new_id": check_id(new_session_id(new_id), "new_id", self._settings),
        }

    async def set_title(self, user_id: str, session_id: str, title: str | None) -> None:  # noqa: D102
        await self._set(SET_TITLE, user_id, session_id, title=check_title(title))

    async def set_metadata(self, user_id: str, session_id: str, metadata: Mapping[str, Any]) -> None:  # noqa: D102
        await self._set(SET_METADATA, user_id, session_id, metadata=dump_metadata(metadata, self._settings))

    async def change_metadata(  # noqa: D102
        self, user_id: str, session_id: str, change: Callable[[dict[str, Any]], Mapping[str, Any]]
    ) -> dict[str, Any]:
        check_id(user_id, "user_id", self._settings)
        check_id(session_id, "session_id", self._settings)
        async with self._database.transaction() as transaction:
            rows = await transaction.fetch(LOCK_METADATA, user_id=user_id, session_id=session_id)
            if not rows:
                raise NotFound(f"user {user_id!r} has no session {session_id!r}")
            metadata = dump_metadata(change(_metadata(rows[0][0])), self._settings)
            await transaction.fetch(SET_METADATA, user_id=user_id, session_id=session_id, metadata=metadata)
        return _metadata(metadata)

    async def set_ttl(self, user_id: str, session_id: str, ttl: int | None) -> None:  # noqa: D102
        await self._set(SET_TTL, user_id, session_id, ttl=check_ttl(ttl))

    def _session(self, user_id: str, session_id: str, head: Sequence[Any], payloads: Sequence[bytes]) -> Session:
        """Return a session as it was read; an adapter makes another package's of it."""
        created_at, updated_at, title, metadata, forked_from, forked_at, ttl = head[:_WIDTH]
        return Session(
            id=session_id,
            user_id=user_id,
            messages=load_messages(payloads),
            title=title,
            metadata=_metadata(metadata),
            created_at=created_at,
            updated_at=updated_at,
            forked_from=forked_from,
            forked_at=forked_at,
            ttl=ttl,
        )

    async def touch(self, user_id: str, session_id: str, *, idle: int = 0) -> None:
        """Keep a session for its time from now on, as an append does, if nothing was written for `idle` seconds."""
        check_id(user_id, "user_id", self._settings)
        check_id(session_id, "session_id", self._settings)
        await self._database.fetch(TOUCH, user_id=user_id, session_id=session_id, idle=idle)

    async def _set(self, statement: Statement, user_id: str, session_id: str, **value: str | int | None) -> None:
        check_id(user_id, "user_id", self._settings)
        check_id(session_id, "session_id", self._settings)
        if not await self._database.fetch(statement, user_id=user_id, session_id=session_id, **value):
            raise NotFound(f"user {user_id!r} has no session {session_id!r}")


def _values(session: Session, prepared: dict[str, tuple[Message, str]]) -> dict[str, Any]:
    """What every statement that stores messages is given."""
    return {
        "user_id": session.user_id,
        "session_id": session.id,
        "ids": list(prepared),
        "payloads": [payload for _, payload in prepared.values()],
    }


def _is_taken(values: dict[str, Any]) -> AlreadyExists:
    return AlreadyExists(f"user {values['user_id']!r} has a session {values['new_id']!r}, or states of one")


def _not_copied(error: StatementFailed, values: dict[str, Any]) -> AgentStoreError:
    """What it means that a copy was refused."""
    if error.sqlstate == "23505":
        return _is_taken(values)
    if error.sqlstate == "23503":
        return NotFound(f"user {values['user_id']!r} was deleted meanwhile")
    return error


def _metadata(text: str) -> dict[str, Any]:
    return {} if text == "{}" else loads(text)
