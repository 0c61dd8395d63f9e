"""Store the application that a session belongs to.

Revision ID: 0013
Revises: 0012

Locks: ACCESS EXCLUSIVE on sessions, for a moment: a column that may be NULL is added without a rewrite.
Time: none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("app", sa.Text(collation="C"), nullable=True))


def downgrade() -> None:
    op.drop_column("sessions", "app")
