"""Pictures of a record: gradients and outputs over depth, gradients and updates over steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .style import COLORS, series

if TYPE_CHECKING:
    from ..recording import GradientRecord

MARKS = {
    "exactly 0": ("v", 0.03),
    "infinite": ("^", 0.97),
    "none or NaN": ("x", 0.5),
}
"""What a log axis cannot show: marker, and height as a fraction of the axes."""

PER_COLUMN = 12
"""Entries in one column of a legend."""


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
    ax = ax or plt.gca()
    for i, column in enumerate(columns):
        style = {**_style(i, len(columns)), "label": record.layers[column]}
        _marked(ax, record.steps, record.grad_rms[:, column].numpy(), style)
    ax.set(xlabel="step", ylabel=r"RMS of $\partial\mathcal{L}/\partial h$", yscale="log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(ax)
    return ax


def update_ratios(
    record: GradientRecord,
    ax: Axes | None = None,
    *,
    parameters: Sequence[str] | None = None,
) -> Axes:
    """Draw ‖θ_after − θ_before‖/‖θ_before‖ over steps, one line per parameter, on a log scale.

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
    ax = ax or plt.gca()
    for i, name in enumerate(names):
        values = record.update_ratio[:, record.parameters.index(name)].numpy()
        _marked(ax, record.steps, values, {**_style(i, len(names)), "label": name})
    ax.set(xlabel="step", ylabel="‖update‖ / ‖parameter‖", yscale="log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(ax)
    return ax


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
    values = getattr(record, quantity)[step, columns].numpy()
    depths = np.arange(1, len(columns) + 1)
    _marked(ax, depths, values, {"marker": "o", "markersize": 4, **line})
    ax.set(xlabel="layer (1 = input side)", ylabel=ylabel, yscale="log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(ax)
    return ax


def _marked(ax: Axes, x: Sequence[float], values: np.ndarray, line: dict) -> None:
    """A line through what a log axis can show, and marks for what it cannot."""
    x = np.asarray(x, dtype=float)
    shown = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    (drawn,) = ax.plot(x, shown, **line)
    special = {
        "exactly 0": values == 0,
        "infinite": np.isinf(values),
        "none or NaN": np.isnan(values),
    }
    known = ax.get_legend_handles_labels()[1]
    for name, where in special.items():
        if not where.any():
            continue
        marker, height = MARKS[name]
        ax.plot(
            x[where],
            np.full(where.sum(), height),
            transform=ax.get_xaxis_transform(),
            linestyle="none",
            marker=marker,
            markersize=7,
            color=drawn.get_color(),
            markerfacecolor="none" if marker != "x" else None,
            label=f"_{name}" if name in known else name,
            clip_on=False,
        )


def _style(index: int, count: int) -> dict:
    """The course's styles as far as they go; beyond that, dark to light from input to output."""
    if count <= len(COLORS):
        return {**series(index), "markersize": 4}
    color = plt.get_cmap("viridis")(0.9 * index / (count - 1))
    return {"color": color, "marker": ".", "linewidth": 1.2}


def _legend(ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    if len(labels) > len(COLORS):
        columns = -(-len(labels) // PER_COLUMN)
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small", ncols=columns)
    elif handles:
        ax.legend(loc="best")
