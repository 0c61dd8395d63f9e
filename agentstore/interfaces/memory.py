"""The interfaces of long-term memory: the service, and the extractor of facts."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from agentstore.interfaces.service import ServiceWithLifecycleManager
from agentstore.schemas import (
    Deleted,
    Extraction,
    ListFilters,
    MemoryItem,
    Message,
    MessagesLike,
    Page,
    SearchFilters,
)


class MemoryService(ServiceWithLifecycleManager):
    """Long-term memory: messages of earlier conversations, found by their words.

    The memories of a user are grouped in buckets, one per session id; the id None or "" is the bucket "default".
    """

    @abstractmethod
    async def add_memory(
        self,
        user_id: str,
        messages: MessagesLike,
        session_id: str | None = None,
        *,
        namespace: str | None = None,
    ) -> None:
        """Add messages to memory, in order. Idempotent: a message id that the session has already is skipped.

        `namespace` is a path such as "project/x", by whose prefixes memories are filtered.

        Raises:
            Conflict: a message has the id of an item (fact) in the session; nothing was added.
            InvalidContent, LimitExceeded: see :meth:`SessionHistoryService.append_message`.
        """

    @abstractmethod
    async def search_memory(
        self,
        user_id: str,
        messages: MessagesLike | str,
        filters: SearchFilters | None = None,
        *,
        stale_ok: bool = False,
    ) -> list[Message]:
        """Return the memories that match the text of the last of `messages`, best first. Any text is a valid query.

        Args:
            user_id: whose memories are searched.
            messages: a string, a Message, a dict with a Message's fields, or a list of messages.
            filters: a dict with any of these keys:

                - ``top_k``: the maximum number of results, from 0 to 1,000 (default 10);
                - ``order``: "relevance" (default), or "chronological" to sort the results by time;
                - ``session_id``, ``exclude_session_id``: only memories of this session, and none of this one; an id,
                  or a list of up to 1,000;
                - ``namespace``: only memories in this namespace, or below it: "a" has "a" and "a/b";
                - ``metadata``: only memories whose metadata has all of these keys, up to 100, with equal values;
                - ``role``: only messages of this role, such as "user";
                - ``since``, ``until``: only memories from `since` on, and before `until`: an aware datetime, a string
                  such as ISO 8601, or seconds since 1970;
                - ``min_score``: the minimum score of a result (default 0.0);
                - ``neighbors``: whether memories are also found by their neighbors in the session (default True);
                - ``kind``: only memories of this kind: "message", or an item's, such as "fact";
                - ``valid_at``: only items that are valid at this time (default: now);
                - ``now``: the time of the question, by which "last week" is a date (default: the timestamp of the
                  query's message, or else the current time);
                - ``strategy``: a SearchStrategy or its name, "full_text", "vector" or "hybrid" (default: the
                  service's).

            stale_ok: whether the memories may be read from a replica, see :mod:`agentstore.interfaces`.

        Raises:
            InvalidContent: a filter is unknown or its value invalid, or `messages` are not messages.
            LimitExceeded: ``top_k`` is over 1,000, there are over 1,000 session ids or 100 keys of metadata, or the
                results have more than 256 MB (the setting `max_reply_bytes`).
            NotConfigured: ``strategy`` needs vectors, and there is no embedder, or vectors are not enabled.
            EmbeddingFailed: the embedder failed, and ``strategy`` is "vector".
        """

    @abstractmethod
    async def list_memory(
        self, user_id: str, filters: ListFilters | None = None, *, stale_ok: bool = False
    ) -> Page[Message]:
        """Return one page of a user's memories, ordered by session id, then in the order of addition.

        Args:
            user_id: whose memories are listed.
            filters: a dict with any of these keys:

                - ``page_size``: the number of memories per page, from 1 to 10,000 (default 10);
                - ``page_num``: the number of the page, from 1 (default 1);
                - ``cursor``: ``next_cursor`` of the previous page, instead of ``page_num``;
                - ``session_id``, ``exclude_session_id``: only memories of this session, and none of this one; an id,
                  or a list of up to 1,000;
                - ``namespace``, ``metadata``: as in a search.

            stale_ok: whether the memories may be read from a replica.

        Raises:
            InvalidContent: a filter is unknown or its value invalid, or both ``page_num`` and ``cursor`` are given.
            LimitExceeded: ``page_size`` is over 10,000, or the page has more than 256 MB.
        """

    @abstractmethod
    async def delete_memory(self, user_id: str, session_id: str | None = None) -> Deleted:
        """Delete the memories of a session, or with None all of the user's; return their number. Idempotent."""


class Extractor(Protocol):
    """Extracts facts or experience from conversations, usually with a language model."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the extractor, stored in ``metadata["extractor"]`` of its items."""

    @property
    @abstractmethod
    def kinds(self) -> Sequence[str]:
        """The kinds of items that it creates; only existing items of these kinds are passed to :meth:`extract`."""

    @abstractmethod
    async def extract(self, messages: Sequence[Message], existing: Sequence[MemoryItem]) -> Extraction:
        """Return the items that `messages` give rise to. No connection is held during the call.

        Args:
            messages: messages of one session in order, each with its time in ``metadata["timestamp"]``.
            existing: stored items that the messages may be about. An item in the result with the id of one of these
                replaces it.

        Raises:
            ExtractionFailed: the extraction failed now, and is retried later.
        """
