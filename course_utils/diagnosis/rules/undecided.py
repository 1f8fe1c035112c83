"""Nothing found, and something open."""

import math

from .. import remedies
from ..report import Finding
from .rule import Case, rule


@rule()
def undecided(case: Case) -> Finding | None:
    """A network of which no rule has found anything, and of which the evidence leaves a question.

    A verdict of "healthy" would say more than was measured.
    """
    if case.findings or not case.undecided:
        return None
    slope = case.measured_pass.depth_slope
    known = not math.isnan(slope.factor)
    return Finding(
        kind="undecided",
        layers=tuple(call.name for call in case.measured_pass.trunk),
        quantity="factor of ∂L/∂h per layer" if known else "",
        measured=slope.factor,
        predicted=1.0 if known else math.nan,
        cause=" ".join(text[:1].upper() + text[1:] for text in case.undecided),
        notebook=remedies.CHAPTERS[12],
    )
