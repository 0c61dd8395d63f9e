"""Create the checkpoints of graphs.

Revision ID: 0027
Revises: 0026

Locks: SHARE ROW EXCLUSIVE on users, for a moment, for the foreign key; no other existing table. Time: none.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None
phase = "pre"

_ID = sa.Text(collation="C")
_IDS = postgresql.ARRAY(_ID)
_KEY = ["user_id", "session_id"]


def _head(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        _KEY,
        ["checkpoint_heads.user_id", "checkpoint_heads.session_id"],
        name=f"{table}_user_id_session_id_fkey",
        ondelete="CASCADE",
    )


def upgrade() -> None:
    op.create_table(
        "checkpoint_heads",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column(
            "epoch",
            sa.BigInteger(),
            server_default=sa.text("(extract(epoch FROM now()) * 1000000)::bigint"),
            nullable=False,
        ),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint(*_KEY, name="checkpoint_heads_pkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="checkpoint_heads_user_id_fkey", ondelete="CASCADE"),
    )
    op.create_index("checkpoint_heads_session_id_idx", "checkpoint_heads", ["session_id"])
    op.create_table(
        "checkpoints",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("namespace", _ID, nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("parent_id", _ID, nullable=True),
        sa.Column("run_id", _ID, nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("metadata_type", sa.Text(), nullable=False),
        sa.Column("metadata", sa.LargeBinary(), nullable=False),
        sa.Column("channels", _IDS, nullable=False),
        sa.Column("versions", _IDS, nullable=False),
        sa.Column("deltas", _IDS, nullable=True),
        sa.Column("saved_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint(*_KEY, "namespace", "id", name="checkpoints_pkey"),
        _head("checkpoints"),
    )
    op.create_index("checkpoints_run_id_idx", "checkpoints", ["run_id"], postgresql_where=sa.text("run_id IS NOT NULL"))
    op.create_table(
        "checkpoint_values",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("namespace", _ID, nullable=False),
        sa.Column("channel", _ID, nullable=False),
        sa.Column("version", _ID, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("sources", _IDS, nullable=True),
        sa.Column("pieces", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint(*_KEY, "namespace", "channel", "version", name="checkpoint_values_pkey"),
        _head("checkpoint_values"),
    )
    op.create_table(
        "checkpoint_writes",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("namespace", _ID, nullable=False),
        sa.Column("checkpoint_id", _ID, nullable=False),
        sa.Column("task_id", _ID, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("task_path", _ID, nullable=False),
        sa.Column("channel", _ID, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            *_KEY, "namespace", "checkpoint_id", "task_id", "number", name="checkpoint_writes_pkey"
        ),
        _head("checkpoint_writes"),
    )
    # What is large is compressed before it is sent.
    op.execute("ALTER TABLE checkpoints ALTER COLUMN data SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE checkpoint_values ALTER COLUMN data SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE checkpoint_writes ALTER COLUMN data SET STORAGE EXTERNAL")
    # Leave room in each page for the new row version of a head (a HOT update).
    op.execute("ALTER TABLE checkpoint_heads SET (fillfactor = 70)")


def downgrade() -> None:
    op.drop_table("checkpoint_writes")
    op.drop_table("checkpoint_values")
    op.drop_table("checkpoints")
    op.drop_table("checkpoint_heads")
