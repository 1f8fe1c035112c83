"""Records of several processes as one."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .assemble import merged_order
from .gradient_record import GradientRecord, NonFinite

_COUNTED = ("output_nan", "output_inf", "grad_nan", "grad_inf", "output_count")
_MEANS = ("output_mean", "zero_fraction", "saturated_fraction")
_PARAMETER_SIZES = ("parameter_rms", "parameter_grad_rms", "update_ratio")
_PARAMETERS = (*_PARAMETER_SIZES, "parameter_grad_rms_largest")


def combine(records: Sequence[GradientRecord]) -> GradientRecord:
    """Records of the processes that trained together as one record.

    A size is √(Σ n_r RMS_r² / Σ n_r) over the processes r, where n_r is the number of entries there
    (`output_count`; a gradient has as many as its output; of a parameter each process holds as
    many). Means and shares are weighted in the same way, numbers of NaN and Inf are added, a loss
    is the mean of those given, a total norm is averaged like a size. `dead_fraction` is the
    smallest, the closest bound: a unit is dead if it is so everywhere. `output_rms_largest`,
    `grad_rms_largest` and `parameter_grad_rms_largest` hold the largest of the processes.
    `first_nonfinite` is the first by step, pass and place in the forward or backward pass, with its
    `.rank`: the number of its record in the list. Steps and layers that only some have are kept.

    Note that each process scales ∂L/∂h as its own loss does: the mean over its own share of the
    batch, not that over all.

    Args:
        records: One per process, in the order of their ranks.

    Returns:
        The combined record; the record itself if there is only one.

    Raises:
        TypeError: If one of them is no GradientRecord.
        ValueError: If there is none.

    >>> from torch import nn
    >>> from course_utils import record
    >>> records = []
    >>> for size in (1.0, 7.0):
    ...     with record(nn.Identity()) as recorder:
    ...         _ = recorder.model(torch.full((4, 2), size))
    ...     records.append(recorder.record)
    >>> both = combine(records)
    >>> float(both.output_rms), float(both.output_rms_largest), both.ranks
    (5.0, 7.0, 2)
    """
    records = list(records)
    for record in records:
        if not isinstance(record, GradientRecord):
            raise TypeError(
                f"records holds {record!r}, a {type(record).__name__}: combine() takes a list of "
                "GradientRecord, one per process."
            )
    if not records:
        raise ValueError("records is empty: combine() needs the record of at least one process.")
    if len(records) == 1:
        return records[0]
    steps = tuple(sorted({step for record in records for step in record.steps}))
    layers = tuple(merged_order([record.layers for record in records]))
    parameters = tuple(merged_order([record.parameters for record in records]))
    types = {n: t for r in records for n, t in zip(r.layers, r.layer_types, strict=True)}
    trunk = {n: t for r in records for n, t in zip(r.layers, r.trunk, strict=True)}

    def stacked(name: str) -> Tensor:
        """One quantity of all processes: (ranks, steps, layers or parameters)."""
        of_parameters = name in _PARAMETERS
        names = parameters if of_parameters else layers
        result = torch.full((len(records), len(steps), len(names)), math.nan, dtype=torch.float64)
        for record, place in zip(records, result, strict=True):
            own = record.parameters if of_parameters else record.layers
            rows = torch.tensor([steps.index(step) for step in record.steps], dtype=torch.long)
            columns = torch.tensor([names.index(name) for name in own], dtype=torch.long)
            place[rows[:, None], columns] = getattr(record, name)
        return result

    def of_steps(name: str) -> Tensor:
        """One number per step of all processes: (ranks, steps)."""
        result = torch.full((len(records), len(steps)), math.nan, dtype=torch.float64)
        for record, place in zip(records, result, strict=True):
            place[[steps.index(step) for step in record.steps]] = getattr(record, name)
        return result

    losses, norms = of_steps("losses"), of_steps("total_grad_norm")
    given = of_steps("grad_scale").isfinite() & ~losses.isnan().all(1, keepdim=True)
    values: dict[str, Any] = {name: stacked(name).nan_to_num(0.0).sum(0) for name in _COUNTED}
    counts = stacked("output_count").nan_to_num(0.0)
    is_nan = {"output_rms": stacked("output_nan") > 0, "grad_rms": stacked("grad_nan") > 0}
    for name, nan in is_nan.items():
        values[name] = _mean(stacked(name), counts, nan, square=True)
        values[f"{name}_largest"] = _extreme(stacked(f"{name}_largest"), nan)
    for name in _MEANS:
        values[name] = _mean(stacked(name), counts, is_nan["output_rms"])
    values["dead_fraction"] = -_extreme(-stacked("dead_fraction"))
    for name in _PARAMETER_SIZES:
        sizes = stacked(name)
        values[name] = _mean(sizes, torch.ones_like(sizes), square=True)
    values["parameter_grad_rms_largest"] = _extreme(stacked("parameter_grad_rms_largest"))
    return GradientRecord(
        layers=layers,
        layer_types=tuple(types[name] for name in layers),
        trunk=tuple(trunk[name] for name in layers),
        steps=steps,
        parameters=parameters,
        losses=torch.where(given, losses, 0.0).sum(0) / given.sum(0),
        total_grad_norm=_mean(norms, torch.ones_like(norms), square=True),
        lr=_extreme(of_steps("lr")),
        grad_scale=_extreme(of_steps("grad_scale")),
        first_nonfinite=_first(records, layers),
        ranks=sum(record.ranks for record in records),
        **values,
    )


def gather(record: GradientRecord, group: Any) -> GradientRecord:
    """The combined record of all processes; the record itself in one process."""
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return record
    records: list[Any] = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(records, record, group=group)
    return combine(records)


def _mean(
    values: Tensor, weights: Tensor, nan: Tensor | None = None, square: bool = False
) -> Tensor:
    """Weighted mean over ranks, or root of that of the squares.

    Args:
        values: (ranks, …), NaN where a rank has nothing.
        weights: Of the same shape.
        nan: Where a NaN is a value, which stays.
        square: Whether to average squares.
    """
    counts = ~values.isnan() if nan is None else ~values.isnan() | nan
    weights = weights * counts
    scale = values.abs().nan_to_num(0.0, posinf=0.0).amax(0)
    scale = scale.where(scale > 0, 1.0)
    terms = values / scale
    terms = torch.where(weights > 0, terms.square() if square else terms, 0.0) * weights
    mean = torch.where(weights > 0, terms, 0.0).sum(0) / weights.sum(0)
    return (mean.sqrt() if square else mean) * scale


def _extreme(values: Tensor, nan: Tensor | None = None) -> Tensor:
    """The largest over ranks; NaN where none has a value, or one has a NaN that is one."""
    largest = values.nan_to_num(-math.inf, posinf=math.inf).amax(0)
    lost = values.isnan().all(0) if nan is None else values.isnan().all(0) | nan.any(0)
    return largest.where(~lost, math.nan)


def _first(records: Sequence[GradientRecord], layers: tuple[str, ...]) -> NonFinite | None:
    """The first NaN or Inf by step, pass and place, and the lowest rank of those that share it."""
    place = {name: i for i, name in enumerate(layers)}
    passes = {"forward": 0, "backward": 1}
    found = []
    for rank, record in enumerate(records):
        first = record.first_nonfinite
        if first is None:
            continue
        backward = first.pass_name == "backward"
        behind = place.get(first.layer, len(layers))  # a loss, or a parameter
        if backward:
            behind = len(layers) - 1 - behind if first.layer in place else len(layers)
        order = first.step, passes.get(first.pass_name, 2), behind, rank
        found.append((order, first))
    if not found:
        return None
    order, first = min(found)
    rank = order[-1] if first.rank is None else first.rank
    return NonFinite(first.layer, first.pass_name, first.step, rank)
