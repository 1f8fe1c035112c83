"""Nothing found over the run: what the figures are."""

import math

import numpy as np

from ..report import Finding
from ..rules.rule import rule
from .course import course
from .run import FEWEST, Run, figure, level


@rule()
def healthy(run: Run) -> Finding | None:
    """A run of which no other rule has found anything, and that is long enough to say so."""
    if run.findings:
        return None
    if run.rows < FEWEST:
        run.undecided.append(
            f"the record has {run.rows} row{'' if run.rows == 1 else 's'}, and a course over steps "
            f"needs {FEWEST}: record more steps, or ask cu.diagnose about one batch"
        )
        return Finding(
            kind="undecided",
            cause=f"{run.rows} recorded steps are too few to judge a run: {FEWEST} are needed.",
            remedy="cu.diagnose(model, batch, loss)",
        )
    said, measured, quantity = (
        [f"{run.rows} recorded steps without a NaN, a spike or a stop."],
        0.0,
        "",
    )
    found = course(run.losses)
    if found:
        said.append(f"The loss went from {figure(found.first)} to {figure(found.last)}.")
        if not found.learned:
            said.append(
                "It fell by no more than it scatters: the run is sound, and not yet learning."
            )
    columns = list(run.weights.values())
    measured = math.nan
    if run.has_updates and columns:
        usual = level(run.moved[:, columns])
        measured, quantity = float(np.nanmedian(usual)), "‖Δθ‖/‖θ‖ of a usual step"
    return Finding(
        kind="healthy",
        layers=tuple(run.record.layers[c] for c in run.trunk),
        quantity=quantity,
        measured=measured,
        cause=" ".join(said),
    )
