"""Pictures of descent: paths over contours, losses, rates, training times, sharpness."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from .style import COLORS, series

_GREY = "#8a8a8a"


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
    ax.contour(x, y, loss, levels=levels, colors=_GREY, linewidths=0.7)
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


def loss_curves(
    curves: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    floors: Mapping[str, float] | None = None,
    every: int = 1,
    xlabel: str = "step t",
    ylabel: str = "loss",
) -> Axes:
    """Draw losses against steps on a log axis: the mean over seeds, and their range as a band.

    A value that a log axis cannot show is marked instead of dropped: zero and below by a triangle
    at the lower border, NaN and Inf by a cross at the upper one.

    Args:
        curves: Name → losses, shape (steps,) or (seeds, steps).
        ax: Axes to draw on; the current ones when None.
        floors: Name → a level to draw as a dotted line in the color of that curve, for example
            a predicted noise floor.
        every: Steps between two entries.
        xlabel: Label of the horizontal axis.
        ylabel: Label of the vertical axis, with its unit where it has one.

    Returns:
        The Axes.

    Raises:
        ValueError: If a curve has no or more than two axes, or a floor no curve.
    """
    ax = ax or plt.gca()
    floors = dict(floors or {})
    for i, (name, values) in enumerate(curves.items()):
        values = np.asarray(values, dtype=np.float64)
        if values.ndim not in (1, 2) or not values.size:
            raise ValueError(
                f"curves[{name!r}] has the shape {values.shape}; (steps,) or (seeds, steps) is "
                "expected."
            )
        values = np.atleast_2d(values)
        steps = every * np.arange(values.shape[1])
        mean = values.mean(axis=0)
        style = series(i)
        style.pop("marker")
        shown = np.isfinite(mean) & (mean > 0)
        ax.semilogy(steps, np.where(shown, mean, np.nan), label=name, **style)
        if len(values) > 1:
            low, high = (np.where(shown, edge, np.nan) for edge in (values.min(0), values.max(0)))
            ax.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)
        _mark_unshown(ax, steps, mean, style["color"])
        if name in floors:
            ax.axhline(floors.pop(name), color=style["color"], linestyle=":", linewidth=1.2)
    if floors:
        raise ValueError(f"floors names {', '.join(floors)}, but curves has no such name.")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if len(curves) > 1:
        ax.legend()
    return ax


def lr_curve(
    lr: ArrayLike,
    predicted: ArrayLike,
    measured: ArrayLike,
    ax: Axes | None = None,
    limit: float | None = None,
) -> Axes:
    """Draw the factor per step against the learning rate, measured dots on the predicted line.

    Args:
        lr: Learning rates, shape (n,).
        predicted: Rate the theory gives at each of them, shape (n,).
        measured: Measured rates, shape (n,).
        ax: Axes to draw on; the current ones when None.
        limit: Largest stable learning rate, drawn as a vertical line.

    Returns:
        The Axes.

    Raises:
        ValueError: If the three shapes differ.
    """
    lr, predicted, measured = _same_shape(lr=lr, predicted=predicted, measured=measured)
    ax = ax or plt.gca()
    ax.plot(lr, predicted, color=COLORS[0], label="predicted")
    ax.plot(lr, measured, "o", color=COLORS[1], markersize=5, label="measured")
    ax.axhline(1, color=_GREY, linewidth=0.8)
    if limit is not None:
        ax.axvline(limit, color=COLORS[6], linestyle="--", linewidth=1.2, label="limit")
    ax.set(xlabel="learning rate η", ylabel="factor of the error per step")
    ax.legend()
    return ax


def training_time(
    depth: ArrayLike, predicted: ArrayLike, measured: ArrayLike, ax: Axes | None = None
) -> Axes:
    """Draw the number of training steps against depth on a log axis.

    Args:
        depth: Number of layers L, shape (n,).
        predicted: Steps the theory gives, shape (n,).
        measured: Steps counted, shape (n,).
        ax: Axes to draw on; the current ones when None.

    Returns:
        The Axes.

    Raises:
        ValueError: If the three shapes differ.
    """
    depth, predicted, measured = _same_shape(depth=depth, predicted=predicted, measured=measured)
    ax = ax or plt.gca()
    ax.semilogy(depth, predicted, color=COLORS[0], label="predicted")
    ax.semilogy(depth, measured, "o", color=COLORS[1], label="measured")
    ax.set(xlabel="depth L (number of weights in the chain)", ylabel="training time (steps)")
    ax.legend()
    return ax


def sharpness_curves(
    steps: ArrayLike, sharpness: ArrayLike, lr: ArrayLike, ax: Axes | None = None
) -> Axes:
    """Draw the sharpness during training, and the level 2/η of each learning rate.

    Args:
        steps: Steps at which it was measured, shape (times,).
        sharpness: λ_max, shape (times, learning rates, seeds); one line per seed.
        lr: Learning rates η, shape (learning rates,).
        ax: Axes to draw on; the current ones when None.

    Returns:
        The Axes.

    Raises:
        ValueError: If `sharpness` has not the shape that `steps` and `lr` ask for.
    """
    steps, sharpness, lr = (np.asarray(v, dtype=np.float64) for v in (steps, sharpness, lr))
    if sharpness.ndim != 3 or sharpness.shape[:2] != (steps.size, lr.size):
        raise ValueError(
            f"sharpness has the shape {sharpness.shape}; ({steps.size}, {lr.size}, seeds) is "
            "expected: times, learning rates, seeds."
        )
    ax = ax or plt.gca()
    for i, rate in enumerate(lr):
        color = COLORS[i % len(COLORS)]
        for seed in range(sharpness.shape[2]):
            label = f"η = {rate:.3g}" if seed == 0 else None
            ax.plot(
                steps,
                sharpness[:, i, seed],
                color=color,
                linewidth=1,
                alpha=0.7,
                linestyle=series(i)["linestyle"],
                label=label,
            )
        ax.axhline(2 / rate, color=color, linestyle=(0, (1, 1)), linewidth=2)
        ax.annotate(
            f"2/η = {2 / rate:.3g}",
            (steps[-1], 2 / rate),
            xytext=(0, 10),
            textcoords="offset points",
            ha="right",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )
    ax.set(xlabel="step t", ylabel="sharpness λ_max", ylim=(0, None))
    ax.legend(loc="lower right")
    return ax


def _mark_unshown(ax: Axes, steps: np.ndarray, values: np.ndarray, color: str) -> None:
    """Mark what a log axis cannot show at its border."""
    border = ax.get_xaxis_transform()
    for where, marker, height, name in (
        (np.isfinite(values) & (values <= 0), "v", 0.03, "zero"),
        (~np.isfinite(values), "x", 0.97, "not finite"),
    ):
        if where.any():
            first = steps[where][:1]
            ax.plot(
                first, [height], marker, color=color, transform=border, label=f"{name} from here"
            )


def _same_shape(**arrays: ArrayLike) -> list[np.ndarray]:
    values = {name: np.asarray(array, dtype=np.float64) for name, array in arrays.items()}
    shapes = {name: value.shape for name, value in values.items()}
    if len(set(shapes.values())) > 1:
        said = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"The shapes differ: {said}. Hand over one value per point.")
    return list(values.values())
