"""Create users, sessions and messages.

Revision ID: 0001
Revises:

Locks: none, all tables are new. Time: none.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
phase = "pre"

_NOW = sa.text("now()")
# Compared by bytes: an index in the order of a locale breaks when the operating system's locale data changes.
_ID = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", _ID, nullable=False),
        sa.Column("metadata", postgresql.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name="users_pkey"),
    )
    op.create_table(
        "sessions",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("next_seq", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column(
            "listed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("date_trunc('minute', now())"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("user_id", "id", name="sessions_pkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="sessions_user_id_fkey", ondelete="CASCADE"),
    )
    # Leave room in each page for the new row version that an append writes (a HOT update).
    op.execute("ALTER TABLE sessions SET (fillfactor = 70)")
    op.create_index("sessions_user_id_listed_at_id_idx", "sessions", ["user_id", "listed_at", "id"])
    op.create_table(
        "messages",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("payload", postgresql.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "session_id", "seq", name="messages_pkey"),
        sa.UniqueConstraint("user_id", "session_id", "id", name="messages_user_id_session_id_id_key"),
        sa.ForeignKeyConstraint(
            ["user_id", "session_id"],
            ["sessions.user_id", "sessions.id"],
            name="messages_user_id_session_id_fkey",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    op.drop_table("messages")
    op.drop_table("sessions")
    op.drop_table("users")
