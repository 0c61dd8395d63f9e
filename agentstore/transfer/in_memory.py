"""The rows of a store without a database, as an export has them."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

import orjson

from agentstore.errors import NotFound
from agentstore.inmemory import (
    InMemoryBlobService,
    InMemoryCheckpointService,
    InMemoryMemoryService,
    InMemorySessionHistoryService,
    InMemoryStateService,
    InMemoryUserService,
)
from agentstore.inmemory.sandboxes import Workspaces
from agentstore.repositories.memory.rows import analyze_texts
from agentstore.repositories.transfer import APP_VALUES, TABLES, VECTORS, columns_of, payload_of
from agentstore.sandbox.archive import CHUNK
from agentstore.schemas.blob import CHUNK as BLOB_CHUNK
from agentstore.schemas.memory import speaker_and_text, speaker_of
from agentstore.schemas.memory_item import MESSAGE
from agentstore.schemas.state import pack_state
from agentstore.schemas.times import local_time
from agentstore.search.question import name_tokens
from agentstore.settings import Settings
from agentstore.transfer import in_memory_checkpoints

Row = dict[str, Any]

_CHECKPOINTS = {
    "checkpoint_heads": in_memory_checkpoints.read_heads,
    "checkpoints": in_memory_checkpoints.read_checkpoints,
    "checkpoint_values": in_memory_checkpoints.read_values,
    "checkpoint_writes": in_memory_checkpoints.read_writes,
}


class InMemorySource:
    """The services of a store in memory. See :class:`agentstore.transfer.exporter.Source`.

    Embeddings are not exported: the store that restores the file computes them.
    """

    def __init__(
        self,
        users: InMemoryUserService,
        sessions: InMemorySessionHistoryService,
        memory: InMemoryMemoryService,
        states: InMemoryStateService,
        blobs: InMemoryBlobService,
        checkpoints: InMemoryCheckpointService,
        workspaces: Workspaces,
        identity: str,
        settings: Settings,
    ) -> None:
        """Read from these services. `identity` is an identifier of the store."""
        self.settings = settings
        self._identity = identity
        self.users, self.sessions, self.memory, self.states = users, sessions, memory, states
        self.workspaces = workspaces
        self.blobs = blobs
        self.checkpoints = checkpoints
        self._readers: dict[str, Callable[[str], Iterable[Row]]] = {
            "users": self._read_user,
            "sessions": self._read_sessions,
            "messages": self._read_messages,
            "memory_buckets": self._read_buckets,
            "memories": self._read_memories,
            "memory_extractions": self._read_queue,
            "state_heads": self._read_heads,
            "state_rounds": self._read_rounds,
            "workspaces": self._read_workspaces,
            "workspace_chunks": self._read_chunks,
            "user_values": self._read_user_values,
            "blobs": self._read_blobs,
            "blob_chunks": self._read_blob_chunks,
            "session_values": self._read_session_values,
            **{name: partial(read, checkpoints) for name, read in _CHECKPOINTS.items()},
        }

    async def identify(self) -> str | None:
        """Return an identifier of this store."""
        return self._identity

    async def tables(self) -> list[str]:
        """Return the names of the tables of users, without that of vectors."""
        return [name for name in TABLES if name not in (VECTORS, APP_VALUES)]

    async def count(self, users: list[str] | None) -> int:
        """Return the number of users to export.

        Raises:
            NotFound: a user does not exist.
        """
        known = self.users._ids()
        for user in users or ():
            if user not in known:
                raise NotFound(f"user {user!r} does not exist")
        return len(known if users is None else users)

    async def blocks(self, after: str | None) -> AsyncIterator[tuple[str, str]]:
        """Yield each user after the user `after` as a block of its own."""
        for user in self.users._ids():
            if after is None or user.encode() > after.encode():
                yield user, user

    async def write_block(self, tables: list[str], first: str, last: str, write: Callable[[bytes], None]) -> Row:
        """Write the rows of a user, and return their number by table."""
        self.memory._use(first)  # deletes what has expired
        rows: dict[str, int] = {}
        for name in tables:
            for row in self.read(name, first):
                write(_line(name, row))
                rows[name] = rows.get(name, 0) + 1
        return rows

    def read(self, table: str, user: str) -> Iterable[Row]:
        """Return the rows of a user in a table."""
        return self._readers[table](user)

    async def write_app_values(self, write: Callable[[bytes], None]) -> int:
        """Write the lines of the values of applications, and return their number."""
        count = 0
        for app, values in _sorted(self.states._app_values):
            for key, value in _sorted(values):
                write(_line(APP_VALUES, {"app": app, "key": key, "value": value}))
                count += 1
        return count

    def _read_user_values(self, user: str) -> Iterator[Row]:
        for (owner, app), values in sorted(self.states._user_values.items(), key=_bytes_of_key):
            for key, value in _sorted(values) if owner == user else ():
                yield {"user_id": user, "app": app, "key": key, "value": value}

    def _read_blobs(self, user: str) -> Iterator[Row]:
        for blob, stored in self.blobs._versions_of(user):
            about = blob.model_dump(exclude={"sha256", "metadata"})
            chunks = -(-blob.size // BLOB_CHUNK)
            yield {**about, "hash": f"\\x{blob.sha256}", "chunks": chunks, "metadata": stored.metadata}

    def _read_blob_chunks(self, user: str) -> Iterator[Row]:
        contents = {blob.sha256: stored.content for blob, stored in self.blobs._versions_of(user)}
        for sha256, content in sorted(contents.items()):
            for number, start in enumerate(range(0, len(content), BLOB_CHUNK), 1):
                data = f"\\x{content[start : start + BLOB_CHUNK].hex()}"
                yield {"user_id": user, "hash": f"\\x{sha256}", "number": number, "data": data}

    def _read_session_values(self, user: str) -> Iterator[Row]:
        for session_id, stored in _sorted(self.sessions._users.get(user, {})):
            for key, value in _sorted(stored.values):
                yield {"user_id": user, "session_id": session_id, "key": key, "value": value}

    def _read_user(self, user: str) -> Iterator[Row]:
        stored = self.users._users[user]
        yield {"id": user, "created_at": stored.created_at, "metadata": stored.metadata}

    def _read_sessions(self, user: str) -> Iterator[Row]:
        for id, stored in _sorted(self.sessions._users.get(user, {})):
            yield {
                "user_id": user,
                "id": id,
                "next_seq": stored.next_seq,
                "removed": stored.next_seq - 1 - len(stored.messages),
                "title": stored.title,
                "created_at": stored.created_at,
                "updated_at": stored.updated_at,
                "listed_at": stored.updated_at.replace(second=0, microsecond=0),
                "forked_from": stored.forked_from,
                "forked_at": stored.forked_at,
                "ttl": stored.ttl,
                "app": stored.app,
                "metadata": stored.metadata,
            }

    def _read_messages(self, user: str) -> Iterator[Row]:
        for session_id, stored in _sorted(self.sessions._users.get(user, {})):
            for id, payload in stored.messages.items():
                seq, created_at = stored.places[id]
                yield {
                    "user_id": user,
                    "session_id": session_id,
                    "seq": seq,
                    "id": id,
                    "created_at": created_at,
                    "payload": payload,
                }

    def _read_buckets(self, user: str) -> Iterator[Row]:
        for session_id, memories in _sorted(self.memory._users.get(user, {})):
            if (user, session_id) in self.memory._updated_at:
                yield {
                    "user_id": user,
                    "session_id": session_id,
                    "count": len(memories),
                    "tokens": sum(each.memory.length for each in memories.values()),
                    "updated_at": self.memory._updated_at[user, session_id],
                }

    def _read_memories(self, user: str) -> Iterator[Row]:
        for session_id, memories in _sorted(self.memory._users.get(user, {})):
            for seq, (id, stored) in enumerate(memories.items(), 1):
                message, item = stored.message(), stored.item
                if item is None:
                    time = local_time((message.metadata or {}).get("timestamp")) or stored.time
                    text = (speaker_and_text(message), time)
                else:
                    text = (item.text, item.valid_from)
                labels = [sorted(stored.labels)]
                analyzed = analyze_texts(user, [text], labels, self.memory._language, self.settings)
                yield {
                    "user_id": user,
                    "session_id": session_id,
                    "seq": seq,
                    "id": id,
                    "role": message.role,
                    "is_question": stored.memory.question_share >= 50,
                    "question_share": stored.memory.question_share if item is None else None,
                    "speaker": name_tokens(speaker_of(message), self.memory._language) if item is None else None,
                    "time": stored.time,
                    "tokens": analyzed["tokens"][0],
                    "lexemes": analyzed["lexemes"][0],
                    "analysis": analyzed["analysis"],
                    "is_cut": analyzed["cuts"][0],
                    "kind": MESSAGE if item is None else item.kind,
                    "namespace": stored.namespace,
                    "importance": None if item is None else item.importance,
                    "valid_from": None if item is None else item.valid_from,
                    "valid_until": None if item is None else item.valid_until,
                    "payload": stored.payload,
                }

    def _read_queue(self, user: str) -> Iterator[Row]:
        jobs = {id: jobs for (owner, id), jobs in self.memory._extraction.jobs.items() if owner == user}
        for session_id, of_session in _sorted(jobs):
            for job in sorted(of_session, key=lambda each: each.first_seq):
                yield {
                    "user_id": user,
                    "session_id": session_id,
                    "first_seq": job.first_seq,
                    "last_seq": job.last_seq,
                    "is_open": job.is_open,
                    "attempts": job.attempts,
                    "outages": job.outages,
                    "run_after": job.created_at,
                    "failed_at": job.failed_at,
                    "error": job.error,
                    "created_at": job.created_at,
                }

    def _read_heads(self, user: str) -> Iterator[Row]:
        for (owner, session_id), head in sorted(self.states._heads.items(), key=_bytes_of_key):
            if owner == user:
                yield {
                    "user_id": user,
                    "session_id": session_id,
                    "next_round": head.next_round,
                    "last_round": head.last,
                    "updated_at": head.updated_at,
                }

    def _read_rounds(self, user: str) -> Iterator[Row]:
        for (owner, session_id), head in sorted(self.states._heads.items(), key=_bytes_of_key):
            for number, stored in sorted(head.rounds.items()) if owner == user else ():
                payload = stored.payload.encode()
                packed = pack_state(payload)
                yield {
                    "user_id": user,
                    "session_id": session_id,
                    "round": number,
                    "packed": None if packed is None else f"\\x{packed.hex()}",
                    "metadata": stored.metadata,
                    "size": len(payload),
                    "saved_at": stored.saved_at,
                    "payload": stored.payload if packed is None else "null",
                }

    def _read_workspaces(self, user: str) -> Iterator[Row]:
        for (_, session_id, type_), (packed, saved_at) in self._workspaces(user):
            yield {
                "user_id": user,
                "session_id": session_id,
                "type": type_,
                "chunks": -(-len(packed) // CHUNK),
                "size": len(packed),
                "saved_at": saved_at,
            }

    def _read_chunks(self, user: str) -> Iterator[Row]:
        for (_, session_id, type_), (packed, _) in self._workspaces(user):
            for number, start in enumerate(range(0, len(packed), CHUNK), 1):
                data = f"\\x{packed[start : start + CHUNK].hex()}"
                yield {"user_id": user, "session_id": session_id, "type": type_, "number": number, "data": data}

    def _workspaces(self, user: str) -> list[tuple[tuple[str, str, str], tuple[bytes, datetime]]]:
        of_user = [each for each in self.workspaces.items() if each[0][0] == user]
        return sorted(of_user, key=lambda each: [part.encode() for part in each[0]])


def _bytes_of_key(entry: tuple[tuple[str, str], Any]) -> tuple[bytes, bytes]:
    return entry[0][0].encode(), entry[0][1].encode()


def _sorted(by_id: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the entries in the order of Postgres: by the bytes of their ids."""
    return sorted(by_id.items(), key=lambda entry: entry[0].encode())


def _line(table: str, row: Row) -> bytes:
    """Return the line of a row; its last value, if it is JSON, is the exact text."""
    last = payload_of(TABLES[table])
    columns = columns_of(TABLES[table])
    values = {f"{name}": row[name] for name in columns if name != last}  # names of columns are a subclass of str
    start = orjson.dumps({table: values})
    return start + b"\n" if last is None else b'%s,"%s":%s}}\n' % (start[:-2], last.encode(), row[last].encode())
