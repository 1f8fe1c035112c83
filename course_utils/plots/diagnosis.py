"""Pictures of a clinic: two kinds of gradients, sick and mended runs, what a network sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .style import COLORS, series


def relative_by_layer(
    curves: Mapping[str, Any],
    ax: Axes | None = None,
    *,
    first: int = 1,
    ylabel: str = "over that of the last layer",
) -> Axes:
    """Draw sizes by layer, each curve divided by its value at the last layer, on a log scale.

    Args:
        curves: Name → sizes, (layers,) or (seeds, layers), input side first and positive. Of
            several seeds the geometric mean is drawn, and the range as a band.
        ax: Axes to draw on; the current ones when None.
        first: Number of the first layer drawn.
        ylabel: What is drawn.

    Returns:
        The Axes.

    Raises:
        ValueError: If a curve is empty or not positive.
    """
    ax = ax or plt.gca()
    for index, (name, curve) in enumerate(curves.items()):
        values = np.atleast_2d(np.asarray(curve, dtype=np.float64))
        if not values.size or not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"curves[{name!r}] must hold positive, finite sizes, one per layer.")
        logs = np.log(values / values[:, -1:])
        layers = first + np.arange(values.shape[1])
        ax.plot(layers, np.exp(logs.mean(0)), markersize=4, label=name, **series(index))
        if len(values) > 1:
            low, high = np.exp(logs.min(0)), np.exp(logs.max(0))
            ax.fill_between(layers, low, high, color=COLORS[index % len(COLORS)], alpha=0.2)
    ax.set(xlabel="layer l (1 = input side)", ylabel=ylabel, yscale="log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return ax


def before_and_after(
    sick: Any, mended: Any, ax: Axes | None = None, *, guess: float | None = None, title: str = ""
) -> Axes:
    """Draw the loss per step of a network before and after its remedy, several seeds each.

    A run that has become NaN or Inf ends with a cross at the upper border. With `guess` the axis
    ends at ten times the guess, so that a run which explodes does not flatten the others.

    Args:
        sick: Losses, (steps,) or (seeds, steps).
        mended: The same after the remedy.
        ax: Axes to draw on; the current ones when None.
        guess: Loss of a guess, drawn as a thin line; none when None.
        title: Title of the axes.

    Returns:
        The Axes.
    """
    ax = ax or plt.gca()
    ax.set_yscale("log")
    for losses, color, style, name in (
        (sick, COLORS[1], "--", "sick"),
        (mended, COLORS[0], "-", "mended"),
    ):
        for i, run in enumerate(np.atleast_2d(np.asarray(losses, dtype=np.float64))):
            steps = np.arange(1, run.size + 1)
            shown = np.where(np.isfinite(run) & (run > 0), run, np.nan)
            label = name if i == 0 else f"_{name}"
            ax.plot(steps, shown, linestyle=style, color=color, linewidth=1, label=label)
            if not np.isfinite(run).all():
                end = int(np.flatnonzero(~np.isfinite(run))[0])
                ax.plot(
                    [steps[end]],
                    [0.97],
                    linestyle="none",
                    marker="x",
                    markersize=8,
                    color=color,
                    transform=ax.get_xaxis_transform(),
                    label="_NaN" if i else f"{name}: NaN",
                )
    if guess is not None:
        ax.axhline(guess, color="black", linewidth=0.8, linestyle=":", label="a guess")
        ax.set_ylim(top=10 * guess)
    ax.set(xlabel="step", ylabel=r"loss $\mathcal{L}$ (nats)", title=title)
    ax.legend(fontsize="small")
    return ax


def image_strip(rows: Mapping[str, Any], axes: Any, titles: Sequence[str] = ()) -> Any:
    """Draw images in a grid, one row per name, each row with a scale of its own.

    Args:
        rows: Name → images, (images, height, width).
        axes: Grid of Axes, (rows, images), as `plt.subplots(..., squeeze=False)` makes it.
        titles: Titles of the columns.

    Returns:
        The Axes.

    Raises:
        ValueError: If the grid does not fit.
    """
    grid = np.asarray(axes, dtype=object)
    for row, (name, images) in zip(grid, rows.items(), strict=True):
        pictures = np.asarray(images, dtype=np.float64)
        if len(pictures) != len(row):
            raise ValueError(f"rows[{name!r}] holds {len(pictures)} images for {len(row)} Axes.")
        for ax, picture in zip(row, pictures, strict=True):
            ax.imshow(picture, cmap="gray", interpolation="nearest")
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for ax, title in zip(grid[0], titles, strict=False):
        ax.set_title(title)
    return axes
