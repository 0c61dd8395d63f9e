"""Store how much of a memory asks, and who speaks, by which searches rank.

Revision ID: 0025
Revises: 0024

Locks: ACCESS EXCLUSIVE on memories, for a moment: columns that are NULL are added without a rewrite.
Time: none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    op.add_column("memories", sa.Column("question_share", sa.SmallInteger(), nullable=True))
    op.add_column("memories", sa.Column("speaker", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("memories", "speaker")
    op.drop_column("memories", "question_share")
