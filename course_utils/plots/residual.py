"""Pictures of residual networks: their blocks, and the map of remedies."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from numpy.typing import ArrayLike

from .style import COLORS

_STREAM, _BRANCH = 0.0, 1.15
"""Where the two roads of a block stand."""


def residual_block(
    branch: Sequence[str],
    ax: Axes | None = None,
    *,
    title: str = "",
    scale: str = "",
    behind: Sequence[str] = (),
) -> Axes:
    """Draw a residual block, the signal running upward: the stream, the branch and their sum.

    Args:
        branch: What stands in the branch, in the order in which the signal meets it.
        ax: Axes to draw on; the current ones when None. They are switched off.
        title: Title of the Axes.
        scale: Written where the branch joins the stream, for example "α".
        behind: What stands on the stream behind the sum.

    Returns:
        The Axes: one box per name, its text inside.

    >>> plt.close(residual_block(["norm", "ReLU", "matrix"], title="pre").figure)
    """
    ax = ax or plt.gca()
    top = len(branch) + 1.0
    end = top + len(behind) + 0.9
    _arrow(ax, (_STREAM, -0.6), (_STREAM, top - 0.17))
    _arrow(ax, (_STREAM, top + 0.17), (_STREAM, end))
    corners = [(_STREAM, 0), (_BRANCH, 0), (_BRANCH, top), (_STREAM + 0.2, top)]
    ax.plot(*zip(*corners[:3], strict=True), color=COLORS[6], linewidth=1.5)
    _arrow(ax, corners[2], corners[3])
    for i, name in enumerate(branch):
        _box(ax, _BRANCH, i + 0.75, name)
    for i, name in enumerate(behind):
        _box(ax, _STREAM, top + i + 0.75, name)
    ax.text(_STREAM, top, "+", ha="center", va="center", fontsize=14, bbox=_SUM)
    ax.text(_STREAM + 0.12, -0.55, "$x_{l-1}$", va="center", fontsize=11)
    ax.text(_STREAM + 0.12, end - 0.1, "$x_l$", va="center", fontsize=11)
    if scale:
        ax.text(_BRANCH, top, scale, ha="center", va="center", fontsize=11, bbox=_SUM)
    ax.set(xlim=(-0.7, 1.85), ylim=(-0.8, max(end, 5.9) + 0.1), title=title)
    ax.axis("off")
    return ax


_SUM = {"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": COLORS[6]}


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    look = {"arrowstyle": "-|>", "color": COLORS[6], "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=look)


def _box(ax: Axes, x: float, y: float, text: str) -> None:
    """A rounded box with a text around (x, y)."""
    box = FancyBboxPatch(
        (x - 0.55, y - 0.29),
        1.1,
        0.58,
        boxstyle="round,pad=0,rounding_size=0.1",
        facecolor="#dbeaf5",
        edgecolor=COLORS[0],
        linewidth=1.5,
        zorder=3,
    )
    ax.add_patch(box)
    ax.text(x, y, text, ha="center", va="center", fontsize=10, zorder=4)


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
        ValueError: If the shapes differ.
    """
    accuracy = np.asarray(accuracy, dtype=np.float64)
    ratio = np.asarray(gradient_ratio, dtype=np.float64)
    shape = (len(remedies), len(depths))
    if accuracy.shape != shape or ratio.shape != shape:
        raise ValueError(
            f"accuracy and gradient_ratio have the shapes {accuracy.shape} and {ratio.shape}; "
            f"{shape} is expected: remedies, depths."
        )
    ax = ax or plt.gca()
    image = ax.imshow(accuracy, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(shape):
        value, size = float(accuracy[row, column]), float(ratio[row, column])
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
