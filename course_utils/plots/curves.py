"""The plot of most figures: named curves over x, over several seeds, beside what was predicted."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from ..arguments import one_of
from .style import COLORS, legend, line_style, marked_line, series

Values = ArrayLike | tuple[ArrayLike, ArrayLike]

_MARKS = 12
"""About so many markers on a line; they tell lines apart without color."""

_DASHES = ((0, (6, 3)), (0, (1, 2)), (0, (6, 2, 1, 2)), (0, (10, 3)), (0, (3, 3)), (0, (1, 4)))
"""Black lines that belong to no curve."""


def curves(
    x: ArrayLike | None,
    lines: Mapping[str, Values],
    ax: Axes | None = None,
    *,
    xlabel: str | None = None,
    ylabel: str | None = None,
    predicted: Mapping[str, Values | float] | None = None,
    limits: Mapping[str, float] | None = None,
    spread: str = "range",
    log: str = "y",
) -> Axes:
    """Draw named curves over x: of one run or of several seeds, beside what was predicted.

    What an axis cannot show is marked instead of dropped: 0 and below on a log axis by a triangle
    at the lower edge, Inf by a triangle and NaN by a cross at the upper one.

    Args:
        x: Where the values lie, shape (N,); 0, 1, 2, … when None.
        lines: Name → values, shape (N,), or (seeds, N) for several seeds. A curve with an x of its
            own is a tuple (x, values).
        ax: Axes to draw on; the current ones when None.
        xlabel: Label of the horizontal axis, with its unit where it has one; the one that is
            there when None.
        ylabel: Label of the vertical axis; the one that is there when None.
        predicted: Name → what theory says: values of the shape (N,), a tuple (x, values), or one
            number, a level. A line is black, and the curve of the same name is drawn as points
            about it. A level is dotted in the color of the curve of its name, and black and dashed
            under any other name.
        limits: Name → a place on the horizontal axis: a vertical line in the look of the curve of
            that name, black and dashed under any other name.
        spread: "range" draws the mean over seeds and the range from the lowest to the highest, as
            bars about up to 12 values or points, else as a band. "runs" draws one thin line per
            seed.
        log: The logarithmic axes: "y", "x", "xy" or "". Whole numbers on a log x axis have their
            ticks at powers of 2.

    Returns:
        The Axes.

    Raises:
        ValueError: If there is no curve, a shape does not fit, an x of a log axis is not above 0,
            or `spread` or `log` is unknown.

    >>> ax = curves(None, {"loss": [4, 2, 1]}, xlabel="step", ylabel="loss")
    >>> ax.lines[0].get_ydata().tolist()
    [4.0, 2.0, 1.0]
    >>> plt.close(ax.figure)
    """
    if not lines:
        raise ValueError("lines is empty: hand over at least one curve, name → values.")
    one_of("spread", spread, ("range", "runs"))
    one_of("log", log, ("y", "x", "xy", ""))
    data = {name: _points(f"lines[{name!r}]", x, values) for name, values in lines.items()}
    if "x" in log and any((at <= 0).any() for at, _ in data.values()):
        raise ValueError("x must be above 0 on a log axis: number layers and steps from 1.")
    theory, levels = _lines_and_levels(x, predicted or {})
    ax = ax or plt.gca()
    whole = all((at == at.round()).all() for at, _ in data.values())
    _scale(ax, log, whole)
    for i, (name, (at, values)) in enumerate(data.items()):
        look = series(i) | {"label": name, "points": name in theory}
        if name in theory:
            look |= {"linestyle": "none"}
        (_draw_runs if spread == "runs" else _draw_mean)(ax, at, values, **look)
    _draw_predictions(ax, list(data), theory, levels, dict(limits or {}))
    ax.set(xlabel=xlabel or ax.get_xlabel(), ylabel=ylabel or ax.get_ylabel())
    legend(ax)
    return ax


def _points(name: str, x: ArrayLike | None, values: Values) -> tuple[np.ndarray, np.ndarray]:
    """Places (N,) and values (seeds, N) of a curve."""
    if isinstance(values, tuple) and len(values) == 2 and np.ndim(values[0]) == 1:
        x, values = values
    y = np.asarray(values, dtype=np.float64)
    if y.ndim not in (1, 2) or not y.size:
        raise ValueError(f"{name} has the shape {y.shape}; (N,) or (seeds, N) is expected.")
    y = np.atleast_2d(y)
    at = np.arange(y.shape[1]) if x is None else np.asarray(x, dtype=np.float64)
    if at.shape != y.shape[1:]:
        raise ValueError(
            f"{name} holds {y.shape[1]} values, but x has the shape {at.shape}: hand over one "
            "value per x, seeds in rows, or a tuple (x, values) for a curve with an x of its own."
        )
    return at, y


def _lines_and_levels(
    x: ArrayLike | None, predicted: Mapping[str, Values | float]
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, float]]:
    """What was predicted at places, (N,) and (N,), and as one number."""
    lines, levels = {}, {}
    for name, values in predicted.items():
        if not isinstance(values, tuple) and np.ndim(values) == 0:
            levels[name] = np.asarray(values, dtype=np.float64).item()
            continue
        at, rows = _points(f"predicted[{name!r}]", x, values)
        if len(rows) > 1:
            raise ValueError(f"predicted[{name!r}] has {len(rows)} rows: one line is expected.")
        lines[name] = at, rows[0]
    return lines, levels


def _scale(ax: Axes, log: str, whole: bool) -> None:
    if "y" in log:
        ax.set_yscale("log")
    if "x" in log:
        ax.set_xscale("log", base=2 if whole else 10)
        if whole:
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_locator(NullLocator())
    elif whole:
        ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))


def _draw_mean(ax: Axes, x: np.ndarray, values: np.ndarray, *, points: bool, **look) -> None:
    """The mean over seeds, and their range as bars about few values and as a band about many."""
    with np.errstate(over="ignore", invalid="ignore"):  # Inf − Inf is NaN and is marked as such
        mean, low, high = values.mean(0), values.min(0), values.max(0)
    every = 1 if points else max(1, x.size // _MARKS)
    marked_line(ax, x, mean, markersize=4.5, markevery=every, **look)
    mean, low, high = (np.where(np.isfinite(part), part, np.nan) for part in (mean, low, high))
    if len(values) == 1:
        return
    if points or x.size <= _MARKS:
        reach = np.stack([mean - low, high - mean])
        ax.errorbar(x, mean, yerr=reach, fmt="none", ecolor=look["color"], capsize=3)
    else:
        ax.fill_between(x, low, high, color=look["color"], alpha=0.2, linewidth=0)


def _draw_runs(ax: Axes, x: np.ndarray, values: np.ndarray, *, points: bool, **look) -> None:
    """One thin line, or one row of points, per seed."""
    look |= {"markevery": 1 if points else max(1, x.size // _MARKS), "markersize": 4}
    if x.size > _MARKS and not points:
        look |= {"marker": None}
    look |= {"linewidth": 0.9} if len(values) <= _MARKS else {"linewidth": 0.7, "alpha": 0.5}
    name = look.pop("label")
    for i, run in enumerate(values):
        marked_line(ax, x, run, label=f"_{name}" if i else name, **look)


def _draw_predictions(
    ax: Axes,
    names: list[str],
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    levels: Mapping[str, float],
    limits: Mapping[str, float],
) -> None:
    """What was predicted: of a curve in its look, all else in black dashes of its own."""
    own = [name for name in [*limits, *lines, *levels] if name not in names]
    looks: dict[str, dict[str, Any]] = {
        name: {"color": COLORS[6], "linewidth": 1.5, "linestyle": _DASHES[i % len(_DASHES)]}
        for i, name in enumerate(dict.fromkeys(own))
    }
    looks |= {name: line_style(i) | {"linewidth": 1.2} for i, name in enumerate(names)}
    behind = {name: look | {"linewidth": 1.0, "zorder": 1.5} for name, look in looks.items()}
    label = {name: f"{name}, predicted" if name in names else name for name in looks}
    known = False
    for name, (x, values) in lines.items():
        if name in names:  # one entry of the legend for all of them
            look: dict[str, Any] = {"color": COLORS[6], "linewidth": 1.2, "zorder": 1.9}
            look["label"] = "_predicted" if known else "predicted"
            known = True
        else:
            look = looks[name] | {"label": name, "zorder": 3}
        marked_line(ax, x, values, **look)
    for name, level in levels.items():
        dotted = {"linestyle": ":"} if name in names else {}
        ax.axhline(level, label=label[name], **(behind[name] | dotted))
    for name, place in limits.items():
        ax.axvline(place, label=label[name], **behind[name])
