"""Outputs that are the same for every input, to the rounding of the number format."""

import torch

from .. import remedies
from ..layer_calls import spread_over_batch
from ..report import Finding
from .rule import Case, rule


@rule()
def constant_output(case: Case) -> Finding | None:
    """A network that gives the same answer to everything."""
    answers = [t for t in case.measured_pass.outputs if t.dim() >= 2 and len(t) >= 2]
    inputs = [t for t in case.measured_pass.batch.tensors() if t.dim() and t.is_floating_point()]
    if not case.well_so_far or not answers or not inputs:
        return None
    if not spread_over_batch(inputs[0]) > 0:
        return None
    spreads = [spread_over_batch(t) if bool((t != 0).any()) else 0.0 for t in answers]
    if not all(s <= 8 * torch.finfo(t.dtype).eps for t, s in zip(answers, spreads, strict=True)):
        return None
    if case.measured_pass.own_gradient and case.measured_pass.zero_factors:
        return None  # it starts at zero on purpose and moves
    named = case.measured_pass.parameters.items()
    alike = [n for n, p in named if p.dim() > 1 and bool((p == p.flatten()[0]).all())]
    return Finding(
        kind="constant_output",
        layers=("(model)",),
        quantity="spread of the output over the batch, as a share of its RMS",
        measured=max(spreads),
        cause=(
            f"{len(alike)} weight matrices hold one number everywhere: all units of a layer "
            "compute the same, and stay equal while they train."
            if alike
            else "Nothing of the input reaches the output: a layer on the way gives the same "
            "answer to everything."
        ),
        remedy=(
            f"# other numbers for every unit:\nfor name in {remedies.listed(alike)}:\n"
            "    nn.init.kaiming_uniform_(model.get_parameter(name), a=5**0.5)"
            if alike
            else "# print h.std(0).mean() behind each layer: where it falls to 0 the input is lost"
        ),
        notebook=remedies.CHAPTERS[5],
    )
