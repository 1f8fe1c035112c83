"""Inputs, targets or first outputs of a scale at which training starts badly."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from ...measuring.torch_internals import Node, RunningNorms, kept, outputs_of
from .. import remedies
from ..blind_loss import blind_loss, blind_terms
from ..graph import PRODUCTS, inputs_of, past, stem
from ..layer_calls import CONVOLUTIONS, BareWeight, LayerCall, rms
from ..loss_terms import Term, known_loss
from ..measured_pass import MeasuredPass
from ..report import Finding
from .rule import Case, rule

LARGE, SMALL = 20.0, 1e-3
"""RMS of inputs beyond which they are no longer of the scale that weights are drawn for."""

FITS = 5.0
"""RMS of sums of inputs up to which a layer's weights fit them, however large they are."""

FEW = 4
"""Of fewer targets no size is known."""

FAR = 30.0
"""How many times larger targets are than outputs, or outputs than targets."""

TIMES = 3.0
"""A first loss beyond so many times that of someone who does not look comes from its outputs."""

SURE = 6.0
"""RMS of logits beyond which a model is surer than a usual initialization makes it."""

LARGE_WEIGHTS = 3.0
"""σ_w beyond which a last layer is to blame for its large outputs."""

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, RunningNorms)
_READERS = (nn.Linear, nn.Bilinear, nn.RNNBase, nn.RNNCellBase, *CONVOLUTIONS)


def _found(
    cause: str,
    remedy: str,
    quantity: str,
    measured: float,
    predicted: float = 1.0,
    layers: tuple[str, ...] = ("(model)",),
) -> Finding:
    chapter = remedies.CHAPTERS[5]
    return Finding("unscaled", layers, quantity, measured, predicted, cause, remedy, chapter)


@rule(silences=("constant_output",))
def unscaled(case: Case) -> Finding | None:
    """Features, targets or logits far from 1, with the first loss beside them."""
    measured_pass = case.measured_pass
    kinds = {finding.kind for finding in case.findings}
    loss = float(measured_pass.loss_value.detach())
    if not math.isfinite(loss) or kinds & {"saturated", "exploding", "non_finite"}:
        return None
    blind = blind_loss(measured_pass)
    if loss == 0:
        return None
    if blind is not None and loss < blind[0] / 2:
        return None  # it fits its data as they are
    found = _inputs(measured_pass)
    if found is not None:  # what it does to the layer that reads them is no other finding
        layers = set(found.layers)
        rest = [f for f in case.findings if f.kind != "vanishing" or not set(f.layers) <= layers]
        case.findings[:] = rest
    if found is None and not kinds & {"loss_mismatch", "double_softmax", "dead"}:
        found = _targets(measured_pass) or _logits(measured_pass)
    if found is None:
        return None
    beside = "" if blind is None else f"; a model that ignores its input gets {blind[0]:.4g}"
    beside += "" if blind is None else f" ({blind[1]})"
    return replace(found, cause=f"{found.cause} The first loss is {loss:.4g}{beside}.")


# ------------------------------------------------------------------ inputs


def _inputs(measured_pass: MeasuredPass) -> Finding | None:
    """Data that a layer reads at a scale that its weights are not drawn for."""
    for call in measured_pass.calls:
        data = _data(call)
        if data is None or not data.numel():
            continue
        size = rms(data)
        gain = _gain(call)
        if not 0 < size < math.inf or not 0 < gain < math.inf or len(data) < 2:
            continue
        if SMALL < size < LARGE or _is_normed(measured_pass, call):
            continue
        made_by = size * gain
        if 10 * SMALL < made_by < FITS:
            continue  # weights that fit this scale
        return _input_found(measured_pass, call, data, size)
    return None


def _data(call: LayerCall) -> Tensor | None:
    """The data that a layer reads; None where it reads what another made."""
    if not isinstance(call.module, BareWeight):
        return call.data if isinstance(call.module, _READERS) else None
    node = call.out_node if call.in_node is None else None
    while node is not None and not any(product in node.name() for product in PRODUCTS):
        node = node.next_functions[0][0]
    if node is None:
        return None
    sides = [kept(node, name) for name in ("self", "mat1", "mat2")]
    start = call.module.weight.data_ptr()
    kept_data = [t for t in sides if isinstance(t, Tensor) and t.data_ptr() != start]
    return kept_data[0].detach() if len(kept_data) == 1 else None


def _gain(call: LayerCall) -> float:
    """What independent inputs of mean 0 are multiplied by, in RMS; NaN without weights."""
    if isinstance(call.module, BareWeight):
        return rms(call.module.weight.detach()) * math.sqrt(call.fan_in)
    weights = [p for n, p in call.module.named_parameters() if n.startswith("weight")]
    return rms(weights[0].detach()) * math.sqrt(weights[0][0].numel()) if weights else math.nan


