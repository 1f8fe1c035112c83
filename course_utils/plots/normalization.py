"""Pictures of normalization: which values share a mean, and what the backward pass removes."""

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Circle, Rectangle
from numpy.typing import ArrayLike

from .style import COLORS, GREY

_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo")


def shared_statistics(groups: ArrayLike, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw a batch as a table of squares; squares that share a mean and variance look alike.

    Args:
        groups: Integers of shape (samples, units); equal numbers share their statistics. At most
            7 different groups look different, further ones start again.
        ax: Axes to draw on; the current ones when None.
        title: Title of the Axes.

    Returns:
        The Axes: one row per sample, the first one on top, one column per unit.

    >>> import numpy as np
    >>> plt.close(shared_statistics(np.zeros((3, 1), int) + np.arange(4)).figure)  # batch norm
    """
    table = np.asarray(groups)
    ax = ax or plt.gca()
    for number, group in enumerate(np.unique(table)):
        i = number % len(_HATCHES)
        for row, column in np.argwhere(table == group):
            patch = Rectangle(
                (column, row),
                1,
                1,
                facecolor=to_rgba(COLORS[i], 0.45),
                edgecolor="white",
                hatch=_HATCHES[i],
                linewidth=1.5,
            )
            ax.add_patch(patch)
    samples, units = table.shape
    ax.set(xlim=(0, units), ylim=(samples, 0), aspect="equal", title=title)
    ax.set(xlabel="unit", ylabel="sample", xticks=[], yticks=[])
    return ax


def tangent_part(degrees: float, gradient: ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw what batch norm leaves of a gradient, for a batch of 3 samples.

    The plane is that of all (z_1, z_2, z_3) with the sum 0. There ẑ lies on a circle of radius √3.
    The gradient δ̂ that arrives is the sum of its part along the circle, which is P δ̂, and its part
    along ẑ, which is removed.

    Args:
        degrees: Where ẑ stands on the circle.
        gradient: δ̂ in the coordinates of the plane, shape (2,).
        ax: Axes to draw on; the current ones when None. They are switched off.

    Returns:
        The Axes. Its lines are the arrows as segments, named by what they show.

    >>> plt.close(tangent_part(40, [0.4, 1.3]).figure)
    """
    ax = ax or plt.gca()
    angle, radius = math.radians(degrees), math.sqrt(3)
    direction = np.array([math.cos(angle), math.sin(angle)])
    at, delta = radius * direction, np.asarray(gradient, dtype=np.float64)
    removed = (delta @ direction) * direction
    ax.add_patch(Circle((0, 0), radius, fill=False, edgecolor=GREY, linewidth=1.2))
    ax.plot(0, 0, "o", color=COLORS[6], markersize=3)
    arrows = (
        ("ẑ", 0 * at, at, COLORS[6], "-", 1.5),
        ("δ̂, what arrives", at, at + delta, COLORS[0], "-", 2.0),
        ("P δ̂, what is left", at, at + delta - removed, COLORS[1], "-", 3.0),
        ("removed: along ẑ", at + delta - removed, at + delta, COLORS[6], "--", 1.5),
    )
    for name, start, end, color, dash, width in arrows:
        look: dict[str, Any] = {"color": color, "linestyle": dash, "linewidth": width}
        ax.plot(*zip(start, end, strict=True), label=name, **look)
        ax.annotate(
            "", tuple(end), tuple(start), arrowprops={"arrowstyle": "-|>"} | look | {"shrinkA": 0}
        )
    ends = np.stack([at + delta, at + delta - removed, at])
    reach = max(radius, float(np.abs(ends).max())) + 0.2
    ax.set(xlim=(-radius - 0.2, reach), ylim=(-radius - 0.2, reach), aspect="equal")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9, frameon=False)
    ax.axis("off")
    return ax
