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


def assemble(
    rows: Sequence[ClosedStep],
    parameters: tuple[str, ...],
    counts: tuple[int, ...],
    types: dict[str, str],
    weighted: set[str],
    later: set[tuple[str, int]],
) -> GradientRecord:
    """The record of closed rows.

    Args:
        rows: As the recorder keeps them, oldest first.
        parameters: Names of the parameters.
        counts: How many numbers each has.
        types: Class name of each watched module, in the order of the model.
        weighted: Names of the modules with a weight of two or more dimensions.
        later: (module, call) pairs that belong to a second forward pass of the model in a step.

    Returns:
        The frozen record.
    """
    number = {name: i for i, name in enumerate(types)}
    keys = merged_order((row.keys for row in rows), lambda key: (key[1], number[key[0]]))
    layers = tuple(label(key) for key in keys)
    place = {key: i for i, key in enumerate(keys)}
    outputs = torch.full((len(rows), len(keys), QUANTITIES), math.nan, dtype=torch.float64)
    sizes = torch.full((3, len(rows), len(parameters)), math.nan, dtype=torch.float64)
    scales = torch.ones(len(rows), dtype=torch.float64)
    losses, rates, norms = (torch.full_like(scales, math.nan) for _ in range(3))
    sizes_of = torch.tensor(counts, dtype=torch.float64)
    for i, row in enumerate(rows):
        if row.keys:
            columns = [place[key] for key in row.keys]
            outputs[i, columns] = row.outputs.read().reshape(-1, QUANTITIES)
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
    steps = tuple(row.step for row in rows)
    return GradientRecord(
        layers=layers,
        layer_types=tuple(types[name] for name, _, _ in keys),
        trunk=in_trunk(keys, weighted, later),
        steps=steps,
        **quantities,
        parameters=parameters,
        parameter_rms=sizes[0].clone(),
        parameter_grad_rms=sizes[1].clone(),
        parameter_grad_rms_largest=sizes[1].clone(),
        update_ratio=sizes[2].clone(),
        total_grad_norm=norms,
        lr=rates,
        losses=losses,
        grad_scale=scales,
        first_nonfinite=_first_nonfinite(
            rows, layers, parameters, quantities, outputs[:, :, GRAD_ORDER], sizes[1], losses
        ),
    )


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
