"""Weights whose gradient is what rounding leaves of terms that cancel."""

from torch import nn

from ...measuring.torch_internals import Node
from .. import remedies
from ..cancelled import cancelled, is_invariant
from ..graph import stem, users_of, walk
from ..layer_calls import rms
from ..measured_pass import MeasuredPass
from ..names import owners, some_of
from ..report import Finding
from ..taken import nodes_above
from .rule import Case, rule

_SMALL = 1e-5
"""Share of the largest gradient below which one may be rounding."""


@rule(silences=("constant_output", "over_depth", "small_batch_explodes", "shattered"))
def cancels(case: Case) -> Finding | None:
    """Terms that cancel whatever the weights are, such as the sum of a softmax."""
    measured_pass = case.measured_pass
    value = measured_pass.loss_value
    kinds = {finding.kind for finding in case.findings}
    if value.grad_fn is None or kinds & {"zero_gradient", "dead", "saturated", "symmetric"}:
        return None
    parameters = measured_pass.trainable
    nodes = _in_the_loss(measured_pass) or _inside(measured_pass, parameters)
    if not nodes:
        return None
    ends = {getattr(n, "variable", None) for n in walk(value.grad_fn, ends=nodes)}
    seen = {id(leaf) for leaf in ends if leaf is not None}
    lost = [
        name
        for name, p in parameters.items()
        if measured_pass.grads[name] is not None and id(p) not in seen
    ]
    if not lost or not any(parameters[name].dim() > 1 for name in lost):
        return None
    return _finding(measured_pass, lost, nodes, len(parameters))


def _in_the_loss(measured_pass: MeasuredPass) -> set[Node]:
    """Nodes between the outputs and the loss at which everything cancels."""
    value, outputs = measured_pass.loss_value, measured_pass.outputs
    roots = {t.grad_fn for t in outputs if t is not value and t.grad_fn is not None}
    assert value.grad_fn is not None
    nodes = set(walk(value.grad_fn, ends=roots))
    used = [t for t in outputs if t.grad_fn in nodes and t.grad_fn in roots]
    suspects = [n for n in nodes - roots if is_invariant(n) or stem(n) in ("Div", "Sub")]
    if not used or not suspects:
        return set()
    seed = 1 / measured_pass.scale if measured_pass.own_gradient else 1.0
    found = cancelled(value, seed, used, nodes, within=True)
    return found if not set(walk(value.grad_fn, ends=found)) & (roots - found) else set()


def _inside(measured_pass: MeasuredPass, parameters: dict[str, nn.Parameter]) -> set[Node]:
    """Nodes of the model behind which nothing arrives, while it does elsewhere."""
    if not measured_pass.own_gradient:
        return set()
    sizes = {n: rms(g.detach()) for n, g in measured_pass.grads.items() if g is not None}
    largest = max(sizes.values(), default=0.0)
    small = [n for n, size in sizes.items() if size < _SMALL * largest and parameters[n].dim() > 1]
    if not small:
        return set()
    value = measured_pass.loss_value
    assert value.grad_fn is not None
    wanted = [parameters[n] for n in small]
    nodes = nodes_above(value.grad_fn, {id(p) for p in wanted})
    if all(len(users) < 2 for node, users in users_of(nodes).items() if node in nodes):
        return set()  # a chain, in which nothing can cancel
    # a softmax over things that are alike on this batch is no mistake
    return cancelled(value, 1 / measured_pass.scale, wanted, nodes, within=False)


def _finding(measured_pass: MeasuredPass, lost: list[str], nodes: set[Node], total: int) -> Finding:
    node = next(iter(n for n in nodes if is_invariant(n)), None) or next(iter(nodes))
    where = measured_pass.whereabouts(node)
    if is_invariant(node):
        said = (
            f"{stem(node).lower()} ({where}) gives numbers that add up to the same for every "
            "input, and that sum is all that is asked of them."
        )
    else:
        said = (
            f"what arrives at {_place(measured_pass, node, where)} by several ways adds up to "
            "nothing: a difference of equal things, or a number divided by itself."
        )
    return Finding(
        kind="zero_gradient",
        layers=owners(lost),
        quantity="share of the parameters whose gradient is rounding alone",
        measured=len(lost) / total,
        predicted=0.0,
        cause=f"The gradient of {some_of(lost)} is 0 but for rounding: {said}",
        remedy="# what is computed there does not depend on these parameters: take the term out, "
        "or\n# use the numbers themselves in place of their sum, ratio or difference",
        notebook=remedies.CHAPTERS[2],
    )


def _place(measured_pass: MeasuredPass, node: Node, where: str) -> str:
    if any(node is output.grad_fn for output in measured_pass.outputs):
        return "the output of the model (in the loss)"
    return f"the output of {stem(node).lower()} ({where})"
