"""Theory beside measurement: a claim fails the build when the two part.

A notebook states a number, measures it in the next cell and hands both to `compare`. The row
shows theory | measured ± spread | tolerance | verdict, and a claim that does not hold raises
`ClaimError`, which turns the cell, the notebook and CI red.
"""

import html
import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arguments import real

_NUMBER = r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
_FORMS = (
    "a number (relative: 0.02), '2 %', '±0.03' (absolute), '×10' (a factor either way), "
    "'3 s.e.' (standard errors of the measured mean), 'at most', 'at least', 'below', 'above' "
    "or 'exact'"
)
_BOUNDS = {"at most": "≤", "at least": "≥", "below": "<", "above": ">"}


class ClaimError(AssertionError):
    """A measured figure lies outside the tolerance of its claim."""


@dataclass(frozen=True)
class Comparison:
    """One claim: what the formula predicts beside what was measured.

    Attributes:
        statement: The claim in words.
        theory: The predicted figure, or the bound.
        measured: The measured figure; the mean where several were measured.
        spread: Standard deviation over the measurements (0.0 for a single one).
        count: How many measurements, usually seeds.
        tolerance: The tolerance as it was written.
        source: Where the formula comes from.
        holds: Whether the measurement agrees.
    """

    statement: str
    theory: float
    measured: float
    spread: float
    count: int
    tolerance: str
    source: str
    holds: bool

    def cells(self) -> tuple[str, str, str, str, str]:
        """The row as text: statement, theory, measured ± spread, tolerance, verdict.

        Figures are rounded to what the tolerance supports, so that the row reads the same on
        every machine.
        """
        kind, size = _parse_tolerance(self.tolerance)
        theory, tolerance = f"{self.theory:.6g}", self.tolerance
        measured = _measured(self, kind, size)
        if kind in _BOUNDS:
            theory, tolerance = f"{_BOUNDS[kind]} {theory}", "bound"
            if kind in ("at most", "below") and self.holds and abs(self.theory) <= 1e-6:
                measured = "within the bound"  # round-off: its digits differ between machines
        elif kind != "exact":
            theory = _number(self.theory, _digits(self, kind, size))
        return self.statement, theory, measured, tolerance, "holds" if self.holds else "FAILS"

    @property
    def used(self) -> float:
        """The share of the tolerance that is used: above 1 the claim fails, 0 is right on the spot.

        |measured − theory| over what is allowed (of their logarithms where a factor is). Of a
        bound it is how near the figure comes: measured/bound below one, bound/measured above one,
        both positive; 0 on the safe side of 0, Inf on the other.
        """
        kind, size = _parse_tolerance(self.tolerance)
        if kind in _BOUNDS:
            used = _near_the_bound(kind, self.theory, self.measured)
        elif kind == "factor":
            ratio = self.measured / self.theory
            used = abs(math.log(ratio)) / math.log(size) if ratio > 0 else math.inf
        else:
            allowed = {
                "relative": size * abs(self.theory),
                "absolute": size,
                "s.e.": size * _standard_error(self),
                "exact": 0.0,
            }[kind]
            distance = abs(self.measured - self.theory)
            used = distance / allowed if allowed else math.inf if distance else 0.0
        return min(used, 1.0) if self.holds else max(used, 1.0)

    def __str__(self) -> str:
        statement, theory, measured, tolerance, verdict = self.cells()
        return f"{statement}: theory {theory} | measured {measured} | {tolerance} | {verdict}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _html_table([self])


_rows: dict[str, Comparison] = {}


