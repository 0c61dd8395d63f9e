"""Create the index of the sessions of a user by their creation.

Revision ID: 0016
Revises: 0015

Locks: SHARE UPDATE EXCLUSIVE on sessions: reads and writes continue. Time: two scans of sessions.
"""

from agentstore.migrating.steps import create_index, drop_index

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    create_index("sessions_user_id_created_at_id_idx", "sessions", ["user_id", "created_at", "id"])


def downgrade() -> None:
    drop_index("sessions_user_id_created_at_id_idx")
