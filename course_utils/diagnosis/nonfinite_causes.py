"""Why an operation made a NaN or Inf, in figures, and what to write instead."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..measuring import tensors_in
from ..measuring.torch_internals import Node, saved_tensors
from .graph import stem
from .nonfinite import Origin


class Reason(NamedTuple):
    """Why, and what mends it.

    Attributes:
        why: A sentence or two with the figure that decides.
        remedy: Code to write by hand, as comments.
        overflow: Whether a finite number was too large for its format.
    """

    why: str
    remedy: str
    overflow: bool = False


def reason(origin: Origin) -> Reason:
    """Why the first NaN or Inf came about."""
    for explain in _BACKWARD if origin.node is not None else _FORWARD:
        answer = explain(origin)
        if answer is not None:
            return answer
    return Reason(
        "",
        "# run the step under `with torch.autograd.detect_anomaly():`, which shows the line",
    )


# What was not finite before the step


def _data(origin: Origin) -> Reason | None:
    if origin.source.operation != "data" or origin.out is None:
        return None
    name = next(iter(origin.data), "the batch")
    letter = "y" if origin.source.layer == "(target)" else "x"
    first = "find out how it came into the data"
    bad = ~origin.out.detach().isfinite()
    if (column := _one_column(bad)) is not None:
        first += f"; fill {letter}[:, {column}], or leave it out"
    return Reason(
        f"{_capital(name)} holds {_where(origin.out)}. The network is not to blame.",
        f"# {first}. Until then, without those samples:\n"
        f"# good = {letter}.flatten(1).isfinite().all(1); x, y = x[good], y[good]",
    )


def _parameter(origin: Origin) -> Reason | None:
    if not origin.source.operation.startswith("parameter") or origin.out is None:
        return None
    name = origin.source.operation.removeprefix("parameter ")
    return Reason(
        f"{name} holds {_where(origin.out).replace('sample', 'row')}: an earlier step was too "
        "long, its gradient or its data were not finite, or the tensor was never filled.",
        "# start again from the last good checkpoint, with norm clipping;\n"
        "# cu.record shows the step in which it came",
    )


def _constant(origin: Origin) -> Reason | None:
    if not origin.held or origin.out is None:
        return None
    return Reason(
        f"One of its operands, of shape {tuple(origin.out.shape)}, held {_where(origin.out)} "
        "already: it comes neither from the batch nor from a parameter, so from the code (class "
        "weights, a statistic, a constant).",
        "# check that constant: assert constant.isfinite().all()",
    )


# Sums over nothing


def _nothing(origin: Origin) -> Reason | None:
    given = _tensors(origin)
    name = origin.source.operation
    if origin.source.value != "NaN" or not given or given[0].numel():
        return None
    return Reason(
        f"{name} over 0 numbers is 0/0: the selection is empty, nothing in this batch was chosen "
        f"(its operand has shape {tuple(given[0].shape)}).",
        "# where nothing is selected, leave the term out, or divide the sum by a count of at least "
        "1:\n# z.sum() / max(z.numel(), 1)",
    )


def _undefined(origin: Origin) -> Reason | None:
    """NaN that a line of code, or a function of torch, writes for what has no value."""
    numbers = [a for a in (*origin.args, *origin.kwargs.values()) if isinstance(a, float)]
    if not any(math.isnan(a) for a in numbers):
        return None
    return Reason(
        "It is written there: as a mark in the code, or by a function that is not defined for its "
        "argument (a logarithm of a negative determinant).",
        "# look for float('NaN') in the code, and at what the functions around it are given",
    )


def _spread_of_one(origin: Origin) -> Reason | None:
    name, given = origin.source.operation, _tensors(origin)
    if name not in ("std", "var", "std_mean", "var_mean") or not given or origin.out is None:
        return None
    number = given[0].numel() // max(origin.out.numel(), 1)
    correction = origin.kwargs.get("correction", 1)
    correction = 1 if correction is None else correction
    if number > correction:
        return None
    return Reason(
        f"{name} over {number} number divides by {number} − {correction:g}: one number has no "
        "spread.",
        f"# {name[:3]}(correction=0), or leave the normalization out where there is one number;\n"
        "# the last batch of a loader: DataLoader(…, drop_last=True)",
    )


def _ignored_labels(origin: Origin) -> Reason | None:
    if not origin.source.operation.startswith("nll_loss") or len(origin.args) < 5:
        return None
    _, target, weight, _, ignored = origin.args[:5]
    count, left = target.numel(), int((target != ignored).sum())
    if origin.source.value == "NaN" and not left:
        return Reason(
            f"0 of {count} labels count: all are {_number(ignored)}, the ignore_index, and the "
            "mean over none of them is 0/0.",
            "# skip a batch without labels, or divide by a count of at least 1:\n"
            f'# F.cross_entropy(o, y, ignore_index={ignored}, reduction="sum") / '
            f"max(1, int((y != {ignored}).sum()))",
        )
    if weight is not None and not bool(weight[target[target != ignored]].any()):
        return Reason(
            f"The class weight of each of the {left} labels is 0, and the weighted mean over them "
            "is 0/0.",
            "# give every class that occurs a weight above 0",
        )
    return None


def _alignment(origin: Origin) -> Reason | None:
    if not origin.source.operation.endswith("ctc_loss") or len(origin.args) < 4:
        return None
    _, targets, inputs, lengths = origin.args[:4]
    inputs, lengths = torch.as_tensor(inputs).flatten(), torch.as_tensor(lengths).flatten()
    starts = (lengths.cumsum(0) - lengths).tolist()
    found = []
    for i, (steps, length) in enumerate(zip(inputs.tolist(), lengths.tolist(), strict=True)):
        flat = targets.dim() == 1
        labels = targets[starts[i] : starts[i] + length] if flat else targets[i, :length]
        repeats = int((labels[1:] == labels[:-1]).sum())
        if length + repeats > steps:
            found.append((i, length, repeats, steps))
    if not found:
        return None
    i, length, repeats, steps = found[0]
    blanks = f" and {repeats} blanks between equal labels" if length <= steps else ""
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return Reason(
        f"ctc_loss cannot align them: target {length}{blanks} > input {steps} (sample {i}{more}; "
        f"{len(found)} of {len(lengths)}). The probability is 0 and its −log Inf.",
        "# drop samples whose target is longer than their input, or shorten time less (smaller "
        "strides);\n# or let them count for 0: F.ctc_loss(…, zero_infinity=True)",
    )


def _masked_row(origin: Origin) -> Reason | None:
    name, given = origin.source.operation, _tensors(origin)
    softmax = "softmax" in name or name == "logsumexp"
    if not (softmax or "attention" in name) or not given or origin.source.value != "NaN":
        return None
    if "attention" in name:
        masks = [t for t in given[3:] if bool((t == -math.inf).any())]
        scores, axis = (masks[0], -1) if masks else (given[0], -1)
    else:
        axis = origin.args[1] if len(origin.args) > 1 and isinstance(origin.args[1], int) else -1
        scores = given[0]
    if scores.isnan().any() or scores.isposinf().any() or not scores.dim():
        return None
    rows = scores.detach().isneginf().all(axis)
    if not bool(rows.any()):
        return None
    places = rows.nonzero().tolist()
    first = _index(places[0]) if rows.dim() else ""
    also = {place[-1] for place in places}
    turned = (
        rows.dim() > 1 and len(also) == 1 and len(rows.reshape(-1, rows.shape[-1])) == len(places)
    )
    return Reason(
        f"row {first} of the scores {_shape(scores)} is all −Inf, masked throughout"
        + (f" ({len(places)} of {rows.numel()} rows)" if rows.numel() > 1 else "")
        + f": {name} divides 0 by 0 there."
        + (" It is the same row in every sample: is the mask the wrong way round?" * turned),
        "# leave one place of each row unmasked, or mask by the lowest number instead of −Inf:\n"
        "# scores.masked_fill(mask, torch.finfo(scores.dtype).min)"
        + (
            "\n# a causal mask hides what comes later: torch.ones(n, n).triu(1).bool()"
            if turned
            else ""
        ),
    )


# Outside the domain


def _logarithm(origin: Origin) -> Reason | None:
    name = origin.source.operation
    if name not in ("log", "log2", "log10", "log1p", "xlogy", "special_xlogy"):
        return None
    given = _tensors(origin)
    z = given[-1] if "xlogy" in name else given[0] if given else None
    if z is None:
        return None
    edge = -1 if name == "log1p" else 0
    low = _least(z)
    if low < edge:
        said = "a number below −1 is NaN, and it was" if edge else "a negative number is NaN, and "
        said += "" if edge else "it was negative:"
        return Reason(
            f"{name} of {said} {_number(low)} ({_count(z < edge)}).",
            "# make it positive by construction, as F.softplus(z); an eps, or a bound from below, "
            "would only\n# hide that it is negative",
        )
    if not bool((z == edge).any()):
        return None
    why = f"{name} of {_number(edge)} is −Inf ({_count(z == edge)})."
    return Reason(why + _said_of(z), _in_log_domain(z, origin.readers))


def _in_log_domain(z: Tensor, readers: list[str]) -> str:
    """The logarithm of what `z` is, without the number that rounds to 0."""
    ends, ways = _made_by(z)
    if "mul" in readers and ("Div" in ways or not z.requires_grad):
        return (
            "# p * log(p / q) is 0 at p = 0: F.kl_div(log_q, p), with log_q from F.log_softmax;\n"
            "# p * log(p) alone is torch.xlogy(p, p)"
        )
    if "Exp" in ends and ways & {"Sum", "Mean"}:
        return (
            "# stay in the log domain: the logarithm of a sum of exps, also with weights π\n"
            "# torch.logsumexp(exponent, dim), torch.logsumexp(log_pi + exponent, dim)"
        )
    if "Exp" in ends and ways & {"Rsub", "Sub"}:
        return "# log(1 - exp(z)) is torch.log(-torch.expm1(z)); it needs z < 0"
    if "Exp" in ends and "Add" in ways:
        return "# log(exp(a) + exp(b)) is torch.logaddexp(a, b); log(1 + exp(z)) is F.softplus(z)"
    if "Exp" in ends:
        return "# log(c * exp(a)) is a + log(c): leave exp and log out"
    if "Sigmoid" in ends:
        return (
            "# log(sigmoid(z)) is F.logsigmoid(z) and log(1 - sigmoid(z)) is F.logsigmoid(-z);\n"
            "# the whole cross-entropy is F.binary_cross_entropy_with_logits(z, y)"
        )
    if ends & {"Softmax", "SafeSoftmax"}:
        return (
            "# log(softmax(z)) is F.log_softmax(z, dim), a mean of them torch.logsumexp of it;\n"
            "# with labels: F.cross_entropy(z, y)"
        )
    if "Tanh" in ends:
        return "# log(1 - tanh(z)**2) is 2 * (math.log(2) - z - F.softplus(-2 * z))"
    if ends & {"Erf", "Erfc", "SpecialNdtr"}:
        return "# the logarithm of the normal distribution is torch.special.log_ndtr(z)"
    if ends & {"Prod", "Cumprod"}:
        return "# the logarithm of a product is the sum of the logarithms: z.log().sum(dim)"
    return "# torch.log(z + torch.finfo(z.dtype).eps), torch.log1p(z) for counts, or F.softplus(z)"


def _root(origin: Origin) -> Reason | None:
    name, given = origin.source.operation, _tensors(origin)
    if name not in ("sqrt", "rsqrt", "pow") or not given:
        return None
    z = given[0]
    if not isinstance(origin.args[0], Tensor):
        return None
    power = origin.args[1] if name == "pow" else -0.5 if name == "rsqrt" else 0.5
    fixed = float(power) if isinstance(power, int | float) else None
    low = _least(z)
    if low < 0 and (fixed is None or not fixed.is_integer()):
        return Reason(
            f"{name} of a negative number is NaN, and it was negative: {_number(low)} "
            f"({_count(z < 0)}).",
            "# find out why it is negative: a bound from below would hide it, and pass no gradient."
            "\n# A variance as mean(z²) − mean(z)² goes below 0 by rounding: z.var(correction=0) "
            "does not",
        )
    if not bool((z == 0).any()) or (fixed is not None and fixed >= 0):
        return None
    more = f", {power})" if name == "pow" and fixed is not None else ")"
    return Reason(
        f"{name} of 0 divides by 0 ({_count(z == 0)}).{_said_of(z)}",
        f"# torch.{name}(z + torch.finfo(z.dtype).eps{more}",
    )


_POLES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "acos": (lambda z: z.abs() > 1, "outside −1 … 1"),
    "asin": (lambda z: z.abs() > 1, "outside −1 … 1"),
    "atanh": (lambda z: z.abs() >= 1, "not inside −1 … 1"),
    "acosh": (lambda z: z < 1, "below 1"),
    "logit": (lambda z: (z <= 0) | (z >= 1), "not between 0 and 1"),
    "erfinv": (lambda z: z.abs() >= 1, "not inside −1 … 1"),
    "lgamma": (lambda z: (z <= 0) & (z == z.round()), "0 or a negative whole number"),
    "digamma": (lambda z: (z <= 0) & (z == z.round()), "0 or a negative whole number"),
}


def _pole(origin: Origin) -> Reason | None:
    name = origin.source.operation.removeprefix("special_")
    given = _tensors(origin)
    if name not in _POLES or not given:
        return None
    outside, words = _POLES[name]
    bad = outside(given[0])
    if not bool(bad.any()):
        return None
    first = float(given[0].detach()[bad].flatten()[0])
    remedies = {
        "acos": "# a cosine from F.cosine_similarity(a, b); or the angle as\n"
        "# torch.atan2(sine, cosine), which has no such edge",
        "logit": "# keep the logits instead of taking them back from the probability",
        "atanh": "# keep what went into tanh instead of taking it back by atanh",
    }
    if abs(abs(first) - 1) < 16 * torch.finfo(given[0].dtype).eps:  # by rounding
        remedies["acos"] = _ANGLE.format(f"torch.{name}")
    remedies["asin"] = remedies["acos"]
    return Reason(
        f"{name} of a number {words}: {_near(first)} ({_count(bad)}).",
        remedies.get(name, f"# see that the argument of {name} stays within its range"),
    )


def _quotient(origin: Origin) -> Reason | None:
    name = origin.source.operation
    if name not in ("div", "true_divide", "reciprocal", "remainder", "fmod"):
        return None
    below = origin.args[0 if name == "reciprocal" else 1]
    if not isinstance(below, Tensor):
        return _by_a_number(below)
    zeros = below.detach() == 0
    if not bool(zeros.any()):
        return None
    above = origin.args[0] if name == "div" else None
    both = isinstance(above, Tensor) and origin.source.value == "NaN"
    why = f"It divides {'0 ' if both else ''}by 0 ({_count(zeros)}).{_said_of(below)}"
    whole = not below.requires_grad and bool((below.detach() == below.detach().round()).all())
    ends, _ = _made_by(below)
    if whole and bool((below >= 0).all()):
        return Reason(
            f"{why} The divisor is a count or a spread without a gradient.",
            "# a count: z / n.clamp_min(1); a spread: z / (s + torch.finfo(s.dtype).eps)",
        )
    if "LinalgVectorNorm" in ends:
        return Reason(f"{why} The divisor is a norm.", "# F.normalize(z, dim=…, eps=…)")
    if ends & {"Std", "Var", "StdMean", "VarMean"}:
        return Reason(
            f"{why} The divisor is the spread of numbers that are all equal.",
            "# z / (s + torch.finfo(s.dtype).eps)",
        )
    if _least(below) < 0:
        return Reason(
            why,
            "# y takes both signs, so keep it away from 0 on its own side:\n"
            "# eps = torch.finfo(y.dtype).eps; z / torch.where(y.abs() < eps, eps, y)",
        )
    return Reason(
        why,
        "# z / (y + torch.finfo(y.dtype).eps)"
        + ("; or both in float32: z.float() / y.float()" if _half(below) else ""),
    )


def _by_a_number(below: object) -> Reason | None:
    if below != 0:
        return None
    return Reason(
        "It divides by the number 0.",
        "# a count: z / max(n, 1); a temperature or a scale has to be above 0",
    )


def _exponential(origin: Origin) -> Reason | None:
    name, given = origin.source.operation, _tensors(origin)
    bases = {"exp": math.e, "expm1": math.e, "exp2": 2, "cosh": math.e, "sinh": math.e}
    if name.removeprefix("special_") not in bases or not given:
        return None
    z = given[0].detach()
    limit = math.log(torch.finfo(z.dtype).max, bases[name.removeprefix("special_")])
    limit += math.log(2) * (name in ("cosh", "sinh"))
    largest = float(z.abs().max() if name in ("cosh", "sinh") else z.max())
    why = (
        f"its argument reached {_number(largest)}, and {name} overflows above {limit:.1f} in "
        f"{_format(z)}."
    )
    readers = set(origin.readers)
    bound = 20 if limit > 50 else 10
    if "ratio" in readers:
        remedy = (
            "# the quotient of exps has a function that does not overflow: F.softmax(z, dim), "
            "torch.sigmoid(z),\n# torch.tanh(z); its logarithm: F.log_softmax(z, dim)"
        )
    elif name == "cosh" and "log" in readers:
        remedy = "# log(cosh(z)) is z + F.softplus(-2 * z) - math.log(2)"
    elif "log" in readers and {"sum", "mean"} & set(origin.readers[: origin.readers.index("log")]):
        remedy = "# the logarithm of a sum of exps: torch.logsumexp(z, dim)"
    elif readers & {"log", "log1p"}:
        remedy = "# log(1 + exp(z)) is F.softplus(z), log(exp(a) + exp(b)) torch.logaddexp(a, b)"
    elif "reciprocal" in readers:
        remedy = "# 1 / (1 + exp(-z)) is torch.sigmoid(z)"
    else:
        remedy = (
            "# bound the exponent (a log-variance, a log-ratio) before exp: "
            f"torch.exp(z.clamp(-{bound}, {bound})),\n# or take F.softplus(z), which grows like z"
        )
    return Reason(f"{_capital(why)}", remedy, overflow=True)


def _inf_met(origin: Origin) -> Reason | None:
    """0 · Inf and Inf − Inf where the Inf was written on purpose."""
    name = origin.source.operation
    if origin.source.value != "NaN" or name not in ("mul", "add", "sub", "addcmul", "where"):
        return None
    sides = [a for a in origin.args[:2] if isinstance(a, Tensor | int | float)]
    values = [a.detach() if isinstance(a, Tensor) else torch.tensor(float(a)) for a in sides]
    if len(values) < 2 or not any(bool(value.isinf().any()) for value in values):
        return None
    a, b = torch.broadcast_tensors(values[0], values[1])
    if name == "mul":
        met = (a.eq(0) & b.isinf()) | (a.isinf() & b.eq(0))
        return Reason(
            f"mul computes 0 × Inf, which is NaN ({_count(met)}): the Inf of a mask meets a 0.",
            "# a mask: z.masked_fill(mask, -torch.inf) in place of mask * -torch.inf;\n"
            "# p * log(p) with p = 0: log_p.masked_fill(mask, 0) before the product",
        )
    met = a.isinf() & b.isinf()
    return Reason(
        f"{name} computes Inf − Inf, which is NaN ({_count(met)}): two masks of Inf meet.",
        "# take what is masked out of the difference: (a - b).masked_fill(mask, 0) after filling "
        "both with 0",
    )


def _overflow(origin: Origin) -> Reason | None:
    """A finite result that is beyond the largest number of the format, by float64."""
    given, out = _tensors(origin), origin.out
    if origin.function is None or out is None or not given or out.is_complex():
        return None
    top = torch.finfo(out.dtype).max
    if origin.source.operation == "to":
        exact: object = given[0]
    else:
        try:
            exact = origin.function(*_wide(origin.args), **_wide(origin.kwargs))
        except (RuntimeError, TypeError, NotImplementedError):
            return None
    found = [t.detach().double().abs().max() for _, t in tensors_in(exact) if t.numel()]
    reached = float(torch.stack(found).max()) if found else math.nan
    if not 0.999 * top < reached < math.inf:
        return None
    numbers = [abs(float(a)) for a in origin.args if isinstance(a, int | float)]
    largest = max([float(t.detach().double().abs().max()) for t in given if t.numel()] + numbers)
    half = out.dtype == torch.float16
    return Reason(
        f"It overflows: {_number(max(reached, top))} > {_number(top)}, the largest number of "
        f"{_format(out)} (its operands reach {_number(largest)}).",
        "# in float32: z.float() before this operation; or bfloat16, which reaches 3.4e38:\n"
        "# torch.autocast(device_type, dtype=torch.bfloat16)"
        if half
        else "# find the layer or the input whose numbers are that large: standardize the inputs, "
        "start\n# from smaller weights, or normalize before this operation",
        overflow=True,
    )


def _put_there(origin: Origin) -> Reason | None:
    """Inf that was written as a mask and reached the loss."""
    if not origin.written:
        return None
    steps = [name for name in dict.fromkeys(origin.readers) if name != "detach"]
    labels = ""
    if origin.labels is not None:
        scores, target, _, _, ignored = origin.labels[:5]
        chosen = target != ignored
        picked = scores.detach().gather(1, target.where(chosen, 0).unsqueeze(1)).squeeze(1)
        labels = f" {int((picked.isneginf() & chosen).sum())} of {int(chosen.sum())} labels are "
        labels += "classes that the mask excludes."
    return Reason(
        f"−Inf was written there as a mask and reaches the loss, through {' → '.join(steps)}."
        + (labels or " A place that counts is masked, or a row has no place left."),
        "# see that no label and no place that counts is masked; or write a large finite number: "
        "-1e4",
    )


def _determinant(origin: Origin) -> Reason | None:
    if "logdet" not in origin.source.operation:
        return None
    return Reason(
        "The matrix is singular: its determinant is 0, and log 0 is −Inf.",
        "# torch.logdet(a + 1e-6 * torch.eye(n)), for a covariance its Cholesky factor",
    )


def _no_value(origin: Origin) -> Reason | None:
    """Any other operation that is not defined at what it was given."""
    given = [t for t in _tensors(origin) if t.numel()]
    if origin.function is None or not given:
        return None
    zeros = sum(int((t == 0).sum()) for t in given)
    count = sum(t.numel() for t in given)
    largest = max(float(t.detach().abs().max()) for t in given)
    return Reason(
        f"{origin.source.operation} was given finite numbers, the largest {_number(largest)}, "
        f"{zeros} of {count} of them 0, and has no finite value there.",
        "# keep its argument away from that point: z + torch.finfo(z.dtype).eps",
    )


_FORWARD = (
    _data,
    _parameter,
    _undefined,
    _nothing,
    _ignored_labels,
    _alignment,
    _masked_row,
    _inf_met,
    _constant,
    _spread_of_one,
    _logarithm,
    _root,
    _pole,
    _quotient,
    _exponential,
    _put_there,
    _determinant,
    _overflow,
    _no_value,
)


# The backward pass


def _broken_branch(origin: Origin) -> Reason | None:
    """What held NaN or Inf in the forward pass, was put aside, and comes back as 0 × Inf."""
    assert origin.node is not None
    inside = saved_tensors(origin.node)
    name = origin.source.operation
    bad = next((t for t in inside.values() if not bool(t.isfinite().all())), None)
    if bad is None or name not in (*_SLOPES, "mul", "sub", "add", "expm1", "exp2", "sigmoid"):
        return None
    data = next(iter(origin.data.items()), None)
    said = f"{_capital(data[0])} holds {_where(data[1])}. " if data else ""
    shown = _where(bad)
    aside = ("where", "mul", "masked_fill", "index", "nan_to_num", "reciprocal", "div")
    next_one = next((name for name in origin.behind if name in aside), "")
    if next_one in ("reciprocal", "div"):
        return Reason(
            f"{said}{name} holds {shown}; its reciprocal is a harmless 0, but backward that is 0 × "
            "Inf.",
            "# 1 / (1 + exp(-z)) is torch.sigmoid(z); exp(a) / exp(b) is torch.exp(a - b)",
        )
    return Reason(
        f"{said}{name} holds {shown} in the forward pass; what follows puts those places aside "
        "(a where, a mask), but backward 0 × Inf and 0 × NaN are NaN.",
        _twice(name),
    )


def _twice(name: str) -> str:
    """Choose before the operation and after it."""
    call = {"pow": "safe ** p", "div": "1 / safe", "reciprocal": "1 / safe", "mul": "f(safe)"}
    done = call.get(name, f"torch.{name}(safe)")
    return (
        "# choose before the operation as well as after it:\n"
        "# safe = torch.where(good, z, torch.ones_like(z))\n"
        f"# torch.where(good, {done}, other)"
    )


_ROOT = (
    "# torch.sqrt(z + torch.finfo(z.dtype).eps); the root of a sum of squares is\n"
    "# torch.linalg.vector_norm(v, dim=…), whose gradient at 0 is 0"
)
_ANGLE = (
    "# {0}(z.clamp(-1 + eps, 1 - eps)) with eps = torch.finfo(z.dtype).eps; or the angle as\n"
    "# torch.atan2(sine, cosine), which has no such edge"
)
_SLOPES: dict[str, tuple[str, float, str]] = {
    "sqrt": ("the slope of √z is infinite", 0, _ROOT),
    "rsqrt": ("the slope of 1/√z is infinite", 0, "# torch.rsqrt(z + torch.finfo(z.dtype).eps)"),
    "pow": (
        "the slope of z to a power below 1 is infinite",
        0,
        "# (z + torch.finfo(z.dtype).eps) ** p",
    ),
    "acos": ("the slope of acos is infinite", 1, _ANGLE.format("torch.acos")),
    "asin": ("the slope of asin is infinite", 1, _ANGLE.format("torch.asin")),
    "acosh": ("the slope of acosh is infinite", 1, "# torch.acosh(z.clamp_min(1 + eps))"),
    "atanh": ("the slope of atanh is infinite", 1, "# torch.atanh(z.clamp(-1 + eps, 1 - eps))"),
    "log": ("the slope of log z is infinite", 0, "# torch.log(z + torch.finfo(z.dtype).eps)"),
    "log2": ("the slope of log z is infinite", 0, "# torch.log2(z + torch.finfo(z.dtype).eps)"),
    "log10": ("the slope of log z is infinite", 0, "# torch.log10(z + torch.finfo(z.dtype).eps)"),
    "log1p": ("the slope of log(1 + z) is infinite", -1, "# torch.log1p(z + eps)"),
    "xlogy": ("the slope of log z is infinite", 0, "# torch.xlogy(p, z + eps)"),
    "div": ("the slope of 1/z is infinite", 0, "# x / (z + torch.finfo(z.dtype).eps)"),
    "reciprocal": ("the slope of 1/z is infinite", 0, "# 1 / (z + torch.finfo(z.dtype).eps)"),
    "linalg_vector_norm": ("the slope of this norm is infinite", 0, "# a norm of order 1 or more"),
    "norm": ("the slope of this norm is infinite", 0, "# a norm of order 1 or more"),
    "atan2": ("the angle of (0, 0) has no slope", 0, "# torch.atan2(a, b + eps)"),
    "exp": ("exp overflows", math.inf, ""),
}
"""What has an infinite slope, where, and what to write instead."""


def _slope(origin: Origin) -> Reason | None:
    assert origin.node is not None and origin.leaving is not None
    name = origin.source.operation
    if name not in _SLOPES:
        return None
    what, where, remedy = _SLOPES[name]
    bad = ~origin.leaving.isfinite()
    arriving = origin.arriving
    aside = (
        arriving is not None
        and arriving.shape == bad.shape
        and bool(bad.any())
        and bool((arriving[bad] == 0).all())
    )
    inside = saved_tensors(origin.node)
    squared = name == "sqrt" and _squares(origin.node)
    at = next((inside[key] for key in ("other", "self", "result") if key in inside), None)
    point = where
    if at is not None and at.shape == bad.shape:
        point = float(at[bad][0])
    if abs(point) == where:
        why = f"{what} at {_number(point)}, and {_count(bad)} are there."
    else:
        why = f"{name} has no finite slope at {_number(point)} ({_count(bad)})."
    if aside:
        why += " What follows puts them aside (the gradient that arrives is 0), but 0 × Inf is NaN."
        return Reason(_capital(why), _twice(name))
    if squared:
        remedy = (
            "# the root of a sum of squares: torch.linalg.vector_norm(v, dim=…), whose gradient at "
            "0 is 0;\n# or torch.sqrt(z + torch.finfo(z.dtype).eps)"
        )
    return Reason(_capital(why), remedy)


def _squares(node: Node) -> bool:
    """Whether the argument of a root is a sum of squares."""
    after = node.next_functions[0][0]
    while after is not None and stem(after) in ("View", "Unsqueeze", "Squeeze"):
        after = after.next_functions[0][0]
    before = after.next_functions[0][0] if after is not None and after.next_functions else None
    summed = after is not None and stem(after) in ("Sum", "Mean")
    return summed and before is not None and stem(before) in ("Pow", "Mul")


def _spectrum(origin: Origin) -> Reason | None:
    assert origin.node is not None
    name = origin.source.operation
    if not any(word in name for word in ("svd", "eigh", "eig")):
        return None
    inside = saved_tensors(origin.node)
    values = next((t for k, t in inside.items() if k in ("S", "L", "eigenvalues", "s")), None)
    pair = ""
    if values is not None and not values.is_complex() and values.shape[-1] > 1:
        line = values.detach().double().reshape(-1, values.shape[-1])
        gaps = line.sort(-1).values.diff(dim=-1)
        row, place = divmod(int(gaps.argmin()), gaps.shape[-1])
        two = line.sort(-1).values[row, place : place + 2].tolist()
        pair = f" ({_number(two[0])} and {_number(two[1])})"
    return Reason(
        f"{name} divides by the differences of its values, and two of them are equal{pair}.",
        "# use the values alone (torch.linalg.svdvals, torch.linalg.eigvalsh), which have no such "
        "quotient,\n# or start from a matrix without equal ones: a + 1e-3 * torch.randn_like(a)",
    )


def _too_steep(origin: Origin) -> Reason | None:
    """An overflow of the gradient itself."""
    arriving, leaving = origin.arriving, origin.leaving
    if arriving is None or leaving is None or not arriving.numel():
        return None
    largest = float(arriving.detach().double().abs().max())
    top = torch.finfo(leaving.dtype).max
    if largest < top**0.25:
        return None
    return Reason(
        f"The gradient that arrives is as large as {_number(largest)}, and {_format(leaving)} ends "
        f"at {_number(top)}: it overflows.",
        "# a smaller factor in front of the loss (a GradScaler lowers it by itself), or bfloat16"
        if _half(leaving)
        else "# start from smaller weights or normalize: the gradient explodes on its way;\n"
        "# clipping comes too late",
        overflow=True,
    )


def _no_slope(origin: Origin) -> Reason:
    """Any other operation that hands on what is not finite."""
    assert origin.node is not None
    name, inside = origin.source.operation, saved_tensors(origin.node)
    at = next((t for t in inside.values() if bool((t == 0).any())), None)
    zeros = "" if at is None else f"; {_count(at == 0)} that it was computed from are 0"
    return Reason(
        f"{name} gets a finite gradient and hands on {origin.source.value}: it has no finite slope there{zeros}.",
        "# keep the argument away from that point: z + torch.finfo(z.dtype).eps; for a matrix\n"
        "# a + 1e-6 * torch.eye(n)",
    )


_BACKWARD = (_broken_branch, _slope, _spectrum, _too_steep, _no_slope)


# Words and figures


def _tensors(origin: Origin) -> list[Tensor]:
    """Floating tensors that the operation was given."""
    return [tensor for _, tensor in tensors_in(list(origin.args))]


def _wide(value: Any) -> Any:
    """The same arguments in float64."""
    if isinstance(value, Tensor):
        return value.detach().double() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _wide(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_wide(item) for item in value)
    return value


_STOPS = 60
_WALKED = {
    *("Sum", "Mean", "Mul", "Add", "Sub", "Rsub", "Neg", "Div", "Pow", "Sqrt", "Clamp", "ClampMin"),
    *("ClampMax", "Gather", "Index", "IndexSelect", "Select", "Slice", "View", "UnsafeView"),
    *("Reshape", "Squeeze", "Unsqueeze", "Expand", "Transpose", "Permute", "T", "Cat", "Stack"),
    *("ToCopy", "Clone", "Amax", "Max", "Maximum", "Minimum", "Where", "MaskedFill", "Split"),
}


def _made_by(z: Tensor) -> tuple[set[str], set[str]]:
    """Operations that what `z` is goes back to, and the sums and products on the way."""
    ends: set[str] = set()
    ways: set[str] = set()
    queue = [z.grad_fn]
    seen: set[Node] = set()
    while queue and len(seen) < _STOPS:
        node = queue.pop(0)
        if node is None or node in seen:
            continue
        seen.add(node)
        name = stem(node)
        if name not in _WALKED:
            ends.add(name)
            continue
        ways.add(name)
        queue += [after for after, _ in node.next_functions]
    return ends, ways


def _said_of(z: Tensor) -> str:
    """A remark on a number format in which an eps is nothing."""
    if not _half(z) or z.dtype != torch.float16:
        return ""
    return " In float16 what is below 6e-8 is 0, also an eps of 1e-8."


def _half(z: Tensor) -> bool:
    return z.dtype in (torch.float16, torch.bfloat16)


def _format(z: Tensor) -> str:
    return str(z.dtype).removeprefix("torch.")


def _least(z: Tensor) -> float:
    return float(z.detach().double().min()) if z.numel() else math.nan


def _count(chosen: Tensor) -> str:
    """How many of how many."""
    return f"{int(chosen.sum())} of {chosen.numel()} numbers"


def _where(tensor: Tensor) -> str:
    """How many NaN and Inf, and in which column or place.

    >>> _where(torch.tensor([[1, math.nan], [0, math.nan]]))
    '2 NaN among 4 numbers, in column 1'
    """
    plain = tensor.detach()
    bad = ~plain.isfinite()
    lost = int(plain.isnan().sum())
    infinite = int(bad.sum()) - lost
    counts = [f"{lost} NaN"] * bool(lost) + [f"{infinite} Inf"] * bool(infinite)
    text = f"{' and '.join(counts)} among {plain.numel()} numbers"
    if not plain.dim():
        return text.replace(" among 1 numbers", "")
    places = bad.nonzero().tolist()
    if (column := _one_column(bad)) is not None:
        return f"{text}, in column {column}"
    if plain.dim() > 1 and len(plain) > 1 and len({place[0] for place in places}) == 1:
        return f"{text}, all in sample {places[0][0]}"
    return f"{text}, first at {_index(places[0])}"


def _one_column(bad: Tensor) -> int | None:
    """The column of a table in which all of them stand."""
    if bad.dim() != 2 or bad.shape[1] < 2:
        return None
    columns = bad.any(0).nonzero().flatten().tolist()
    return columns[0] if len(columns) == 1 else None


def _shape(tensor: Tensor) -> str:
    return f"({'×'.join(map(str, tensor.shape))})"


def _index(place: list[int]) -> str:
    return f"[{', '.join(map(str, place))}]" if len(place) != 1 else f"{place[0]}"


def _number(value: float) -> str:
    """A number with three digits, whole ones in full.

    >>> [_number(value) for value in (-0.3, 65504.0, 123456.0, math.inf)]
    ['−0.3', '65504', '1.23e5', 'Inf']
    """
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "−Inf"
    if value == round(value) and abs(value) < 1e5:
        text = str(int(value))
    else:
        text = f"{value:.3g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e−")
    return text.replace("-", "−")


def _near(value: float) -> str:
    """A number that three digits would not tell from ±1.

    >>> _near(1.00000012), _near(2.5)
    ('1 + 1.2e-7', '2.5')
    """
    excess = abs(value) - 1
    if not 0 < abs(excess) < 1e-3:
        return _number(value)
    more = f"{abs(excess):.2g}".replace("e-0", "e-")
    return f"{'−' if value < 0 else ''}1 {'+' if (excess > 0) == (value > 0) else '−'} {more}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
