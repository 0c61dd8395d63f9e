"""Measure how many sessions with the answer a search finds, on LongMemEval, whose file the caller has downloaded."""

import gzip
import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import asyncpg

from agentstore import AgentStore, Message, NotConfigured, Settings, TextContent
from agentstore.schemas import SearchFilters
from benchmarks.runner import server

METRICS = ("R@1", "any@5", "all@5", "any@10", "all@10", "nDCG@10")
_STRATEGIES = ("full_text", "hybrid")
# The number of messages found, in whose order their sessions are ranked.
_HITS = 200
_SAMPLES = 2_000


async def measure(url: str | None, path: Path, log: Callable[[str], None], *, quick: bool) -> dict[str, Any]:
    """Return the means of :func:`score` over all questions with an answer, each with its 95 % interval.

    `path` is a file of LongMemEval, JSON or gzip: for each question the sessions of its history, and the ids of those
    that have the answer. Each question is searched for among the messages of all its sessions, those of the user and of
    the assistant. Sessions are ranked by the best message of each.
    """
    questions = [each for each in _read(path) if not each["question_id"].endswith("_abs")]
    if quick:
        questions = random.Random(1).sample(questions, min(20, len(questions)))
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in _STRATEGIES}
    async with server(url) as (first, url_of):
        admin = await asyncpg.connect(first)
        await admin.execute('DROP DATABASE IF EXISTS "longmemeval" WITH (FORCE)')
        await admin.execute('CREATE DATABASE "longmemeval"')
        async with AgentStore(url_of("longmemeval"), settings=Settings(auto_migrate="upgrade")) as store:
            for number, question in enumerate(questions, 1):
                await _add(store, question)
                for strategy in list(scores):
                    try:
                        ranked = await _search(store, question, strategy)
                    except NotConfigured as error:
                        log(f"longmemeval, {strategy}: not measured: {error}")
                        del scores[strategy]
                        continue
                    scores[strategy].append(score(ranked, question["answer_session_ids"]))
                await store.users.delete_user(question["question_id"])
                if number % 50 == 0:
                    log(f"longmemeval: {number} of {len(questions)} questions")
        await admin.execute('DROP DATABASE "longmemeval" WITH (FORCE)')
        await admin.close()
    report: dict[str, Any] = {"file": path.name, "questions": len(questions), "strategies": {}}
    for strategy, found in scores.items():
        report["strategies"][strategy] = {name: _interval([each[name] for each in found]) for name in METRICS}
        means = "  ".join(f"{name} {each['mean']:.1f}" for name, each in report["strategies"][strategy].items())
        log(f"longmemeval, {len(questions)} questions, {strategy:9}  {means}")
    return report


def score(ranked: Sequence[str], relevant: Sequence[str]) -> dict[str, float]:
    """Return the measures of LongMemEval's own scorer, in percent, for sessions in the order in which they were found.

    R@1 and any@k are whether any relevant session is among the first one or k, all@k whether all are. nDCG@10 discounts
    the second place and the places after it by the logarithm of the place, as the scorer does.
    """
    wanted = set(relevant)
    hits = [session in wanted for session in ranked]
    return {
        "R@1": 100.0 * any(hits[:1]),
        **{f"any@{k}": 100.0 * any(hits[:k]) for k in (5, 10)},
        **{f"all@{k}": 100.0 * (sum(hits[:k]) == len(wanted)) for k in (5, 10)},
        "nDCG@10": 100.0 * _gain(hits[:10]) / _gain([True] * min(len(wanted), 10)),
    }


def _gain(hits: Sequence[bool]) -> float:
    return sum(1 / math.log2(max(place, 2)) for place, hit in enumerate(hits, 1) if hit)


def _read(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    questions: list[dict[str, Any]] = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    return questions


async def _add(store: AgentStore, question: dict[str, Any]) -> None:
    """Add the sessions of a question, each under its number, since a history may have a session twice."""
    sessions = zip(question["haystack_sessions"], question["haystack_dates"], strict=True)
    for number, (turns, date) in enumerate(sessions):
        messages = [
            Message(
                id=f"m{place}",
                role=turn["role"],
                content=[TextContent(text=turn["content"])],
                metadata={"timestamp": date},
            )
            for place, turn in enumerate(turns)
        ]
        await store.memory.add_memory(question["question_id"], messages, str(number))


async def _search(store: AgentStore, question: dict[str, Any], strategy: str) -> list[str]:
    """Return the ids of the sessions found, best first."""
    asked = Message(
        role="user",
        content=[TextContent(text=question["question"])],
        metadata={"timestamp": question["question_date"]},
    )
    filters: SearchFilters = {"top_k": _HITS, "strategy": strategy}
    hits = await store.memory.search(question["question_id"], asked, filters)
    ids = question["haystack_session_ids"]
    return list(dict.fromkeys(ids[int(hit.session_id)] for hit in hits))


def _interval(values: Sequence[float]) -> dict[str, float]:
    """Return the mean, and the interval that has 95 % of the means of samples of these values."""
    rng = random.Random(1)
    means = sorted(fmean(rng.choices(values, k=len(values))) for _ in range(_SAMPLES))
    return {"mean": fmean(values), "low": means[_SAMPLES // 40], "high": means[-_SAMPLES // 40 - 1]}
