"""Import conversations that other applications wrote: from files, and from other stores."""

from agentstore.importing.importer import Importer, Progress
from agentstore.importing.mover import Moved, Mover, Target
from agentstore.importing.notes import Note

__all__ = ["Importer", "Moved", "Mover", "Note", "Progress", "Target"]
