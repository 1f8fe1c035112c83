"""Vanishing and exploding over the depth: the slope, and whose fault it is."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import nn

from .. import theory
from . import remedies
from .graph import activation_name, as_function, follow, is_plumbing, slopes, transmitted
from .measure import Pass
from .probe import CONVOLUTIONS, Bare, Call, rms
from .report import Finding
from .slope import Slope, fit

ENOUGH = 12
"""Of more layers than that, so many in even steps are taken apart."""

AGREES = 0.25
"""Where measured and predicted differ by more, the finding says that it is not explained."""


def over_depth(found: Pass) -> Slope:
    """Slope of log‖∂L/∂h‖ at the inputs of the layers.

    Inputs, not preactivations: before a batch norm the gradient is inversely proportional to
    the scale of the weights, which means nothing.
    """
    places = found.places
    deepest = max((places[call] for call in found.trunk), default=0)
    points = [(places[c], c) for c in found.trunk if not math.isnan(c.grad_in)]
    slope = fit(
        [call.grad_in * math.sqrt(math.prod(call.in_shape)) for _, call in points],
        [i for i, _ in points],
        [call.in_shape for _, call in points],
        deepest,
    )
    sizes = [call.grad_in for _, call in points]
    if math.isnan(slope.factor) and 0 in sizes and any(size > 0 for size in sizes):
        if not any(path.skip for path in found.paths.values()):  # one layer took it all away
            return replace(slope, factor=0.0, underflow=True)
    return slope


@dataclass
class Factors:
    """A factor per layer, taken apart.

    Attributes:
        activation: Name of the activation between most layers, "linear" for none, None if
            unknown.
        function: The same for `cu.theory`.
        functional: Whether no module of that activation is in the model.
        between: What the path between two layers multiplies the gradient by: rms φ′, times γ/σ
            where a batch norm stands.
        slope: rms φ′ alone.
        weights: ‖W‖_F/√fan_in.
        measured_between: The same as measured in the backward pass.
        measured_weights: Likewise.
    """

    activation: str | None
    function: object
    functional: bool
    between: float
    slope: float
    weights: float
    measured_between: float
    measured_weights: float


def explain(found: Pass, slope: Slope) -> Finding:
    """The finding for a gradient that vanishes or explodes over the depth."""
    kind = slope.verdict
    layers = tuple(call.name for call in found.trunk)
    edges = [(call, found.paths[call]) for call in found.trunk if call in found.paths]
    edges = [(call, path) for call, path in edges if path.parents]
    plain = [(c, p) for c, p in edges if p.chain and not p.norms]
    batch = [(c, p) for c, p in edges if p.chain and "batch" in p.norms]
    normed = [(c, p) for c, p in edges if p.chain and p.norms and "batch" not in p.norms]
    skips = [(c, p) for c, p in edges if p.skip]
    quantity = "factor of ∂L/∂h per layer"
    size = _size(slope, found)
    most = len(edges) / 2
    predicted, cause, remedy, chapter = math.nan, "", "", 12
    if edges and len(skips) >= most / 2:
        predicted, cause, remedy = _residual(kind, slope, edges, found)
        chapter = 8
    elif edges and len(plain) >= most:
        factors = take_apart(plain, found)
        predicted, cause = _plain(kind, slope, factors, plain)
        output, shared = _at_the_output(found)
        convolves = any(isinstance(p.parents[0].module, CONVOLUTIONS) for _, p in plain)
        bare = {c.name.split("#")[0]: c.fan_in for c in found.trunk if isinstance(c.module, Bare)}
        remedy = (
            remedies.bare(factors.activation, bare)
            if len(bare) > len(found.trunk) / 2
            else remedies.initialize(
                factors.activation,
                factors.functional or shared,
                axis=1 if convolves else -1,
                factor=slope.factor,
                output=output,
            )
        )
        chapter = 4 if factors.activation in ("sigmoid", "hardsigmoid") else 5
    elif edges and len(batch) >= most:
        factors = take_apart(batch, found)
        predicted, cause = _batch_norm(slope, factors, batch)
        remedy, chapter = remedies.add_skips(found.model), 7
    elif edges and len(normed) >= most:
        factors = take_apart(normed, found)
        predicted = factors.between * factors.weights
        cause = (
            f"Between layers stands a {normed[0][1].norms[0]} norm: rms φ′ times γ/σ is "
            f"{factors.between:.3g}, ‖W‖_F/√fan_in {factors.weights:.3g}, product {predicted:.3g}."
        )
        remedy, chapter = remedies.add_skips(found.model), 8
    if not cause:
        cause = (
            "The layers are connected in more than one way, and no theory here covers the whole: "
            "the evidence does not decide the cause. Measure next: "
            "cu.plots.gradient_profile(diagnosis.record) shows where the profile bends, and "
            "cu.record(model, layers='all') has a row for each block."
        )
        remedy = "# look for the layer where the profile bends: see the cause"
    elif slope.factor and not abs(predicted / slope.factor - 1) < AGREES:
        cause += (
            f" The product is not what was measured ({slope.factor:.3g}), so this is not the whole "
            "cause: compare the layers one by one with cu.plots.gradient_profile(diagnosis.record)."
        )
    return Finding(
        kind,
        layers,
        quantity,
        slope.factor,
        predicted,
        f"{size} {cause}",
        remedy,
        remedies.CHAPTERS[chapter],
    )


def lowest(found: Pass) -> str:
    """A sentence on the layer that the least gradient reaches, where it is not the first one."""
    sizes = {call.name: call.grad_in for call in found.trunk if call.grad_in > 0}
    if len(sizes) < 3:
        return ""
    name = min(sizes, key=sizes.get)
    *_, last = sizes
    if name in (next(iter(sizes)), last):
        return ""
    return (
        f" The least arrives in the middle: {sizes[name] / sizes[last]:.2g} of what {last} gets, "
        f"at {name}."
    )


def _at_the_output(found: Pass) -> tuple[tuple[str, ...], bool]:
    """Names of the activations that make an output, and whether one also stands between layers."""
    rows = [row.split("[")[0] for row in found.record.layers]
    modules = dict(found.model.named_modules())
    ours = [row.split("#")[0] for row in rows]
    squashes = [i for i, name in enumerate(ours) if isinstance(modules.get(name), _SQUASHES)]
    last = set()
    for output in found.outputs:
        path = follow(output.grad_fn, found.ends)
        if path.activations:
            behind = [rows.index(call.name) for call in path.parents if call.name in rows]
            last |= {min((i for i in squashes if i > row), default=-1) for row in behind}
    names = dict.fromkeys(ours[i] for i in sorted(last - {-1}))
    inside = {ours[i] for i in squashes if i not in last}
    return tuple(n for n in names if n not in inside), any(n in inside for n in names)


_SQUASHES = (nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish)


def _size(slope: Slope, found: Pass) -> str:
    if not slope.factor:
        return (
            "Of the gradient at the last layer exactly 0 arrives below: underflow, or zero weights."
        )
    decades = slope.log_total / math.log(10)
    text = (
        f"From the last layer to the first ∂L/∂h is multiplied by 10^{decades:.1f} over "
        f"{slope.span} layers."
    )
    if slope.underflow:
        text += " In the layers nearest to the input it is exactly 0: it underflows."
    if not found.own_gradient:
        text += (
            " The loss has no gradient on this batch (every answer is certain), so random numbers "
            "stood in for ∂L/∂(output)."
        )
    return text


def take_apart(edges: list[tuple[Call, object]], found: Pass) -> Factors:
    """Take apart: rms φ′ and ‖W‖_F/√fan_in of chains of layers, predicted and measured."""
    generator = torch.Generator().manual_seed(0)
    edges = [edge for edge in edges if not edge[1].pools] or edges
    edges = edges[:: math.ceil(len(edges) / ENOUGH)]
    nodes = [node for _, path in edges for node in path.activations]
    names = [activation_name(node) for node in nodes]
    strange = [node for _, path in edges for node in path.nodes if not is_plumbing(node)]
    common = max(set(names), key=names.count) if names else None if strange else "linear"
    chosen = [node for node in nodes if activation_name(node) == common]
    modules = {type(m).__name__.lower() for m in found.model.modules()}
    between, weights, measured_between, measured_weights, slope = [], [], [], [], []
    for call, path in edges:
        parent = path.parents[0]
        between.append(transmitted(path, generator))
        measured_between.append(_ratio(parent.grad_out, call.grad_in))
        weights.append(parent.weight_factor())
        measured_weights.append(_ratio(parent.grad_in, parent.grad_out))
    for node in chosen:
        values = slopes(node)
        if values is not None:
            slope.append(rms(values))
    return Factors(
        common,
        as_function(chosen[0]) if chosen else common,
        common not in ("linear", None) and common.replace("_", "") not in modules,
        typical(between),
        typical(slope) if slope else 1.0,
        typical(weights),
        typical(measured_between),
        typical(measured_weights),
    )


def _plain(kind: str, slope: Slope, factors: Factors, edges: list) -> tuple[float, str]:
    product = factors.between * factors.weights
    predicted, matched = _theory(factors, edges)
    weights, between = factors.weights, factors.between
    parts = f"rms φ′ × ‖W‖_F/√fan_in = {between:.3g} × {weights:.3g} = {product:.3g} per layer"
    sign = -1 if kind == "vanishing" else 1
    by_weights = sign * math.log(weights) >= sign * math.log(between)
    name = factors.activation or "what stands between the layers"
    if by_weights:
        whose = f"The weights are too {'small' if kind == 'vanishing' else 'large'}"
        need = 1 / between
        ratio = need / weights if kind == "vanishing" else weights / need
        whose += f" for {name} by a factor of {ratio:.3g}: {parts}"
        if kind == "exploding" and name in ("tanh", "sigmoid"):
            whose += ", in spite of the saturation"
    else:
        whose = f"{name} passes {between:.3g} of the gradient, and {parts}"
        whose = f"The activation: {whose}" if factors.activation else whose[0].upper() + whose[1:]
    if not math.isnan(predicted):
        whose += f". {matched}"
        if not slope.factor or (
            abs(predicted / slope.factor - 1) < 0.1 or not abs(product / slope.factor - 1) < 0.1
        ):
            return predicted, f"{whose}."
    return product, f"{whose}."


def _theory(factors: Factors, edges: list) -> tuple[float, str]:
    """cu.theory.gradient_factor of these weights and this activation, and a sentence."""
    edges = edges[:: math.ceil(len(edges) / ENOUGH)]
    variances = [path.parents[0].variances() for _, path in edges]
    known = [(w, b) for w, b in variances if not math.isnan(w)]
    if factors.function is None or not known:
        return math.nan, ""
    weight_variance = _median(w for w, _ in known)
    bias_variance = _median(b for _, b in known)
    try:
        value = theory.gradient_factor(factors.function, weight_variance, bias_variance)
    except (ValueError, TypeError):
        return math.nan, ""
    name = factors.activation
    parents = [path.parents[0] for _, path in edges]
    some = parents[:: math.ceil(len(parents) / 3)]
    default = sum(call.default_initialized() for call in some) > len(some) / 2
    if default and name == "relu":
        return value, (
            f"{type(parents[0].module).__name__}'s default init with ReLU predicts "
            f"√(1/6) = {value:.3f}"
        )
    source = "nn.Linear's default init" if default else f"σ_w² = {weight_variance:.3g}"
    return value, f"{source} with {name} predicts √χ₁ = {value:.3g}"


def _batch_norm(slope: Slope, factors: Factors, edges: list) -> tuple[float, str]:
    product = factors.between * factors.weights
    predicted, said = product, ""
    batch_size = edges[0][0].in_shape[0] if len(edges[0][0].in_shape) == 2 else None
    if factors.function is not None:
        try:
            predicted = theory.batchnorm_gradient_factor(factors.function, batch_size)
            said = f"; batch norm with {factors.activation} predicts {predicted:.4g}"
            if factors.activation == "relu":
                said += " (√(π/(π−1)) = 1.211 in a large batch)"
        except (ValueError, TypeError, AttributeError):
            predicted = product
    return predicted, (
        "Batch norm without a skip connection: it sets the signal to variance 1 in every layer, "
        "and on the way back divides by the standard deviation that it took out. rms φ′ × γ/σ × "
        f"‖W‖_F/√fan_in = {factors.between:.3g} × {factors.weights:.3g} = {product:.4g} per "
        f"layer{said}. Other weights change nothing: σ grows with them."
    )


def _residual(kind: str, slope: Slope, edges: list, found: Pass) -> tuple[float, str, str]:
    """√(1 + a²) per block, a being what the branch alone multiplies the gradient by."""
    branches: list[list[Call]] = []
    for call, path in edges:
        if path.skip or not branches:
            branches.append([])
        branches[-1].append(call)
    added = {parent for _, path in edges if path.skip for parent in path.parents}
    branches = [branch for branch in branches if branch[-1] in added] or branches
    gains = []
    for branch in branches:
        gain = 1.0
        for call in branch:
            gain *= call.weight_factor()
            for node in found.paths[call].activations[:1]:
                values = slopes(node)
                gain *= rms(values) if values is not None else math.nan
        gains.append(gain)
    gain = typical(gains)
    length = sum(map(len, branches)) / len(branches)
    per_block = math.sqrt(1 + gain**2)
    norms = {norm for _, path in edges for norm in path.norms}
    where = "without a norm" if not norms else f"with {', '.join(sorted(norms))} norm"
    cause = (
        f"{len(branches)} residual blocks {where}: the branch multiplies the gradient by "
        f"a = {gain:.3g}, the skip by 1, together √(1 + a²) = {per_block:.3g} per block"
    )
    count = len(branches)
    if kind == "exploding" and not norms:
        cause += (
            f"; a = 1 (He) gives √2. With 1/√{count} before each branch, g² grows by e^(a²) at most"
        )
    ends = [branch[-1].name for branch in branches]
    remedy = (
        f"# scale each of the {count} branches by 1/√{count}, here in its last layer:\n"
        "with torch.no_grad():\n"
        f"    for name in {remedies.listed(ends)}:\n"
        "        for parameter in model.get_submodule(name).parameters():\n"
        f"            parameter.mul_({count} ** -0.5)"
    )
    return per_block ** (1 / length), cause + ".", remedy


def batch_excess(found: Pass, values: int) -> float:
    """What a small batch alone adds to the growth of a gradient through batch norms.

    Args:
        found: The pass.
        values: Values per channel that a norm sees, B.

    Returns:
        (factor of B / factor of an infinite batch) to the power of the number of norms that
        stand in a chain; 1 where theory does not know the activation.
    """
    paths = [path for path in found.paths.values() if path.chain and "batch" in path.norms]
    nodes = [path.activations[0] for path in paths if path.activations]
    functions = [as_function(node) for node in nodes] or ["linear"]
    if not paths or functions[0] is None:
        return 1.0
    small = theory.batchnorm_gradient_factor(functions[0], values)
    return (small / theory.batchnorm_gradient_factor(functions[0])) ** len(paths)


def typical(values: Iterable[float]) -> float:
    """Geometric mean of the positive finite values; NaN without any."""
    logs = [math.log(value) for value in values if 0 < value < math.inf]
    return math.exp(math.fsum(logs) / len(logs)) if logs else math.nan


def _ratio(upper: float, lower: float) -> float:
    return upper / lower if lower and not math.isnan(lower) else math.nan


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
