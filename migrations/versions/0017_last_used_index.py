"""Create the index of all sessions by their last use.

Revision ID: 0017
Revises: 0016

Locks: SHARE UPDATE EXCLUSIVE on sessions: reads and writes continue. Time: two scans of sessions.
"""

from agentstore.migrating.steps import create_index, drop_index

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    create_index("sessions_listed_at_idx", "sessions", ["listed_at"])


def downgrade() -> None:
    drop_index("sessions_listed_at_idx")
