"""Record the time to live of a session, and the time of the last addition to a bucket of memories.

Revision ID: 0006
Revises: 0005

Locks: ACCESS EXCLUSIVE on sessions and memory_buckets, for a moment: the columns are added without a rewrite, also that
of the buckets, since now() is the same value for all existing rows. Time: none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("ttl", sa.BigInteger(), nullable=True))
    op.add_column(
        "memory_buckets",
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )


def downgrade() -> None:
    op.drop_column("memory_buckets", "updated_at")
    op.drop_column("sessions", "ttl")
