"""The course of the loss: where it began, its best, where it ended, and how it scatters."""

import math
from dataclasses import dataclass

import numpy as np

from .run import level, levels


@dataclass(frozen=True)
class Course:
    """A loss over the rows in which it was given. Nothing in it depends on the scale of the loss.

    Attributes:
        rows: Row of each value.
        values: The loss.
        smooth: Its running median.
        first: Level of the first values.
        best: The lowest level.
        last: Level of the last tenth.
        scatter: Robust standard deviation from one value to the next.
    """

    rows: np.ndarray
    values: np.ndarray
    smooth: np.ndarray
    first: float
    best: float
    last: float
    scatter: float

    @property
    def progress(self) -> float:
        """How far it fell, from the first level to the best."""
        return self.first - self.best

    @property
    def learned(self) -> bool:
        """Whether it fell by more than it scatters."""
        return self.progress > max(3 * self.scatter / math.sqrt(3), 0.05 * abs(self.first))


def course(losses: np.ndarray, fewest: int = 4) -> Course | None:
    """The course of a loss.

    Args:
        losses: One value per row, NaN where it was not given.
        fewest: With fewer values there is no course.

    Returns:
        The course, or None.
    """
    rows = np.flatnonzero(np.isfinite(losses))
    if len(rows) < fewest:
        return None
    values = losses[rows]
    width = max(3, len(values) // 15)
    smooth = levels(values, width)
    tail = max(1, min(len(values) // 4, max(3, len(values) // 10)))
    steps = np.abs(np.diff(values))
    return Course(
        rows=rows,
        values=values,
        smooth=smooth,
        first=float(level(values[:3])),
        best=float(smooth.min()),
        last=float(level(values[-tail:])),
        scatter=float(1.48 * np.median(steps) / math.sqrt(2)),
    )
