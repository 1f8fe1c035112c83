"""A loss that gets something else than it expects, and what that costs."""

import math
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...measuring.torch_internals import Node, kept, outputs_of
from .. import remedies
from ..blind_loss import blind_loss
from ..graph import PRODUCTS, inputs_of, past, stem, walk
from ..loss_terms import Term, is_log_probability, known_loss, signed
from ..measured_pass import MeasuredPass
from ..report import Finding
from .rule import Case, rule

COSTS = 0.1
"""A floor below this share of what a constant gets is no mismatch: labels are often smoothed."""

BEYOND = 0.25
"""The same for targets that an activation cannot reach: some outliers may be cut on purpose."""

_MOVES = (
    *("View", "UnsafeView", "Reshape", "ReshapeAlias", "Unsqueeze", "Squeeze", "Transpose"),
    *("Permute", "T", "Clone", "ToCopy", "Alias", "Expand", "Select", "Slice", "Index", "Split"),
    *("Unbind", "Chunk"),
)
_REACH: dict[str, tuple[float, float, type[nn.Module] | None]] = {
    "Sigmoid": (0.0, 1.0, nn.Sigmoid),
    "Hardsigmoid": (0.0, 1.0, nn.Hardsigmoid),
    "Tanh": (-1.0, 1.0, nn.Tanh),
    "Hardtanh": (-1.0, 1.0, nn.Hardtanh),
    "Softmax": (0.0, 1.0, nn.Softmax),
    "LogSoftmax": (-math.inf, 0.0, nn.LogSoftmax),
    "LogSigmoid": (-math.inf, 0.0, nn.LogSigmoid),
    "Relu": (0.0, math.inf, nn.ReLU),
    "Threshold": (0.0, math.inf, None),
    "Softplus": (0.0, math.inf, nn.Softplus),
    "Exp": (0.0, math.inf, None),
}
"""Between which numbers an activation lies, and its module."""

_PICKS = (
    *("Gather", "Sum", "Mean", "Addmm", "Mm", "Sigmoid", "Tanh", "Relu", "Softplus", "Mul", "Add"),
)
"""What makes a column without asking for one, as an unsqueeze does."""

_LOGS = ("LogSoftmax", "Log", "Logsumexp", "LogSigmoid", "Softplus", "Log1p", "Log2")
_LEAST = "is the least the loss can be"

Remedy = tuple[str, tuple[str, ...]]
"""Code, and the activation at the output if it is a module."""


def _finding(
    cause: str,
    remedy: Remedy | str,
    quantity: str = "is the loss",
    measured: float = math.nan,
    predicted: float = math.nan,
) -> Finding:
    code, layers = (remedy, ("(model)",)) if isinstance(remedy, str) else remedy
    return Finding(
        kind="loss_mismatch",
        layers=layers,
        quantity=quantity,
        measured=measured,
        predicted=predicted,
        cause=cause,
        remedy=code,
        notebook=remedies.CHAPTERS[2],
    )


@rule(
    silences=(
        *("double_softmax", "dead_output", "saturated_output", "zero_gradient"),
        "constant_output",
    )
)
def loss_mismatch(case: Case) -> Finding | None:
    """Probabilities for log-probabilities, shapes that broadcast, targets out of reach."""
    measured_pass = case.measured_pass
    if not bool(measured_pass.loss_value.isfinite()):
        return None
    if not any(p.requires_grad for p in measured_pass.model.parameters()):
        return None
    found = next(_looked_for(measured_pass), None)
    if found is None and (over_batch := _softmax_over_the_batch(measured_pass)):
        case.undecided.append(over_batch)
    return found


def _looked_for(measured_pass: MeasuredPass) -> Iterator[Finding]:
    """All mismatches, the surest first."""
    for look in (_shapes, _in_loss, _class_axis):
        for node in measured_pass.loss_nodes:
            found = look(measured_pass, node)
            if found is not None:
                yield found