def _is_normed(measured_pass: MeasuredPass, call: LayerCall) -> bool:
    """Whether a norm takes the scale away again right behind a layer."""
    behind = [c for c, path in measured_pass.paths.items() if call in path.parents]
    return bool(behind) and all(
        isinstance(c.module, _NORMS) or measured_pass.paths[c].norms for c in behind
    )


def _input_found(
    measured_pass: MeasuredPass, call: LayerCall, data: Tensor, size: float
) -> Finding | None:
    axis = 1 if isinstance(call.module, CONVOLUTIONS) and data.dim() > 2 else data.dim() - 1
    columns = data.detach().float().transpose(0, axis).flatten(1)
    each = columns.square().mean(1).sqrt()
    low, high = float(data.min()), float(data.max())
    said = f"{call.name} reads inputs between {low:.4g} and {high:.4g}"
    usual = each[each > 0].median() if bool((each > 0).any()) else each.new_tensor(0.0)
    worst = int(each.argmax())
    between = float(each.max() / usual) if float(usual) > 0 else math.inf
    spread = float(columns.std(1).max())
    if len(each) > 1 and float(each.max()) > 100 * float(each[each > 0].min()):
        said += (
            f", feature {worst} with a root mean square of {float(each.max()):.3g}, the smallest "
            f"with {float(each[each > 0].min()):.3g}: the weights of the large one get nearly all "
            "of the gradient, and the small ones drown in it"
        )
    elif size < LARGE:
        said += ": next to biases and to updates of the usual length they are as good as 0"
    elif abs(float(columns.mean())) > 3 * spread:
        said += (
            f", {float(columns.mean()):.4g} ± {spread:.2g}: their offset drowns what differs "
            "between them"
        )
    else:
        said += ": sums over them are as many times too large, and so are the first gradients"
    given = measured_pass.batch
    alone = len(given.args) == 1 and not given.kwargs and isinstance(given.args[0], Tensor)
    whole = alone and tuple(given.args[0].shape) == call.in_shape
    remedy = remedies.standardize(call.in_shape if whole and between < math.inf else ())
    if 0 <= low and high in (254.0, 255.0):
        remedy = "# pixels: x = x / 255, and better also minus their mean\n" + remedy
    return _found(
        f"Weights are drawn for inputs of mean 0 and a root mean square of about 1; {said}.",
        remedy,
        "is the root mean square of the inputs",
        size,
        layers=(call.name,),
    )


# ------------------------------------------------------------------ targets and outputs


def _targets(measured_pass: MeasuredPass) -> Finding | None:
    """Targets of a regression far beyond what the outputs are, or far below."""
    for term in _regressions(measured_pass):
        target, got = term.target, term.got
        assert target is not None
        sizes = rms(target.detach()), rms(got.detach())
        if not all(0 < size < math.inf for size in sizes):
            continue
        wanted, made = sizes
        mean = float(target.double().mean())
        spread = float(target.double().std()) if target.numel() > 1 else 0.0
        if wanted > FAR and wanted > FAR * made:
            around = f" ± {spread:.3g}" if spread else ""
            return _found(
                f"The targets lie around {mean:.4g}{around}, the first outputs have a root "
                f"mean square of {made:.3g}: the last layer has to grow by {wanted / made:.3g}× "
                "before anything else can be learned.",
                "# in the data, and back on the predictions:\n"
                + (
                    f"# target = (target - {mean:.4g}) / {max(spread, 1e-30):.4g}"
                    if target.numel() > 1
                    else f"# target = target / {abs(mean):.4g}"
                ),
                "is the root mean square of the targets",
                wanted,
            )
        few = target.numel() < FEW  # which may lie near 0 by chance
        if made > FAR * wanted and not few and (made > FAR or wanted < 1 / FAR / 3):
            remedy = (
                _smaller(measured_pass, term.node, wanted / made)
                if made > 1
                else f"# in the data: target = target / {wanted:.3g}"
            )
            return _found(
                f"The first outputs have a root mean square of {made:.3g}, the targets of "
                f"{wanted:.3g}: the first steps only take away what chance has put there.",
                remedy,
                "is the root mean square of the outputs, and that of the targets",
                made,
                wanted,
            )
    return None


def _regressions(measured_pass: MeasuredPass) -> list[Term]:
    """Known losses of numbers within the loss."""
    terms = (known_loss(measured_pass, node) for node in measured_pass.loss_nodes)
    numbers = ("mse", "l1", "huber", "smooth_l1")
    return [term for term in terms if term is not None and term.kind in numbers]


