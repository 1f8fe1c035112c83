"""Check an explorer's description and pack it: a JSON description and one block of bytes.

Positions travel as float32 (float64 where float32 would overflow or underflow), numbers that are
printed as float64. The description holds no number that is NaN or infinite, so it is valid JSON.
"""

import keyword
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from ..plots.style import COLORS
from .spec import Bars, Line, Panel, Points, Readout, Slider, Text

MAX_BYTES = 1_000_000
"""How much an explorer may send to the browser: 1 MB."""

_FORMAT = re.compile(r"\+?,?(\.\d{1,2})?[gfed%]")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_number(value: float, spec: str) -> str:
    """Write a number as the explorer shows it: a real minus, and powers of ten as powers.

    From 1e15 on, f, d and % give way to .3g: nobody counts sixteen digits.

    Args:
        value: Any number; NaN and the infinities have their own signs.
        spec: A Python number format: optional +, comma and precision, then g, f, e, d or %.

    Returns:
        The text.

    Raises:
        ValueError: If `spec` is not such a format.

    >>> format_number(-0.000012, ".2g"), format_number(3.0, "d"), format_number(float("inf"), "g")
    ('−1.2×10⁻⁵', '3', '∞')
    """
    if not isinstance(spec, str) or not _FORMAT.fullmatch(spec):
        raise ValueError(
            f"format={spec!r} is not understood: write an optional +, an optional comma, an "
            "optional precision and one of g, f, e, d, %, for example '.3g' or '.1%'."
        )
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if spec[-1] in "fd%" and abs(value) >= 1e15:
        spec = ("+" if spec[0] == "+" else "") + ".3g"
    if spec.endswith("d"):
        spec = re.sub(r"\.\d+", "", spec)[:-1] + ".0f"
    text = format(float(value), spec)
    mantissa, exponent, power = text.partition("e")
    if exponent:
        text = f"{mantissa}×10{str(int(power)).translate(_SUPERSCRIPT)}"
    return text.replace("-", "−")


