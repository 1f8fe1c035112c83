"""Pictures of descent: paths over the contours of a loss."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from .planes import path_points, plane
from .style import COLORS, GREY, series


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


def parabola_path(theta: ArrayLike, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw the steps of one parameter over the parabola ½θ².

    Args:
        theta: The points θ_0, θ_1, …, shape (steps + 1,). The first is filled, and a step that
            leaves the picture leads to its border.
        ax: Axes to draw on; the current ones when None.
        title: Title of the Axes.

    Returns:
        The Axes.

    Raises:
        ValueError: If `theta` is not a row of finite numbers.
    """
    theta = np.asarray(theta, dtype=np.float64)
    if theta.ndim != 1 or not theta.size or not np.isfinite(theta).all():
        raise ValueError(f"theta has the shape {theta.shape}: finite points (steps + 1,) expected.")
    ax = ax or plt.gca()
    reach = 2.6 * (abs(theta[0]) or 1.0)
    floor = np.linspace(-reach, reach, 101)
    ax.plot(floor, floor**2 / 2, color=GREY, linewidth=1, label="½θ²")
    look: dict[str, Any] = {"marker": "o", "markersize": 5, "linewidth": 1.2, "color": COLORS[0]}
    ax.plot(theta, theta**2 / 2, markerfacecolor="white", label="path", **look)
    ax.plot(theta[:1], theta[:1] ** 2 / 2, "o", color=COLORS[0], markersize=8, label="start")
    ax.set(xlabel="θ", title=title, xlim=(-reach, reach), ylim=(-0.04 * reach**2, reach**2 / 2))
    place = ax.get_subplotspec()
    if place is None or place.is_first_col():
        ax.set_ylabel("loss")
    return ax


def momentum_plane(
    product: ArrayLike, momentum: ArrayLike, factor: ArrayLike, ax: Axes | None = None
) -> Axes:
    """Draw how fast a heavy ball is, over the plane of ηλ and β, with the borders of its regimes.

    The roots of r² − (1+β−ηλ)r + β are complex between (1−√β)² and (1+√β)², dashed, and the ball
    then swings. Above 2(1+β), the solid line, it diverges.

    Args:
        product: Values of ηλ, shape (m,).
        momentum: Values of β, from 0 to 1, shape (n,).
        factor: Factor of the error per step at (ηλ, β), shape (n, m).
        ax: Axes to draw on; the current ones when None.

    Returns:
        The Axes.

    Raises:
        ValueError: If a shape does not fit or a factor is not finite.
    """
    x, beta, factor = plane(product, momentum, factor)
    ax = ax or plt.gca()
    colors = plt.get_cmap("Blues_r").with_extremes(over="white")
    shades = ax.contourf(x, beta, factor, levels=_FACTORS, cmap=colors, extend="max")
    ax.figure.colorbar(shades, ax=ax, label="factor of the error per step")
    height = np.linspace(0, 1, 201)
    dashed: dict[str, Any] = {"color": COLORS[6], "linewidth": 1.2, "linestyle": "--"}
    ax.plot((1 - np.sqrt(height)) ** 2, height, label="(1 − √β)²", **dashed)
    ax.plot((1 + np.sqrt(height)) ** 2, height, label="(1 + √β)²", **dashed)
    ax.plot(2 * (1 + height), height, color=COLORS[6], linewidth=2.5, label="2(1 + β)")
    box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    for place, text in _REGIMES.items():
        ax.text(*place, text, ha="center", va="center", fontsize="small", bbox=box)
    ax.set(xlabel="ηλ", ylabel="momentum β", xlim=(x.min(), x.max()), ylim=(0, beta.max()))
    return ax


_FACTORS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
_REGIMES = {
    (0.36, 0.06): "creeps",
    (1.6, 0.6): "swings",
    (1.85, 0.06): "jumps to and fro",
    (3.3, 0.25): "diverges",
}
"""What a heavy ball does, and where in the plane it is said."""
