"""What a database administrator runs: diagnosis, roles, distribution."""
