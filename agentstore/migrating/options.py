"""Options that the migrating functions share."""

from collections.abc import Callable

Report = Callable[[str], None]
"""Receives a line of text for each step and for each wait."""

WAIT = 600.0
"""Seconds that a call may wait in all, for other migrators and for locks of other sessions."""
