"""The statements that append messages to sessions.

Each claims the next positions of a session by raising the counter ``next_seq`` of its row, and inserts the messages at
these positions. The update locks the row until the commit: appends to one session follow each other without a gap in
the positions, and appends to different sessions do not block each other.
"""

from agentstore.database.sql import SqlStatements

_SQL = SqlStatements(__file__)

# Each is repeatable: executed again with the same ids, it fails with 23505 or stores nothing more.
APPEND = _SQL("append")
APPEND_TO_MANY = _SQL("append_to_many")
APPEND_MISSING = _SQL("append_missing")
