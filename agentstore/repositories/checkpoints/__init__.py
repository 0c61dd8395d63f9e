"""Checkpoints of graphs on Postgres."""
