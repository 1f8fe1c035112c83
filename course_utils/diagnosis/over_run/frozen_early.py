"""Early layers that hardly move over the whole run, behind norms or at the end of a long way."""

import math

import numpy as np

from .. import remedies
from ..report import Finding
from ..rules.rule import rule
from .run import FEWEST, Run, figure, level

FAR = 30.0
"""The early layers move this many times less than the later ones."""


@rule()
def frozen_early(run: Run) -> Finding | None:
    """Relative updates of the first layers far below those of the later ones, over the whole run.

    Behind a norm a weight has no scale of its own: its gradient is as 1/‖W‖, its relative update
    as 1/‖W‖². One long first step, or a large start, makes ‖W‖ large and the layer slow for good.
    """
    if run.rows < FEWEST or not run.has_updates:
        return None
    columns = list(run.weights)
    if len(columns) < 4:
        return None
    columns = columns[:-1] if len(columns) > 4 else columns  # the head is another matter
    moved = run.moved[:, [run.weights[c] for c in columns]]
    third = max(1, len(columns) // 3)
    rows = moved[max(1, run.rows // 10) :]
    usual = level(rows)
    early, later = float(np.nanmedian(usual[:third])), float(np.nanmedian(usual[third:]))
    with np.errstate(invalid="ignore"):
        by_row = level(rows[:, third:].T) / level(rows[:, :third].T)
        throughout = np.isfinite(by_row).any() and np.nanmean(by_row > FAR / 3) >= 0.8
    if not (early > 0 and later > FAR * early and throughout):
        return None
    low = [c for c, size in zip(columns, usual, strict=True) if size < later / FAR]
    normed = any("Norm" in kind for kind in run.record.layer_types)
    with np.errstate(invalid="ignore"):
        apart = level(moved[:, third:].T) > FAR * level(moved[:, :third].T)
    row = int(np.flatnonzero(apart)[0]) if apart.any() else 0
    return Finding(
        kind="frozen_early",
        layers=tuple(run.record.layers[c] for c in low),
        quantity="‖Δθ‖/‖θ‖ per step of the later layers over that of the early ones",
        measured=later / early,
        predicted=1.0,
        cause=f"Over the run one step changes the early layers by {figure(early)} of their size "
        f"and the later ones by {figure(later)}: {figure(later / early)} times as much."
        + (_behind_norms(run, low) if normed else _faded(run)),
        remedy=_REMEDY if normed else remedies.kaiming("relu"),
        notebook=remedies.CHAPTERS[7 if normed else 8],
        step=run.step(row),
    )


_REMEDY = (
    "# a warm-up keeps the first steps from blowing up ‖W‖; then start again:\n"
    "warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=100)\n"
    "# or skips around each block: see cu.mlp(..., norm='batch', skip=True)"
)


def _behind_norms(run: Run, low: list[int]) -> str:
    sizes = run.array(run.record.parameter_rms)[:, [run.weights[c] for c in low]]
    grown = float(np.nanmax(level(sizes[-3:]) / sizes[0])) if len(sizes) else math.nan
    text = " Behind a norm the relative update of a weight goes as 1/‖W‖²:"
    if grown > 2:
        return f"{text} their weights grew {figure(grown)}-fold, and that freezes them."
    return f"{text} theirs were large from the start, or got a small gradient."


def _faded(run: Run) -> str:
    grads = level(run.array(run.record.grad_rms))[run.trunk]
    known = grads[np.isfinite(grads)]
    if len(known) < 2 or not known[-1] > 0:
        return ""
    return (
        f" ∂L/∂h at the first layer is {figure(float(known[0] / known[-1]))} of that at the last: "
        "it fades on the way back."
    )
