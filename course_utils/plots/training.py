"""How a training run went: losses and accuracies against epochs."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from .style import COLORS, LINESTYLES, MARKERS

if TYPE_CHECKING:
    from ..training import History


def training_curves(
    histories: "History | Mapping[str, History]", ax: Axes | None = None, steps: bool = True
) -> Axes:
    """Draw the loss on a log axis: pale each batch, solid each epoch, dashed the test set.

    A run that ended at a NaN or Inf gets a cross at the upper border where it ended. Losses of 0
    lie on the lower border as triangles.

    Args:
        histories: What `cu.fit` returned, or name → such a history, to compare runs.
        ax: Axes to draw on; the current ones when None.
        steps: Draw the loss of each batch too.

    Returns:
        The Axes.

    Raises:
        ValueError: If there is no history to draw.
    """
    ax = ax or plt.gca()
    ax.set_yscale("log")
    for index, (name, history) in enumerate(_named(histories).items()):
        color = COLORS[index % len(COLORS)]
        mark = MARKERS[index % len(MARKERS)]
        at_step = _epochs_of_steps(history)
        if steps:
            _line(ax, at_step, history.loss, color=color, alpha=0.3, linewidth=0.8)
        at_epoch = np.arange(1, history.epochs + 1)
        label = _join(name, "train") if history.epochs else None
        _line(ax, at_epoch, history.epoch_loss, color=color, marker=mark, label=label)
        if history.test_loss.isfinite().any():
            _line(
                ax,
                at_epoch,
                history.test_loss,
                color=color,
                marker=mark,
                linestyle=LINESTYLES[1],
                markerfacecolor="white",
                label=_join(name, "test"),
            )
        if history.stopped.startswith("non-finite"):
            _border_mark(ax, at_step[-1], 1.0, "x", color, _join(name, f"{history.stopped}"))
    ax.set(xlabel="epoch", ylabel=r"loss $\mathcal{L}$ (log scale)")
    _legend(ax)
    return ax


def accuracy_curves(histories: "History | Mapping[str, History]", ax: Axes | None = None) -> Axes:
    """Draw the share of right answers per epoch: solid on training data, dashed on the test set.

    Args:
        histories: What `cu.fit` returned, or name → such a history, to compare runs.
        ax: Axes to draw on; the current ones when None.

    Returns:
        The Axes.

    Raises:
        ValueError: If there is no history to draw, or none of a classifier.
    """
    named = _named(histories)
    if not any(history.epoch_accuracy.isfinite().any() for history in named.values()):
        raise ValueError(
            "histories hold no accuracy: labels that are class numbers, and at least one complete "
            "epoch, are needed. training_curves draws the losses."
        )
    ax = ax or plt.gca()
    for index, (name, history) in enumerate(named.items()):
        at_epoch = np.arange(1, history.epochs + 1)
        look = {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}
        ax.plot(at_epoch, history.epoch_accuracy.numpy(), label=_join(name, "train"), **look)
        if history.test_accuracy.isfinite().any():
            ax.plot(
                at_epoch,
                history.test_accuracy.numpy(),
                linestyle=LINESTYLES[1],
                markerfacecolor="white",
                label=_join(name, "test"),
                **look,
            )
    ax.set(xlabel="epoch", ylabel="accuracy (share of right answers)", ylim=(0, 1.02))
    _legend(ax)
    return ax


def _named(histories: "History | Mapping[str, History]") -> "Mapping[str, History]":
    named = histories if isinstance(histories, Mapping) else {"": histories}
    if not named or not all(hasattr(h, "epoch_loss") and h.steps for h in named.values()):
        raise ValueError(
            f"histories={histories!r} must be what cu.fit returned, with at least one step, or a "
            "dict of name → such a history."
        )
    return named


def _legend(ax: Axes) -> None:
    """Inside where few lines leave room for it, beside the axes where many do not."""
    lines = len(ax.get_legend_handles_labels()[1])
    if lines > 4:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    elif lines:
        ax.legend()


def _epochs_of_steps(history: "History") -> np.ndarray:
    """Position of each step on the axis of epochs: the last step of epoch k lies at k."""
    per_epoch = history.steps_per_epoch or history.steps
    return (np.arange(history.steps) + 1) / per_epoch


def _line(ax: Axes, x: np.ndarray, values, **look) -> None:
    """A line through the positive values; zeros are marked at the lower border."""
    y = np.asarray(values, dtype=np.float64)
    positive = np.isfinite(y) & (y > 0)
    ax.plot(x, np.where(positive, y, math.nan), **look)
    if (y == 0).any():
        _border_mark(ax, x[y == 0], 0.0, "v", look["color"], None)


def _border_mark(ax: Axes, x, height: float, marker: str, color: str, label: str | None) -> None:
    x = np.atleast_1d(x)
    ax.plot(
        x,
        np.full(len(x), height),
        linestyle="none",
        marker=marker,
        markersize=9,
        color=color,
        label=label,
        clip_on=False,
        transform=ax.get_xaxis_transform(),
    )


def _join(name: str, part: str) -> str:
    return f"{name}, {part}" if name else part
