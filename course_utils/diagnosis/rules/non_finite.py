"""NaN or Inf in the pass: who made the first one."""

import itertools
import math

from torch import nn

from .. import remedies
from ..measured_pass import MeasuredPass
from ..nonfinite import NonFiniteSource, Origin, finite, trace_nonfinite
from ..report import Finding
from ..slope import Slope, fit_slope
from ..why_nonfinite import reason
from .rule import EVERYTHING, Case, rule

_TRIES = 3
"""A dropout or a sample that made the NaN is drawn anew in the trace, and can miss it."""


@rule(silences=EVERYTHING)
def non_finite(case: Case) -> list[Finding]:
    """A NaN or Inf, and the growth of the outputs that led to it."""
    measured_pass = case.measured_pass
    where = measured_pass.record.first_nonfinite
    bad_loss = not bool(measured_pass.loss_value.detach().isfinite())
    lost = _gradient_lost(measured_pass)
    if where is None and not bad_loss and not lost:
        return []
    if where is not None and not bad_loss and where.pass_name == "forward" and not lost:
        if where.layer != "(loss)" and _gradients_finite(measured_pass):
            return []  # an Inf on purpose, such as a mask, that goes no further
    origin = None
    for _ in range(_TRIES if where or bad_loss else 1):
        origin = origin or trace_nonfinite(
            measured_pass.model, measured_pass.batch, measured_pass.loss
        )
    if origin is None:
        if not bad_loss and (where is None or where.pass_name == "backward"):
            return []  # the graph is cut, or only the gradient at its own scale overflows
        layer, pass_name, _ = where or ("(loss)", "forward", 0)
        origin = Origin(NonFiniteSource(layer, pass_name, "unknown", "NaN or Inf"))
    source, found = origin.source, reason(origin)
    grown = _forward_growth(measured_pass) if found.overflow or not found.why else None
    why = " It is an overflow after growth from layer to layer." if grown else ""
    finding = Finding(
        kind="non_finite",
        layers=(source.layer,),
        cause=f"{_told(origin)} {found.why}".rstrip() + why,
        remedy=remedies.kaiming("relu") if grown else found.remedy,
        notebook=remedies.CHAPTERS[6],
    )
    return [finding, _overflow(measured_pass, grown)] if grown else [finding]


def _told(origin: Origin) -> str:
    """The place in words."""
    source = origin.source
    place = f"in {source.layer}, {source.pass_name} pass"
    if source.operation == "data":
        return f"The first {source.value} comes in by the batch, {source.layer}."
    if source.operation.startswith("parameter"):
        return f"The first {source.value} was there before the pass, and is read {place}."
    if origin.held:
        return f"The first {source.value} stands in a constant that is read {place}."
    return f"The first {source.value} arises {place}, by {source.operation}."


def _gradient_lost(measured_pass: MeasuredPass) -> bool:
    """Whether no parameter got a gradient, or one got one that is not finite.

    No gradient at all is what is left where ∂L/∂(output) was not finite, and also where the graph
    is cut, which the trace then tells apart.
    """
    if not measured_pass.loss_value.requires_grad:
        return False
    grads = [grad for grad in measured_pass.grads.values() if grad is not None]
    if not grads:
        return any(p.requires_grad for p in measured_pass.model.parameters())
    return not all(finite(grad) for grad in grads)


def _gradients_finite(measured_pass: MeasuredPass) -> bool:
    bad = measured_pass.record.grad_nan + measured_pass.record.grad_inf
    grads = [grad for grad in measured_pass.grads.values() if grad is not None]
    known = measured_pass.loss_value.requires_grad and not bool(bad.any())
    return known and all(bool(grad.isfinite().all()) for grad in grads)


def _forward_growth(measured_pass: MeasuredPass) -> Slope | None:
    """Slope of the outputs' RMS where it grows by more than 100×, while it is still finite.

    Not where one layer alone makes most of it: that is a large bias, and no growth with depth.
    """
    names = {call.name for call in measured_pass.trunk}
    record = measured_pass.record
    rows = [i for i, name in enumerate(record.layers) if name in names]
    sizes = record.output_rms[0, rows].tolist()
    slope = fit_slope(sizes)
    logs = [math.log(size) for size in sizes if 0 < size < math.inf]
    steps = [after - before for before, after in itertools.pairwise(logs)]
    # What falls toward the input has grown on the way from it.
    grows = len(rows) > 2 and slope.verdict == "vanishing"
    return slope if grows and sum(steps) - max(steps, default=0.0) > math.log(10) else None


def _overflow(measured_pass: MeasuredPass, grown: Slope) -> Finding:
    factor = 1 / grown.factor
    known = nn.ReLU | nn.Tanh | nn.GELU
    names = [
        type(m).__name__.lower() for m in measured_pass.model.modules() if isinstance(m, known)
    ]
    return Finding(
        kind="exploding",
        layers=tuple(call.name for call in measured_pass.trunk),
        quantity="factor of the RMS of the outputs per layer",
        measured=factor,
        cause=f"The outputs grow by {factor:.3g} per layer until the number format overflows: "
        "the weights are too large.",
        remedy=remedies.initialize(names[0] if names else "relu"),
        notebook=remedies.CHAPTERS[5],
    )
