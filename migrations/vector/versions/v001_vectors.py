"""Create the vectors of memories, with pgvector.

Revision ID: v001
Revises:

Locks: SHARE ROW EXCLUSIVE on memories, for a moment, for the foreign key and the trigger. Time: none.

It requires revision 0002 of the main line; `agentstore vector enable` checks that.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "v001"
down_revision = None
branch_labels = ("vector",)
depends_on = None
phase = "pre"

_ID = sa.Text(collation="C")


class _Vector(sa.types.UserDefinedType):
    """pgvector's type, without dimensions. It is qualified with the extension's schema, which the search_path lacks."""

    cache_ok = True

    def __init__(self, schema: str) -> None:
        self.schema = schema

    def get_col_spec(self, **_: object) -> str:
        return f'"{self.schema}".vector'


def upgrade() -> None:
    schema = None
    if not context.is_offline_mode():
        schema = op.get_bind().scalar(
            sa.text(
                "SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'vector'"
            )
        )
    if schema is None:
        op.execute("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public")
    op.create_table(
        "memory_vectors",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("embedder", _ID, nullable=False),
        sa.Column("embedding", _Vector(schema or "public"), nullable=False),
        # The memory's key first: deleting a memory cascades by this index.
        sa.PrimaryKeyConstraint("user_id", "session_id", "seq", "embedder", name="memory_vectors_pkey"),
        sa.ForeignKeyConstraint(
            ["user_id", "session_id", "seq"],
            ["memories.user_id", "memories.session_id", "memories.seq"],
            name="memory_vectors_user_id_session_id_seq_fkey",
            ondelete="CASCADE",
        ),
    )
    # Stored in the row up to the size of a page: a search reads all vectors of a user, and each one in the TOAST table
    # would cost another look-up.
    op.execute("ALTER TABLE memory_vectors SET (toast_tuple_target = 8160)")
    # Delete the vectors of a memory whose text has changed, but not when only its words are analyzed again.
    op.execute(
        """
        CREATE FUNCTION memory_vectors_forget() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
        BEGIN
            DELETE FROM memory_vectors WHERE user_id = NEW.user_id AND session_id = NEW.session_id AND seq = NEW.seq;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER memory_vectors_forget AFTER UPDATE OF payload ON memories FOR EACH ROW
        WHEN (OLD.payload::text IS DISTINCT FROM NEW.payload::text) EXECUTE FUNCTION memory_vectors_forget()
        """
    )


def downgrade() -> None:
    # The extension stays: other applications may use it.
    op.execute("DROP TRIGGER memory_vectors_forget ON memories")
    op.execute("DROP FUNCTION memory_vectors_forget()")
    op.drop_table("memory_vectors")