def compare(
    statement: str,
    theory: float,
    measured: Any,
    tolerance: float | str,
    source: str = "",
) -> Comparison:
    """Set a measured figure beside the predicted one, and fail when they part.

    With m the mean of `measured` over seeds and t the theory, the claim holds if

    * `0.02` or `"2 %"`: |m − t| ≤ 0.02 |t|
    * `"±0.03"`: |m − t| ≤ 0.03
    * `"×10"`: t/10 ≤ m ≤ 10 t
    * `"3 s.e."`: |m − t| ≤ 3 s/√n, s the standard deviation over n ≥ 2 measurements
    * `"at most"`, `"below"`, `"at least"`, `"above"`: m ≤ t, m < t, m ≥ t, m > t
    * `"exact"`: m = t

    Where the environment variable `COURSE_CLAIMS` names a file, every row is added to it, a JSON
    object a line, and a claim that does not hold stops nothing: so `make seeds` sees all of them.

    Args:
        statement: The claim in words; one row of the ledger, so it must be its own.
        theory: Predicted figure, or the bound, finite.
        measured: One number, or a sequence, array or tensor of them, one per seed. All finite.
        tolerance: See above.
        source: Where the formula stands: an equation of the notebook, or author, year, equation.

    Returns:
        The comparison; shown as a table row by a notebook, as one line by `print`.

    Raises:
        ClaimError: If the claim does not hold. The row enters the ledger all the same.
        ValueError: If an argument is empty, not finite, or a tolerance that cannot be read.

    >>> print(compare("slope of x² at 1", theory=2, measured=[1.99, 2.02], tolerance="2 %"))
    slope of x² at 1: theory 2.00 | measured 2.00 ± 0.02 (n=2) | 2 % | holds
    """
    if not isinstance(statement, str) or not statement.strip():
        raise ValueError(f"statement={statement!r} must be the claim in words.")
    predictions = _as_numbers("theory", theory)
    if predictions.size != 1:
        raise ValueError(
            f"theory has {predictions.size} values, one is expected: call compare once for each."
        )
    values = _as_numbers("measured", measured)
    kind, size = _parse_tolerance(tolerance)
    predicted, mean = float(predictions[0]), float(values.mean())
    spread = float(values.std(ddof=1)) if values.size > 1 else 0.0
    if kind == "relative" and predicted == 0:
        raise ValueError(
            "theory=0 has no relative tolerance: write an absolute one, for example '±1e-9'."
        )
    if kind == "s.e." and values.size < 2:
        raise ValueError("tolerance in s.e. needs at least two measurements, for example 5 seeds.")
    if kind == "factor" and predicted <= 0:
        raise ValueError(f"theory={predicted} must be positive for a tolerance by a factor.")
    text = tolerance if isinstance(tolerance, str) else f"{100 * float(tolerance):g} %"
    holds = _holds(kind, size, predicted, mean, spread / math.sqrt(values.size))
    row = Comparison(
        statement=statement,
        theory=predicted,
        measured=mean,
        spread=spread,
        count=int(values.size),
        tolerance=text,
        source=source,
        holds=holds,
    )
    _rows[statement] = row
    if file := os.environ.get("COURSE_CLAIMS"):
        _record(row, file)
    elif not holds:
        raise ClaimError(
            f"Theory and measurement part.\n  {row}\n"
            f"  unrounded: theory {predicted:.8g}, measured {mean:.8g}.\n"
            "If you changed a number above, the formula may no longer be about this set-up: "
            "change it back or predict anew. If you changed nothing, please report it."
        )
    return row


def _record(row: Comparison, file: str) -> None:
    """Add a row to a file, as a line of JSON."""
    fields = ("statement", "theory", "measured", "spread", "count", "tolerance", "holds", "used")
    line = json.dumps({name: getattr(row, name) for name in fields}, ensure_ascii=False)
    with open(file, "a", encoding="utf-8") as lines:
        lines.write(line + "\n")


class Ledger(tuple):
    """All comparisons of a notebook, in the order in which they were first made."""

    def __str__(self) -> str:
        if not self:
            return "No comparison has been made yet."
        rows = [("claim", "theory", "measured", "tolerance", "verdict")]
        rows += [row.cells() for row in self]
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _html_table(self) if self else f"<p>{self}</p>"


def ledger() -> Ledger:
    """All rows compared since the kernel started, one per statement, as a table.

    A statement compared again replaces its row and keeps its place.

    Returns:
        A tuple of `Comparison`s that shows itself as a table.
    """
    return Ledger(_rows.values())


