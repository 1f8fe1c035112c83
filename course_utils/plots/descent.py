"""Pictures of descent: paths over the contours of a loss."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from .planes import path_points, plane
from .style import GREY, series


def contour_path(
    x: ArrayLike,
    y: ArrayLike,
    loss: ArrayLike,
    paths: Mapping[str, ArrayLike],
    ax: Axes | None = None,
) -> Axes:
    """Draw the contours of a loss of two parameters, and the paths taken over it.

    Contours are spaced evenly in the square root of the loss: over a quadratic they are then
    equally far apart. A path that leaves the picture is cut at its border.

    Args:
        x: Values of θ₁, shape (m,).
        y: Values of θ₂, shape (n,).
        loss: The loss at (x, y), at least 0, shape (n, m).
        paths: Name → the points θ_0, θ_1, …, shape (steps + 1, 2).
        ax: Axes to draw on; the current ones when None.

    Returns:
        The Axes.

    Raises:
        ValueError: If a shape does not fit.
    """
    x, y, loss = plane(x, y, loss)
    ax = ax or plt.gca()
    top = np.sqrt(loss.max())
    levels = np.linspace(0, top, 12)[1:] ** 2
    ax.contour(x, y, loss, levels=levels, colors=GREY, linewidths=0.7)
    for i, (name, path) in enumerate(paths.items()):
        path = path_points(name, path)
        ax.plot(*path.T, label=name, markersize=4, linewidth=1.5, **series(i))
    ax.set(xlabel="θ₁", ylabel="θ₂", xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    if len(paths) > 1:
        ax.legend(loc="best")
    return ax