def _in_loss(measured_pass: MeasuredPass, node: Node) -> Finding | None:
    """What a known loss read."""
    name = stem(node)
    if name in ("Sub", "Mul"):
        return _kl(measured_pass, node)
    if name == "SoftMarginLoss":
        return _soft_margin(node)
    if name == "CtcLoss":
        return _alignment(measured_pass, node)
    if name == "LogSoftmax":
        return _cross_entropy(measured_pass, node)
    term = known_loss(measured_pass, node)
    if term is None or term.target is None:
        return None
    if term.kind == "nll":
        return _nll(measured_pass, term)
    if term.kind in ("bce", "bce_with_logits"):
        return _binary(measured_pass, term)
    return _out_of_reach(measured_pass, term)


# ------------------------------------------------------------------ classes


def _nll(measured_pass: MeasuredPass, term: Term) -> Finding | None:
    """Something else than log-probabilities in a negative log-likelihood."""
    got, dim, target = term.got, term.dim, term.target
    assert target is not None
    if term.of_log_probabilities():
        return None
    classes, place = got.shape[dim], _source_of(term.node)
    made_by, sums = "" if place is None else stem(place), got.exp().sum(dim)
    add_up = f"{float(sums.min()):.3g} … {float(sums.max()):.3g}"
    log_softmax, in_forward = (
        f"nn.LogSoftmax(dim={dim})",
        f"# in model.forward: log_softmax(..., dim={dim})",
    )
    other = next((d for d in range(got.dim()) if d != dim and is_log_probability(got, d)), None)
    if other is not None and got.shape[other] > 1:
        return _finding(
            f"The loss expects log-probabilities whose exponentials add up to 1 over the "
            f"{classes} classes (dim={dim}); they do so over dim={other}, the "
            f"{'batch' if other == 0 else 'other axis'} of {got.shape[other]}, and over the "
            f"classes to {add_up}: each sample competes with the others and not its classes with "
            "each other.",
            _replaced(measured_pass, "LogSoftmax", log_softmax, in_forward),
        )
    if place is not None and made_by == "LogSoftmax":
        ran, shape = signed(kept(place, "dim")), tuple(outputs_of(place)[0].shape)
        axis = f"# the axis of the {classes} classes as dim of log_softmax"
        last = "nn.LogSoftmax(dim=-1)" if shape[-1] == classes else None
        return _finding(
            f"The log_softmax at the output runs over dim={ran} of {shape}, and the loss takes "
            f"{classes} classes from another axis: the probabilities of one answer add up to "
            f"{add_up} in place of 1.",
            _replaced(measured_pass, "LogSoftmax", last, axis),
        )
    if made_by == "LogSigmoid":
        return _finding(
            "The loss expects log-probabilities that share one probability of 1 among the "
            f"{classes} classes and gets a logsigmoid of each class alone, together "
            f"{float(sums.mean()):.3g}: no class pulls the others down, and the loss is least "
            "where all are large.",
            _replaced(
                measured_pass, "LogSigmoid", log_softmax, f"{in_forward} in place of logsigmoid"
            ),
        )
    if not bool((got > 0).any()) or _log_on_the_way(measured_pass, term.node):
        return None
    probabilities = _adds_up_to_one(got, dim)
    logs = probabilities or made_by == "Exp"
    logits = got.clamp_min(torch.finfo(got.dtype).tiny).log() if logs else got
    ignored = signed(kept(term.node, "ignore_index"))
    value = float(term.returned().mean())
    honest = float(F.cross_entropy(logits, target, ignore_index=ignored))
    name = reach(place)[2]
    if probabilities:
        cause = (
            "The loss expects log-probabilities and gets probabilities (softmax without log): "
            f"what it returns lies between −1 and 0, here {value:.3g}, where the "
            f"log-likelihood of the same answers costs {honest:.3g} and "
            f"{classes} classes alike ln {classes} = {math.log(classes):.3g}. "
            "Its gradient does not grow where the answer is wrong."
        )
        remedy: Remedy | str = _replaced(
            measured_pass, "Softmax", log_softmax, f"{in_forward} in place of softmax"
        )
    else:
        bounded = name in ("Sigmoid", "Tanh", "Hardsigmoid", "Hardtanh")
        got_what = "exponentials" if made_by == "Exp" else "raw numbers (logits)"
        holds, least = "nothing holds it from below", "falls without end by making all larger"
        remedy = _runs(
            measured_pass,
            "# or F.cross_entropy in place of F.nll_loss\n"
            f"model = nn.Sequential(model, {log_softmax})",
        )
        if made_by == "Exp":
            remedy = "# in model.forward: log_softmax(...) in place of exp(...)"
        elif bounded:
            got_what = f"the output of a {name.lower()}"
            holds, least = "no class pulls the others down", "is least where all are large"
            remedy = _replaced(
                measured_pass, name, log_softmax, f"{in_forward} in place of {name.lower()}"
            )
        cause = (
            f"The loss expects log-probabilities and gets {got_what}, up to {float(got.max()):.3g} "
            "where no logarithm of a probability is above 0. It is minus the output of the true "
            f"class, {holds}, and it {least}. With log_softmax these outputs cost {honest:.3g}."
        )
    quantity = "is the loss, of log-probabilities it would be the predicted one"
    return _finding(cause, remedy, quantity, value, honest)


