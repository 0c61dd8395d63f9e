"""Create the states of agents.

Revision ID: 0004
Revises: 0003

Locks: SHARE ROW EXCLUSIVE on users, for a moment, for the foreign key; no other existing table. Time: none.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
phase = "pre"

_NOW = sa.text("now()")
_ID = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "state_heads",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("next_round", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("last_round", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "session_id", name="state_heads_pkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="state_heads_user_id_fkey", ondelete="CASCADE"),
    )
    # Leave room in each page for the new row version that a save writes (a HOT update).
    op.execute("ALTER TABLE state_heads SET (fillfactor = 70)")
    op.create_table(
        "state_rounds",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("payload", postgresql.JSON(), nullable=True),
        sa.Column("packed", sa.LargeBinary(), nullable=True),
        sa.Column("metadata", postgresql.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "session_id", "round", name="state_rounds_pkey"),
        sa.CheckConstraint("(payload IS NULL) <> (packed IS NULL)", name="state_rounds_payload_check"),
        sa.ForeignKeyConstraint(
            ["user_id", "session_id"],
            ["state_heads.user_id", "state_heads.session_id"],
            name="state_rounds_user_id_session_id_fkey",
            ondelete="CASCADE",
        ),
    )
    # Without TOAST compression, saving a state of 20 KB takes half the time; packed ones are compressed already.
    op.execute("ALTER TABLE state_rounds ALTER COLUMN payload SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE state_rounds ALTER COLUMN packed SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("state_rounds")
    op.drop_table("state_heads")
