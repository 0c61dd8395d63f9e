"""Plain CLI output: clears the variables that typer and rich read at import, for colors and the terminal width."""

import os

for _name in ("GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "TERMINAL_WIDTH", "COLUMNS"):
    os.environ.pop(_name, None)
