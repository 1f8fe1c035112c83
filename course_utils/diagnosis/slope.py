"""How a gradient changes over the depth: one slope, with a level for each shape."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ..measuring import line_slope

LIMIT = 100.0
"""A gradient that changes by more than this over the depth vanishes or explodes."""


@dataclass(frozen=True)
class Slope:
    """A least-squares slope of log gradient over depth.

    Attributes:
        factor: What one layer multiplies the gradient by on the way to the input; NaN when there
            are too few layers of a shape.
        error: Standard error of log(factor).
        span: How many layers the whole depth has.
        underflow: Whether some gradient was exactly 0 and was left out.
    """

    factor: float
    error: float
    span: int
    underflow: bool = False

    @property
    def log_total(self) -> float:
        """Log of what the whole depth multiplies the gradient by; −inf where nothing arrives."""
        if self.factor == 0:
            return -math.inf
        return self.span * math.log(self.factor) if self.factor > 0 else math.nan

    @property
    def verdict(self) -> str | None:
        """Either "vanishing", "exploding", or None between 1/LIMIT and LIMIT."""
        if not abs(self.log_total) > math.log(LIMIT):
            return None
        return "vanishing" if self.log_total < 0 else "exploding"

    @property
    def close(self) -> bool:
        """Whether the limit lies within two standard errors of the total."""
        if not math.isfinite(self.log_total):
            return False
        distance = abs(abs(self.log_total) - math.log(LIMIT))
        return distance < 2 * self.error * self.span


def fit_slope(
    norms: Sequence[float],
    places: Sequence[int] | None = None,
    groups: Sequence[Hashable] | None = None,
    span: int | None = None,
    apart: Sequence[Hashable] | None = None,
) -> Slope:
    """log‖∂L/∂h‖ = level of the shape − place × log factor, by least squares.

    With a level for each shape, a pooling or a change of width moves a level and not the slope:
    one slope is fitted within shapes (analysis of covariance). So that it rests on most of the
    depth, layers are only told apart as finely as leaves at least half of the steps between
    them inside a shape: by full shape, else by whether they have positions, else not at all.

    Args:
        norms: Norm of the gradient at each layer, input side first; 0 and NaN are left out.
        places: Position of each layer in the forward pass; one behind the other when None.
        groups: Shape of each layer; one for all when None.
        span: Steps over the whole depth; one less than layers when None.
        apart: Layers that have levels of their own, however coarsely shapes are told apart.

    Returns:
        The slope, with factor NaN where no two gradients lie behind each other. Zeros that follow
        nonzero gradients are underflow: they are left out.
    """
    span = len(norms) - 1 if span is None else span
    values = np.array(norms, dtype=np.float64)
    keep = np.isfinite(values) & (values > 0)
    underflow = bool((values == 0).any() and keep.any())
    x = np.array(range(len(norms)) if places is None else places, dtype=np.float64)[keep]
    if len(x) < 2:
        return Slope(math.nan, math.nan, span, underflow)
    y, depth = np.log(values[keep]), round(float(x.max() - x.min()))
    places_kept = len(set(x))
    shapes = [group for group, kept in zip(groups or [0] * len(keep), keep, strict=True) if kept]
    sides = [side for side, kept in zip(apart or [0] * len(keep), keep, strict=True) if kept]
    coarser = [len(s) > 2 if isinstance(s, tuple) else s for s in shapes]
    for level in (shapes, coarser, [0] * len(shapes)):
        labels = list(zip(level, sides, strict=True))
        inside = len(labels) - len(set(labels))
        if inside >= (len(y) - 1) / 2 and inside >= 1:
            break
    for label in set(labels):
        members = np.array([other == label for other in labels])
        y[members] -= y[members].mean()
        x[members] -= x[members].mean()
    slope, error = line_slope(x, y, levels=len(set(labels)))
    if (math.isnan(error) or places_kept == 2) and not math.isnan(slope):
        span = depth  # a line through two points says nothing beyond them
    return Slope(math.exp(-slope), error, span, underflow)
