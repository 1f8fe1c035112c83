"""Train one network with a readable loop, or many of one architecture at once."""

from .batched import fit_many
from .history import Histories, History
from .loop import fit

__all__ = ["Histories", "History", "fit", "fit_many"]
