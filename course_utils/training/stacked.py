"""Train networks that stand in one stack: the fastest way through many deep, narrow ones."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import check_generator
from .arguments import (
    check_batch_size,
    check_lr,
    check_momentum,
    check_pair,
    is_pair,
    trainable_parameters,
)


def fit_stack(
    stack: nn.Module,
    data: Any,
    *,
    steps: int,
    lr: float | Sequence[float],
    momentum: float = 0.0,
    batch_size: int = 64,
    generator: torch.Generator,
) -> Tensor:
    """Train M networks that share one forward pass, by SGD on the cross-entropy.

    Each network has its own learning rate η_i. With SGD a factor on a loss is a factor on the
    step, with momentum too, so all take steps of rate 1 down Σ η_i 𝓛_i: a term of that sum moves
    no other network than its own. A network that diverges goes on with NaN and leaves the others
    alone. All networks see the same batches, drawn with replacement.

    Args:
        stack: Maps x of shape (B, …) to outputs of shape (M, B, K), network by network; for
            example what `cu.networks.stack_mlps` makes. Changed in place, left in training mode.
        data: An `ImageData`, or a pair (x, y) of tensors.
        steps: Number of steps, at least 1.
        lr: η, one for all or one per network.
        momentum: β.
        batch_size: B.
        generator: Source of the batches.

    Returns:
        The loss of each network in front of each step, float64, shape (M, steps); NaN where it
        has diverged.

    Raises:
        ValueError: If an argument is out of range or of the wrong shape.
        TypeError: If an argument is of the wrong type.

    >>> import course_utils as cu
    >>> nets = [cu.mlp(3, 16, norm="batch", generator=cu.seeded(seed)) for seed in range(5)]
    >>> stack = cu.networks.stack_mlps(nets)
    >>> loss = fit_stack(stack, cu.load_digits(), steps=60, lr=0.3, generator=cu.seeded(0))
    >>> loss.shape, bool((loss[:, -1] < 0.5 * loss[:, 0]).all())
    (torch.Size([5, 60]), True)
    """
    parameters = trainable_parameters(stack)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps={steps!r} must be an integer, at least 1.")
    check_momentum(momentum)
    check_batch_size(batch_size)
    check_generator(generator)
    pair = (data.train_x, data.train_y) if hasattr(data, "train_x") else data
    if not is_pair(pair):
        raise TypeError(
            f"data is a {type(data).__name__}: an ImageData or a pair (x, y) of tensors is due."
        )
    where = parameters[0].device
    x, y = check_pair("data", pair, where)
    stack.train()
    velocities: list[Tensor | None] = [None] * len(parameters)
    rates, losses = None, []
    for _ in range(steps):
        rows = torch.randint(len(x), (batch_size,), generator=generator).to(where)
        output = stack(x[rows])
        if rates is None:
            _check_output(output, y, batch_size)
            rates = _rates(lr, len(output)).to(output)
        own = _cross_entropies(output, y[rows])
        found = torch.autograd.grad((rates * own).sum(), parameters, allow_unused=True)
        velocities = [_faster(v, g, momentum) for v, g in zip(velocities, found, strict=True)]
        with torch.no_grad():
            for parameter, velocity in zip(parameters, velocities, strict=True):
                if velocity is not None:
                    parameter -= velocity
        losses.append(own.detach())
    loss = torch.stack(losses, dim=1).double().cpu()
    return torch.where(loss.isfinite(), loss, torch.nan)


def _faster(velocity: Tensor | None, gradient: Tensor | None, momentum: float) -> Tensor | None:
    """Velocity βv + g, as in torch.optim.SGD; None where no gradient reaches the parameter."""
    if gradient is None or not momentum:
        return gradient
    return gradient.clone() if velocity is None else velocity.mul_(momentum).add_(gradient)


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
