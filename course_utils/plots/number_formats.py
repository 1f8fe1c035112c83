"""Pictures of number formats: where their numbers lie, and which gradients they hold."""

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ..arguments import integer, number
from .style import COLORS, GREY, legend_beside


def format_numbers(exponent: int, mantissa: int, ax: Axes | None = None) -> Axes:
    """Draw every number from 0 up that a small format has, as a line on a number line.

    Subnormal numbers, which share one gap, are short; normal ones are long. Above each octave of
    normal numbers stands its gap.

    Args:
        exponent: e, exponent bits, from 2 to 4. The largest exponent is kept for Inf and NaN.
        mantissa: m, mantissa bits, from 1 to 4.
        ax: Axes to draw on; the current ones when None.

    Returns:
        The Axes.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If one is not an integer.
    """
    e, m = integer("exponent", exponent, 2, 4), integer("mantissa", mantissa, 1, 4)
    ax = ax or plt.gca()
    lowest, highest = 2 - 2 ** (e - 1), 2 ** (e - 1) - 1
    steps = np.arange(2**m)
    subnormal = math.ldexp(1, lowest - m) * steps
    octaves = [math.ldexp(1, k - m) * (2**m + steps) for k in range(lowest, highest + 1)]
    ax.vlines(subnormal, 0, 0.5, colors=COLORS[1], linestyles="--", label="0 and subnormal")
    ax.vlines(np.concatenate(octaves), 0, 1, colors=COLORS[0], label="normal")
    for octave in octaves[-3:]:  # below them there is no room for words
        gap = octave[1] - octave[0]
        ax.text(octave.mean(), 1.08, f"gap {gap:g}", ha="center", fontsize="small")
    ax.set(xlabel="number", ylim=(0, 1.3), yticks=[], title=f"{e} exponent and {m} mantissa bits")
    ax.spines[["left", "right", "top"]].set_visible(False)
    legend_beside(ax)
    return ax


def format_histogram(
    sizes: ArrayLike,
    smallest: float,
    normal: float,
    largest: float,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw how the sizes of numbers spread over the octaves, behind the range of a format.

    From left to right: what is rounded to 0 (grey), what is kept with fewer digits (hatched), what
    is kept with all of them (white), and what overflows (crossed).

    Args:
        sizes: Absolute values, any shape; a 0 is counted at the left end.
        smallest: Smallest subnormal number of the format, positive. Half of it is rounded to 0.
        normal: Smallest normal number, above it.
        largest: Largest number, above that.
        ax: Axes to draw on; the current ones when None.
        title: Title of the Axes.

    Returns:
        The Axes; the height of a bar is the share of its octave.

    Raises:
        ValueError: If there is no size, one is negative or not finite, or the limits do not rise.
    """
    values = np.asarray(sizes, dtype=np.float64).ravel()
    if not values.size or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("sizes must be at least one finite number, none below 0: hand over |g|.")
    low = math.log2(number("smallest", smallest, above=0)) - 1
    middle = math.log2(number("normal", normal, above=smallest))
    high = math.log2(number("largest", largest, above=normal))
    ax = ax or plt.gca()
    octaves = np.log2(values[values > 0])
    left = math.floor(min([low - 8, *octaves]))
    right = math.floor(max([high + 4, *octaves])) + 1
    octaves = np.append(octaves, np.full(np.count_nonzero(values == 0), left + 0.5))
    edges = np.arange(left, right + 1)
    zones: tuple[tuple[str, float, float, dict[str, str]], ...] = (
        ("rounded to 0", left, low, {"facecolor": "#b8b8b8"}),
        ("subnormal: fewer digits", low, middle, {"facecolor": "white", "hatch": "//"}),
        ("overflow", high, right, {"facecolor": "white", "hatch": "xx"}),
    )
    for name, start, stop, filling in zones:
        edge: dict[str, Any] = {"edgecolor": GREY, "linewidth": 0.5, "zorder": 0} | filling
        ax.axvspan(start, stop, label=name, **edge)
    weights = np.full(octaves.size, 1 / octaves.size)
    look: dict[str, Any] = {"color": COLORS[0], "edgecolor": "black", "linewidth": 0.5}
    ax.hist(octaves, bins=edges.tolist(), weights=weights, zorder=2, label="sizes", **look)
    ax.set(xlabel="log₂ of the size", ylabel="share", title=title, xlim=(left, right))
    legend_beside(ax)
    return ax
