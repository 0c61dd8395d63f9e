"""A time to live is more than nothing: in every row, once no replica is left that might write another.

Revision ID: 0009
Revises: 0008

Locks: SHARE UPDATE EXCLUSIVE on sessions: readers and writers go on. Time: a scan of sessions.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None
phase = "post"


def upgrade() -> None:
    op.execute("ALTER TABLE sessions VALIDATE CONSTRAINT sessions_ttl_check")


def downgrade() -> None:
    # As it was between the two: what is valid need not be looked at again.
    op.execute("ALTER TABLE sessions DROP CONSTRAINT sessions_ttl_check")
    op.execute("ALTER TABLE sessions ADD CONSTRAINT sessions_ttl_check CHECK (ttl > 0) NOT VALID")
