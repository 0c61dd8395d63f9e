"""``python -m agentstore``."""

from agentstore.cli import main

main()
