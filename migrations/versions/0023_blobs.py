"""Create the blobs of users.

Revision ID: 0023
Revises: 0022

Locks: SHARE ROW EXCLUSIVE on users, for a moment, for the foreign keys; no other existing table. Time: none.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None
phase = "pre"

_ID = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("app", _ID, nullable=False),
        sa.Column("name", _ID, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("chunks", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("filename", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "session_id", "app", "name", "version", name="blobs_pkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="blobs_user_id_fkey", ondelete="CASCADE"),
    )
    op.create_index("blobs_user_id_hash_idx", "blobs", ["user_id", "hash"])
    op.create_table(
        "blob_chunks",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "hash", "number", name="blob_chunks_pkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="blob_chunks_user_id_fkey", ondelete="CASCADE"),
    )
    # Files are compressed already, as a rule.
    op.execute("ALTER TABLE blob_chunks ALTER COLUMN data SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("blob_chunks")
    op.drop_table("blobs")
