"""Create the index of the sessions of an application by their last use.

Revision ID: 0019
Revises: 0018

Locks: SHARE UPDATE EXCLUSIVE on sessions: reads and writes continue. Time: two scans of sessions.
"""

import sqlalchemy as sa

from agentstore.migrating.steps import create_index, drop_index

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    create_index(
        "sessions_app_listed_at_idx", "sessions", ["app", "listed_at"], postgresql_where=sa.text("app IS NOT NULL")
    )


def downgrade() -> None:
    drop_index("sessions_app_listed_at_idx")
