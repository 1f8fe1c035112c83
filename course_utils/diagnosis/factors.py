"""A factor per layer, factorized into what the activation and what the weights multiply by."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from .. import theory
from .graph import Function, Path, activation_name, as_function, is_plumbing, transmitted
from .layer_calls import LayerCall
from .measured_pass import MeasuredPass

ENOUGH = 12
"""Of more layers than that, so many in even steps are factorized."""

Edge = tuple[LayerCall, Path]
"""A layer and what stands before it."""


@dataclass(frozen=True)
class Factors:
    """What one layer multiplies the gradient by, as its weights and slopes say.

    Attributes:
        activation: Name of the activation between most layers, "linear" for none, None if
            unknown.
        function: The same for `cu.theory`.
        functional: Whether no module of that activation is in the model.
        between: What the path between two layers multiplies the gradient by: rms φ′, times γ/σ
            where a batch norm stands.
        weights: ‖W‖_F/√fan_in.
    """

    activation: str | None
    function: Function | None
    functional: bool
    between: float
    weights: float

    @property
    def product(self) -> float:
        """Both together."""
        return self.between * self.weights


def factorize(edges: Sequence[Edge], measured_pass: MeasuredPass) -> Factors:
    """Predict rms φ′ and ‖W‖_F/√fan_in, typical of chains of layers."""
    generator = torch.Generator().manual_seed(0)
    edges = _some([edge for edge in edges if not edge[1].pools] or edges)
    nodes = [node for _, path in edges for node in path.activations]
    names = [activation_name(node) for node in nodes]
    strange = any(not is_plumbing(node) for _, path in edges for node in path.nodes)
    common = max(set(names), key=names.count) if names else None if strange else "linear"
    chosen = [node for node, name in zip(nodes, names, strict=True) if name == common]
    modules = {type(m).__name__.lower() for m in measured_pass.model.modules()}
    return Factors(
        activation=common,
        function=as_function(chosen[0]) if chosen else common,
        functional=common not in ("linear", None) and common.replace("_", "") not in modules,
        between=typical(transmitted(path, generator) for _, path in edges),
        weights=typical(path.parents[0].weight_factor() for _, path in edges),
    )


def predicted_by_theory(factors: Factors, edges: Sequence[Edge]) -> tuple[float, str]:
    """cu.theory.gradient_factor of these weights and this activation, and a sentence."""
    parents = [path.parents[0] for _, path in _some(edges)]
    known = [(w, b) for w, b in (call.variances() for call in parents) if not math.isnan(w)]
    if factors.function is None or not known:
        return math.nan, ""
    weight_variance, bias_variance = (
        sorted(values)[len(known) // 2] for values in zip(*known, strict=True)
    )
    try:
        value = theory.gradient_factor(factors.function, weight_variance, bias_variance)
    except (ValueError, TypeError):
        return math.nan, ""
    name = factors.activation
    some = parents[:: math.ceil(len(parents) / 3)]
    default = sum(call.default_initialized() for call in some) > len(some) / 2
    if default and name == "relu":
        return value, (
            f"{type(parents[0].module).__name__}'s default init with ReLU predicts "
            f"√(1/6) = {value:.3f}"
        )
    source = "nn.Linear's default init" if default else f"σ_w² = {weight_variance:.3g}"
    return value, f"{source} with {name} predicts √χ₁ = {value:.3g}"


def batch_excess(measured_pass: MeasuredPass, values: int) -> float:
    """What a small batch alone adds to the growth of a gradient through batch norms.

    Args:
        measured_pass: The pass.
        values: Values per channel that a norm sees, B.

    Returns:
        (factor of B / factor of an infinite batch) to the power of the number of norms that
        stand in a chain; 1 where theory does not know the activation.
    """
    paths = [path for path in measured_pass.paths.values() if path.chain and "batch" in path.norms]
    nodes = [path.activations[0] for path in paths if path.activations]
    function = as_function(nodes[0]) if nodes else "linear"
    if not paths or function is None:
        return 1.0
    small = theory.batchnorm_gradient_factor(function, values)
    return (small / theory.batchnorm_gradient_factor(function)) ** len(paths)


def typical(values: Iterable[float]) -> float:
    """Geometric mean of the positive finite values; NaN without any."""
    logs = [math.log(value) for value in values if 0 < value < math.inf]
    return math.exp(math.fsum(logs) / len(logs)) if logs else math.nan


def _some(edges: Sequence[Edge]) -> Sequence[Edge]:
    return edges[:: math.ceil(len(edges) / ENOUGH)]
