"""Activations behind the last layer, at a model's output or in its loss, and what they cost."""

import math
from collections.abc import Callable, Container
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..measuring import torch_internals
from ..measuring.torch_internals import Node, saved_dimension, saved_tensor
from .batch import loss_of
from .graph import (
    LARGEST_SLOPE,
    activation_name,
    follow,
    inputs_of,
    ones_at,
    pull_back,
    slopes,
    stem,
    walk,
)
from .layer_calls import LayerCall, rms
from .measured_pass import MeasuredPass

_RESHAPES = ("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "ToCopy", "Clone", "Alias")
_SCALES = (*_RESHAPES, "Mul", "Div", "Neg")
_AFFINE = (*_SCALES, "Add", "Sub")
_EDGE = 0.05  # where a slope falls below this share of the largest, as in rules/saturated.py

_MANY = 0.25
"""Share of wrong answers among the sure ones: of two classes, chance has ½, a fit far less."""

_HELD = 0.9
"""Share of the wrong answers through which nothing passes; the rest were at the edge by chance."""

_MIDDLE = {"sigmoid": 0.5, "tanh": 0.0, "hardsigmoid": 0.5, "softplus": math.log(2)}
_SLOPES = LARGEST_SLOPE | {"softplus": 1.0}
_EDGES = {  # distance from the middle at which the slope is _EDGE of the largest
    "sigmoid": math.sqrt(0.25 - _EDGE / 4),
    "tanh": math.sqrt(1 - _EDGE),
    "hardsigmoid": 0.5 * (1 - _EDGE),
}


@dataclass(eq=False, frozen=True)
class Behind:
    """An activation behind the last layer.

    Attributes:
        node: Its node.
        name: "sigmoid", "softmax", "relu", ….
        place: Which of the model's outputs it makes or reads.
        inside: Whether it makes that output; else the loss applies it to the output.
        scale: d output / d activation, in the shape of the activation; in the loss, d (what the
            activation reads) / d output, in the shape of the output.
        layers: The calls before it.
    """

    node: Node
    name: str
    place: int
    inside: bool
    scale: Tensor
    layers: list[LayerCall]


def behind_the_last_layer(measured_pass: MeasuredPass) -> list[Behind]:
    """Activations with nothing but factors and shapes between them and an output."""
    outputs = measured_pass.outputs
    found = [one for place in range(len(outputs)) if (one := _inside(measured_pass, place))]
    roots = {t.grad_fn: place for place, t in enumerate(outputs) if t.grad_fn is not None}
    if measured_pass.loss is None or measured_pass.loss_value.grad_fn is None:
        return found
    inside = measured_pass.output_nodes
    for node in walk(measured_pass.loss_value.grad_fn):
        name = _name(node)
        if node in inside or name is None:
            continue
        below, scale = _down(node.next_functions[0][0], None, _SCALES, roots)
        if below in roots and below is not None:
            output = outputs[roots[below]]
            layers = follow(below, measured_pass.ends).parents
            scale = torch.ones_like(output.detach()) if scale is None else scale
            if bool(scale.all()):
                found.append(Behind(node, name, roots[below], False, scale, layers))
    return found


def _down(
    node: Node | None, scale: Tensor | None, kinds: tuple[str, ...], ends: Container[Node] = ()
) -> tuple[Node | None, Tensor | None]:
    """Down a chain of operations of some kinds: where it ends, and the slope of all of them."""
    while node is not None and node not in ends and stem(node) in kinds:
        onward = inputs_of(node)
        scale = ones_at(node) if scale is None else scale
        scale = pull_back(node, scale) if len(onward) == 1 else None
        if scale is None:
            return None, None
        node = onward[0]
    return node, scale


def _name(node: Node) -> str | None:
    return "softmax" if stem(node) == "Softmax" else activation_name(node)


def _inside(measured_pass: MeasuredPass, place: int) -> Behind | None:
    """The activation that makes an output, if there is one."""
    output = measured_pass.outputs[place]
    node, scale = _down(output.grad_fn, torch.ones_like(output.detach()), _AFFINE)
    name = None if node is None else _name(node)
    if node is None or name is None or scale is None or not bool(scale.all()):
        return None
    return Behind(node, name, place, True, scale, follow(node, measured_pass.ends).parents)


@dataclass(eq=False, frozen=True)
class Stuck:
    """Units of an activation that lie in its flat parts, and what the loss wants of them.

    Attributes:
        behind: The activation.
        share: Share of its units that are flat.
        wrong: Share of them that are flat and that the loss wants back.
        passes: RMS of the gradient before the activation, over what it were if the flat units lay
            in the middle.
        loss: The loss.
        at_middle: The loss if the flat units lay in the middle.
    """

    behind: Behind
    share: float
    wrong: float
    passes: float
    loss: float
    at_middle: float


def stuck(measured_pass: MeasuredPass, behind: Behind) -> Stuck | None:
    """Measure a saturated activation; None where it is not, or cannot be measured.

    The loss is evaluated with the flat units at the edge of the flat part, where its gradient says
    whether it wants them back, and in the middle, where it says how much of it they would pass.
    """
    value = _value(behind)
    flat = None if value is None else _flat(behind, value)
    if value is None or flat is None or not _many(flat):
        return None
    try:
        return _ask(measured_pass, behind, value, flat)
    except Exception:  # a loss of strangers, on outputs it was not made for
        return None


def _many(flat: Tensor) -> bool:
    """Whether more than half of the units are flat, or more than half of the values of one."""
    mean = flat.double().mean() if flat.dim() < 2 else flat.flatten(0, -2).double().mean(0).amax()
    return float(mean) > 0.5


def _ask(measured_pass: MeasuredPass, behind: Behind, value: Tensor, flat: Tensor) -> Stuck | None:
    middle, edge = _middle(behind, value), _edge(behind, value)
    here, now = _loss_with(measured_pass, behind, value, torch.zeros_like(flat), value)
    _, at_edge = _loss_with(measured_pass, behind, value, flat, edge)
    back = at_edge * (edge - middle)
    if behind.name == "softmax":
        back = back.sum(saved_dimension(behind.node), keepdim=True).expand_as(value)
    wrong = flat & (back > 0)
    choices = [flat]
    if value.dim() > 1 and behind.name != "softmax":
        columns = wrong.flatten(0, -2).double().mean(0) > 0.5
        if bool(columns.any()) and not bool(columns.all()):
            choices.append(flat & columns)
    for units in choices:
        if not int((units & wrong).sum()) >= _MANY * int(units.sum()):
            continue
        at_middle, free = _loss_with(measured_pass, behind, value, units & wrong, middle)
        _, aside = _loss_with(measured_pass, behind, value, units & wrong, (middle + edge) / 2)
        if rms(aside[units]) > rms(free[units]):  # where the loss is least in the middle
            free = aside
        passes = rms(now[units]) / rms(free[units]) if bool(free[units].any()) else math.inf
        held = now[units & wrong].abs() < _EDGE * free[units & wrong].abs()
        if float(held.double().mean()) > _HELD:  # all but a few that count for nearly all
            passes = min(passes, rms(now[units & wrong][held]) / rms(free[units & wrong][held]))
        if passes < _EDGE and at_middle < here:
            shares = [float(mask.double().mean()) for mask in (flat, wrong)]
            return Stuck(behind, shares[0], shares[1], passes, here, at_middle)
    return None


def _value(behind: Behind) -> Tensor | None:
    """What the activation gives."""
    node = behind.node
    if behind.name in ("sigmoid", "tanh", "softmax"):
        result = saved_tensor(node, "result")
        return None if result is None else result.detach()
    read = saved_tensor(node, "self")
    if read is None or behind.name not in ("hardsigmoid", "hardtanh", "softplus"):
        return None
    read = read.detach()
    if behind.name == "softplus":
        plain = torch_internals.saved_number(node, "beta") in (None, 1)
        return F.softplus(read) if plain else None
    return F.hardsigmoid(read) if behind.name == "hardsigmoid" else read.clamp(*_ends(behind))


def _ends(behind: Behind) -> tuple[float, float]:
    node = behind.node
    return torch_internals.saved(node, "min_val", -1), torch_internals.saved(node, "max_val", 1)


def _flat(behind: Behind, value: Tensor) -> Tensor | None:
    """Units whose slope is below 5 % of the largest."""
    if behind.name == "softmax":
        slope = (value * (1 - value)).amax(saved_dimension(behind.node), keepdim=True)
        return (slope < _EDGE / 4).expand_as(value)
    values = slopes(behind.node)
    return None if values is None else values < _EDGE * _SLOPES[behind.name]


def _middle(behind: Behind, value: Tensor) -> Tensor:
    if behind.name == "softmax":
        return torch.full_like(value, 1 / value.shape[saved_dimension(behind.node)])
    if behind.name == "hardtanh":
        return torch.full_like(value, sum(_ends(behind)) / 2)
    return torch.full_like(value, _MIDDLE[behind.name])


def _edge(behind: Behind, value: Tensor) -> Tensor:
    """The same unit where its slope is 5 % of the largest, on the same side."""
    middle = _middle(behind, value)
    if behind.name == "softmax":
        return value + 2 * (1 - _EDGES["sigmoid"] - 0.5) * (middle - value)
    if behind.name == "softplus":  # flat on one side
        return torch.full_like(value, -math.log1p(-_EDGE))
    low, high = _ends(behind)
    far = _EDGES.get(behind.name, (1 - _EDGE) * (high - low) / 2)
    return middle + far * torch.sign(value - middle)


def _before(behind: Behind, gradient: Tensor, value: Tensor) -> Tensor:
    """∂𝓛/∂(input of the activation) from the gradient at what it gives."""
    if behind.name == "softmax":
        dim = saved_dimension(behind.node)
        return value * (gradient - (gradient * value).sum(dim, keepdim=True))
    if behind.name == "sigmoid":
        return gradient * value * (1 - value)
    if behind.name == "tanh":
        return gradient * (1 - value**2)
    if behind.name == "softplus":
        return gradient * -torch.expm1(-value)
    low, high = (0.0, 1.0) if behind.name == "hardsigmoid" else _ends(behind)
    inside = (value > low) & (value < high)
    return gradient * inside * LARGEST_SLOPE[behind.name]


def _loss_with(
    measured_pass: MeasuredPass, behind: Behind, value: Tensor, units: Tensor, other: Tensor
) -> tuple[float, Tensor]:
    """The loss with `units` of the activation at other values, and ∂𝓛/∂(its input) there."""
    new = torch.where(units, other, value)
    if not behind.inside:
        old = measured_pass.outputs[behind.place].detach().reshape(value.shape)
        inverse = _INVERSE[behind.name](new) / behind.scale.reshape(value.shape)
        new = torch.where(units, inverse, old)
    new.requires_grad_()
    count = iter(range(len(measured_pass.outputs)))

    def changed(tensor: object) -> object:
        if not isinstance(tensor, Tensor) or not tensor.requires_grad:
            return tensor
        old = tensor.detach()
        if next(count) != behind.place:
            return old.clone().requires_grad_()
        moved = old + ((new - value) * behind.scale).reshape(old.shape)
        return moved if behind.inside else new.reshape(old.shape)

    output = torch_internals.tree_map(changed, measured_pass.output)
    loss = loss_of(output, measured_pass.batch, measured_pass.loss)
    (gradient,) = torch.autograd.grad(loss, new)
    before = _before(behind, gradient, new.detach()) if behind.inside else gradient
    return float(loss.detach()), before


_INVERSE: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.logit,
    "tanh": torch.atanh,
    "softmax": torch.log,
    "softplus": lambda value: value.expm1().log(),
    "hardtanh": lambda value: value,
    "hardsigmoid": lambda value: 6 * value - 3,
}
