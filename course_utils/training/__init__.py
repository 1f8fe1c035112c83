"""Train one network with a readable loop, or many of one architecture at once."""

from .history import History
from .loop import fit

__all__ = ["History", "fit"]
