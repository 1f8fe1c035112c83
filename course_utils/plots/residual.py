"""Pictures of residual networks: paths, lesions, shattered gradients, the map of remedies."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from numpy.typing import ArrayLike

from .style import COLORS, legend_beside, seed_bars, series

_GREY = "#8a8a8a"
_LEVELS = ((0, (1, 2)), (0, (7, 2, 1, 2)))  # dots, and dash-dot: told apart without color


def path_lengths(
    shares: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    means: Mapping[str, float] | None = None,
) -> Axes:
    """Draw through how many branches the paths lead that carry the gradient.

    Args:
        shares: Name → share of the squared gradient that came through exactly k branches, for
            k = 0, 1, …, shape (L + 1,); not negative.
        ax: Axes to draw on; the current ones when None.
        means: Name → predicted mean of k: a vertical line in the look of that curve.

    Returns:
        The Axes.

    Raises:
        ValueError: If there is no curve, a shape does not fit, a share is negative or not finite,
            or a mean has no curve.
    """
    if not shares:
        raise ValueError("shares is empty: hand over at least one curve.")
    ax = ax or plt.gca()
    means = dict(means or {})
    for i, (name, values) in enumerate(shares.items()):
        values = _finite(f"shares[{name!r}]", values, 1)
        if (values < 0).any():
            raise ValueError(f"shares[{name!r}] holds a negative share.")
        style = series(i)
        mean = means.pop(name, None)
        ax.plot(np.arange(values.size), values, markersize=3.5, label=name, **style)
        if mean is not None:
            ax.axvline(mean, color=style["color"], linestyle=style["linestyle"], linewidth=0.9)
    if means:
        raise ValueError(f"means names {', '.join(means)}, but shares has no such curve.")
    ax.set(xlabel="branches on the path, k", ylabel="share of the squared gradient", ylim=(0, None))
    ax.legend(fontsize="small")
    return ax


def correlation_by_depth(
    predicted: Mapping[str, tuple[ArrayLike, ArrayLike]],
    measured: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the correlation of two gradients against depth, both axes logarithmic.

    On these axes a power of the depth is a straight line and an exponential bends down. The ticks
    of the depth are powers of 2.

    Args:
        predicted: Name → (depths, correlations), both of shape (N,), positive: a line.
        measured: Name → (depths of shape (M,), correlations of shape (M, seeds)): markers at the
            mean, bars of one standard deviation over seeds, in the color of the line of that name.
        ax: Axes to draw on; the current ones when None.

    Returns:
        The Axes.

    Raises:
        ValueError: If there is nothing to draw, a shape does not fit, or a value is not finite.
    """
    if not predicted:
        raise ValueError("predicted is empty: hand over at least one line.")
    ax = ax or plt.gca()
    order = {name: i for i, name in enumerate(dict.fromkeys([*predicted, *(measured or {})]))}
    for name, (depths, values) in predicted.items():
        depths = _finite(f"depths of predicted[{name!r}]", depths, 1)
        values = _finite(f"predicted[{name!r}]", values, 1)
        if depths.shape != values.shape or (values <= 0).any() or (depths <= 0).any():
            raise ValueError(
                f"predicted[{name!r}] must hold as many positive correlations as positive depths; "
                f"the shapes are {depths.shape} and {values.shape}."
            )
        style = {key: value for key, value in series(order[name]).items() if key != "marker"}
        ax.loglog(depths, values, label=f"{name}, predicted", **style)
    for name, (depths, values) in (measured or {}).items():
        depths = _finite(f"depths of measured[{name!r}]", depths, 1)
        values = _finite(f"measured[{name!r}]", values, 2)
        if len(depths) != len(values):
            raise ValueError(
                f"measured[{name!r}] has the shapes {depths.shape} and {values.shape}; (M,) and "
                "(M, seeds) are expected."
            )
        seed_bars(ax, depths, values, order[name], f"{name}, measured")
    ax.set(xscale="log", yscale="log", xlabel="depth L", ylabel="correlation of two gradients")
    ax.xaxis.set_major_locator(LogLocator(base=2))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.legend(fontsize="small")
    return ax


def input_gradients(
    x: ArrayLike, gradients: Mapping[str, ArrayLike], axes: Sequence[Axes] | None = None
) -> list[Axes]:
    """Draw the slope of networks of one input against that input, one picture each.

    Each slope is divided by its root mean square, so that only the shape is compared.

    Args:
        x: Inputs, increasing, shape (N,).
        gradients: Title → slope at each input, shape (N,).
        axes: As many Axes as gradients; a new row of them when None.

    Returns:
        The Axes.

    Raises:
        ValueError: If there is nothing to draw, a shape does not fit, a slope is 0 everywhere, or
            the number of axes is another one.
    """
    if not gradients:
        raise ValueError("gradients is empty: hand over at least one.")
    if axes is None:
        size = (3.6 * len(gradients), 2.8)
        _, axes = plt.subplots(1, len(gradients), figsize=size, layout="constrained", sharey=True)
    axes = list(np.atleast_1d(np.asarray(axes, dtype=object)))
    if len(axes) != len(gradients):
        raise ValueError(f"axes holds {len(axes)} Axes for {len(gradients)} gradients.")
    x = _finite("x", x, 1)
    for ax, (title, values) in zip(axes, gradients.items(), strict=True):
        values = _finite(f"gradients[{title!r}]", values, 1)
        if values.shape != x.shape or not values.any():
            raise ValueError(
                f"gradients[{title!r}] has the shape {values.shape}: {x.shape}, not all 0, fits."
            )
        ax.plot(x, values / np.sqrt(np.mean(values**2)), color=COLORS[0], linewidth=0.9)
        ax.axhline(0, color=_GREY, linewidth=0.8)
        ax.set(xlabel="input", title=title)
    axes[0].set_ylabel("slope / its RMS")
    return axes


