"""Create memories and their buckets.

Revision ID: 0002
Revises: 0001

Locks: SHARE ROW EXCLUSIVE on users, for a moment, for the foreign key; no other existing table. Time: none.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
phase = "pre"

_NOW = sa.text("now()")
_ID = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "memory_buckets",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "session_id", name="memory_buckets_pkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="memory_buckets_user_id_fkey", ondelete="CASCADE"),
    )
    # Leave room in each page for the new row version that an addition writes (a HOT update).
    op.execute("ALTER TABLE memory_buckets SET (fillfactor = 70)")
    op.create_table(
        "memories",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("payload", postgresql.JSON(), nullable=False),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("is_question", sa.Boolean(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("lexemes", postgresql.TSVECTOR(), nullable=False),
        sa.Column("analysis", sa.Text(), nullable=False),
        sa.Column("is_cut", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("kind", sa.Text(), server_default=sa.text("'message'"), nullable=False),
        sa.Column("importance", sa.Double(), nullable=True),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("user_id", "session_id", "seq", name="memories_pkey"),
        # The id first, so that the planner does not use this index to find a memory by its place in a session.
        sa.UniqueConstraint("id", "user_id", "session_id", name="memories_id_user_id_session_id_key"),
        sa.ForeignKeyConstraint(
            ["user_id", "session_id"],
            ["memory_buckets.user_id", "memory_buckets.session_id"],
            name="memories_user_id_session_id_fkey",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "memories_items_idx", "memories", ["user_id", "time", "id"], postgresql_where=sa.text("kind <> 'message'")
    )
    # Every search scans the pending list, and the insertion that fills it merges all of it into the index: so it is
    # smaller than the default of 4 MB.
    op.create_index(
        "memories_lexemes_idx",
        "memories",
        ["lexemes"],
        postgresql_using="gin",
        postgresql_with={"gin_pending_list_limit": "128"},
    )


def downgrade() -> None:
    op.drop_table("memories")
    op.drop_table("memory_buckets")
