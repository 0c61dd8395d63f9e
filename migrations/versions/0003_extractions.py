"""Create the queue of messages from which facts are to be extracted.

Revision ID: 0003
Revises: 0002

Locks: SHARE ROW EXCLUSIVE on memory_buckets, for a moment, for the foreign key; no other existing table. Time: none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
phase = "pre"

_NOW = sa.text("now()")
_ID = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "memory_extractions",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("is_open", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("outages", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("run_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease", sa.Text(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "session_id", "first_seq", name="memory_extractions_pkey"),
        sa.ForeignKeyConstraint(
            ["user_id", "session_id"],
            ["memory_buckets.user_id", "memory_buckets.session_id"],
            name="memory_extractions_user_id_session_id_fkey",
            ondelete="CASCADE",
        ),
    )
    # Leave room in each page for the new row version that an addition writes (a HOT update).
    op.execute("ALTER TABLE memory_extractions SET (fillfactor = 70)")
    op.create_index(
        "memory_extractions_open_idx",
        "memory_extractions",
        ["user_id", "session_id"],
        unique=True,
        postgresql_where=sa.text("is_open"),
    )
    # Not by user: a worker takes the entries that are due, of any user.
    op.create_index(
        "memory_extractions_due_idx",
        "memory_extractions",
        ["run_after"],
        postgresql_where=sa.text("failed_at IS NULL"),
    )
    op.create_index(
        "memory_extractions_leased_idx",
        "memory_extractions",
        ["user_id"],
        postgresql_where=sa.text("lease IS NOT NULL"),
    )
    op.create_index(
        "memory_extractions_failed_idx",
        "memory_extractions",
        ["user_id", "session_id", "first_seq"],
        postgresql_where=sa.text("failed_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_table("memory_extractions")