def _adds_up_to_one(value: Tensor, dim: int) -> bool:
    """Whether numbers are probabilities of the entries along a dimension."""
    return bool((value >= 0).all()) and bool(((value.sum(dim) - 1).abs() < 1e-2).all())


def _alignment(measured_pass: MeasuredPass, node: Node) -> Finding | None:
    """Something else than log-probabilities in a loss over alignments (CTC)."""
    got = kept(node, "log_probs")
    if not isinstance(got, Tensor) or not bool(got.isfinite().all()):
        return None
    got = got.detach()
    if is_log_probability(got, got.dim() - 1):
        return None
    sums, probabilities = got.exp().sum(-1), _adds_up_to_one(got, -1)
    what = "probabilities (softmax without log)" if probabilities else "raw numbers (logits)"
    wrapped = _runs(measured_pass, "model = nn.Sequential(model, nn.LogSoftmax(dim=-1))")
    swapped = _replaced(measured_pass, "Softmax", "nn.LogSoftmax(dim=-1)", wrapped)
    return _finding(
        f"The loss sums over alignments and expects log-probabilities, whose exponentials add up "
        f"to 1 over the {got.shape[-1]} symbols of each step, and gets {what}, which add up to "
        f"{float(sums.min()):.3g} … {float(sums.max()):.3g}: it falls by making all of them "
        "larger.",
        swapped if probabilities else wrapped,
        "is the largest sum of what should be probabilities",
        float(sums.max()),
        1.0,
    )


def _cross_entropy(measured_pass: MeasuredPass, node: Node) -> Finding | None:
    """Logits that cannot be far apart."""
    result = kept(node, "result")
    dim = signed(kept(node, "dim")) % max(result.dim(), 1)
    classes, source = result.shape[dim], _source_of(node)
    if source is None or classes < 2 or not _at_output(measured_pass, node):
        return None
    low, high, name = reach(source)
    if name == "Softmax" or not high - low < math.inf:
        return None
    floor = math.log1p((classes - 1) * math.exp(low - high))
    if floor < COSTS * math.log(classes):
        return None
    return _finding(
        f"The loss expects logits of any size and gets the output of a {name.lower()}, between "
        f"{low:.3g} and {high:.3g}: with {classes} classes it cannot fall below "
        f"ln(1 + {classes - 1}·e^−{high - low:.3g}) = {floor:.3f}, where ln {classes} = "
        f"{math.log(classes):.3f} is that of {classes} classes alike. The loss applies softmax "
        "itself.",
        _without(measured_pass, name),
        _LEAST,
        floor,
        0.0,
    )


def _softmax_over_the_batch(measured_pass: MeasuredPass) -> str:
    """A sentence on a softmax at the output that runs over the samples; empty without one."""
    batch = {len(t) for t in measured_pass.batch.tensors() if t.dim()}
    for output in measured_pass.outputs:
        node = output.grad_fn
        if output.dim() != 2 or batch != {len(output)} or len(output) < 2 or node is None:
            continue
        if stem(node) in ("Softmax", "LogSoftmax") and kept(node, "dim") == 0:
            return (
                f"the softmax at the output runs over dim=0, the {len(output)} samples of the "
                "batch, so that each sample's answer depends on the others. If the "
                f"{output.shape[1]} outputs of a sample are its classes, it must be dim=1."
            )
    return ""


