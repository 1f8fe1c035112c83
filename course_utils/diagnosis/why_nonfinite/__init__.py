"""Why an operation made a NaN or Inf, in figures, and what to write instead."""

from ..nonfinite import Origin
from . import backward, before, domain, overflow, selection
from .reason import Reason

_FORWARD = (
    before.data,
    before.parameter,
    before.undefined,
    selection.nothing,
    selection.ignored_labels,
    selection.alignment,
    selection.masked_row,
    selection.inf_met,
    before.constant,
    selection.spread_of_one,
    domain.logarithm,
    domain.root,
    domain.pole,
    domain.quotient,
    overflow.exponential,
    selection.put_there,
    domain.determinant,
    overflow.overflow,
    domain.no_value,
)
_BACKWARD = (
    backward.broken_branch,
    backward.slope,
    backward.spectrum,
    backward.too_steep,
    backward.no_slope,
)


_NO_FIGURES = (RuntimeError, TypeError, ValueError, IndexError, AttributeError)
"""What strange tensors answer (complex, sparse, nested, quantized) to whom asks for a figure."""


def reason(origin: Origin) -> Reason:
    """Why the first NaN or Inf came about."""
    for explain in _FORWARD if origin.node is None else _BACKWARD:
        try:
            answer = explain(origin)
        except _NO_FIGURES:  # the place is known all the same
            continue
        if answer is not None:
            return answer
    return Reason(
        "",
        "# run the step under `with torch.autograd.detect_anomaly():`, which shows the line",
    )
