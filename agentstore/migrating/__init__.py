"""Apply, plan and inspect the schema's migrations: ``from agentstore import migrate``.

The functions here are coroutines unless they need no database (:func:`sql`, :func:`history`, :func:`head`,
:func:`needed`, :func:`include_name`, :func:`vector_index_name`). They accept a URL in any form, an ``AsyncEngine`` or a
:class:`~agentstore.database.database.Database`.

A name is imported from the module that defines it when it is first used (PEP 562): what a store's start needs loads
neither Alembic nor Mako. Inside the library, import from the defining module.
"""

from typing import TYPE_CHECKING

from agentstore.lazy_imports import defined_in, lazy_attributes

if TYPE_CHECKING:
    from agentstore.migrating.drift import Difference, find_drift
    from agentstore.migrating.migrate import (
        Planned,
        PlannedEffect,
        downgrade,
        include_name,
        plan,
        sql,
        stamp,
        upgrade,
    )
    from agentstore.migrating.options import WAIT, Report
    from agentstore.migrating.revisions import Phase, Revision, head, history, needed
    from agentstore.migrating.row_security import (
        RowSecurity,
        disable_row_security,
        enable_row_security,
        row_security_status,
    )
    from agentstore.migrating.schema_status import State, Status, VectorState, VectorStatus, status, vector_status
    from agentstore.migrating.startup import ensure
    from agentstore.migrating.vectors import (
        MOST_INDEXED_DIMENSIONS,
        disable_vectors,
        enable_vectors,
        index_vectors,
        vector_index_name,
    )

__all__ = [
    "MOST_INDEXED_DIMENSIONS",
    "WAIT",
    "Difference",
    "Phase",
    "Planned",
    "PlannedEffect",
    "Report",
    "Revision",
    "RowSecurity",
    "State",
    "Status",
    "VectorState",
    "VectorStatus",
    "disable_row_security",
    "disable_vectors",
    "downgrade",
    "enable_row_security",
    "enable_vectors",
    "ensure",
    "find_drift",
    "head",
    "history",
    "include_name",
    "index_vectors",
    "needed",
    "plan",
    "row_security_status",
    "sql",
    "stamp",
    "status",
    "upgrade",
    "vector_index_name",
    "vector_status",
]

# Where each name of __all__ is defined. No module has the name of a function: importing the one would hide the other.
_NAMES = {
    "drift": "Difference find_drift",
    "migrate": "Planned PlannedEffect downgrade include_name plan sql stamp upgrade",
    "options": "WAIT Report",
    "revisions": "Phase Revision head history needed",
    "row_security": "RowSecurity disable_row_security enable_row_security row_security_status",
    "schema_status": "State Status VectorState VectorStatus status vector_status",
    "startup": "ensure",
    "vectors": "MOST_INDEXED_DIMENSIONS disable_vectors enable_vectors index_vectors vector_index_name",
}
_DEFINED_IN = defined_in({f"{__name__}.{module}": names for module, names in _NAMES.items()})

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_attributes(__name__, _DEFINED_IN)
