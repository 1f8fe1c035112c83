"""Trainable parameters with a gradient that the optimizer does not hold."""

import torch

from .. import remedies
from ..measured_pass import MeasuredPass
from ..report import Finding
from .rule import Case, rule

_LISTED = 12
"""So many names are listed in a remedy; of more it loops."""


@rule()
def not_optimized(case: Case) -> Finding | None:
    """Parameters that get a gradient and that no step moves."""
    measured_pass = case.measured_pass
    held, optimizer = measured_pass.held, measured_pass.optimizer
    if held is None or optimizer is None:
        return None
    named = measured_pass.parameters
    moved = [name for name, grad in measured_pass.grads.items() if grad is not None]
    missing = [name for name in moved if id(named[name]) not in held]
    if not missing:
        return None
    if _master_copies(measured_pass):
        case.notes.append(
            "the optimizer holds float32 tensors of the shapes of the parameters, and not the "
            "parameters: master copies, if they are written back after each step."
        )
        return None
    modules = tuple(dict.fromkeys(name.rpartition(".")[0] or "(model)" for name in missing))
    strange = len(held - {id(parameter) for parameter in named.values()})
    what = ", ".join(missing[:6]) + (", …" if len(missing) > 6 else "")
    return Finding(
        kind="not_optimized",
        layers=modules,
        quantity="share of the parameters with a gradient that the optimizer holds",
        measured=1 - len(missing) / len(moved),
        predicted=1.0,
        cause=f"The optimizer holds {len(moved) - len(missing)} of {len(moved)} parameters that "
        f"get a gradient; no step moves {what}."
        + (
            f" It holds {strange} tensors that are not in this model, so it was made before the "
            "model was changed or copied, or for another one."
            if strange
            else " It was made before they were added or unfrozen, or from a part of the model. "
            "If a second optimizer holds them, all is well."
        ),
        remedy=_hold(optimizer, missing, everything=len(missing) == len(moved)),
        notebook=remedies.CHAPTERS[12],
    )


def _hold(optimizer: torch.optim.Optimizer, missing: list[str], *, everything: bool) -> str:
    """Code with which the optimizer holds them."""
    name, rate = type(optimizer).__name__, optimizer.param_groups[0].get("lr", 1e-3)
    if everything and type(optimizer) is getattr(torch.optim, name, None):
        return f"optimizer = torch.optim.{name}(model.parameters(), lr={float(rate):g})"
    if len(missing) > _LISTED:
        return (
            'held = {id(p) for group in optimizer.param_groups for p in group["params"]}\n'
            "optimizer.add_param_group(\n"
            '    {"params": [p for p in model.parameters()\n'
            "                if p.requires_grad and id(p) not in held]}\n"
            ")"
        )
    names = remedies.listed(missing)
    return (
        "optimizer.add_param_group(\n"
        f'    {{"params": [model.get_parameter(name) for name in {names}]}}\n'
        ")"
    )


def _master_copies(measured_pass: MeasuredPass) -> bool:
    """Whether a model in 16 bits has an optimizer of float32 tensors of its parameters' shapes."""
    assert measured_pass.optimizer is not None
    own = [p for p in measured_pass.model.parameters() if p.requires_grad]
    copies = [p for group in measured_pass.optimizer.param_groups for p in group["params"]]
    return all(p.dtype in (torch.float16, torch.bfloat16) for p in own) and (
        [(p.shape, torch.float32) for p in own] == [(p.shape, p.dtype) for p in copies]
    )
