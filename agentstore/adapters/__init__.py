"""Adapters: agentstore under the names and classes, and with the behavior, of other frameworks. One package each."""
