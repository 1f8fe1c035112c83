"""Units of a layer that are one unit: equal weights in, equal gradients, and so at every step.

Swapping two units changes nothing if their incoming weights are equal and their outgoing ones
too. Their gradients are equal then, an optimizer moves them alike, and they stay equal for ever.
Equal incoming weights alone are no symmetry: other outgoing weights tell the units apart at the
first step, and so do the targets for the units of an output.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .. import remedies
from ..bare_weights import unit_axis
from ..graph import follow
from ..layer_calls import CONVOLUTIONS, BareWeight, LayerCall
from ..measured_pass import MeasuredPass
from ..report import Finding
from .rule import Case, rule

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONTAINERS = (nn.ParameterList, nn.ParameterDict)
_SAMPLED = 16
"""So many incoming weights of each unit are compared first."""

_EXPLAINED = ("through_time", "over_depth", "shattered", "saturated")


class Units(NamedTuple):
    """Numbers that belong to the units of a layer: what they read, or what reads them.

    Attributes:
        call: The layer that the weights are of.
        weights: (units, weights of a unit); gates of a recurrent layer beside each other.
        grads: Their gradients; None where none arrived.
    """

    call: LayerCall
    weights: Tensor
    grads: Tensor | None


class Twins(NamedTuple):
    """Units of a layer that are equal.

    Attributes:
        distinct: How many units are different from each other.
        units: How many units there are.
        reader: The layer that reads them, where its columns are equal too.
        noise: Whether dropout alone tells them apart.
        still: Whether no gradient arrives at any weight of the network.
    """

    distinct: int
    units: int
    reader: LayerCall | None
    noise: bool = False
    still: bool = False


@rule(silences=("constant_output", "unbalanced_update"))
def symmetric(case: Case) -> Finding | None:
    """Hidden layers of which at most half of the units are different units."""
    measured_pass = case.measured_pass
    found = dict(_symmetric_layers(measured_pass))
    if not found:
        return _same_layers(measured_pass) or _same_slices(measured_pass)
    if 4 * len(found) >= len({c.module for c in measured_pass.calls}) - 1:
        case.silenced |= set(_EXPLAINED)  # what so few units do is no fault of the scale
    readers = [twins.reader for twins in found.values() if twins.reader is not None]
    named = list(dict.fromkeys(call.name for call in [*found, *readers]))
    order = {call.name: place for place, call in enumerate(measured_pass.calls)}
    named.sort(key=lambda name: order[name])
    call, twins = min(found.items(), key=lambda item: item[1].distinct / item[1].units)
    one = twins.distinct == 1
    what = (
        f"All {twins.units} units of layer {call.name} are one unit"
        if one
        else f"Of the {twins.units} units of layer {call.name} only {twins.distinct} are different"
    )
    others = f" So in {len(found)} layers." if len(found) > 1 else ""
    why = (
        "Their incoming weights are equal and so are their outgoing ones; only the noise of "
        "dropout tells them apart, slowly."
        if twins.noise
        else "Every weight matrix holds one number, and the gradient of all of them is 0: nothing "
        "moves them and nothing tells the units apart."
        if twins.still
        else "Their weights are equal, and so are the gradients of their weights: every step "
        f"moves them alike and they stay equal. That makes it {twins.distinct} "
        f"unit{'' if one else 's'} wide, however wide it looks."
    )
    return Finding(
        kind="symmetric",
        layers=tuple(named),
        quantity=f"of the units of layer {call.name} are different",
        measured=twins.distinct / twins.units,
        predicted=1.0,
        cause=f"{what}. {why}{others}",
        remedy=_random(measured_pass, named, copies=not one),
        notebook=remedies.CHAPTERS[5],
    )


def _symmetric_layers(measured_pass: MeasuredPass) -> Iterator[tuple[LayerCall, Twins]]:
    """Hidden layers at most half of whose units are different, input side first."""
    first: dict[object, LayerCall] = {}
    for call in measured_pass.calls:
        first.setdefault(call.module, call)
    layers = list(first.values())
    alike = [units for call in layers if (units := _units(measured_pass, call)) is not None]
    if not alike:
        return
    roots = [output.grad_fn for output in measured_pass.outputs]
    answers = {c.module for r in roots for c in follow(r, measured_pass.ends).parents}
    hidden = [units for units in alike if units.call.module not in answers]
    sure, drops = False, _drops(measured_pass.model)
    silent: list[tuple[LayerCall, Twins]] = []
    for units in hidden:
        labels = _groups(units.weights, _rounding(units.weights))
        columns = _columns(measured_pass, units, layers)
        twins = _twins(labels, units)
        if columns is not None:
            both = _groups(columns.weights, _rounding(columns.weights), labels)
            wide = _twins(both, columns)
            twins = twins._replace(reader=wide.reader) if twins and wide else twins or wide
            dropped = twins is None and drops and columns.grads is not None
            by_weights = Twins(len(set(both)), len(both), columns.call, noise=bool(dropped))
            if twins is None and 2 * by_weights.distinct <= by_weights.units:
                if dropped:
                    twins = by_weights
                else:  # no gradient arrives to tell whether they are
                    silent.append((units.call, by_weights))
        if twins:
            sure = True
            reader = None if twins.reader is units.call else twins.reader
            yield units.call, twins._replace(reader=reader)
    if sure:
        yield from silent
    elif silent and _one_number_each(measured_pass):
        yield from ((call, twins._replace(still=True)) for call, twins in silent)


def _one_number_each(measured_pass: MeasuredPass) -> bool:
    """Whether no weight matrix differs from unit to unit, and none gets a gradient that does."""
    grads = measured_pass.grads
    matrices = [(n, p) for n, p in measured_pass.parameters.items() if p.dim() > 1]
    return all(
        (grad is None or not bool(grad.any())) and bool((p == p.flatten()[0]).all())
        for name, p in matrices
        for grad in [grads[name]]
    )


# ---------------------------------------------------------------- whole layers that are one


def _same_layers(measured_pass: MeasuredPass) -> Finding | None:
    """Copies of a layer, of an expert or of a tower, that get the gradient of their original."""
    groups = [group for group in _copies(measured_pass) if len(group) > 1]
    if not groups:
        return None
    named = list(dict.fromkeys(name.rpartition(".")[0] or name for g in groups for name in g))
    first = max(groups, key=len)
    count = len(first)
    weights = [name for group in groups for name in group[1:]]
    return Finding(
        kind="symmetric",
        layers=tuple(named),
        quantity=f"of {count} layers like {first[0].rpartition('.')[0] or first[0]} are different",
        measured=1 / count,
        predicted=1.0,
        cause=f"{', '.join(first[:4])}{', …' if count > 4 else ''} hold the same numbers and get "
        "the same gradient: every step moves them alike and they stay copies of each other. "
        f"Together they are one layer, and {count - 1} of {count} compute the same again."
        + (f" So {len(groups)} times." if len(groups) > 1 else ""),
        remedy=_noise(weights),
        notebook=remedies.CHAPTERS[5],
    )


def _same_slices(measured_pass: MeasuredPass) -> Finding | None:
    """Experts or heads stacked in one tensor of a model's own, of which all are the same."""
    for name, module in measured_pass.model.named_modules():
        if type(module).__module__.startswith("torch.") and not isinstance(module, _CONTAINERS):
            continue
        for last, parameter in module.named_parameters(recurse=False):
            full = f"{name}.{last}" if name else last
            grad = measured_pass.grads.get(full)
            if grad is None or parameter.dim() < 3 or len(parameter) < 2:
                continue
            weight = parameter.detach()
            if grad.layout is not torch.strided or not torch.equal(weight[0], weight[-1]):
                continue
            same = bool((weight == weight[:1]).all()) and bool(weight.any()) and bool(grad.any())
            if not same or not _equal(grad, grad[:1].expand_as(grad)):
                continue
            return Finding(
                kind="symmetric",
                layers=(full,),
                quantity=f"of the {len(weight)} parts of {full} are different",
                measured=1 / len(weight),
                predicted=1.0,
                cause=f"The {len(weight)} parts that {full} holds along its first axis have the "
                "same numbers and get the same gradient: every step moves them alike and they "
                "stay copies of each other.",
                remedy=_noise([full]),
                notebook=remedies.CHAPTERS[5],
            )
    return None


