"""The interface of the session history: conversations and their messages."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

from agentstore.errors import InvalidContent, NotFound, UnreadableRow
from agentstore.interfaces.service import ServiceWithLifecycleManager
from agentstore.schemas import (
    Appended,
    Deleted,
    Message,
    MessagesLike,
    Page,
    Role,
    ScopedValues,
    Session,
    StoredMessages,
)
from agentstore.schemas.edits import MetadataPatch
from agentstore.schemas.listing import SessionOrder
from agentstore.schemas.page import check_count
from agentstore.schemas.payload import shortened
from agentstore.schemas.tool_calls import drop_orphans, has_cut_calls

# The numbers of messages that `window` reads first, and at most, at a time.
_FIRST, _LARGEST = 20, 1_000
_LONGEST_PAUSE = 3_600


class SessionHistoryService(ServiceWithLifecycleManager):
    """Conversations: the sessions of users, and their messages in order.

    An id is any text of at most 512 bytes in UTF-8, including the empty string; see :mod:`agentstore.interfaces`. Every
    method raises InvalidContent for an invalid id.
    """

    @abstractmethod
    async def create_session(
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
        """Create a session, or return the existing one unchanged, with its messages.

        Concurrent calls with the same id create one session.

        Args:
            user_id: the owner, created if missing.
            session_id: surrounding whitespace is removed; None or blank generates a UUID.
            exist_ok: whether an existing session is returned instead of an error.
            title: the title of a new session, see :meth:`set_title`.
            metadata: the metadata of a new session, any JSON object.
            ttl: the time to live of a new session in seconds, see :meth:`set_ttl`.
            app: the id of the application that a new session belongs to, by which :meth:`list_sessions` lists it. It
                is not part of the session's key.
            messages: whether the messages of an existing session are read.

        Raises:
            AlreadyExists: the session exists, and `exist_ok` is false.
            InvalidContent, LimitExceeded: an id, the title, the metadata or the ttl is invalid.
            LimitExceeded: the existing session has more than 256 MB, see :meth:`get_session`.
        """

    @abstractmethod
    async def get_session(
        self,
        user_id: str,
        session_id: str,
        *,
        limit: int | None = None,
        before: str | None = None,
        whole_calls: bool = False,
        stale_ok: bool = False,
    ) -> Session | None:
        """Return a session with its messages in order, or None if it does not exist.

        Args:
            user_id: the owner.
            session_id: the session.
            limit: return only the last `limit` messages; None returns all.
            before: the id of a message: return only messages before it.
            whole_calls: where the messages begin with outputs of tools, return the messages from their calls on as
                well, so more than `limit`. Calls and outputs name each other by ``call_id`` in their data; calls are
                searched up to the last message of the user before them.
            stale_ok: whether the session may be read from a replica, see :mod:`agentstore.interfaces`.

        Raises:
            NotFound: the session has no message with the id `before`.
            InvalidContent: `limit` is not an integer >= 0.
            LimitExceeded: it would read more than 256 MB (the setting `max_reply_bytes`): read less at a time, by
                `limit` and `before`, or by :meth:`iter_messages`.
        """

    @abstractmethod
    async def read_messages(
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
        """Return the messages of a session in stored form, or None: for large reads that need no Message objects.

        StoredMessages is a sequence that creates each Message when it is accessed, and provides all of them as JSON
        or as dicts. Arguments and errors are those of :meth:`get_session`; and, instead of `before`:

        Args:
            user_id, session_id, limit, before, stale_ok: as for :meth:`get_session`.
            through: the id of a message: return only messages up to this one, which is the last.
            before_seq: return only messages whose ``seq`` is lower; none need have this one.
        """

    @abstractmethod
    async def find_message(self, user_id: str, message_id: str, *, stale_ok: bool = False) -> str | None:
        """Return the id of the session of a user that has a message with this id, or None.

        Of several, such as a session and its forks, it is the last used one, to the minute. Searches each session of
        the user by an index, so the time grows with their number. With `stale_ok` it may be read from a replica.
        """

    @abstractmethod
    def iter_messages(
        self,
        user_id: str,
        session_id: str,
        *,
        after_seq: int = 0,
        batch: int = 1_000,
        on_unreadable: Callable[[UnreadableRow], object] | None = None,
        stale_ok: bool = False,
    ) -> AsyncIterator[Message]:
        """Iterate over the messages of a session in order, with bounded memory.

        At most `batch` messages, and about 8 MB (but at least one message), are in memory at a time. Each batch is
        read when it is needed, and no connection is held in between, so the iteration may pause for any time. Messages
        that are appended before its end are yielded too. With `stale_ok` they may be read from a replica.

        Args:
            user_id: the owner.
            session_id: the session.
            after_seq: only messages whose ``seq`` is greater.
            batch: how many messages are read at a time.
            on_unreadable: called with the error of each stored message that is not valid, which is then left out,
                before the messages of its batch are yielded. ``seq`` of the error is its place.
            stale_ok: whether they may be read from a replica.

        Raises:
            NotFound: the session does not exist; raised when the first message is requested.
            InvalidContent, LimitExceeded: `after_seq` is not an integer >= 0, or `batch` is not one >= 1 or is over
                10,000.
            UnreadableRow: a stored message is not valid, and there is no `on_unreadable`.
        """

    async def follow(
        self,
        user_id: str,
        session_id: str,
        after_seq: int = 0,
        *,
        interval: float = 1.0,
        on_unreadable: Callable[[UnreadableRow], object] | None = None,
        stale_ok: bool = False,
    ) -> AsyncIterator[Message]:
        """Yield the messages of a session after a position, and then each new one once it is stored, without end.

        Every `interval` seconds the session's row is read by its key, and messages only if the session was written to.
        No connection is held in between. A message that is replaced in its place, or appended where messages that were
        yielded have been removed, is not yielded.

        Args:
            user_id: the owner.
            session_id: the session.
            after_seq: only messages whose ``seq`` is greater, such as that of the last message read; 0 yields all.
            interval: the seconds between two reads.
            on_unreadable: called with the error of each stored message that is not valid, which is then left out.
            stale_ok: whether messages may be read from a replica.

        Raises:
            NotFound: the session does not exist, or no longer.
            InvalidContent: `after_seq` is not an integer >= 0, or `interval` is not a number of seconds above 0.
        """
        last = check_count(after_seq, "after_seq")
        if not isinstance(interval, (int, float)) or isinstance(interval, bool) or not 0 < interval <= _LONGEST_PAUSE:
            raise InvalidContent(
                f"interval must be a number of seconds above 0 and up to {_LONGEST_PAUSE:,}, got {shortened(interval)}"
            )
        before: tuple[datetime | None, int | None] | None = None

        def pass_over(error: UnreadableRow) -> None:
            nonlocal last
            assert on_unreadable is not None  # noqa: S101
            on_unreadable(error)
            last = max(last, error.seq or 0)

        passed = None if on_unreadable is None else pass_over
        while True:
            session = await self.get_session(user_id, session_id, limit=0, stale_ok=stale_ok)
            if session is None:
                raise NotFound(f"user {user_id!r} has no session {session_id!r}")
            found = session.updated_at, session.message_count
            if found != before:
                messages = self.iter_messages(
                    user_id, session_id, after_seq=last, on_unreadable=passed, stale_ok=stale_ok
                )
                try:
                    async for message in messages:
                        last = max(last, message.seq or 0)
                        yield message
                finally:
                    if isinstance(messages, AsyncGenerator):
                        await messages.aclose()
                before = found
            await asyncio.sleep(interval)

    @abstractmethod
    async def list_sessions(
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
        """Return the sessions of a user, or of all users, without their messages, most recently used first.

        Sessions with equal timestamps are ordered by their ids, the last first. While pages are read in the order
        "last_used", a session that is created or written to moves to the front, so it may be missing from the later
        pages. No session is returned twice, and each one that was not written to is returned.

        Args:
            user_id: the owner. None lists the sessions of all users, see ``user_id`` of each; under row-level security
                this needs a role that may see all.
            app: only sessions that were created with this ``app``.
            metadata: only sessions whose metadata has all of these keys, with equal values: numbers are compared by
                value, so 1 equals 1.0, but not true; objects and lists as a whole.
            title: only sessions with this text in their title, in upper or lower case.
            since, until: only sessions whose ``updated_at`` is from `since` on, and before `until`: an aware datetime,
                a string such as ISO 8601, or seconds since 1970.
            order: "last_used", by ``updated_at``; or "created", by ``created_at``; the latest first.
            limit: the size of the page; None returns all of a user, and at most 10,000 of all users.
            cursor: ``next_cursor`` of the previous page, of a list in the same order, and also of a user or of all
                users. Filters may differ: it is the place of a session in the order.
            stale_ok: whether the sessions may be read from a replica.

        Raises:
            InvalidContent: an argument is invalid.
            LimitExceeded: `limit` is over 10,000, or the page has more than 256 MB.
            NotConfigured: without `user_id`, row-level security hides sessions from the role.
        """

    @abstractmethod
    async def append_message(self, session: Session, message: MessagesLike) -> None:
        """Append one or several messages to a session: all of them, in this order, or none.

        Idempotent, so safe to retry: a message whose id is already stored with equal content is not stored again.
        After the commit, the messages that ``session.messages`` lacks are added to it.

        Args:
            session: the session to append to, identified by its ``user_id`` and ``id``.
            message: a Message, a dict with a Message's fields, or a list of them; ``content`` may be a string. A
                message without an id gets a new one; None is skipped. Message objects get their ``seq`` and
                ``created_at``.

        Raises:
            NotFound: the session does not exist.
            Conflict: a message id is stored with other content; nothing was written.
            InvalidContent: something is not a message, or cannot be represented as JSON; nothing was written.
            LimitExceeded: a message is over 32 MB or nested over 200 levels, or there are more than 10,000.
        """

    @abstractmethod
    async def append(
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
        """Append one or several messages to a session given by its ids, as :meth:`append_message`; return their place.

        Args:
            user_id: the owner.
            session_id: the session.
            messages: as for :meth:`append_message`.
            create: whether a missing session, and its user, are created in the same transaction.
            expected_seq: the number of messages that the caller has seen: ``message_count`` of the session, or
                ``len(session.messages)``. If the session has more or fewer, nothing is written, unless all of the
                messages are stored already, by an earlier attempt whose response was lost.
            metadata_patch: a JSON Merge Patch (RFC 7396) of the session's metadata, applied in the same transaction:
                objects are merged, other values replaced, and None removes a key. It is skipped if all of the messages
                were stored already. Or a function that returns it, which receives a copy of the metadata, and the ids
                of the messages that are new. The session is locked while it runs; after a lost race the append is
                repeated, and the function called again.
            app: the application that a session created by this call belongs to, as in :meth:`create_session`, and
                whose values `values` changes; None is the application "".
            values: changes of the values of the application, the user and the session, made in the same transaction;
                see :meth:`StateService.merge_values`. Skipped if all of the messages were stored already.

        Raises:
            NotFound: the session does not exist, and `create` is false.
            Conflict: a message id is stored with other content, or the session has not `expected_seq` messages; nothing
                was written, no value either.
            InvalidContent, LimitExceeded: as for :meth:`append_message`, and for :meth:`set_metadata`. What a function
                as `metadata_patch` raises is raised unchanged; nothing was written.
        """

    @abstractmethod
    async def pop_messages(self, user_id: str, session_id: str, n: int = 1) -> list[Message]:
        """Remove the last `n` messages of a session, and return them in order.

        Concurrent calls return different messages. There are fewer than `n` if the session has fewer, and none if it
        does not exist. State rounds and memories remain; :meth:`rewind_session` removes states too.

        Raises:
            InvalidContent: `n` is not an integer >= 0.
            UnknownOutcome: the response was lost: the messages may have been removed.
        """

    @abstractmethod
    async def replace_message(
        self,
        user_id: str,
        session_id: str,
        message: Message | Mapping[str, Any],
        *,
        expected: Message | Mapping[str, Any] | None = None,
    ) -> Message:
        """Replace the message with the same id by `message`, in its place, and return it.

        For answers that grow, edits and redaction. ``seq`` and ``created_at`` stay; the earlier content is not stored.
        Memories of this message stay as they are: see ``MemoryService.delete_memory``.

        Args:
            user_id: the owner.
            session_id: the session.
            message: the new content, with the id of the message to replace.
            expected: the message as the caller has read it. If it was changed since, nothing is written.

        Raises:
            NotFound: the session does not exist, or has no message with this id.
            Conflict: the stored message is not equal to `expected`.
            InvalidContent, LimitExceeded: as for :meth:`append_message`; or a message has no id, or not the same.
        """

    @abstractmethod
    async def delete_messages(self, user_id: str, session_id: str, ids: Sequence[str]) -> Deleted:
        """Delete messages by their ids; return how many existed. Idempotent.

        The other messages keep their order and their ``seq``; limits and ``message_count`` count what is left. Memories
        of the messages stay as they are.

        Raises:
            InvalidContent: `ids` is not a list of ids.
            LimitExceeded: there are more than 10,000.
        """

    @abstractmethod
    async def replace_from(self, user_id: str, session_id: str, at: str | int, messages: MessagesLike) -> Appended:
        """Delete the messages of a session from `at` on, and append others, in one transaction.

        To generate an answer again, or to replace the end of a conversation by a summary. State rounds and memories
        remain; :meth:`rewind_session` removes states too, and can retain what it removes.

        Args:
            user_id: the owner.
            session_id: the session.
            at: the id of the first message to delete, or its ``seq``; one more than that of the last message deletes
                none.
            messages: as for :meth:`append_message`. They may have ids of deleted messages.

        Raises:
            NotFound: the session, or the message in it, does not exist; nothing was changed.
            Conflict: a message before `at` has the id of one of `messages`; nothing was changed.
            InvalidContent, LimitExceeded: as for :meth:`append_message`, or `at` is neither an id nor a number >= 1.
        """

    async def window(
        self,
        user_id: str,
        session_id: str,
        *,
        max_tokens: int,
        count: Callable[[Message], int],
        keep_system: bool = True,
        stale_ok: bool = False,
    ) -> list[Message]:
        """Return the newest messages of a session that fit a budget of tokens, in order, to send them to a model.

        An output of a tool is never returned without its call: where the budget ends between them, the outputs are left
        out too. Only the messages that fit are read, in pages.

        Args:
            user_id: the owner.
            session_id: the session.
            max_tokens: the maximum of the sum of `count`.
            count: returns the tokens of a message, an integer >= 0.
            keep_system: whether the system messages with which the session begins come first, as far as they fit.
            stale_ok: whether the messages may be read from a replica.

        Raises:
            NotFound: the session does not exist.
            InvalidContent: `max_tokens`, or what `count` returned, is not an integer >= 0.
        """
        check_count(max_tokens, "max_tokens")
        budget = max_tokens
        system: list[Message] = []
        for message in await self._first_system_messages(user_id, session_id, stale_ok) if keep_system else ():
            budget -= check_count(count(message), "count(message)")
            if budget < 0:
                return system
            system.append(message)
        known = {message.id for message in system}
        newest: list[Message] = []
        async with aclosing(self._newest_first(user_id, session_id, stale_ok)) as messages:
            async for message in messages:
                budget -= check_count(count(message), "count(message)")
                if budget < 0 or message.id in known:
                    break
                newest.append(message)
        return system + drop_orphans(newest[::-1])

    async def _first_system_messages(self, user_id: str, session_id: str, stale_ok: bool) -> list[Message]:
        found: list[Message] = []
        messages = self.iter_messages(user_id, session_id, batch=_FIRST, stale_ok=stale_ok)
        try:
            async for message in messages:
                if message.role != Role.SYSTEM:
                    break
                found.append(message)
        finally:
            if isinstance(messages, AsyncGenerator):
                await messages.aclose()
        return found

    async def _newest_first(self, user_id: str, session_id: str, stale_ok: bool) -> AsyncGenerator[Message, None]:
        size, before = _FIRST, None
        while True:
            page = await self.read_messages(user_id, session_id, limit=size, before=before, stale_ok=stale_ok)
            if page is None:
                raise NotFound(f"user {user_id!r} has no session {session_id!r}")
            for message in reversed(page.models()):
                yield message
            if len(page) < size:
                return
            before, size = page[0].id, min(2 * size, _LARGEST)

    async def _add_calls(self, session: Session, *, stale_ok: bool = False) -> None:
        """Add the messages from the calls on to whose outputs the messages of a session belong that come first."""
        messages = session.messages
        earlier: list[Message] = []
        while messages and has_cut_calls(earlier + messages):
            before = (earlier or messages)[0].id
            try:
                page = await self.read_messages(
                    session.user_id, session.id, limit=_FIRST, before=before, stale_ok=stale_ok
                )
            except NotFound:  # the message was removed since it was read
                return
            for message in reversed(page or ()):
                if message.role == Role.USER:
                    return
                earlier.insert(0, message)
                if not has_cut_calls(earlier + messages):
                    session.messages = earlier + messages
                    return
            if not page:
                return

    @abstractmethod
    async def delete_session(
        self, user_id: str, session_id: str, *, only_if: Callable[[dict[str, Any]], bool] | None = None
    ) -> Deleted:
        """Delete a session, its messages and its values; return the number of the first two. Idempotent.

        Args:
            user_id: the owner.
            session_id: the session.
            only_if: a function that receives a copy of the metadata and decides whether the session is deleted. The
                session is locked while it runs, so that no concurrent change is lost. An expired session remains.
        """

    @abstractmethod
    async def set_title(self, user_id: str, session_id: str, title: str | None) -> None:
        """Set the title of a session; None removes it.

        Raises:
            NotFound: the session does not exist.
            InvalidContent: the title contains a NUL character or a lone surrogate.
            LimitExceeded: the title is longer than 10,000 characters.
        """

    @abstractmethod
    async def set_metadata(self, user_id: str, session_id: str, metadata: Mapping[str, Any]) -> None:
        """Replace the metadata of a session: any JSON object.

        Raises:
            NotFound: the session does not exist.
            InvalidContent, LimitExceeded: the metadata cannot be represented as JSON, or is too large.
        """

    @abstractmethod
    async def change_metadata(
        self, user_id: str, session_id: str, change: Callable[[dict[str, Any]], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Replace the metadata of a session by ``change(metadata)``, atomically, and return the new metadata.

        The session is locked in between, so that no concurrent change is lost. `change` is called once, with a copy;
        if it raises, nothing is written.

        Raises:
            NotFound: the session does not exist.
            InvalidContent, LimitExceeded: the new metadata cannot be represented as JSON, or is too large.
        """

    @abstractmethod
    async def set_ttl(self, user_id: str, session_id: str, ttl: int | None) -> None:
        """Set the time to live of a session, in seconds after ``updated_at``; None applies the store's setting.

        An expired session no longer exists for any call, and its id may be used again at once. ``store.prune`` deletes
        its rows.

        Raises:
            NotFound: the session does not exist.
            InvalidContent: `ttl` is not an integer from 1 to 2**31 - 1.
        """

    @abstractmethod
    async def fork_session(
        self,
        user_id: str,
        session_id: str,
        *,
        at: str | int | None = None,
        new_id: str | None = None,
        messages: bool = True,
    ) -> Session:
        """Copy a session, up to and including the message `at`, and return the copy.

        Copied are the title, the metadata, the messages with their ids, the state rounds that were saved before the
        message after `at` was appended, and the values of the session as they are now. ``forked_from`` and
        ``forked_at`` of the copy name its origin. Memories belong to the user and are not copied.

        Args:
            user_id: the owner of both sessions.
            session_id: the session to copy.
            at: the id of the last message to copy, or its number: 1 is the first message, 0 copies none. None copies
                all messages.
            new_id: the id of the copy, as in :meth:`create_session`.
            messages: whether the messages of the copy are read and returned.

        Raises:
            NotFound: the session, or the message in it, does not exist.
            AlreadyExists: `new_id` is the id of an existing session, or of existing states.
            InvalidContent: an id is invalid, or `at` is neither an id nor a number.
            LimitExceeded: the copy was created, and has more than 256 MB, see :meth:`get_session`.
        """

    @abstractmethod
    async def rewind_session(
        self,
        user_id: str,
        session_id: str,
        at: str | int,
        *,
        keep: bool = True,
        new_id: str | None = None,
        messages: bool = True,
    ) -> Session:
        """Remove the messages after `at` from a session, and return it.

        State rounds that were saved after the first of these messages was appended are removed as well; their numbers
        are not used again. The values of the session stay as they are.

        Args:
            user_id: the owner.
            session_id: the session.
            at: the id of the last message to retain, or its number, as in :meth:`fork_session`.
            keep: whether what is removed is moved to a new session, so that nothing is lost: the messages and the state
                rounds, with their numbers. It has the title, the metadata and the values of the session, which
                ``forked_from`` names. It is not created if there is nothing to remove.
            new_id: the id of that session, as in :meth:`create_session`.
            messages: whether the messages that the session has left are read and returned.

        Raises:
            NotFound, AlreadyExists, InvalidContent: as :meth:`fork_session`; nothing was changed.
            LimitExceeded: the retained messages have more than 256 MB, see :meth:`get_session`; nothing was changed.
        """
