"""Checkpoints and graphs for the tests of the saver, with the real packages."""

# pyright: reportMissingImports=false
from collections.abc import Sequence
from typing import Any

MESSAGE = "The weather in Chengdu is fine today, and tomorrow there will be light rain in the west. "


def config_of(thread_id: str, id: str | None = None, namespace: str = "", user_id: str | None = None) -> Any:
    configurable = {"thread_id": thread_id, "checkpoint_ns": namespace}
    configurable |= {} if id is None else {"checkpoint_id": id}
    return {"configurable": configurable | ({} if user_id is None else {"user_id": user_id})}


def checkpoint_of(
    values: dict[str, Any], versions: dict[str, Any], *, id: str | None = None, **fields: Any
) -> dict[str, Any]:
    from langgraph.checkpoint.base import empty_checkpoint

    checkpoint: dict[str, Any] = empty_checkpoint()
    id = checkpoint["id"] if id is None else id
    return {**checkpoint, "channel_values": values, "channel_versions": versions, "id": id, **fields}


class Thread:
    """Puts the steps of a thread whose channel "messages" grows, as a graph with add_messages does."""

    def __init__(self, saver: Any, thread_id: str, user_id: str | None = None) -> None:
        self.saver = saver
        self.config = config_of(thread_id, user_id=user_id)
        self.messages: list[str] = []
        self.version: str | None = None
        self.step = 0

    async def append(self, *texts: str, **metadata: Any) -> Any:
        self.messages = [*self.messages, *texts]
        self.version = self.saver.get_next_version(self.version, None)
        checkpoint = checkpoint_of({"messages": self.messages}, {"messages": self.version})
        about = {"source": "loop", "step": self.step, "parents": {}, **metadata}
        self.config = await self.saver.aput(self.config, checkpoint, about, {"messages": self.version})
        self.step += 1
        return self.config


def plain(found: Any) -> Any:
    """Return a tuple in a form that two savers share, without the config of the user."""
    if found is None:
        return None
    configs = [
        None if each is None else {**each["configurable"], "user_id": None}
        for each in (found.config, found.parent_config)
    ]
    return configs, found.checkpoint, found.metadata, [tuple(each) for each in found.pending_writes]


async def listed(saver: Any, *args: Any, **options: Any) -> list[Any]:
    return [each async for each in saver.alist(*args, **options)]


def sizes_sql(schema: str = "agentstore") -> str:
    tables: Sequence[str] = ("checkpoint_heads", "checkpoints", "checkpoint_values", "checkpoint_writes")
    return "SELECT " + " + ".join(f"pg_total_relation_size('{schema}.{table}')" for table in tables)