def _logits(measured_pass: MeasuredPass) -> Finding | None:
    """First outputs so large that the answers are sure and wrong."""
    for term, (blind, weight, _) in blind_terms(measured_pass) or ():
        if term.kind not in ("nll", "log_prob", "bce_with_logits"):
            continue
        alike = weight * math.log(2) if term.kind == "bce_with_logits" else blind
        if not term.value() > TIMES * alike:
            continue
        last, size = _last_layer(measured_pass, term.node), _size_of_logits(term)
        if last is None:
            continue
        large = last.weights > LARGE_WEIGHTS
        if not size > (SURE if large else 3 * SURE):
            continue
        blamed = (
            f" {last.layer} multiplies the size of what it reads by {last.weights:.3g} (σ_w), "
            "where 1 keeps it."
        )
        return _found(
            f"The first logits have a root mean square of {size:.3g} about their mean: the model "
            f"is sure before it has learned anything, and mostly wrong.{blamed if large else ''}",
            _smaller(measured_pass, term.node, 1 / size),
            "is the root mean square of the first logits",
            size,
            layers=(last.layer,),
        )
    return None


def _size_of_logits(term: Term) -> float:
    """RMS of what goes into the softmax or sigmoid, about the mean of the classes."""
    value = term.got.detach()
    if term.kind != "bce_with_logits":
        value = value.masked_fill(~value.isfinite(), 0.0)
        value = value - value.mean(term.dim, keepdim=True)
    return rms(value)


@dataclass
class Last:
    """The weights that made what a loss reads.

    Attributes:
        layer: Name of the layer; "(model)" for a product in the model's own code.
        parameters: Names of its weight and bias.
        weights: σ_w, the RMS of the weights times √fan_in.
        shared: Whether another layer has the same weight.
    """

    layer: str
    parameters: list[str]
    weights: float
    shared: bool


def _last_layer(measured_pass: MeasuredPass, node: Node) -> Last | None:
    """The last layer, if the loss reads its output as it is or scaled down; else None."""
    scale, current = 1.0, node
    for _ in range(12):
        live = inputs_of(current)
        if current in measured_pass.ends:
            call = measured_pass.ends[current]
            own = [getattr(call.module, name, None) for name in ("weight", "bias")]
            found = _named(measured_pass, call.name, own, math.sqrt(call.variances()[0]))
            return found if scale < 1.5 else None
        name = stem(current)
        if any(product in current.name() for product in PRODUCTS):
            weights = [weight for weight in map(_parameter, live) if weight is not None]
            if len(weights) != 1 or weights[0].dim() != 2 or scale > 1.5:
                return None
            classes = outputs_of(current)[0].shape[-1]
            weight = weights[0].detach()
            fan_in = weight.shape[1] if weight.shape[0] == classes else weight.shape[0]
            return _named(measured_pass, "(model)", weights, rms(weight) * math.sqrt(fan_in))
        if name in ("Mul", "Div"):
            other = kept(current, "other")
            if not isinstance(other, Tensor) or other.numel() != 1:
                return None
            factor = abs(float(other.detach()))
            scale = scale * factor if name == "Mul" else scale / max(factor, 1e-30)
        if len(live) != 1:
            return None
        current = live[0]
    return None


def _parameter(node: Node) -> Tensor | None:
    """The parameter that a node hands on, turned or cast."""
    return getattr(past(node, ("T", "Permute", "Transpose", "ToCopy", "View")), "variable", None)


def _named(
    measured_pass: MeasuredPass, layer: str, own: Sequence[Tensor | None], weights: float
) -> Last:
    """With the names of its parameters."""
    everywhere = list(measured_pass.model.named_parameters(remove_duplicate=False))
    names = [
        next((name for name, parameter in everywhere if parameter is tensor), "")
        for tensor in own
        if tensor is not None
    ]
    twice = sum(parameter is own[0] for _, parameter in everywhere) > 1
    return Last(layer, [name for name in names if name], weights, twice or layer == "(model)")


def _smaller(measured_pass: MeasuredPass, node: Node, factor: float) -> str:
    """The last layer's weights and bias times a factor, as code."""
    last = _last_layer(measured_pass, node)
    if last is None or not last.parameters:
        return f"# the weights of the last layer, times {factor:.3g}"
    said = "  # also those of the layer that shares them" if last.shared else ""
    lines = [
        f"    model.get_parameter({name!r}).mul_({factor:.3g})"
        for name in dict.fromkeys(last.parameters)
    ]
    return "with torch.no_grad():\n" + "\n".join(lines) + said
