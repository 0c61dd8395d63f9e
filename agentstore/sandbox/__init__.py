"""Sandbox providers, one for each kind of isolation. The registry of sandboxes is in the repositories."""
