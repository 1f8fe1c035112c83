"""Sums over nothing, masks that leave nothing, and labels of which none counts."""

import math

import torch
from torch import Tensor

from ..nonfinite import Origin
from .figures import count, index_of, number, shape_of
from .given import operands
from .reason import Reason


def nothing(origin: Origin) -> Reason | None:
    """A mean over no number."""
    given = operands(origin)
    name = origin.source.operation
    if origin.source.value != "NaN" or not given or given[0].numel():
        return None
    return Reason(
        f"{name} over 0 numbers is 0/0: the selection is empty, nothing in this batch was chosen "
        f"(its operand has shape {tuple(given[0].shape)}).",
        "# where nothing is selected, leave the term out, or divide the sum by a count of at least "
        "1:\n# z.sum() / max(z.numel(), 1)",
    )


def spread_of_one(origin: Origin) -> Reason | None:
    """The standard deviation of one number."""
    name, given = origin.source.operation, operands(origin)
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


def ignored_labels(origin: Origin) -> Reason | None:
    """A mean over labels that are all ignored, or all weigh 0."""
    if not origin.source.operation.startswith("nll_loss") or len(origin.args) < 5:
        return None
    _, target, weight, _, ignored = origin.args[:5]
    count, left = target.numel(), int((target != ignored).sum())
    if origin.source.value == "NaN" and not left:
        return Reason(
            f"0 of {count} labels count: all are {number(ignored)}, the ignore_index, and the "
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


def alignment(origin: Origin) -> Reason | None:
    """A target that is longer than its input, for the CTC loss."""
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


def masked_row(origin: Origin) -> Reason | None:
    """A softmax over a row of −Inf."""
    name, given = origin.source.operation, operands(origin)
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
    first = index_of(places[0]) if rows.dim() else ""
    also = {place[-1] for place in places}
    turned = (
        rows.dim() > 1 and len(also) == 1 and len(rows.reshape(-1, rows.shape[-1])) == len(places)
    )
    return Reason(
        f"row {first} of the scores {shape_of(scores)} is all −Inf, masked throughout"
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


def inf_met(origin: Origin) -> Reason | None:
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
            f"mul computes 0 × Inf, which is NaN ({count(met)}): the Inf of a mask meets a 0.",
            "# a mask: z.masked_fill(mask, -torch.inf) in place of mask * -torch.inf;\n"
            "# p * log(p) with p = 0: log_p.masked_fill(mask, 0) before the product",
        )
    met = a.isinf() & b.isinf()
    return Reason(
        f"{name} computes Inf − Inf, which is NaN ({count(met)}): two masks of Inf meet.",
        "# take what is masked out of the difference: (a - b).masked_fill(mask, 0) after filling "
        "both with 0",
    )


def put_there(origin: Origin) -> Reason | None:
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
