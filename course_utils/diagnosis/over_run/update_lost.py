"""Updates that are lost in rounding: a gradient arrives, and the weights stay as they are."""

import numpy as np

from .. import remedies
from ..report import Finding
from ..rules.rule import rule
from .run import FEWEST, Run, figure

OFTEN = 0.25
"""Share of the rows with a gradient in which a parameter did not move."""
ROUNDING = 1e-6
"""‖Δθ‖/‖θ‖ below which a float32 loses updates; 16 bits lose them below 1e-2."""


def stuck_rows(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """(rows, parameters) where a gradient arrived and nothing moved; and where anything moved."""
    moved = run.record.update_ratio[: run.rows].numpy()
    grads = run.array(run.record.parameter_grad_rms)
    return (moved == 0) & (grads > 0), (moved > 0) & (grads > 0)


@rule(silences=("stopped",))
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
    rows = np.flatnonzero(while_others[:, lost].any(1))
    if not lost.any():
        lost = _all_at_the_end(run, stuck, moving)
        rows = np.flatnonzero(stuck[:, lost].any(1))
        if not lost.any():
            return None
    names = [name for name, one in zip(run.record.parameters, lost, strict=True) if one]
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
    last = np.flatnonzero(moving.any(1))
    count = run.rows - 1 - int(last[-1]) if len(last) else 0
    if not still[-1] or count < max(FEWEST // 2, run.rows // 10):
        return none
    before = run.moved[max(0, int(last[-1]) - 4) : int(last[-1]) + 1]
    with np.errstate(invalid="ignore"):
        sizes = before[before > 0]
    return stuck[-1] if len(sizes) and float(np.median(sizes)) < ROUNDING else none
