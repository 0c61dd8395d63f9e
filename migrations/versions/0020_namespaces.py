"""Put memories into namespaces.

Revision ID: 0020
Revises: 0019

Locks: ACCESS EXCLUSIVE on memories, for a moment: a column that is NULL is added without a rewrite.
Time: none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    op.add_column("memories", sa.Column("namespace", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("memories", "namespace")
