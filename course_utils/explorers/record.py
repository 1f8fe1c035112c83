"""Explorer of a learner's own record: one step of the run under the sliders."""

import math

import numpy as np

from ..recording import GradientRecord
from .grid import GridExplorer, Line, Panel, Points, Readout, Slider

QUANTITIES = {
    "RMS of ∂L/∂h": "grad_rms",
    "RMS of output h": "output_rms",
    "share of zeros": "zero_fraction",
    "share saturated": "saturated_fraction",
}
"""What the first slider offers, by attribute of the record; the shares only where there are any."""

BUDGET = 800_000
"""Bytes for the profiles over depth; the rest of the megabyte is for the courses over steps."""


def record_explorer(record: GradientRecord) -> GridExplorer:
    """Explorer of a record: any quantity over depth, at any step of the run.

    The sliders choose the quantity and the step. The panels show the quantity over depth at this
    step beside the first one, and its course over the steps in the first and last layers, with
    the loss. Only layers with weights are shown (`record.trunk`), or all if there are fewer than
    two. An explorer holds at most 1 MB: of a longer record every second, third, … step is shown,
    and the heading says so.

    Args:
        record: What `recorder.record` holds after at least two steps.

    Returns:
        The explorer, with the traits `quantity` and `step`.

    Raises:
        TypeError: If it is no record.
        ValueError: If it has fewer than two steps, or no layer.

    >>> import torch
    >>> from course_utils import record
    >>> with record(torch.nn.Linear(2, 1)) as recorder:
    ...     for _ in range(3):
    ...         recorder.model(torch.ones(4, 2)).sum().backward()
    ...         recorder.step()
    >>> record_explorer(recorder.record).values
    {'quantity': 'RMS of ∂L/∂h', 'step': 2}
    """
    if not isinstance(record, GradientRecord):
        raise TypeError(
            f"record={record!r:.80} is a {type(record).__name__}: a GradientRecord is expected, "
            "what `recorder.record` holds after `with cu.record(model) as recorder:`."
        )
    columns = record.columns()
    if len(record) < 2 or not columns:
        raise ValueError(
            f"record has {len(record)} steps and {len(columns)} layers: the sliders need at least "
            "two steps and one layer. Close each step with recorder.step()."
        )
    shown = {
        label: name
        for label, name in QUANTITIES.items()
        if name.endswith("rms") or bool((getattr(record, name)[:, columns] > 0).any())
    }
    values = np.stack(
        [_finite(getattr(record, name).numpy()[:, columns]) for name in shown.values()]
    )
    every = _every(values)
    values, steps = values[:, ::every], np.array(record.steps)[::every]
    losses = _finite(record.losses.numpy()[::every])
    depth = np.arange(1.0, len(columns) + 1)
    names = [record.layers[i] for i in columns]
    first, last = values[:, :, 0], values[:, :, -1]
    shape = values.shape[:2]
    panels = [
        Panel(
            title="Over depth",
            xlabel="layer, input side first",
            ylabel="value of the quantity",
            marks=(
                Line(depth, values[:, :1], f"step {steps[0]}", color=6, dash="dashed"),
                Line(depth, values, "at the step chosen", color=0, marker=len(depth) <= 40),
            ),
            yscale="log",
        ),
        Panel(
            title="Over steps",
            xlabel="step",
            ylabel="value of the quantity",
            marks=(
                Line(steps, first[:, None], f"first layer, {names[0]}", color=0),
                Line(steps, last[:, None], f"last layer, {names[-1]}", color=1, dash="dashed"),
                Points(steps[None, :, None], first[..., None], "the step chosen", color=6),
            ),
            yscale="log",
        ),
    ]
    if np.isfinite(losses).any():
        panels.append(
            Panel(
                title="Loss",
                xlabel="step",
                ylabel="loss",
                marks=(
                    Line(steps, losses, "loss", color=6),
                    Points(steps[None, :, None], losses[None, :, None], "the step chosen", color=2),
                ),
            )
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        change = first / last
    return GridExplorer(
        title="Your record"
        + (f": every {every}. of its {len(record)} steps is shown" if every > 1 else ""),
        sliders=(
            Slider("quantity", "quantity", tuple(shown)),
            Slider("step", "step", tuple(steps.tolist()), start=len(steps) - 1, format="d"),
        ),
        panels=tuple(panels),
        readouts=(
            Readout(f"first layer, {names[0]}", first, ".3g"),
            Readout(f"last layer, {names[-1]}", last, ".3g"),
            Readout("first layer/last layer", change, ".3g"),
            Readout("loss", np.broadcast_to(losses, shape), ".4g"),
        ),
    )


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, math.nan)


def _every(values: np.ndarray) -> int:
    """Which step of how many is shown, so that all fits into an explorer."""
    sizes = np.abs(values[values != 0])
    with np.errstate(invalid="ignore"):
        wide = bool(((sizes < 1e-37) | (sizes > 1e38)).any())
    a_step = values.shape[0] * (values.shape[2] * (8 if wide else 4) + 120)
    return max(1, math.ceil(values.shape[1] * a_step / BUDGET))
