"""Shattered gradients: what one input asks for says nothing about another."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import theory
from . import remedies
from .graph import activation_name
from .measure import Pass
from .report import Finding

SAMPLES = 32
LEAST_DEPTH = 8
SURE = 10.0  # standard deviations above 0 at which a cosine still says something
HOPELESS = 1e-6
"""Below one in a million, the gradients of a million inputs add up like random vectors."""

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Correlation:
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


def gradient_correlation(found: Pass) -> Correlation | None:
    """Mean cosine between ∂(v·f(x_i))/∂z_l of different inputs x_i, with the same v for all.

    Batch norms are frozen at the statistics of the batch: otherwise their backward pass makes
    the gradients of a batch add up to exactly 0.

    Returns:
        The correlation, or None for a model that it cannot be asked of: recurrent or attention
        layers, several inputs or outputs, fewer than two samples, few layers.

    References:
        D. Balduzzi et al., "The Shattered Gradients Problem", ICML 2017.
    """
    if not _fits(found):
        return None
    model, (x,) = found.model, found.batch.args
    kept: list[tuple[str, Tensor]] = []
    names = {call.module: call.name for call in found.trunk}
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
        if "heckpoint" in str(error):  # a reentrant checkpoint has no autograd.grad
            return None
        raise
    labels, cosines, floors = [], [], []
    for (name, _), grad in zip(kept, grads, strict=True):
        if grad is None:
            continue
        flat = grad.flatten(1)
        flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(1e-38)
        norms = flat.norm(dim=1, keepdim=True)
        unit = flat[norms[:, 0] > 0] / norms[norms[:, 0] > 0]
        count = len(unit)
        if count < 2:
            continue
        labels.append(name)
        together = float(unit.sum(0).square().sum())
        cosines.append((together - count) / (count * (count - 1)))
        floors.append(SURE * math.sqrt(2 / (count * (count - 1) * unit.shape[1])))
    return _fit(labels, cosines, floors, len(found.trunk) - 1)


def _fits(found: Pass) -> bool:
    batch, output = found.batch, found.output
    if len(batch.args) != 1 or batch.kwargs or not isinstance(batch.args[0], Tensor):
        return False
    x = batch.args[0]
    if not (isinstance(output, Tensor) and output.dim() >= 2 and x.dim() >= 1):
        return False
    if not x.is_floating_point() or len(x) < 2 or len(output) != len(x):
        return False
    if len(found.trunk) < LEAST_DEPTH or found.loops:
        return False
    frozen = all(
        module.running_mean is not None
        for module in found.model.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
    )
    return frozen and all(isinstance(call.module, _LAYERS) for call in found.calls)


def _keep(name: str, kept: list[tuple[str, Tensor]]) -> Callable:
    def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        kept.append((name, output))
        return output.clone()  # what follows may work in place

    return hook


def _fit(
    labels: list[str], cosines: list[float], floors: list[float], span: int
) -> Correlation | None:
    """Factor per layer from the layers nearest to the output, as far as they are above noise."""
    logs = []
    for cosine, floor in zip(reversed(cosines), reversed(floors), strict=True):
        if not cosine > floor:
            break
        logs.append(math.log(cosine))
    factor = math.nan
    if len(logs) >= 3:
        middle = (len(logs) - 1) / 2
        spread = sum((i - middle) ** 2 for i in range(len(logs)))
        factor = math.exp(sum((i - middle) * y for i, y in enumerate(logs)) / spread)
    whole = len(logs) == len(cosines)
    total = cosines[0] if whole else factor**span if not math.isnan(factor) else math.nan
    return Correlation(tuple(labels), tuple(cosines), factor, total)


def _predicted(found: Pass) -> float:
    """What theory says of batch norm and ReLU, NaN for other activations."""
    names = {activation_name(node) for path in found.paths.values() for node in path.activations}
    return theory.gradient_correlation(1, residual=False) if names == {"relu"} else math.nan


def shattered(found: Pass) -> Finding | None:
    """The finding, where the correlation over the whole depth falls below one in a million."""
    correlation = gradient_correlation(found)
    if correlation is None or not correlation.total < HOPELESS:
        return None
    norms = {norm for path in found.paths.values() for norm in path.norms}
    batch = "batch" in norms
    return Finding(
        "shattered",
        correlation.layers,
        "factor of the correlation between gradients of different inputs, per layer",
        correlation.factor,
        _predicted(found) if batch else math.nan,
        f"The gradients of different inputs have cosines that fall by {correlation.factor:.2g} per "
        f"layer, to 10^{math.log10(max(correlation.total, 1e-300)):.0f} over "
        f"{len(found.trunk) - 1} layers: each input pulls the first layer its own way, and the sum "
        "over a batch is no better than noise. "
        + (
            "Batch norm centers every unit, so that ReLU switches half of the units for half of "
            "the inputs: ½ per layer without a skip connection."
            if batch
            else "The weights are so large that neighboring inputs are driven apart (chaos)."
        ),
        remedies.add_skips(found.model) if batch else remedies.initialize("tanh"),
        remedies.CHAPTERS[8 if batch else 5],
    )
