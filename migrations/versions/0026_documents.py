"""Create the indexes of documents: by namespace, and by the time at which they expire.

Revision ID: 0026
Revises: 0025

Locks: SHARE UPDATE EXCLUSIVE on memories: reads and writes continue. Time: four scans of memories.
"""

import sqlalchemy as sa

from agentstore.migrating.steps import create_index, drop_index

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None
phase = "pre"

_ARE_DOCUMENTS = "kind = 'document' AND id = session_id"


def upgrade() -> None:
    create_index(
        "memories_namespaces_idx",
        "memories",
        ["user_id", sa.text('namespace COLLATE "C"')],
        postgresql_where=sa.text(_ARE_DOCUMENTS),
    )
    create_index(
        "memories_expiring_idx",
        "memories",
        ["valid_until"],
        postgresql_where=sa.text(f"{_ARE_DOCUMENTS} AND valid_until IS NOT NULL"),
    )


def downgrade() -> None:
    drop_index("memories_expiring_idx")
    drop_index("memories_namespaces_idx")