@dataclass(frozen=True)
class Packed:
    """An explorer ready to travel: the description, the bytes it points into, the values."""

    spec: dict
    data: bytes
    values: dict[str, tuple]  # of each slider, as plain int, float or str

    def array(self, ref: dict, index: Sequence[int]) -> np.ndarray:
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
    title: str,
    sliders: Sequence[Slider],
    panels: Sequence[Panel],
    readouts: Sequence[Readout],
    reserved: frozenset[str] = frozenset(),
) -> Packed:
    """Check everything and pack it.

    Args:
        title: Heading of the explorer.
        sliders: At least one.
        panels: At least one, each with at least one mark.
        readouts: Any number.
        reserved: Names a slider must not have.

    Returns:
        The description, the bytes and the slider values.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a value is; the message names the argument, the value and the way out.
    """
    if not isinstance(title, str) or not title.strip():
        raise ValueError(f"title={title!r} must be a non-empty string: say what is explored.")
    sliders = _items("sliders", sliders, Slider, at_least=1)
    panels = _items("panels", panels, Panel, at_least=1)
    readouts = _items("readouts", readouts, Readout)
    values = {}
    described = []
    for i, slider in enumerate(sliders):
        where = f"sliders[{i}]"
        name = _slider_name(where, slider.name, values, reserved)
        values[name] = _slider_values(where, slider)
        described.append(_slider(where, slider, values[name]))
    block = _Block(tuple(len(entry) for entry in values.values()), tuple(values))
    spec = {
        "title": title,
        "sliders": described,
        "panels": [_panel(f"panels[{i}]", panel, block) for i, panel in enumerate(panels)],
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


def _items(name: str, value, kind: type, at_least: int = 0) -> tuple:
    if isinstance(value, kind):
        raise TypeError(f"{name} must be a list of {kind.__name__}: write [{kind.__name__}(...)].")
    try:
        items = tuple(value)
    except TypeError:
        raise TypeError(f"{name}={value!r} must be a list of {kind.__name__}.") from None
    if len(items) < at_least:
        raise ValueError(f"{name} is empty: give at least one {kind.__name__}.")
    for i, item in enumerate(items):
        if not isinstance(item, kind):
            raise TypeError(f"{name}[{i}]={item!r} must be a {kind.__name__}.")
    return items


def _slider_name(where: str, name, seen: dict, reserved: frozenset[str]) -> str:
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(
            f"{where}.name={name!r} must be a Python identifier such as 'learning_rate', because "
            "the explorer has an attribute of this name."
        )
    if name in seen:
        raise ValueError(f"{where}.name={name!r} is taken by another slider: rename one of them.")
    if name.startswith("_") or name in reserved:
        raise ValueError(
            f"{where}.name={name!r} is an attribute that every explorer has already: choose "
            f"another, for example '{name.strip('_')}_value'."
        )
    return name


def _slider_values(where: str, slider: Slider) -> tuple:
    given = slider.values
    if isinstance(given, str):
        raise TypeError(f"{where}.values={given!r} is one string: write a list, ['a', 'b'].")
    if hasattr(given, "detach"):
        given = given.detach().cpu()
    if hasattr(given, "tolist"):
        given = given.tolist()
    try:
        values = tuple(v.item() if hasattr(v, "item") else v for v in given)
    except TypeError:
        raise TypeError(f"{where}.values={slider.values!r} must be a list.") from None
    if len(values) < 2:
        raise ValueError(
            f"{where}.values={values!r} leaves nothing to move: give the slider at least two "
            "values."
        )
    words = [isinstance(v, str) for v in values]
    numbers = [isinstance(v, int | float) and not isinstance(v, bool) for v in values]
    if not (all(words) or all(numbers)):
        raise TypeError(f"{where}.values={values!r} must be all numbers or all strings.")
    if all(numbers) and not all(isinstance(v, int) for v in values):
        values = tuple(float(v) for v in values)
    if all(numbers) and not all(math.isfinite(v) for v in values):
        raise ValueError(f"{where}.values={values!r} must be finite: a slider cannot stand at NaN.")
    if len(set(values)) < len(values):
        twice = next(v for i, v in enumerate(values) if v in values[:i])
        raise ValueError(f"{where}.values holds {twice!r} twice: leave one out.")
    return values


def _slider(where: str, slider: Slider, values: tuple) -> dict:
    start = slider.start
    if isinstance(start, bool) or not hasattr(start, "__index__"):
        raise TypeError(f"{where}.start={start!r} must be the index of a value, an integer.")
    if not 0 <= start < len(values):
        raise ValueError(
            f"{where}.start={start} is no index into its {len(values)} values: use 0 to "
            f"{len(values) - 1}."
        )
    try:
        shown = [v if isinstance(v, str) else format_number(v, slider.format) for v in values]
    except ValueError as error:
        raise ValueError(f"{where}.{error}") from None
    if len(set(shown)) < len(shown):
        twice = next(v for i, v in enumerate(shown) if v in shown[:i])
        raise ValueError(
            f"{where}.format={slider.format!r} shows two of its values as {twice!r}: give it more "
            "digits."
        )
    return {
        "name": slider.name,
        "label": _words(f"{where}.label", slider.label),
        "shown": shown,
        "start": start.__index__(),
    }


def _words(where: str, value) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{where}={value!r} must be a string.")
    return value


def _choice(where: str, value, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise ValueError(f"{where}={value!r} is unknown: use one of {', '.join(allowed)}.")
    return value


def _positive(where: str, value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{where}={value!r} must be a positive number.")
    return float(value)


def _color(where: str, value) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or not 0 <= value < len(COLORS):
        raise ValueError(
            f"{where}={value!r} must be an index into the palette: 0 to {len(COLORS) - 1}."
        )
    return value.__index__()


def _format(where: str, value) -> str:
    try:
        format_number(0.0, value)
    except ValueError as error:
        raise ValueError(f"{where}.{error}") from None
    return value


def _numbers(where: str, value) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError
    except (TypeError, ValueError):
        raise TypeError(
            f"{where}={value!r:.80} must be an array of real numbers (nested lists must have "
            "equal lengths)."
        ) from None
    return array.astype(np.float64)


class _Block:
    """The bytes of all arrays, one after the other."""

    def __init__(self, grid: tuple[int, ...], names: tuple[str, ...]) -> None:
        self.grid, self.names = grid, names
        self.data = bytearray()
        self.sizes: list[tuple[int, str]] = []

    def fit(self, where: str, value, scalar: bool = False) -> np.ndarray:
        """The values with one axis per slider and one of points."""
        array = _numbers(where, value)
        own = array.shape
        expected = ", ".join(
            f"{size} ({name}) or 1" for name, size in zip(self.names, self.grid, strict=True)
        )
        if scalar:
            array = array[..., None]
        expected = f"({expected})" if scalar else f"({expected}, points)"
        if array.ndim == 1:
            array = array.reshape((1,) * len(self.grid) + array.shape)
        fits = array.ndim == len(self.grid) + 1 and all(
            size in (1, n) for size, n in zip(array.shape, self.grid, strict=False)
        )
        if not fits:
            always = "()" if scalar else "(points,)"
            raise ValueError(
                f"{where} has shape {own}, which does not fit the sliders: expected {expected}, "
                f"or {always} where it is the same at every setting."
            )
        if array.shape[-1] == 0:
            raise ValueError(f"{where} is empty: give at least one point.")
        return array

    def store(self, where: str, array: np.ndarray, printed: bool = False) -> dict:
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


def _readout(where: str, readout: Readout, block: _Block) -> dict:
    array = block.fit(f"{where}.values", readout.values, scalar=True)
    return {
        "label": _words(f"{where}.label", readout.label),
        "values": block.store(f"{where}.values", array, printed=True),
        "format": _format(where, readout.format),
    }


def _panel(where: str, panel: Panel, block: _Block) -> dict:
    for name in ("title", "xlabel", "ylabel"):
        _words(f"{where}.{name}", getattr(panel, name))
    where = f"{where} ({panel.title!r})"
    marks = panel.marks
    if isinstance(marks, Line | Points | Bars | Text):
        raise TypeError(f"{where}.marks must be a tuple of marks: write (mark,).")
    try:
        marks = tuple(marks)
    except TypeError:
        raise TypeError(f"{where}.marks={marks!r} must be a tuple of marks.") from None
    if not marks:
        raise ValueError(f"{where}.marks is empty: give at least one mark.")
    scales = {
        axis: _choice(f"{where}.{axis}scale", getattr(panel, f"{axis}scale"), ("linear", "log"))
        for axis in "xy"
    }
    if panel.equal and "log" in scales.values():
        raise ValueError(f"{where}.equal=True needs linear axes: drop it or the log scale.")
    packed, extent = [], {"x": [], "y": []}
    for i, mark in enumerate(marks):
        described, xs, ys = _mark(f"{where}.marks[{i}]", mark, block)
        packed.append(described)
        extent["x"].append(xs)
        extent["y"].append(ys)
    bars = [mark for mark in packed if mark["kind"] == "bars"]
    if any(mark["names"] != bars[0]["names"] for mark in bars):
        raise ValueError(f"{where}: all Bars of one panel must have the same names.")
    if bars and scales["x"] == "log":
        raise ValueError(f"{where}.xscale='log' cannot hold Bars: use 'linear'.")
    for place, mark in enumerate(bars):
        mark["place"], mark["of"] = place, len(bars)
    limits = {}
    for axis in "xy":
        given = getattr(panel, f"{axis}lim")
        limits[axis] = (
            _automatic(f"{where}.{axis}", extent[axis], scales[axis], bool(bars))
            if given is None
            else _given(f"{where}.{axis}lim", given, scales[axis])
        )
    if bars and panel.xlim is None:
        limits["x"] = [-0.6, len(bars[0]["names"]) - 0.4]
    return {
        "title": panel.title,
        "xlabel": panel.xlabel,
        "ylabel": panel.ylabel,
        "marks": packed,
        "xlim": limits["x"],
        "ylim": limits["y"],
        "xscale": scales["x"],
        "yscale": scales["y"],
        "equal": bool(panel.equal),
        "axes": bool(panel.axes),
    }


def _mark(where: str, mark, block: _Block) -> tuple[dict, np.ndarray, np.ndarray]:
    if not isinstance(mark, Line | Points | Bars | Text):
        raise TypeError(f"{where}={mark!r:.80} must be a Line, Points, Bars or Text.")
    described = {"kind": type(mark).__name__.lower(), "color": _color(where + ".color", mark.color)}
    if isinstance(mark, Bars):
        names = mark.names
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"{where}.names={names!r} must be a tuple of strings.")
        height = block.fit(f"{where}.height", mark.height)
        if height.shape[-1] != len(names):
            raise ValueError(
                f"{where}.height has {height.shape[-1]} bars, but names has {len(names)}: give "
                "one name per bar."
            )
        described |= {
            "label": _words(f"{where}.label", mark.label),
            "names": list(names),
            "height": block.store(f"{where}.height", height),
        }
        return described, np.arange(len(names), dtype=float), np.append(height.ravel(), 0.0)
    x, y = block.fit(f"{where}.x", mark.x), block.fit(f"{where}.y", mark.y)
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"{where}.x has {x.shape[-1]} points and y has {y.shape[-1]}: they must be equal."
        )
    described |= {"x": block.store(f"{where}.x", x), "y": block.store(f"{where}.y", y)}
    if isinstance(mark, Text):
        described |= _text(where, mark, x.shape[-1], block)
    else:
        described["label"] = _words(f"{where}.label", mark.label)
    if isinstance(mark, Line):
        described["dash"] = _choice(f"{where}.dash", mark.dash, ("solid", "dashed", "dotted"))
        described["width"] = _positive(f"{where}.width", mark.width)
        described["marker"] = bool(mark.marker)
    if isinstance(mark, Points):
        described["size"] = _positive(f"{where}.size", mark.size)
        described["hollow"] = bool(mark.hollow)
    return described, x, y


def _text(where: str, mark: Text, points: int, block: _Block) -> dict:
    described = {"anchor": _choice(f"{where}.anchor", mark.anchor, ("start", "middle", "end"))}
    prefix = (mark.prefix,) * points if isinstance(mark.prefix, str) else tuple(mark.prefix)
    if prefix and len(prefix) != points:
        raise ValueError(
            f"{where}.prefix has {len(prefix)} entries for {points} positions: give one for each."
        )
    described["prefix"] = [_words(f"{where}.prefix", word) for word in prefix]
    words = (mark.text,) if isinstance(mark.text, str) else mark.text
    if isinstance(words, list | tuple) and words and all(isinstance(w, str) for w in words):
        if len(words) != points:
            raise ValueError(
                f"{where}.text has {len(words)} entries for {points} positions: give one for each."
            )
        return described | {"words": list(words)}
    numbers = block.fit(f"{where}.text", words)
    if numbers.shape[-1] != points:
        raise ValueError(
            f"{where}.text has {numbers.shape[-1]} numbers for {points} positions: give one for "
            "each."
        )
    described["numbers"] = block.store(f"{where}.text", numbers, printed=True)
    described["format"] = _format(where, mark.format)
    return described


def _given(where: str, limits, scale: str) -> list[float]:
    try:
        low, high = (float(v) for v in limits)
    except (TypeError, ValueError):
        raise TypeError(f"{where}={limits!r} must be two numbers, (low, high).") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{where}={limits!r} must be finite, the lower number first.")
    if scale == "log" and low <= 0:
        raise ValueError(f"{where}={limits!r} must be above 0 on a log axis.")
    return [low, high]


def _finite(arrays: Sequence[np.ndarray]) -> Iterator[float]:
    return chain.from_iterable(a[np.isfinite(a)].ravel() for a in arrays)


def _automatic(where: str, arrays: list[np.ndarray], scale: str, bars: bool) -> list[float]:
    values = np.fromiter(_finite(arrays), float)
    if scale == "log":
        values = values[values > 0]
        if not values.size:
            raise ValueError(
                f"{where}scale='log' but no value along {where[-1]} is positive: use 'linear', or "
                f"set {where}lim."
            )
        low, high = math.log10(values.min()), math.log10(values.max())
        pad = 0.04 * (high - low) or 0.5
        return [10 ** max(low - pad, -307), 10 ** min(high + pad, 307)]
    if not values.size:
        raise ValueError(f"{where}: no value along {where[-1]} is finite; set {where}lim.")
    low, high = float(values.min()), float(values.max())
    pad = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
    if bars and where.endswith("y"):
        return [low - pad if low < 0 else 0.0, high + pad if high > 0 else 0.0]
    return [low - pad, high + pad]
