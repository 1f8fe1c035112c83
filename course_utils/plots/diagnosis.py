"""Pictures of a clinic: what a network sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


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
        for ax, picture in zip(row, pictures, strict=True):
            ax.imshow(picture, cmap="gray", interpolation="nearest")
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for ax, title in zip(grid[0], titles, strict=False):
        ax.set_title(title)
    return axes
