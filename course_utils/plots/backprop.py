"""Pictures of backpropagation: graphs, factors per layer, step errors, losses and their slopes."""

from collections.abc import Iterable, Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from .style import COLORS, legend_beside, series

_GREY = "#8a8a8a"


def graph_diagram(
    nodes: Mapping[str, tuple[float, float]],
    edges: Mapping[tuple[str, str], str],
    ax: Axes | None = None,
    labels: Mapping[str, str] | None = None,
    highlight: Iterable[tuple[str, str]] = (),
) -> Axes:
    """Draw a computation graph: nodes as circles, edges as arrows with a label on each.

    Args:
        nodes: Name → position (x, y) of its center. Neighbors should be 1 or more apart.
        edges: (tail, head) → what is written on the arrow, usually its local derivative.
        ax: Axes to draw on; the current ones when None. They are switched off.
        labels: Name → text inside the circle; the name where it is left out.
        highlight: Edges to draw thick and in color.

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
        start, stop = (np.asarray(nodes[end], dtype=np.float64) for end in (tail, head))
        on = (tail, head) in marked
        color = COLORS[1] if on else _GREY
        ax.annotate(
            "",
            stop,
            start,
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
            start + 0.5 * (stop - start),
            color=COLORS[1] if on else COLORS[6],
            ha="center",
            va="center",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
        )
    x, y = np.array(list(nodes.values()), dtype=np.float64).T
    ax.scatter(x, y, s=3200, facecolor="white", edgecolor=COLORS[0], linewidth=2, zorder=3)
    for name, (cx, cy) in nodes.items():
        ax.text(cx, cy, labels.get(name, name), ha="center", va="center", zorder=4)
    ax.set(xlim=(x.min() - 0.4, x.max() + 0.4), ylim=(y.min() - 0.6, y.max() + 0.6))
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
        ax.bar(
            layers + offset,
            values - 1,
            bottom=1,
            width=0.38,
            color=color,
            edgecolor=COLORS[6],
            hatch=hatch,
            label=name,
        )
    ax.plot(layers, slope * weight, "o", color=COLORS[6], label="both")
    ax.axhline(1, color=COLORS[6], linewidth=0.8)
    ax.set(xlabel="layer l", ylabel="factor of RMS δ, one layer back", title=title, xticks=layers)
    ax.legend(fontsize="small")
    return ax


def step_errors(
    steps: ArrayLike,
    errors: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    slopes: Iterable[tuple[float, float, float]] = (),
    best: Mapping[str, float] | None = None,
) -> Axes:
    """Draw the error of a numerical derivative against its step, both axes logarithmic.

    An error of exactly 0 is marked by a triangle at the lower border.

    Args:
        steps: Steps s, above 0, shape (n,).
        errors: Name → relative errors, at least 0, shape (n,).
        ax: Axes to draw on; the current ones when None.
        slopes: Guides (slope, s, error): a thin line of that slope through that point, one and
            a half decades long either way.
        best: Name → predicted best step, drawn as a vertical line in the color of that curve.

    Returns:
        The Axes.

    Raises:
        ValueError: If a curve has not one error per step, or `best` names no curve.
    """
    ax = ax or plt.gca()
    steps = np.asarray(steps, dtype=np.float64)
    best = dict(best or {})
    for i, (name, values) in enumerate(errors.items()):
        values = np.asarray(values, dtype=np.float64)
        if values.shape != steps.shape:
            raise ValueError(
                f"errors[{name!r}] has the shape {values.shape}; {steps.shape} is expected, one "
                "per step."
            )
        style = series(i) | {"markersize": 3.5}
        ax.loglog(steps, np.where(values > 0, values, np.nan), label=name, **style)
        zero = values == 0
        if zero.any():
            ax.plot(
                steps[zero],
                np.full(zero.sum(), 0.03),
                "v",
                color=style["color"],
                transform=ax.get_xaxis_transform(),
                label=f"{name}: error 0",
            )
        if name in best:
            ax.axvline(
                best.pop(name),
                color=style["color"],
                linestyle=style["linestyle"],
                alpha=0.6,
                label=f"best step, {name}",
            )
    if best:
        raise ValueError(f"best names {', '.join(best)}, but errors has no such name.")
    for slope, at, error in slopes:
        reach = np.array([10**-1.5, 1, 10**1.5])
        ax.plot(at * reach, error * reach**slope, color=_GREY, linewidth=1, label="_guide")
        rising = slope > 0
        ax.annotate(
            f"slope {slope:g}".replace("-", "−"),
            (at * reach[2], error * reach[2] ** slope) if rising else (at, error),
            xytext=(5, 0) if rising else (-6, -2),
            textcoords="offset points",
            ha="left" if rising else "right",
            va="center" if rising else "top",
            color=_GREY,
        )
    ax.set(xlabel="step s", ylabel="relative error of the derivative")
    ax.legend(fontsize="small", loc="lower right")
    return ax


def loss_slopes(
    z: ArrayLike, slopes: Mapping[str, ArrayLike], ax: Axes | None = None, mark: float | None = None
) -> Axes:
    """Draw the size of the gradient that each loss sends back, against the preactivation z.

    Args:
        z: Preactivations of the output unit, shape (n,).
        slopes: Name of the loss → ∂𝓛/∂z, shape (n,); the absolute value is drawn on a log axis.
        ax: Axes to draw on; the current ones when None.
        mark: A z to draw as a vertical line.

    Returns:
        The Axes.

    Raises:
        ValueError: If a curve has not one value per z.
    """
    ax = ax or plt.gca()
    z = np.asarray(z, dtype=np.float64)
    for i, (name, values) in enumerate(slopes.items()):
        values = np.abs(_one_per_point(f"slopes[{name!r}]", values, z))
        style = series(i)
        style.pop("marker")
        ax.semilogy(z, np.where(values > 0, values, np.nan), label=name, **style)
    if mark is not None:
        ax.axvline(mark, color=_GREY, linewidth=1)
    ax.set(
        xlabel="z of the output unit (target y = 1)", ylabel=r"$|\partial\mathcal{L}/\partial z|$"
    )
    ax.legend()
    return ax


def expected_losses(
    p: ArrayLike, losses: Mapping[str, ArrayLike], truth: float, ax: Axes | None = None
) -> Axes:
    """Draw expected losses against the predicted probability, with a dot at each minimum.

    Args:
        p: Predicted probabilities, shape (n,).
        losses: Name → expected loss at each p, shape (n,).
        truth: The true probability, drawn as a vertical line.
        ax: Axes to draw on; the current ones when None.

    Returns:
        The Axes.

    Raises:
        ValueError: If a curve has not one value per p.
    """
    ax = ax or plt.gca()
    p = np.asarray(p, dtype=np.float64)
    for i, (name, values) in enumerate(losses.items()):
        values = _one_per_point(f"losses[{name!r}]", values, p)
        style = series(i)
        marker = style.pop("marker")
        ax.plot(p, values, label=name, **style)
        lowest = int(np.argmin(values))
        ax.plot(
            p[lowest], values[lowest], marker, color=style["color"], markersize=8, label="_minimum"
        )
    ax.axvline(truth, color=_GREY, linewidth=1)
    ax.set(xlabel="predicted probability p", ylabel="expected loss")
    ax.legend()
    return ax


def lr_scan(
    lr: ArrayLike,
    before: ArrayLike,
    after: ArrayLike,
    ax: Axes | None = None,
    limit: float | None = None,
    floor: float | None = None,
) -> Axes:
    """Draw the loss after training against the learning rate, one dot per run, both axes log.

    A run that ended in NaN or Inf is a cross on the upper border.

    Args:
        lr: Learning rates, shape (n,).
        before: Loss before training, shape (seeds,); its mean is a dotted line.
        after: Loss after training, shape (n, seeds).
        ax: Axes to draw on; the current ones when None.
        limit: Predicted largest stable learning rate, drawn as a vertical line.
        floor: A loss to draw as a horizontal line, for example that of an output of zero.

    Returns:
        The Axes.

    Raises:
        ValueError: If the shapes do not fit.
    """
    lr, before, after = (np.asarray(v, dtype=np.float64) for v in (lr, before, after))
    if after.shape != (lr.size, before.size):
        raise ValueError(
            f"after has the shape {after.shape}; ({lr.size}, {before.size}) is expected: one row "
            "per learning rate, one column per seed."
        )
    ax = ax or plt.gca()
    rates = np.broadcast_to(lr[:, None], after.shape)
    finite = np.isfinite(after)
    ax.loglog(
        rates[finite], after[finite], "o", color=COLORS[0], markersize=4, label="after training"
    )
    if (~finite).any():
        ax.plot(
            rates[~finite],
            np.full((~finite).sum(), 1.0),
            "x",
            color=COLORS[1],
            clip_on=False,
            transform=ax.get_xaxis_transform(),
            label="diverged",
        )
    ax.axhline(before.mean(), color=_GREY, linestyle=":", label="before training")
    if floor is not None:
        ax.axhline(floor, color=COLORS[2], linestyle="-.", label="output 0")
    if limit is not None:
        ax.axvline(limit, color=COLORS[6], linestyle="--", linewidth=1.2, label="predicted limit")
    ax.set(xlabel="learning rate η", ylabel="loss")
    legend_beside(ax)
    return ax


def _one_per_point(name: str, values: ArrayLike, points: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.shape != points.shape:
        raise ValueError(
            f"{name} has the shape {values.shape}; {points.shape} is expected, one value per point."
        )
    return values