def _copies(measured_pass: MeasuredPass) -> Iterator[list[str]]:
    """Names of matrices beside each other that are equal, not 0, and get an equal gradient."""
    places = {
        id(p): place for call, place in measured_pass.places.items() for p in _parameters(call)
    }
    alike: dict[tuple, list[tuple[str, Tensor, Tensor]]] = {}
    for name, parameter in measured_pass.parameters.items():
        grad = measured_pass.grads.get(name)
        plain = parameter.layout is torch.strided and not parameter.is_meta
        if grad is None or parameter.dim() < 2 or grad.layout is not torch.strided or not plain:
            continue
        weight = parameter.detach()
        place = places.get(id(parameter))
        if type(weight) not in (Tensor, nn.Parameter) or weight.numel() < 2 or place is None:
            continue
        some = weight[(slice(0, 2),) * weight.dim()].flatten().tolist()
        alike.setdefault((weight.shape, weight.dtype, place, *some), []).append(
            (name, weight, grad)
        )
    for group in alike.values():
        while len(group) > 1:
            (name, weight, grad), rest = group[0], group[1:]
            same = [one for one in rest if torch.equal(one[1], weight) and _equal(one[2], grad)]
            if same and bool(weight.any()) and bool(grad.any()):
                yield [name, *(one[0] for one in same)]
            group = [one for one in rest if not any(one is other for other in same)]


