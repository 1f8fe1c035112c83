"""The look of every figure: colors that survive color blindness, lines that survive greyscale."""

import numpy as np
from matplotlib.axes import Axes

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito (2008), ordered so that neighbours differ in lightness too."""

LINESTYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), "-")
MARKERS = ("o", "s", "^", "D", "v", "P", "x")


def series(index: int) -> dict:
    """Color, line style and marker of the index-th series of a figure."""
    i = index % len(COLORS)
    return {"color": COLORS[i], "linestyle": LINESTYLES[i], "marker": MARKERS[i]}


def seed_bars(ax: Axes, x: np.ndarray, values: np.ndarray, index: int, label: str) -> None:
    """Markers at the mean over seeds, with bars of one standard deviation; values (M, seeds)."""
    style = series(index)
    ax.errorbar(
        x,
        values.mean(1),
        yerr=values.std(1),
        fmt=style["marker"],
        color=style["color"],
        capsize=3,
        label=label,
    )


def legend_beside(ax: Axes) -> None:
    """A legend right of the axes, where it covers no data."""
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small", frameon=False)
