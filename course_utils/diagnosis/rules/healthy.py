"""Nothing found: what the figures are."""

import math

from ..recurrence import Recurrence
from ..report import Finding
from ..slope import LIMIT
from .rule import Case, rule


@rule()
def healthy(case: Case) -> Finding | None:
    """A network of which no other rule has found anything."""
    if case.findings:  # "undecided" among them
        return None
    slope, (recurrences, _) = case.measured_pass.depth_slope, case.measured_pass.recurrences
    layers = [call.name for call in case.measured_pass.trunk] + [one.name for one in recurrences]
    measured = [one for one in recurrences if one.slope.factor > 0]
    through_time = " ".join(map(_in_order, measured))
    quantity, factor, predicted = "factor of ∂L/∂h per layer", slope.factor, 1.0
    if not math.isnan(slope.factor):
        cause = (
            f"Over {slope.span} layers the gradient changes by a factor of "
            f"{math.exp(slope.log_total):.3g}, within {LIMIT:.0f}×; no NaN, no dead or saturated "
            f"layer, everything connected. {through_time}"
        )
    elif measured:
        worst = max(measured, key=lambda one: abs(one.slope.log_total))
        quantity = "factor of ∂L/∂h_t per time step"
        factor, predicted = worst.slope.factor, worst.predicted
        cause = f"{through_time} No NaN, no dead or saturated layer, everything connected."
    else:
        quantity, predicted = "", math.nan
        cause = "Nothing was found. Too few layers have a gradient of their own for a slope."
    return Finding(
        kind="healthy",
        layers=tuple(dict.fromkeys(layers)),
        quantity=quantity,
        measured=factor,
        predicted=predicted,
        cause=cause.strip(),
    )


def _in_order(one: Recurrence) -> str:
    """A sentence on a recurrence of which nothing is wrong."""
    total = math.exp(one.slope.log_total)
    text = (
        f"Through the {one.steps} steps of {one.name} the gradient changes by a factor of "
        f"{total:.3g}, {one.slope.factor:.3g} per step. {one.said}"
    )
    if one.predicted < 0.8 * one.slope.factor:
        text += " That it does not fade all the same is due to the steps that the loss reads."
    return text
