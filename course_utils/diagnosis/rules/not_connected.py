"""Parameters that no gradient reaches."""

from torch import Tensor, nn

from .. import remedies
from ..layer_calls import LayerCall
from ..measured_pass import MeasuredPass
from ..report import Finding
from .rule import EVERYTHING, Case, rule


@rule(silences=EVERYTHING)
def loss_cut_off(case: Case) -> Finding | None:
    """A loss that depends on no parameter."""
    grads = case.measured_pass.grads
    if case.measured_pass.loss_value.requires_grad and any(g is not None for g in grads.values()):
        return None
    trainable = any(p.requires_grad for p in case.measured_pass.model.parameters())
    if not trainable and case.measured_pass.differentiates_input:
        case.notes.append(
            "every parameter is frozen, and the gradient goes to the input of the model, which is "
            "what this step can train."
        )
        return None
    return Finding(
        kind="not_connected",
        layers=tuple(grads),
        quantity="share of parameters with a gradient",
        measured=0.0,
        predicted=1.0,
        cause=(
            "The loss does not depend on any parameter: somewhere the graph is cut, by detach(), "
            ".item(), .numpy(), argmax, a comparison such as >, no_grad(), or a new tensor built "
            "from values."
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
    """Some parameters without a gradient, which no other batch would give one."""
    measured_pass = case.measured_pass
    parameters = measured_pass.parameters
    trainable = [name for name, parameter in parameters.items() if parameter.requires_grad]
    empty = [name for name in trainable if measured_pass.grads[name] is None]
    if measured_pass.held is not None:  # neither connected nor trained: left out on purpose
        empty = [name for name in empty if id(parameters[name]) in measured_pass.held]
    if not empty:
        return None
    if measured_pass.differentiates:  # the derivative by the input holds no last bias
        biases = [name for name in empty if _shift(measured_pass, name)]
        if biases:
            case.notes.append(
                f"{', '.join(biases[:4])} got no gradient: the loss sees the derivative by an "
                "input alone, and a constant that is added has none."
            )
        empty = [name for name in empty if name not in biases]
        if not empty:
            return None
    waiting = _waiting(measured_pass, set(empty))
    for place, idle in waiting.items():
        case.notes.append(
            f"{', '.join(idle[:4])}{', …' if len(idle) > 4 else ''} got nothing on this batch, and "
            f"others in {place} did: experts without a token, heads of other tasks, skipped "
            "blocks. Measure again with a larger batch to see whether they are ever used."
        )
    parts = tuple(f"{part}." for idle in waiting.values() for part in idle)
    empty = [name for name in empty if not f"{name}.".startswith(parts)] if parts else empty
    if not empty:
        return None
    modules = tuple(dict.fromkeys(name.rpartition(".")[0] or "(model)" for name in empty))
    ran = {layer.split("#")[0].split("[")[0] for layer in measured_pass.record.layers}
    idle = [name for name in modules if name not in ran]
    if idle == list(modules) and _left_open(measured_pass):
        case.undecided.append(
            f"{', '.join(idle[:4])}{', …' if len(idle) > 4 else ''} did not run, and this batch "
            "holds None for an argument of the model. Measure again with a batch that has it."
        )
        return None
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
        remedy="# use it in forward, without detach(), argmax or no_grad() between it and the loss;"
        "\n# if another batch or another loss trains it, leave it as it is",
        notebook=remedies.CHAPTERS[2],
    )


def _shift(measured_pass: MeasuredPass, name: str) -> bool:
    """Whether a parameter is the bias of a layer whose weight gets a gradient."""
    place, _, last = name.rpartition(".")
    weight = f"{place}.weight" if place else "weight"
    return last == "bias" and measured_pass.grads.get(weight) is not None


def _left_open(measured_pass: MeasuredPass) -> bool:
    """Whether the batch says that an input is missing."""
    batch = measured_pass.batch
    return any(value is None for value in (*batch.args, *batch.kwargs.values()))


def _waiting(measured_pass: MeasuredPass, empty: set[str]) -> dict[str, list[str]]:
    """Members of a list or dict of equal parts that got nothing while others got a gradient."""
    waiting: dict[str, list[str]] = {}
    named = {id(p): name for name, p in measured_pass.parameters.items()}
    cut = {id(call.module.weight) for call in measured_pass.calls if _without_graph(call)}
    for place, module in measured_pass.model.named_modules():
        if not isinstance(module, _CHOICES):
            continue
        alike: dict[tuple, dict[str, bool]] = {}
        parts = (
            {key: list(part.parameters()) for key, part in module.named_children()}
            if isinstance(module, nn.ModuleList | nn.ModuleDict)
            else {key: [part] for key, part in module.named_parameters()}
        )
        for key, inside in parts.items():
            if inside:
                whole = f"{place}.{key}" if place else key
                nothing = all(named[id(p)] in empty for p in inside)
                if nothing and any(id(p) in cut for p in inside):
                    continue  # it got something, and its answer lost its graph
                alike.setdefault(tuple(p.shape for p in inside), {})[whole] = nothing
        for members in alike.values():
            if not all(members.values()):
                idle = [name for name, waits in members.items() if waits]
                waiting |= {place: waiting.get(place, []) + idle} if idle else {}
    return waiting


def _without_graph(call: LayerCall) -> bool:
    """Whether a layer that trains ran under no_grad."""
    weight = getattr(call.module, "weight", None)
    return call.out_node is None and isinstance(weight, Tensor) and weight.requires_grad


_CHOICES = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
