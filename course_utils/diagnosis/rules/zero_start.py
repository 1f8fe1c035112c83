"""A remark on factors that start at zero on purpose; no finding."""

from ..measured_pass import MeasuredPass
from ..zero_start import is_zero
from .rule import Case, rule


@rule()
def zero_start(case: Case) -> None:
    """Zero layers, norms and gates that move at the first step."""
    measured_pass = case.measured_pass
    if not case.well_so_far or not measured_pass.own_gradient or not measured_pass.zero_factors:
        return
    names, waiting = measured_pass.zero_factors, _waiting(measured_pass)
    what = f"the factor {names[0]} starts at zero"
    if len(names) > 1:
        what = f"{len(names)} factors start at zero, {names[0]} … {names[-1]}"
    until = ""
    if waiting:
        others = f" and {len(waiting) - 1} more parameters" if len(waiting) > 1 else ""
        until = f", and until then {waiting[0]}{others} before it get exactly 0"
    case.notes.append(
        f"{what}, as is usual at the end of a branch and at an output. The gradient there is not "
        f"0, so the first step moves it{until}. Nothing has to be changed; measure again after "
        "some steps to judge what stands before."
    )


def _waiting(measured_pass: MeasuredPass) -> list[str]:
    """Parameters that get a gradient of exactly 0."""
    return [name for name, g in measured_pass.grads.items() if g is not None and is_zero(g)]
