"""What led up to an event: what grew in the rows before it, in words."""

import numpy as np

from .run import Run, figure, level, ratio

WINDOW = 20
LONG = 0.1
"""‖Δθ‖/‖θ‖ of a weight above which a step is called long; about 1e-3 is usual."""
GROWN = 5.0
LED_UP = "What led up to it"


def longest_update(run: Run, start: int, end: int) -> tuple[int, str, float] | None:
    """Row, name and ‖Δθ‖/‖θ‖ of the longest update of a weight in rows start … end − 1."""
    columns = list(run.weights.values())
    part = run.moved[max(0, start) : end, columns] if columns else np.empty((0, 0))
    if not part.size or np.isnan(part).all():
        return None
    row, place = np.unravel_index(int(np.nanargmax(part)), part.shape)
    return max(0, start) + int(row), run.record.parameters[columns[place]], float(part[row, place])


def growth(values: np.ndarray, start: int, end: int) -> tuple[int, int, float] | None:
    """Column, row it began and factor of what grew most from its level in front to row end − 1."""
    if end - start < 2 or not values.size:
        return None
    before = level(values[max(0, start - WINDOW) : max(1, (start + end) // 2)])
    peak = np.nan_to_num(values[start:end], nan=0.0).max(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.where(before > 0, peak / before, 0.0)
    if not factors.size or not np.isfinite(factors).any():
        return None
    column = int(np.nanargmax(factors))
    high = np.flatnonzero(values[start:end, column] > 2 * before[column])
    return column, start + int(high[0]) if len(high) else end - 1, float(factors[column])


def led_up(run: Run, row: int) -> str:
    """Sentences on what stood out in the rows before `row`; "" where nothing did."""
    start, said = max(0, row - WINDOW), []
    update = longest_update(run, start, row)
    if update and update[2] > LONG:
        said.append(
            f"In step {run.step(update[0])} the update of {update[1]} was {figure(update[2])} times"
            " as long as the weights themselves"
        )
    for values, what in (
        (run.record.grad_rms, "∂L/∂h"),
        (run.record.output_rms, "the output"),
    ):
        grown = growth(run.array(values), start, row)
        if grown and grown[2] > GROWN:
            said.append(
                f"from step {run.step(grown[1])} on {what} of {run.record.layers[grown[0]]} grew "
                f"to {figure(grown[2])} times its level before"
            )
    losses = run.losses[start:row]
    if np.isfinite(losses).sum() > 2:
        first, last = losses[np.isfinite(losses)][[0, -1]]
        if last > 2 * first > 0:
            said.append(f"the loss rose {figure(ratio(last, first))}-fold")
    if not said:
        return ""
    text = "; ".join(said)
    return f" {LED_UP}: {text[:1].lower()}{text[1:]}."
