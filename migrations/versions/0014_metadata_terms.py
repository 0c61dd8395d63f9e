"""Create the function by which the metadata of sessions is indexed.

Revision ID: 0014
Revises: 0013

Locks: none. Time: none.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    # One hash for each key with its value; equal values have equal hashes, however they are written. What jsonb cannot
    # represent, such as NUL characters, must not make a write fail: such metadata has the term 0. The cost is that of a
    # call compared with an operator's, so that lists use the index rather than calling it for each row.
    op.execute(
        """
        CREATE OR REPLACE FUNCTION metadata_terms(metadata json) RETURNS bigint[]
        LANGUAGE plpgsql IMMUTABLE STRICT COST 500 AS $$
        BEGIN
            RETURN ARRAY(
                SELECT jsonb_hash_extended(each.value, hashtextextended(each.key COLLATE "C", 0))
                FROM jsonb_each(metadata::jsonb) AS each
            );
        EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
            RETURN '{0}';
        END
        $$
        """
    )


def downgrade() -> None:
    op.execute("DROP FUNCTION metadata_terms(json)")
