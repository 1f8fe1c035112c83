"""A spike: a gradient or a loss far outside, what led up to it and what it did."""

import math
from typing import NamedTuple

import numpy as np

from .. import remedies
from ..report import Finding
from ..rules.rule import rule
from .course import course
from .led_up import led_up
from .run import FEWEST, Run, figure, level

GAP = 10.0
"""A spike is this many times as high as the next lower value of the whole run."""
EARLY = 5
"""Rows in which a run finds its level."""
DAMAGE = 0.25
"""Share of what was learned that a jump of the loss takes back, for steps on end."""


class Jump(NamedTuple):
    """Where something jumped, and by how much."""

    row: int
    height: float
    quantity: str
    layer: str


@rule()
def spike(run: Run) -> Finding | None:
    """A gradient or loss that stands alone far above the rest, or a loss that fell back at once."""
    if run.rows < 2 * FEWEST:
        return None
    jumps = [jump for jump in (_alone(run), _fell_back(run)) if jump]
    if not jumps:
        return None
    found = min(jumps, key=lambda jump: jump.row)
    return Finding(
        kind="spike",
        layers=(found.layer,) if found.layer else (),
        quantity=found.quantity,
        measured=found.height,
        cause=f"In step {run.step(found.row)} there is a jump: {figure(found.height)} "
        f"{found.quantity}.{led_up(run, found.row)} {_what_it_did(run, found.row)}",
        remedy="# before optimizer.step(): the usual norm of this run as the limit\n"
        "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)\n"
        "# and look at the batch of that step",
        notebook=remedies.CHAPTERS[6],
        step=run.step(found.row),
    )


def gradient_sizes(run: Run) -> np.ndarray:
    """One size per row: the geometric mean over parameters, each relative to its own median."""
    grads = run.array(run.record.parameter_grad_rms)
    if not grads.size:
        grads = run.array(run.record.grad_rms)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(grads > 0, grads / level(grads), math.nan)
        return np.exp(level(np.log(relative).T)) if relative.size else np.full(run.rows, math.nan)


def outliers(values: np.ndarray) -> np.ndarray:
    """Places of at most 5 % of the values, behind a gap of `GAP` to all others; not the first."""
    known = np.where(np.isfinite(values) & (values > 0), values, 0.0)
    order = np.argsort(known)[::-1]
    for count in range(1, max(1, len(values) // 20) + 1):
        low, rest = known[order[count - 1]], known[order[count]]
        if rest > 0 and low > GAP * rest:
            return np.sort(order[:count])
    return np.array([], dtype=int)


def _alone(run: Run) -> Jump | None:
    losses = run.losses
    series = [(gradient_sizes(run), "times the usual gradient of this run")]
    if np.isfinite(losses).sum() > 2 * FEWEST and np.nanmin(losses) >= 0:
        series.append((losses / float(level(losses)), "times the usual loss of this run"))
    jumps = []
    for values, what in series:
        places = outliers(values)
        places = places[places >= EARLY]
        if len(places) and not _climbs(values, int(places[0])):
            first = int(places[0])
            around = places[places <= first + EARLY]
            jumps.append(Jump(first, float(values[around].max()), what, _where(run, first)))
    return min(jumps, key=lambda jump: jump.row, default=None)


def _climbs(values: np.ndarray, row: int) -> bool:
    """Whether it was reached step by step, as where a network leaves a plateau or diverges."""
    before = values[max(0, row - 3) : row]
    known = before[np.isfinite(before)]
    return bool(len(known)) and values[row] < 0.5 * GAP * known.max()


def _where(run: Run, row: int) -> str:
    """The layer whose ∂L/∂h jumped most."""
    grads = run.array(run.record.grad_rms)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = grads[row] / level(grads[max(0, row - 20) : row])
    relative = np.where(np.isfinite(relative), relative, 0.0)
    return run.record.layers[int(relative.argmax())] if relative.size and relative.any() else ""


def _fell_back(run: Run) -> Jump | None:
    """A loss that jumps from one row to the next and stays up for steps on end."""
    found = course(run.losses, fewest=2 * FEWEST)
    if found is None or not found.learned:
        return None
    values, best = found.values, None
    for i in range(max(EARLY, 8), len(values) - 4):
        before, after = values[max(0, i - 20) : i], values[i : i + 5]
        usual = float(np.median(before[-8:]))
        high = float(np.max(before[-8:]))
        jump = float(np.median(after)) - usual
        if (
            after[0] > high
            and jump > DAMAGE * found.progress
            and jump > 3 * (high - usual) + 3 * _noise(before)
        ):
            above = after > max(
                high, usual + DAMAGE * found.progress
            )  # a value before may be noise
            best = Jump(
                int(found.rows[i + int(above.argmax())]),
                jump / found.progress,
                "of all that was learned is taken back by the loss, for steps on end",
                "",
            )
            break
    return best


def _noise(values: np.ndarray) -> float:
    return float(1.48 * np.median(np.abs(np.diff(values))) / math.sqrt(2))


def _what_it_did(run: Run, row: int) -> str:
    losses = run.losses
    before = losses[max(0, row - 10) : row]
    after = losses[row : row + EARLY]
    if not (np.isfinite(before).any() and np.isfinite(after).any()):
        return "What it did to the loss is not in the record: give loss= to recorder.step()."
    usual, high = float(level(before)), float(np.nanmax(after))
    top = float(np.nanmax(before))
    text = f"The loss stood at {figure(usual)} before"
    if high <= top + 0.5 * abs(top - usual):
        return f"{text} and did not take notice."
    later = losses[row:]
    limit = top + 0.1 * abs(high - top)
    back = [
        i for i in range(len(later)) if np.isfinite(later[i : i + 3]).any()
        and np.nanmax(later[i : i + 3]) <= limit and i + 3 <= len(later)
    ]  # fmt: skip
    if back:
        return (
            f"{text}, rose to {figure(high)} and was back after {back[0]} recorded steps, at step "
            f"{run.step(row + back[0])}."
        )
    return (
        f"{text}, rose to {figure(high)}, and has not come back: {figure(losses[-1])} at the end."
    )
