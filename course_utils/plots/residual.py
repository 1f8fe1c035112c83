"""Pictures of residual networks: the map of remedies."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike


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
