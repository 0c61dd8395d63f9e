"""Conversations that were kept elsewhere: files in the forms of others, into the store."""

from agentstore.importing.importer import Importer, Progress
from agentstore.importing.mover import Moved, Mover, Target
from agentstore.importing.source import Problem

__all__ = ["Importer", "Moved", "Mover", "Problem", "Progress", "Target"]
