"""The explorer itself: a widget with sliders over a precomputed grid, drawn in the browser."""

import base64
import math
from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets

from ..arguments import number, one_of
from .browser_data import pack
from .picture import png
from .spec import Bars, Line, Panel, Points, Readout, Slider, Text

__all__ = ["Bars", "GridExplorer", "Line", "Panel", "Points", "Readout", "Slider", "Text"]

_HERE = Path(__file__).parent


class _Position(traitlets.TraitType):
    """Where a slider stands: a value in Python, an index on the way to the browser."""

    info_text = "one of the slider's values"

    def __init__(self, name: str, values: tuple, start: int) -> None:
        super().__init__(default_value=values[start])
        self.slider, self.values = name, values
        self.tag(
            sync=True,
            to_json=lambda value, widget: self.values.index(value),
            from_json=lambda index, widget: self._value_at(index),
        )

    def _value_at(self, index) -> object:
        if not isinstance(index, int) or not 0 <= index < len(self.values):
            raise ValueError(f"{self.slider}: the browser sent index {index!r}, which is no value.")
        return self.values[index]

    def validate(self, obj, value):
        """The entry of the slider's values that is meant, or an error that lists them."""
        if isinstance(self.values[0], str):
            return one_of(self.slider, value, self.values)
        shown = [f"{v:.6g}" if isinstance(v, float) else str(v) for v in self.values]
        few = [*shown[:4], "…", *shown[-2:]] if len(shown) > 8 else shown
        choose = f"choose one of {', '.join(few)}."
        given = number(self.slider, value, hint=f"Please {choose}")
        nearest = min(self.values, key=lambda entry: abs(entry - given))
        if math.isclose(nearest, given, rel_tol=1e-5, abs_tol=1e-12):
            return nearest
        raise ValueError(
            f"{self.slider}={value!r} is no position of this slider, and nothing is interpolated: "
            f"{choose} The nearest is {nearest!r}."
        )


class GridExplorer(anywidget.AnyWidget):
    """Sliders over a precomputed grid, drawn in the browser.

    Every setting of the sliders is measured beforehand and handed in as arrays (at most 1 MB).
    The browser picks the entries of the current setting and draws them: moving a slider asks no
    kernel and interpolates nothing. A stored output holds a PNG of the first setting, so a page
    that runs no script shows a picture.

    Each slider is an attribute of the explorer. Reading it tells where the learner left the
    slider; setting it moves the slider.

    Args:
        title: Heading.
        sliders: At least one; their lengths n₁, n₂, … are the shape of the grid.
        panels: At least one. Arrays of marks have shape `(*grid, points)` with each axis of the
            grid nᵢ or 1, or `(points,)` where they are the same at every setting.
        readouts: Figures under the panels, arrays of shape `(*grid,)`.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a value is: a shape that does not fit the sliders, a name that is taken, a
            start index out of range, more than 1 MB. The message names argument, value and
            remedy.

    >>> import numpy as np
    >>> lr, step = np.array([0.1, 0.5, 0.9]), np.arange(6)
    >>> explorer = GridExplorer(
    ...     "One step after the other",
    ...     [Slider("lr", "learning rate η", lr, start=1)],
    ...     [Panel("Distance", "step t", "|w|", (Line(step, (1 - lr[:, None]) ** step),))],
    ...     [Readout("after five steps", (1 - lr) ** 5)],
    ... )
    >>> explorer.lr, explorer.values
    (0.5, {'lr': 0.5})
    >>> explorer.lr = 0.9
    >>> explorer.values
    {'lr': 0.9}
    """

    _esm = _HERE / "grid.js"
    _css = _HERE / "grid.css"
    _spec = traitlets.Dict().tag(sync=True)
    _data = traitlets.Bytes().tag(sync=True)

    def __init__(
        self,
        title: str,
        sliders: Sequence[Slider],
        panels: Sequence[Panel],
        readouts: Sequence[Readout] = (),
    ) -> None:
        packed = self._packed = pack(title, sliders, panels, readouts)
        self._png: bytes | None = None
        for name in packed.values:
            if name.startswith("_") or name in {*dir(GridExplorer), "comm", "keys"}:
                raise ValueError(
                    f"name={name!r} is an attribute that every explorer has already: choose "
                    f"another, for example '{name.strip('_')}_value'."
                )
        positions = {
            name: _Position(name, values, start)
            for (name, values), start in zip(packed.values.items(), packed.start, strict=True)
        }
        self.add_traits(**positions)
        super().__init__(_spec=packed.spec, _data=packed.data)

    @property
    def values(self) -> dict[str, object]:
        """Where every slider stands, by name."""
        return {name: getattr(self, name) for name in self._packed.values}

    @property
    def nbytes(self) -> int:
        """How many bytes of arrays travel to the browser."""
        return len(self._packed.data)

    def _repr_mimebundle_(self, **kwargs):
        """The live widget, and beside it a picture and a line of text for pages without one."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        if self._png is None:
            self._png = png(self._packed)
        sliders, readouts = self._packed.shown(self._packed.start)
        data["image/png"] = base64.b64encode(self._png).decode("ascii")
        data["text/plain"] = "\n".join((self._packed.spec["title"], *sliders, *readouts))
        return data, metadata
