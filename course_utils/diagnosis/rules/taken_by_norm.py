"""A loss that asks of normalized numbers what their norm holds fixed."""

import math

import torch
from torch.autograd.graph import GradientEdge

from .. import remedies
from ..graph import follow, norm_kind, stem
from ..layer_calls import rms
from ..measured_pass import MeasuredPass
from ..report import Finding
from ..running import unrecorded
from .rule import Case, rule

_NOTHING = 1e-3
"""Share of a gradient, against that of one of random numbers, that rounding and eps leave."""


@rule(
    silences=("through_time", "over_depth", "small_batch_explodes", "shattered", "constant_output")
)
def taken_by_norm(case: Case) -> Finding | None:
    """The sum of a layer norm's output, and the like: constant, whatever the weights are.

    ∂𝓛/∂(output) then lies in the directions that the norm takes out. What arrives at the last layer
    is compared with what arrives of random numbers of the same size.
    """
    measured_pass = case.measured_pass
    if not measured_pass.own_gradient or measured_pass.loss is None:
        return None
    for tensor in measured_pass.outputs:
        path = follow(tensor.grad_fn, measured_pass.ends)
        norms = [n for n in path.nodes if norm_kind(n.name()) or stem(n) == "Softmax"]
        for call in path.parents[:1] if norms else ():
            if call.out_node is None or not call.grad_out < math.inf:
                continue
            generator = torch.Generator().manual_seed(0)
            drawn = torch.randn(tensor.shape, generator=generator).to(tensor)
            edge = GradientEdge(call.out_node, 0)
            with unrecorded():
                (free,) = torch.autograd.grad(
                    tensor, [edge], drawn, retain_graph=True, allow_unused=True
                )
            size = 0.0 if free is None else rms(free)
            share = call.grad_out / size if size > 0 else math.nan
            if share < _NOTHING:
                rounding = share < 64 * torch.finfo(tensor.dtype).eps  # and that is no figure
                return _finding(measured_pass, call.name, stem(norms[0]), share * (not rounding))
    return None


def _finding(measured_pass: MeasuredPass, name: str, norm: str, share: float) -> Finding:
    what = norm.removeprefix("Native")
    said = "the softmax" if what == "Softmax" else f"the norm ({what})"
    return Finding(
        kind="zero_gradient",
        layers=(name,),
        quantity="share of the loss's gradient that gets to the last layer, against random numbers",
        measured=share,
        predicted=1.0,
        cause=f"The loss asks of the output what {said} behind {name} holds fixed, such as the "
        "sum, the mean or the mean square of normalized numbers. That is constant whatever the "
        "weights are: the gradient below is 0, and what is left of it is rounding.",
        remedy="# a loss that compares single outputs with targets, such as F.mse_loss, or one "
        f"more\n# layer between {said} and the loss",
        notebook=remedies.CHAPTERS[7],
    )
