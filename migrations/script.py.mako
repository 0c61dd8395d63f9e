"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

# A migration does one thing, imports no models, and leaves the previous release working: add, backfill in batches,
# remove a release later. What takes a strong lock on a table that has rows says so here, and for how long.

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}
phase = "pre"  # before this release starts; "post": when no replica of the release before is left


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