def _class_axis(measured_pass: MeasuredPass, node: Node) -> Finding | None:
    """Logits that a view has put in rows across the axis of the classes."""
    if stem(node) != "LogSoftmax" or not _at_output(measured_pass, node):
        return None
    dim = signed(kept(node, "dim"))
    source = past(node.next_functions[0][0], ("Clone", "ToCopy", "Alias"))
    if source is None or stem(source) not in ("View", "UnsafeView", "Reshape", "ReshapeAlias"):
        return None
    after = tuple(outputs_of(source)[0].shape)
    before = tuple(int(n) for n in kept(source, "self_sym_sizes") or ())
    dim %= max(len(after), 1)
    if not before or math.prod(before) != math.prod(after):
        return None
    classes, stride = after[dim], math.prod(after[dim + 1 :])
    lines = [i for i, n in enumerate(before) if n == classes and i > 0]
    if not lines or _is_an_axis(before, classes, stride):
        return None
    return _finding(
        f"The loss takes {classes} classes along dim={dim} of {after}, a view of {before}: it "
        f"mixes the axis of the classes, dim={lines[0]}, with others, so that a row of the "
        "softmax holds numbers of different classes and places.",
        f"# in the loss: output.movedim({lines[0]}, {dim if len(after) == len(before) else -1})"
        + (" before it" if len(after) == len(before) else ".flatten(0, -2)")
        + ", in place of a view",
        quantity="is the axis along which the classes lie",
        measured=float(lines[0]),
    )


def _is_an_axis(shape: tuple[int, ...], size: int, stride: int) -> bool:
    """Whether so many entries at this distance are one axis, or several beside each other."""
    for start in range(len(shape)):
        for end in range(start + 1, len(shape) + 1):
            if math.prod(shape[start:end]) == size and math.prod(shape[end:]) == stride:
                return True
    return False


# ------------------------------------------------------------------ zeros and ones, and others


def _binary(measured_pass: MeasuredPass, term: Term) -> Finding | None:
    """Targets that are no probabilities, and answers that cannot reach them."""
    target, source = term.target, _source_of(term.node)
    assert target is not None
    low, high = float(target.min()), float(target.max())
    if low < -1e-3 or high > 1 + 1e-3:
        return _finding(
            f"The loss expects targets between 0 and 1 and gets {low:.3g} … {high:.3g}: outside, "
            "it falls without end.",
            "# in the data: "
            + (
                "target = (target + 1) / 2"
                if (low, high) == (-1, 1)
                else f"target = (target - {low:.3g}) / {high - low:.3g}"
            ),
            quantity="share of the targets that lie outside",
            measured=float(((target < 0) | (target > 1)).double().mean()),
            predicted=0.0,
        )
    if source is None:
        return None
    if term.kind == "bce":
        raw = any(product in source.name() for product in PRODUCTS)
        if not raw and stem(source) not in ("Relu", "Tanh"):
            return None
        return _finding(
            "The loss expects probabilities and gets "
            + ("logits" if raw else f"the output of a {stem(source).lower()}")
            + f", here {float(term.got.min()):.3g} … {float(term.got.max()):.3g} by luck: outside "
            "of 0 … 1 binary_cross_entropy is not defined.",
            _runs(
                measured_pass,
                "# or F.binary_cross_entropy_with_logits in place of F.binary_cross_entropy\n"
                "model = nn.Sequential(model, nn.Sigmoid())",
            ),
        )
    low, high, name = reach(source)
    if name in ("", "Sigmoid", "Softmax"):
        return None
    ones = float(target.double().mean())
    floor = ones * math.log1p(math.exp(-high)) + (1 - ones) * math.log1p(math.exp(low))
    if floor < COSTS * math.log(2):
        return None
    return _finding(
        f"The loss expects logits of any sign and gets the output of a {name.lower()}, between "
        f"{low:.3g} and {high:.3g}: with {ones:.0%} ones it cannot fall below {floor:.3f}, where "
        "a coin gets ln 2 = 0.693.",
        _without(measured_pass, name),
        _LEAST,
        floor,
        0.0,
    )


