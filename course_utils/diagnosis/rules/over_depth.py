"""Vanishing and exploding over the depth: whose fault it is."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from ... import theory
from .. import remedies
from ..factors import Edge, Factors, factorize, predicted_by_theory, typical
from ..graph import Path, follow, slopes
from ..layer_calls import CONVOLUTIONS, BareWeight, LayerCall, rms
from ..measured_pass import MeasuredPass
from ..report import Finding
from ..slope import LIMIT, Slope
from .rule import Case, rule

AGREES = 0.25
"""Where measured and predicted differ by more, the finding says that it is not explained."""


SURELY_WITHIN = LIMIT / math.sqrt(10)
"""Where layers differ by no more, the gradient arrives whatever line is put through them."""


class Explanation(NamedTuple):
    """Why a gradient vanishes or explodes.

    Attributes:
        predicted: What theory says one layer multiplies the gradient by.
        cause: Why, with the numbers that decide it.
        remedy: Code that mends it.
        chapter: Number of the notebook that teaches it.
    """

    predicted: float
    cause: str
    remedy: str
    chapter: int


@rule()
def over_depth(case: Case) -> Finding | None:
    """A gradient that the depth multiplies by more than 100×, or divides by it."""
    measured_pass = case.measured_pass
    slope = measured_pass.depth_slope
    if slope.close and not _arrives_everywhere(measured_pass):
        case.undecided.append(
            "over the depth the gradient changes by a factor of "
            f"{math.exp(slope.log_total):.3g}, and the limit of {LIMIT:.0f}× lies within two "
            f"standard errors of that.{_lowest(measured_pass)} Measure again with a larger batch "
            "and other seeds; if the figure stays, the profile is bent and no line fits it: "
            "see cu.plots.gradient_profile(diagnosis.record)."
        )
    if slope.close or not slope.verdict:
        return None
    why = _explanation(measured_pass, slope) or Explanation(
        math.nan,
        "The layers are connected in more than one way, and no theory here covers the whole: "
        "the evidence does not decide the cause. Measure next: "
        "cu.plots.gradient_profile(diagnosis.record) shows where the profile bends, and "
        "cu.record(model, layers='all') has a row for each block.",
        "# look for the layer where the profile bends: see the cause",
        12,
    )
    kept = _frozen(measured_pass)
    if kept:
        why = why._replace(
            remedy=f"# {kept} of the layers are frozen: to initialize them again would destroy "
            "what they have learned.\n# Unfreeze them, or put the layers that learn nearer to the "
            "output, or a skip or norm between"
        )
    return Finding(
        kind=slope.verdict,
        layers=tuple(call.name for call in measured_pass.trunk),
        quantity="factor of ∂L/∂h per layer",
        measured=slope.factor,
        predicted=why.predicted,
        cause=f"{_size(slope, measured_pass)} {why.cause}",
        remedy=why.remedy,
        notebook=remedies.CHAPTERS[why.chapter],
    )


def _frozen(measured_pass: MeasuredPass) -> int:
    """How many layers are frozen, where that is a third of them or more; else 0."""
    modules = {call.module for call in measured_pass.trunk}
    weights = [weight for m in modules if (weight := getattr(m, "weight", None)) is not None]
    count = sum(isinstance(w, nn.Parameter) and not w.requires_grad for w in weights)
    return count if 3 * count >= len(weights) else 0


def _arrives_everywhere(measured_pass: MeasuredPass) -> bool:
    """Whether no layer gets far less than another: where branches scatter, no line is needed."""
    zero = measured_pass.zero_calls  # 0 on purpose
    sizes = [
        call.grad_in
        for call in measured_pass.depth
        if not math.isnan(call.grad_in) and (call.grad_in > 0 or call not in zero)
    ]
    return bool(sizes) and max(sizes) <= SURELY_WITHIN * min(sizes)


def _lowest(measured_pass: MeasuredPass) -> str:
    """A sentence on the layer that the least gradient reaches, where it is not the first one."""
    sizes = {call.name: call.grad_in for call in measured_pass.depth if call.grad_in > 0}
    name, last = min(sizes, key=lambda name: sizes[name], default=""), next(reversed(sizes), "")
    if len(sizes) < 3 or name in (next(iter(sizes)), last):
        return ""
    return (
        f" The least arrives in the middle: {sizes[name] / sizes[last]:.2g} of what {last} gets, "
        f"at {name}."
    )


def _size(slope: Slope, measured_pass: MeasuredPass) -> str:
    if not slope.factor:
        return (
            "Of the gradient at the last layer exactly 0 arrives below: underflow, or zero weights."
        )
    text = (
        f"From the last layer to the first ∂L/∂h is multiplied by "
        f"10^{slope.log_total / math.log(10):.1f} over {slope.span} layers."
    )
    if slope.underflow:
        text += " In the layers nearest to the input it is exactly 0: it underflows."
    if not measured_pass.own_gradient:
        text += (
            " The loss has no gradient on this batch (every answer is certain), so random numbers "
            "stood in for ∂L/∂(output)."
        )
    return text


def _explanation(measured_pass: MeasuredPass, slope: Slope) -> Explanation | None:
    """What theory says of the way in which most layers are connected; None if there is none."""
    paths = measured_pass.paths
    edges = [(c, paths[c]) for c in measured_pass.trunk if c in paths and paths[c].parents]
    chains = [edge for edge in edges if edge[1].chain]
    why = None
    if slope.verdict == "vanishing" and slope.factor and measured_pass.post_norm.factors:
        why = _post_norm(measured_pass, slope)
    if why:
        return why
    if edges and sum(_is_skip(measured_pass, path) for _, path in edges) >= len(edges) / 4:
        why = _residual(measured_pass, slope, edges)
    elif edges:
        for group, explain in (
            ([e for e in chains if not e[1].norms], _plain),
            ([e for e in chains if "batch" in e[1].norms], _batch_norm),
            ([e for e in chains if e[1].norms and "batch" not in e[1].norms], _other_norm),
        ):
            if len(group) >= len(edges) / 2:
                why = explain(measured_pass, slope, group)
                break
    if why and slope.factor and not abs(why.predicted / slope.factor - 1) < AGREES:
        return why._replace(
            cause=f"{why.cause} The product is not what was measured ({slope.factor:.3g}), so this "
            "is not the whole cause: compare the layers one by one with "
            "cu.plots.gradient_profile(diagnosis.record)."
        )
    return why


def _is_skip(measured_pass: MeasuredPass, path: Path) -> bool:
    """Whether a sum carries on what a branch has read, and is not of two layers side by side."""
    if not path.skip or len(path.parents) < 2:
        return path.skip
    parents, queue = set(path.parents), list(path.parents)
    seen: set[LayerCall] = set()
    while queue:
        before = measured_pass.paths.get(queue.pop())
        for call in before.parents if before is not None else ():
            if call in parents:
                return True
            if call not in seen:
                seen.add(call)
                queue.append(call)
    branches = (measured_pass.paths.get(parent) for parent in path.parents)
    first = [branch for branch in branches if branch is None or not branch.parents]
    return len(first) == 1  # x + f(x) with x from data or from what is no layer


# ---------------------------------------------------------------- layers behind each other


def _plain(measured_pass: MeasuredPass, slope: Slope, edges: Sequence[Edge]) -> Explanation:
    factors = factorize(edges, measured_pass)
    predicted, cause = _by_weights_or_activation(slope, factors, edges)
    trunk = measured_pass.trunk
    bare = {c.name.split("#")[0]: c.fan_in for c in trunk if isinstance(c.module, BareWeight)}
    if len(bare) > len(trunk) / 2:
        remedy = remedies.bare(factors.activation, bare)
    else:
        output, shared = _at_the_output(measured_pass)
        convolves = any(isinstance(p.parents[0].module, CONVOLUTIONS) for _, p in edges)
        remedy = remedies.initialize(
            factors.activation,
            factors.functional or shared,
            axis=1 if convolves else -1,
            factor=slope.factor,
            output=output,
        )
    sigmoid = factors.activation in ("sigmoid", "hardsigmoid")
    return Explanation(predicted, cause, remedy, 4 if sigmoid else 5)


def _by_weights_or_activation(
    slope: Slope, factors: Factors, edges: Sequence[Edge]
) -> tuple[float, str]:
    """The predicted factor, and which of the two factors is further from 1."""
    vanishes = slope.verdict == "vanishing"
    product, weights, between = factors.product, factors.weights, factors.between
    parts = f"rms φ′ × ‖W‖_F/√fan_in = {between:.3g} × {weights:.3g} = {product:.3g} per layer"
    name = factors.activation or "what stands between the layers"
    if (weights <= between) if vanishes else (weights >= between):
        ratio = 1 / product if vanishes else product
        whose = (
            f"The weights are too {'small' if vanishes else 'large'} for {name} by a factor of "
            f"{ratio:.3g}: {parts}"
        )
        if not vanishes and name in ("tanh", "sigmoid"):
            whose += ", in spite of the saturation"
    else:
        whose = f"{name} passes {between:.3g} of the gradient, and {parts}"
        whose = f"The activation: {whose}" if factors.activation else whose[0].upper() + whose[1:]
    predicted, said = predicted_by_theory(factors, edges)
    if math.isnan(predicted):
        return product, f"{whose}."
    fits = not slope.factor or abs(predicted / slope.factor - 1) < 0.1
    closer = fits or not abs(product / slope.factor - 1) < 0.1
    return predicted if closer else product, f"{whose}. {said}."


_SQUASHES = (nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish)


def _at_the_output(measured_pass: MeasuredPass) -> tuple[tuple[str, ...], bool]:
    """Names of the activations that make an output, and whether one also stands between layers."""
    rows = [row.split("[")[0] for row in measured_pass.record.layers]
    modules = dict(measured_pass.model.named_modules())
    ours = [row.split("#")[0] for row in rows]
    squashes = [i for i, name in enumerate(ours) if isinstance(modules.get(name), _SQUASHES)]
    last = set()
    for output in measured_pass.outputs:
        path = follow(output.grad_fn, measured_pass.ends)
        if path.activations:
            behind = [rows.index(call.name) for call in path.parents if call.name in rows]
            last |= {min((i for i in squashes if i > row), default=-1) for row in behind}
    names = dict.fromkeys(ours[i] for i in sorted(last - {-1}))
    inside = {ours[i] for i in squashes if i not in last}
    return tuple(n for n in names if n not in inside), any(n in inside for n in names)


# ---------------------------------------------------------------- norms and skips


def _batch_norm(measured_pass: MeasuredPass, slope: Slope, edges: Sequence[Edge]) -> Explanation:
    factors = factorize(edges, measured_pass)
    predicted, said = factors.product, ""
    shape = edges[0][0].in_shape
    if factors.function is not None:
        try:
            batch_size = shape[0] if len(shape) == 2 else None
            predicted = theory.batchnorm_gradient_factor(factors.function, batch_size)
            said = f"; batch norm with {factors.activation} predicts {predicted:.4g}"
            if factors.activation == "relu":
                said += " (√(π/(π−1)) = 1.211 in a large batch)"
        except (ValueError, TypeError):
            pass  # theory does not know this activation, or so small a batch
    cause = (
        "Batch norm without a skip connection: it sets the signal to variance 1 in every layer, "
        "and on the way back divides by the standard deviation that it took out. rms φ′ × γ/σ × "
        f"‖W‖_F/√fan_in = {factors.between:.3g} × {factors.weights:.3g} = {factors.product:.4g} "
        f"per layer{said}. Other weights change nothing: σ grows with them."
    )
    return Explanation(predicted, cause, remedies.add_skips(measured_pass.model), 7)


def _other_norm(measured_pass: MeasuredPass, slope: Slope, edges: Sequence[Edge]) -> Explanation:
    factors = factorize(edges, measured_pass)
    cause = (
        f"Between layers stands a {edges[0][1].norms[0]} norm: rms φ′ times γ/σ is "
        f"{factors.between:.3g}, ‖W‖_F/√fan_in {factors.weights:.3g}, product "
        f"{factors.product:.3g}."
    )
    return Explanation(factors.product, cause, remedies.add_skips(measured_pass.model), 8)


def _post_norm(measured_pass: MeasuredPass, slope: Slope) -> Explanation | None:
    """1/√(1 + a²) per block for the skip alone, where that is at least half of what is lost."""
    stack = measured_pass.post_norm
    if not 0 < stack.through < 1 or 2 * math.log(stack.through) > slope.log_total:
        return None
    cause = (
        f"{len(stack.factors)} blocks have their norm behind the addition (post-norm): "
        "LayerNorm(x + f(x)) divides by √(1 + a²) on the way back, f being a times as large as x, "
        f"a = {stack.branch:.2g}. The skips alone leave 10^{math.log10(stack.through):.1f} of the "
        "gradient, and the branches do not give it back. Long first steps make branches large; a "
        "warm-up prevents it."
    )
    layers = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
    stock = any(isinstance(module, layers) for module in measured_pass.model.modules())
    remedy = remedies.pre_norm(stock=stock)
    return Explanation(stack.through ** (1 / slope.span), cause, remedy, 12)


def _residual(measured_pass: MeasuredPass, slope: Slope, edges: Sequence[Edge]) -> Explanation:
    """√(1 + a²) per block, a being what the branch alone multiplies the gradient by."""
    branches: list[list[LayerCall]] = []
    for call, path in edges:
        if path.skip or not branches:
            branches.append([])
        branches[-1].append(call)
    added = {parent for _, path in edges if path.skip for parent in path.parents}
    branches = [branch for branch in branches if branch[-1] in added] or branches
    gain = typical(_gain(branch, measured_pass) for branch in branches)
    per_block, count = math.sqrt(1 + gain**2), len(branches)
    norms = {norm for _, path in edges for norm in path.norms}
    where = "without a norm" if not norms else f"with {', '.join(sorted(norms))} norm"
    cause = (
        f"{count} residual blocks {where}: the branch multiplies the gradient by "
        f"a = {gain:.3g}, the skip by 1, together √(1 + a²) = {per_block:.3g} per block"
    )
    if slope.verdict == "exploding" and not norms:
        cause += (
            f"; a = 1 (He) gives √2. With 1/√{count} before each branch, g² grows by e^(a²) at most"
        )
    remedy = (
        f"# scale each of the {count} branches by 1/√{count}, here in its last layer:\n"
        "with torch.no_grad():\n"
        f"    for name in {remedies.listed([branch[-1].name for branch in branches])}:\n"
        "        for parameter in model.get_submodule(name).parameters():\n"
        f"            parameter.mul_({count} ** -0.5)"
    )
    length = sum(map(len, branches)) / count
    return Explanation(per_block ** (1 / length), f"{cause}.", remedy, 8)


def _gain(branch: Sequence[LayerCall], measured_pass: MeasuredPass) -> float:
    """What a branch multiplies the gradient by: its weights, and the slope before each layer."""
    gain = 1.0
    for call in branch:
        gain *= call.weight_factor()
        for node in measured_pass.paths[call].activations[:1]:
            values = slopes(node)
            gain *= math.nan if values is None else rms(values)
    return gain
