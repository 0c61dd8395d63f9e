"""How long a session is kept, and when a bucket of memories was last added to.

Revision ID: 0006
Revises: 0005

Locks: ACCESS EXCLUSIVE on sessions and memory_buckets, for a moment: the columns are added without a rewrite, that of
the buckets too, since the time of the migration is one value for all of them. Time: none.
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