def _out_of_reach(measured_pass: MeasuredPass, term: Term) -> Finding | None:
    """Targets of a regression that the activation at the output cannot reach."""
    target, source = term.target, _source_of(term.node)
    if source is None or target is None or not _at_output(measured_pass, term.node):
        return None
    if stem(source) == "Sub":  # by hand
        source = next(iter(inputs_of(source)), None)
    low, high, name = reach(past(source, _MOVES))
    if not name:
        return None
    target = target.double()
    nearest = target.clamp(low, high)
    missed = float(term.of(target - nearest).mean())
    beyond = float(((target < low) | (target > high)).double().mean())
    if not missed > 0:
        return None
    constant = float(term.of(target - target.mean()).mean())
    if missed < BEYOND * constant:
        return None
    least, most = float(target.min()), float(target.max())
    code, layers = _without(measured_pass, name)
    reaches = f"between {low:.3g} and {high:.3g}" if high < math.inf else f"not below {low:.3g}"
    negative = "negative, below 0" if (low, high) == (0, math.inf) else "beyond"
    return _finding(
        f"The output ends in a {name.lower()}, {reaches}; the targets lie between "
        f"{least:.3g} and {most:.3g}, {beyond:.0%} of them {negative}."
        f" The loss per target cannot fall below {missed:.3g}; their mean, a constant, would get "
        f"{constant:.3g}.",
        (
            f"{code}\n# or targets in its range: target = (target - {least:.3g}) / "
            f"{most - least:.3g}" + (" * 2 - 1" if low < 0 else ""),
            layers,
        ),
        "is the least the loss per target can be",
        missed,
        0.0,
    )


def _kl(measured_pass: MeasuredPass, node: Node) -> Finding | None:
    """kl_div of probabilities or logits: t ln t − p t, or with log_target e^t (t − p)."""
    inner = next(iter(inputs_of(node)), None)
    if inner is None or not _at_output(measured_pass, node):
        return None
    kinds = stem(node), stem(inner)
    minus, product = (node, inner) if kinds == ("Sub", "Mul") else (inner, node)
    if kinds not in (("Sub", "Mul"), ("Mul", "Sub")) or minus.next_functions[0][0] is not None:
        return None
    target = kept(product, "self" if kept(product, "other") is None else "other")
    read = past(next(iter(inputs_of(inner)), None), _MOVES)
    if not isinstance(target, Tensor) or target.dim() < 2 or read is None:
        return None
    raw = any(product in read.name() for product in PRODUCTS)
    if not _adds_up_to_one(target, -1) or target.shape != tuple(outputs_of(node)[0].shape):
        return None
    if not raw and reach(read)[2] not in ("Softmax", "Sigmoid", "Exp"):
        return None
    log_softmax = "nn.LogSoftmax(dim=-1)"
    by_hand = "# in the loss: log_softmax(logits, dim=-1) in place of probabilities"
    return _finding(
        "A Kullback–Leibler divergence expects the logarithm of the model's probabilities and gets "
        + ("logits" if raw else f"the output of a {stem(read).lower()}, without the log")
        + ": it is then linear in them, and no longer least where both distributions are equal.",
        _runs(measured_pass, f"model = nn.Sequential(model, {log_softmax})")
        if raw
        else _replaced(measured_pass, "Softmax", log_softmax, by_hand),
    )


def _soft_margin(node: Node) -> Finding | None:
    """soft_margin_loss takes −1 and 1."""
    target = kept(node, "target").detach()
    zeros = float((target == 0).double().mean())
    if zeros == 0:
        return None
    return _finding(
        f"soft_margin_loss expects targets of −1 and 1; {zeros:.0%} of them are 0, cost ln 2 = "
        "0.693 whatever the model says, and give no gradient.",
        "# target = 2 * target - 1",
        _LEAST,
        zeros * math.log(2),
        0.0,
    )


