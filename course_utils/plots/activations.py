"""Pictures of activations: the function beside its slope, slopes that are met, phases, deaths."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike

from .style import COLORS, series

_GREY = "#8a8a8a"


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
        ax.axhline(0, color=_GREY, linewidth=0.8)
        ax.axvline(0, color=_GREY, linewidth=0.8)
    for i, (name, pair) in enumerate(curves.items()):
        style = {key: value for key, value in series(i).items() if key != "marker"}
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
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins={bins!r} must be an integer of at least 1.")
    data = {name: np.asarray(values, dtype=np.float64).ravel() for name, values in slopes.items()}
    for name, values in data.items():
        if not values.size or not np.isfinite(values).all():
            raise ValueError(f"slopes[{name!r}] is empty or holds NaN or Inf.")
    ax = ax or plt.gca()
    every = np.concatenate(list(data.values()))
    edges = np.linspace(every.min(), max(every.max(), every.min() + 1e-9), bins + 1)
    for i, (name, values) in enumerate(data.items()):
        style = {key: value for key, value in series(i).items() if key != "marker"}
        rms = np.sqrt(np.mean(values**2))
        shares = np.histogram(values, edges)[0] / values.size
        ax.stairs(shares, edges, label=f"{name}: √E[φ′²] = {rms:.3g}", linewidth=1.8, **style)
        ax.axvline(rms, linewidth=1, **style)
    ax.set(xlabel="slope φ′(z)", ylabel="share of units", ylim=(0, None))
    ax.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


def width_phases(
    widths: ArrayLike,
    predicted: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    measured: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    border: float | None = None,
) -> Axes:
    """Draw the factor per layer against the width of the network: where it vanishes or explodes.

    Args:
        widths: n, increasing, shape (N,).
        predicted: Name → factor of the gradient norm per layer, shape (N,).
        ax: Axes to draw on; the current ones when None.
        measured: Widths, mean factors and their standard deviations over seeds, each (M,).
        border: Width at which the factor is 1: a vertical line. Left of it the ground is hatched.

    Returns:
        The Axes, both of them logarithmic.

    Raises:
        ValueError: If a shape does not fit, or a width or factor is not positive.
    """
    widths = np.asarray(widths, dtype=np.float64)
    if widths.ndim != 1 or not widths.size or not (widths > 0).all():
        raise ValueError(f"widths={widths!r} must be positive numbers of shape (N,).")
    ax = ax or plt.gca()
    for i, (name, values) in enumerate(predicted.items()):
        values = np.asarray(values, dtype=np.float64)
        if values.shape != widths.shape or not (values > 0).all():
            raise ValueError(
                f"predicted[{name!r}] has the shape {values.shape}; positive factors of the shape "
                f"{widths.shape} of widths are expected."
            )
        style = {key: value for key, value in series(i).items() if key != "marker"}
        ax.loglog(widths, values, label=name, **style)
    if measured is not None:
        n, mean, spread = (np.asarray(part, dtype=np.float64) for part in measured)
        if not n.shape == mean.shape == spread.shape or n.ndim != 1:
            raise ValueError("measured must be three arrays (M,): widths, means, deviations.")
        ax.errorbar(
            n,
            mean,
            yerr=spread,
            fmt="o",
            color=COLORS[6],
            capsize=3,
            label="measured ± spread over seeds",
        )
    ax.axhline(1, color=_GREY, linewidth=0.8)
    if border is not None:
        ax.axvline(border, color=_GREY, linestyle="--", linewidth=1.2)
        ax.axvspan(widths[0], border, facecolor="none", edgecolor="#d0d0d0", hatch="//", zorder=0)
        ax.set_xlim(widths[0], widths[-1])
        across = ax.get_xaxis_transform()
        for x, side, text in (
            (border * 0.93, "right", "vanishes"),
            (border * 1.07, "left", "explodes"),
        ):
            ax.text(x, 0.04, text, ha=side, transform=across, bbox={"facecolor": "white", "lw": 0})
    for which in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        which(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set(xlabel="width n of the layers", ylabel="factor of g per layer")
    ax.legend(fontsize="small")
    return ax


def share_by_layer(
    shares: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    expected: float | None = None,
    ylabel: str = "share of units",
) -> Axes:
    """Draw a share of the units against the layer, mean over seeds with its spread.

    Args:
        shares: Name → shares from 0 to 1, shape (seeds, L), layer 1 first.
        ax: Axes to draw on; the current ones when None.
        expected: A predicted share, drawn as a horizontal line.
        ylabel: Label of the vertical axis.

    Returns:
        The Axes. The band is one standard deviation over the seeds on either side.

    Raises:
        ValueError: If there is no entry, or one has not exactly two axes.
    """
    if not shares:
        raise ValueError("shares is empty: hand over at least one array.")
    ax = ax or plt.gca()
    for i, (name, values) in enumerate(shares.items()):
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2 or not values.size:
            raise ValueError(
                f"shares[{name!r}] has the shape {values.shape}; (seeds, L) is expected."
            )
        layers = np.arange(1, values.shape[1] + 1)
        mean, spread = values.mean(0), values.std(0)
        ax.plot(layers, mean, label=name, markersize=4, **series(i))
        ax.fill_between(layers, mean - spread, mean + spread, color=series(i)["color"], alpha=0.15)
    if expected is not None:
        ax.axhline(expected, color=_GREY, linestyle="--", label=f"predicted {expected:.3g}")
    ax.set(xlabel="layer l", ylabel=ylabel, ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(fontsize="small")
    return ax


def share_by_lr(lr: ArrayLike, shares: Mapping[str, ArrayLike], ax: Axes | None = None) -> Axes:
    """Draw shares against the learning rate: one mark per run, a line through the means.

    Args:
        lr: Learning rates η, positive, shape (N,).
        shares: Name → shares from 0 to 1 of the runs at each rate, shape (N, runs).
        ax: Axes to draw on; the current ones when None.

    Returns:
        The Axes, the learning rate on a log scale.

    Raises:
        ValueError: If there is no entry, a rate is not positive, or a shape does not fit.
    """
    lr = np.asarray(lr, dtype=np.float64)
    if lr.ndim != 1 or not lr.size or not (lr > 0).all():
        raise ValueError(f"lr={lr!r} must be positive numbers of shape (N,).")
    if not shares:
        raise ValueError("shares is empty: hand over at least one array.")
    ax = ax or plt.gca()
    for i, (name, values) in enumerate(shares.items()):
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2 or len(values) != lr.size or not values.size:
            raise ValueError(
                f"shares[{name!r}] has the shape {values.shape}; ({lr.size}, runs) is expected, "
                "one row per learning rate."
            )
        style = series(i)
        line = {key: style[key] for key in ("color", "linestyle")}
        ax.plot(lr, values.mean(1), label=name, **line)
        each = {"linestyle": "none", "marker": style["marker"], "markersize": 5}
        ax.plot(np.repeat(lr, values.shape[1]), values.ravel(), color=style["color"], **each)
    ax.set(xlabel="learning rate η", ylabel="share", xscale="log", ylim=(-0.03, 1.03))
    ax.legend(fontsize="small", loc="center left")
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
