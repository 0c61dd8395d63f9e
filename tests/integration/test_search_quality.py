"""How well `search_memory` finds, on labelled conversations: what it found when it was measured, and no less."""

import gzip
import json
import math
from itertools import groupby
from pathlib import Path
from statistics import fmean

import pytest

from agentstore import AgentStore, Message, TextContent
from agentstore.testing import text

pytestmark = pytest.mark.labelled

# Recall and nDCG of the first ten, in percent, a little under what was measured.
_LEAST = {
    "locomo": (79, 61),
    "longmemeval": (86, 66),
    "memorybank_zh": (95, 77),
    "cmrc2018": (93, 78),
    "jsquad": (93, 85),
}


@pytest.mark.parametrize("name", _LEAST)
async def test_the_answers_are_among_the_first_ten(name: str, store: AgentStore, labelled: Path) -> None:
    recall, gain = await measured(store, labelled, name)
    print(f"{name}: R@10 {recall:.1f}, nDCG@10 {gain:.1f}")
    assert recall >= _LEAST[name][0]
    assert gain >= _LEAST[name][1]


async def measured(
    store: AgentStore, folder: Path, name: str, strategy: str = "full_text", *, again: bool = False
) -> tuple[float, float]:
    """Recall and nDCG of the first ten, in percent; `again`: the memories are there."""
    recalls, gains = [], []
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as users:
        for number, user in enumerate(map(json.loads, users)):
            for session, docs in groupby([] if again else user["docs"], key=lambda doc: str(doc["session"])):
                said = [
                    Message(
                        id=doc["id"],
                        role=doc["role"],
                        content=[TextContent(text=doc["text"])],
                        metadata={"name": doc["name"], "timestamp": doc["time"]},
                    )
                    for doc in docs
                ]
                await store.memory.add_memory(f"u{number}", said, session)
            for query in user["queries"]:
                wanted = set(query["relevant"])
                found = await store.memory.search_memory(f"u{number}", text(query["text"]), {"strategy": strategy})
                hits = [message.id in wanted for message in found]
                recalls.append(sum(hits) / len(wanted))
                ideal = sum(1 / math.log2(place + 2) for place in range(min(len(wanted), 10)))
                gains.append(sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit) / ideal)
    return 100 * fmean(recalls), 100 * fmean(gains)
