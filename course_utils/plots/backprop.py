"""Pictures of backpropagation: a computation graph, and what each layer multiplies by."""

from collections.abc import Iterable, Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from .style import COLORS, GREY


def graph_diagram(
    nodes: Mapping[str, tuple[float, float]],
    edges: Mapping[tuple[str, str], str],
    ax: Axes | None = None,
    labels: Mapping[str, str] | None = None,
    highlight: Iterable[tuple[str, str]] = (),
    label_at: float = 0.5,
) -> Axes:
    """Draw a computation graph: nodes as circles, edges as arrows with a label on each.

    Args:
        nodes: Name → position (x, y) of its center. Neighbors should be 1 or more apart.
        edges: (tail, head) → what is written on the arrow, usually its local derivative.
        ax: Axes to draw on; the current ones when None. They are switched off.
        labels: Name → text inside the circle; the name where it is left out.
        highlight: Edges to draw thick and in color.
        label_at: Where on its arrow a label stands, from 0 (tail) to 1 (head). Labels of arrows
            that cross in their middle are apart at 0.3.

    Returns:
        The Axes.

    Raises:
        ValueError: If an edge names a node that is not there, or `highlight` an edge that is not.
    """
    ax = ax or plt.gca()
    labels, marked = dict(labels or {}), set(highlight)
    for tail, head in edges:
        for end in (tail, head):
            if end not in nodes:
                raise ValueError(
                    f"edges holds ({tail!r}, {head!r}), but there is no node {end!r}: the nodes "
                    f"are {', '.join(nodes)}."
                )
    if missing := marked - set(edges):
        raise ValueError(f"highlight holds {sorted(missing)}, which is not among the edges.")
    for (tail, head), text in edges.items():
        (x, y), (x_head, y_head) = nodes[tail], nodes[head]
        on = (tail, head) in marked
        color = COLORS[1] if on else GREY
        ax.annotate(
            "",
            (x_head, y_head),
            (x, y),
            arrowprops={
                "arrowstyle": "-|>",
                "color": color,
                "linewidth": 3 if on else 1.5,
                "shrinkA": 29,
                "shrinkB": 29,
            },
        )
        ax.annotate(
            text,
            (x + label_at * (x_head - x), y + label_at * (y_head - y)),
            color=COLORS[1] if on else COLORS[6],
            ha="center",
            va="center",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
        )
    across, up = np.array(list(nodes.values()), dtype=np.float64).T
    ax.scatter(across, up, s=3200, facecolor="white", edgecolor=COLORS[0], linewidth=2, zorder=3)
    for name, (cx, cy) in nodes.items():
        ax.text(cx, cy, labels.get(name, name), ha="center", va="center", zorder=4)
    ax.set(xlim=(across.min() - 0.4, across.max() + 0.4))
    ax.set(ylim=(up.min() - 0.6, up.max() + 0.6))
    ax.set_axis_off()
    return ax


def layer_factors(
    slope_factor: ArrayLike, weight_factor: ArrayLike, ax: Axes | None = None, title: str = ""
) -> Axes:
    """Draw what each layer multiplies the gradient by on its way back, split in two.

    Two bars per layer on a log axis that start at 1: the weights' part and the slopes' part. Their
    product, the factor of the whole layer, is a black dot.

    Args:
        slope_factor: What φ′ contributes, above 0, shape (layers,), input side first.
        weight_factor: What Wᵀ contributes, above 0, shape (layers,).
        ax: Axes to draw on; the current ones when None.
        title: Title of the Axes.

    Returns:
        The Axes.

    Raises:
        ValueError: If the shapes differ, or a factor is not a positive finite number.
    """
    slope = np.asarray(slope_factor, dtype=np.float64)
    weight = np.asarray(weight_factor, dtype=np.float64)
    if slope.shape != weight.shape or slope.ndim != 1:
        raise ValueError(
            f"slope_factor has the shape {slope.shape}, weight_factor {weight.shape}; both should "
            "be (layers,)."
        )
    for name, values in (("slope_factor", slope), ("weight_factor", weight)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"{name}={values} must be positive and finite to stand on a log axis.")
    ax = ax or plt.gca()
    layers = np.arange(1, slope.size + 1)
    ax.set_yscale("log")
    for offset, values, name, color, hatch in (
        (-0.2, weight, "weights Wᵀ", COLORS[5], ""),
        (0.2, slope, "slopes φ′", COLORS[1], "//"),
    ):
        bars = ax.bar(layers + offset, values - 1, 0.38, 1, color=color, hatch=hatch, label=name)
        plt.setp(bars, edgecolor=COLORS[6])
    ax.plot(layers, slope * weight, "o", color=COLORS[6], label="both")
    ax.axhline(1, color=COLORS[6], linewidth=0.8)
    ax.set(xlabel="layer l", ylabel="factor of RMS δ, one layer back", title=title, xticks=layers)
    ax.legend(fontsize="small")
    return ax


def running_product(
    factors: Mapping[str, float], ax: Axes | None = None, title: str = "", log: bool = True
) -> Axes:
    """Draw a product factor by factor, as a chain of bars.

    Each bar reaches from the product so far to the product with its factor: down for a factor
    below 1, plain, and up for one above 1, hatched. A step line joins the bars.

    Args:
        factors: What is written under the bar → the factor, above 0, in the order in which they
            are multiplied.
        ax: Axes to draw on; the current ones when None.
        title: Title of the Axes.
        log: Whether the vertical axis is logarithmic: equal factors are then equal steps.

    Returns:
        The Axes.

    Raises:
        ValueError: If there is no factor, or one that is not positive and finite.

    >>> ax = running_product({"first": 0.5, "second": 0.25})
    >>> ax.lines[0].get_ydata().tolist()
    [1.0, 0.5, 0.125]
    >>> plt.close(ax.figure)
    """
    values = np.asarray(list(factors.values()), dtype=np.float64)
    if not values.size or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"factors={dict(factors)} must hold positive finite numbers.")
    ax = ax or plt.gca()
    if log:
        ax.set_yscale("log")
    product = np.concatenate([[1.0], np.cumprod(values)])
    places = np.arange(1, product.size)
    for rising, color, hatch in ((False, COLORS[5], ""), (True, COLORS[1], "//")):
        of = (values > 1) == rising
        bars = ax.bar(places[of], np.diff(product)[of], 0.7, product[:-1][of], color=color)
        plt.setp(bars, edgecolor=COLORS[6], hatch=hatch)
        for bar in bars:
            bar.sticky_edges.y.clear()  # else the axis may end where a bar begins
    ax.step(np.arange(product.size), product, where="post", color=COLORS[6], linewidth=0.8)
    ax.axhline(1, color=GREY, linewidth=0.8)
    ax.set_xticks(places, list(factors))
    ax.set(ylabel="product so far", title=title)
    return ax
