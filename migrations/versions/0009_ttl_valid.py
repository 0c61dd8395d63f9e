"""Require that a time to live is positive, in all rows, once no replica is left that could write another value.

Revision ID: 0009
Revises: 0008

Locks: SHARE UPDATE EXCLUSIVE on sessions: reads and writes continue. Time: a scan of sessions.
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
    # The state after 0008: enforced for new rows, not validated.
    op.execute("ALTER TABLE sessions DROP CONSTRAINT sessions_ttl_check")
    op.execute("ALTER TABLE sessions ADD CONSTRAINT sessions_ttl_check CHECK (ttl > 0) NOT VALID")
