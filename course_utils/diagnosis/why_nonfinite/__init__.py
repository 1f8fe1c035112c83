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


def reason(origin: Origin) -> Reason:
    """Why the first NaN or Inf came about."""
    for explain in _FORWARD if origin.node is None else _BACKWARD:
        answer = explain(origin)
        if answer is not None:
            return answer
    return Reason(
        "",
        "# run the step under `with torch.autograd.detect_anomaly():`, which shows the line",
    )
