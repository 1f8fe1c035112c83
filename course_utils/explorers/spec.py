"""What an explorer is made of: sliders, and panels of marks measured at every slider setting.

Shapes. Let the sliders have n₁, n₂, … values. An array of a mark has shape `(*grid, points)`,
where each axis of `grid` is nᵢ, or 1 where the mark does not depend on that slider. An array
without the grid axes, of shape `(points,)`, is the same at every setting. Nothing is interpolated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Slider:
    """One control over an ordered list of values (numbers, or strings for a choice).

    `format` is a Python number format: an optional +, an optional comma, an optional precision
    and one of g, f, e, d and %. Two values must not look the same in it.
    """

    name: str  # identifier; the explorer has a trait of this name with the current value
    label: str  # shown beside it, unit included: "learning rate η"
    values: Sequence[float] | Sequence[str]
    start: int = 0  # index of the value it stands at first
    format: str = ".3g"


@dataclass(frozen=True)
class Line:
    """A polyline; NaN breaks it. `color` indexes the palette, `dash` survives greyscale."""

    x: np.ndarray
    y: np.ndarray
    label: str = ""
    color: int = 0
    width: float = 2.0  # pixels
    dash: Literal["solid", "dashed", "dotted"] = "solid"
    marker: bool = False


@dataclass(frozen=True)
class Points:
    """Separate dots; NaN hides one. The shape follows the color, so it survives greyscale."""

    x: np.ndarray
    y: np.ndarray
    label: str = ""
    color: int = 0
    size: float = 6.0  # diameter in pixels
    hollow: bool = False  # an outline filled with the background, as for the nodes of a graph


@dataclass(frozen=True)
class Bars:
    """Vertical bars with a name under each, at x = 0, 1, 2, …; several stand side by side."""

    names: tuple[str, ...]
    height: np.ndarray  # (*grid, len(names))
    label: str = ""
    color: int = 0


@dataclass(frozen=True)
class Text:
    """Words at positions: fixed strings, or numbers that follow the sliders."""

    x: np.ndarray
    y: np.ndarray
    text: tuple[str, ...] | np.ndarray
    format: str = ".3g"
    color: int = 0
    prefix: tuple[str, ...] = ()  # before each number: "∂L/∂w = "
    anchor: Literal["start", "middle", "end"] = "middle"  # which end stands at x


@dataclass(frozen=True)
class Panel:
    """One picture: marks on a pair of axes (or on none, for a diagram).

    On a log axis, what is zero or negative is drawn as a small triangle on the lower edge.
    """

    title: str
    xlabel: str
    ylabel: str
    marks: tuple[Line | Points | Bars | Text, ...]
    xlim: tuple[float, float] | None = None  # None: from the data of all settings
    ylim: tuple[float, float] | None = None
    xscale: Literal["linear", "log"] = "linear"
    yscale: Literal["linear", "log"] = "linear"
    equal: bool = False  # one unit as long in x as in y
    axes: bool = True


@dataclass(frozen=True)
class Readout:
    """A figure under the panels that follows the sliders."""

    label: str
    values: np.ndarray  # (*grid,)
    format: str = ".3g"
