"""The registry of sandboxes, and their stored workspaces, on Postgres."""
