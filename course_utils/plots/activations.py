"""Pictures of activations: the function beside its slope, and the slopes that are met."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ..arguments import integer
from .style import GREY, line_style


def function_and_slope(
    z: ArrayLike,
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    axes: Sequence[Axes] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> tuple[Axes, Axes]:
    """Draw activations on the left and their slopes on the right.

    Args:
        z: Preactivations, increasing, shape (N,). A slope that jumps between two of them is drawn
            with a gap.
        curves: Name → (φ(z), φ′(z)), each of shape (N,).
        axes: Two Axes to draw on; two new ones side by side when None.
        bounds: Name → (z, φ′(z)) where a slope is largest, marked by a large dot. What lies
            outside the range of `z` is left out.

    Returns:
        The Axes of the functions and the Axes of the slopes.

    Raises:
        ValueError: If there is no curve, or a shape does not fit.
    """
    z = np.asarray(z, dtype=np.float64)
    if z.ndim != 1 or z.size < 2 or not (np.diff(z) > 0).all():
        raise ValueError(f"z has the shape {z.shape}; an increasing (N,) is expected, N ≥ 2.")
    if not curves:
        raise ValueError("curves is empty: hand over at least one activation.")
    if axes is None:
        axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")[1]
    left, right = axes
    for ax in axes:
        ax.axhline(0, color=GREY, linewidth=0.8)
        ax.axvline(0, color=GREY, linewidth=0.8)
    for i, (name, pair) in enumerate(curves.items()):
        style = line_style(i)
        for ax, what, values in zip(axes, ("φ", "φ′"), pair, strict=True):
            values = np.asarray(values, dtype=np.float64)
            if values.shape != z.shape:
                raise ValueError(
                    f"curves[{name!r}]: {what} has the shape {values.shape}, z has {z.shape}."
                )
            if ax is right:
                values = _with_gaps(z, values)
            ax.plot(z, values, label=name, **style)
        at, height = (bounds or {}).get(name, (np.nan, np.nan))
        if z[0] <= at <= z[-1]:
            right.plot(at, height, marker="o", markersize=7, color=style["color"])
    left.set(xlabel="preactivation z", ylabel="φ(z)", title="the activation")
    right.set(xlabel="preactivation z", ylabel="φ′(z)", title="its slope")
    left.legend(fontsize="small")
    return left, right


def slope_histogram(
    slopes: Mapping[str, ArrayLike], ax: Axes | None = None, bins: int = 40
) -> Axes:
    """Draw how often each slope occurs, and the root mean square of each sample.

    Args:
        slopes: Name → slopes φ′(z) of any shape, finite.
        ax: Axes to draw on; the current ones when None.
        bins: Number of bins, common to all samples, at least 1.

    Returns:
        The Axes. Heights are shares of the sample, and a vertical line stands at √E[φ′²].

    Raises:
        ValueError: If there is no sample, one is empty or not finite, or `bins` is below 1.
    """
    if not slopes:
        raise ValueError("slopes is empty: hand over at least one sample.")
    bins = integer("bins", bins, 1)
    data = {name: np.asarray(values, dtype=np.float64).ravel() for name, values in slopes.items()}
    for name, values in data.items():
        if not values.size or not np.isfinite(values).all():
            raise ValueError(f"slopes[{name!r}] is empty or holds NaN or Inf.")
    ax = ax or plt.gca()
    every = np.concatenate(list(data.values()))
    edges = np.linspace(every.min(), max(every.max(), every.min() + 1e-9), bins + 1)
    for i, (name, values) in enumerate(data.items()):
        style = line_style(i)
        rms = np.sqrt(np.mean(values**2))
        shares = np.histogram(values, edges)[0] / values.size
        ax.stairs(shares, edges, label=f"{name}: √E[φ′²] = {rms:.3g}", linewidth=1.8, **style)
        ax.axvline(rms, linewidth=1, **style)
    ax.set(xlabel="slope φ′(z)", ylabel="share of units", ylim=(0, None))
    ax.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


def _with_gaps(z: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`values` with NaN in place of the first point after each jump.

    A jump is a change from one point to the next that is large and over 20 times as large as the
    changes on both sides of it.
    """
    change = np.abs(np.diff(values))
    if change.size < 3:
        return values
    around = np.maximum(np.append(change[1:], 0.0), np.insert(change[:-1], 0, 0.0))
    jumps = np.flatnonzero((change > 20 * around) & (change > 0.05 * np.ptp(values)))
    gapped = values.copy()
    gapped[jumps + 1] = np.nan
    return gapped
