"""Pictures of activations: functions beside their slopes, slopes that are met, a value per unit."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
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
    z = _increasing(z)
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
            values = _fitting(name, what, z, values)
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


def activation_panels(
    z: ArrayLike,
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    bounds: Mapping[str, tuple[float, float]] | None = None,
    columns: int = 5,
) -> np.ndarray:
    """Draw each activation in a panel of its own: φ as a solid line, φ′ as a dashed one.

    Args:
        z: Preactivations, increasing, shape (N,). A slope that jumps between two of them is drawn
            with a gap.
        curves: Name → (φ(z), φ′(z)), each of shape (N,).
        bounds: Name → (z, φ′(z)) where a slope is largest, marked by a dot and said in the title.
            A place outside the range of `z` gets no dot.
        columns: Panels in a row, at least 1.

    Returns:
        The Axes, one for each curve, in their order.

    Raises:
        ValueError: If there is no curve, or a shape does not fit.
    """
    z, columns = _increasing(z), integer("columns", columns, 1)
    if not curves:
        raise ValueError("curves is empty: hand over at least one activation.")
    columns = min(columns, len(curves))
    rows = -(-len(curves) // columns)
    size = (2.3 * columns, 2.1 * rows)
    figure, grid = plt.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, sharex=True, sharey=True
    )
    panels = grid.ravel()
    for ax, (name, (values, slopes)) in zip(panels, curves.items(), strict=False):
        ax.axhline(0, color=GREY, linewidth=0.8)
        ax.axvline(0, color=GREY, linewidth=0.8)
        ax.plot(z, _fitting(name, "φ", z, values), label="φ(z)", **line_style(0))
        jumps = _with_gaps(z, _fitting(name, "φ′", z, slopes))
        ax.plot(z, jumps, label="φ′(z)", **line_style(1))
        at, height = (bounds or {}).get(name, (np.nan, np.nan))
        if z[0] <= at <= z[-1]:
            ax.plot(at, height, marker="o", color=line_style(1)["color"])
        ax.set_title(name if np.isnan(height) else f"{name}: ≤ {height:.4g}", fontsize="small")
        ax.tick_params(labelsize="small")
    for ax in panels[len(curves) :]:
        ax.remove()
    figure.supxlabel("preactivation z", fontsize="small")
    lines = panels[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside upper center", ncols=2, fontsize="small", frameon=False)
    return panels[: len(curves)]


def unit_map(
    values: ArrayLike,
    ax: Axes | None = None,
    title: str = "",
    limits: tuple[float, float] | None = None,
    label: str = "|δ|",
) -> Axes:
    """Draw the size of one number per unit and layer as a map of colors on a log scale.

    What is exactly 0 has no color: it stays white.

    Args:
        values: One number per layer and unit, the layer nearest to the input first, shape (L, n),
            finite.
        ax: Axes to draw on; the current ones when None.
        title: Title of the Axes.
        limits: Sizes at the two ends of the color scale, above 0; those of the values when None.
        label: What the colors mean.

    Returns:
        The Axes, layer 1 at the bottom, with a color bar.

    Raises:
        ValueError: If `values` has another shape, is not finite, or is 0 everywhere while no
            `limits` are given.
    """
    sizes = np.abs(np.asarray(values, dtype=np.float64))
    if sizes.ndim != 2 or not sizes.size or not np.isfinite(sizes).all():
        raise ValueError(f"values has the shape {sizes.shape}; a finite (layers, units) is due.")
    if limits is None and not sizes.any():
        raise ValueError("values is 0 everywhere: hand over the limits of the color scale.")
    ax = ax or plt.gca()
    masked = np.ma.masked_equal(sizes, 0)
    low, high = limits or (float(masked.min()), float(masked.max()))
    layers = len(sizes)
    image = ax.imshow(
        masked,
        norm=LogNorm(low, max(high, low * 1.001)),
        aspect="auto",
        origin="lower",
        interpolation="none",
        extent=(0.5, sizes.shape[1] + 0.5, 0.5, layers + 0.5),
    )
    plt.colorbar(image, ax=ax, label=label)
    ax.set(xlabel="unit", ylabel="layer l", title=title, yticks=range(1, layers + 1))
    return ax


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


def _increasing(z: ArrayLike) -> np.ndarray:
    z = np.asarray(z, dtype=np.float64)
    if z.ndim != 1 or z.size < 2 or not (np.diff(z) > 0).all():
        raise ValueError(f"z has the shape {z.shape}; an increasing (N,) is expected, N ≥ 2.")
    return z


def _fitting(name: str, what: str, z: np.ndarray, values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.shape != z.shape:
        raise ValueError(f"curves[{name!r}]: {what} has the shape {values.shape}, z has {z.shape}.")
    return values


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
