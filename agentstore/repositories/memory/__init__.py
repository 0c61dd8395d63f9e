"""Long-term memory on Postgres."""
