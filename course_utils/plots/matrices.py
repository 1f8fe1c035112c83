"""Pictures of matrices: what one does to vectors, to an area, to a circle, to a gradient."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import ArrayLike

from .style import COLORS, GREY, MARKERS, legend_beside


def turned_vectors(matrix: ArrayLike, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw unit vectors all around and, from the same start, where a 2×2 matrix sends them.

    Each vector v is a thin grey line to the unit circle, Wv a colored arrow. Of every
    eigenvector's line there is a pair that stays on its line; it is drawn thick.

    Args:
        matrix: W, real, shape (2, 2).
        ax: Axes to draw on; the current ones when None.
        title: Title of the Axes.

    Returns:
        The Axes.

    Raises:
        ValueError: If `matrix` is not a finite real 2×2 matrix.
    """
    W = _two_by_two(matrix)
    ax = ax or plt.gca()
    angle = np.arange(16) * np.pi / 8
    for i, v in enumerate(np.stack([np.cos(angle), np.sin(angle)], axis=1)):
        _from_zero(ax, v, color=GREY, linewidth=1, label="" if i else "v, of length 1")
        look = {"color": COLORS[0], "linewidth": 1, "marker": ".", "markevery": [1]}
        _from_zero(ax, W @ v, label="" if i else "Wv", **look)
    for value, vector in _eigenvectors(W):
        look = {"color": COLORS[1], "linewidth": 3, "marker": "D", "markevery": [1]}
        _from_zero(ax, value * vector, label=f"Wv = {value:.3g} v".replace("-", "−"), **look)
        _from_zero(ax, vector, color=COLORS[6], linewidth=1.5, linestyle="--", label="")
    ax.set(aspect="equal", xlabel="first component", ylabel="second component", title=title)
    legend_beside(ax)
    return ax


