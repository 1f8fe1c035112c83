"""Pictures of normalization: which values share a mean, and what a batch size costs."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from .style import COLORS, seed_bars, series

_GREY = "#8a8a8a"
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

    Raises:
        ValueError: If `groups` is not a table of integers.

    >>> import numpy as np
    >>> plt.close(shared_statistics(np.zeros((3, 1), int) + np.arange(4)).figure)  # batch norm
    """
    table = np.asarray(groups)
    if table.ndim != 2 or not table.size or table.dtype.kind not in "iu":
        raise ValueError(
            f"groups has the shape {table.shape} and the type {table.dtype}; integers of shape "
            "(samples, units) are expected."
        )
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


def factor_by_batch(
    batch_sizes: ArrayLike,
    predicted: Mapping[str, ArrayLike],
    measured: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    limits: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the factor of g² per layer against the batch size, predictions as lines.

    Args:
        batch_sizes: B, increasing and positive, shape (N,).
        predicted: Name → factors, shape (N,), positive; Inf leaves a gap.
        measured: Name → (batch sizes (M,), factors (M, seeds)): markers at the mean, with bars of
            one standard deviation over seeds. A name that is predicted too has the same color.
        limits: Name → factor for an infinite batch: a thin line at the right half.
        ax: Axes to draw on; the current ones when None.

    Returns:
        The Axes, the batch size on a scale of powers of 2.

    Raises:
        ValueError: If a shape does not fit, or there is nothing to draw.
    """
    sizes = np.asarray(batch_sizes, dtype=np.float64)
    if sizes.ndim != 1 or not sizes.size or not (sizes > 0).all() or not predicted:
        raise ValueError("batch_sizes must be positive, of shape (N,), and predicted not empty.")
    ax = ax or plt.gca()
    names = dict.fromkeys([*predicted, *(measured or {}), *(limits or {})])
    order = {name: i for i, name in enumerate(names)}
    for name, values in predicted.items():
        values = np.asarray(values, dtype=np.float64)
        if values.shape != sizes.shape:
            raise ValueError(
                f"predicted[{name!r}] has the shape {values.shape}; batch_sizes has {sizes.shape}."
            )
        style = {key: value for key, value in series(order[name]).items() if key != "marker"}
        values = np.where(np.isfinite(values), values, np.nan)
        ax.plot(sizes, values, label=f"{name}, predicted", **style)
    for name, (at, values) in (measured or {}).items():
        at, values = np.asarray(at, dtype=np.float64), np.asarray(values, dtype=np.float64)
        if values.ndim != 2 or at.shape != values.shape[:1]:
            raise ValueError(
                f"measured[{name!r}] has the shapes {at.shape} and {values.shape}; (M,) and "
                "(M, seeds) are expected."
            )
        seed_bars(ax, at, values, order[name], f"{name}, measured")
    for name, value in (limits or {}).items():
        ax.axhline(value, 0.5, 1, color=series(order[name])["color"], linewidth=0.8)
    ax.axhline(1, color=_GREY, linewidth=0.8)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="batch size B", ylabel="factor of g² per layer")
    ax.legend(fontsize="small")
    return ax
