"""What all tables share: names of constraints, and no schema of their own.

The schema is the store's setting: ``Database`` compiles it into each statement, and a migration runs with it as
its search_path. Every primary key and unique constraint begins with the user's id, so that the tables can be
distributed by it.
"""

from sqlalchemy import MetaData, Text
from sqlalchemy.orm import DeclarativeBase

Id = Text(collation="C")
"""The type of ids: compared by bytes, so that no index depends on a locale."""


class Base(DeclarativeBase):
    """The base of every table of agentstore."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        }
    )
