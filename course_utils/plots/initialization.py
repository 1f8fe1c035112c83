"""Pictures of the first weights: layer by layer, and over the phase diagram."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ..arguments import integer, number
from .style import COLORS, legend_beside, line_style, series


def layer_histograms(
    layers: Mapping[str, ArrayLike] | Sequence[ArrayLike],
    ax: Axes | None = None,
    reach: float = 3.0,
    bins: int = 61,
    title: str = "",
    xlabel: str = "value",
) -> Axes:
    """Draw one histogram per layer, stacked upward, all over the same values.

    Every histogram is scaled to the same height, so compare widths and places. Values beyond
    ±reach fall into the outermost bins: a spike at the border is an explosion, one in the middle a
    signal that has died.

    Args:
        layers: Name → values of one layer, any shape, finite; or a sequence, named 1, 2, ….
        ax: Axes to draw on; the current ones when None.
        reach: Half the width of the picture, above 0, in units of the values.
        bins: Number of bins, at least 3; an odd number puts 0 into the middle of one.
        title: Title of the Axes.
        xlabel: Label of the horizontal axis.

    Returns:
        The Axes; layer i stands at the height i, the first one at the bottom.

    Raises:
        ValueError: If there is no layer, one is empty or not finite, or a number is out of range.
    """
    named = dict(layers) if isinstance(layers, Mapping) else dict(enumerate(layers, start=1))
    if not named:
        raise ValueError("layers is empty: hand over at least one.")
    reach, bins = number("reach", reach, above=0), integer("bins", bins, 3)
    ax = ax or plt.gca()
    edges = np.linspace(-reach, reach, bins + 1)
    for i, (name, values) in enumerate(named.items()):
        flat = np.asarray(values, dtype=np.float64).ravel()
        if not flat.size or not np.isfinite(flat).all():
            raise ValueError(f"layers[{name!r}] is empty or holds NaN or Inf.")
        inside = np.clip(flat, edges[0], np.nextafter(edges[-1], 0))
        counts = np.histogram(inside, edges)[0]
        ax.stairs(
            i + 0.85 * counts / counts.max(),
            edges,
            baseline=i,
            fill=True,
            facecolor=COLORS[5],
            edgecolor=COLORS[0],
            linewidth=0.8,
            alpha=0.9,
        )
    ax.set_yticks(np.arange(len(named)) + 0.1, [str(name) for name in named])
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel=xlabel, ylabel="layer l", title=title, xlim=(-reach, reach), ylim=(0, len(named)))
    return ax


def phase_diagram(
    edges: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    points: Mapping[str, tuple[float, float]] | None = None,
    xlim: tuple[float, float] = (0.0, 4.0),
    ylim: tuple[float, float] = (0.0, 0.5),
) -> Axes:
    """Draw the edge of chaos in the plane of the two variances, and networks as points.

    Args:
        edges: Name → points (σ_w², σ_b²) along the line χ₁ = 1, shape (k, 2). The sides of the
            first one are named.
        ax: Axes to draw on; the current ones when None.
        points: Name → (σ_w², σ_b²) of a network; the i-th has the color and the marker of the
            i-th curve of `curves`, so that both panels of a figure tell the same networks apart.
        xlim: Range of σ_w².
        ylim: Range of σ_b².

    Returns:
        The Axes.
    """
    ax = ax or plt.gca()
    for i, (name, line) in enumerate(edges.items()):
        line = np.asarray(line, dtype=np.float64)
        style = line_style(i) | {"color": "black"}
        ax.plot(*line.T, linewidth=2, label=f"edge of chaos, {name}", **style)
        if i == 0:
            ax.fill_betweenx(
                line[:, 1], xlim[0], line[:, 0], facecolor="none", edgecolor="#d0d0d0", hatch="//"
            )
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.9}
    for x, side, text in (
        (0.03, "left", "ordered:\ngradients vanish"),
        (0.97, "right", "chaotic:\ngradients explode"),
    ):
        ax.text(x, 0.5, text, transform=ax.transAxes, ha=side, va="center", bbox=box)
    for i, (name, point) in enumerate((points or {}).items()):
        look = series(i) | {"linestyle": "none", "label": name}
        ax.plot(*point, **look, markersize=9, clip_on=False, zorder=5)
    ax.set(xlabel="weight variance σ_w² (times fan_in)", ylabel="bias variance σ_b²")
    ax.set(xlim=xlim, ylim=ylim)
    legend_beside(ax)
    return ax
