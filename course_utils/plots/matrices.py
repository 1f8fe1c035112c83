"""Pictures of matrices: what one does to a circle."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from .style import COLORS, GREY, legend_beside


def matrix_ellipse(matrix: ArrayLike, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw the ellipse that a 2×2 matrix makes of the unit circle.

    The half-axes of the ellipse are σ₁u₁ and σ₂u₂, drawn as arrows. A vector on an eigenvector's
    line stays on it: these lines are dashed and end at λ times the unit eigenvector, on the
    ellipse. Complex eigenvalues have no such line.

    Args:
        matrix: W, real, shape (2, 2).
        ax: Axes to draw on; the current ones when None.
        title: Title of the Axes.

    Returns:
        The Axes.

    Raises:
        ValueError: If `matrix` is not a finite real 2×2 matrix.
    """
    W = np.asarray(matrix, dtype=np.float64)
    if W.shape != (2, 2) or not np.isfinite(W).all():
        raise ValueError(
            f"matrix={W!r} must be a finite matrix of shape (2, 2): only that one fits on paper."
        )
    ax = ax or plt.gca()
    angle = np.linspace(0, 2 * np.pi, 201)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    ax.plot(*circle, color=GREY, linestyle=":", label="unit circle")
    ax.plot(*(W @ circle), color=COLORS[0], label="its image under W")
    u, sigma, _ = np.linalg.svd(W)
    for i in range(2):
        end = sigma[i] * _upward(u[:, i])
        ax.plot(
            *np.stack([np.zeros(2), end], axis=1),
            color=COLORS[1],
            linewidth=3 - i,
            marker="o",
            markevery=[1],
            label=f"half-axis σ{'₁₂'[i]} = {sigma[i]:.3g}",
        )
    eigenvalues, vectors = np.linalg.eig(W)
    if np.isreal(eigenvalues).all():
        order = np.argsort(-abs(eigenvalues.real), kind="stable")
        if abs(np.linalg.det(vectors)) < 1e-6:  # two vectors on one line: it has one eigenvector
            order = order[:1]
        for i in order:
            value, vector = eigenvalues[i].real, _upward(vectors[:, i].real)
            reach = max(1.0, abs(value))
            label = f"{'only ' if order.size == 1 else ''}eigenvector, λ = {value:.3g}"
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
