"""The quality of `search_memory` on labeled conversations must not fall below what was measured."""

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

# The minimum recall and nDCG of the first ten hits in percent, a little below the measured values.
_MINIMUM = {
    "locomo": (82, 65),
    "longmemeval": (90, 73),
    "memorybank_zh": (97, 86),
    "cmrc2018": (95, 80),
    "jsquad": (95, 88),
}
# With the static embedder, which knows no words in other scripts.
_MINIMUM_HYBRID = {"locomo": (80.5, 62.5), "longmemeval": (90, 72)}


@pytest.mark.parametrize("name", _MINIMUM)
async def test_answers_are_among_the_first_ten_hits(name: str, store: AgentStore, labelled: Path) -> None:
    recall, gain = await measure(store, labelled, name)
    print(f"{name}: R@10 {recall:.1f}, nDCG@10 {gain:.1f}")
    assert recall >= _MINIMUM[name][0]
    assert gain >= _MINIMUM[name][1]


@pytest.mark.parametrize("name", _MINIMUM_HYBRID)
async def test_a_static_embedder_finds_more(name: str, store: AgentStore, labelled: Path) -> None:
    words = await measure(store, labelled, name)
    recall, gain = await measure(store, labelled, name, "hybrid", already_added=True)
    print(f"{name}, hybrid: R@10 {recall:.1f}, nDCG@10 {gain:.1f}")
    assert recall >= _MINIMUM_HYBRID[name][0]
    assert gain >= _MINIMUM_HYBRID[name][1]
    assert (recall, gain) > words


async def measure(
    store: AgentStore, folder: Path, name: str, strategy: str = "full_text", *, already_added: bool = False
) -> tuple[float, float]:
    """Return recall and nDCG of the first ten hits, in percent. With `already_added`, no memories are added."""
    recalls, gains = [], []
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as users:
        for number, user in enumerate(map(json.loads, users)):
            for session, docs in groupby([] if already_added else user["docs"], key=lambda doc: str(doc["session"])):
                messages = [
                    Message(
                        id=doc["id"],
                        role=doc["role"],
                        content=[TextContent(text=doc["text"])],
                        metadata={"name": doc["name"], "timestamp": doc["time"]},
                    )
                    for doc in docs
                ]
                await store.memory.add_memory(f"u{number}", messages, session)
            for query in user["queries"]:
                relevant = set(query["relevant"])
                found = await store.memory.search_memory(f"u{number}", text(query["text"]), {"strategy": strategy})
                hits = [message.id in relevant for message in found]
                recalls.append(sum(hits) / len(relevant))
                ideal = sum(1 / math.log2(rank + 2) for rank in range(min(len(relevant), 10)))
                gains.append(sum(1 / math.log2(rank + 2) for rank, hit in enumerate(hits) if hit) / ideal)
    return 100 * fmean(recalls), 100 * fmean(gains)
