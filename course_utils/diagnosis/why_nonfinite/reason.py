"""What is said about a NaN or Inf."""

from typing import NamedTuple


class Reason(NamedTuple):
    """Why, and what mends it.

    Attributes:
        why: A sentence or two with the figure that decides.
        remedy: Code to write by hand, as comments.
        overflow: Whether a finite number was too large for its format.
    """

    why: str
    remedy: str
    overflow: bool = False
