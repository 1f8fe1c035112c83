"""Norms over a single entry: what they give does not depend on what they read."""

from torch import nn

from ...measuring.torch_internals import Node
from .. import remedies
from ..cancelled import norms_one_entry
from ..graph import norm_kind, walk
from ..measured_pass import MeasuredPass
from ..names import owners, some_of
from ..report import Finding
from .rule import Case, rule


@rule(
    silences=("through_time", "over_depth", "small_batch_explodes", "shattered", "constant_output")
)
def norm_of_one(case: Case) -> Finding | None:
    """Parameters whose only way to the loss leads through a norm over one entry."""
    measured_pass = case.measured_pass
    root = measured_pass.loss_value.grad_fn
    nodes = set() if root is None else {n for n in walk(root) if norms_one_entry(n)}
    if not nodes or root is None:
        return None
    ends = {getattr(n, "variable", None) for n in walk(root, ends=nodes)}
    seen = {id(leaf) for leaf in ends if leaf is not None}
    named = measured_pass.trainable
    has_grad = [name for name in named if measured_pass.grads[name] is not None]
    lost = [name for name in has_grad if id(named[name]) not in seen | _affine(nodes)]
    if not lost:
        return None
    node = next(iter(nodes))
    where = measured_pass.whereabouts(node, node.next_functions[0][0])
    return Finding(
        kind="zero_gradient",
        layers=owners(lost),
        quantity="share of the parameters that a norm over one entry cuts off",
        measured=len(lost) / len(named),
        predicted=0.0,
        cause=f"The gradient of {some_of(lost)} is 0 but for rounding: {_called(node)} ({where}) "
        "runs over a single entry, and what is divided by its own size, or less its own mean, is "
        "the same number whatever the weights are.",
        remedy=_remedy(measured_pass, nodes),
        notebook=remedies.CHAPTERS[7],
    )


def _affine(nodes: set[Node]) -> set[int]:
    """Ids of the scale and shift of these norms, which are no way through them."""
    leaves = [after for node in nodes for after, _ in node.next_functions[1:]]
    return {id(v) for leaf in leaves if (v := getattr(leaf, "variable", None)) is not None}


def _called(node: Node) -> str:
    kind = norm_kind(node.name())
    if kind is not None:
        return f"the {kind} norm"
    return "a division by the own length (F.normalize and the like)"


def _remedy(measured_pass: MeasuredPass, nodes: set[Node]) -> str:
    own = _affine(nodes)
    named = measured_pass.model.named_modules()
    norms = {n: m for n, m in named if own & {id(p) for p in m.parameters(recurse=False)}}
    names = list(norms)
    if len(names) == 1 and not isinstance(norms[names[0]], nn.GroupNorm):
        parent, _, key = names[0].rpartition(".")
        return f"model.get_submodule({parent!r}).register_module({key!r}, nn.Identity())"
    if names and all(isinstance(m, nn.GroupNorm) and len(m.weight) > 1 for m in norms.values()):
        return (
            "# one group: over all channels of a sample\n"
            f"for name in {remedies.listed(names)}:\n"
            "    model.get_submodule(name).num_groups = 1"
        )
    return "# normalize over the features of a sample, where there are several, or leave it out"
