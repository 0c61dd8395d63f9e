"""Work that would block the event loop for long, done in a thread and in pieces.

A function that may take long calls :func:`spend` for what it is about to do, and :func:`works_in_pieces` to find out
whether it shall divide its work. An ordinary call spends little, and runs in the event loop at the cost of a few
subtractions.

A thread alone does not help where one call in C takes long: it holds the interpreter's lock. See
:mod:`agentstore.json_pieces` for how it is divided.
"""

import gc
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# What a call may spend in the event loop, in values of a container that are visited one by one: about 10 ms.
_EFFORT = 50_000


class _TakesLong(Exception):
    """A function was called in the event loop, and would take too long there."""


class _State(threading.local):
    left: float = math.inf
    in_pieces: bool = False


_state = _State()
_hold_lock = threading.Lock()
_holds = 0
_was_enabled = False


def spend(effort: int) -> None:
    """Announce work: the number of values that a function is about to visit one by one, or what takes as long."""
    left = _state.left - effort
    _state.left = left
    if left < 0:
        raise _TakesLong


def works_in_pieces() -> bool:
    """Return whether the caller runs in a thread of :func:`run`, and shall let other threads run in between."""
    return _state.in_pieces


async def run(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function without side effects; if it turns out to take long, call it again in a thread and in pieces."""
    _state.left = _EFFORT
    try:
        return function(*args, **kwargs)
    except _TakesLong:
        pass
    finally:
        _state.left = math.inf

    def work() -> T:
        _state.in_pieces = True
        try:
            with _no_collection():
                return function(*args, **kwargs)
        finally:
            _state.in_pieces = False

    import asyncio  # here, since messages can be created without an event loop

    return await asyncio.to_thread(work)


def _after_fork() -> None:
    """Release in a forked child what threads of the parent hold."""
    global _holds, _hold_lock
    _hold_lock = threading.Lock()
    if _holds and _was_enabled:
        gc.enable()
    _holds = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Disable garbage collection while any thread works: a full one visits all that they have created so far."""
    global _holds, _was_enabled
    with _hold_lock:
        _holds += 1
        if _holds == 1:
            _was_enabled = gc.isenabled()
            gc.disable()
    try:
        yield
    finally:
        with _hold_lock:
            _holds -= 1
            if _holds == 0 and _was_enabled:
                gc.enable()
