"""Tasks of a database administrator: diagnosis, grants, distribution."""
