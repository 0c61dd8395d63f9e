"""Vacuum large tables earlier, and insert into the index of memories directly instead of into its pending list.

Revision ID: 0024
Revises: 0023

Locks: SHARE UPDATE EXCLUSIVE on sessions, messages, memory_buckets, memories, state_heads and state_rounds: reads and
writes continue; ACCESS EXCLUSIVE on the index memories_lexemes_idx, for a moment, in which statements that read or
write memories wait. Time: that of merging the pending list of at most 128 kB into the index.
"""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None
phase = "pre"

_TABLES = ("sessions", "messages", "memory_buckets", "memories", "state_heads", "state_rounds")
# The share of a table's rows that are updated or deleted, or inserted, before autovacuum processes it. With the
# defaults of 20 %, 10 million rows keep up to 2 million dead ones.
_PARAMETERS = {
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_vacuum_insert_scale_factor": "0.05",
    "autovacuum_analyze_scale_factor": "0.02",
}


def upgrade() -> None:
    values = ", ".join(f"{name} = {value}" for name, value in _PARAMETERS.items())
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} SET ({values})")
    op.execute("ALTER INDEX memories_lexemes_idx SET (fastupdate = off)")
    op.execute("SELECT gin_clean_pending_list('memories_lexemes_idx')")


def downgrade() -> None:
    op.execute("ALTER INDEX memories_lexemes_idx RESET (fastupdate)")
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(_PARAMETERS)})")
