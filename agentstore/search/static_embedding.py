"""A static embedder: an embedder that needs no server, no pgvector and no download, and hybrid searches with it.

The vector of a text is the mean of the vectors of its tokens, which the package wordllama has for 32,000 tokens. They
were trained with English texts, such that tokens that mean little have short vectors: weights by the probability of a
token (Arora, Liang and Ma, "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", 2017) improve nothing. They
know only words in Latin letters. A query in another script is searched for by its words alone.

A hybrid search embeds the best memories by words alone when it finds them, which takes about 0.1 ms for each: nothing
is stored, so it applies to all memories, and adding a memory costs nothing.
"""

import asyncio
import functools
import importlib.util
import itertools
import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agentstore.errors import NotConfigured
from agentstore.schemas import Embedder, MemoryHit, SearchStrategy
from agentstore.schemas.memory import embedded_text
from agentstore.search import ranking
from agentstore.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

# The number of best memories by words that are embedded, if `top_k` is not more. 100 or 200 give the same results.
CANDIDATES = 50

_DIMENSIONS = 256
# The number of characters of a text that are embedded. The beginning of a longer one is as good as all of it.
_MAX_CHARACTERS = 1_000
# The maximum size of a word. Longer ones are no words, and the time to divide one grows with its square.
_MAX_WORD = 40
# Words whose tokens are remembered; each takes about 200 bytes.
_MAX_WORDS = 50_000

_WORD = re.compile(r"[0-9A-Za-z\u00c0-\u024f]+(?:['\u2019][0-9A-Za-z\u00c0-\u024f]+)*")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_LETTER = re.compile(r"[^\W\d_]")
# What the tokens have in place of a space, before the first letter of a word.
_SPACE = "\u2581"
# A number that no token has.
_NONE = 1 << 30


class _Model(NamedTuple):
    """The vectors of the tokens, by their numbers, and the numbers of the tokens."""

    vectors: "Vectors"
    ids: Mapping[str, int]


class StaticEmbedder:
    """An embedder of English texts, with vectors of the package wordllama (extra ``static``).

    As the embedder of a store, it is for HYBRID searches alone, and no vectors are stored. It is used by default where
    there is no other embedder.
    """

    name = "wordllama-l2-supercat"
    dimensions = _DIMENSIONS

    def __init__(self) -> None:
        """Create an embedder; its files are loaded by the first call.

        Raises:
            NotConfigured: the package wordllama is not installed.
        """
        _find()

    def __repr__(self) -> str:
        return "StaticEmbedder()"

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector for each text, of length 1; zeros for a text without words in Latin letters."""
        return await asyncio.to_thread(lambda: _embed(texts).tolist())

    def similarities(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return the cosine similarity of each text to a question, 0 if one of them has no vector."""
        import numpy as np

        asked, *vectors = _embed([question, *texts])
        # Rounded, so that equal texts have equal scores.
        return [round(float(np.sum(asked * each)), 5) for each in vectors]


def find_static(strategy: SearchStrategy, embedder: Embedder | None) -> StaticEmbedder | None:
    """Return the static embedder of a search: if it is HYBRID, and there is no `embedder` or it is a static one.

    Raises:
        NotConfigured: the strategy needs an embedder, and there is none.
    """
    if strategy is SearchStrategy.FULL_TEXT or not (embedder is None or isinstance(embedder, StaticEmbedder)):
        return None
    needed = "needs an embedder: pass one, as in AgentStore(embedder=...), or set AGENTSTORE_EMBEDDING_URL"
    if strategy is SearchStrategy.VECTOR:
        raise NotConfigured(f"Searching by meaning {needed}. A static embedder is for hybrid searches alone.")
    try:
        return embedder or StaticEmbedder()
    except NotConfigured as error:
        raise NotConfigured(f"A hybrid search {needed}, or run pip install 'agentstore-postgres[static]'.") from error


def understands(question: str) -> bool:
    """Return whether at least half of the letters of a question are Latin."""
    letters = len(_LETTER.findall(question))
    return letters > 0 and 2 * len(_LATIN.findall(question)) >= letters


