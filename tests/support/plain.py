"""Imported before typer and rich, which read at their import what makes them write colours or narrow lines."""

import os

for _name in ("GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "TERMINAL_WIDTH", "COLUMNS"):
    os.environ.pop(_name, None)
