"""Units that die while the network trains."""

import numpy as np

from .. import remedies
from ..report import Finding
from ..rules.rule import rule
from .led_up import LONG, led_up, longest_update
from .run import FEWEST, Run, figure, levels

DEAD = 0.5
"""Share of dead units at the end that is a finding,"""
MORE = 0.3
"""if it is this much more than at the start."""
SILENT = 0.99
"""Where a layer has no living unit the start does not matter."""


@rule(silences=("stopped",))
def dying(run: Run) -> Finding | None:
    """ReLU layers in which most units end dead for each batch, and did not begin so."""
    if run.rows < FEWEST:
        return None
    dead = run.array(run.record.dead_fraction)
    found = []
    for column in range(dead.shape[1]):
        shares = dead[:, column]
        known = np.flatnonzero(~np.isnan(shares))
        if len(known) < FEWEST:
            continue
        shares = shares[known]
        end = float(np.quantile(shares[-max(5, len(shares) // 4) :], 0.1))
        start = float(np.median(shares[:3]))
        if end >= SILENT or (end >= DEAD and end - start >= MORE):
            smooth = levels(shares, 5)
            low = np.flatnonzero(smooth < start + 0.5 * (end - start))
            row = int(known[low[-1]]) + 1 if len(low) else int(known[0])
            found.append((row, column, start, end))
    if not found:
        return None
    row, _, _, _ = min(found)
    _, worst, start, end = max(found, key=lambda one: one[3])
    update = longest_update(run, row - 10, row + 1)
    cause = (
        f"The share of dead units of {run.record.layers[worst]} went from {start:.0%} to {end:.0%}"
        f", from step {run.step(row)} on."
        if end > start
        else f"{run.record.layers[worst]} has no living unit, from the first recorded step on."
    )
    if update and update[2] > LONG:
        cause += (
            f" One long update did it: in step {run.step(update[0])} that of {update[1]} was "
            f"{figure(update[2])} times as long as the weights, and pushed the units below 0 for "
            "every sample. A dead unit gets no gradient, so it stays dead."
        )
    else:
        cause += led_up(run, row) + " A dead unit gets no gradient, so it stays dead."
    return Finding(
        kind="dying",
        layers=tuple(run.record.layers[column] for _, column, _, _ in sorted(found, key=_column)),
        quantity="share of units that are 0 for the whole batch, at the end",
        measured=end,
        predicted=start,
        cause=cause,
        remedy='for group in optimizer.param_groups:\n    group["lr"] *= 0.1\n'
        "# a layer that is dead already needs new weights, or nn.LeakyReLU(0.1) for nn.ReLU()",
        notebook=remedies.CHAPTERS[4],
        step=run.step(row),
    )


def _column(one: tuple) -> int:
    return one[1]
