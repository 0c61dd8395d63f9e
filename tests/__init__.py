"""Tests, and the programs that they run (``python -m tests.support.*``)."""

import atexit
import gc

# A process that exits would search all objects for garbage several times: half a second of CPU time.
atexit.register(gc.freeze)
