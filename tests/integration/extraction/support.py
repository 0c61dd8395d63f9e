"""An extractor without a model, and helpers for the tests of extraction."""

import json
from collections.abc import Sequence
from typing import Any

import asyncpg

from agentstore import (
    Extraction,
    MemoryItem,
    Message,
)
from tests.support.chat import Reply, facts_reply

# Makes all jobs due.
DUE = "UPDATE agentstore.memory_extractions SET run_after = now() - interval '1 second'"


async def read_jobs(observer: asyncpg.Connection) -> list[asyncpg.Record]:
    return await observer.fetch("SELECT * FROM agentstore.memory_extractions ORDER BY user_id, session_id, first_seq")


class EchoExtractor:
    """An extractor that returns a fact for each message."""

    name = "own"
    kinds = ("fact",)

    async def extract(self, messages: Sequence[Message], existing: Sequence[MemoryItem]) -> Extraction:
        return Extraction([MemoryItem(text=f"{_text_of(message)} was said") for message in messages])


def _text_of(message: Message) -> str:
    part = (message.content or [])[0]
    return getattr(part, "text", None) or ""


async def one_fact_each(request: dict[str, Any]) -> Reply:
    """Answer a request with a fact for each message."""
    conversation = json.loads(request["messages"][1]["content"])["conversation"]
    return facts_reply(*(f"fact {each['said'].split('said ')[-1]}" for each in conversation))
