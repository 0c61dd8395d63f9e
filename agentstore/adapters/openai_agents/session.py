"""A conversation as a session of the OpenAI Agents SDK."""

# pyright: reportMissingImports=false
import logging
from asyncio import CancelledError
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeAlias

from agentstore import offload
from agentstore.adapters.openai_agents.compaction import CompactionSnapshot, read_snapshot
from agentstore.adapters.openai_agents.turns import Turn, UsageOfRuns, add_to_turns, add_usage
from agentstore.adapters.stores import OnStore, Store
from agentstore.errors import InvalidContent, NotFound, Retryable, UnknownOutcome, UnreadableRow
from agentstore.schemas import Message, MessageType, StoredMessages
from agentstore.schemas.openai.convert import from_item
from agentstore.schemas.page import check_count
from agentstore.schemas.payload import shortened

_log = logging.getLogger(__name__)

Item: TypeAlias = Any
"""An item of the Responses API, the SDK's TResponseInputItem: a JSON object as a dict."""

UserOf: TypeAlias = str | Callable[[Any], str] | None
"""The owner of a session: an id, a function of the SDK's RunContextWrapper (None outside of a run), or None."""


class AgentStoreSession(OnStore):
    """A conversation: a session of agentstore with the SDK's protocol Session.

    Objects with the same ids share one conversation, in this process and in others. Each call of the protocol is one
    statement, except for the call that creates the session.
    """

    def __init__(
        self,
        session_id: str,
        store: Store | None = None,
        *,
        url: str | None = None,
        user_id: UserOf = None,
        session_settings: Any = None,
        remember: bool = False,
    ) -> None:
        """Create the object; the first items create the session in the database.

        Args:
            session_id: the id of the conversation, unique for its user.
            store: an AgentStore.
            url: the URL of a database instead of a store. All adapters in this process share one pool for it, which
                :meth:`close` releases.
            user_id: the owner: an id, or a function that returns it, which receives the RunContextWrapper of the run,
                and None for calls outside of a run. None: the conversation is the only one of a user of its own, whose
                id is `session_id`.
            session_settings: the SDK's SessionSettings or a dict: ``limit`` is how many of the latest items are read.
            remember: whether messages are also added to the user's memory, where :meth:`search` and
                ``store.memory.search_memory`` find them.

        Raises:
            NotConfigured: both `store` and `url` are given, or none.
        """
        self.session_id = session_id
        self.session_settings = _settings_of(session_settings)
        super().__init__(store, url=url)
        self._user_of = user_id
        self._remember = remember
        self._usage = UsageOfRuns()
        self._unconfirmed: tuple[str, list[Item], list[Message]] | None = None

    async def get_items(self, limit: int | None = None, *, wrapper: Any = None) -> list[Item]:
        """Return the latest `limit` items in chronological order; none if the session does not exist.

        A stored message that is not valid, since another program changed it, is left out and logged.

        Args:
            limit: None applies ``session_settings.limit``, by default all.
            wrapper: the SDK's RunContextWrapper.

        Raises:
            InvalidContent: `limit` is not an integer >= 0.
            LimitExceeded: the items have more than 256 MB.
        """
        store, user_id = await self._started(), self._user(wrapper)
        limit = getattr(self.session_settings, "limit", None) if limit is None else limit
        size = limit
        while True:
            stored = await store.sessions.read_messages(user_id, self.session_id, limit=size)
            if stored is None:
                return []
            items = await offload.run(_items_of, stored)
            if limit is None or size is None or len(items) >= limit or len(stored) < size:
                return items if limit is None else items[max(0, len(items) - limit) :]
            size *= 2  # messages were left out

    async def add_items(self, items: Sequence[Item], *, wrapper: Any = None) -> None:
        """Append items: all of them, in this order, or none. The first ones create the session.

        Equal items are stored each time that they are added. After a call that failed without a definite outcome, the
        same call on this object is safe to repeat: the items are stored once.

        With a `wrapper`, the usage of the requests since the last call is stored with the last message.

        Args:
            items: items of the Responses API, or any other JSON objects.
            wrapper: the SDK's RunContextWrapper.

        Raises:
            InvalidContent: an item is not a JSON object; nothing was written.
            LimitExceeded: an item is over 32 MB, or there are more than 10,000.
        """
        if not items:
            return
        store, user_id = await self._started(), self._user(wrapper)
        messages = self._unconfirmed_messages(user_id, items)
        if messages is None:
            messages = _messages_of(items)
            messages[-1].usage = self._usage.new_usage(wrapper)
        try:
            await store.sessions.append(user_id, self.session_id, messages)
            if self._remember:
                await store.memory.add_memory(
                    user_id, [each for each in messages if _is_memorable(each)], self.session_id
                )
        except (Retryable, UnknownOutcome, CancelledError):
            self._unconfirmed = user_id, deepcopy(list(items)), messages
            raise
        self._unconfirmed = None

    async def pop_item(self, *, wrapper: Any = None) -> Item | None:
        """Remove the latest item and return it; None if there is none. Concurrent calls return different items.

        A stored message that is not valid is removed too, and logged. Memories remain.

        Raises:
            UnknownOutcome: the response was lost: the item may have been removed.
        """
        store, user_id = await self._started(), self._user(wrapper)
        while True:
            try:
                popped = await store.sessions.pop_messages(user_id, self.session_id)
            except UnreadableRow as error:
                _log.warning("A removed item is not returned: %s", error)
                continue
            if not popped:
                return None
            if items := Message.to_openai_all(popped, "responses"):
                return items[0]

    async def clear_session(self, *, wrapper: Any = None) -> None:
        """Delete the session; with `remember` its memories too. The next items create it again. Idempotent."""
        store, user_id = await self._started(), self._user(wrapper)
        await store.sessions.delete_session(user_id, self.session_id)
        if self._remember:
            await store.memory.delete_memory(user_id, self.session_id)

    async def replace_items(self, items: Sequence[Item], *, wrapper: Any = None) -> None:
        """Replace all items by others, in one transaction: for summaries. The title and the metadata remain.

        Raises:
            InvalidContent, LimitExceeded: as for :meth:`add_items`; nothing was changed.
        """
        store, user_id = await self._started(), self._user(wrapper)
        messages = _messages_of(items)
        try:
            await store.sessions.replace_from(user_id, self.session_id, 1, messages)
        except NotFound:
            await store.sessions.append(user_id, self.session_id, messages)

    # The SDK's OpenAIResponsesCompactionSession calls these, after a run and by its run_compaction, instead of a clear
    # and an add, between which a conversation would be lost if the process ended.

    async def _get_compaction_snapshot(
        self, limit: int, *, prune_prefix: Callable[[Item], bool] | None = None
    ) -> CompactionSnapshot | None:
        store, user_id = await self._started(), self._user(None)
        return await read_snapshot(store.sessions, user_id, self.session_id, limit, prune_prefix)

    async def _atomic_replace_items(self, items: list[Item]) -> bool:
        await self.replace_items(items)
        return True

    async def turns(self) -> list[Turn]:
        """Return the turns of the conversation in order, each with the text of its user's message and its usage.

        Reads the whole session, with bounded memory.
        """
        turns: list[Turn] = []
        store, user_id = await self._started(), self._user(None)
        try:
            async for message in store.sessions.iter_messages(user_id, self.session_id):
                add_to_turns(turns, message)
        except NotFound:
            return []
        return turns

    async def usage(self) -> dict[str, Any]:
        """Return the sum of the usage of all turns: ``requests``, ``input_tokens``, ``output_tokens`` and so on."""
        total: dict[str, Any] = {}
        for turn in await self.turns():
            total = add_usage(total, turn.usage)
        return total

    async def branch(self, turn: int, session_id: str | None = None) -> "AgentStoreSession":
        """Copy the conversation before a turn to a new session, and return that session. This one is unchanged.

        Args:
            turn: the number of the first turn that is not copied, from 1; one more than the last copies all.
            session_id: the id of the new session; None generates a UUID.

        Raises:
            NotFound: there is no such turn.
            AlreadyExists: `session_id` is the id of an existing session.
            InvalidContent: `turn` is not an integer >= 1.
        """
        check_count(turn, "turn", minimum=1)
        store, user_id = await self._started(), self._user(None)
        turns: list[Turn] = []
        at: str | int = 0
        messages = store.sessions.iter_messages(user_id, self.session_id)
        try:
            async for message in messages:
                add_to_turns(turns, message)
                if len(turns) == turn:
                    break
                at = message.id
        finally:
            if isinstance(messages, AsyncGenerator):
                await messages.aclose()
        if turn > len(turns) + 1:
            raise NotFound(
                f"session {self.session_id!r} of user {user_id!r} has {len(turns)} turns, and no turn {turn}"
            )
        fork = await store.sessions.fork_session(user_id, self.session_id, at=at, new_id=session_id, messages=False)
        return self._with_id(fork.id, user_id)

    async def search(self, query: str, limit: int = 10) -> list[Message]:
        """Return messages of this conversation that match words of `query`, best first. Needs `remember`.

        ``store.memory.search_memory`` searches all conversations of the user.

        Raises:
            InvalidContent: the session was created without `remember`.
        """
        if not self._remember:
            raise InvalidContent("this session is not searched: create it with remember=True")
        store, user_id = await self._started(), self._user(None)
        filters: Any = {"session_id": self.session_id, "top_k": limit, "neighbors": False}
        return await store.memory.search_memory(user_id, query, filters)

    def __repr__(self) -> str:
        return f"<AgentStoreSession {self.session_id!r}>"

    def _with_id(self, session_id: str, user_id: str) -> "AgentStoreSession":
        return AgentStoreSession(
            session_id,
            self._store,
            user_id=self._user_of if callable(self._user_of) else user_id,
            session_settings=self.session_settings,
            remember=self._remember,
        )

    def _user(self, wrapper: Any) -> str:
        if self._user_of is None:
            return self.session_id
        return self._user_of(wrapper) if callable(self._user_of) else self._user_of

    def _unconfirmed_messages(self, user_id: str, items: Sequence[Item]) -> list[Message] | None:
        """Return the messages of the previous call if it failed without a definite outcome, and had the same items."""
        if self._unconfirmed is None or self._unconfirmed[:2] != (user_id, list(items)):
            return None
        return self._unconfirmed[2]


