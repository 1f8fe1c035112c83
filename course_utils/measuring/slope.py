"""The slope of a straight line through points, with its standard error."""

import math

import numpy as np


def line_slope(x: np.ndarray, y: np.ndarray, levels: int = 1) -> tuple[float, float]:
    """Least squares: b = Σ(x−x̄)(y−ȳ)/Σ(x−x̄)², s.e. = √(Σ residual²/(n−1−levels) / Σ(x−x̄)²).

    Args:
        x: (n,) positions, float64. With several levels, each group has its mean taken off already.
        y: (n,) values, likewise.
        levels: How many means were fitted beside the slope.

    Returns:
        The slope and its standard error; NaN where all x are one, and where nothing is left over
        to estimate an error from.
    """
    x, y = x - x.mean(), y - y.mean()
    spread = float(x @ x)
    if spread < 1e-12:
        return math.nan, math.nan
    slope = float(x @ y) / spread
    freedom = len(y) - 1 - levels
    if freedom <= 0:
        return slope, math.nan
    return slope, math.sqrt(float(((y - slope * x) ** 2).sum()) / freedom / spread)
