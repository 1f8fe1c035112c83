"""A softmax or sigmoid in the model, and another one in the loss."""

import math

import torch
from torch import nn

from ...measuring.torch_internals import outputs_of
from .. import remedies
from ..graph import pull_back, squashed_twice
from ..report import Finding
from .rule import Case, rule


@rule()
def double_softmax(case: Case) -> Finding | None:
    """Probabilities handed to a loss that expects logits."""
    model, root = case.measured_pass.model, case.measured_pass.loss_value.grad_fn
    twice = None if root is None else squashed_twice(root)
    if twice is None:
        return None
    node, kind = twice
    inner, generator = outputs_of(node)[0], torch.Generator().manual_seed(0)
    v = torch.randn(tuple(inner.shape), generator=generator).to(inner.device, inner.dtype)
    if kind == "softmax":
        v = v - v.mean(-1, keepdim=True)
        classes = inner.shape[-1]
        predicted, floor = 1 / classes, -math.log(math.e / (math.e + classes - 1))
    else:
        predicted, floor = 0.25, math.log1p(1 / math.e)
    passed = pull_back(node, v)
    assert passed is not None  # a softmax and a sigmoid hand a gradient on
    wanted = (nn.Softmax, nn.Softmax2d) if kind == "softmax" else (nn.Sigmoid,)
    names = [name for name, module in model.named_modules() if isinstance(module, wanted)]
    return Finding(
        kind="double_softmax",
        layers=tuple(names[-1:]) or ("(model)",),
        quantity=f"factor by which the extra {kind} multiplies the gradient",
        measured=float(passed.detach().double().norm() / v.double().norm()),
        predicted=predicted,
        cause=f"The output has gone through a {kind}, and the loss applies one again. At uniform "
        f"outputs that shrinks the gradient by {1 / predicted:.3g}, where the network is sure by "
        f"much more, and the loss cannot fall below {floor:.3g}.",
        remedy=(
            f"{remedies.path(names[-1])} = nn.Identity()  # the loss applies {kind} itself"
            if names
            else f"# in model.forward: return the logits, without {kind}(...)"
        ),
        notebook=remedies.CHAPTERS[2],
    )