class AgentStoreSessions(OnStore):
    """Creates the sessions of an application, with the same store and options::

    sessions = AgentStoreSessions(store, user_id=lambda wrapper: wrapper.context.user_id)
    await Runner.run(agent, "Hello", session=sessions("trip"), context=context)
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        url: str | None = None,
        user_id: UserOf = None,
        session_settings: Any = None,
        remember: bool = False,
    ) -> None:
        """Take the arguments of all sessions: see :class:`AgentStoreSession`.

        Raises:
            NotConfigured: both `store` and `url` are given, or none.
        """
        super().__init__(store, url=url)
        self._options = {"user_id": user_id, "session_settings": session_settings, "remember": remember}

    def __call__(self, session_id: str, **options: Any) -> AgentStoreSession:
        """Return the session with this id. `options` replace those of the factory, such as ``user_id``."""
        return AgentStoreSession(session_id, self._store, **{**self._options, **options})


def _messages_of(items: Sequence[Item]) -> list[Message]:
    if isinstance(items, (str, bytes, Mapping)):
        raise InvalidContent(f"items must be a list of items, got {shortened(items)}")
    messages = []
    for position, item in enumerate(items):
        try:
            messages.append(from_item(item))
        except InvalidContent as error:
            raise InvalidContent(f"item {position}: {error}") from error
    return messages


def _items_of(stored: StoredMessages) -> list[Item]:
    try:
        return stored.to_openai("responses")
    except UnreadableRow:
        return Message.to_openai_all(_readable(stored), "responses")


def _readable(stored: StoredMessages) -> list[Message]:
    found = []
    for position in range(len(stored)):
        try:
            found.append(stored[position])
        except UnreadableRow as error:
            _log.warning("An item is left out of the conversation: %s", error)
    return found


def _settings_of(settings: Any) -> Any:
    if not isinstance(settings, Mapping):
        return settings
    from agents import SessionSettings

    return SessionSettings(**settings)


def _is_memorable(message: Message) -> bool:
    return message.type == MessageType.MESSAGE and bool(message.text)
