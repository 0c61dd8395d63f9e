"""Labels: the tokens by which memories are filtered by namespace and metadata.

A memory has a label for each prefix of its namespace, and one for each top-level key of its metadata with the value.
They are stored with the tokens of its text, so that one index finds both, and a search reads no memory that has not all
labels of the filter. A label is a hash, since a value may be of any length and have characters that Postgres cannot
store.
"""

import json
from collections.abc import Mapping
from hashlib import blake2b
from itertools import islice
from typing import Any

import orjson

from agentstore.offload import spend

# No token of a text or date begins with it.
SIGN = "="
# The keys of a metadata that have labels, the first ones: the tokens of a memory are limited to a megabyte.
MAX_KEYS = 1_000


def labels_of_memory(namespace: str | None, metadata: Mapping[str, Any] | None) -> list[str]:
    """Return the labels of a memory: for "a/b" those of "a" and "a/b", and for each of the first 1,000 keys one."""
    labels = []
    if namespace is not None:
        segments = namespace.split("/")
        labels = [_label("/".join(segments[:end])) for end in range(1, len(segments) + 1)]
    if metadata:
        labels += _labels_of_metadata(metadata)
    return labels


def labels_of_filter(namespace: str | None, metadata: Mapping[str, Any] | None) -> list[str]:
    """Return the labels that a memory has if it is in the namespace and has these keys with equal values."""
    labels = [] if namespace is None else [_label(namespace)]
    return labels + _labels_of_metadata(metadata or {})


def _labels_of_metadata(metadata: Mapping[str, Any]) -> list[str]:
    return [_label([key, _comparable(value)]) for key, value in islice(metadata.items(), MAX_KEYS)]


def _label(value: Any) -> str:
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # it has a lone surrogate or an integer of over 64 bits, as every equal value
        text = json.dumps(value, sort_keys=True).encode()
    return SIGN + blake2b(text, digest_size=10).hexdigest()


def _comparable(value: Any) -> Any:
    """Return a JSON value in the form in which equal values are encoded equally: 1.0 as 1."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        spend(len(value))
        return {key: _comparable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        spend(len(value))
        return [_comparable(each) for each in value]
    return value
