"""What an import of LangGraph's own tables needs of langgraph-checkpoint."""

# pyright: reportMissingImports=false
from typing import Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from agentstore.adapters.langgraph.items import document_of

__all__ = ["document_of", "dump_json"]

_serializer = JsonPlusSerializer()


def dump_json(value: Any) -> tuple[str, bytes]:
    """Serialize a JSON value as the saver does by default; return the type and the bytes."""
    dumped: tuple[str, bytes] = _serializer.dumps_typed(value)
    return dumped
