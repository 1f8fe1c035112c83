"""Pictures of matrices: what one does to a circle, what many of them do to a norm."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from .style import COLORS, legend_beside, series

_GREY = "#8a8a8a"
_BOUND_STYLES = ((0, (6, 3)), (0, (1, 2)), (0, (6, 2, 1, 2)))


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
    ax.plot(*circle, color=_GREY, linestyle=":", label="unit circle")
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


def norm_growth(
    curves: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    factors: Mapping[str, float] | None = None,
    xlabel: str = "number of factors k",
    ylabel: str = "norm",
) -> Axes:
    """Draw norms against the number of factors on a log axis, beside straight lines of a rate.

    A norm of exactly 0 is marked by a triangle on the lower border, NaN and Inf by a cross on the
    upper one.

    Args:
        curves: Name → norms after 0, 1, 2, … factors, at least 0, shape (k + 1,).
        ax: Axes to draw on; the current ones when None.
        factors: Name → factor per step r, drawn as the line rᵏ that starts where the first curve
            does; the spectral radius and the operator norm, for example. 0 draws no line, only
            its name.
        xlabel: Label of the horizontal axis.
        ylabel: Label of the vertical axis.

    Returns:
        The Axes.

    Raises:
        ValueError: If there is no curve, one has not exactly one axis, or a factor is negative.
    """
    if not curves:
        raise ValueError("curves is empty: hand over at least one.")
    ax = ax or plt.gca()
    data = {name: np.asarray(values, dtype=np.float64) for name, values in curves.items()}
    for name, values in data.items():
        if values.ndim != 1 or not values.size:
            raise ValueError(
                f"curves[{name!r}] has the shape {values.shape}; (k + 1,) is expected, the norm "
                "after 0, 1, 2, … factors."
            )
    first = next(iter(data.values()))
    k = np.arange(max(values.size for values in data.values()))
    for i, (name, r) in enumerate((factors or {}).items()):
        if not np.isfinite(r) or r < 0:
            raise ValueError(f"factors[{name!r}]={r!r} must be a finite number of at least 0.")
        line = first[0] * np.where(k == 0, 1.0, float(r) ** k)
        ax.semilogy(
            k,
            np.where(line > 0, line, np.nan),
            color=_GREY,
            linestyle=_BOUND_STYLES[i % len(_BOUND_STYLES)],
            label=name,
            zorder=1,
        )
    lost = []
    for i, (name, values) in enumerate(data.items()):
        style = series(i)
        shown = np.isfinite(values) & (values > 0)
        ax.semilogy(
            np.arange(values.size),
            np.where(shown, values, np.nan),
            markersize=4,
            markevery=max(1, values.size // 15),
            label=name,
            **style,
        )
        for where, height, marker in (
            (np.flatnonzero(values <= 0), 0.02, "v"),
            (np.flatnonzero(~np.isfinite(values)), 0.98, "x"),
        ):
            if where.size:
                lost.append((where, height, marker, style["color"]))
    for where, height, marker, color in lost:
        ax.plot(
            where,
            np.full(where.size, height),
            marker=marker,
            color=color,
            linestyle="none",
            transform=ax.get_xaxis_transform(),
            clip_on=False,
            label="exactly 0" if marker == "v" else "not finite",
        )
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(fontsize="small")
    return ax


def log_norm_paths(
    log_norms: ArrayLike,
    ax: Axes | None = None,
    rate: float | None = None,
    variance: float | None = None,
    xlabel: str = "layer l",
    ylabel: str = "log of the norm",
) -> Axes:
    """Draw the logarithm of a norm against depth, one thin line per seed, and its prediction.

    Args:
        log_norms: log‖h_l‖ for l = 0 … L, shape (seeds, L + 1).
        ax: Axes to draw on; the current ones when None.
        rate: Predicted growth per layer: a black line from 0.
        variance: Predicted variance that each layer adds: dashed lines two standard deviations
            about the black one.
        xlabel: Label of the horizontal axis.
        ylabel: Label of the vertical axis.

    Returns:
        The Axes.

    Raises:
        ValueError: If a shape does not fit, or `variance` comes without `rate` or is negative.
    """
    values = np.asarray(log_norms, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"log_norms has the shape {values.shape}; (seeds, L + 1) is expected, one row a seed."
        )
    if variance is not None and (rate is None or not variance >= 0):
        raise ValueError(
            f"variance={variance!r} must be at least 0 and comes with a rate: it is drawn about it."
        )
    ax = ax or plt.gca()
    layers = np.arange(values.shape[1])
    for i, row in enumerate(values):
        label = f"{len(values)} seeds" if i == 0 else None
        ax.plot(layers, row, color=COLORS[5], linewidth=0.7, alpha=0.7, label=label)
    if rate is not None:
        ax.plot(layers, rate * layers, color=COLORS[6], linewidth=2, label="predicted mean")
    if variance is not None:
        spread = 2 * np.sqrt(variance * layers)
        for sign, label in ((1, "predicted mean ± 2 standard deviations"), (-1, None)):
            line = rate * layers + sign * spread
            ax.plot(layers, line, color=COLORS[1], linestyle="--", linewidth=1.5, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(fontsize="small")
    return ax


def eigenvalue_plane(
    eigenvalues: ArrayLike, ax: Axes | None = None, radius: float | None = None, title: str = ""
) -> Axes:
    """Draw eigenvalues as dots in the complex plane, with the unit circle.

    Args:
        eigenvalues: Complex or real, shape (n,).
        ax: Axes to draw on; the current ones when None.
        radius: Radius of a second circle, drawn solid: the operator norm, for example.
        title: Title of the Axes.

    Returns:
        The Axes.

    Raises:
        ValueError: If `eigenvalues` has not exactly one axis, or `radius` is not positive.
    """
    values = np.asarray(eigenvalues, dtype=np.complex128)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"eigenvalues has the shape {values.shape}; (n,) is expected.")
    if radius is not None and not 0 < radius < np.inf:
        raise ValueError(f"radius={radius!r} must be a positive number.")
    ax = ax or plt.gca()
    angle = np.linspace(0, 2 * np.pi, 201)
    ax.plot(np.cos(angle), np.sin(angle), color=_GREY, linestyle=":", label="|λ| = 1")
    if radius is not None:
        ax.plot(
            radius * np.cos(angle),
            radius * np.sin(angle),
            color=COLORS[1],
            label=f"radius σ₁ = {radius:.3g}",
        )
    ax.plot(
        values.real,
        values.imag,
        color=COLORS[0],
        marker="o",
        markersize=3,
        linestyle="none",
        label="eigenvalues",
    )
    ax.set(aspect="equal", xlabel="real part", ylabel="imaginary part", title=title)
    legend_beside(ax)
    return ax


def _upward(vector: np.ndarray) -> np.ndarray:
    """The vector or its opposite, whichever has a positive largest entry: libraries differ."""
    return vector * np.sign(vector[np.argmax(np.abs(vector))])
