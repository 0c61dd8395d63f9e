"""The stored workspaces of sandboxes on Postgres: the statements, then the class that executes them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import BigInteger, LargeBinary, Text, bindparam, delete, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from agentstore.database.database import Database
from agentstore.database.statement import Statement
from agentstore.errors import SandboxFailed, SandboxLost
from agentstore.models import SandboxRow, UserRow, WorkspaceChunkRow, WorkspaceRow
from agentstore.sandbox.archive import CHUNK, pack, unpack
from agentstore.settings import Settings

_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_TYPE = bindparam("type", type_=Text)
_NUMBER = bindparam("number", type_=BigInteger)
_MATCHES_KEY = (WorkspaceRow.user_id == _USER) & (WorkspaceRow.session_id == _SESSION) & (WorkspaceRow.type == _TYPE)
_MATCHES_CHUNKS = (
    (WorkspaceChunkRow.user_id == _USER)
    & (WorkspaceChunkRow.session_id == _SESSION)
    & (WorkspaceChunkRow.type == _TYPE)
)

# The lock that a foreign key check takes. A deletion of the user locks both rows in the same order.
OWNER = Statement(
    select(UserRow.id).where(UserRow.id == _USER).with_for_update(read=True, key_share=True),
    name="sandboxes.owner",
    scope="user",
    repeatable=False,
)
# The row stays locked until the commit, so that no process takes the sandbox over before its workspace is saved.
FENCE = Statement(
    select(SandboxRow.generation)
    .where(
        SandboxRow.user_id == _USER,
        SandboxRow.session_id == _SESSION,
        SandboxRow.type == _TYPE,
        SandboxRow.generation == bindparam("generation", type_=BigInteger),
    )
    .with_for_update(),
    name="sandboxes.fence",
    scope="user",
    repeatable=False,
)
_HEAD: dict[str, Any] = {
    "user_id": _USER,
    "session_id": _SESSION,
    "type": _TYPE,
    "chunks": bindparam("chunks", type_=BigInteger),
    "size": bindparam("size", type_=BigInteger),
    "saved_at": func.now(),
}
_SAVED = upsert(WorkspaceRow).values(_HEAD)
SAVE = Statement(
    _SAVED.on_conflict_do_update(
        index_elements=["user_id", "session_id", "type"],
        set_={name: _SAVED.excluded[name] for name in ("chunks", "size", "saved_at")},
    ).returning(WorkspaceRow.size),
    name="sandboxes.save",
    scope="user",
    repeatable=False,
)
CLEAR = Statement(
    delete(WorkspaceChunkRow).where(_MATCHES_CHUNKS).returning(WorkspaceChunkRow.number),
    name="sandboxes.clear",
    scope="user",
    repeatable=False,
)
_CHUNK: dict[str, Any] = {
    "user_id": _USER,
    "session_id": _SESSION,
    "type": _TYPE,
    "number": _NUMBER,
    "data": bindparam("data", type_=LargeBinary),
}
ADD = Statement(
    upsert(WorkspaceChunkRow).values(_CHUNK).returning(WorkspaceChunkRow.number),
    name="sandboxes.add",
    scope="user",
    repeatable=False,
)
GET = Statement(select(WorkspaceRow.chunks, WorkspaceRow.size).where(_MATCHES_KEY), name="sandboxes.get", scope="user")
DELETE = Statement(
    delete(WorkspaceRow)
    .where(WorkspaceRow.user_id == _USER, WorkspaceRow.session_id == _SESSION)
    .returning(WorkspaceRow.type),
    name="sandboxes.delete",
    scope="user",
    repeatable=False,
)
CHUNK_OF = Statement(
    select(WorkspaceChunkRow.data).where(_MATCHES_CHUNKS, WorkspaceChunkRow.number == _NUMBER),
    name="sandboxes.chunk_of",
    scope="user",
)


class Workspaces:
    """The stored workspace of each user, session and type of sandbox."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._max_bytes = settings.max_workspace_bytes

    async def save(
        self, user_id: str, session_id: str, type_: str, generation: int, archive: AsyncIterator[bytes]
    ) -> None:
        """Compress and store an archive in place of the previous one, if the sandbox still has this generation. Atomic.

        Raises:
            LimitExceeded: the compressed archive is larger than AGENTSTORE_MAX_WORKSPACE_BYTES.
            SandboxLost: the sandbox was released or taken over; the previous archive is unchanged.
        """
        # Read as a whole before the transaction begins, so that no lock is held while a sandbox is slow.
        file = await pack(archive, self._max_bytes)
        try:
            size = file.seek(0, 2)
            file.seek(0)
            key = {"user_id": user_id, "session_id": session_id, "type": type_}
            async with self._database.transaction() as transaction:
                await transaction.fetch(OWNER, user_id=user_id)
                if not await transaction.fetch(FENCE, **key, generation=generation):
                    raise SandboxLost(
                        f"sandbox {type_!r} of user {user_id!r}, session {session_id!r} was released or taken over"
                    )
                await transaction.fetch(SAVE, **key, chunks=-(-size // CHUNK), size=size)
                await transaction.fetch(CLEAR, **key)
                number = 0
                while data := await asyncio.to_thread(file.read, CHUNK):
                    number += 1
                    await transaction.fetch(ADD, **key, number=number, data=data)
        finally:
            file.close()

    async def open(self, user_id: str, session_id: str, type_: str) -> tuple[AsyncIterator[bytes], int] | None:
        """Return the stored archive, in chunks, and its compressed size in bytes; None if there is none."""
        key = {"user_id": user_id, "session_id": session_id, "type": type_}
        row = await self._database.fetch_one(GET, **key)
        return None if row is None else (unpack(self._chunks(key, row[0])), row[1])

    async def delete(self, user_id: str, session_id: str) -> int:
        """Delete the stored workspaces of a session, and return how many there were."""
        return len(await self._database.fetch(DELETE, user_id=user_id, session_id=session_id))

    async def _chunks(self, key: dict[str, str], chunks: int) -> AsyncIterator[bytes]:
        for number in range(1, chunks + 1):
            row = await self._database.fetch_one(CHUNK_OF, **key, number=number)
            if row is None:
                raise SandboxFailed(f"chunk {number} of {chunks} of the stored workspace {key} is missing")
            yield row[0]
