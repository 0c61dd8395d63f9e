"""Export of all data of a database, or of some of its users, to a file, and its restore in another database."""

from agentstore.schemas.progress import Progress
from agentstore.transfer.exporter import DatabaseSource, Exporter
from agentstore.transfer.lines import is_export
from agentstore.transfer.restorer import DatabaseTarget, Restorer

__all__ = ["DatabaseSource", "DatabaseTarget", "Exporter", "Progress", "Restorer", "is_export"]
