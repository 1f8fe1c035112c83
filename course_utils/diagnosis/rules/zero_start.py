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
    what = f"{names[0]} starts at zero"
    if len(names) > 1:
        what = f"{names[0]} … {names[-1]} ({len(names)} of them) start at zero"
    until = ""
    if waiting:
        until = (
            f", and exactly 0 arrives at {len(waiting)} parameters behind which that factor stands "
            f"({waiting[0]}{', …' if len(waiting) > 1 else ''}) until then"
        )
    case.notes.append(
        f"{what}, which is usual at the end of a branch and at an output: the gradient there is "
        f"not 0, so the first step moves it{until}. Nothing has to be changed; measure again "
        "after some steps to judge the layers before it."
    )


def _waiting(measured_pass: MeasuredPass) -> list[str]:
    """Parameters that get a gradient of exactly 0."""
    return [name for name, g in measured_pass.grads.items() if g is not None and is_zero(g)]
