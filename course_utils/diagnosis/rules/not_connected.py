"""Parameters that no gradient reaches."""

from .. import remedies
from ..report import Finding
from .rule import EVERYTHING, Case, rule


@rule(silences=EVERYTHING)
def loss_cut_off(case: Case) -> Finding | None:
    """A loss that depends on no parameter."""
    grads = case.measured_pass.grads
    if case.measured_pass.loss_value.requires_grad and any(g is not None for g in grads.values()):
        return None
    trainable = any(p.requires_grad for p in case.measured_pass.model.parameters())
    return Finding(
        kind="not_connected",
        layers=tuple(grads),
        quantity="share of parameters with a gradient",
        measured=0.0,
        predicted=1.0,
        cause=(
            "The loss does not depend on any parameter: somewhere the graph is cut, by detach(), "
            ".item(), .numpy(), argmax, no_grad(), or a new tensor built from values."
            if trainable
            else "Every parameter is frozen (requires_grad=False): there is nothing to train."
        ),
        remedy=(
            "# compute the loss from the model's output by torch operations only"
            if trainable
            else "model.requires_grad_(True)"
        ),
        notebook=remedies.CHAPTERS[2],
    )


@rule()
def not_connected(case: Case) -> Finding | None:
    """Some parameters without a gradient."""
    parameters = dict(case.measured_pass.model.named_parameters())
    trainable = [name for name, parameter in parameters.items() if parameter.requires_grad]
    empty = [name for name in trainable if case.measured_pass.grads[name] is None]
    if not empty:
        return None
    modules = tuple(dict.fromkeys(name.rpartition(".")[0] or "(model)" for name in empty))
    ran = {layer.split("#")[0].split("[")[0] for layer in case.measured_pass.record.layers}
    idle = [name for name in modules if name not in ran]
    said = (
        f"{', '.join(idle[:4])} did not run in this pass"
        if idle
        else f"{modules[0]} ran, and what came of it does not reach the loss"
    )
    return Finding(
        kind="not_connected",
        layers=modules,
        quantity="share of trainable parameters with a gradient",
        measured=1 - len(empty) / len(trainable),
        predicted=1.0,
        cause=f"{len(empty)} of {len(trainable)} trainable parameters got no gradient: {said}. "
        "Either the forward pass does not use it, or a detach(), argmax or no_grad() cuts it off.",
        remedy="# use it in forward, or say that it is not trained:\n"
        f"for name in {remedies.listed(empty)}:\n"
        "    model.get_parameter(name).requires_grad_(False)",
        notebook=remedies.CHAPTERS[2],
    )
