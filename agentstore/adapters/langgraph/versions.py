"""The versions of channels."""

import random


def next_version(current: str | int | None) -> str:
    """Return a version that is greater than `current`, and differs from all others.

    It has the form of LangGraph's own savers on databases, so that a thread can be continued by another saver: a number
    of 32 digits, and a random part.
    """
    if current is None:
        number = 0
    elif isinstance(current, int):
        number = current
    else:
        number = int(current.split(".")[0])
    return f"{number + 1:032}.{random.random():016}"  # noqa: S311 - it need not be a secret
