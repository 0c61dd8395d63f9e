"""The checkpoints of LangGraph."""

# pyright: reportMissingImports=false
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from agentstore.adapters.stores import OnStore, Store


class AgentStoreSaver(OnStore, BaseCheckpointSaver[str]):  # type: ignore[misc]
    """A BaseCheckpointSaver of LangGraph."""

    def __init__(self, store: Store | None = None, *, url: str | None = None, serde: Any = None) -> None:
        """Create the saver, without connecting.

        Args:
            store: an AgentStore.
            url: the URL of a database instead of a store.
            serde: the serializer of values; None is LangGraph's JsonPlusSerializer.

        Raises:
            NotConfigured: both `store` and `url` are given, or none.
        """
        BaseCheckpointSaver.__init__(self, serde=serde)
        OnStore.__init__(self, store, url=url)
