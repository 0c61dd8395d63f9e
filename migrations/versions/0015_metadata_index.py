"""Create the index of the metadata of sessions.

Revision ID: 0015
Revises: 0014

Locks: SHARE UPDATE EXCLUSIVE on sessions: reads and writes continue. Time: two scans of sessions.
"""

import sqlalchemy as sa

from agentstore.migrating.steps import create_index, drop_index

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    create_index(
        "sessions_metadata_idx",
        "sessions",
        [sa.text("metadata_terms(metadata)")],
        postgresql_using="gin",
        # Each entry is written at once: a list of pending entries would be merged by an append now and then.
        postgresql_with={"fastupdate": "off"},
        postgresql_where=sa.text("metadata::text <> '{}'"),
    )


def downgrade() -> None:
    drop_index("sessions_metadata_idx")
