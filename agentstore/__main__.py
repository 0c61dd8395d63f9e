"""The ``python -m agentstore`` entry point: the same as the ``agentstore`` command."""

from agentstore.cli import main

main()
