"""Rebuild the index of the primary key of sessions, so that the planner prefers it.

As long as a table has no statistics, the planner takes each index that begins with the user for one that finds a
single row, at the same cost, and of those it prefers the newest. An append then read the entries of all sessions of its
user. What matters is only that this index is newer than the others, also in tests/integration/test_statements.py.

Revision ID: 0021
Revises: 0020

Locks: SHARE UPDATE EXCLUSIVE on sessions: reads and writes continue. Time: two scans of sessions.
"""

from agentstore.migrating.steps import rebuild_index

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    rebuild_index("sessions_pkey")


def downgrade() -> None:
    pass
