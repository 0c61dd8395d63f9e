"""Store about how many memories a user with many sessions has, and their tokens, by which searches rank.

Revision ID: 0028
Revises: 0027

Locks: ACCESS EXCLUSIVE on users, for a moment: columns that are NULL are added without a rewrite.
Time: none. The totals are counted by later writes; until then a search sums the rows of the sessions, as before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    op.add_column("users", sa.Column("memories", sa.BigInteger(), nullable=True))
    op.add_column("users", sa.Column("memory_tokens", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("users", "memory_tokens")
    op.drop_column("users", "memories")
