## A migration does one thing, imports no models, and leaves the previous release working: add a column as NULL or with
## a constant default, fill it in batches in a migration of its own, remove what is unused a release later (phase "post").
## "Locks:" names each strong lock on an existing table, and for how long; "Time:" names scans and rewrites.
"""${message[:1].upper()}${message[1:].rstrip(".")}.

Revision ID: ${up_revision}
Revises:${" " + down_revision if down_revision else ""}

Locks: ... Time: ...
"""

import sqlalchemy as sa
from alembic import op
% if imports:
${imports}
% endif

revision = "${up_revision}"
down_revision = ${'"' + down_revision + '"' if down_revision else None}
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
