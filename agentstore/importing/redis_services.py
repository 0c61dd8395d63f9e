"""What AgentScope Runtime 1.0's Redis services keep: sessions, memories and states. Redis is only read."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from agentstore.errors import InvalidContent, NotConfigured, Unavailable
from agentstore.importing import redis_keys
from agentstore.importing.fields import an_object, parsed
from agentstore.importing.ids import Ids
from agentstore.importing.kept import Kept, KeptMemories, KeptSession, KeptState, Reader
from agentstore.importing.source import Problem
from agentstore.schemas import Message, Session

_SOURCE = "agentscope-runtime"
_COUNT = 500
_MESSAGES = TypeAdapter(list[Message])
_WRONG = (InvalidContent, ValidationError, ValueError)


async def read(url: str) -> Reader:
    """Yield all sessions, all memories and all states that there are, by SCAN.

    Nothing is locked: what is written meanwhile is there or not, and is there the next time.

    Raises:
        NotConfigured: the package redis is missing, the URL is none, or Redis does not let us in.
        Unavailable: Redis does not answer.
    """
    try:
        import redis.asyncio as redis
        from redis.exceptions import AuthenticationError, RedisError, ResponseError
    except ImportError as error:
        raise NotConfigured("to read Redis: pip install 'agentstore-postgres[redis]'") from error
    known: dict[str, tuple[str, str]] = {}  # of the keys that can be taken apart in several ways
    try:
        client = redis.from_url(url, decode_responses=True, encoding_errors="surrogateescape")
    except ValueError:  # its message may hold a part of the URL
        raise NotConfigured("the URL of Redis could not be read: percent-encode the special characters in it") from None
    try:
        for prefix in (redis_keys.SESSION, redis_keys.MEMORY, redis_keys.STATE):
            async for key in client.scan_iter(match=f"{prefix}*", count=_COUNT):
                try:
                    if prefix == redis_keys.SESSION:
                        if (text := await client.get(key)) is not None:  # it has not expired meanwhile
                            kept = _session(key, text)
                            if isinstance(kept, KeptSession) and key.count(":") > 2:
                                known[key.removeprefix(prefix)] = kept.session.user_id, kept.session.id
                            yield kept
                        continue
                    async for field, text in client.hscan_iter(key, count=_COUNT):
                        yield (
                            _memories(key, field, text)
                            if prefix == redis_keys.MEMORY
                            else _state(key, field, text, known)
                        )
                except ResponseError as error:  # a key of something else
                    yield Problem(key, str(error))
    except AuthenticationError as error:
        raise NotConfigured(f"Redis refused the login: {error}") from error
    except RedisError as error:
        raise Unavailable(f"Redis did not answer: {error}") from error
    finally:
        await client.aclose()


def _session(key: str, text: str | bytes) -> Kept:
    try:
        value = parsed(text, "the session")
        user_id, session_id = redis_keys.of_session(key, value)
        raw = value.get("messages") or []
        if not isinstance(raw, list):
            raise InvalidContent("messages: it is no list")
        made = Ids.of_messages(session_id, raw)
        messages = _MESSAGES.validate_python(
            [{**each, "id": each.get("id") or id} for each, id in zip(map(_object, raw), made, strict=True)]
        )
        rest = {name: each for name, each in value.items() if name not in ("id", "user_id", "messages")}
        return KeptSession(key, Session(id=session_id, user_id=user_id, messages=messages, metadata=rest))
    except _WRONG as error:
        return Problem(key, str(error))


def _memories(key: str, field: str, text: str) -> Kept:
    try:
        raw = _list(text)
        made = Ids.of_messages(field, raw)
        messages = _MESSAGES.validate_python(
            [{**each, "id": each.get("id") or id} for each, id in zip(map(_object, raw), made, strict=True)]
        )
        return KeptMemories(f"{key} {field}", redis_keys.of_memory(key), field, messages)
    except _WRONG as error:
        return Problem(f"{key} {field}", str(error))


def _state(key: str, field: str, text: str, known: Mapping[str, tuple[str, str]]) -> Kept:
    try:
        user_id, session_id = redis_keys.of_state(key, known)
        state = parsed(text, "the state")
        return KeptState(f"{key} {field}", user_id, session_id, int(field), state, {}, _SOURCE)
    except _WRONG as error:
        return Problem(f"{key} {field}", str(error))


def _list(text: str) -> list[Any]:
    raw = parsed(f'{{"messages":{text}}}', "the messages")["messages"]
    if not isinstance(raw, list):
        raise InvalidContent("it is no list of messages")
    return raw


def _object(value: Any) -> dict[str, Any]:
    return an_object(value, "a message")
