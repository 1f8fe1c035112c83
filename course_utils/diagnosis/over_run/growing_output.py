"""Outputs or logits that grow and grow, while the loss has nothing from it."""

import math

import numpy as np

from .. import remedies
from ..report import Finding
from ..rules.rule import rule
from .course import course
from .run import FEWEST, Run, figure, level, levels

GROWS = 10.0
"""Over the run; and in its second half by the root of it."""
GROWS_UNSEEN = 100.0
"""The same where no loss was given."""
PAYS = 0.2
"""Share of the whole fall of the loss that the second half must have, to pay for the growth."""


@rule()
def growing_output(run: Run) -> Finding | None:
    """A layer whose output grows by more than 10×, and still does at the end of the run."""
    if run.rows < 2 * FEWEST:
        return None
    known = np.isfinite(run.losses).sum() >= 2 * FEWEST
    if known and _pays(run):
        return None
    limit = GROWS if known else GROWS_UNSEEN
    outputs = run.array(run.record.output_rms)
    smooth = levels(outputs, 5)
    quarter, half, late = run.rows // 4, run.rows // 2, 3 * run.rows // 4
    found = []
    for column in run.trunk:
        sizes = smooth[:, column]
        with np.errstate(invalid="ignore"):
            if np.isnan(sizes).all() or not (sizes[: max(1, quarter)] > 0).any():
                continue
            start = float(np.nanmax(sizes[: max(1, quarter)]))
        middle, last = sizes[half], float(level(sizes[-3:]))
        if last > limit * start and last > math.sqrt(limit) * middle and last > 1.3 * sizes[late]:
            found.append((last / start, column))
    if not found:
        return None
    columns = [column for _, column in found]
    total, worst = max(found)
    above = np.flatnonzero(~(smooth[:, worst] > 2 * np.nanmax(smooth[: max(1, quarter), worst])))
    row = int(above[-1]) if len(above) else 0
    name = run.record.layers[worst]
    last = columns[-1] == run.trunk[-1]
    return Finding(
        kind="growing_output",
        layers=tuple(run.record.layers[column] for column in columns),
        quantity="times the output of the first quarter of the run, at the end",
        measured=total,
        cause=f"The RMS of the output of {name} grew {figure(total)}-fold from step "
        f"{run.step(row)} on and does not stop"
        + (", while the loss did not fall for it." if known else "; the loss is not recorded.")
        + _weights(run, worst)
        + (" These are the outputs of the network itself, its logits." if last else ""),
        remedy="# weight decay on the weights, and a norm in front of each layer that grows:\n"
        "optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)"
        + ("\n# logits: loss = loss + 1e-4 * logits.logsumexp(-1).pow(2).mean()" if last else ""),
        notebook=remedies.CHAPTERS[5],
        step=run.step(row),
    )


def _pays(run: Run) -> bool:
    """Whether the loss falls in the second half by a fair share of its whole fall."""
    found = course(run.losses)
    if found is None or not found.learned:
        return False
    middle = float(found.smooth[len(found.smooth) // 2])
    return middle - found.last > PAYS * found.progress


def _weights(run: Run, column: int) -> str:
    place = run.weights.get(column)
    if place is None:
        return ""
    sizes = run.array(run.record.parameter_rms)[:, place]
    name = run.record.parameters[place]
    grown = float(level(sizes[-3:]) / level(sizes[:3]))
    if not grown > 2:
        return f" Its own weights did not grow ({figure(grown)}×): what comes into it did."
    return f" {name} grew {figure(grown)}-fold."
