"""Read AgentScope Runtime 1.0's Redis services: sessions, memories and states."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from agentstore.errors import InvalidContent, NotConfigured, Unavailable
from agentstore.importing import redis_keys
from agentstore.importing.ids import Ids
from agentstore.importing.notes import Note, Notes
from agentstore.importing.records import MemoriesRecord, Reader, Record, SessionRecord, StateRecord
from agentstore.importing.translated import Messages, Translated
from agentstore.schemas import Session
from agentstore.schemas.parts import parse_object, require_object, wrong_type

_SOURCE = "agentscope-runtime"
_COUNT = 500
_INVALID = (InvalidContent, ValidationError, ValueError)


async def read(url: str) -> Reader:
    """Yield all sessions, memories and states, by SCAN.

    Nothing is locked: data that is written meanwhile may be missing, and is found by the next import.

    Raises:
        NotConfigured: the package redis is not installed, the URL is not valid, or Redis refused the login.
        Unavailable: Redis does not respond.
    """
    try:
        import redis.asyncio as redis
        from redis.exceptions import AuthenticationError, RedisError, ResponseError
    except ImportError as error:
        raise NotConfigured(
            "the package redis is not installed: run pip install 'agentstore-postgres[redis]'"
        ) from error
    known: dict[str, tuple[str, str]] = {}  # ids by key without prefix, of ambiguous keys
    try:
        client = redis.from_url(url, decode_responses=True, encoding_errors="surrogateescape")
    except ValueError:  # its message may contain a part of the URL
        raise NotConfigured("the Redis URL is not valid: percent-encode special characters in it") from None
    try:
        for prefix in (redis_keys.SESSION, redis_keys.MEMORY, redis_keys.STATE):
            async for key in client.scan_iter(match=f"{prefix}*", count=_COUNT):
                try:
                    if prefix == redis_keys.SESSION:
                        if (text := await client.get(key)) is not None:  # it has not expired meanwhile
                            record = _session(key, text)
                            if isinstance(record, SessionRecord) and key.count(":") > 2:
                                session = record.translated.session
                                known[key.removeprefix(prefix)] = session.user_id, session.id
                            yield record
                        continue
                    async for field, text in client.hscan_iter(key, count=_COUNT):
                        yield (
                            _memories(key, field, text)
                            if prefix == redis_keys.MEMORY
                            else _state(key, field, text, known)
                        )
                except ResponseError as error:  # the key has another type: another application wrote it
                    yield Note(key, str(error))
    except AuthenticationError as error:
        raise NotConfigured(f"Redis refused the login: {error}") from error
    except RedisError as error:
        raise Unavailable(f"Redis does not respond: {error}") from error
    finally:
        await client.aclose()


def _session(key: str, text: str | bytes) -> Record:
    try:
        value = parse_object(text, "the session")
        user_id, session_id = redis_keys.parse_session(key, value)
        rest = {name: each for name, each in value.items() if name not in ("id", "user_id", "messages")}
        session = Session(id=session_id, user_id=user_id, metadata=rest)
        return SessionRecord(key, _translate(session, value.get("messages")))
    except _INVALID as error:
        return Note(key, str(error))


def _memories(key: str, field: str, text: str) -> Record:
    place = f"{key} {field}"
    try:
        raw = parse_object(f'{{"messages":{text}}}', "the messages")["messages"]
        return MemoriesRecord(place, _translate(Session(id=field, user_id=redis_keys.parse_memory(key)), raw))
    except _INVALID as error:
        return Note(place, str(error))


def _state(key: str, field: str, text: str, known: Mapping[str, tuple[str, str]]) -> Record:
    try:
        user_id, session_id = redis_keys.parse_state(key, known)
        state = parse_object(text, "the state")
        return StateRecord(f"{key} {field}", user_id, session_id, int(field), state, {}, _SOURCE)
    except _INVALID as error:
        return Note(f"{key} {field}", str(error))


def _translate(session: Session, raw: Any) -> Translated:
    """Add messages to a session, each without an id with one that is derived from its content."""
    raw = [] if raw is None else raw
    if not isinstance(raw, list):
        raise wrong_type("messages", "a list", raw)
    notes = Notes()
    messages = Messages(notes)
    for index, (each, derived) in enumerate(zip(raw, Ids.for_messages(session.id, raw), strict=True)):
        with notes.message(f"messages[{index}]"):
            fields = require_object(each, "the message")
            id = fields.get("id") or derived
            if not isinstance(id, str):
                raise wrong_type("id", "a string", id)
            others = {name: value for name, value in fields.items() if name != "id"}
            messages.add(f"messages[{index}]", id, [others])
    return messages.build(session, len(raw))
