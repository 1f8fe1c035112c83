"""Pictures of normalization: which values share a mean."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from .style import COLORS

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
