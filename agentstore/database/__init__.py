"""The connection to Postgres: statements, the connection pool, transactions, and error translation."""
