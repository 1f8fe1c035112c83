"""Where a function passes 0: one search for the whole room."""

import math
from collections.abc import Callable


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where an increasing-through-0 function passes 0 between `low` and `high`, by ITP.

    I. F. D. Oliveira and R. H. C. Takahashi, "An Enhancement of the Bisection Method Average
    Performance Preserving Minmax Optimality", ACM Transactions on Mathematical Software 47(1),
    2020. At most one evaluation more than bisection, also where the function jumps.
    """
    below, above = function(low), function(high)
    tolerance = 4e-16 * max(1.0, abs(low), abs(high))
    most = math.ceil(math.log2(max((high - low) / (2 * tolerance), 1))) + 1
    scale = 0.2 / (high - low)
    for step in range(most + 1):
        if high - low <= 2 * tolerance:
            break
        middle = (low + high) / 2
        secant = middle
        if above > below:
            secant = (above * low - below * high) / (above - below)
        sign = math.copysign(1, middle - secant)
        truncation = min(scale * (high - low) ** 2, abs(middle - secant))
        point = secant + sign * truncation
        radius = max(tolerance * 2.0 ** (most - step) - (high - low) / 2, 0.0)
        if abs(point - middle) > radius:
            point = middle - sign * radius
        value = function(point)
        if value == 0:
            return point
        if value > 0:
            high, above = point, value
        else:
            low, below = point, value
    return (low + high) / 2
