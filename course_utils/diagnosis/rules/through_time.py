"""Vanishing and exploding through time."""

import math

from torch import nn

from .. import remedies
from ..recurrence import Recurrence
from ..report import Finding
from ..slope import LIMIT
from .rule import Case, rule


@rule()
def through_time(case: Case) -> list[Finding]:
    """A gradient that the steps of a recurrence multiply by more than 100×, or divide by it."""
    recurrences, unseen = case.measured_pass.recurrences
    case.undecided.extend(unseen)
    for one in recurrences:
        if not one.verdict and one.slope.log_total > math.log(LIMIT) / 2:
            case.undecided.append(
                f"through the {one.steps} steps of {one.name} the gradient grows by a factor of "
                f"{math.exp(one.slope.log_total):.3g}, most of it in one half of them. Measure "
                "again with a sequence twice as long."
            )
    arrived = [one for one in recurrences if not math.isnan(one.shrinking)]
    if arrived:
        case.notes.append(_converges(arrived))
    return [
        _finding(one, one.verdict)
        for one in recurrences
        if one.verdict and math.isnan(one.shrinking)
    ]


def _converges(loops: list[Recurrence]) -> str:
    """A remark on loops that vanish because they have arrived."""
    one, names = loops[0], ", ".join(loop.name for loop in loops)
    return (
        f"in the loop of {one.steps} iterations over {names} the states converge: successive ones "
        f"differ {one.shrinking:.3g} times as much each time, and where they end depends on the "
        "input. That is the contraction which a fixed point needs (deep equilibrium, unrolled "
        f"solver), and that the gradient fades by {one.slope.factor:.3g} per iteration is part of "
        "it. Only if the first steps have to be remembered is it vanishing."
    )


def _finding(one: Recurrence, kind: str) -> Finding:
    slope = one.slope
    if not slope.factor:
        size = "Of the gradient at the last step exactly 0 arrives at the steps before."
    else:
        size = (
            f"From step {one.steps} back to step 1 ∂L/∂h_t is multiplied by "
            f"10^{slope.log_total / math.log(10):.1f}."
        )
    if not slope.verdict:
        size += (
            " That is less than 100×, but it grows in both halves of the steps, and twice as many "
            "steps would square it."
        )
    cause = f"{size} {one.said}"
    if kind == "exploding":
        cause += " Nothing clips the gradient inside backward: clip its norm before the step."
    gated = isinstance(one.module, nn.LSTM | nn.GRU | nn.LSTMCell | nn.GRUCell)
    return Finding(
        kind=kind,
        layers=(one.name,),
        quantity="factor of ∂L/∂h_t per time step",
        measured=slope.factor,
        predicted=one.predicted,
        cause=cause,
        remedy=remedies.recurrent(
            one.module, one.name, kind, one.steps, part=one.part, activation=one.activation
        ),
        notebook=remedies.CHAPTERS[6 if kind == "exploding" else 9 if gated else 3],
    )
