"""A NaN or Inf that stayed, and its forerunner."""

import numpy as np

from .. import remedies
from ..report import Finding
from ..rules.rule import rule
from .led_up import LONG, led_up, longest_update
from .run import Run

_CLIP = (
    "# before optimizer.step(), and after scaler.unscale_(optimizer) if there is a GradScaler:\n"
    "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)\n"
    "# and a smaller rate, reached by a warm-up:\n"
    'for group in optimizer.param_groups:\n    group["lr"] *= 0.1'
)


@rule()
def non_finite(run: Run) -> Finding | None:
    """The first NaN or Inf, where it did harm: one that a mask or a GradScaler takes is a note."""
    first = run.record.first_nonfinite
    if first is None:
        return None
    row = run.record.steps.index(first.step) if first.step in run.record.steps else run.rows
    if not _harmful(run, first.layer):
        run.notes.append(
            f"the first NaN or Inf, in {first.layer}, {first.pass_name} pass, step {first.step}, "
            "did no harm: the rows after it are finite. A mask makes such an Inf on purpose, and a "
            "GradScaler leaves a step out when its factor was too large."
        )
        return None
    before = led_up(run, row)
    update = longest_update(run, row - 5, row)
    cause = (
        f"The first NaN or Inf stands in {first.layer}, {first.pass_name} pass of step "
        f"{first.step}.{before}"
    )
    if before:
        remedy = _CLIP
        if update and update[2] > LONG:
            cause += (
                " Updates this long throw away what was learned: the learning rate is too large."
            )
    else:
        cause += (
            " Nothing grew before it: outputs, gradients and updates were at their usual level, so "
            "that it comes from this batch or from one operation (log or division at 0, a root at "
            "0, a row that is all masked)."
            if row > 2
            else " It was there before anything could grow: look at the data and the operation."
        )
        remedy = (
            "found = cu.first_nonfinite(model, batch, loss)  # with the batch of that step\n"
            "print(found)  # the operation that made it"
        )
    size = _last_size(run, first.layer)
    return Finding(
        kind="non_finite",
        layers=(first.layer,),
        quantity="RMS of its output in the last finite step" if size == size else "",
        measured=size,
        cause=cause,
        remedy=remedy,
        notebook=remedies.CHAPTERS[6],
        step=first.step,
    )


def _harmful(run: Run, layer: str) -> bool:
    """Whether rows at the end are broken, or it is the loss that was not finite at the end."""
    bad = run.broken_rows()
    if bad[-1]:
        return True
    if layer == "(loss)":
        return not np.isfinite(run.record.losses[-1].item())
    return False


def _last_size(run: Run, layer: str) -> float:
    if layer not in run.record.layers or not run.rows:
        return float("nan")
    return float(run.array(run.record.output_rms)[-1, run.record.layers.index(layer)])
