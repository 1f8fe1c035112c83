"""The loss left for good: updates too long, or something else that pushed it up."""

import math

import numpy as np

from .. import remedies
from ..report import Finding
from ..rules.rule import rule
from .course import Course, course
from .led_up import LONG, WINDOW, led_up, longest_update
from .run import Run, figure, level

UP = 2.0
"""A loss that ends at more than this many times its first level has diverged."""
USUAL = 1e-3


@rule(silences=("growing_output",))
def diverged(run: Run) -> Finding | None:
    """A loss that ends far above where it began, or that lost over half of what it had learned."""
    found = course(run.losses)
    if found is None:
        return None
    row = _above_the_start(found)
    what = "above where it began"
    if row is None:
        row = _lost_again(found)
        what = "back from its best"
    if row is None:
        return None
    start = int(found.rows[row])
    end = min(run.rows, start + WINDOW)
    update = longest_update(run, start - 3, end)
    said = (
        f"From step {run.step(start)} on the loss went {what}: first {figure(found.first)}, best "
        f"{figure(found.best)}, at the end {figure(found.last)}."
    )
    layers: tuple[str, ...] = ()
    remedy = 'for group in optimizer.param_groups:\n    group["lr"] *= 0.1'
    measured, quantity = found.last / found.first if found.first else math.nan, "last loss/first"
    usual = _usual_update(run)
    if update and update[2] > LONG:
        layers = (run.owner(update[1]),)
        measured, quantity = update[2], "‖Δθ‖/‖θ‖ of the longest update when it began"
        shrink = min(0.5, 10 * USUAL / max(usual, 1e-12))
        said += (
            f" Updates were too long: in step {run.step(update[0])} that of {update[1]} was "
            f"{figure(update[2])} times as long as the weights, where {USUAL:g} is usual. The "
            "learning rate is too large, at least at this point of its schedule."
        )
        remedy = (
            f'for group in optimizer.param_groups:\n    group["lr"] *= {shrink:.1g}  '
            "# and reach it by a warm-up over the first steps"
        )
    elif update:
        said += (
            f" The longest update around it was {figure(update[2])} of its weights, which is not "
            "long: look at the batches, at the sign of the loss, and at a schedule that changed."
            f"{led_up(run, start + 1)}"
        )
    else:
        said += (
            f"{led_up(run, start + 1)} How long the updates were is not in the record: give "
            "optimizer= to cu.record."
        )
    return Finding(
        kind="diverged",
        layers=layers,
        quantity=quantity,
        measured=measured,
        cause=said,
        remedy=remedy,
        notebook=remedies.CHAPTERS[6],
        step=run.step(start),
    )


def _usual_update(run: Run) -> float:
    columns = list(run.weights.values())
    return float(np.nanmax(level(run.moved[:, columns]))) if columns and run.has_updates else 1.0


def _above_the_start(found: Course) -> int | None:
    """Place of the last value at the first level, if the end is UP times as high or more.

    A loss that is negative somewhere has no such factor: then by more than its first size.
    """
    first, last = found.first, found.last
    low = min(first, float(found.values[0]))
    if (found.values > 0).all():
        logs = np.log(found.values)
        scatter = 1.48 * float(np.median(np.abs(np.diff(logs)))) / math.sqrt(2)
        rise = math.log(last) - math.log(low)
        if not rise > max(math.log(UP), 3 * scatter):
            return None
        limit = low * math.sqrt(UP)
    elif not last - low > max((UP - 1) * abs(low), 5 * found.scatter):
        return None
    else:
        limit = low + 0.1 * (last - low)
    below = np.flatnonzero(found.values <= limit)
    return int(below[-1]) if len(below) else 0


def _lost_again(found: Course) -> int | None:
    """Place where the loss left its best level, if it ends over half-way back to the first."""
    if not found.learned or len(found.values) < 20:
        return None
    half = found.best + 0.5 * found.progress
    tail = found.values[-max(3, len(found.values) // 10) :]
    if not (found.last > half and np.quantile(tail, 0.25) > half):
        return None
    good = np.flatnonzero(found.smooth <= found.best + 0.2 * found.progress)
    return int(good[-1])