def _parameters(call: LayerCall) -> Sequence[Tensor]:
    """Parameters of what a call is of."""
    module = call.module
    return [module.weight] if isinstance(module, BareWeight) else list(module.parameters())


def _equal(value: Tensor, other: Tensor) -> bool:
    """Whether two gradients are equal, to the rounding of a sum over the batch."""
    size = float(other.abs().max())
    return float((value - other).abs().max()) <= 100 * _rounding(other) * size


def _twins(labels: Sequence[int], units: Units) -> Twins | None:
    """The same groups told apart by their gradients, if at most half of the units differ."""
    if units.grads is None:
        return None
    size = units.grads.abs().amax(1)
    labels = _groups(units.grads, 100 * _rounding(units.grads), labels)
    moved = [label for label, s in zip(labels, size.tolist(), strict=True) if s > 0]
    distinct = len(set(moved)) + len(labels) - len(moved)
    return Twins(distinct, len(labels), units.call) if 2 * distinct <= len(labels) else None


def _drops(model: nn.Module) -> bool:
    """Whether something in the model is drawn anew at every step."""
    dropouts = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
    return any(isinstance(m, dropouts) and m.p > 0 for m in model.modules())


# ---------------------------------------------------------------- layers unit by unit


def _units(measured_pass: MeasuredPass, call: LayerCall) -> Units | None:
    """A layer that trains and many of whose units may be alike; None for others."""
    grads, weights = measured_pass.grads_by_id, _weights_of(call)
    if not weights or not all(weight.requires_grad for weight, _, _ in weights):
        return None
    rows = [_by_unit(weight.detach(), axis, gates) for weight, axis, gates in weights]
    if len(rows[0]) < 2 or any(len(part) != len(rows[0]) for part in rows):
        return None
    if not _seems_alike(rows[0]):
        return None
    found = [(grads.get(id(weight)), axis, gates) for weight, axis, gates in weights]
    parts = [_by_unit(grad, axis, gates) for grad, axis, gates in found if grad is not None]
    whole = torch.cat(parts, 1) if len(parts) == len(rows) else None
    return Units(call, torch.cat(rows, 1), whole)


