"""Require that a time to live is positive, in rows written from now on.

Revision ID: 0008
Revises: 0007

Locks: ACCESS EXCLUSIVE on sessions, for a moment: existing rows are not checked. Time: none.
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
