"""Explorer of notebook 11: what a number format makes of the sizes of a gradient."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from .. import theory
from .grid import GridExplorer, Line, Panel, Points, Readout, Slider


@dataclass(frozen=True)
class Format:
    """A number format by its ends and its digits.

    Attributes:
        name: As the slider shows it.
        mantissa: m.
        normal: log₂ of the smallest normal number.
        largest: The largest number.
    """

    name: str
    mantissa: int
    normal: int
    largest: float

    @property
    def zero(self) -> float:
        """Half the smallest subnormal number: up to here a size becomes 0."""
        return 2.0 ** (self.normal - self.mantissa - 1)

    @property
    def over(self) -> float:
        """From half a gap above the largest number on a size overflows."""
        gap = 2.0 ** (math.floor(math.log2(self.largest)) - self.mantissa)
        return self.largest + gap / 2


def _ieee(name: str, exponent: int, mantissa: int) -> Format:
    normal = round(math.log2(theory.smallest_normal(exponent)))
    return Format(name, mantissa, normal, theory.largest_number(exponent, mantissa))


FORMATS = (
    _ieee("float32", 8, 23),
    _ieee("bfloat16", 8, 7),
    _ieee("float16", 5, 10),
    _ieee("float8 e5m2", 5, 2),
    Format("float8 e4m3", 3, -6, 448.0),  # no Inf: its highest exponent holds numbers too
)
CENTERS = (-40, -36, -32, -28, -26, -24, -20, -16, -12, -8, -4, 0, 8)
SPREADS = (0.5, 1.5, 3.0, 5.0)
LOG2_SCALES = (0, 4, 8, 10, 12, 16, 24)

_SAMPLES = 2000
_EDGES = np.arange(-60, 41, 2)
_FLOOR = 1e-4
_TALL = np.array([0.0, 1.0])


def precision_explorer() -> GridExplorer:
    """Explorer of notebook 11: which entries of a gradient a format holds, and at which loss scale.

    The sizes are Gaussian on a log₂ axis, log₂|g| ~ N(μ, s²), taken at their quantiles, and are
    multiplied by the loss scale S before they are rounded. The panels show how they spread over the
    octaves before and after rounding, beside the ends of the format, and the shares that become 0
    and overflow against S, measured and as theory has them. Readouts are both shares, and of the
    entries that do not overflow the relative error and the cosine.

    Returns:
        The explorer, with the traits `format`, `center`, `spread` and `log2_scale`.
    """
    grid = measure()
    share = np.where(grid["after"] > 0, grid["after"], np.nan)
    before = np.where(grid["before"] > 0, grid["before"], np.nan)[None]
    middle = (_EDGES[:-1] + _EDGES[1:]) / 2
    scale = np.array(LOG2_SCALES, dtype=np.float64)
    fine = np.arange(0, 25, dtype=np.float64)
    flushed, over = theory_shares(fine)
    at = np.array([_FLOOR, 1.0])
    return GridExplorer(
        title="Which of these gradients survive?",
        sliders=(
            Slider("format", "number format", [one.name for one in FORMATS], start=2),
            Slider("center", "center of log₂|g|, μ", CENTERS, start=4, format="d"),
            Slider("spread", "spread s in octaves", SPREADS, start=2, format=".1f"),
            Slider("log2_scale", "loss scale, log₂S", LOG2_SCALES, start=0, format="d"),
        ),
        panels=(
            Panel(
                title="Sizes before and after rounding",
                xlabel="log₂(S·|g|)",
                ylabel="share of two octaves",
                marks=(
                    Line(middle, before, "before", color=6, width=1.5, dash="dashed"),
                    Line(middle, share, "after", color=0, marker=True),
                    Line(_border(lambda one: one.zero), at, "becomes 0 below", color=1),
                    Line(
                        _border(lambda one: 2.0**one.normal),
                        at,
                        "all digits above",
                        color=2,
                        width=1.5,
                        dash="dotted",
                    ),
                    Line(
                        _border(lambda one: one.over), at, "overflows above", color=3, dash="dashed"
                    ),
                ),
                xlim=(float(_EDGES[0]), float(_EDGES[-1])),
                ylim=(_FLOOR, 1.0),
                yscale="log",
            ),
            Panel(
                title="What is lost at each loss scale",
                xlabel="log₂S",
                ylabel="share of the entries",
                marks=(
                    Line(fine, flushed, "becomes 0, theory", color=1),
                    Line(fine, over, "overflows, theory", color=3, dash="dashed"),
                    Points(scale, grid["flushed"][..., None, :], "becomes 0", color=1),
                    Points(scale, grid["over"][..., None, :], "overflows", color=3),
                    Line(np.stack([scale, scale], -1)[None, None, None], _TALL, "S now", width=1),
                ),
                xlim=(-0.5, 24.5),
                ylim=(0.0, 1.0),
            ),
        ),
        readouts=(
            Readout("share that becomes 0", grid["flushed"], ".2%"),
            Readout("share that overflows", grid["over"], ".2%"),
            Readout("relative error of the others", grid["error"], ".2%"),
            Readout("their cosine", grid["cosine"], ".4f"),
        ),
    )


def measure() -> dict[str, np.ndarray]:
    """What each format makes of the sizes, at every setting of the sliders.

    Returns:
        `before` of shape (centers, spreads, scales, bins) and `after` with the formats in front:
        shares of the bins, what becomes 0 or overflows in none. `flushed`, `over`, `error` and
        `cosine` of shape (formats, centers, spreads, scales).
    """
    quantiles = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    z = np.array([NormalDist().inv_cdf(q) for q in quantiles])
    log2 = np.array(CENTERS)[:, None, None] + np.array(SPREADS)[:, None] * z
    shape = (len(FORMATS), len(CENTERS), len(SPREADS), len(LOG2_SCALES))
    after = np.zeros((*shape, len(_EDGES) - 1))
    before = np.zeros((*shape[1:], len(_EDGES) - 1))
    flushed, over, error, cosine = (np.zeros(shape) for _ in range(4))
    for k, scale in enumerate(LOG2_SCALES):
        sizes = np.exp2(log2 + scale)
        before[:, :, k] = _histogram(sizes)
        for i, one in enumerate(FORMATS):
            rounded = round_to(sizes, one)
            flushed[i, :, :, k] = (rounded == 0).mean(-1)
            infinite = np.isinf(rounded)
            over[i, :, :, k] = infinite.mean(-1)
            after[i, :, :, k] = _histogram(np.where(infinite, 0, rounded))
            x, y = np.where(infinite, 0, sizes), np.where(infinite, 0, rounded)
            unit = x.max(-1, keepdims=True)  # squares would leave float64
            x, y = x / np.where(unit > 0, unit, 1), y / np.where(unit > 0, unit, 1)
            with np.errstate(invalid="ignore", divide="ignore"):
                error[i, :, :, k] = np.sqrt(((y - x) ** 2).sum(-1) / (x**2).sum(-1))
                product = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
                cosine[i, :, :, k] = (x * y).sum(-1) / product
    return {
        "before": before,
        "after": after,
        "flushed": flushed,
        "over": over,
        "error": error,
        "cosine": cosine,
    }


def round_to(sizes: np.ndarray, one: Format) -> np.ndarray:
    """Sizes rounded to a format, halves to the even neighbor; Inf for what overflows.

    Args:
        sizes: Positive numbers, any shape.
        one: The format.

    Returns:
        Numbers of the format, of the same shape.

    >>> round_to(np.array([2.0**-26, 0.1, 7e4]), FORMATS[2])
    array([0.        , 0.09997559,        inf])
    """
    exponent = np.maximum(np.floor(np.log2(sizes)), one.normal)
    gap = np.exp2(exponent - one.mantissa)
    rounded = np.round(sizes / gap) * gap
    return np.where(rounded > one.largest, np.inf, rounded)


def theory_shares(log2_scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares that become 0 and that overflow, Φ at both ends of each format.

    Args:
        log2_scales: log₂S, shape (points,).

    Returns:
        Two arrays of shape (formats, centers, spreads, 1, points).
    """
    mean = np.array(CENTERS)[:, None, None, None] + log2_scales
    std = np.array(SPREADS)[:, None, None]
    ends = np.array([[math.log2(one.zero), math.log2(one.over)] for one in FORMATS])
    low, high = ends.T[:, :, None, None, None, None]
    return _phi((low - mean) / std), _phi((mean - high) / std)


_phi = np.vectorize(NormalDist().cdf, otypes=[np.float64])


def _histogram(sizes: np.ndarray) -> np.ndarray:
    """Share of the last axis in each bin of log₂; 0 lies in none."""
    bins = np.full(sizes.shape, len(_EDGES) - 1)
    there = sizes > 0
    place = np.floor((np.log2(sizes, where=there, out=np.zeros_like(sizes)) - _EDGES[0]) / 2)
    there &= (place >= 0) & (place < len(_EDGES) - 1)
    bins[there] = place[there].astype(int)
    rows = bins.reshape(-1, sizes.shape[-1])
    counts = np.array([np.bincount(row, minlength=len(_EDGES))[:-1] for row in rows])
    return counts.reshape(*sizes.shape[:-1], -1) / sizes.shape[-1]


def _border(end: Callable[[Format], float]) -> np.ndarray:
    """log₂ of an end of each format as both ends of a vertical line; NaN outside of the panel."""
    places = np.array([math.log2(end(one)) for one in FORMATS])
    places[(places < _EDGES[0]) | (places > _EDGES[-1])] = np.nan
    return np.repeat(places[:, None], 2, axis=1)[:, None, None, None]