# ------------------------------------------------------------------ shapes


def _shapes(measured_pass: MeasuredPass, node: Node) -> Finding | None:
    """Output and target that were repeated to fit each other."""
    name = stem(node)
    if name not in ("MseLoss", "SmoothL1Loss", "HuberLoss", "Sub", "Add", "Mul", "Div"):
        return None
    made_by = [after for after, _ in node.next_functions]
    if len(made_by) != 2 or sum(after is not None for after in made_by) != 1:
        return None
    direct = next(after for after in made_by if after is not None)
    named = name.endswith("Loss")
    if stem(direct) == "Expand":
        direct, named = direct.next_functions[0][0] or direct, True
    output = next((o for o in measured_pass.outputs if o.grad_fn is direct), None)
    if output is measured_pass.loss_value or (output is None and not named):
        return None
    if output is None and stem(direct) not in _PICKS:
        return None
    ours = tuple(outputs_of(direct)[0].shape) if output is None else tuple(output.shape)
    if name.endswith("Loss"):
        both = tuple(kept(node, "self").shape)
        theirs = _shape_before(kept(node, "target"))
    else:
        both, theirs = tuple(outputs_of(node)[0].shape), ()
    given = measured_pass.batch.target
    if isinstance(given, Tensor) and _broadcast(ours, tuple(given.shape)) == both:
        theirs = tuple(given.shape)
    if not theirs or math.prod(both) == math.prod(ours) == math.prod(theirs):
        return None
    kind = _fit(ours, theirs, both)
    if kind is None or (kind != "pairs" and not name.endswith("Loss") and name != "Sub"):
        return None
    n, m = math.prod(ours), math.prod(theirs)
    cost = _cost(measured_pass)
    if kind == "pairs":
        says = (
            f"every output is compared with every target, {n} × {m} pairs. The best answer is "
            "then the same for all inputs"
        )
    elif kind == "output":
        says = (
            f"each output stands for {m // n} different targets, and the best it can be is their "
            "mean"
        )
    else:
        says = f"all {n} outputs are compared with the same {m} target" + "s" * (m > 1)
    return _finding(
        f"The loss expects output and target of one shape and gets {ours} and {theirs}, which "
        f"broadcast to {both}: {says}{cost}.",
        _runs(measured_pass, _same_shape(ours, theirs, kind), output is not None),
        quantity="share of the compared pairs that belong together",
        measured=1 / m if kind == "pairs" else min(n, m) / max(n, m),
        predicted=1.0,
    )


def _runs(measured_pass: MeasuredPass, code: str, at_output: bool = True) -> str:
    """Code that wraps the model, as comments where its output is not what the loss reads."""
    plain = isinstance(measured_pass.output, Tensor) and measured_pass.loss is not None
    if plain and at_output:
        return code
    lines = [line for line in code.splitlines() if not line.startswith("model = ")]
    return "\n".join(lines) or f"# around what the loss reads: {code.removeprefix('model = ')}"


def _cost(measured_pass: MeasuredPass) -> str:
    known = blind_loss(measured_pass)
    return "" if known is None else f", and a constant gets {known[0]:.3g}, the {known[1]}"


def _fit(ours: tuple[int, ...], theirs: tuple[int, ...], both: tuple[int, ...]) -> str | None:
    """Which side was repeated: "pairs" for both, "output", "target"; None where it may be meant."""
    n, m, all_of = math.prod(ours), math.prod(theirs), math.prod(both)
    if n == 1 or not ours:
        return None
    if all_of > max(n, m):
        return "pairs" if m > 1 else None
    same_batch = len(ours) == len(theirs) and ours[0] == theirs[0]
    if all_of > n:
        return "output" if same_batch else None
    alone = len(ours) == len(theirs) and theirs[0] == 1 < ours[0]
    return "target" if all_of > m and alone else None


