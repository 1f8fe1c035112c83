"""Activations behind the last layer that lose the gradient of a wrong answer."""

import torch
from torch import Tensor, nn

from ...measuring import ROOT
from ...measuring.torch_internals import tree_map
from .. import remedies
from ..batch import loss_of
from ..behind import Behind, behind_the_last_layer, stuck
from ..graph import slopes
from ..layer_calls import CONVOLUTIONS, rms
from ..measured_pass import MeasuredPass
from ..report import Finding
from .rule import Case, rule

ENOUGH = 8
"""Values of an output, all 0, that are no chance."""

_AGREE = 0.9  # share of the gradient of a dead output that pulls it up


@rule(silences=("zero_gradient", "constant_output"))
def saturated_output(case: Case) -> list[Finding] | None:
    """A sigmoid, tanh or softmax at the output that is sure and wrong, under a loss that asks it.

    Not where the loss undoes the saturation, as cross-entropy does, nor where the sure answers are
    the right ones.
    """
    measured_pass = case.measured_pass
    findings = []
    for behind in behind_the_last_layer(measured_pass):
        found = stuck(measured_pass, behind)
        if found is None:
            continue
        names = tuple(call.name for call in behind.layers)
        where = "at the output" if behind.inside else "in the loss"
        findings.append(
            Finding(
                kind="saturated",
                layers=names,
                quantity="share of saturated outputs",
                measured=found.share,
                cause=f"{found.share:.0%} of the values of {behind.name} {where}"
                f"{f', behind {names[0]},' if names else ''} lie where its slope is below 5 % of "
                f"the largest, and {found.wrong:.0%} of all are there though the loss wants them "
                f"back: of the gradient they would pass in the middle, {found.passes:.2g} arrives. "
                f"The loss is {found.loss:.3g}; with those in the middle it were "
                f"{found.at_middle:.3g}.",
                remedy=_undone(measured_pass, behind),
                notebook=remedies.CHAPTERS[4],
            )
        )
    _explain_zeros(case, findings)
    return findings


def _undone(measured_pass: MeasuredPass, behind: Behind) -> str:
    """A loss that undoes the activation, and a last layer that starts in the middle."""
    losses = {
        "sigmoid": "# better: the output without its sigmoid, and "
        "F.binary_cross_entropy_with_logits,\n# whose gradient is p - y; of a generator, "
        "-F.logsigmoid(D(G(z))) in place of log(1 - D(G(z)))\n",
        "softmax": "# better: the output without its softmax, and F.cross_entropy, whose gradient "
        "is p - y\n",
    }
    model = measured_pass.model
    factor = float(behind.scale.abs().amax()) if not behind.inside else 1.0
    scaled = f"# a factor below {factor:.3g} before {behind.name}\n" if factor > 1 else ""
    names = [call.name.split("#")[0] for call in behind.layers]
    free = [name for name in names if _trainable(model, name)]
    start = "\n".join(_restart(name, "xavier", 0.0) for name in free)
    return (
        scaled + losses.get(behind.name, "") + start
    ).rstrip() or "# smaller weights in the last layer"


def _trainable(model: nn.Module, name: str) -> bool:
    """Whether a layer of this name has a weight matrix that is trained."""
    module = dict(model.named_modules()).get("" if name == ROOT else name)
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.dim() > 1 and weight.requires_grad


def _restart(name: str, init: str = "kaiming", bias: float = 0.1) -> str:
    """New weights for a layer."""
    place = remedies.path("" if name == ROOT else name)
    return (
        f"nn.init.{init}_normal_({place}.weight)\n"
        f"if {place}.bias is not None:\n    nn.init.constant_({place}.bias, {bias})"
    )


def _explain_zeros(case: Case, findings: list[Finding]) -> None:
    """An exact 0 in the layers of such an output is no underflow over the depth."""
    if findings and any(call.grad_in == 0 for call in case.measured_pass.trunk):
        case.silenced.add("over_depth")


@rule(silences=("zero_gradient", "constant_output"))
def dead_output(case: Case) -> list[Finding] | None:
    """Outputs of a ReLU that are 0 for the whole batch, and that the loss wants to be positive."""
    measured_pass = case.measured_pass
    if measured_pass.loss is None or not measured_pass.own_gradient:
        return None
    findings = []
    for behind in behind_the_last_layer(measured_pass):
        if not behind.inside or behind.name not in ("relu", "relu6"):
            continue
        values = slopes(behind.node)
        if values is None or bool(values.any(0).all()):
            continue
        try:
            pull = -_gradient(measured_pass, behind) * behind.scale
        except Exception:  # a loss of strangers, on outputs it was not made for
            continue
        axis = 1 if values.dim() == 2 else 0 if values.dim() < 2 else _channels(behind, values)
        units = values.dim() > 1
        slope = values.transpose(0, axis).flatten(1) if units else values.reshape(1, -1)
        up = pull.transpose(0, axis).flatten(1) if units else pull.reshape(1, -1)
        wanted = up.sum(1) >= _AGREE * up.abs().sum(1)
        strong = up.abs().mean(1) > 0.1 * rms(up)
        dead = (slope == 0).all(1) & wanted & strong
        if not bool(dead.any()):
            continue
        numbers = dead.nonzero()[:, 0].tolist()
        if slope.shape[1] < ENOUGH:
            case.notes.append(
                f"the ReLU at the output is 0 for all {slope.shape[1]} samples, where the loss "
                "wants more. So few can be chance: measure again with a larger batch."
            )
            continue
        findings.append(_dead(measured_pass, behind, numbers, len(slope)))
    _explain_zeros(case, findings)
    return findings


def _dead(measured_pass: MeasuredPass, behind: Behind, numbers: list[int], units: int) -> Finding:
    names = tuple(call.name for call in behind.layers)
    which = ", ".join(map(str, numbers[:6])) + (", …" if len(numbers) > 6 else "")
    whole = f"The output of {behind.name} behind the last layer" + (
        f" ({names[0]})" if names else ""
    )
    some = f"Output {which} (of 0 … {units - 1}) of {behind.name} behind the last layer"
    last = names[0].split("#")[0] if names else ""
    return Finding(
        kind="dead",
        layers=names,
        quantity="share of dead outputs",
        measured=len(numbers) / units,
        cause=f"{whole if len(numbers) == units else some} is 0 for every input of this batch. The "
        "loss wants it to be larger, and no gradient passes.",
        remedy="# better: no ReLU at the output; where it has to be positive, F.softplus\n"
        + (_restart(last) if _trainable(measured_pass.model, last) else ""),
        notebook=remedies.CHAPTERS[4],
    )


def _channels(behind: Behind, values: Tensor) -> int:
    convolved = any(isinstance(call.module, CONVOLUTIONS) for call in behind.layers)
    return 1 if convolved else values.dim() - 1


def _gradient(measured_pass: MeasuredPass, behind: Behind) -> Tensor:
    """∂𝓛/∂(output), in the shape of the activation."""
    leaves = []

    def leaf(value: object) -> object:
        if isinstance(value, Tensor) and value.requires_grad:
            value = value.detach().clone().requires_grad_()
            leaves.append(value)
        return value

    output = tree_map(leaf, measured_pass.output)
    loss = loss_of(output, measured_pass.batch, measured_pass.loss)
    (gradient,) = torch.autograd.grad(loss, leaves[behind.place])
    return gradient.reshape(behind.scale.shape)
