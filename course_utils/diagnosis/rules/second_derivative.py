"""A term of the loss that asks for a second derivative of what is straight between its bends."""

from ...measuring.torch_internals import Node, saved_tensors
from .. import remedies
from ..graph import PRODUCTS, stem, walk
from ..measured_pass import MeasuredPass
from ..report import Finding
from ..taken import is_zero
from .rule import Case, rule

_BENT = ("Threshold", "LeakyRelu", "Hardtanh", "PreluKernel")
_SMOOTH = ("Tanh", "Sigmoid", "Gelu", "Silu", "Mish", "Softplus", "Elu", "Hardswish")


@rule()
def second_derivative(case: Case) -> Finding | None:
    """A term that is the same for all weights, beside another that hides it: a boundary, data.

    Such as the residual of a differential equation with u″ of a ReLU network. The evidence is the
    derivative that enters the loss: exactly 0 for the whole batch, though no weight is, and made
    by backward passes of activations none of which has a second derivative.
    """
    measured_pass = case.measured_pass
    if not measured_pass.differentiates or measured_pass.zero_calls or measured_pass.zero_factors:
        return None
    products = _entering(measured_pass)
    zero = [node for node in products if any(map(is_zero, saved_tensors(node).values()))]
    bent = {name for node in zero for name in _derived(node, _BENT)}
    if not bent or any(_derived(node, _SMOOTH) for node in zero):
        return None
    name = "relu" if "Threshold" in bent else min(bent).lower()
    return Finding(
        kind="zero_gradient",
        layers=tuple(call.name for call in measured_pass.trunk),
        quantity="share of the derivatives in the loss that are exactly 0",
        measured=len(zero) / len(products),
        predicted=0.0,
        cause="A derivative that the loss asks for is exactly 0 everywhere: the slope of "
        f"{name} does not change with its input, so its second derivative is 0 whatever the "
        "weights are. That term of the loss gives no gradient; what is learned comes from the "
        "other terms alone.",
        remedy=remedies.smooth(measured_pass.model),
        notebook=remedies.CHAPTERS[4],
    )


def _entering(measured_pass: MeasuredPass) -> list[Node]:
    """Products of derivatives with weights that the loss reads first."""
    root, below = measured_pass.loss_value.grad_fn, measured_pass.output_nodes
    if root is None:
        return []
    products = {
        node
        for node in walk(root, ends=below)
        if node not in below and any(product in node.name() for product in PRODUCTS)
    }
    return [node for node in walk(root, ends=products.union(below)) if node in products]


def _derived(node: Node, names: tuple[str, ...]) -> set[str]:
    """Those of these activations whose backward pass a derivative has gone through."""
    stems = {stem(below) for below in walk(node)}
    return {name for name in names if f"{name}Backward" in stems}
