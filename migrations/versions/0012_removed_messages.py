"""Count the messages that were deleted from the middle of a session.

Revision ID: 0012
Revises: 0011

Locks: ACCESS EXCLUSIVE on sessions, for a moment: a column with a constant default is added without a rewrite.
Time: none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("removed", sa.BigInteger(), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    op.drop_column("sessions", "removed")
