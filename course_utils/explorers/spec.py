"""What an explorer is made of: sliders, and panels of marks measured at every slider setting.

Shapes. Let the sliders have n₁, n₂, … values. An array of a mark has shape `(*grid, points)`,
where each axis of `grid` is nᵢ, or 1 where the mark does not depend on that slider. An array
without the grid axes, of shape `(points,)`, is the same at every setting. Nothing is interpolated.

Each part says where it is made what is wrong with it, a TypeError or a ValueError. Whether its
arrays fit the sliders is known where the explorer is put together.
"""

import keyword
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from ..arguments import integer, number, one_of
from ..plots import COLORS
from .number_format import format_number


@dataclass(frozen=True)
class Slider:
    """One control over an ordered list of values (numbers, or strings for a choice).

    `format` is a Python number format: an optional +, an optional comma, an optional precision
    and one of g, f, e, d and %. Two values must not look the same in it.
    """

    name: str  # identifier; the explorer has a trait of this name with the current value
    label: str  # shown beside it, unit included: "learning rate η"
    values: Sequence[float] | Sequence[str] | np.ndarray
    start: int = 0  # index of the value it stands at first
    format: str = ".3g"

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or keyword.iskeyword(self.name):
            raise ValueError(
                f"name={self.name!r} must be a Python identifier such as 'learning_rate', because "
                "the explorer has an attribute of this name."
            )
        values, shown = self.plain_values(), self.shown_values()
        integer("start", self.start, 0, len(values) - 1, hint="It is the index of a value.")
        if len(set(shown)) < len(shown):
            twice = next(text for text in shown if shown.count(text) > 1)
            raise ValueError(
                f"{self.name}: two of the values are shown as {twice!r}. Leave one out, or give "
                f"format={self.format!r} more digits."
            )

    def plain_values(self) -> tuple[Any, ...]:
        """The values as Python's own: all int, all float, or all str."""
        values: tuple[Any, ...] = tuple(v.item() if hasattr(v, "item") else v for v in self.values)
        kinds = {type(value) for value in values}
        numbers = kinds <= {int, float} and all(math.isfinite(value) for value in values)
        if len(values) < 2 or isinstance(self.values, str) or not (numbers or kinds == {str}):
            raise ValueError(
                f"{self.name}: values={self.values!r} must be a list of at least two finite "
                "numbers, or of at least two strings."
            )
        return tuple(map(float, values)) if float in kinds else values

    def shown_values(self) -> list[str]:
        """What stands beside the slider at each of its values."""
        return [
            value if isinstance(value, str) else format_number(value, self.format)
            for value in self.plain_values()
        ]


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

    def __post_init__(self) -> None:
        _check_color(self.color)
        number("width", self.width, above=0)
        one_of("dash", self.dash, ("solid", "dashed", "dotted"))


@dataclass(frozen=True)
class Points:
    """Separate dots; NaN hides one. The shape follows the color, so it survives greyscale."""

    x: np.ndarray
    y: np.ndarray
    label: str = ""
    color: int = 0
    size: float = 6.0  # diameter in pixels
    hollow: bool = False  # an outline filled with the background, as for the nodes of a graph

    def __post_init__(self) -> None:
        _check_color(self.color)
        number("size", self.size, above=0)


@dataclass(frozen=True)
class Bars:
    """Vertical bars with a name under each, at x = 0, 1, 2, …; several stand side by side."""

    names: tuple[str, ...]
    height: np.ndarray  # (*grid, len(names))
    label: str = ""
    color: int = 0

    def __post_init__(self) -> None:
        _check_color(self.color)
        all_of("names", self.names, str)


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

    def __post_init__(self) -> None:
        _check_color(self.color)
        format_number(0.0, self.format)
        one_of("anchor", self.anchor, ("start", "middle", "end"))


Mark: TypeAlias = Line | Points | Bars | Text


@dataclass(frozen=True)
class Panel:
    """One picture: marks on a pair of axes (or on none, for a diagram).

    On a log axis, what is zero or negative is drawn as a small triangle on the lower edge.
    """

    title: str
    xlabel: str
    ylabel: str
    marks: tuple[Mark, ...]
    xlim: tuple[float, float] | None = None  # None: from the data of all settings
    ylim: tuple[float, float] | None = None
    xscale: Literal["linear", "log"] = "linear"
    yscale: Literal["linear", "log"] = "linear"
    equal: bool = False  # one unit as long in x as in y
    axes: bool = True

    def __post_init__(self) -> None:
        bars = [mark for mark in all_of("marks", self.marks, Mark) if isinstance(mark, Bars)]
        if any(mark.names != bars[0].names for mark in bars):
            raise ValueError(f"{self.title}: all Bars of one panel must have the same names.")
        if bars and self.xscale == "log":
            raise ValueError(f"{self.title}: xscale='log' cannot hold Bars: use 'linear'.")
        if self.equal and "log" in (self.xscale, self.yscale):
            raise ValueError(f"{self.title}: equal=True needs linear axes.")
        _check_axis("x", self.xlim, self.xscale)
        _check_axis("y", self.ylim, self.yscale)


@dataclass(frozen=True)
class Readout:
    """A figure under the panels that follows the sliders."""

    label: str
    values: np.ndarray  # (*grid,)
    format: str = ".3g"

    def __post_init__(self) -> None:
        format_number(0.0, self.format)


def all_of(argument: str, items: Any, kind: Any) -> tuple[Any, ...]:
    """At least one item, all of one kind, as a tuple.

    Raises:
        TypeError: If `items` is a single one, or something else is among them.
        ValueError: If it is empty.

    >>> all_of("names", ["a", "b"], str)
    ('a', 'b')
    """
    names = str(kind) if not isinstance(kind, type) else kind.__name__
    names = " or ".join(part.rpartition(".")[2] for part in names.split(" | "))
    asked = f"must be a list of {names}, such as [first, second] or (only,)."
    if isinstance(items, kind) or not isinstance(items, Iterable):
        raise TypeError(f"{argument}={items!r:.80} {asked}")
    items = tuple(items)
    for i, item in enumerate(items):
        if not isinstance(item, kind):
            raise TypeError(f"{argument}[{i}]={item!r:.80}: {argument} {asked}")
    if not items:
        raise ValueError(f"{argument} is empty: it {asked}")
    return items


def _check_color(color: int) -> None:
    integer("color", color, 0, len(COLORS) - 1, hint="It is an index into the palette.")


def _check_axis(axis: str, limits: tuple[float, float] | None, scale: str) -> None:
    one_of(f"{axis}scale", scale, ("linear", "log"))
    if limits is None:
        return
    if len(limits) != 2:
        raise ValueError(f"{axis}lim={limits!r} must be two numbers, (low, high).")
    low, high = (number(f"{axis}lim", limit) for limit in limits)
    if low >= high or (scale == "log" and low <= 0):
        above = ", and above 0 on a log axis" if scale == "log" else ""
        raise ValueError(f"{axis}lim={limits!r} must have the lower number first{above}.")
