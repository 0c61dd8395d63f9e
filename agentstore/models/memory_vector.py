"""Vectors of memories: a table that exists only after `agentstore vector enable`."""

from typing import Any

from sqlalchemy import BigInteger, ForeignKeyConstraint, MetaData, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from agentstore.models.base import Base, Id
from agentstore.models.memory import MemoryRow


class Vector(UserDefinedType[Any]):
    """The type `vector` of pgvector, with or without a number of dimensions. Values are passed and read as text."""

    cache_ok = True

    def __init__(self, dimensions: int | None = None) -> None:
        self.dimensions = dimensions

    def get_col_spec(self, **_: Any) -> str:
        """Return the type in SQL. Unqualified: the search_path finds the extension's schema."""
        return "vector" if self.dimensions is None else f"vector({self.dimensions:d})"


class VectorBase(DeclarativeBase):
    """Declarative base of the tables of the migration line "vector", separate from those of every database."""

    metadata = MetaData(naming_convention=Base.metadata.naming_convention)


_MEMORY = MemoryRow.__table__
assert isinstance(_MEMORY, Table)  # noqa: S101


class MemoryVectorRow(VectorBase):
    """One row per memory and embedder."""

    __tablename__ = "memory_vectors"

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    # The embedder's name: vectors of different embedders are not comparable.
    embedder: Mapped[str] = mapped_column(Id, primary_key=True)
    embedding: Mapped[Any] = mapped_column(Vector)

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "session_id", "seq"],
            [_MEMORY.c.user_id, _MEMORY.c.session_id, _MEMORY.c.seq],
            ondelete="CASCADE",
        ),
    )