def rescore(
    hits: Sequence[MemoryHit],
    priors: Sequence[float],
    question: str,
    embedder: StaticEmbedder,
    settings: Settings,
    *,
    neighbors: bool,
) -> list[MemoryHit]:
    """Return the hits of a search by words with the scores of a hybrid search, best first.

    The scores by words, and the similarities, are scaled to the range from 0 to 1 among these hits. A memory lends its
    similarity to its neighbors as it does its score by words, unless `neighbors` is false; similarities are multiplied
    by the `priors`. The share of the words in the score is ``hybrid_weight``.
    """
    if not hits:
        return []
    meaning = [0.0] * len(hits)
    if understands(question):
        texts = [embedded_text(hit.message, settings) for hit in hits]
        found = embedder.similarities(question, texts)
        low, high = min(found), max(found)
        meaning = [(each - low) / (high - low) if high > low else 1.0 for each in found]
        if neighbors:
            meaning = _lend(hits, meaning)
    best = max(hit.score for hit in hits) or 1.0
    weight = settings.hybrid_weight
    rescored = [
        replace(hit, score=ranking.rounded(weight * hit.score / best + (1 - weight) * similarity * prior))
        for hit, similarity, prior in zip(hits, meaning, priors, strict=True)
    ]
    rescored.sort(key=lambda hit: (-hit.score, -hit.time.timestamp(), hit.session_id, -hit.position))
    return rescored


def _lend(hits: Sequence[MemoryHit], meaning: Sequence[float]) -> list[float]:
    """Return the greatest similarity of each message itself and, with the weights of neighbors, of those beside it."""
    of_message = {
        (hit.session_id, hit.position): each for hit, each in zip(hits, meaning, strict=True) if hit.item is None
    }
    return [
        each
        if hit.item is not None
        else max(
            weight * of_message.get((hit.session_id, hit.position - step), 0.0)
            for step, weight in ranking.NEIGHBORS.items()
        )
        for hit, each in zip(hits, meaning, strict=True)
    ]


def _find() -> Path:
    """Return the folder of wordllama, which is not imported: that would configure the root logger.

    Raises:
        NotConfigured: it is not installed.
    """
    found = importlib.util.find_spec("wordllama")
    if found is None or not found.submodule_search_locations:
        raise NotConfigured("wordllama is not installed: run pip install 'agentstore-postgres[static]'")
    return Path(found.submodule_search_locations[0])


def _embed(texts: Sequence[str]) -> "Vectors":
    """Return the vectors of some texts: the sums of those of their tokens, scaled to a length of 1."""
    import numpy as np

    vectors = _load().vectors
    found = np.zeros((len(texts), _DIMENSIONS), np.float32)
    for place, text in enumerate(texts):
        total = vectors.take(np.array(_tokenize(text), np.intp), axis=0).sum(axis=0)
        found[place] = total / (np.linalg.norm(total) or 1.0)
    return found


def _tokenize(text: str) -> list[int]:
    """Return the numbers of the tokens of the beginning of a text."""
    found: list[int] = []
    for word in _WORD.findall(text[:_MAX_CHARACTERS].lower()):
        found += _tokens_of_word(word)
    return found


@functools.lru_cache(_MAX_WORDS)
def _tokens_of_word(word: str) -> tuple[int, ...]:
    """Return the numbers of the tokens of a word, by byte pair encoding: tokens that join first have lower numbers."""
    ids = _load().ids
    if (whole := ids.get(_SPACE + word)) is not None:
        return (whole,)
    parts = [_SPACE, *word[:_MAX_WORD]]
    # The number of the token that each part makes with the next one.
    joined = [ids.get(one + other, _NONE) for one, other in itertools.pairwise(parts)]
    while joined and (first := min(joined)) != _NONE:
        place = joined.index(first)
        part = parts[place] + parts[place + 1]
        parts[place : place + 2] = [part]
        del joined[place]
        if place > 0:
            joined[place - 1] = ids.get(parts[place - 1] + part, _NONE)
        if place < len(joined):
            joined[place] = ids.get(part + parts[place + 1], _NONE)
    return tuple(ids[part] for part in parts if part in ids)


@functools.lru_cache(1)
def _load() -> _Model:
    """Read the vectors, in the format safetensors, and the tokens.

    Raises:
        NotConfigured: wordllama is not installed, or another release of it.
    """
    import numpy as np

    folder = _find()
    try:
        with (folder / "weights" / "l2_supercat_256.safetensors").open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header: dict[str, Any] = json.loads(file.read(size))["embedding.weight"]
            vectors = np.fromfile(file, "<f2").reshape(header["shape"]).astype(np.float32)
        tokenizer = folder / "tokenizers" / "l2_supercat_tokenizer_config.json"
        ids: dict[str, int] = json.loads(tokenizer.read_bytes())["model"]["vocab"]
        is_supported = vectors.shape == (len(ids), _DIMENSIONS)
    except (OSError, ValueError, LookupError, TypeError, struct.error) as error:
        raise NotConfigured(f"the files in {folder} are not those of a supported release of wordllama") from error
    if not is_supported:
        raise NotConfigured(f"the files in {folder} are not those of a supported release of wordllama")
    return _Model(vectors, ids)
