"""Read the graph of a loss: of which known losses it is a weighted sum."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..measuring import tensors_in
from ..measuring.torch_internals import Node, kept, moment_of, outputs_of
from .graph import inputs_of, stem, walk
from .measured_pass import MeasuredPass

_LINEAR = (
    *("Neg", "Mul", "Div", "Mean", "Sum", "Add", "Sub", "View", "UnsafeView", "Reshape", "Alias"),
    *("Unsqueeze", "Squeeze", "Select", "Slice", "Index", "Gather", "IndexSelect", "MaskedSelect"),
    *("MaskedFill", "Transpose", "Permute", "T", "Clone", "ToCopy", "Expand", "Stack", "Cat"),
    *("Unbind", "Split", "Chunk", "Where", "Dot", "ReshapeAlias"),
)
_LOSSES = {
    "NllLoss": "nll",
    "NllLoss2D": "nll",
    "BinaryCrossEntropy": "bce",
    "BinaryCrossEntropyWithLogits": "bce_with_logits",
    "MseLoss": "mse",
    "SmoothL1Loss": "smooth_l1",
    "HuberLoss": "huber",
}
_MOST = 200  # nodes between a loss and the losses it is made of
_REDUCTIONS = ("none", "mean", "sum")
Edge = tuple[Node, int]


@dataclass(eq=False)
class Term:
    """One known loss within a loss.

    Attributes:
        kind: "log_prob", "nll", "bce", "bce_with_logits", "mse", "l1", "smooth_l1" or "huber".
        node: The node of the graph; for "log_prob" the one that makes the log-probabilities.
        got: What stands for the answer of the model, as the loss read it; log-probabilities for
            "log_prob", NaN-free differences from the target for "mse" and "l1" by hand.
        target: What it was compared with; None for "log_prob".
        weight: ∂L/∂(what the node returns).
        dim: Dimension of the classes.
    """

    kind: str
    node: Node
    got: Tensor
    target: Tensor | None = None
    weight: Tensor | None = None
    dim: int = 1

    @property
    def source(self) -> Node | None:
        """The node that made what the loss read."""
        return self.node.next_functions[0][0]

    @property
    def reduction(self) -> str:
        """How it makes one number of many."""
        code = kept(self.node, "reduction")
        return _REDUCTIONS[code] if isinstance(code, int) and 0 <= code < 3 else "none"

    def of_log_probabilities(self) -> bool:
        """Whether what a likelihood read adds up to a probability of 1 over the classes."""
        source = self.source
        if source is not None and stem(source) == "LogSoftmax":
            if _place(kept(source, "dim"), self.got) == self.dim:
                return True  # so that large outputs are not summed again
        return is_log_probability(self.got, self.dim)

    def per_entry(self) -> Tensor:
        """∂L/∂(loss of an entry), without the reduction, in the shape of `got`."""
        assert self.weight is not None
        share = self.got.numel() if self.reduction == "mean" else 1
        return (self.weight.detach() / share).expand(self.got.shape)

    def value(self) -> float:
        """Its share of the loss: ∂L/∂term × term."""
        assert self.weight is not None
        found = self.returned()
        return float(torch.where(self.weight == 0, 0, self.weight * found).double().sum())

    def returned(self) -> Tensor:
        """What the node returned."""
        got, target, node = self.got, self.target, self.node
        if self.kind == "log_prob":
            return got
        assert target is not None
        if self.kind == "nll":
            options = {
                "weight": kept(node, "weight"),
                "ignore_index": signed(kept(node, "ignore_index")),
            }
            return F.nll_loss(got, target, reduction=self.reduction, **options)
        if self.kind == "bce":
            weight = kept(node, "weight")
            return F.binary_cross_entropy(got, target, weight=weight, reduction=self.reduction)
        if self.kind == "bce_with_logits":
            return F.binary_cross_entropy_with_logits(
                got,
                target,
                weight=kept(node, "weight"),
                pos_weight=kept(node, "pos_weight"),
                reduction=self.reduction,
            )
        if self.kind == "l1":
            return (got - target).abs()
        return self.of(got - target, self.reduction)

    def of(self, difference: Tensor, reduction: str = "none") -> Tensor:
        """A loss of differences, at these."""
        zero = torch.zeros_like(difference)
        if self.kind == "mse":
            return F.mse_loss(difference, zero, reduction=reduction)
        if self.kind == "smooth_l1":
            beta = float(kept(self.node, "beta"))
            return F.smooth_l1_loss(difference, zero, beta=beta, reduction=reduction)
        if self.kind == "huber":
            delta = float(kept(self.node, "delta"))
            return F.huber_loss(difference, zero, delta=delta, reduction=reduction)
        return F.l1_loss(difference, zero, reduction=reduction)


def is_log_probability(value: Tensor, dim: int) -> bool:
    """Whether the exponentials along a dimension add up to 1."""
    rounding = max(1e-3, 16 * torch.finfo(value.dtype).eps)
    return bool((value.logsumexp(dim).abs() < rounding).all())


def signed(number: int) -> int:
    """A number that the graph keeps without its sign."""
    return number - 2**64 if number >= 2**63 else number


def loss_terms(measured_pass: MeasuredPass) -> list[Term] | None:
    """The known losses of which the loss is a sum with weights; None where it is not one.

    Their values must add up to the loss, so that a constant, a factor that depends on the model
    (focal loss) and everything else that is not linear is not taken for one.
    """
    root, loss = measured_pass.loss_value.grad_fn, measured_pass.loss_value.detach()
    if root is None or not bool(loss.isfinite()) or float(loss) == 0:
        return None
    try:
        terms = _apart(list(_terms(measured_pass, root)))
        weights = _pulled_back(loss, root, {term.node for term in terms})
        for term in terms:
            term.weight = weights.get(term.node)
        terms = [term for term in terms if term.weight is not None]
        value = sum(term.value() for term in terms)
    except (_NotKnown, RuntimeError, TypeError, ValueError):
        return None
    rounding = max(1e-4, 64 * torch.finfo(loss.dtype).eps)
    size = max(abs(float(loss)), sum(abs(term.value()) for term in terms))
    return terms if terms and abs(value - float(loss)) <= rounding * size else None


class _NotKnown(Exception):
    """The loss is not a sum of known losses."""


def _terms(measured_pass: MeasuredPass, root: Node) -> Iterator[Term]:
    """Known losses below a node, on ways along which everything is linear."""
    queue, seen = [root], {root}
    while queue:
        node = queue.pop(0)
        term = _known(measured_pass, node)
        if term is not None:
            yield term
            continue
        inner = inputs_of(node)
        name = stem(node)
        product = name in ("Mul", "Div", "Dot") and (len(inner) > 1 or not inner)
        below = name == "Div" and any(after is not None for after, _ in node.next_functions[1:])
        if name not in _LINEAR or product or below or len(seen) > _MOST:
            raise _NotKnown
        fresh = [after for after in dict.fromkeys(inner) if after not in seen]
        seen.update(fresh)
        queue += fresh


def _pulled_back(loss: Tensor, root: Node, ends: set[Node]) -> dict[Node, Tensor | None]:
    """∂L/∂(first output) of some nodes, by the nodes' own backward functions.

    Not by the engine, which would run the hooks of a recorder once more.
    """
    waiting: dict[Node, list[Tensor | None]] = {root: [torch.ones_like(loss)]}
    done: dict[Node, Tensor | None] = {}
    with torch.no_grad():
        while waiting:
            node = max(waiting, key=moment_of)
            grads = waiting.pop(node)
            if node in ends:
                done[node] = grads[0]
                continue
            answer = node(*grads)  # type: ignore[operator]  # a node can be called
            answers = answer if isinstance(answer, tuple) else (answer,)
            for (after, place), grad in zip(node.next_functions, answers, strict=False):
                if after is None or grad is None:
                    continue
                row = waiting.setdefault(after, [None] * len(outputs_of(after)))
                before = row[place]
                row[place] = grad if before is None else before + grad
    return done


def known_loss(measured_pass: MeasuredPass, node: Node) -> Term | None:
    """The loss that a node is, with no word on what is made of it; None if it is not known."""
    try:
        return _known(measured_pass, node)
    except (_NotKnown, RuntimeError, TypeError):
        return None


def _apart(terms: list[Term]) -> list[Term]:
    """Without those likelihoods whose log-probabilities are also read otherwise (smoothing)."""
    ends = {term.node for term in terms if term.kind == "log_prob"}
    return [
        term
        for term in terms
        if term.kind != "nll" or not ends or not any(n in ends for n in walk(term.node))
    ]


def _known(measured_pass: MeasuredPass, node: Node) -> Term | None:
    """The loss that a node is, if it is one."""
    name = stem(node)
    if name in _LOSSES:
        if any(after is not None for after, _ in node.next_functions[1:]):
            raise _NotKnown  # the target is trained too
        got, target = kept(node, "self"), kept(node, "target")
        dim = 1 if got.dim() > 1 else 0
        return Term(_LOSSES[name], node, got.detach(), target.detach(), dim=dim)
    if name == "LogSoftmax":
        got = kept(node, "result").detach()
        return Term("log_prob", node, got, dim=_place(kept(node, "dim"), got))
    if name == "Log":
        share = kept(node, "self").detach()
        for dim in dict.fromkeys((share.dim() - 1, min(1, share.dim() - 1))):
            if share.dim() and share.shape[dim] > 1 and _is_one(share.sum(dim)):
                return Term("log_prob", node, share.log(), dim=dim)
        return None
    if name == "Sub" and (normalized := _minus_its_logsumexp(node)):
        return normalized
    squared = (name == "Pow" and kept(node, "exponent") == 2) or _times_itself(node)
    if squared or name == "Abs":
        return _by_hand(measured_pass, node, "mse" if squared else "l1")
    return None


def _sides(node: Node) -> tuple[Node | None, Node | None]:
    """What made the two sides of a sum, a difference or a product; None for data and numbers."""
    made_by = [after for after, _ in node.next_functions] + [None, None]
    return made_by[0], made_by[1]


def _minus_its_logsumexp(node: Node) -> Term | None:
    """Logits minus their own logsumexp, as distributions have them."""
    first, second = _sides(node)
    if first is None or second is None or stem(second) != "Logsumexp":
        return None
    logits, total = kept(second, "self").detach(), kept(second, "result").detach()
    if second.next_functions[0][0] is not first or total.dim() != logits.dim():
        return None
    dim = next((i for i, n in enumerate(total.shape) if n < logits.shape[i]), None)
    return None if dim is None else Term("log_prob", node, logits - total, dim=dim)


def _place(dim: int, value: Tensor) -> int:
    """A dimension, counted from the front."""
    return signed(dim) % max(value.dim(), 1)


def _is_one(value: Tensor) -> bool:
    """Whether every entry is 1, to rounding."""
    rounding = max(1e-3, 16 * torch.finfo(value.dtype).eps)
    return bool(((value - 1).abs() < rounding).all())


def _times_itself(node: Node) -> bool:
    """Whether a product has the same tensor on both sides."""
    if stem(node) != "Mul" or None in _sides(node):
        return False
    sides = kept(node, "self"), kept(node, "other")
    return all(isinstance(side, Tensor) for side in sides) and torch.equal(*sides)


def _by_hand(measured_pass: MeasuredPass, node: Node, kind: str) -> Term | None:
    """|o − t| or (o − t)², whose target is in the batch or comes out of output and difference."""
    minus = node.next_functions[0][0]
    if minus is None or stem(minus) != "Sub":
        return None
    difference = kept(node, "self").detach()
    first, second = _sides(minus)
    made_by, sign = (first, 1) if first is not None else (second, -1)
    if first is not None and second is not None:
        return None
    given = [t for _, t in tensors_in(measured_pass.batch.target) if t.is_floating_point()]
    if made_by is not None and stem(made_by) == "Expand":
        made_by = made_by.next_functions[0][0]
    for output in measured_pass.outputs:
        if output.numel() == difference.numel():
            got = output.detach().reshape(difference.shape)
        elif output.grad_fn is made_by and output.numel() < difference.numel():
            got = output.detach().expand(difference.shape)
        else:
            continue
        target = got - sign * difference
        same = [t for t in given if t.numel() == target.numel()]
        if output.grad_fn is made_by or any(_alike(target, t, got) for t in same):
            return Term(kind, node, got, target)
    return None


def _alike(value: Tensor, other: Tensor, beside: Tensor) -> bool:
    """Whether two tensors hold the same numbers, to the rounding of a difference."""
    other = other.detach().reshape(value.shape).to(value)
    size = float(beside.abs().max() + other.abs().max())
    return math.isfinite(size) and bool(((value - other).abs() <= 1e-3 * size).all())
