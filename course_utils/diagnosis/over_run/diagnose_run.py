"""Ask the record of a whole run what went wrong, when, and what led up to it."""

import warnings
from dataclasses import replace

import numpy as np

from ...recording import GradientRecord
from ..report import KINDS, Diagnosis
from .diverged import diverged
from .dying import dying
from .frozen_early import frozen_early
from .growing_output import growing_output
from .healthy import healthy
from .led_up import LED_UP, WINDOW
from .non_finite import non_finite
from .run import FEWEST, Run
from .spike import spike
from .stopped import stopped
from .update_lost import update_lost

RULES = (
    non_finite,
    diverged,
    growing_output,
    dying,
    update_lost,
    spike,
    stopped,
    frozen_early,
    healthy,
)
"""In the order in which they are asked."""

ON_THE_WAY = {
    "diverged": "the loss diverged from step",
    "spike": "there was a jump from step",
}
"""What else is found of a run that overflows, and how it is said."""


def diagnose_run(record: GradientRecord) -> Diagnosis:
    """Find out what went wrong over the steps of a run, when it began, and what led up to it.

    It rests on the record alone and is free of scale: every figure is compared with others of the
    same run, so a factor in front of the loss changes no verdict. The kinds:

    - `non_finite`: a NaN or Inf that stayed, with its forerunner;
    - `diverged`: a loss that ends at twice its first level or more, or that lost over half of
      what it had learned;
    - `growing_output`: a layer's output that grows 10× and on, while the loss does not fall;
    - `dying`: ReLU layers in which over half of the units end dead, and did not begin so;
    - `update_lost`: steps with a gradient that leave weights exactly as they were;
    - `spike`: a gradient or a loss that stands 10× above the rest of the run, or a loss that
      jumps back by a quarter of what was learned; and what it did;
    - `stopped`: layers whose update ‖Δθ‖/‖θ‖ falls by more than 100× beside the others, to the
      end, or all of them at once;
    - `frozen_early`: first layers that move 5 to 20× less than most others, all the time;
    - `healthy`: nothing of these; `undecided`: too few rows to say so.

    A loss that diverges, or spikes, and overflows within some twenty rows is one finding, the
    non-finite one, which says when it began.

    Args:
        record: What `cu.record(model, optimizer=optimizer)` recorded, with `recorder.step(loss)`.
            Without the optimizer or the loss less can be seen; the notes say what.

    Returns:
        A `Diagnosis` whose findings have a `.step`: that at which each began. Most urgent first.

    Raises:
        TypeError: If it is no record.

    >>> import torch, course_utils as cu
    >>> net = cu.mlp(2, 8, inputs=4, generator=cu.seeded(0))
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=1e4)
    >>> x, y = torch.randn(32, 4, generator=cu.seeded(1)), torch.arange(32) % 10
    >>> with cu.record(net, optimizer=optimizer) as recorder:
    ...     for _ in range(12):
    ...         optimizer.zero_grad()
    ...         loss = torch.nn.functional.cross_entropy(net(x), y)
    ...         loss.backward()
    ...         optimizer.step()
    ...         recorder.step(loss=loss)
    >>> found = diagnose_run(recorder.record)
    >>> {one.kind: one.step for one in found.findings}
    {'non_finite': 6}
    >>> "the loss diverged from step 0 on" in found.findings[0].cause
    True
    """
    if not isinstance(record, GradientRecord):
        raise TypeError(
            f"record={record!r} is a {type(record).__name__}: a GradientRecord is expected, what "
            "`recorder.record` holds after `with cu.record(model) as recorder:`."
        )
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of columns that are NaN all over
        run = Run(record)
        _missing(run)
        for rule in RULES:
            run.ask(rule)
        _join(run)
    return Diagnosis(
        findings=tuple(
            replace(one, where=run.in_words(one.layers))
            for one in sorted(run.findings, key=lambda one: KINDS.index(one.kind))
        ),
        record=record,
        notes=tuple(map(_sentence, run.notes)),
        undecided=tuple(map(_sentence, run.undecided)),
    )


def _join(run: Run) -> None:
    """Make one finding of a blow-up that was found several times: on its way, and at its end."""
    end = next((one for one in run.findings if one.kind == "non_finite"), None)
    if end is None or end.step is None or LED_UP not in end.cause:
        return
    steps = run.record.steps
    row = steps.index(end.step) if end.step in steps else len(steps)
    begins = steps[max(0, row - WINDOW)]
    same = [
        one
        for one in run.findings
        if one.kind in ON_THE_WAY and one.step is not None and begins <= one.step <= end.step
    ]
    if same:
        said = " and ".join(f"{ON_THE_WAY[one.kind]} {one.step} on" for one in same)
        joined = replace(end, cause=f"{end.cause} It is the end of one blow-up: {said}.")
        left = [one for one in run.findings if one not in same]
        run.findings = [joined if one is end else one for one in left]


def _missing(run: Run) -> None:
    """Notes on what the record lacks."""
    if not run.rows:
        return
    if not np.isfinite(run.losses).any():
        run.notes.append(
            "the loss is not in the record, so nothing was said about its course: "
            "recorder.step(loss=loss) adds it."
        )
    if not run.has_updates:
        run.notes.append(
            "the updates are not in the record, so nothing was said about steps that are too long, "
            "lost in rounding, or far apart: cu.record(model, optimizer=optimizer) adds them."
        )
    if FEWEST <= run.rows < 2 * FEWEST:
        run.notes.append(
            f"the record has {run.rows} rows: spikes, growing outputs and layers that stop are "
            f"only looked for in {2 * FEWEST} and more."
        )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
