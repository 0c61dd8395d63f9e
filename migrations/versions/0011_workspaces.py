"""Create the stored workspaces of sandboxes.

Revision ID: 0011
Revises: 0010

Locks: SHARE ROW EXCLUSIVE on users, for a moment, for the foreign key; no other existing table. Time: none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None
phase = "pre"

_ID = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "workspaces",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("type", _ID, nullable=False),
        sa.Column("chunks", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "session_id", "type", name="workspaces_pkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="workspaces_user_id_fkey", ondelete="CASCADE"),
    )
    op.create_table(
        "workspace_chunks",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("type", _ID, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "session_id", "type", "number", name="workspace_chunks_pkey"),
        sa.ForeignKeyConstraint(
            ["user_id", "session_id", "type"],
            ["workspaces.user_id", "workspaces.session_id", "workspaces.type"],
            name="workspace_chunks_user_id_session_id_type_fkey",
            ondelete="CASCADE",
        ),
    )
    # The chunks are compressed already.
    op.execute("ALTER TABLE workspace_chunks ALTER COLUMN data SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("workspace_chunks")
    op.drop_table("workspaces")
