"""Everything of a database, or of some of its users, as a file, and such a file in another database."""

from agentstore.transfer.exporter import Exporter
from agentstore.transfer.lines import is_export
from agentstore.transfer.progress import Progress
from agentstore.transfer.restorer import Restorer

__all__ = ["Exporter", "Progress", "Restorer", "is_export"]
