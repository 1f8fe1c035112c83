"""Pictures of descent: paths over contours, losses, rates, training times, sharpness."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

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
    x, y, loss = (np.asarray(values, dtype=np.float64) for values in (x, y, loss))
    if loss.shape != (y.size, x.size):
        raise ValueError(
            f"loss has the shape {loss.shape}; {(y.size, x.size)} is expected, one row per y and "
            "one column per x."
        )
    ax = ax or plt.gca()
    top = np.sqrt(loss.max())
    levels = np.linspace(0, top, 12)[1:] ** 2
    ax.contour(x, y, loss, levels=levels, colors=GREY, linewidths=0.7)
    for i, (name, path) in enumerate(paths.items()):
        path = np.asarray(path, dtype=np.float64)
        if path.ndim != 2 or path.shape[1] != 2:
            raise ValueError(
                f"paths[{name!r}] has the shape {path.shape}; (steps + 1, 2) is expected, one "
                "point (θ₁, θ₂) per row."
            )
        ax.plot(*path.T, label=name, markersize=4, linewidth=1.5, **series(i))
    ax.set(xlabel="θ₁", ylabel="θ₂", xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    if len(paths) > 1:
        ax.legend(loc="best")
    return ax
