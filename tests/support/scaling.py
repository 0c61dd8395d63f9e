"""Check how the time of a function grows with its input, independent of the speed and the load of the machine."""

import time
from collections.abc import Callable


def cpu_time(function: Callable[[], object], repeat: int = 3) -> float:
    """Return the CPU time of a call in seconds: the least of several calls."""
    times = []
    for _ in range(repeat):
        began = time.process_time()
        function()
        times.append(time.process_time() - began)
    return min(times)


def assert_linear(function: Callable[[str], object], piece: str, length: int = 100_000) -> None:
    """Assert that a function takes linear time for texts that repeat `piece`.

    Ten times the text may take 40 times as long, which leaves room for caches and noise; quadratic time is 100 times.
    """
    short, long = (piece * (size // len(piece)) for size in (length // 10, length))
    function(short)  # fills the caches
    few = max(cpu_time(lambda: function(short)), 0.001)
    # The second time only if something else slowed the first.
    assert any(cpu_time(lambda: function(long), repeat=1) < 40 * few for _ in range(2))
