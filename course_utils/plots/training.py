"""How a training run went: its losses against epochs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from .style import legend, marked_line, series

if TYPE_CHECKING:
    from ..training import History


def training_curves(
    histories: "History | Mapping[str, History]", ax: Axes | None = None, steps: bool = True
) -> Axes:
    """Draw the loss on a log axis: pale each batch, solid each epoch, dashed the test set.

    What a log axis cannot show stands at its edges, as in `curves`. A run that ended at a NaN or
    Inf gets a cross at the upper edge where it ended. Accuracies are drawn by `curves`, from
    `history.epoch_accuracy` and `history.test_accuracy`.

    Args:
        histories: What `cu.fit` returned, or name → such a history, to compare runs.
        ax: Axes to draw on; the current ones when None.
        steps: Draw the loss of each batch too.

    Returns:
        The Axes.

    Raises:
        ValueError: If there is no history to draw.
    """
    named = histories if isinstance(histories, Mapping) else {"": histories}
    if not named or not all(hasattr(h, "epoch_loss") and h.steps for h in named.values()):
        raise ValueError(
            f"histories={histories!r} must be what cu.fit returned, with at least one step, or a "
            "dict of name → such a history."
        )
    ax = ax or plt.gca()
    ax.set_yscale("log")
    for index, (name, history) in enumerate(named.items()):
        look = series(index) | {"linestyle": "-"}
        prefix = f"{name}, " if name else ""
        at_step = np.arange(1, history.steps + 1) / (history.steps_per_epoch or history.steps)
        at_epoch = np.arange(1, history.epochs + 1)
        ended = history.stopped.startswith("non-finite")
        finite = history.loss.isfinite().numpy() if ended else slice(None)
        if steps:
            pale = {"color": look["color"], "alpha": 0.3, "linewidth": 0.8, "label": "_batches"}
            marked_line(ax, at_step[finite], history.loss.numpy()[finite], **pale)
        if history.epochs:
            marked_line(ax, at_epoch, history.epoch_loss.numpy(), label=f"{prefix}train", **look)
        if history.test_loss.isfinite().any():
            look |= {"linestyle": "--", "markerfacecolor": "white"}
            marked_line(ax, at_epoch, history.test_loss.numpy(), label=f"{prefix}test", **look)
        if ended:
            missing = (f"{prefix}{history.stopped}", 0.97)
            marked_line(ax, at_step[-1:], np.array([np.nan]), missing, color=look["color"])
    ax.set(xlabel="epoch", ylabel=r"loss $\mathcal{L}$ (log scale)")
    legend(ax)
    return ax