def lesion_accuracy(
    accuracy: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    intact: Mapping[str, float] | None = None,
    first: int = 2,
) -> Axes:
    """Draw the accuracy that is left when one layer is deleted, against that layer.

    Args:
        accuracy: Name → accuracies from 0 to 1, shape (seeds, layers): the median over seeds, and
            the range as a band.
        ax: Axes to draw on; the current ones when None.
        intact: Name → accuracy with all layers: a thin level line in its color, dotted
            for the first and dash-dotted for the second.
        first: Number of the first layer that was deleted.

    Returns:
        The Axes.

    Raises:
        ValueError: If there is no curve, a shape does not fit, or an intact one has no curve.
    """
    if not accuracy:
        raise ValueError("accuracy is empty: hand over at least one curve.")
    ax = ax or plt.gca()
    intact = dict(intact or {})
    for i, (name, values) in enumerate(accuracy.items()):
        values = _finite(f"accuracy[{name!r}]", values, 2)
        layers = first + np.arange(values.shape[1])
        style = series(i)
        ax.plot(layers, np.median(values, 0), label=f"{name}, one deleted", markersize=5, **style)
        ax.fill_between(
            layers, values.min(0), values.max(0), color=style["color"], alpha=0.2, linewidth=0
        )
        if name in intact:
            level = intact.pop(name)
            ax.axhline(
                level,
                color=style["color"],
                linestyle=_LEVELS[i % len(_LEVELS)],
                linewidth=1.5,
                label=f"{name}, all there",
            )
    if intact:
        raise ValueError(f"intact names {', '.join(intact)}, but accuracy has no such curve.")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="deleted layer", ylabel="test accuracy", ylim=(0, 1.02))
    legend_beside(ax)
    return ax


def remedy_map(
    accuracy: ArrayLike,
    gradient_ratio: ArrayLike,
    remedies: Sequence[str],
    depths: Sequence[int],
    ax: Axes | None = None,
) -> Axes:
    """Draw which remedy trains at which depth: the accuracy as a color and a number.

    Under the accuracy stands the gradient ratio at the start, first layer over last, as a power of
    ten: near 10⁰ the gradient arrives as it left, far below it has vanished, far above it exploded.

    Args:
        accuracy: From 0 to 1, shape (remedies, depths).
        gradient_ratio: ‖∂𝓛/∂h‖ at the first layer over that at the last, not negative, same shape.
            0 is shown as "0".
        remedies: Names of the rows, from top to bottom.
        depths: L of the columns.
        ax: Axes to draw on; the current ones when None.

    Returns:
        The Axes.

    Raises:
        ValueError: If the shapes differ or a value is out of range.
    """
    accuracy = _finite("accuracy", accuracy, 2)
    ratio = _finite("gradient_ratio", gradient_ratio, 2)
    shape = (len(remedies), len(depths))
    if accuracy.shape != shape or ratio.shape != shape:
        raise ValueError(
            f"accuracy and gradient_ratio have the shapes {accuracy.shape} and {ratio.shape}; "
            f"{shape} is expected: remedies, depths."
        )
    if (accuracy < 0).any() or (accuracy > 1).any() or (ratio < 0).any():
        raise ValueError("accuracy must lie between 0 and 1, and gradient_ratio must not be < 0.")
    ax = ax or plt.gca()
    image = ax.imshow(accuracy, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(shape):
        value, size = accuracy[row, column], ratio[row, column]
        ax.text(
            column,
            row,
            f"{value:.2f}\n{_power(size)}",
            ha="center",
            va="center",
            fontsize=10,
            linespacing=1.3,
            color="black" if value > 0.55 else "white",
        )
    ax.set_xticks(range(len(depths)), [str(depth) for depth in depths])
    ax.set_yticks(range(len(remedies)), list(remedies))
    ax.set(xlabel="depth L (weight layers)")
    ax.figure.colorbar(image, ax=ax, label="test accuracy", pad=0.02)
    return ax


def _power(value: float) -> str:
    """A positive number as a power of ten with one decimal."""
    if value == 0:
        return "0"
    exponent = np.log10(value)
    return f"$10^{{{0.0 if abs(exponent) < 0.05 else exponent:.1f}}}$"


def _finite(name: str, values: ArrayLike, axes: int) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != axes or not array.size or not np.isfinite(array).all():
        raise ValueError(
            f"{name} has the shape {array.shape} or holds NaN or Inf: finite numbers on "
            f"{axes} {'axis' if axes == 1 else 'axes'} are expected."
        )
    return array
