"""Updates that are lost in rounding: a gradient arrives, and the weights stay as they are."""

import math

import numpy as np

from .. import remedies
from ..report import Finding
from ..rules.rule import rule
from ..slope import LIMIT
from .run import FEWEST, Run, figure, level

OFTEN = 0.25
"""Share of the rows with a gradient in which a parameter did not move."""
ROUNDING = 1e-6
"""‖Δθ‖/‖θ‖ below which a float32 loses updates; 16 bits lose them below 1e-2."""


def stuck_rows(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """(rows, parameters) where a gradient arrived and nothing moved; and where anything moved."""
    moved = run.record.update_ratio[: run.rows].numpy()
    grads = run.array(run.record.parameter_grad_rms)
    return (moved == 0) & (grads > 0), (moved > 0) & (grads > 0)


def switched_off(run: Run, stuck: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Parameters that moved in every step, well above rounding, and from one step on never."""
    found = np.zeros(stuck.shape[1], dtype=bool)
    for place in range(stuck.shape[1]):
        still, moves = np.flatnonzero(stuck[:, place]), np.flatnonzero(moving[:, place])
        if len(still) and len(moves) and moves[-1] < still[0]:
            last = run.moved[moves[-3:], place]
            found[place] = not np.nanmedian(last) < ROUNDING
    return found


def _round_off(run: Run) -> np.ndarray:
    """Parameters whose gradient is itself rounding: a bias in front of a norm that takes it out."""
    sizes = level(run.array(run.record.parameter_grad_rms))
    names = run.record.parameters
    largest: dict[str, float] = {}
    for name, size in zip(names, sizes, strict=True):
        largest[run.owner(name)] = max(largest.get(run.owner(name), 0.0), np.nan_to_num(size))
    own = [largest[run.owner(name)] for name in names]
    return np.asarray(sizes < 1e-4 * np.array(own))


def _faded(run: Run, stuck: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Parameters whose gradient fell by more than 100× from when they moved to when they did not.

    The format is not at fault there: a layer is saturated, or everything is learned.
    """
    grads = run.array(run.record.parameter_grad_rms)
    before = np.nanquantile(np.where(moving, grads, math.nan), 0.9, axis=0)
    return np.asarray(level(np.where(stuck, grads, math.nan)) < before / LIMIT)


@rule()
def update_lost(run: Run) -> Finding | None:
    """Parameters with a gradient whose update is exactly 0 while others move, or after tiny ones.

    Where nothing at all moves from one step on, and updates before were no small ones, the rate is
    0: that is a run that stopped.
    """
    if not run.has_updates or run.rows < FEWEST:
        return None
    stuck, moving = stuck_rows(run)
    together = np.asarray(moving.any(1))
    seen = (stuck | moving).sum(0)
    while_others = stuck & together[:, None]
    tail = max(FEWEST // 2, run.rows // 4)
    share = while_others.sum(0) / np.maximum(seen, 1)
    late = while_others[-tail:].sum(0) / np.maximum((stuck | moving)[-tail:].sum(0), 1)
    lost = (seen >= FEWEST) & (np.maximum(share, late) >= OFTEN)
    lost &= ~switched_off(run, stuck, moving) & ~_round_off(run) & ~_faded(run, stuck, moving)
    rows = np.flatnonzero(while_others[:, lost].any(1))
    if not lost.any():
        lost = _all_at_the_end(run, stuck, moving)
        rows = np.flatnonzero(stuck[:, lost].any(1))
        if not lost.any():
            return None
    names = [name for name, one in zip(run.record.parameters, lost, strict=True) if one]
    run.lost.update(names)
    portion = float(stuck[:, lost].sum() / np.maximum(seen[lost].sum(), 1))
    small = run.moved[:, lost]
    smallest = small[np.isfinite(small) & (small > 0)]
    before = (
        f" Where they moved it was by {figure(float(np.median(smallest)))} of their size."
        if len(smallest)
        else " They never moved. (If the learning rate of their group is 0 to freeze them, "
        "requires_grad_(False) says so.)"
    )
    step = run.step(int(rows[0]))
    return Finding(
        kind="update_lost",
        layers=tuple(dict.fromkeys(map(run.owner, names))),
        quantity="share of the steps with a gradient that change nothing",
        measured=portion,
        predicted=0.0,
        cause=f"From step {step} on a gradient reaches {run.in_words(names)}, but in "
        f"{portion:.0%} of the steps the weights stay exactly as they are: an update shorter than "
        f"half the distance between two numbers of the format is rounded away.{before}",
        remedy="model.float()  # weights in float32; only the forward pass in 16 bits:\n"
        "# with torch.autocast(device_type, dtype=torch.bfloat16): output = model(x)\n"
        "# in float32 already: a learning rate that does not fall this low",
        notebook=remedies.CHAPTERS[12],
        step=step,
    )


def _all_at_the_end(run: Run, stuck: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Parameters that stand still to the end, after updates at the edge of rounding."""
    none = np.zeros(stuck.shape[1], dtype=bool)
    still = np.asarray(stuck.any(1) & ~moving.any(1))
    rates = run.array(run.record.lr)
    last = np.flatnonzero(moving.any(1))
    if not len(last):  # never moved: whatever the rate was, a step changed nothing
        return np.asarray(stuck.sum(0) >= FEWEST) & (rates != 0).any()
    count = run.rows - 1 - int(last[-1])
    if not still[-1] or count < max(FEWEST // 2, run.rows // 10):
        return none
    if np.isfinite(rates[-1]):
        return stuck[-1] if rates[-1] > 0 else none
    before = run.moved[max(0, int(last[-1]) - 4) : int(last[-1]) + 1]
    with np.errstate(invalid="ignore"):
        sizes = before[before > 0]
    return stuck[-1] if len(sizes) and float(np.median(sizes)) < ROUNDING else none
