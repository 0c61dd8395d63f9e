"""Sessions and their messages on Postgres.

Each method executes one statement, in one round trip and one transaction, unless it meets a concurrent change. The
statements are in the modules beside this one: ``statements``, ``append_statements`` and ``copies``; ``appends`` lets
concurrent appends share a statement.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore import offload
from agentstore.database.database import Database
from agentstore.database.retry import is_conflict, retry
from agentstore.database.statement import Row, Statement
from agentstore.database.telemetry import Telemetry
from agentstore.database.url import Password
from agentstore.errors import (
    AlreadyExists,
    LimitExceeded,
    NotFound,
    StatementFailed,
    UnreadableRow,
)
from agentstore.event_loops import PerLoop
from agentstore.interfaces import StoreSessionHistoryService
from agentstore.repositories import steps
from agentstore.repositories.service import PostgresService
from agentstore.repositories.sessions.append_statements import APPEND, APPEND_TO_MANY
from agentstore.repositories.sessions.appends import Appends, Key, Stored, stored_by
from agentstore.repositories.sessions.copies import Copies
from agentstore.repositories.sessions.edits import Edits
from agentstore.repositories.sessions.imports import Imports, values_of_messages
from agentstore.repositories.sessions.lists import list_sessions
from agentstore.repositories.sessions.rows import load_metadata
from agentstore.repositories.sessions.statements import (
    CREATE,
    CREATE_NEW,
    DELETE,
    EXISTS,
    EXPIRE,
    FIND_IDS,
    FIND_MESSAGE,
    GET,
    GET_AFTER,
    GET_BEFORE,
    GET_LAST,
    HEAD_WIDTH,
    LOCK_METADATA,
    LOCK_TO_DELETE,
    SET_METADATA,
    SET_TITLE,
    SET_TTL,
    TOUCH,
    Found,
    found_in,
    split,
)
from agentstore.schemas import Appended, Deleted, Imported, Message, MessagesLike, Page, Session, StoredMessages
from agentstore.schemas.edits import MetadataPatch, check_message_ids, check_patch, prepare_replacement
from agentstore.schemas.listing import SessionOrder, read_session_filters
from agentstore.schemas.memory import bucket
from agentstore.schemas.message import place_messages
from agentstore.schemas.page import Advice, check_count, check_limit
from agentstore.schemas.payload import (
    MAX_TTL,
    check_end,
    check_id,
    check_missing_session,
    check_place,
    check_session,
    check_title,
    check_ttl,
    dump_metadata,
    load_each_message,
    load_messages,
    message_key,
    new_session_id,
    prepare_messages,
)
from agentstore.schemas.session import extend_messages
from agentstore.schemas.values import ScopedValues, prepare_values
from agentstore.settings import Settings


class PostgresSessionHistoryService(PostgresService, StoreSessionHistoryService, area="sessions"):
    """Conversation history on Postgres, shared by all processes that use the database.

    See :class:`agentstore.SessionHistoryService` for what each method does and raises.
    """

    def __init__(
        self,
        dsn: str | URL | None = None,
        *,
        missing_session: Literal["error", "create"] = "error",
        engine: AsyncEngine | None = None,
        settings: Settings | None = None,
        password: Password | None = None,
        database: Database | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Create a service with a database of its own, or on the `database` of a store.

        `missing_session="create"` makes the methods that read or append create a missing session, as AgentScope
        Runtime's in-memory service does; with "error" they return None or raise NotFound. The other arguments are those
        of :class:`PostgresService`.
        """
        super().__init__(
            dsn, engine=engine, settings=settings, password=password, database=database, telemetry=telemetry
        )
        self._create_missing = check_missing_session(missing_session)
        self._appends: PerLoop[Appends] = PerLoop()
        self._edits = Edits(self._database, self._settings)
        self._copies = Copies(self._database, self._settings)

    async def create_session(  # noqa: D102 - documented by the interface
        self,
        user_id: str,
        session_id: str | None = None,
        *,
        exist_ok: bool = True,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        ttl: int | None = None,
        app: str | None = None,
        messages: bool = True,
    ) -> Session:
        check_id(user_id, "user_id", self._settings)
        session_id = check_id(new_session_id(session_id), "session_id", self._settings)
        return await self._create(
            user_id,
            session_id,
            exist_ok=exist_ok,
            title=check_title(title),
            metadata="{}" if metadata is None else await offload.run(dump_metadata, metadata, self._settings),
            ttl=check_ttl(ttl),
            app=None if app is None else check_id(app, "app", self._settings),
            messages=messages,
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
        app: str | None = None,
        messages: bool = True,
    ) -> Session:
        """Create the session with exactly this id, or return the existing one; all values are checked already."""
        values = {
            "user_id": user_id,
            "session_id": session_id,
            "title": title,
            "metadata": metadata,
            "ttl": ttl,
            "app": app,
            "with_messages": bool(messages) and exist_ok,
        }

        async def create(attempt: int) -> list[Row] | None:
            if attempt:
                await self._database.fetch(EXPIRE, user_id=user_id, session_id=session_id)
            return (
                await self._database.fetch_page(CREATE if exist_ok else CREATE_NEW, Advice.READ_PARTS, **values) or None
            )

        rows = await retry(create, f"could not create session {session_id!r} of user {user_id!r}")
        if not rows[0][0] and not exist_ok:
            raise AlreadyExists(f"user {user_id!r} already has a session {session_id!r}")
        return await self._load(user_id, session_id, found_in(rows, first=1))

    async def get_session(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        *,
        limit: int | None = None,
        before: str | None = None,
        whole_calls: bool = False,
        stale_ok: bool = False,
    ) -> Session | None:
        check_end(before, None, self._settings)
        found = await self._read(user_id, session_id, limit, before, stale_ok=stale_ok)
        if found is None:
            return await self._create(user_id, session_id) if self._create_missing else None
        session = await self._load(user_id, session_id, found)
        if whole_calls:
            await self._add_calls(session, stale_ok=stale_ok)
        return session

    async def read_messages(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        *,
        limit: int | None = None,
        before: str | None = None,
        through: str | None = None,
        before_seq: int | None = None,
        stale_ok: bool = False,
    ) -> StoredMessages | None:
        check_end(before, through, self._settings, before_seq)
        found = await self._read(user_id, session_id, limit, before, through, before_seq, stale_ok=stale_ok)
        if found is not None:
            return StoredMessages(found.payloads, user_id, session_id, found.places)
        if not self._create_missing:
            return None
        await self._create(user_id, session_id, messages=False)
        return StoredMessages()

    async def _read(
        self,
        user_id: str,
        session_id: str,
        limit: int | None,
        before: str | None,
        through: str | None = None,
        before_seq: int | None = None,
        *,
        stale_ok: bool,
    ) -> Found | None:
        """Read a session with all or the last messages; None if it does not exist."""
        end = before if through is None else through
        last = steps.MAX if before_seq is None else min(check_count(before_seq, "before_seq"), steps.MAX)
        values = {**self._key(user_id, session_id), "limit": check_limit(limit), "before_seq": last}
        statement = GET if limit is None and before_seq is None else GET_LAST
        if end is not None:
            statement = GET_BEFORE
            values |= {"before": end, "included": 0 if through is None else 1}
        rows = await self._database.read(
            lambda database: database.fetch_page(statement, Advice.READ_PARTS, **values), stale_ok=stale_ok
        )
        found = split(rows)
        if found is not None and end is not None and found.head[HEAD_WIDTH + 2] is None:
            raise NotFound(f"session {session_id!r} of user {user_id!r} has no message {end!r}")
        return found

    async def find_message(  # noqa: D102
        self, user_id: str, message_id: str, *, stale_ok: bool = False
    ) -> str | None:
        check_id(user_id, "user_id", self._settings)
        check_id(message_id, "message_id", self._settings)
        rows = await self._database.read(
            lambda database: database.fetch(FIND_MESSAGE, user_id=user_id, id=message_id), stale_ok=stale_ok
        )
        return rows[0][0] if rows else None

    async def iter_messages(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        *,
        after_seq: int = 0,
        batch: int = 1_000,
        on_unreadable: Callable[[UnreadableRow], object] | None = None,
        stale_ok: bool = False,
    ) -> AsyncIterator[Message]:
        values = self._key(user_id, session_id)
        values["limit"] = check_count(batch, "batch", minimum=1, maximum=self._settings.max_page)
        after = min(check_count(after_seq, "after_seq"), steps.MAX)
        is_found = False
        has_read = False

        async def read_batch(database: Database) -> list[Row]:
            return await database.fetch_page(GET_AFTER, Advice.RAISE_LIMIT, **values, after_seq=after)

        while True:
            try:
                rows = await self._database.read(read_batch, stale_ok=stale_ok)
            except LimitExceeded:  # the batch is limited by the stored size, which may be compressed
                if values["limit"] == 1:
                    raise
                values["limit"] = max(1, values["limit"] // 10)
                continue
            if not rows and (has_read or is_found):
                return
            if not rows:
                # Read once more: the session may have been created, with messages, since the batch was read.
                is_found = True
                if self._create_missing:
                    await self._create(user_id, session_id, messages=False)
                elif not await self._database.read(
                    lambda database: database.fetch(EXISTS, **values), stale_ok=stale_ok
                ):
                    raise NotFound(f"user {user_id!r} has no session {session_id!r}")
                continue
            after, has_read = rows[-1][0], True
            key, places = message_key(user_id, session_id), [row[2] for row in rows]
            loaded = await offload.run(load_each_message, [row[1] for row in rows], key, places)
            unreadable = [each for each in loaded if isinstance(each, UnreadableRow)]
            for error in await self._with_ids(unreadable[:1] if on_unreadable is None else unreadable):
                if on_unreadable is None:
                    raise error
                on_unreadable(error)
            for each in loaded:
                if not isinstance(each, UnreadableRow):
                    yield each

    async def list_sessions(  # noqa: D102
        self,
        user_id: str | None = None,
        *,
        app: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        title: str | None = None,
        since: datetime | str | float | None = None,
        until: datetime | str | float | None = None,
        order: SessionOrder = "last_used",
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[Session]:
        filters = read_session_filters(
            self._settings,
            user_id=user_id,
            app=app,
            metadata=metadata,
            title=title,
            since=since,
            until=until,
            order=order,
            limit=limit,
            cursor=cursor,
        )
        return await self._database.read(lambda database: list_sessions(database, filters), stale_ok=stale_ok)

    async def append_message(self, session: Session, message: MessagesLike) -> None:  # noqa: D102
        check_session(session, self._settings)
        prepared = await offload.run(prepare_messages, message, self._settings)
        if not prepared:
            return
        messages = [each for each, _ in prepared.values()]
        values = values_of_messages(session.user_id, session.id, prepared)
        stored = await self._append(values)
        if stored is None:
            stored = await self._create_and_append(values)
        place_messages(messages, stored.places)
        extend_messages(session, messages, stored.updated_at, stored.message_count)

    async def append(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        messages: MessagesLike,
        *,
        create: bool = True,
        expected_seq: int | None = None,
        metadata_patch: MetadataPatch | None = None,
        app: str | None = None,
        values: ScopedValues | None = None,
    ) -> Appended:
        check_id(user_id, "user_id", self._settings)
        check_id(session_id, "session_id", self._settings)
        if expected_seq is not None:
            expected_seq = check_count(expected_seq, "expected_seq")
        if metadata_patch is not None:
            check_patch(metadata_patch, self._settings)
        app = None if app is None else check_id(app, "app", self._settings)
        changes = None if values is None else await offload.run(prepare_values, values, app or "", self._settings)
        prepared = await offload.run(prepare_messages, messages, self._settings)
        columns = values_of_messages(user_id, session_id, prepared)
        is_plain = prepared and metadata_patch is None and changes is None
        stored = await self._append(columns, expected_seq) if is_plain else None
        if stored is None:
            is_missing = bool(is_plain) and expected_seq is None
            stored = await self._edits.append(
                columns, create, expected_seq, metadata_patch, app, changes, is_missing=is_missing
            )
        place_messages([each for each, _ in prepared.values()], stored.places)
        return Appended(stored.first_seq, stored.last_seq, stored.created_at)

    async def _append(self, values: dict[str, Any], expected: int | None = None) -> Stored | None:
        """Append messages, together with concurrent appends; None if the session does not exist.

        None as well if it has not as many messages as `expected`.
        """
        key = values["user_id"], values["session_id"]
        appends = self._appends.get() or self._appends.get_or_create(self._create_appends)
        if expected is not None or not appends.accepts(key, values["payloads"]):
            return await self._append_alone(appends, key, values, expected)
        if appends.begin(key):
            try:
                return await self._append_alone(appends, key, values)
            finally:
                appends.end(key)
        stored = await appends.wait(key, values["ids"], values["payloads"])
        return await self._append_alone(appends, key, values) if stored is None else stored

    def _create_appends(self) -> Appends:
        return Appends(self._database, APPEND, APPEND_TO_MANY)

    async def _append_alone(
        self, appends: Appends, key: Key, values: dict[str, Any], expected: int | None = None
    ) -> Stored | None:
        """Append by a statement of its own; None as :meth:`_append`."""
        try:
            rows = await self._database.fetch(APPEND, **values, count=len(values["ids"]), expected=expected)
        except StatementFailed as error:
            if not is_conflict(error):
                raise
            appends.exclude(key)
            if expected is not None:
                return None
            try:
                return await self._edits.append_missing(values)
            except NotFound:
                return None
        if not rows:
            return None
        appends.include(key)
        return stored_by(rows, len(values["ids"]))

    async def _create_and_append(self, values: dict[str, Any]) -> Stored:
        """Create the missing session, if this service does that, and append to it."""
        user_id, session_id = values["user_id"], values["session_id"]
        if not self._create_missing:
            raise NotFound(f"user {user_id!r} has no session {session_id!r}")

        async def create_and_append(_: int) -> Stored | None:
            await self._create(user_id, session_id, messages=False)
            return await self._append(values)

        return await retry(create_and_append, f"could not append to session {session_id!r} of user {user_id!r}")

    async def import_session(self, session: Session, *, differences: Literal["error", "keep"] = "error") -> Imported:  # noqa: D102
        return await Imports(self._database, self._settings).store(session, differences)

    async def pop_messages(self, user_id: str, session_id: str, n: int = 1) -> list[Message]:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        check_id(session_id, "session_id", self._settings)
        return await self._edits.pop(user_id, session_id, check_count(n, "n"))

    async def delete_messages(  # noqa: D102
        self, user_id: str, session_id: str, ids: Sequence[str]
    ) -> Deleted:
        check_id(user_id, "user_id", self._settings)
        check_id(session_id, "session_id", self._settings)
        unique = check_message_ids(ids, self._settings)
        return Deleted(messages=await self._edits.delete(user_id, session_id, unique) if unique else 0)

    async def replace_message(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        message: Message | Mapping[str, Any],
        *,
        expected: Message | Mapping[str, Any] | None = None,
    ) -> Message:
        check_id(user_id, "user_id", self._settings)
        check_id(session_id, "session_id", self._settings)
        new, payload, before = await offload.run(prepare_replacement, message, expected, self._settings)
        place = await self._edits.replace(user_id, session_id, new.id, payload, before)
        place_messages([new], [place])
        return new

    async def replace_from(  # noqa: D102
        self, user_id: str, session_id: str, at: str | int, messages: MessagesLike
    ) -> Appended:
        check_id(user_id, "user_id", self._settings)
        check_id(session_id, "session_id", self._settings)
        check_place(at, self._settings, minimum=1)
        prepared = await offload.run(prepare_messages, messages, self._settings)
        stored = await self._edits.replace_from(values_of_messages(user_id, session_id, prepared), at)
        place_messages([each for each, _ in prepared.values()], stored.places)
        return Appended(stored.first_seq, stored.last_seq, stored.created_at)

    async def delete_session(  # noqa: D102
        self, user_id: str, session_id: str, *, only_if: Callable[[dict[str, Any]], bool] | None = None
    ) -> Deleted:
        key = self._key(user_id, session_id)
        if only_if is None:
            row = await self._database.fetch_one(DELETE, **key, most=steps.STEP)
            if row is None:
                return Deleted()
            if row["is_deleted"]:
                return Deleted(sessions=1, messages=row["messages"])
        async with self._database.transaction() as transaction:
            rows = await transaction.fetch(LOCK_TO_DELETE if only_if is None else LOCK_METADATA, **key)
            if not rows:
                return Deleted()
            if only_if is not None:
                if not only_if(await offload.run(load_metadata, rows[0][0], user_id, session_id)):
                    return Deleted()
                (row,) = await transaction.fetch(DELETE, **key, most=steps.STEP)
                if row["is_deleted"]:
                    return Deleted(sessions=1, messages=row["messages"])
            count, _ = await steps.delete_parts(transaction.fetch, "sessions", user_id, session_id)
            await transaction.fetch(DELETE, **key, most=steps.MAX)
        return Deleted(sessions=1, messages=count)

    async def fork_session(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        *,
        at: str | int | None = None,
        new_id: str | None = None,
        messages: bool = True,
    ) -> Session:
        values = self._copy_values(user_id, session_id, new_id)
        if at is not None:
            check_place(at, self._settings)
        await self._copies.fork(values, at)
        try:
            copy = await self.get_session(user_id, values["new_id"], limit=None if messages else 0)
        except LimitExceeded as error:
            raise LimitExceeded(f"session {values['new_id']!r} was created, but {error}") from error
        if copy is None:
            raise NotFound(f"session {values['new_id']!r} of user {user_id!r} was deleted right after it was created")
        return copy

    async def rewind_session(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        at: str | int,
        *,
        keep: bool = True,
        new_id: str | None = None,
        messages: bool = True,
    ) -> Session:
        values = self._copy_values(user_id, session_id, new_id)
        check_place(at, self._settings)
        return await self._load(
            user_id, session_id, await self._copies.rewind(values, at, keep=keep, messages=bool(messages))
        )

    def _copy_values(self, user_id: str, session_id: str, new_id: str | None) -> dict[str, Any]:
        return {
            **self._key(user_id, session_id),
            "state_session": bucket(session_id, self._settings),
            "new_id": check_id(new_session_id(new_id), "new_id", self._settings),
        }

    async def set_title(self, user_id: str, session_id: str, title: str | None) -> None:  # noqa: D102
        await self._set(SET_TITLE, user_id, session_id, title=check_title(title))

    async def set_metadata(self, user_id: str, session_id: str, metadata: Mapping[str, Any]) -> None:  # noqa: D102
        text = await offload.run(dump_metadata, metadata, self._settings)
        await self._set(SET_METADATA, user_id, session_id, metadata=text)

    async def change_metadata(  # noqa: D102
        self, user_id: str, session_id: str, change: Callable[[dict[str, Any]], Mapping[str, Any]]
    ) -> dict[str, Any]:
        key = self._key(user_id, session_id)
        async with self._database.transaction() as transaction:
            rows = await transaction.fetch(LOCK_METADATA, **key)
            if not rows:
                raise NotFound(f"user {user_id!r} has no session {session_id!r}")
            stored = await offload.run(load_metadata, rows[0][0], user_id, session_id)
            metadata = await offload.run(dump_metadata, change(stored), self._settings)
            await transaction.fetch(SET_METADATA, **key, metadata=metadata)
        return await offload.run(load_metadata, metadata, user_id, session_id)

    async def set_ttl(self, user_id: str, session_id: str, ttl: int | None) -> None:  # noqa: D102
        await self._set(SET_TTL, user_id, session_id, ttl=check_ttl(ttl))

    async def _load(self, user_id: str, session_id: str, found: Found) -> Session:
        """Build a session from what was read.

        Raises:
            UnreadableRow: a message, or the metadata, is not valid.
        """
        try:
            return await offload.run(self._session, user_id, session_id, found)
        except UnreadableRow as error:
            raise (await self._with_ids([error]))[0] from error

    async def _with_ids(self, errors: Sequence[UnreadableRow]) -> list[UnreadableRow]:
        """Return errors with the ids of the messages, which no statement reads that reads many messages."""
        of_messages = [error for error in errors if error.table == "messages" and error.seq is not None]
        if not of_messages:
            return list(errors)
        key = {"user_id": of_messages[0].user_id, "session_id": of_messages[0].session_id}
        rows = await self._database.fetch(FIND_IDS, **key, seqs=[error.seq for error in of_messages])
        ids = {row[0]: row[1] for row in rows}
        return [
            UnreadableRow(each.reason, each.table, each.user_id, each.session_id, ids.get(each.seq, each.id), each.seq)
            for each in errors
        ]

    def _session(self, user_id: str, session_id: str, found: Found) -> Session:
        """Build a session from what was read. An adapter overrides this to return another package's class."""
        created_at, updated_at, title, metadata, forked_from, forked_at, ttl, app, count = found.head[:HEAD_WIDTH]
        return Session(
            id=session_id,
            user_id=user_id,
            messages=load_messages(found.payloads, message_key(user_id, session_id), found.places),
            title=title,
            metadata=load_metadata(metadata, user_id, session_id),
            created_at=created_at,
            updated_at=updated_at,
            forked_from=forked_from,
            forked_at=forked_at,
            ttl=ttl,
            app=app,
            message_count=count,
        )

    async def touch(self, user_id: str, session_id: str, *, idle: int = 0) -> None:  # noqa: D102
        key = self._key(user_id, session_id)
        await self._database.fetch(TOUCH, **key, idle=check_count(idle, "idle", maximum=MAX_TTL))

    async def _set(self, statement: Statement, user_id: str, session_id: str, **value: str | int | None) -> None:
        if not await self._database.fetch(statement, **self._key(user_id, session_id), **value):
            raise NotFound(f"user {user_id!r} has no session {session_id!r}")

    def _key(self, user_id: str, session_id: str) -> dict[str, Any]:
        return {
            "user_id": check_id(user_id, "user_id", self._settings),
            "session_id": check_id(session_id, "session_id", self._settings),
        }
