"""What an explorer sends to the browser: a description in JSON and one block of bytes.

Positions travel as float32 (float64 where float32 would overflow or underflow), numbers that are
printed as float64. The description holds no number that is NaN or infinite, so it is valid JSON.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .number_format import format_number
from .spec import Bars, Line, Mark, Panel, Points, Readout, Slider, Text, all_of

MAX_BYTES = 1_000_000
"""How much an explorer may send to the browser: 1 MB."""

_STYLE: dict[type, dict[str, type]] = {
    Line: {"label": str, "dash": str, "width": float, "marker": bool},
    Points: {"label": str, "size": float, "hollow": bool},
}


@dataclass(frozen=True)
class Packed:
    """An explorer ready to travel: the description, the bytes it points into, the values."""

    spec: dict[str, Any]
    data: bytes
    values: dict[str, tuple]  # of each slider, as plain int, float or str

    def array(self, ref: dict[str, Any], index: Sequence[int]) -> np.ndarray:
        """The points of one array at one setting of the sliders, float64."""
        count = math.prod(ref["grid"]) * ref["points"]
        flat = np.frombuffer(self.data, "<" + ref["type"], count, ref["offset"])
        at = tuple(0 if size == 1 else i for i, size in zip(index, ref["grid"], strict=True))
        return flat.reshape(*ref["grid"], ref["points"])[at].astype(np.float64)

    @property
    def start(self) -> list[int]:
        """The setting the sliders stand at first."""
        return [slider["start"] for slider in self.spec["sliders"]]

    def shown(self, index: Sequence[int]) -> tuple[list[str], list[str]]:
        """What stands beside the sliders and in the readouts at one setting."""
        sliders = [
            f"{slider['label']} = {slider['shown'][i]}"
            for slider, i in zip(self.spec["sliders"], index, strict=True)
        ]
        readouts = [
            f"{readout['label']}: "
            + format_number(float(self.array(readout["values"], index)[0]), readout["format"])
            for readout in self.spec["readouts"]
        ]
        return sliders, readouts


def pack(
    title: str, sliders: Sequence[Slider], panels: Sequence[Panel], readouts: Sequence[Readout]
) -> Packed:
    """Fit every array to the grid of the sliders and pack the whole.

    Args:
        title: Heading of the explorer.
        sliders: At least one.
        panels: At least one.
        readouts: Any number.

    Returns:
        The description, the bytes and the slider values.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an array does not fit, an axis has no limits, or all are too many bytes.
    """
    sliders = all_of("sliders", sliders, Slider)
    panels = all_of("panels", panels, Panel)
    readouts = readouts and all_of("readouts", readouts, Readout)
    values = {slider.name: slider.plain_values() for slider in sliders}
    if len(values) < len(sliders):
        raise ValueError(f"two of the sliders {[s.name for s in sliders]} have the same name.")
    block = _Block({name: len(entries) for name, entries in values.items()})
    described = [
        {
            "name": slider.name,
            "label": slider.label,
            "shown": slider.shown_values(),
            "start": int(slider.start),
        }
        for slider in sliders
    ]
    spec = {
        "title": title,
        "sliders": described,
        "panels": [
            _panel(f"panels[{i}] ({panel.title!r})", panel, block) for i, panel in enumerate(panels)
        ],
        "readouts": [_readout(f"readouts[{i}]", r, block) for i, r in enumerate(readouts)],
    }
    if len(block.data) > MAX_BYTES:
        largest = ", ".join(
            f"{where} {size:,}" for size, where in sorted(block.sizes, reverse=True)[:3]
        )
        raise ValueError(
            f"the arrays of this explorer are {len(block.data):,} bytes, more than {MAX_BYTES:,} "
            f"(largest: {largest}). Use fewer slider values or fewer points, or give an array "
            "an axis of length 1 for each slider it does not depend on."
        )
    return Packed(spec, bytes(block.data), values)


class _Block:
    """The bytes of all arrays, one after the other."""

    def __init__(self, grid: dict[str, int]) -> None:
        self.grid = grid
        self.data = bytearray()
        self.sizes: list[tuple[int, str]] = []

    def fit(self, where: str, value: Any, scalar: bool = False) -> np.ndarray:
        """The values in float64, with one axis per slider and one of points."""
        if hasattr(value, "detach"):
            value = value.detach().cpu().double().numpy()
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{where} must be an array of real numbers, not of {array.dtype}.")
        own = array.shape
        if scalar:
            array = array[..., None]
        if array.ndim == 1:
            array = array.reshape((1,) * len(self.grid) + array.shape)
        fits = array.ndim == len(self.grid) + 1 and all(
            size in (1, n) for size, n in zip(array.shape, self.grid.values(), strict=False)
        )
        if not fits:
            expected = [f"{size} ({name}) or 1" for name, size in self.grid.items()]
            expected += [] if scalar else ["points"]
            always = "()" if scalar else "(points,)"
            raise ValueError(
                f"{where} has shape {own}, which does not fit the sliders: expected "
                f"({', '.join(expected)}), or {always} where it is the same at every setting."
            )
        if array.shape[-1] == 0:
            raise ValueError(f"{where} is empty: give at least one point.")
        return array.astype(np.float64)

    def store(self, where: str, array: np.ndarray, printed: bool = False) -> dict[str, Any]:
        """Append an array and say where it lies."""
        with np.errstate(over="ignore", under="ignore"):
            single = array.astype(np.float32)
        finite = np.isfinite(array)
        lost = finite & (~np.isfinite(single) | ((np.abs(single) < 1.2e-38) & (array != 0)))
        kind = "f8" if printed or lost.any() else "f4"
        self.data.extend(bytes(-len(self.data) % 8))
        ref = {
            "offset": len(self.data),
            "type": kind,
            "grid": list(array.shape[:-1]),
            "points": array.shape[-1],
        }
        packed = array.astype("<" + kind).tobytes()
        self.data.extend(packed)
        self.sizes.append((len(packed), where))
        return ref


def _readout(where: str, readout: Readout, block: _Block) -> dict[str, Any]:
    array = block.fit(f"{where}.values", readout.values, scalar=True)
    return {
        "label": readout.label,
        "values": block.store(f"{where}.values", array, printed=True),
        "format": readout.format,
    }


def _panel(where: str, panel: Panel, block: _Block) -> dict[str, Any]:
    made = [_mark(f"{where}.marks[{i}]", mark, block) for i, mark in enumerate(panel.marks)]
    marks, xs, ys = zip(*made, strict=True)
    bars = [mark for mark in marks if mark["kind"] == "bars"]
    for place, mark in enumerate(bars):
        mark["place"], mark["of"] = place, len(bars)
    xlim, ylim = panel.xlim, panel.ylim
    if xlim is None and bars:
        xlim = -0.6, len(bars[0]["names"]) - 0.4
    elif xlim is None:
        xlim = _automatic(f"{where}.x", xs, panel.xscale)
    if ylim is None:
        ylim = _automatic(f"{where}.y", ys, panel.yscale, bool(bars))
    return {
        "title": panel.title,
        "xlabel": panel.xlabel,
        "ylabel": panel.ylabel,
        "marks": list(marks),
        "xlim": [float(limit) for limit in xlim],
        "ylim": [float(limit) for limit in ylim],
        "xscale": panel.xscale,
        "yscale": panel.yscale,
        "equal": bool(panel.equal),
        "axes": bool(panel.axes),
    }


def _mark(where: str, mark: Mark, block: _Block) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The description of a mark, and the x and y that its axes must hold."""
    described: dict[str, Any] = {"kind": type(mark).__name__.lower(), "color": int(mark.color)}
    if isinstance(mark, Bars):
        height = block.fit(f"{where}.height", mark.height)
        _one_each(f"{where}.names", mark.names, height.shape[-1])
        described |= {
            "label": mark.label,
            "names": list(mark.names),
            "height": block.store(f"{where}.height", height),
        }
        return described, np.arange(len(mark.names), dtype=float), np.append(height.ravel(), 0.0)
    x, y = block.fit(f"{where}.x", mark.x), block.fit(f"{where}.y", mark.y)
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"{where}.x has {x.shape[-1]} points and y has {y.shape[-1]}: they must be equal."
        )
    described |= {"x": block.store(f"{where}.x", x), "y": block.store(f"{where}.y", y)}
    if isinstance(mark, Text):
        return described | _text(where, mark, x.shape[-1], block), x, y
    style = _STYLE[type(mark)]
    return described | {name: kind(getattr(mark, name)) for name, kind in style.items()}, x, y