def unit_square_image(matrix: ArrayLike, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw the unit square and what a 2×2 matrix makes of it: its area is |det W|.

    Args:
        matrix: W, real, shape (2, 2).
        ax: Axes to draw on; the current ones when None.
        title: Title of the Axes.

    Returns:
        The Axes; the two columns of W are two sides of the image.

    Raises:
        ValueError: If `matrix` is not a finite real 2×2 matrix.
    """
    W = _two_by_two(matrix)
    ax = ax or plt.gca()
    square = np.array([[0, 1, 1, 0], [0, 0, 1, 1]], dtype=np.float64)
    area = abs(np.linalg.det(W))
    ax.fill(*square, facecolor="none", edgecolor=GREY, hatch="//", label="unit square, area 1")
    ax.fill(*(W @ square), color=COLORS[0], alpha=0.4, label=f"its image, area {area:.3g}")
    for i in range(2):
        look = {"color": COLORS[1], "linewidth": 2, "marker": "os"[i], "markevery": [1]}
        _from_zero(ax, W[:, i], label=f"column {i + 1} of W", **look)
    ax.set(aspect="equal", xlabel="first component", ylabel="second component", title=title)
    legend_beside(ax)
    return ax


def growth_factors(
    factors: Mapping[str, Mapping[str, float]], ax: Axes | None = None, measured: str = ""
) -> Axes:
    """Draw several factors per step of several networks, one row each, on a log axis.

    A factor of exactly 0 has no place on a log axis: it stands at the left edge as a triangle.

    Args:
        factors: Network → name of a factor → its value, at least 0; the same names for all.
        ax: Axes to draw on; the current ones when None.
        measured: The name of the factor to draw in black, as a large diamond.

    Returns:
        The Axes, the first network at the top, with a dotted line at the factor 1.

    Raises:
        ValueError: If there is no network, their names of factors differ, or a factor is
            negative or not finite.
    """
    if not factors:
        raise ValueError("factors is empty: hand over at least one network.")
    names = list(next(iter(factors.values())))
    if any(list(own) != names for own in factors.values()):
        raise ValueError(f"factors: every network needs {names}, in this order.")
    table = np.array([[own[name] for name in names] for own in factors.values()], dtype=np.float64)
    if not (np.isfinite(table) & (table >= 0)).all():
        raise ValueError(f"factors={table.tolist()} must be finite and at least 0.")
    ax = ax or plt.gca()
    ax.set_xscale("log")
    rows = np.arange(len(table))
    ax.axvline(1.0, color=GREY, linestyle=":")
    for i, name in enumerate(names):
        look: dict[str, Any] = {"color": COLORS[i], "marker": MARKERS[i], "markersize": 7}
        look["linestyle"] = "none"
        if name == measured:
            look |= {"color": COLORS[6], "marker": "D", "markersize": 10, "fillstyle": "none"}
        positive = table[:, i] > 0
        ax.plot(table[positive, i], rows[positive], label=name, **look)
        if not positive.all():
            edge = {"transform": ax.get_yaxis_transform(), "clip_on": False}
            zeros = rows[~positive]
            label = f"{name}, exactly 0"
            ax.plot(np.zeros(zeros.size), zeros, label=label, **(look | {"marker": "<"} | edge))
    ax.set(yticks=rows, yticklabels=list(factors), xlabel="factor per step")
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.xaxis.set(major_locator=LogLocator(2.0), minor_locator=NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    legend_beside(ax)
    return ax


def _two_by_two(matrix: ArrayLike) -> np.ndarray:
    W = np.asarray(matrix, dtype=np.float64)
    if W.shape != (2, 2) or not np.isfinite(W).all():
        raise ValueError(
            f"matrix={W!r} must be a finite matrix of shape (2, 2): only that one fits on paper."
        )
    return W


def _from_zero(ax: Axes, end: np.ndarray, **look: Any) -> None:
    """A line from (0, 0) to `end`."""
    ax.plot(*np.stack([np.zeros(2), end], axis=1), **look)


def _eigenvectors(W: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Real eigenvalues, the largest in size first, each with a unit eigenvector; [] if complex."""
    eigenvalues, vectors = np.linalg.eig(W)
    if not np.isreal(eigenvalues).all():
        return []
    order = np.argsort(-abs(eigenvalues.real), kind="stable")
    if abs(np.linalg.det(vectors)) < 1e-6:  # two vectors on one line: it has one eigenvector
        order = order[:1]
    return [(float(eigenvalues[i].real), _upward(vectors[:, i].real)) for i in order]


def matrix_ellipse(matrix: ArrayLike, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw the ellipse that a 2×2 matrix makes of the unit circle.

    The half-axes of the ellipse are σ₁u₁ and σ₂u₂. The unit vectors v₁ and v₂ that W sends there
    stand on the circle, with the same markers. A vector on an eigenvector's line stays on it: these
    lines are dashed and end at λ times the unit eigenvector, on the ellipse. Complex eigenvalues
    have no such line.

    Args:
        matrix: W, real, shape (2, 2).
        ax: Axes to draw on; the current ones when None.
        title: Title of the Axes.

    Returns:
        The Axes.

    Raises:
        ValueError: If `matrix` is not a finite real 2×2 matrix.
    """
    W = _two_by_two(matrix)
    ax = ax or plt.gca()
    angle = np.linspace(0, 2 * np.pi, 201)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    ax.plot(*circle, color=GREY, linestyle=":", label="unit circle")
    ax.plot(*(W @ circle), color=COLORS[0], label="its image under W")
    u, sigma, vt = np.linalg.svd(W)
    for i in range(2):
        sign = np.sign(u[np.argmax(np.abs(u[:, i])), i])
        end = sigma[i] * sign * u[:, i]
        ax.plot(
            *np.stack([np.zeros(2), sign * vt[i]], axis=1),
            color=COLORS[6],
            linewidth=1,
            marker="os"[i],
            markerfacecolor="white",
            markevery=[1],
            label=f"v{'₁₂'[i]}, sent to σ{'₁₂'[i]}u{'₁₂'[i]}",
        )
        ax.plot(
            *np.stack([np.zeros(2), end], axis=1),
            color=COLORS[1],
            linewidth=3 - i,
            marker="os"[i],
            markevery=[1],
            label=f"half-axis σ{'₁₂'[i]}u{'₁₂'[i]}, σ{'₁₂'[i]} = {sigma[i]:.3g}",
        )
    found = _eigenvectors(W)
    for value, vector in found:
        reach = max(1.0, abs(value))
        label = f"{'only ' if len(found) == 1 else ''}eigenvector, λ = {value:.3g}"
        ax.plot(
            *np.stack([-reach * vector, reach * vector], axis=1),
            color=COLORS[2],
            linestyle="--",
            linewidth=1.5,
            label=label.replace("-", "−"),
        )
        ax.plot(*(value * vector), color=COLORS[2], marker="D", linestyle="none")
    ax.set(aspect="equal", xlabel="first component", ylabel="second component", title=title)
    legend_beside(ax)
    return ax


def _upward(vector: np.ndarray) -> np.ndarray:
    """The vector or its opposite, whichever has a positive largest entry: libraries differ."""
    return vector * np.sign(vector[np.argmax(np.abs(vector))])
