"""Create the registry of sandboxes.

Revision ID: 0010
Revises: 0009

Locks: SHARE ROW EXCLUSIVE on users, for a moment, for the foreign key; no other existing table. Time: none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None
phase = "pre"

_ID = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "sandboxes",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("type", _ID, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("handle", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "session_id", "type", name="sandboxes_pkey"),
        sa.CheckConstraint("state IN ('starting', 'ready', 'ending')", name="sandboxes_state_check"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="sandboxes_user_id_fkey", ondelete="CASCADE"),
    )
    op.create_index("sandboxes_lease_until_idx", "sandboxes", ["lease_until"])


def downgrade() -> None:
    op.drop_table("sandboxes")
