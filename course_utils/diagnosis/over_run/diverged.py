"""The loss left for good: updates too long, or something else that pushed it up."""

import math

import numpy as np

from .. import remedies
from ..report import Finding
from ..rules.rule import rule
from .course import Course, course
from .led_up import LONG, WINDOW, led_up, longest_update
from .run import Run, figure, level, ratio

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
        row = _thrown_away(found)
        what = "far up, and took the weights with it"
    if row is None:
        return None
    start = int(found.rows[row])
    update = longest_update(run, start - 3, start + 5)
    first = min(found.first, float(found.values[0]))
    said = (
        f"From step {run.step(start)} on the loss went {what}: first {figure(first)}, best "
        f"{figure(found.best)}, at the end {figure(found.last)}."
    )
    layers: tuple[str, ...] = ()
    remedy = 'for group in optimizer.param_groups:\n    group["lr"] *= 0.1'
    measured, quantity = ratio(found.last, first), "last loss/first"
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
    if low > 0 and (found.values >= 0).all():
        logs = np.log(np.maximum(found.values, 1e-6 * low))
        scatter = 1.48 * float(np.median(np.abs(np.diff(logs)))) / math.sqrt(2)
        rise = math.log(max(last, 1e-6 * low) / low)
        late = found.values[-max(4, len(found.values) // 4) :]
        clear = np.quantile(late, 0.25) > 2 * UP * found.values[0]  # however it scatters
        sure = 2.5 if low == first else 3.5  # a single value may be low by chance
        if not (clear or rise > max(math.log(UP), sure * scatter)):
            return None
        limit = low * math.sqrt(UP)
    elif not last - low > max((UP - 1) * abs(low), 5 * found.scatter):
        return None
    else:
        limit = low + 0.1 * (last - low)
    return _since(found.smooth > limit)


def _lost_again(found: Course) -> int | None:
    """Place where the loss left its best level, if it ends over half-way back to the first."""
    start = int(found.smooth.argmin())
    if not found.learned or len(found.values) < 20:
        return None
    half = found.best + 0.5 * found.progress
    good = found.values[max(0, start - WINDOW // 2) : start + 3]
    tail = found.values[-max(5, len(found.values) // 10) :]
    if not (found.last > half and np.quantile(tail, 0.25) > max(half, np.quantile(good, 0.9))):
        return None
    return start + _since(found.smooth[start:] > max(half, float(np.quantile(good, 0.9))))


def _thrown_away(found: Course) -> int | None:
    """Place where the loss went up 10× for some values on end, after which nothing was learned."""
    first = float(found.values[0])
    if not (first > 0 and (found.values >= 0).all()):
        return None
    far = found.values > 10 * first
    if found.last < 0.75 * min(first, found.first) and far.mean() < 0.1:
        return None
    places = np.flatnonzero(far[:-2] & far[1:-1] & far[2:])
    return int(places[0]) if len(places) else None


def _since(high: np.ndarray) -> int:
    """The first place that is high and behind which four in five are."""
    share = np.cumsum(high[::-1])[::-1] / np.arange(len(high), 0, -1)
    places = np.flatnonzero(high & (share >= 0.8))
    return int(places[0]) if len(places) else len(high) - 1
