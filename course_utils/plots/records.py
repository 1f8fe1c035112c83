"""Pictures of a record: gradients and outputs over depth, gradients and updates over steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from .style import COLORS, legend, marked_line, series

if TYPE_CHECKING:
    from ..recording import GradientRecord

MOST_LINES = 24
"""Layers that are told apart as lines; more become a heat map."""

_MISSING = ("none or NaN", 0.5)  # a layer without a gradient belongs to neither edge


def gradient_profile(
    record: GradientRecord,
    ax: Axes | None = None,
    *,
    step: int = -1,
    layers: Sequence[str | int] | None = None,
    **line: object,
) -> Axes:
    """Draw the size of ∂L/∂h over depth on a log scale.

    Layers whose RMS is exactly 0, infinite, or missing stand at the lower edge, the upper edge
    and the middle with their own markers, so that a dead layer is not taken for none.

    Args:
        record: The record.
        ax: Axes to draw on; the current ones when None.
        step: Row of the record, −1 for the last.
        layers: Names or column numbers; all layers when None.
        **line: Handed to `Axes.plot`, such as label or color.

    Returns:
        The Axes.

    Raises:
        ValueError: If the record is empty, or the step or a layer is not in it.
    """
    return _profile(
        record, "grad_rms", r"RMS of $\partial\mathcal{L}/\partial h$", ax, step, layers, line
    )


def output_profile(
    record: GradientRecord,
    ax: Axes | None = None,
    *,
    step: int = -1,
    layers: Sequence[str | int] | None = None,
    **line: object,
) -> Axes:
    """Draw the size of the outputs h over depth on a log scale.

    Args:
        record: The record.
        ax: Axes to draw on; the current ones when None.
        step: Row of the record, −1 for the last.
        layers: Names or column numbers; all layers when None.
        **line: Handed to `Axes.plot`, such as label or color.

    Returns:
        The Axes, marked as in `gradient_profile`.

    Raises:
        ValueError: If the record is empty, or the step or a layer is not in it.
    """
    return _profile(record, "output_rms", "RMS of output h", ax, step, layers, line)


def gradient_history(
    record: GradientRecord,
    ax: Axes | None = None,
    *,
    layers: Sequence[str | int] | None = None,
) -> Axes:
    """Draw the size of ∂L/∂h over steps, one line per layer, on a log scale.

    More than 24 layers become a heat map of layer and step, input side at the bottom.

    Args:
        record: The record.
        ax: Axes to draw on; the current ones when None.
        layers: Names or column numbers; the record's trunk when None.

    Returns:
        The Axes.

    Raises:
        ValueError: If the record is empty or a layer is not in it.
    """
    columns = _columns(record, layers, record.columns())
    lines = {record.layers[column]: record.grad_rms[:, column].numpy() for column in columns}
    return _over_steps(record, lines, r"RMS of $\partial\mathcal{L}/\partial h$", ax)


def update_ratios(
    record: GradientRecord,
    ax: Axes | None = None,
    *,
    parameters: Sequence[str] | None = None,
) -> Axes:
    """Draw ‖θ_after − θ_before‖/‖θ_before‖ over steps, one line per parameter, on a log scale.

    More than 24 parameters become a heat map, as in `gradient_history`.

    Args:
        record: A record made with `optimizer=`.
        ax: Axes to draw on; the current ones when None.
        parameters: Names; those that end in "weight" when None, or all if there are none.

    Returns:
        The Axes.

    Raises:
        ValueError: If the record holds no update, or a name is not in it.
    """
    if not len(record) or bool(record.update_ratio.isnan().all()):
        raise ValueError("record holds no update: make it with record(model, optimizer=optimizer).")
    names = parameters
    if names is None:
        names = [name for name in record.parameters if name.endswith("weight")]
        names = names or list(record.parameters)
    missing = [name for name in names if name not in record.parameters]
    if missing:
        raise ValueError(f"parameters={missing} are not in the record: {record.parameters}.")
    places = {name: record.parameters.index(name) for name in names}
    lines = {name: record.update_ratio[:, place].numpy() for name, place in places.items()}
    return _over_steps(record, lines, "‖update‖ / ‖parameter‖", ax)


def _over_steps(
    record: GradientRecord, lines: dict[str, np.ndarray], ylabel: str, ax: Axes | None
) -> Axes:
    ax = ax or plt.gca()
    if len(lines) > MOST_LINES:
        return _heat_map(record, lines, ylabel, ax)
    ax.set_yscale("log")
    for i, (name, values) in enumerate(lines.items()):
        style = {**_style(i, len(lines)), "label": name}
        marked_line(ax, np.asarray(record.steps), values, _MISSING, **style)
    ax.set(xlabel="step", ylabel=ylabel)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(ax)
    return ax


def _heat_map(record: GradientRecord, lines: dict[str, np.ndarray], label: str, ax: Axes) -> Axes:
    """Layers over steps, input side at the bottom, colored by size on a log scale.

    What has no place on a log scale keeps a color of its own: 0 is black, Inf is red, and where
    nothing is known the background shows.
    """
    values = np.array(list(lines.values()), dtype=np.float64)
    positive = values[np.isfinite(values) & (values > 0)]
    low, high = (positive.min(), positive.max()) if positive.size else (0.1, 1.0)
    low = min(low, high / 10)
    colors = plt.get_cmap("viridis").with_extremes(bad=(0, 0, 0, 0), under="black", over="#d62728")
    edges = np.append(record.steps, record.steps[-1] + _stride(record.steps))
    mesh = ax.pcolorfast(
        edges,
        np.arange(len(lines) + 1) + 0.5,
        np.ma.masked_invalid(
            np.where(np.isposinf(values), 1e300, np.where(values == 0, 1e-300, values))
        ),
        cmap=colors,
        norm=LogNorm(low, high),
    )
    bar = ax.figure.colorbar(mesh, ax=ax)
    bar.set_label(f"{label}; 0 is black, Inf red")
    names, places = list(lines), np.unique(np.linspace(0, len(lines) - 1, 12).round().astype(int))
    ax.set_yticks(places + 1, [names[place] for place in places], fontsize="small")
    ax.set(xlabel="step", ylabel="")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def _stride(steps: Sequence[int]) -> int:
    """How far apart the last two steps are."""
    return steps[-1] - steps[-2] if len(steps) > 1 else 1


def _columns(
    record: GradientRecord, layers: Sequence[str | int] | None, default: Sequence[int]
) -> list[int]:
    if not hasattr(record, "grad_rms"):
        raise TypeError(
            f"record={record!r} is a {type(record).__name__}: expected what `recorder.record` is."
        )
    if not len(record) or not record.layers:
        raise ValueError("record is empty: nothing was recorded that could be drawn.")
    return list(default) if layers is None else record.columns(layers)


def _profile(
    record: GradientRecord,
    quantity: str,
    ylabel: str,
    ax: Axes | None,
    step: int,
    layers: Sequence[str | int] | None,
    line: dict,
) -> Axes:
    every = range(len(getattr(record, "layers", ())))
    columns = _columns(record, layers, every)
    if not -len(record) <= step < len(record):
        raise ValueError(f"step={step}: the record has {len(record)} rows, 0 to {len(record) - 1}.")
    ax = ax or plt.gca()
    ax.set_yscale("log")
    values = getattr(record, quantity)[step, columns].numpy()
    depths = np.arange(1, len(columns) + 1)
    marked_line(ax, depths, values, _MISSING, **{"marker": "o", "markersize": 4, **line})
    ax.set(xlabel="layer (1 = input side)", ylabel=ylabel)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(ax)
    return ax


def _style(index: int, count: int) -> dict:
    """The course's styles as far as they go; beyond that, dark to light from input to output."""
    if count <= len(COLORS):
        return {**series(index), "markersize": 4}
    color = plt.get_cmap("viridis")(0.9 * index / (count - 1))
    return {"color": color, "marker": ".", "linewidth": 1.2}
