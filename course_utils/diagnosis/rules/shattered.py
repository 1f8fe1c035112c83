"""Shattered gradients: what one input asks for says nothing about another."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ... import theory
from ...measuring import line_slope, torch_internals
from .. import remedies
from ..graph import activation_name
from ..layer_calls import CONVOLUTIONS
from ..measured_pass import MeasuredPass
from ..report import Finding
from ..running import from_reentrant_checkpoint
from .rule import Case, rule

SAMPLES = 32
LEAST_DEPTH = 8
SURE = 10.0  # standard deviations above 0 at which a cosine still says something
HOPELESS = 1e-6
"""Below one in a million, the gradients of a million inputs add up like random vectors."""


@rule()
def shattered(case: Case) -> Finding | None:
    """A correlation that falls below one in a million over the whole depth."""
    measured_pass = case.measured_pass
    if measured_pass.depth_slope.verdict == "vanishing":
        return None
    correlation = gradient_correlation(measured_pass)
    if correlation is None or not correlation.total < HOPELESS:
        return None
    paths = measured_pass.paths.values()
    batch = any("batch" in path.norms for path in paths)
    predicted = math.nan
    if batch and {activation_name(node) for path in paths for node in path.activations} == {"relu"}:
        predicted = theory.gradient_correlation(1, residual=False)
    return Finding(
        kind="shattered",
        layers=correlation.layers,
        quantity="factor of the correlation between gradients of different inputs, per layer",
        measured=correlation.factor,
        predicted=predicted,
        cause="The gradients of different inputs have cosines that fall by "
        f"{correlation.factor:.2g} per layer, to "
        f"10^{math.log10(max(correlation.total, 1e-300)):.0f} over "
        f"{_depth(measured_pass) - 1} layers: each input pulls the first layer its own way, and "
        "the sum over a batch is no better than noise. "
        + (
            "Batch norm centers every unit, so that ReLU switches half of the units for half of "
            "the inputs: ½ per layer without a skip connection."
            if batch
            else "The weights are so large that neighboring inputs are driven apart (chaos)."
        ),
        remedy=remedies.add_skips(measured_pass.model) if batch else remedies.initialize("tanh"),
        notebook=remedies.CHAPTERS[8 if batch else 5],
    )


class Correlation(NamedTuple):
    """Mean cosine between the gradients of different inputs, per layer.

    Attributes:
        layers: Names, input side first.
        cosine: One per layer.
        factor: Factor per layer toward the input, fitted above the noise; NaN if fewer than
            three layers lie above it.
        total: The factor to the power of the depth.
    """

    layers: tuple[str, ...]
    cosine: tuple[float, ...]
    factor: float
    total: float


def gradient_correlation(measured_pass: MeasuredPass) -> Correlation | None:
    """Mean cosine between ∂(v·f(x_i))/∂z_l of different inputs x_i, with the same v for all.

    Batch norms are frozen at the statistics of the batch: otherwise their backward pass makes
    the gradients of a batch add up to exactly 0.

    Returns:
        The correlation, or None for a model that it cannot be asked of: recurrent or attention
        layers, several inputs or outputs, fewer than two samples, few layers.

    References:
        D. Balduzzi et al., "The Shattered Gradients Problem", ICML 2017.
    """
    if not _fits(measured_pass):
        return None
    model, (x,) = measured_pass.model, measured_pass.batch.args
    kept: list[tuple[str, Tensor]] = []
    names = {call.module: call.name for call in measured_pass.trunk}
    handles = [module.register_forward_hook(_keep(name, kept)) for module, name in names.items()]
    try:
        model.eval()  # running statistics are those of this batch: momentum was 1
        result = model(x[:SAMPLES].detach())
    finally:
        model.train()
        for handle in handles:
            handle.remove()
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(result.shape[1:], generator=generator).to(result)
    kept = [(name, value) for name, value in kept if value.requires_grad]
    values = [value for _, value in kept]
    try:
        grads = torch.autograd.grad(result, values, v.expand_as(result), allow_unused=True)
    except RuntimeError as error:
        if from_reentrant_checkpoint(error):
            return None
        raise
    labels, cosines, logs = [], [], list[float]()
    above_noise = True  # from the output down to here
    for (name, _), grad in reversed(list(zip(kept, grads, strict=True))):
        if grad is None:
            continue
        flat = grad.flatten(1)
        flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(1e-38)
        norms = flat.norm(dim=1, keepdim=True)
        unit = flat[norms[:, 0] > 0] / norms[norms[:, 0] > 0]
        pairs = len(unit) * (len(unit) - 1)
        if not pairs:
            continue
        cosine = (float(unit.sum(0).square().sum()) - len(unit)) / pairs
        above_noise = above_noise and cosine > SURE * math.sqrt(2 / (pairs * unit.shape[1]))
        logs += [math.log(cosine)] if above_noise else []
        labels.append(name)
        cosines.append(cosine)
    if not cosines:
        return None
    factor = math.nan
    if len(logs) >= 3:
        slope, _ = line_slope(np.arange(len(logs), dtype=np.float64), np.array(logs))
        factor = math.exp(slope)
    total = cosines[-1] if above_noise else factor ** (_depth(measured_pass) - 1)
    return Correlation(tuple(reversed(labels)), tuple(reversed(cosines)), factor, total)


def _fits(measured_pass: MeasuredPass) -> bool:
    batch, output = measured_pass.batch, measured_pass.output
    if len(batch.args) != 1 or batch.kwargs or not isinstance(batch.args[0], Tensor):
        return False
    x = batch.args[0]
    if not (isinstance(output, Tensor) and output.dim() >= 2 and x.dim() >= 1):
        return False
    if not x.is_floating_point() or len(x) < 2 or len(output) != len(x):
        return False
    if _depth(measured_pass) < LEAST_DEPTH or measured_pass.loops:
        return False
    shapes = [call.in_shape for call in measured_pass.calls]
    if not all(len(shape) > 1 and shape[0] % len(x) == 0 for shape in shapes):
        return False  # it is called on a part of the batch, or on one sample after the other
    frozen = all(
        module.running_mean is not None
        for module in measured_pass.model.modules()
        if isinstance(module, torch_internals.RunningNorms)
    )
    return frozen and all(
        isinstance(call.module, (nn.Linear, *CONVOLUTIONS)) for call in measured_pass.calls
    )


def _depth(measured_pass: MeasuredPass) -> int:
    """Layers one behind the other: branches that stand side by side count once."""
    places = [measured_pass.places[call] for call in measured_pass.depth]
    return max(places, default=-1) + 1


def _keep(name: str, kept: list[tuple[str, Tensor]]) -> Callable[..., Tensor]:
    def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        kept.append((name, output))
        return output.clone()  # what follows may work in place

    return hook
