"""A loss that a norm makes constant: what arrives below it is rounding."""

import warnings

import torch
from torch import Tensor

from ...measuring.torch_internals import Node, gradient_edge, parameter_of
from .. import remedies
from ..graph import norm_kind, pull_back, stem, walk
from ..layer_calls import rms
from ..measured_pass import MeasuredPass
from ..report import Finding
from .rule import Case, rule

_SUMS = (
    *(
        "Sum",
        "Mean",
        "Mul",
        "Div",
        "Neg",
        "Add",
        "Sub",
        "Rsub",
        "View",
        "UnsafeView",
        "Reshape",
        "Select",
    ),
    *("Slice", "Squeeze", "Unsqueeze", "Transpose", "Permute", "T", "Expand", "Alias", "ToCopy"),
    *("Mm", "Mv", "Addmm", "Bmm"),
)
"""Operations with which a sum of outputs is written, weighted or not; the figures decide."""

_NOISE = 256
"""Times the rounding of the number format: what a cancelled gradient is not larger than."""


@rule(silences=("through_time", "over_depth", "shattered", "symmetric", "saturated"))
def cancelled_by_norm(case: Case) -> Finding | None:
    """A gradient that cancels in a norm, because it is the same for all that is normalized.

    A layer norm makes each row sum to 0 whatever comes in, a batch norm each channel: a loss that
    is a sum or a mean of their outputs is constant, and its gradient below them rounding.
    """
    measured_pass = case.measured_pass
    value = measured_pass.loss_value
    if value.grad_fn is None or not bool(value.isfinite()) or not case.well_so_far:
        return None
    norms = [node for node in _behind_sums(value.grad_fn) if norm_kind(node.name())]
    shares = {node: _what_is_left(value, node) for node in norms}
    left = {node: share for node, share in shares.items() if share is not None}
    if not left or len(left) < len(norms):
        return None
    names = _only_behind(measured_pass, value.grad_fn, set(left))
    if not names:
        return None
    kind, share = norm_kind(norms[0].name()), max(left.values())
    what = ", ".join(names[:4]) + (f", … ({len(names)} parameters)" if len(names) > 4 else "")
    return Finding(
        kind="zero_gradient",
        layers=tuple(dict.fromkeys(name.rpartition(".")[0] or "(model)" for name in names)),
        quantity="what the norm passes on, as a share of what it would of a random gradient",
        measured=share,
        predicted=0.0,
        cause=f"The loss is a sum or a mean of the outputs of a {kind} norm, which add up to the "
        f"same number whatever comes in: the gradient of {what} is 0, and the {share:.1g} of it "
        "that is left is rounding.",
        remedy="# compare the outputs with something: F.mse_loss(o, target), or a linear layer "
        "behind the norm",
        notebook=remedies.CHAPTERS[7],
    )


def _behind_sums(root: Node) -> list[Node]:
    """First operations below the loss that are no sums, products or views."""
    ends: list[Node] = []
    queue, seen = [root], {root}
    while queue:
        node = queue.pop()
        if stem(node) not in _SUMS:
            ends.append(node)
            continue
        for after, _ in node.next_functions:
            if after is not None and after not in seen:
                seen.add(after)
                queue.append(after)
    return ends


def _what_is_left(value: Tensor, norm: Node) -> float | None:
    """The share of the gradient that a norm passes on, where that is rounding."""
    with warnings.catch_warnings():  # the recorder has closed its step before
        warnings.filterwarnings("ignore", message="A backward pass reached outputs of a step")
        (arriving,) = torch.autograd.grad(
            value, gradient_edge(norm), retain_graph=True, allow_unused=True
        )
    if arriving is None or not rms(arriving.detach()) > 0:
        return None
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(arriving.shape, generator=generator).to(arriving)
    try:
        passed, usual = pull_back(norm, arriving), pull_back(norm, drawn * rms(arriving.detach()))
    except (RuntimeError, TypeError):
        return None
    if passed is None or usual is None or not rms(usual.detach()) > 0:
        return None
    share = rms(passed.detach()) / rms(usual.detach())
    return share if share < _NOISE * torch.finfo(arriving.dtype).eps < 0.01 else None


def _only_behind(measured_pass: MeasuredPass, root: Node, norms: set[Node]) -> list[str]:
    """Parameters that the loss reaches through these norms alone."""
    ids = {id(p): n for n, p in measured_pass.model.named_parameters() if p.requires_grad}
    inner = [after for norm in norms for after, _ in norm.next_functions[:1] if after is not None]
    below = {id(parameter_of(node)) for node in walk(*inner)} & set(ids)
    around: set[int] = set()
    queue, seen = [root], {root}
    while queue:
        node = queue.pop()
        around.add(id(parameter_of(node)))
        steps = node.next_functions[1:] if node in norms else node.next_functions
        for after, _ in steps:
            if after is not None and after not in seen:
                seen.add(after)
                queue.append(after)
    return [name for number, name in ids.items() if number in below - around]
