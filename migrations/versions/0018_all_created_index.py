"""Create the index of all sessions by their creation.

Revision ID: 0018
Revises: 0017

Locks: SHARE UPDATE EXCLUSIVE on sessions: reads and writes continue. Time: two scans of sessions.
"""

from agentstore.migrating.steps import create_index, drop_index

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    create_index("sessions_created_at_user_id_id_idx", "sessions", ["created_at", "user_id", "id"])


def downgrade() -> None:
    drop_index("sessions_created_at_user_id_id_idx")
