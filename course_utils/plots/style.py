"""The look of every figure: colors that survive color blindness, lines that survive greyscale."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito (2008), ordered so that neighbours differ in lightness too."""

LINESTYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), "-")
MARKERS = ("o", "s", "^", "D", "v", "P", "x")

GREY = "#8a8a8a"
"""Axes, guides and whatever else stands behind the data."""


def series(index: int) -> dict[str, Any]:
    """Color, line style and marker of the index-th series of a figure."""
    i = index % len(COLORS)
    return {"color": COLORS[i], "linestyle": LINESTYLES[i], "marker": MARKERS[i]}


def line_style(index: int) -> dict[str, Any]:
    """Color and line style of the index-th series of a figure."""
    return {key: value for key, value in series(index).items() if key != "marker"}


def marked_line(
    ax: Axes,
    x: np.ndarray,
    values: np.ndarray,
    missing: tuple[str, float] = ("NaN", 0.97),
    **look: Any,
) -> None:
    """A line through what the axes can show, and marks at their edges for what they cannot.

    On a log axis exactly 0 and below stand at the lower edge. Inf stands at the upper edge, and NaN
    under the name and at the height, a share of the axes, that `missing` gives. Each kind of mark
    has one entry in the legend, however many lines have it. Of a stretch of equal marks only the
    first and, with `markevery`, every so many stand there.
    """
    is_log = ax.get_yscale() == "log"
    hidden = (
        ("exactly 0", (values == 0) & is_log, "v", 0.03),
        ("below 0", (values < 0) & is_log & np.isfinite(values), "v", 0.03),
        ("infinite", np.isinf(values), "^", 0.97),
        (missing[0], np.isnan(values), "x", missing[1]),
    )
    nowhere = np.any([where for _, where, _, _ in hidden], axis=0)
    (drawn,) = ax.plot(x, np.where(nowhere, np.nan, values), **look)
    every = look.get("markevery")
    at_mark = np.arange(values.size) % (every if isinstance(every, int) else 1) == 0
    known = ax.get_legend_handles_labels()[1]
    for name, where, marker, height in hidden:
        if where.any():
            begins = where & ~np.insert(where[:-1], 0, False)
            places = x[begins | (where & at_mark)]
            ax.plot(
                places,
                np.full(places.size, height),
                transform=ax.get_xaxis_transform(),
                linestyle="none",
                marker=marker,
                markersize=7,
                color=drawn.get_color(),
                markerfacecolor=None if marker == "x" else "none",
                label=f"_{name}" if name in known else name,
                clip_on=False,
            )


def legend_beside(ax: Axes, **options: Any) -> None:
    """A legend right of the axes, where it covers no data."""
    ax.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small", frameon=False, **options
    )


def legend(ax: Axes) -> None:
    """Inside where few entries leave room for it, beside the axes where many do not."""
    entries = len(ax.get_legend_handles_labels()[1])
    if entries > len(COLORS):
        legend_beside(ax, ncols=-(-entries // 12))
    elif entries:
        ax.legend(fontsize="small")
