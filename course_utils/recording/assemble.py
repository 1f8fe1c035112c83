"""Rows into one frozen record: align names over steps, divide out scales, find the first NaN."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Any, TypeVar

import torch

from .gradient_record import PER_LAYER, GradientRecord, NonFinite
from .open_step import COUNT, GRAD_ORDER, QUANTITIES, ClosedStep, Key

Name = TypeVar("Name", bound=Hashable)
_SCALED = ("grad_rms",)


def merged_order(
    sequences: Iterable[tuple[Name, ...]], place: Callable[[Name], Any] | None = None
) -> list[Name]:
    """All names, each once, in an order that agrees with each sequence where they agree.

    Args:
        sequences: Names in forward order, of one step each.
        place: What decides between names that no step orders; where they first appear when None.
    """
    distinct = list(dict.fromkeys(sequences))
    if len(distinct) == 1:
        return list(dict.fromkeys(distinct[0]))
    first: dict[Name, int] = {}
    for names in distinct:
        for name in names:
            first.setdefault(name, len(first))
    behind: dict[Name, set[Name]] = {name: set() for name in first}
    for names in distinct:
        for name, after in pairwise(names):
            if name != after:
                behind[name].add(after)
    waits_for = Counter(after for names in behind.values() for after in names)
    keys = {name: (place(name) if place else 0, number) for name, number in first.items()}
    ready = [(key, name) for name, key in keys.items() if not waits_for[name]]
    heapify(ready)
    order: dict[Name, None] = {}
    left = iter(first)
    while len(order) < len(first):
        # where steps contradict each other, the one that came first in time goes first
        name = heappop(ready)[1] if ready else next(n for n in left if n not in order)
        if name in order:
            continue
        order[name] = None
        for after in behind[name]:
            waits_for[after] -= 1
            if not waits_for[after]:
                heappush(ready, (keys[after], after))
    return list(order)


class Assembly:
    """The record of the rows so far; those that have come since are appended when it is read.

    The memory doubles where it ends, and no part of it that a record shows is written again. So
    reading a record in each step costs one row a time, however many there are, and the records
    that were read before stay as they were.

    Attributes:
        assembled: How many rows have been put together, in all readings.
    """

    def __init__(self) -> None:
        self.assembled = 0
        self._columns: tuple = ()
        self._begin()

    def _begin(self) -> None:
        self._rows = 0
        self._first: ClosedStep | None = None
        self._last: tuple = ()
        self._distinct: dict[tuple[Key, ...], torch.Tensor] = {}
        self._keys: list[Key] = []
        self._steps: list[int] = []
        self._tensors: dict[str, torch.Tensor] = {}
        self._nonfinite: NonFinite | None = None

    def record(
        self,
        rows: Sequence[ClosedStep],
        parameters: tuple[str, ...],
        counts: tuple[int, ...],
        types: dict[str, str],
        weighted: set[str],
        later: set[tuple[str, int]],
    ) -> GradientRecord:
        """The frozen record of closed rows.

        Args:
            rows: As the recorder keeps them, oldest first. Of those that were there before only
                the last may have changed.
            parameters: Names of the parameters.
            counts: How many numbers each has.
            types: Class name of each watched module, in the order of the model.
            weighted: Names of the modules with a weight of two or more dimensions.
            later: (module, call) pairs that belong to a second forward pass of the model in a step.
        """
        columns = parameters, counts, tuple(types)
        if columns != self._columns or not self._goes_on(rows):
            self._begin()
            self._columns = columns
            number = {name: i for i, name in enumerate(types)}
            distinct = list(dict.fromkeys(row.keys for row in rows))
            self._keys = merged_order(distinct, lambda key: (key[1], number[key[0]]))
            place = {key: i for i, key in enumerate(self._keys)}
            self._distinct = {
                keys: torch.tensor([place[key] for key in keys], dtype=torch.long)
                for keys in distinct
            }
        layers = tuple(label(key) for key in self._keys)
        if new := [rows[i] for i in range(self._rows, len(rows))]:
            tensors, found = _together(new, layers, self._distinct, parameters, counts)
            self._append(tensors, len(rows))
            self._steps += [row.step for row in new]
            self._nonfinite = self._nonfinite or found
            self.assembled += len(new)
            self._first, self._last = rows[0], _state(rows[-1])
        elif not self._tensors:
            self._tensors, _ = _together((), layers, {}, parameters, counts)
        shown: dict[str, Any] = {name: t[: self._rows] for name, t in self._tensors.items()}
        return GradientRecord(
            layers=layers,
            layer_types=tuple(types[name] for name, _, _ in self._keys),
            trunk=in_trunk(self._keys, weighted, later),
            steps=tuple(self._steps),
            parameters=parameters,
            first_nonfinite=self._nonfinite,
            **shown,
        )

    def _goes_on(self, rows: Sequence[ClosedStep]) -> bool:
        """Whether the rows are those of the last reading, as they were, and more with like keys."""
        n = self._rows
        if not 0 < n <= len(rows) or rows[0] is not self._first:
            return False
        then, now = self._last, _state(rows[n - 1])
        if any(a is not b for a, b in zip(then, now, strict=True)):
            return False
        return all(rows[i].keys in self._distinct for i in range(n, len(rows)))

    def _append(self, new: dict[str, torch.Tensor], count: int) -> None:
        if not self._rows:
            self._tensors = new
        else:
            room = len(self._tensors["losses"])
            if count > room:
                for name, values in self._tensors.items():
                    grown = values.new_empty((max(count, 2 * room), *values.shape[1:]))
                    grown[: self._rows] = values[: self._rows]
                    self._tensors[name] = grown
            for name, values in new.items():
                self._tensors[name][self._rows : count] = values
        self._rows = count


def _state(row: ClosedStep) -> tuple:
    """What may change of a row that has been closed."""
    return row, row.loss, row.lr, row.update


def _together(
    rows: Sequence[ClosedStep],
    layers: tuple[str, ...],
    columns: dict[tuple[Key, ...], torch.Tensor],
    parameters: tuple[str, ...],
    counts: tuple[int, ...],
) -> tuple[dict[str, torch.Tensor], NonFinite | None]:
    """The quantities of some rows, by name, and the first NaN or Inf in them."""
    outputs = torch.full((len(rows), len(layers), QUANTITIES), math.nan, dtype=torch.float64)
    sizes = torch.full((3, len(rows), len(parameters)), math.nan, dtype=torch.float64)
    scales = torch.ones(len(rows), dtype=torch.float64)
    losses, rates, norms = (torch.full_like(scales, math.nan) for _ in range(3))
    sizes_of = torch.tensor(counts, dtype=torch.float64)
    for i, row in enumerate(rows):
        if row.keys:
            outputs[i, columns[row.keys]] = row.outputs.read().reshape(-1, QUANTITIES)
        scales[i] = float(row.scale)
        losses[i], rates[i] = math.nan if row.loss is None else float(row.loss), row.lr
        known = len(row.has_grad)  # parameters that came later have columns behind these
        sizes[:2, i, :known] = row.parameters.read().reshape(2, -1)
        if row.scale_applies:
            sizes[1, i] /= scales[i]
        norms[i] = total_norm(sizes[1, i, :known], sizes_of[:known], row.has_grad)
        if row.update is not None:
            before, change = row.update.read().reshape(2, -1)
            sizes[2, i, : len(change)] = torch.where(
                (before == 0) & (change == 0), 0.0, change / before
            )
    measured = enumerate(PER_LAYER[:GRAD_ORDER])
    quantities: dict[str, Any] = {name: outputs[:, :, q].clone() for q, name in measured}
    quantities["output_count"] = outputs[:, :, COUNT].nan_to_num(0.0)
    for name in _SCALED:
        quantities[name] /= scales[:, None]
    for name in ("output_rms", "grad_rms"):
        quantities[f"{name}_largest"] = quantities[name].clone()
    for name in ("output_nan", "output_inf", "grad_nan", "grad_inf"):
        quantities[name].nan_to_num_(0.0)
    found = _first_nonfinite(
        rows, layers, parameters, quantities, outputs[:, :, GRAD_ORDER], sizes[1], losses
    )
    quantities["parameter_rms"] = sizes[0].clone()
    quantities["parameter_grad_rms"] = sizes[1].clone()
    quantities["parameter_grad_rms_largest"] = sizes[1].clone()
    quantities["update_ratio"] = sizes[2].clone()
    quantities["total_grad_norm"], quantities["lr"] = norms, rates
    quantities["losses"], quantities["grad_scale"] = losses, scales
    return quantities, found


def total_norm(rms: torch.Tensor, counts: torch.Tensor, has_grad: Sequence[bool]) -> float:
    """√Σ n·rms² over the parameters that have a gradient; NaN where none has."""
    have = torch.tensor(has_grad, dtype=torch.bool)
    if not have.any():
        return math.nan
    return float((counts[have] * rms[have].square()).sum().sqrt())


def label(key: Key) -> str:
    """Name of a layer in the record: `encoder.0`, `cell#2`, `lstm[1][0]`."""
    name, call, path = key
    return f"{name}{'' if call == 1 else f'#{call}'}{path}"


def in_trunk(
    keys: Sequence[Key], weighted: set[str], later: set[tuple[str, int]]
) -> tuple[bool, ...]:
    """Which layers count as depth: with a weight, first forward pass, first tensor."""
    result, seen = [], set()
    for name, call, _ in keys:
        first = (name, call) not in seen and (name, call) not in later
        seen.add((name, call))
        result.append(first and name in weighted)
    return tuple(result)


def _first_nonfinite(
    rows: Sequence[ClosedStep],
    layers: tuple[str, ...],
    parameters: tuple[str, ...],
    quantities: dict[str, torch.Tensor],
    arrival: torch.Tensor,
    parameter_grads: torch.Tensor,
    losses: torch.Tensor,
) -> NonFinite | None:
    """Look in the order of time: outputs, loss, gradients as they arrived, parameters' gradients.

    A loss that was not given is NaN too, so only one that was given counts.
    """
    bad_output = quantities["output_nan"] + quantities["output_inf"] > 0
    bad_grad = quantities["grad_nan"] + quantities["grad_inf"] > 0
    for i, row in enumerate(rows):
        if bad_output[i].any():
            return NonFinite(layers[int(bad_output[i].int().argmax())], "forward", row.step)
        if row.loss is not None and not losses[i].isfinite():
            return NonFinite("(loss)", "forward", row.step)
        if bad_grad[i].any():
            order = torch.where(bad_grad[i], arrival[i], math.inf)
            return NonFinite(layers[int(order.argmin())], "backward", row.step)
        has_grad = torch.tensor(row.has_grad, dtype=torch.bool)
        bad = ~parameter_grads[i, : len(has_grad)].isfinite() & has_grad
        if bad.any():
            return NonFinite(parameters[int(bad.int().argmax())], "backward", row.step)
    return None
