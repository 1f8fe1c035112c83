"""Pictures of clipping: the cliff and the steps from it, and vectors that are shortened."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from numpy.typing import ArrayLike

from ..arguments import number, one_of
from .planes import path_points, plane
from .style import COLORS, GREY, series


def cliff_map(
    w: ArrayLike,
    b: ArrayLike,
    gradient: ArrayLike,
    paths: Mapping[str, ArrayLike] | None = None,
    ax: Axes | None = None,
    cliff: ArrayLike | None = None,
) -> Axes:
    """Draw the size of the gradient over the plane of two parameters, on a log scale of greys.

    Args:
        w: Values of the first parameter, shape (m,).
        b: Values of the second, shape (n,).
        gradient: g at (w, b), above 0, shape (n, m).
        paths: Name → points (w, b), shape (steps + 1, 2), drawn as far as the picture goes.
        ax: Axes to draw on; the current ones when None.
        cliff: Predicted place of the cliff, the b at each value of w, shape (m,); a dashed line.

    Returns:
        The Axes.

    Raises:
        ValueError: If a shape does not fit, or a gradient is not finite.
    """
    w, b, gradient = plane(w, b, gradient)
    ax = ax or plt.gca()
    floor = max(float(gradient.max()) * 1e-9, np.finfo(float).tiny)
    shown = np.maximum(gradient, floor)
    low = 10 ** np.floor(np.log10(np.quantile(shown, 0.02)))
    mesh = ax.pcolormesh(
        w,
        b,
        shown,
        norm=LogNorm(low, shown.max()),
        cmap="Greys",
        shading="nearest",
        rasterized=True,
    )
    ax.figure.colorbar(mesh, ax=ax, label="g, gradient norm", extend="min")
    if cliff is not None:
        ax.plot(w, cliff, color=COLORS[2], linestyle="--", linewidth=1.5, label="predicted cliff")
    for i, (name, points) in enumerate((paths or {}).items()):
        points = path_points(name, points)
        ax.plot(*points.T, label=name, markersize=4, linewidth=1.5, **series(i))
    ax.set(xlabel="weight w", ylabel="bias b", xlim=(w[0], w[-1]), ylim=(b[0], b[-1]))
    if cliff is not None or paths:
        ax.legend(loc="lower left", fontsize="small")
    return ax


def clipped_vectors(
    vectors: ArrayLike, threshold: float, ax: Axes | None = None, by: str = "norm"
) -> Axes:
    """Draw vectors of two entries, and where clipping puts each of them.

    Args:
        vectors: Vectors before clipping, shape (k, 2).
        threshold: Radius of the ball, or half the side of the box, above 0.
        ax: Axes to draw on; the current ones when None.
        by: "norm" for the ball ‖v‖ ≤ c, "value" for the box |v_i| ≤ c.

    Returns:
        The Axes.

    Raises:
        ValueError: If the threshold is not above 0, or `by` is unknown.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    threshold = number("threshold", threshold, above=0)
    one_of("by", by, ("norm", "value"))
    if by == "norm":
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        after = vectors * np.minimum(1, threshold / np.maximum(length, np.finfo(float).tiny))
        turn = np.linspace(0, 2 * np.pi, 181)
        border = threshold * np.stack([np.cos(turn), np.sin(turn)])
    else:
        after = np.clip(vectors, -threshold, threshold)
        border = threshold * np.array([[-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1]])
    ax = ax or plt.gca()
    ax.plot(*border, color=GREY, linewidth=1.2, label=f"set of allowed vectors, c = {threshold:g}")
    for i, (v, u) in enumerate(zip(vectors, after, strict=True)):
        labels = ("gradient", "the move", "clipped") if i == 0 else ("_nolegend_",) * 3
        ax.plot([0, v[0]], [0, v[1]], "-o", color=COLORS[5], markevery=[1], label=labels[0])
        ax.plot(*np.stack([v, u]).T, ":", color=COLORS[6], linewidth=1.2, label=labels[1])
        ax.plot([0, u[0]], [0, u[1]], "--s", color=COLORS[1], markevery=[1], label=labels[2])
    ax.set(xlabel="first entry", ylabel="second entry", aspect="equal")
    ax.legend(fontsize="small")
    return ax
