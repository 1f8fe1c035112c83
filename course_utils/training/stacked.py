"""Networks that stand in one stack: the fastest way through many deep, narrow ones."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import check_generator, integer
from .arguments import (
    batch_size_of,
    check_lr,
    check_momentum,
    check_pair,
    trainable_parameters,
    training_pair,
)
from .history import Histories


def fit_stack(
    stack: nn.Module,
    data: Any,
    steps: int,
    lr: Any,
    momentum: Any,
    batch_size: Any,
    generator: Any,
) -> Histories:
    """Train M networks that share one forward pass, by SGD on the cross-entropy; see `fit_many`.

    Each network has its own learning rate η_i. With SGD a factor on a loss is a factor on the
    step, with momentum too, so all take steps of rate 1 down Σ η_i 𝓛_i: a term of that sum moves
    no other network than its own. All networks see the same batches.
    """
    parameters = trainable_parameters(stack)
    steps = integer("steps", steps, 1)
    check_momentum(momentum)
    size = batch_size_of(batch_size)
    check_generator(generator)
    pair = training_pair(data)
    if pair is None:
        raise TypeError(
            f"data is a {type(data).__name__}: an ImageData or a pair (x, y) of tensors is due."
        )
    where = parameters[0].device
    x, y = check_pair("data", pair, where)
    stack.train()
    velocities: list[Tensor | None] = [None] * len(parameters)
    rates = torch.empty(0)
    figures = []
    for step in range(steps):
        rows = torch.randint(len(x), (size,), generator=generator).to(where)
        output, answers = stack(x[rows]), y[rows]
        if step == 0:
            _check_output(output, y, size)
            rates = _rates(0.1 if lr is None else lr, len(output)).to(output)
        own = _cross_entropies(output, answers)
        found = torch.autograd.grad((rates * own).sum(), parameters, allow_unused=True)
        velocities = [
            _velocity(before, gradient, momentum)
            for before, gradient in zip(velocities, found, strict=True)
        ]
        with torch.no_grad():
            for parameter, velocity in zip(parameters, velocities, strict=True):
                if velocity is not None:
                    parameter.sub_(velocity)
            right = (output.argmax(2) == answers).to(own).mean(1)
        figures.append(torch.stack([own.detach(), right]))
    loss, accuracy = torch.stack(figures, dim=2).double().cpu()
    return _histories(loss, accuracy, rates.double().cpu())


def _velocity(before: Tensor | None, gradient: Tensor | None, momentum: float) -> Tensor | None:
    """None where no gradient reaches the parameter."""
    if gradient is None or not momentum:
        return gradient
    return gradient.clone() if before is None else faster(before, gradient, momentum)


def faster(velocity: Tensor, gradient: Tensor, momentum: Tensor | float) -> Tensor:
    """Velocity βv + g, in place, as in torch.optim.SGD."""
    return velocity.mul_(momentum).add_(gradient)


def _histories(loss: Tensor, accuracy: Tensor, rates: Tensor) -> Histories:
    """What is known of a run: no epochs, no norms; NaN from where a network has diverged."""
    count, steps = loss.shape
    gone = ~loss.isfinite()
    unknown, none = torch.full_like(loss, math.nan), loss.new_empty(count, 0)
    ended = [f"diverged at step {int(row.int().argmax()) + 1}" if row.any() else "" for row in gone]
    return Histories(
        loss.masked_fill(gone, math.nan),
        accuracy.masked_fill(gone, math.nan),
        unknown,
        rates.reshape(-1, 1).expand(count, steps).clone(),
        none,
        none,
        none,
        none,
        steps_per_epoch=0,
        stopped=tuple("non-finite loss" if text else "finished" for text in ended),
        layer=(None,) * count,
        message=tuple(ended),
    )


def _cross_entropies(output: Tensor, y: Tensor) -> Tensor:
    """Mean loss of each network, shape (M,)."""
    count = len(output)
    return F.cross_entropy(output.mT, y.expand(count, -1), reduction="none").mean(1)


def _check_output(output: Tensor, y: Tensor, batch_size: int) -> None:
    """Refuse a stack that does not answer for every network, and labels that are no classes."""
    if output.ndim != 3 or output.shape[1] != batch_size:
        raise ValueError(
            f"stack returned the shape {tuple(output.shape)} for a batch of {batch_size}: "
            "(networks, samples, classes) is expected, as from cu.networks.stack_mlps."
        )
    classes = output.shape[2]
    if y.is_floating_point() or y.ndim != 1 or not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise ValueError(
            f"y has the shape {tuple(y.shape)}, the type {y.dtype} and values from "
            f"{float(y.min()):g} to {float(y.max()):g}: class numbers from 0 to {classes - 1}, of "
            "shape (N,), are expected."
        )


def _rates(lr: Any, count: int) -> Tensor:
    """η of each network, shape (1,) or (M,)."""
    rates = list(lr) if isinstance(lr, Sequence | Tensor) and not _single(lr) else [lr]
    for rate in rates:
        check_lr(rate)
    if len(rates) not in (1, count):
        raise ValueError(
            f"lr holds {len(rates)} rates for {count} networks: hand over one for all, or one per "
            "network."
        )
    return torch.tensor([float(rate) for rate in rates], dtype=torch.float64)


def _single(lr: Any) -> bool:
    return isinstance(lr, str) or (isinstance(lr, Tensor) and lr.ndim == 0)
