"""Record the session and the message that a session was forked from.

Revision ID: 0005
Revises: 0004

Locks: ACCESS EXCLUSIVE on sessions, for a moment: columns without a default are added without a rewrite. Time: none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("forked_from", sa.Text(collation="C"), nullable=True))
    op.add_column("sessions", sa.Column("forked_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("sessions", "forked_at")
    op.drop_column("sessions", "forked_from")
