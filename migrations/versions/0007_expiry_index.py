"""Create the index of the sessions with a time to live of their own, for pruning.

Revision ID: 0007
Revises: 0006

Locks: SHARE UPDATE EXCLUSIVE on sessions: reads and writes continue. Time: two scans of sessions.
"""

import sqlalchemy as sa

from agentstore.migrating.steps import create_index, drop_index

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    create_index("sessions_ttl_idx", "sessions", ["user_id", "id"], postgresql_where=sa.text("ttl IS NOT NULL"))


def downgrade() -> None:
    drop_index("sessions_ttl_idx")
