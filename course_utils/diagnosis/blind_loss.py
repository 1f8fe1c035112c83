"""What someone who does not look at the input gets with a loss on a batch."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ..measuring.torch_internals import kept
from .loss_terms import Term, loss_terms, signed
from .measured_pass import MeasuredPass

_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_SEARCH = 40  # steps of the search for the best constant
_MOST = 10**6  # targets beyond which it is not made


def blind_loss(measured_pass: MeasuredPass) -> tuple[float, str] | None:
    """The loss of a model that ignores its input, on this batch, and what it is in words.

    For K classes it takes all to be alike; for zeros and ones it knows the share of ones; for a
    regression it answers with the best constant, one per output. Weights, sums in place of means
    and labels that do not count are reckoned in.

    Args:
        measured_pass: One pass with its loss.

    Returns:
        The loss and words such as "ln 10, ten classes alike"; None where the loss is not one it
        knows (a cross-entropy, the negative log-likelihood of log-probabilities, binary
        cross-entropy, squared, absolute, Huber and smooth L1 errors, and weighted sums of them).
    """
    answers = blind_terms(measured_pass)
    if answers is None:
        return None
    known = [answer for _, answer in answers]
    value = sum(value for value, _, _ in known)
    times: dict[str, float] = {}
    for _, weight, words in known:
        times[words] = times.get(words, 0.0) + weight
    if not 0 < value < math.inf or len(times) > 3:
        return None
    return value, " and ".join(_weighted(weight, words) for words, weight in times.items())


def blind_terms(measured_pass: MeasuredPass) -> list[tuple[Term, tuple[float, float, str]]] | None:
    """For each known loss within the loss its share of `blind_loss`, its weight and the words."""
    known = []
    for term in loss_terms(measured_pass) or ():
        answer = _blind(term)
        if answer is None:
            return None
        known.append((term, answer))
    return known or None


def _weighted(weight: float, words: str) -> str:
    return words if abs(weight - 1) < 1e-3 else f"{weight:.4g} times {words}"


Answer = tuple[float, float, str] | None
"""A loss, the sum of the weights in it, and what it is of."""


def _blind(term: Term) -> Answer:
    if term.kind in ("nll", "log_prob"):
        return _of_classes(term)
    if term.kind in ("bce", "bce_with_logits"):
        return _of_ones(term)
    return _of_numbers(term)


def _of_classes(term: Term) -> Answer:
    """For every label that counts ln K."""
    assert term.weight is not None
    classes, each = term.got.shape[term.dim], term.weight
    if term.kind == "log_prob":
        if bool((each > 1e-6 * each.abs().max()).any()):
            return None  # it is not only pushed up: a policy gradient, an entropy
        weight = -float(each.double().sum())
    else:
        if not term.of_log_probabilities():
            return None
        weight = float((each * _counted(term)).double().sum())
    if classes < 2 or not 0 < weight < math.inf:
        return None
    count = _NUMBERS[classes] if classes < len(_NUMBERS) else f"{classes}"
    return weight * math.log(classes), weight, f"ln {classes}, {count} classes alike"


def _counted(term: Term) -> Tensor:
    """What a negative log-likelihood returns where each label costs 1."""
    assert term.target is not None
    weights, ignored = kept(term.node, "weight"), signed(kept(term.node, "ignore_index"))
    counts = term.target != ignored
    labels = term.target.masked_fill(~counts, 0)
    each = counts.to(term.got.dtype) if weights is None else weights[labels] * counts
    if term.reduction == "none":
        return each
    return each.sum() if term.reduction == "sum" else torch.ones_like(each.sum())


def _of_ones(term: Term) -> Answer:
    """Entropy of the share of ones."""
    assert term.target is not None
    each, weight = term.per_entry().double(), kept(term.node, "weight")
    each = each if weight is None else each * weight
    target, positive = term.target.double(), kept(term.node, "pos_weight")
    if not bool(((target >= 0) & (target <= 1)).all()):
        return None
    ones = float((each * target * (1 if positive is None else positive)).sum())
    zeros = float((each * (1 - target)).sum())
    both = ones + zeros
    if not 0 < both < math.inf:
        return None
    share = ones / both
    if share in (0, 1):
        return both * math.log(2), both, "ln 2, a coin"
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    words = "ln 2, zeros and ones alike"
    if abs(share - 0.5) > 1e-6:
        weighted = "" if weight is None and positive is None else "weighted "
        words = f"entropy of the {weighted}share of ones, {share:.3g}"
    return both * entropy, both, words


def _of_numbers(term: Term) -> Answer:
    """The best constant for each output."""
    assert term.target is not None
    target, each = term.target.double(), term.per_entry().double()
    if not bool((each >= 0).all()) or not bool(target.isfinite().all()):
        return None
    apart = target.dim() > 1 and len(target) > 1 and not _repeated((term.target, term.got))
    rows = target.shape[0] if apart else target.numel()
    target, each = target.reshape(rows, -1), each.reshape(rows, -1)
    weight = float(each.sum())
    several = " per output" if target.shape[1] > 1 else ""
    if term.kind == "mse":
        mean = (each * target).sum(0) / each.sum(0).clamp_min(1e-300)
        words = f"variance of the targets{several}"
        return float((each * (target - mean) ** 2).sum()), weight, words
    if target.numel() > _MOST:
        return None
    low, high = target.amin(0), target.amax(0)
    loss = lambda c: (each * term.of(target - c)).sum(0)  # noqa: E731
    if term.kind == "l1" and bool((each == each.flatten()[0]).all()):
        low = high = target.median(0).values
    for _ in range(_SEARCH if bool((low < high).any()) else 0):
        third = (high - low) / 3
        left = loss(low + third) < loss(high - third)
        low, high = torch.where(left, low, low + third), torch.where(left, high - third, high)
    name = {"l1": "absolute error", "huber": "Huber loss", "smooth_l1": "smooth L1 loss"}[term.kind]
    words = f"{name} of the best constant{several}"
    if term.kind == "l1":
        words = f"mean distance of the targets from their median{several}"
    return float(loss((low + high) / 2).sum()), weight, words


def _repeated(values: Iterable[Tensor]) -> bool:
    """Whether one of them was repeated to fit the other."""
    return any(0 in value.stride() for value in values)
