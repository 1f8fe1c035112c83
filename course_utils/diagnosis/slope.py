"""How a gradient changes over the depth: one slope, with a level for each shape."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

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


def fit(
    norms: Sequence[float], places: Sequence[int], groups: Sequence[Hashable], span: int
) -> Slope:
    """log‖∂L/∂h‖ = level of the shape − place × log factor, by least squares.

    With a level for each shape, a pooling or a change of width moves a level and not the slope:
    one slope is fitted within shapes (analysis of covariance). So that it rests on most of the
    depth, layers are only told apart as finely as leaves at least half of the steps between
    them inside a shape: by full shape, else by whether they have positions, else not at all.

    Args:
        norms: Norm of the gradient at each layer, input side first; 0 and NaN are left out.
        places: Position of each layer in the forward pass.
        groups: Shape of each layer.
        span: Steps over the whole depth.

    Returns:
        The slope, with factor NaN where no two gradients lie behind each other. Zeros that follow
        nonzero gradients are underflow: they are left out.
    """
    values = np.array(norms, dtype=np.float64)
    keep = np.isfinite(values) & (values > 0)
    underflow = bool((values == 0).any() and keep.any())
    y, x = np.log(values[keep]), np.array(places, dtype=np.float64)[keep]
    shapes = [group for group, kept in zip(groups, keep, strict=True) if kept]
    if len(y) < 2:
        return Slope(math.nan, math.nan, span, underflow)
    coarser = [len(s) > 2 if isinstance(s, tuple) else s for s in shapes]
    for labels in (shapes, coarser, [0] * len(shapes)):
        inside = len(labels) - len(set(labels))
        if inside >= (len(y) - 1) / 2 and inside >= 1:
            break
    for label in set(labels):
        members = np.array([other == label for other in labels])
        y[members] -= y[members].mean()
        x[members] -= x[members].mean()
    spread = float((x**2).sum())
    if spread < 1e-12:  # all side by side: no depth
        return Slope(math.nan, math.nan, span, underflow)
    slope = float((x * y).sum()) / spread
    freedom = len(y) - len(set(labels)) - 1
    error = math.nan
    if freedom > 0:
        error = math.sqrt(float(((y - slope * x) ** 2).sum()) / freedom / spread)
    if freedom <= 0:  # a line through two points: it says nothing beyond them
        kept = [place for place, k in zip(places, keep, strict=True) if k]
        span = max(kept) - min(kept)
    return Slope(math.exp(-slope), error, span, underflow)