def _weights_of(call: LayerCall) -> list[tuple[Tensor, int, int]]:
    """Parameters of a layer, with the axis of its units and the number of its gates."""
    module = call.module
    if (matrix := _matrix(call)) is not None:
        return [(*matrix, 1)]
    if isinstance(module, BareWeight):
        return []
    own = dict(module.named_parameters(recurse=False))
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        ends = ("_l0",) if isinstance(module, nn.RNNBase) else ("ih", "hh")
        return [
            (p, 0, len(p) // module.hidden_size)
            for name, p in own.items()
            if name.endswith(ends) and not len(p) % module.hidden_size
        ]
    axis = 1 if isinstance(module, _TRANSPOSED) else 0
    known = isinstance(module, (nn.Linear, *CONVOLUTIONS, *_TRANSPOSED))
    if not known or "weight" not in own or (axis and module.groups > 1):
        return []
    return [(p, axis if p.dim() > 1 else 0, 1) for p in own.values()]


def _by_unit(value: Tensor, axis: int, gates: int = 1) -> Tensor:
    """(units, numbers of a unit)."""
    value = value.movedim(axis, 0).flatten(1) if value.dim() > 1 else value[:, None]
    return value if gates == 1 else value.unflatten(0, (gates, -1)).transpose(0, 1).flatten(1)


def _columns(
    measured_pass: MeasuredPass, units: Units, layers: Sequence[LayerCall]
) -> Units | None:
    """What the one layer that reads these units, and nothing else, multiplies each of them by."""
    paths = measured_pass.paths
    readers = [c for c in layers if c in paths and units.call in paths[c].parents]
    if len(readers) != 1 or readers[0].module is units.call.module:
        return None
    reader, path, count = readers[0], paths[readers[0]], len(units.weights)
    module, matrix = reader.module, _matrix(reader)
    weight, axis = matrix or (getattr(module, "weight", None), 0)
    plain = isinstance(module, (nn.Linear, *CONVOLUTIONS)) and getattr(module, "groups", 1) == 1
    if path.skip or len(path.parents) != 1 or not (plain or matrix) or weight is None:
        return None
    if weight.shape[1 - axis] % count:
        return None
    grad = measured_pass.grads_by_id.get(id(weight))

    def split(value: Tensor) -> Tensor:
        return value.movedim(1 - axis, 0).reshape(count, -1)

    return Units(reader, split(weight.detach()), None if grad is None else split(grad))


def _matrix(call: LayerCall) -> tuple[Tensor, int] | None:
    """The matrix of a product in a model's own code, with the axis of its units."""
    module, weight = call.module, None
    if isinstance(module, BareWeight):
        weight = module.weight
    elif not type(module).__module__.startswith("torch."):
        own = [p for p in module.parameters(recurse=False) if p.dim() > 1]
        weight = own[0] if len(own) == 1 else None
    axis = None if weight is None else unit_axis(call, weight)
    return None if weight is None or axis is None else (weight, axis)


# ---------------------------------------------------------------- equal or not


def _rounding(value: Tensor) -> float:
    """A relative difference that counts as none."""
    return max(1e-5, 2 * torch.finfo(value.dtype).eps)


def _projected(rows: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(rows.shape[1], generator=generator, dtype=torch.float64)
    return rows.double().cpu() @ vector


def _seems_alike(rows: Tensor) -> bool:
    """A cheap look: whether at most half of the units differ in a projection of some weights."""
    some = rows[:, :: max(1, rows.shape[1] // _SAMPLED)]
    values = _projected(some).sort().values
    size = float(some.abs().amax()) * some.shape[1] ** 0.5
    return 2 * (1 + int((values.diff() > 4 * _rounding(rows) * size).sum())) <= len(values)


def _groups(rows: Tensor, tolerance: float, within: Sequence[int] | None = None) -> list[int]:
    """A number for each row, the same for equal rows of a group of `within`."""
    coarse = np.zeros(len(rows), int) if within is None else np.array(within)
    if len(set(coarse.tolist())) == 1:  # usual where any are equal: all are, in one pass
        least = rows.abs().amax(1).amin()
        if bool((rows - rows[:1]).abs().amax() <= tolerance / 2 * least):
            return [0] * len(rows)
    order = np.lexsort((_projected(rows).numpy(), coarse))
    ordered = rows.double().cpu()[torch.from_numpy(order)]
    size = ordered.abs().amax(1)
    unlike = (ordered.diff(dim=0).abs().amax(1) > tolerance * size[1:]).numpy()
    starts = np.concatenate([[0], unlike | (np.diff(coarse[order]) != 0)])
    labels = np.empty(len(rows), int)
    labels[order] = starts.cumsum()
    return labels.tolist()


# ---------------------------------------------------------------- what mends it


def _noise(weights: list[str]) -> str:
    """A tenth of their own size on top of some weights."""
    return (
        "# noise tells the copies apart and changes little of what the network does:\n"
        f"with torch.no_grad():\n    for name in {remedies.listed(weights)}:\n"
        "        weight = model.get_parameter(name)\n"
        "        size = weight.square().mean().sqrt()\n"
        "        weight.add_(0.1 * size * torch.randn_like(weight))"
    )


def _random(measured_pass: MeasuredPass, names: Sequence[str], *, copies: bool) -> str:
    """Other random numbers for the named layers, or noise where they are copies of good units."""
    modules = {call.name: call.module for call in measured_pass.calls}
    layers, weights = [], []
    for name in names:
        module = modules[name]
        if isinstance(module, BareWeight):
            weights.append(name)
        elif hasattr(module, "reset_parameters") and not copies:
            layers.append(name)
        else:
            own = module.named_parameters(recurse=False)
            weights += [f"{name}.{last}" for last, p in own if p.dim() > 1]
    if copies:
        return _noise(weights)
    lines = ["# other numbers for every unit:"]
    if layers:
        lines += [f"for name in {remedies.listed(layers)}:"]
        lines += ["    model.get_submodule(name).reset_parameters()"]
    if weights:
        lines += [f"for name in {remedies.listed(weights)}:"]
        lines += ["    nn.init.xavier_uniform_(model.get_parameter(name))"]
    return "\n".join(lines)
