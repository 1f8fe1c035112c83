"""NaN or Inf in the pass: who made the first one."""

from torch import nn

from .. import remedies
from ..measured_pass import MeasuredPass
from ..nonfinite import NonFiniteSource, trace_nonfinite
from ..report import Finding
from ..slope import Slope, fit_slope
from .rule import EVERYTHING, Case, rule


@rule(silences=EVERYTHING)
def non_finite(case: Case) -> list[Finding]:
    """A NaN or Inf, and the growth of the outputs that led to it."""
    measured_pass = case.measured_pass
    where = measured_pass.record.first_nonfinite
    bad_loss = not bool(measured_pass.loss_value.detach().isfinite())
    if where is None and not bad_loss:
        return []
    if where is not None and not bad_loss and where.pass_name == "forward":
        if where.layer != "(loss)" and _gradients_finite(measured_pass):
            return []  # an Inf on purpose, such as a mask, that goes no further
    source = trace_nonfinite(measured_pass.model, measured_pass.batch, measured_pass.loss)
    if source is None:
        layer, pass_name, _ = where or ("(loss)", "forward", 0)
        source = NonFiniteSource(layer, pass_name, "unknown", "NaN or Inf")
    grown = _forward_growth(measured_pass)
    remedy, why = _mend(source, grown)
    finding = Finding(
        kind="non_finite",
        layers=(source.layer,),
        cause=f"The first {source.value} arises in {source.layer}, {source.pass_name} pass, by "
        f"{source.operation}. {why}",
        remedy=remedy,
        notebook=remedies.CHAPTERS[6],
    )
    return [finding, _overflow(measured_pass, grown)] if grown else [finding]


def _gradients_finite(measured_pass: MeasuredPass) -> bool:
    bad = measured_pass.record.grad_nan + measured_pass.record.grad_inf
    grads = [grad for grad in measured_pass.grads.values() if grad is not None]
    known = measured_pass.loss_value.requires_grad and not bool(bad.any())
    return known and all(bool(grad.isfinite().all()) for grad in grads)


def _forward_growth(measured_pass: MeasuredPass) -> Slope | None:
    """Slope of the outputs' RMS where it grows by more than 100×, while it is still finite."""
    names = {call.name for call in measured_pass.trunk}
    record = measured_pass.record
    rows = [i for i, name in enumerate(record.layers) if name in names]
    slope = fit_slope(record.output_rms[0, rows].tolist())
    # What falls toward the input has grown on the way from it.
    return slope if len(rows) > 2 and slope.verdict == "vanishing" else None


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


def _mend(source: NonFiniteSource, grown: Slope | None) -> tuple[str, str]:
    """The remedy for one operation, and why it makes NaN or Inf."""
    operation = source.operation
    inside = {"(model)": "model.forward", "(loss)": "the loss"}.get(source.layer, source.layer)
    if source.layer in ("(input)", "(target)"):
        return "# find out how it came into the data; until then: torch.nan_to_num(batch)", (
            "The batch itself holds it; the network is not to blame."
        )
    if operation.startswith("parameter"):
        return "# start again from the last good checkpoint, with norm clipping", (
            "The weights already held it: an earlier step was too long, or its gradient not finite."
        )
    if grown:
        return remedies.kaiming("relu"), "It is an overflow after growth from layer to layer."
    if operation in ("log", "log2", "log10", "xlogy"):
        return f"# in {inside}: torch.log(z.clamp_min(1e-12)); for log(softmax) F.log_softmax", (
            "log of 0 is −Inf and of a negative number NaN."
        )
    if "sqrt" in operation or operation in ("pow", "linalg_vector_norm", "norm"):
        return f"# in {inside}: torch.sqrt(z + 1e-12)", "The slope of √x at 0 is infinite."
    if operation == "exp":
        return "# subtract the largest exponent first: torch.logsumexp, F.softmax, F.log_softmax", (
            "exp of more than 88 overflows float32."
        )
    if "div" in operation or operation == "reciprocal":
        return f"# in {inside}: z / (y + 1e-12)", "It divides by 0."
    return "# run the step under `with torch.autograd.detect_anomaly():`, which shows the line", ""
