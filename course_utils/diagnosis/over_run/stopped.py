"""A layer, or the whole network, that stopped learning."""

import math

import numpy as np

from .. import remedies
from ..report import Finding
from ..rules.rule import rule
from ..slope import LIMIT
from .led_up import LONG, led_up
from .run import FEWEST, Run, figure, level, levels
from .update_lost import stuck_rows, switched_off

USUAL_PLACE = 0.75
"""Quantile over the parameters that says how far all of them have come."""


@rule()
def stopped(run: Run) -> Finding | None:
    """Weights whose update fell by more than 100× beside that of the others, to the end."""
    if run.rows < 2 * FEWEST:
        return None
    still = None if run.lost else _all_stand_still(run) or _switched_off(run)
    return still or _no_gradient_any_more(run) or _left_behind(run)


def _tail(run: Run) -> int:
    return max(FEWEST // 2, run.rows // 10)


def _all_stand_still(run: Run) -> Finding | None:
    """No parameter moves any more though gradients arrive, or no gradient arrives at all."""
    stuck, moving = stuck_rows(run)
    grads = run.array(run.record.parameter_grad_rms)
    silent = (grads == 0).any(1) & ~(grads > 0).any(1)
    still = silent | (stuck.any(1) & ~moving.any(1))
    going = np.flatnonzero(~still)
    row = int(going[-1]) + 1 if len(going) else 0
    if run.rows - row < _tail(run):
        return None
    if silent[row:].all():
        why = "Every gradient is exactly 0: nothing the network does reaches the loss any more."
        remedy = "cu.diagnose(model, batch, loss)  # names the operation that takes the gradient"
    else:
        why = (
            "Gradients arrive, and no parameter moves: the learning rate has become 0. A schedule "
            "that was made for fewer steps than were run does that."
        )
        remedy = (
            "# make the schedule as long as the run:\n"
            "scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)"
        )
    return Finding(
        kind="stopped",
        quantity="recorded steps in which nothing moved",
        measured=float(run.rows - row),
        cause=f"From step {run.step(row)} to the end the network stands still.{led_up(run, row)} "
        f"{why}",
        remedy=remedy,
        notebook=remedies.CHAPTERS[12],
        step=run.step(row),
    )


def _no_gradient_any_more(run: Run) -> Finding | None:
    """Parameters that got a gradient, and from one step on get none (or exactly 0)."""
    grads = np.nan_to_num(run.array(run.record.parameter_grad_rms), nan=0.0)
    found = []
    for place in range(grads.shape[1]):
        there = np.flatnonzero(grads[:, place] > 0)
        if not len(there):
            continue
        row = int(there[-1]) + 1
        regular = len(there) >= 0.9 * row
        if regular and run.rows - row >= _tail(run) and row >= 3:
            found.append((row, place))
    if not found:
        return None
    names = [run.record.parameters[place] for _, place in sorted(found, key=lambda one: one[1])]
    row, _ = min(found)
    unset = bool(run.record.parameter_grad_rms[row:, found[0][1]].isnan().all())
    return Finding(
        kind="stopped",
        layers=tuple(dict.fromkeys(map(run.owner, names))),
        quantity="recorded steps without a gradient",
        measured=float(run.rows - row),
        cause=f"{run.in_words(names)} got a gradient up to step {run.step(row - 1)}, and from step "
        f"{run.step(row)} to the end "
        + (
            "none: frozen, detached, or not used any more. If they were frozen on purpose, all is "
            "well."
            if unset
            else f"exactly 0.{led_up(run, row)}"
        ),
        remedy="for parameter in model.parameters():\n    parameter.requires_grad_(True)"
        if unset
        else "cu.diagnose(model, batch, loss)  # names the operation that takes the gradient",
        notebook=remedies.CHAPTERS[12],
        step=run.step(row),
    )


def _switched_off(run: Run) -> Finding | None:
    """Parameters that moved in each step, and from one step on do not, while others do."""
    stuck, moving = stuck_rows(run)
    off = np.flatnonzero(switched_off(run, stuck, moving))
    rows = {int(place): int(np.flatnonzero(stuck[:, place])[0]) for place in off}
    rows = {place: row for place, row in rows.items() if run.rows - row >= _tail(run)}
    if not rows:
        return None
    names, row = [run.record.parameters[place] for place in rows], min(rows.values())
    return Finding(
        kind="stopped",
        layers=tuple(dict.fromkeys(map(run.owner, names))),
        quantity="recorded steps in which it did not move",
        measured=float(run.rows - row),
        cause=f"Up to step {run.step(row - 1)} {run.in_words(names)} moved in each step, and from "
        f"step {run.step(row)} to the end not at all, though gradients arrive and other layers "
        "move: the learning rate of its group has become 0. If that is to freeze it, all is well.",
        remedy='for group in optimizer.param_groups:\n    print(group["lr"], len(group["params"]))',
        notebook=remedies.CHAPTERS[12],
        step=run.step(row),
    )


def _left_behind(run: Run) -> Finding | None:
    """Weights whose update (or gradient) fell by 100× and more beside that of the others."""
    weights = run.weights
    grads = run.array(run.record.parameter_grad_rms)
    sizes = np.where(np.isnan(grads), math.nan, run.moved) if run.has_updates else grads
    lost = {i for i, name in enumerate(run.record.parameters) if name in run.lost}
    weights = {c: place for c, place in weights.items() if place not in lost}
    columns = [c for c in weights if np.isfinite(sizes[:, weights[c]]).sum() >= FEWEST]
    if len(columns) < 2:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(sizes[:, [weights[c] for c in columns]])
    bottom = float(np.nanmin(np.where(np.isfinite(logs), logs, math.nan))) - 2 * math.log(LIMIT)
    logs = levels(np.where(np.isneginf(logs), bottom, logs), max(5, run.rows // 15))
    begun = np.cumsum(~np.isnan(logs), axis=0) <= max(3, run.rows // 4)
    early = np.nanmedian(np.where(begun, logs, math.nan), axis=0)  # the first rows it is known in
    if run.has_updates:
        early = np.minimum(
            early, math.log(LONG / 4)
        )  # weights that start at 0 take long steps first
    change = logs - early
    others = np.nanquantile(np.where(np.isfinite(change), change, math.nan), USUAL_PLACE, axis=1)
    behind = change - np.minimum(others, 0.0)[:, None]
    low = (behind < -math.log(LIMIT)) & (change < -math.log(LIMIT) / 2)  # fell by itself too
    found = []
    for i, column in enumerate(columns):
        high = np.flatnonzero(~low[:, i])
        row = int(high[-1]) + 1 if len(high) else 0
        if run.rows - row >= _tail(run):
            found.append((row, column, math.exp(-float(level(behind[row:, i])))))
    if not found:
        return None
    row, column, factor = min(found)
    name = run.record.layers[column]
    what = "update" if run.has_updates else "gradient"
    return Finding(
        kind="stopped",
        layers=tuple(run.record.layers[c] for _, c, _ in sorted(found, key=lambda one: one[1])),
        quantity=f"times less {what} than early in the run, beside the other layers",
        measured=factor,
        predicted=1.0,
        cause=f"From step {run.step(row)} on the relative {what} of {name} is {figure(factor)} "
        f"times smaller than it was, while other layers go on.{_saturated(run, column, row)}"
        f"{led_up(run, row)}",
        remedy="cu.diagnose(model, batch, loss)  # what takes the gradient on its way back\n"
        "# saturated or dead layers behind it need new weights and a smaller learning rate",
        notebook=remedies.CHAPTERS[4],
        step=run.step(row),
    )


def _saturated(run: Run, column: int, row: int) -> str:
    shares = run.array(run.record.saturated_fraction)[row:, column:]
    if not np.isfinite(shares).any():
        return ""
    levels_of = level(shares)
    worst = int(np.nanargmax(levels_of))
    if not levels_of[worst] > 0.5:
        return ""
    layer = run.record.layers[column + worst]
    return f" {layer} is saturated in {levels_of[worst]:.0%} of its entries by then."
