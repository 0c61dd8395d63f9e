"""The base class of all tables: the naming convention of constraints, and no schema.

The schema is a setting: ``Database`` compiles it into each statement, and migrations run with it as their search_path.
Every primary key and unique constraint contains the user's id, so that the tables can be distributed by it.
"""

from sqlalchemy import MetaData, Text
from sqlalchemy.orm import DeclarativeBase

Id = Text(collation="C")
"""The type of ids: compared bytewise, so that no index depends on a locale."""


class Base(DeclarativeBase):
    """Declarative base of all tables of agentstore."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        }
    )
