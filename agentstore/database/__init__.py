"""The connection to Postgres: statements, the pool, transactions, and the translation of the driver's errors."""