def _text(where: str, mark: Text, points: int, block: _Block) -> dict[str, Any]:
    if mark.prefix:
        _one_each(f"{where}.prefix", mark.prefix, points)
    described = {"anchor": mark.anchor, "prefix": list(mark.prefix)}
    if isinstance(mark.text, tuple) and all(isinstance(word, str) for word in mark.text):
        _one_each(f"{where}.text", mark.text, points)
        return described | {"words": list(mark.text)}
    numbers = block.fit(f"{where}.text", mark.text)
    _one_each(f"{where}.text", numbers[(0,) * len(block.grid)], points)
    stored = block.store(f"{where}.text", numbers, printed=True)
    return described | {"numbers": stored, "format": mark.format}


def _one_each(where: str, given: Sequence[Any] | np.ndarray, points: int) -> None:
    if len(given) != points:
        raise ValueError(f"{where} has {len(given)} entries for {points}: give one for each.")


def _automatic(
    where: str, arrays: Sequence[np.ndarray], scale: str, bars: bool = False
) -> tuple[float, float]:
    """Limits that hold every point of every setting; bars stand on zero."""
    values = np.concatenate([array.ravel() for array in arrays])
    values = values[np.isfinite(values) & (scale == "linear" or values > 0)]
    if not values.size:
        wanted = "finite" if scale == "linear" else "positive, as a log axis needs it"
        raise ValueError(f"{where}: no value along {where[-1]} is {wanted}; set {where}lim.")
    low, high = float(values.min()), float(values.max())
    if scale == "log":
        low, high = math.log10(low), math.log10(high)
        pad = 0.04 * (high - low) or 0.5
        return 10 ** max(low - pad, -307), 10 ** min(high + pad, 307)
    pad = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
    if bars:
        return (low - pad if low < 0 else 0.0), (high + pad if high > 0 else 0.0)
    return low - pad, high + pad
