"""What the rules over a run are asked on: the record as arrays, and what they have in common."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ...recording import GradientRecord
from ..names import in_words
from ..report import Finding
from ..rules.rule import EVERYTHING, Rule

FEWEST = 10
"""Rows below which a course over steps is not judged."""


def levels(values: np.ndarray, width: int) -> np.ndarray:
    """Running median along the first axis over `width` rows, fewer at the ends; NaN left out."""
    half = width // 2
    rows = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return np.array([level(row) for row in rows])


def level(values: np.ndarray) -> np.ndarray:
    """Median along the first axis without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    filled = np.sort(np.where(known, values, math.inf), axis=0)  # the missing behind
    count = known.sum(0)
    low = np.take_along_axis(filled, np.maximum((count - 1) // 2, 0)[None], 0)[0]
    high = np.take_along_axis(filled, np.minimum(count // 2, len(values) - 1)[None], 0)[0]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(count > 0, low + (high - low) / 2, math.nan)


def ratio(a: float, b: float) -> float:
    """a/b; infinite where b is 0 and a is not, NaN where both are."""
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.inf
    return a / b


def figure(value: float) -> str:
    """A number in a sentence, to two digits.

    >>> figure(0.01234), figure(123456.0)
    ('0.012', '1.2e+05')
    """
    return f"{value:.2g}" if abs(value) < 10 or abs(value) >= 1e4 else f"{value:.0f}"


@dataclass
class Run:
    """One record, while the rules are asked about it.

    Rows from the first NaN or Inf that stays are cut off: what came before it is judged.

    Attributes:
        record: As given.
        findings: What the rules before this one have found.
        notes: What is worth saying beside the verdict.
        undecided: What the record does not decide, and what to record next time.
        silenced: Names of the rules that are not asked any more.
        rows: How many rows are judged.
    """

    record: GradientRecord
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    silenced: set[str] = field(default_factory=set)
    rows: int = 0

    def __post_init__(self) -> None:
        self.rows = len(self.record)
        with np.errstate(all="ignore"):
            bad = self.broken_rows()
        if bad.any() and bad[-1]:
            still = np.flatnonzero(~bad)
            self.rows = int(still[-1]) + 1 if len(still) else 0

    def ask(self, rule: Rule) -> None:
        """Ask one rule, unless another has silenced it."""
        if self.silenced & {rule.name, *EVERYTHING}:
            return
        answer = rule.look(self)
        if answer:
            self.findings += [answer] if isinstance(answer, Finding) else answer
            self.silenced |= set(rule.silences)

    def array(self, values: Tensor) -> np.ndarray:
        """A quantity over the rows that are judged, Inf as NaN."""
        found = values[: self.rows].numpy()
        return np.where(np.isfinite(found), found, math.nan)

    def broken_rows(self) -> np.ndarray:
        """Rows with a NaN or Inf that does harm: in the loss, the parameters or the gradients.

        An Inf in an output on purpose (a mask) does none. A loss that is NaN was not given, or
        is NaN: rows in which the gradients tell are enough.
        """
        record = self.record
        bad = np.isinf(record.losses.numpy())
        for quantity in (record.grad_nan, record.grad_inf):
            bad = bad | (quantity.numpy() > 0).any(1)
        for quantity in (record.parameter_rms, record.parameter_grad_rms):
            bad = bad | np.isinf(quantity.numpy()).any(1)
        known = ~np.isnan(record.parameter_rms.numpy())
        lost = np.cumsum(known, 0).astype(bool) & ~known  # it had a size before
        return bad | lost.any(1) | ((record.output_nan.numpy() > 0).any(1))

    def step(self, row: int) -> int:
        """Index of the training step of a row."""
        return self.record.steps[max(0, min(row, len(self.record) - 1))]

    @property
    def losses(self) -> np.ndarray:
        """The loss; NaN where it was not given."""
        return self.array(self.record.losses)

    @property
    def trunk(self) -> list[int]:
        """Columns of the layers with weights, one call of each; all where there are fewer than two.

        With several batches in a step the calls `name#2`, … are of the same weights.
        """
        plain = [i for i in self.record.columns() if "#" not in self.record.layers[i]]
        return plain or self.record.columns()

    @property
    def weights(self) -> dict[int, int]:
        """Column of a parameter by column of its layer, input side first: weights of the trunk."""
        place = {name: i for i, name in enumerate(self.record.parameters)}
        found = {}
        for column in self.trunk:
            layer = self.record.layers[column].split("[")[0]
            for name in (f"{layer}.weight", f"{layer}.parametrizations.weight.original1"):
                if self.record.trunk[column] and name in place:
                    found[column] = place[name]
        return found

    @property
    def moved(self) -> np.ndarray:
        """(rows, parameters) ‖Δθ‖/‖θ‖; all NaN without an optimizer."""
        return self.array(self.record.update_ratio)

    @property
    def has_updates(self) -> bool:
        """Whether the record knows the steps of the optimizer."""
        return bool(np.isfinite(self.moved).any())

    def owner(self, parameter: str) -> str:
        """Name of the layer that a parameter belongs to."""
        return parameter.rpartition(".")[0] or "(model)"

    def in_words(self, names: Iterable[str]) -> str:
        """Layers in a line, each with its type."""
        types = dict(zip(self.record.layers, self.record.layer_types, strict=True))
        return in_words(names, lambda name: types.get(name, ""))
