"""Layers of which most units are saturated: slope below 5 % of the largest one."""

import math
from collections.abc import Iterator

from torch import nn

from .. import remedies
from ..graph import LARGEST_SLOPE, activation_name, slopes
from ..layer_calls import LayerCall, rms
from ..measured_pass import MeasuredPass
from ..report import Finding
from .rule import Case, rule

SATURATED_SLOPE = 0.05
"""A unit is saturated where its slope is below this share of the largest slope."""

LARGE_INPUT = 3.0
"""RMS of a batch beyond which its scale, and not that of the weights, may saturate a layer."""


@rule()
def saturated(case: Case) -> Finding | None:
    """Layers with more than half of their units in saturation."""
    shares = {c: (share, name) for c, share, name in _shares(case.measured_pass) if share > 0.5}
    if not shares:
        return None
    call = max(shares, key=lambda call: shares[call][0])
    share, activation = shares[call]
    weight_variance, bias_variance = call.variances()
    said, remedy = "", remedies.xavier() + "\n# and inputs of mean 0 and standard deviation 1"
    size = _size_of_input(case.measured_pass, call)
    if size > LARGE_INPUT and not size < math.sqrt(weight_variance):
        said = (
            f" Its inputs have a root mean square of {size:.3g}, and the preactivations with them: "
            "weights are drawn for inputs of about 1"
            + ("." if math.isnan(weight_variance) else f" (here σ_w² = {weight_variance:.3g}).")
        )
        remedy = remedies.standardize(call.in_shape)
    elif not math.isnan(weight_variance):
        said = (
            f" Its weights have σ_w² = {weight_variance:.3g} and its biases a mean square of "
            f"{bias_variance:.3g}; with σ_w² = 1 and zero biases {activation} works around 0."
        )
    return Finding(
        kind="saturated",
        layers=tuple(call.name for call in shares),
        quantity="share of saturated units",
        measured=share,
        cause=f"{share:.0%} of the outputs of {activation} after {call.name} lie where its slope "
        f"is below 5 % of the largest.{said}",
        remedy=remedy,
        notebook=remedies.CHAPTERS[4],
    )


def _shares(measured_pass: MeasuredPass) -> Iterator[tuple[LayerCall, float, str]]:
    """Layer, share of saturated units behind it, and their activation."""
    for call, node in measured_pass.activations:
        name = activation_name(node) or ""
        largest = LARGEST_SLOPE.get(name)
        values = slopes(node) if largest else None
        if largest and values is not None:
            yield call, float((values < SATURATED_SLOPE * largest).double().mean()), name
    for call in measured_pass.calls:
        tanh = isinstance(call.module, nn.RNN) and call.module.nonlinearity == "tanh"
        if tanh and call.output is not None:
            far = call.output.abs() > math.sqrt(1 - SATURATED_SLOPE)
            yield call, float(far.double().mean()), "tanh"


def _size_of_input(measured_pass: MeasuredPass, call: LayerCall) -> float:
    """RMS of what a layer reads, if that is the batch itself; else NaN."""
    same = [t for t in measured_pass.batch.tensors() if tuple(t.shape) == call.in_shape]
    if call.in_node is not None or len(same) != 1 or not same[0].is_floating_point():
        return math.nan
    return rms(same[0].detach())
