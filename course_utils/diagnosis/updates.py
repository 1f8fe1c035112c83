"""One learning rate for all layers: whether their updates fit together."""

import copy
import math

import torch
from torch import nn

from . import remedies
from .measure import Pass
from .probe import rms
from .report import Finding
from .slope import LIMIT


def update_ratios(found: Pass, optimizer: torch.optim.Optimizer | None) -> dict[str, float]:
    """‖Δθ‖/‖θ‖ of every linear and convolutional weight, or ‖∂L/∂θ‖/‖θ‖ without an optimizer.

    With one, a copy of it makes one step on copies of the parameters.
    """
    named = dict(found.model.named_parameters())
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    weights = {id(m.weight) for m in found.model.modules() if isinstance(m, kinds)}
    chosen = {
        name: (named[name], grad)
        for name, grad in zip(found.names, found.grads, strict=True)
        if grad is not None and id(named[name]) in weights
    }
    if optimizer is None:
        sizes = {n: (rms(p.detach()), rms(g.detach())) for n, (p, g) in chosen.items()}
        return {n: g / p for n, (p, g) in sizes.items() if p > 0}
    double = copy.deepcopy(optimizer)
    flat = [p for group in optimizer.param_groups for p in group["params"]]
    twins = [p for group in double.param_groups for p in group["params"]]
    twin = {id(p): q for p, q in zip(flat, twins, strict=True)}
    grads = dict(zip(found.names, found.grads, strict=True))
    for name, parameter in named.items():
        if id(parameter) in twin:
            grad = grads[name]
            twin[id(parameter)].grad = None if grad is None else grad.detach() * found.scale
    double.step()
    result = {}
    for name, (parameter, _) in chosen.items():
        before = rms(parameter.detach())
        if id(parameter) in twin and before > 0:
            result[name] = rms(twin[id(parameter)].detach() - parameter.detach()) / before
    return result


def unbalanced(found: Pass, optimizer: torch.optim.Optimizer | None) -> Finding | None:
    """Layers of the same shape whose relative updates differ by more than 100×.

    Behind each other, without a norm, layers have the same ⟨W, ∂L/∂W⟩ (Euler's identity for
    homogeneous functions), so that relative gradients go like 1/‖W‖². The finding needs at least
    half of the spread, on a log scale, to come from that.
    """
    ratios = {n: r for n, r in update_ratios(found, optimizer).items() if 0 < r < math.inf}
    named = dict(found.model.named_parameters())
    groups: dict[tuple, list[str]] = {}
    for name in ratios:
        groups.setdefault(tuple(named[name].shape), []).append(name)
    worst: tuple[float, str, str] | None = None
    for names in groups.values():
        low, high = min(names, key=ratios.get), max(names, key=ratios.get)
        spread = ratios[high] / ratios[low]
        scales = rms(named[low].detach()) / rms(named[high].detach())
        explained = max(scales, 1.0) ** 2 >= spread**0.5
        if spread > LIMIT and explained and (worst is None or spread > worst[0]):
            worst = spread, low, high
    if worst is None:
        return None
    spread, low, high = worst
    what = "update" if optimizer is not None else "gradient"
    sizes = rms(named[low].detach()), rms(named[high].detach())
    return Finding(
        "unbalanced_update",
        (low, high),
        f"ratio of the largest to the smallest relative {what} among layers of one shape",
        spread,
        1.0,
        f"Relative to its weights, {high} (RMS {sizes[1]:.2g}) gets {spread:.3g} times the {what} "
        f"of {low} (RMS {sizes[0]:.2g}): no learning rate fits both. Among layers of the same "
        "shape that comes from weights of different scale.",
        remedies.kaiming("relu") + "\n# or a learning rate per layer, in optimizer.param_groups",
        remedies.CHAPTERS[5],
    )
