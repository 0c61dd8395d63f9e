"""A Postgres server that the library itself starts and stops."""