def _shape_before(value: Tensor) -> tuple[int, ...]:
    """The shape of a tensor before it was expanded."""
    sizes = [1 if s == 0 else n for n, s in zip(value.shape, value.stride(), strict=True)]
    while sizes and sizes[0] == 1 and value.shape[value.dim() - len(sizes)] > 1:
        sizes.pop(0)
    return tuple(sizes)


def _broadcast(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return tuple(torch.broadcast_shapes(first, second))
    except RuntimeError:
        return None


def _same_shape(ours: tuple[int, ...], theirs: tuple[int, ...], kind: str) -> str:
    if kind == "pairs" and len(ours) == 2 and ours[1] == 1 and theirs == ours[:1]:
        return (
            "# or in the loss: output.squeeze(1), or target.unsqueeze(1)\n"
            "model = nn.Sequential(model, nn.Flatten(0))"
        )
    if kind == "pairs" and len(theirs) == 2 and theirs[1] == 1 and ours == theirs[:1]:
        return (
            "# or in the loss: output.unsqueeze(1), or target.squeeze(1)\n"
            "model = nn.Sequential(model, nn.Unflatten(0, (-1, 1)))"
        )
    if kind == "output":
        return f"# a last layer whose output has the shape of the targets, {theirs}"
    if kind == "target":
        return f"# one target per sample: {(ours[0], *theirs[1:])}"
    return "# in the loss: output.reshape(target.shape), if that puts each beside its own target"


# ------------------------------------------------------------------ the graph


def reach(node: Node | None) -> tuple[float, float, str]:
    """Between which numbers an activation at this node lies: low, high, its name.

    The name is "" where there is none.
    """
    factor = 1.0
    while node is not None:
        name = stem(node)
        if name in _REACH:
            low, high, _ = _REACH[name]
            if name == "Hardtanh":
                low, high = float(kept(node, "min_val")), float(kept(node, "max_val"))
            low, high = sorted((low * factor, high * factor))
            return low, high, name
        if name in ("Neg", "Mul", "Div"):
            constant = -1.0 if name == "Neg" else _constant(node)
            if not constant:
                break
            factor = factor / constant if name == "Div" else factor * constant
        elif name not in _MOVES:
            break
        node = next(iter(inputs_of(node)), None)
    return -math.inf, math.inf, ""


def _constant(node: Node) -> float | None:
    """The number that a product or quotient has as its other side."""
    other = kept(node, "other")
    if len(inputs_of(node)) != 1 or not isinstance(other, Tensor) or other.numel() != 1:
        return None
    return float(other.detach())


def _source_of(node: Node) -> Node | None:
    """What made the input of a loss, past what only moves numbers."""
    return past(node.next_functions[0][0], _MOVES)


def _at_output(measured_pass: MeasuredPass, node: Node) -> bool:
    """Whether a node reads the model's output, or is the last to read a layer in a loss."""
    outputs = {output.grad_fn for output in measured_pass.outputs}
    for this in islice(walk(node), 40):
        if this in outputs:
            return True
        if this in measured_pass.ends:
            return measured_pass.loss is None
    return False


def _log_on_the_way(measured_pass: MeasuredPass, node: Node) -> bool:
    """Whether a logarithm stands between a loss and the layers before it."""
    return any(stem(n) in _LOGS for n in islice(walk(node, ends=measured_pass.ends), 60))


def _replaced(measured_pass: MeasuredPass, name: str, by: str | None, otherwise: str) -> Remedy:
    """Code that puts a module in the place of the last activation of this name.

    `otherwise` is what to do by hand, where there is no such module or nothing to put there.
    """
    kind = _REACH.get(name, (0, 0, None))[2]
    named = measured_pass.model.named_modules()
    names = [path for path, module in named if path and type(module) is kind]
    if not names:
        return otherwise, ("(model)",)
    return (f"{remedies.path(names[-1])} = {by}" if by else otherwise), (names[-1],)


def _without(measured_pass: MeasuredPass, name: str) -> Remedy:
    by_hand = f"# in model.forward: return what goes into the last {name.lower()}(...)"
    return _replaced(measured_pass, name, "nn.Identity()", by_hand)
