"""The sessions for openai-agents: `make adapters` runs the tests that need the package."""
