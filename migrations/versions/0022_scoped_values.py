"""Create the scoped values of applications, users and sessions.

Revision ID: 0022
Revises: 0021

Locks: SHARE ROW EXCLUSIVE on users and sessions, for a moment, for the foreign keys; no other existing table.
Time: none.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None
phase = "pre"

_ID = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "app_values",
        sa.Column("app", _ID, nullable=False),
        sa.Column("key", _ID, nullable=False),
        sa.Column("value", postgresql.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("app", "key", name="app_values_pkey"),
    )
    op.create_table(
        "user_values",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("app", _ID, nullable=False),
        sa.Column("key", _ID, nullable=False),
        sa.Column("value", postgresql.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "app", "key", name="user_values_pkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="user_values_user_id_fkey", ondelete="CASCADE"),
    )
    op.create_table(
        "session_values",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("key", _ID, nullable=False),
        sa.Column("value", postgresql.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "session_id", "key", name="session_values_pkey"),
        sa.ForeignKeyConstraint(
            ["user_id", "session_id"],
            ["sessions.user_id", "sessions.id"],
            name="session_values_user_id_session_id_fkey",
            ondelete="CASCADE",
        ),
    )
    # Leave room in each page for the new row version of a changed value (a HOT update).
    op.execute("ALTER TABLE app_values SET (fillfactor = 70)")
    op.execute("ALTER TABLE user_values SET (fillfactor = 70)")
    op.execute("ALTER TABLE session_values SET (fillfactor = 70)")


def downgrade() -> None:
    op.drop_table("session_values")
    op.drop_table("user_values")
    op.drop_table("app_values")
