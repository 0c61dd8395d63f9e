"""Blobs on Postgres: the statements, then the service that executes them.

A content is stored in chunks under its hash, once for each user, and deleted with the last version that has it.
Versions and chunks are written with the row of the user locked, so that none refers to a content that is being deleted.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from sqlalchemy import ARRAY, BigInteger, ColumnElement, LargeBinary, Text, bindparam, cast, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from agentstore import offload
from agentstore.database.retry import retry
from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Row, Statement
from agentstore.database.transaction import Transaction
from agentstore.interfaces import BlobService
from agentstore.models import BlobChunkRow, BlobRow, UserRow
from agentstore.repositories.service import PostgresService
from agentstore.schemas import Blob, BlobData, Deleted, Page
from agentstore.schemas.blob import (
    CHUNK,
    Content,
    blob_not_found,
    check_about,
    check_blob_key,
    check_version,
    end_of_prefix,
    read_content,
    read_version_cursor,
)
from agentstore.schemas.page import Advice, check_limit, read_cursor, write_cursor
from agentstore.schemas.payload import check_id, load_object

_USER = bindparam("user_id", type_=Text)
_NUMBER = bindparam("number", type_=BigInteger)
_HASH = bindparam("hash", type_=LargeBinary)
_LIMIT = bindparam("limit", type_=BigInteger)
_IN_SESSION = (
    (BlobRow.user_id == _USER)
    & (BlobRow.session_id == bindparam("session_id", type_=Text))
    & (BlobRow.app == bindparam("app", type_=Text))
)
_THIS = _IN_SESSION & (BlobRow.name == bindparam("name", type_=Text))
_THIS_VERSION = _THIS & (BlobRow.version == bindparam("version", type_=BigInteger))
_COLUMNS = (
    BlobRow.name,
    BlobRow.version,
    BlobRow.size,
    BlobRow.hash,
    BlobRow.content_type,
    BlobRow.filename,
    cast(BlobRow.metadata_, Text).label("metadata"),
    BlobRow.saved_at,
)
SQL = SqlStatements(__file__)

INSERT_USER = SQL("insert_user")
# Weaker than the lock of a deletion of the user, and no obstacle for rows that refer to the user.
LOCK_USER = Statement(
    select(UserRow.id).where(UserRow.id == _USER).with_for_update(key_share=True),
    name="blobs.lock_user",
    scope="user",
    repeatable=False,
)
GET = Statement(select(*_COLUMNS).where(_THIS_VERSION), name="blobs.get", scope="user")
GET_LAST = Statement(
    select(*_COLUMNS).where(_THIS).order_by(BlobRow.version.desc()).limit(1), name="blobs.get_last", scope="user"
)
LIST = SQL("list_blobs")
LIST_OF_USER = SQL("list_blobs_of_user")
LIST_VERSIONS = Statement(
    select(*_COLUMNS)
    .where(_THIS, BlobRow.version < bindparam("before_version", type_=BigInteger))
    .order_by(BlobRow.version.desc())
    .limit(_LIMIT),
    name="blobs.list_versions",
    scope="user",
)
PUT = SQL("put_blob")
COUNT_CHUNKS = Statement(
    select(func.count()).select_from(BlobChunkRow).where(BlobChunkRow.user_id == _USER, BlobChunkRow.hash == _HASH),
    name="blobs.count_chunks",
    scope="user",
)
_CHUNK: dict[str, Any] = {
    "user_id": _USER,
    "hash": _HASH,
    "number": _NUMBER,
    "data": bindparam("data", type_=LargeBinary),
}
ADD_CHUNK = Statement(
    insert(BlobChunkRow).values(_CHUNK).returning(BlobChunkRow.number),
    name="blobs.add_chunk",
    scope="user",
    repeatable=False,
)
CHUNK_OF = Statement(
    select(BlobChunkRow.data).where(
        BlobChunkRow.user_id == _USER, BlobChunkRow.hash == _HASH, BlobChunkRow.number == _NUMBER
    ),
    name="blobs.chunk_of",
    scope="user",
)


def _delete(*conditions: ColumnElement[bool]) -> Statement:
    return Statement(
        delete(BlobRow).where(*conditions).returning(BlobRow.hash, BlobRow.size),
        name="blobs.delete",
        scope="user",
        repeatable=False,
    )


DELETE_VERSION = _delete(_THIS_VERSION)
DELETE_BLOB = _delete(_THIS)
DELETE_ALL = _delete(_IN_SESSION)
PRUNE = _delete(
    BlobRow.user_id == _USER,
    BlobRow.session_id == bindparam("session_id", type_=Text),
    BlobRow.saved_at < bindparam("before", type_=BlobRow.saved_at.type),
)
# Executed after a deletion, in its transaction: as a statement of its own, it sees what was deleted.
DELETE_CONTENTS = Statement(
    delete(BlobChunkRow)
    .where(
        BlobChunkRow.user_id == _USER,
        BlobChunkRow.hash == func.any(bindparam("hashes", type_=ARRAY(LargeBinary))),
        ~select(BlobRow.version)
        .where(BlobRow.user_id == _USER, BlobRow.user_id == BlobChunkRow.user_id, BlobRow.hash == BlobChunkRow.hash)
        .exists(),
    )
    .returning(BlobChunkRow.number),
    name="blobs.delete_contents",
    scope="user",
    repeatable=False,
)


class PostgresBlobService(PostgresService, BlobService, area="blobs"):
    """Blobs stored in Postgres; see :class:`BlobService`."""

    async def put(  # noqa: D102 - documented by the interface
        self,
        user_id: str,
        name: str,
        data: BlobData,
        session_id: str | None = None,
        *,
        app: str = "",
        content_type: str | None = None,
        filename: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Blob:
        key = check_blob_key(user_id, session_id, app, self._settings)
        key["name"] = check_id(name, "name", self._settings)
        about = await offload.run(check_about, content_type, filename, metadata, self._settings)
        # Read as a whole before the transaction begins, so that no lock is held while its source is slow.
        content = await read_content(data, self._settings)
        values = {**key, **about, "hash": content.hash, "chunks": content.chunks, "size": content.size}

        async def put(_: int) -> Row | None:
            async with self._database.transaction() as transaction:
                await transaction.fetch(INSERT_USER, user_id=user_id)
                if not await transaction.fetch(LOCK_USER, user_id=user_id):
                    return None  # deleted since
                await self._add_content(transaction, user_id, content)
                (row,) = await transaction.fetch(PUT, **values)
                return row

        try:
            version, saved_at = await retry(put, f"could not store blob {name!r} of user {user_id!r}")
        finally:
            content.file.close()
        row = (name, version, content.size, content.hash, content_type, filename, about["metadata"], saved_at)
        return await offload.run(_blob, row, key)

    async def _add_content(self, transaction: Transaction, user_id: str, content: Content) -> None:
        """Store the chunks of a content, unless the user has it."""
        values = {"user_id": user_id, "hash": content.hash}
        ((count,),) = await transaction.fetch(COUNT_CHUNKS, **values)
        if count == content.chunks:
            return
        content.file.seek(0)
        for number in range(1, content.chunks + 1):
            data = await asyncio.to_thread(content.file.read, CHUNK)
            await transaction.fetch(ADD_CHUNK, **values, number=number, data=data)

    async def get(  # noqa: D102
        self,
        user_id: str,
        name: str,
        session_id: str | None = None,
        *,
        app: str = "",
        version: int | None = None,
        stale_ok: bool = False,
    ) -> Blob | None:
        key = check_blob_key(user_id, session_id, app, self._settings)
        values = {**key, "name": check_id(name, "name", self._settings), "version": check_version(version)}
        statement = GET_LAST if version is None else GET
        row = await self._database.read(lambda database: database.fetch_one(statement, **values), stale_ok=stale_ok)
        return None if row is None else await offload.run(_blob, row, key)

    async def read(  # noqa: D102
        self,
        user_id: str,
        name: str,
        session_id: str | None = None,
        *,
        app: str = "",
        version: int | None = None,
        stale_ok: bool = False,
    ) -> AsyncIterator[bytes]:
        blob = await self.get(user_id, name, session_id, app=app, version=version, stale_ok=stale_ok)
        if blob is None:
            raise blob_not_found(user_id, name, session_id, version)
        values: dict[str, Any] = {"user_id": user_id, "hash": bytes.fromhex(blob.sha256), "number": 0}
        size = 0
        while size < blob.size:
            values["number"] += 1
            row = await self._database.read(lambda database: database.fetch_one(CHUNK_OF, **values), stale_ok=stale_ok)
            if row is None:
                raise blob_not_found(user_id, name, session_id, blob.version)
            size += len(row[0])
            yield row[0]

    async def list(  # noqa: D102
        self,
        user_id: str,
        session_id: str | None = None,
        *,
        app: str = "",
        prefix: str = "",
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[Blob]:
        key = check_blob_key(user_id, session_id, app, self._settings)
        check_limit(limit, self._settings.max_page)
        values = {**key, "first": check_id(prefix, "prefix", self._settings), "until": end_of_prefix(prefix)}
        values |= {"after": None if cursor is None else read_cursor(cursor, str)[0], "limit": limit}
        return await self._page(LIST, values, key, limit, lambda blob: blob.name, stale_ok=stale_ok)

    async def list_of_user(  # noqa: D102
        self, user_id: str, *, limit: int | None = None, cursor: str | None = None, stale_ok: bool = False
    ) -> Page[Blob]:
        owner = check_id(user_id, "user_id", self._settings)
        check_limit(limit, self._settings.max_page)
        # No session has the id "".
        session, app, name = ("", "", "") if cursor is None else read_cursor(cursor, str, str, str)
        values = {"user_id": owner, "after_session": session, "after_app": app, "after": name, "limit": limit}
        rows = await self._database.read(
            lambda database: database.fetch_page(LIST_OF_USER, Advice.SMALLER_LIMIT, **values), stale_ok=stale_ok
        )
        blobs = await offload.run(
            lambda: [_blob(row[2:], {"user_id": owner, "session_id": row[0], "app": row[1]}) for row in rows]
        )
        is_full = blobs and len(blobs) == limit
        return Page(blobs, write_cursor(*map(str, rows[-1][:3])) if is_full else None)

    async def list_versions(  # noqa: D102
        self,
        user_id: str,
        name: str,
        session_id: str | None = None,
        *,
        app: str = "",
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[Blob]:
        key = check_blob_key(user_id, session_id, app, self._settings)
        check_limit(limit, self._settings.max_page)
        values = {**key, "name": check_id(name, "name", self._settings), "limit": limit}
        values["before_version"] = read_version_cursor(cursor)
        return await self._page(LIST_VERSIONS, values, key, limit, lambda blob: str(blob.version), stale_ok=stale_ok)

    async def _page(
        self,
        statement: Statement,
        values: dict[str, Any],
        key: dict[str, Any],
        limit: int | None,
        key_of: Callable[[Blob], str],
        *,
        stale_ok: bool,
    ) -> Page[Blob]:
        rows = await self._database.read(
            lambda database: database.fetch_page(statement, Advice.SMALLER_LIMIT, **values), stale_ok=stale_ok
        )
        blobs = await offload.run(lambda: [_blob(row, key) for row in rows])
        return Page(blobs, write_cursor(key_of(blobs[-1])) if blobs and len(blobs) == limit else None)

    async def delete(  # noqa: D102
        self,
        user_id: str,
        name: str,
        session_id: str | None = None,
        *,
        app: str = "",
        version: int | None = None,
    ) -> Deleted:
        key = check_blob_key(user_id, session_id, app, self._settings)
        values = {**key, "name": check_id(name, "name", self._settings), "version": check_version(version)}
        return await self._delete(DELETE_BLOB if version is None else DELETE_VERSION, values)

    async def delete_all(  # noqa: D102
        self, user_id: str, session_id: str | None = None, *, app: str = ""
    ) -> Deleted:
        return await self._delete(DELETE_ALL, check_blob_key(user_id, session_id, app, self._settings))

    async def _delete(self, statement: Statement, values: dict[str, Any]) -> Deleted:
        async def delete(_: int) -> int:
            async with self._database.transaction() as transaction:
                return len(await delete_in(transaction, statement, values))

        return Deleted(blobs=await retry(delete, f"could not delete blobs of user {values['user_id']!r}"))


async def delete_in(transaction: Transaction, statement: Statement, values: dict[str, Any]) -> "list[Row]":
    """Delete versions of a user by one of the statements above, and the contents that no version has any more."""
    await transaction.fetch(LOCK_USER, user_id=values["user_id"])
    rows = await transaction.fetch(statement, **values)
    if rows:
        await transaction.fetch(DELETE_CONTENTS, user_id=values["user_id"], hashes=list({row[0] for row in rows}))
    return rows


def _blob(row: Any, key: dict[str, Any]) -> Blob:
    name, version, size, digest, content_type, filename, metadata, saved_at = row
    return Blob(
        user_id=key["user_id"],
        session_id=key["session_id"],
        app=key["app"],
        name=name,
        version=version,
        size=size,
        sha256=bytes(digest).hex(),
        content_type=content_type,
        filename=filename,
        metadata=load_object(metadata, ("blobs", key["user_id"], key["session_id"], name)),
        saved_at=saved_at,
    )