def _as_numbers(name: str, value: Any) -> np.ndarray:
    """`value` as a flat float64 array of finite numbers, or an error that names `name`."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    elif isinstance(value, Iterable) and not isinstance(value, np.ndarray | str):
        value = [v.detach().cpu().numpy() if hasattr(v, "detach") else v for v in value]
    try:
        values = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={value!r} must be a number or a sequence of numbers.") from None
    if not values.size:
        raise ValueError(f"{name} is empty: hand over at least one number.")
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name} holds NaN or Inf ({value!r}): a claim needs finite figures. "
            "Look at the cell that measured it."
        )
    return values


def _parse_tolerance(tolerance: float | str) -> tuple[str, float]:
    """Kind of the tolerance and its size (0.0 where there is none)."""
    if isinstance(tolerance, str):
        text = tolerance.strip()
        if text in _BOUNDS or text == "exact":
            return text, 0.0
        for kind, pattern, scale in (
            ("relative", rf"{_NUMBER} ?%", 0.01),
            ("absolute", rf"± ?{_NUMBER}", 1.0),
            ("factor", rf"× ?{_NUMBER}", 1.0),
            ("s.e.", rf"{_NUMBER} s\.e\.", 1.0),
        ):
            found = re.fullmatch(pattern, text)
            if found and float(found[1]) > (1 if kind == "factor" else 0):
                return kind, float(found[1]) * scale
    elif 0 < (real(tolerance) or 0) < math.inf:
        return "relative", float(tolerance)
    raise ValueError(f"tolerance={tolerance!r} cannot be read: write {_FORMS}.")


def _holds(kind: str, size: float, theory: float, mean: float, standard_error: float) -> bool:
    distance = abs(mean - theory)
    return {
        "relative": distance <= size * abs(theory),
        "absolute": distance <= size,
        "factor": size > 0 and theory / size <= mean <= theory * size,
        "s.e.": distance <= size * standard_error,
        "at most": mean <= theory,
        "below": mean < theory,
        "at least": mean >= theory,
        "above": mean > theory,
        "exact": mean == theory,
    }[kind]


def _near_the_bound(kind: str, bound: float, measured: float) -> float:
    """measured/bound below a bound, bound/measured above one; mirrored where both are negative."""
    if kind in ("at least", "above"):
        bound, measured = -bound, -measured
    # now measured ≤ bound is asked for
    if bound > 0:
        return max(0.0, measured / bound)
    if bound < 0 and measured < 0:
        return bound / measured
    return math.inf if measured > 0 or bound < 0 else 0.0


def _standard_error(row: Comparison) -> float:
    return row.spread / math.sqrt(row.count)


def _digits(row: Comparison, kind: str, size: float) -> int:
    """Significant digits that the tolerance supports."""
    if kind == "factor":
        return 2
    if kind == "absolute":
        size = size / (abs(row.theory) or 1.0)
    elif kind == "s.e.":
        size = size * _standard_error(row) / (abs(row.theory) or 1.0)
    # the last digit shown is a step of about the tolerance: finer ones differ between machines
    if not 0 < size < 1:
        return 2 if size > 0 else 6
    return _places(size, least=2)


def _places(size: float, least: int) -> int:
    """Places after the first that a step of about 2·`size` leaves, `least` to 12."""
    return min(12, max(least, 1 + math.ceil(-math.log10(2 * size))))


def _number(value: float, digits: int) -> str:
    """`value` with `digits` significant digits; plain between 1e-4 and 1e7, else with exponent."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(rounded))) if rounded else 0
    if -5 < exponent < 7:
        return f"{rounded:.{max(0, digits - 1 - exponent)}f}"
    return f"{rounded:.{digits - 1}e}"


def _measured(row: Comparison, kind: str, size: float) -> str:
    """The measured mean and its spread."""
    if kind == "exact":
        mean = f"{row.measured:.6g}"
    else:
        mean = _number(row.measured, 2 if kind in _BOUNDS else _digits(row, kind, size))
    if row.theory == 0 and kind in ("absolute", "s.e."):  # digits of a mean that is all round-off
        mean = _near_zero(row.measured, size if kind == "absolute" else _standard_error(row) * size)
    if row.count == 1:
        return mean
    return f"{mean} ± {_spread(row.spread, mean, kind)} (n={row.count})"


def _near_zero(value: float, size: float) -> str:
    """`value` to a decimal place finer than a tolerance of ± `size`, coarser than round-off."""
    decimals = _places(size, least=0) if size > 0 else 12
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def _spread(spread: float, mean: str, kind: str) -> str:
    """The spread to the last place of the mean as it is shown, below that as "<" that place.

    No finer digit: the tolerance speaks for the mean only, and a spread made by round-off or by a
    few last bits of a long training run differs from machine to machine.
    """
    figures, _, exponent = mean.partition("e")
    decimals = len(figures.partition(".")[2])
    place = 10.0 ** (int(exponent or 0) - decimals)
    if kind == "exact":
        return _number(spread, 1)
    if spread < place / 2:
        return f"<{place:.0e}" if exponent else f"<{place:.{decimals}f}"
    return _number(spread, 1) if exponent else f"{spread:.{decimals}f}"


def _html_table(rows: Sequence[Comparison]) -> str:
    head = "".join(
        f"<th style='text-align:left'>{name}</th>"
        for name in ("claim", "theory", "measured", "tolerance", "verdict")
    )
    body = ""
    for row in rows:
        *cells, verdict = (html.escape(cell) for cell in row.cells())
        mark = "✓" if row.holds else "✗"
        source = f"<br><small>{html.escape(row.source)}</small>" if row.source else ""
        cells[0] += source
        tds = "".join(f"<td style='text-align:left'>{cell}</td>" for cell in cells)
        body += f"<tr>{tds}<td style='text-align:left'><b>{mark} {verdict}</b></td></tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
