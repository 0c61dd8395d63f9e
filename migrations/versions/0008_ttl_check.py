"""A time to live is more than nothing: for what is written from now on.

Revision ID: 0008
Revises: 0007

Locks: ACCESS EXCLUSIVE on sessions, for a moment: rows that are there are not looked at. Time: none.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    op.execute("ALTER TABLE sessions ADD CONSTRAINT sessions_ttl_check CHECK (ttl > 0) NOT VALID")


def downgrade() -> None:
    op.execute("ALTER TABLE sessions DROP CONSTRAINT sessions_ttl_check")
