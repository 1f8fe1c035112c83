"""One learning rate for all layers: whether their updates fit together."""

import math
from collections import Counter

import torch
from torch import Tensor, nn

from .. import remedies
from ..layer_calls import CONVOLUTIONS, rms
from ..measured_pass import MeasuredPass
from ..report import Finding
from ..slope import LIMIT
from .rule import Case, rule


def update_ratios(measured_pass: MeasuredPass) -> dict[str, float]:
    """‖Δθ‖/‖θ‖ of linear and convolutional weights; ‖∂L/∂θ‖/‖θ‖ without an optimizer.

    Of those whose shape another one has. With an optimizer, a copy of it makes one step on copies
    of the parameters.
    """
    model, grads = measured_pass.model, measured_pass.grads
    kinds = (nn.Linear, *CONVOLUTIONS)
    weights = {id(m.weight) for m in model.modules() if isinstance(m, kinds)}
    named = dict(model.named_parameters())
    changes = measured_pass.updates or {n: grad for n, grad in grads.items() if grad is not None}
    shapes = Counter(named[name].shape for name in changes if id(named[name]) in weights)
    sizes = measured_pass.parameter_sizes
    return {
        name: rms(change.detach()) / sizes[name]
        for name, change in changes.items()
        if id(named[name]) in weights and shapes[named[name].shape] > 1 and sizes[name] > 0
    }


@rule()
def unbalanced_update(case: Case) -> Finding | None:
    """Layers of the same shape whose relative updates differ by more than 100×.

    Behind each other, without a norm, layers have the same ⟨W, ∂L/∂W⟩ (Euler's identity for
    homogeneous functions), so that relative gradients go like 1/‖W‖². The finding needs at least
    half of the spread, on a log scale, to come from that.
    """
    if not case.well_so_far:
        return None
    measured_pass = case.measured_pass
    ratios = {n: r for n, r in update_ratios(measured_pass).items() if 0 < r < math.inf}
    named, sizes = measured_pass.parameters, measured_pass.parameter_sizes
    groups: dict[tuple, list[str]] = {}
    for name in ratios:
        groups.setdefault(tuple(named[name].shape), []).append(name)
    pairs = []
    for names in groups.values():
        low = min(names, key=lambda name: ratios[name])
        high = max(names, key=lambda name: ratios[name])
        spread = ratios[high] / ratios[low]
        scales = sizes[low] / sizes[high]
        if _just_left_zero(named[high], measured_pass.grads[high]):
            continue
        if spread > LIMIT and max(scales, 1.0) ** 2 >= spread**0.5:
            pairs.append((spread, low, high))
    if not pairs:
        return None
    spread, low, high = max(pairs)
    what = "update" if measured_pass.updates else "gradient"
    return Finding(
        kind="unbalanced_update",
        layers=(low, high),
        quantity=f"ratio of the largest to the smallest relative {what} among layers of one shape",
        measured=spread,
        predicted=1.0,
        cause=f"Relative to its weights, {high} (RMS {sizes[high]:.2g}) gets {spread:.3g} times "
        f"the {what} of {low} (RMS {sizes[low]:.2g}): no learning rate fits both. Among layers of "
        "the same shape that comes from weights of different scale.",
        remedy=remedies.kaiming("relu")
        + "\n# or a learning rate per layer, in optimizer.param_groups",
        notebook=remedies.CHAPTERS[5],
    )


def _just_left_zero(weight: Tensor, grad: Tensor | None) -> bool:
    """Whether weights are little more than the steps from zero to where they are.

    The cosine to −∂L/∂W is near 1 then, and 0 ± 1/√n for weights that started at random.
    """
    if grad is None:
        return False
    w, g = weight.detach().flatten().double(), -grad.detach().flatten().double()
    cosine = float(w @ g / (w.norm() * g.norm()).clamp_min(torch.finfo(w.dtype).tiny))
    return cosine > max(0.15, 5 / math.sqrt(len(w)))
