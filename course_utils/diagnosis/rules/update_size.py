"""One step of the optimizer: nothing at all, lost in rounding, or longer than the weights."""

import math

import torch
from torch import Tensor, nn

from .. import remedies
from ..layer_calls import CONVOLUTIONS, rms
from ..measured_pass import MeasuredPass
from ..report import Finding
from .rule import Case, rule

USUAL = 1e-3
"""‖Δθ‖/‖θ‖ of a step, in order of magnitude, at which networks are trained."""

_BEGUN = 0.1  # below this RMS × √fan_in a weight has just left 0, and any update is long
_SHORT = (torch.float16, torch.bfloat16)


@rule(silences=("unbalanced_update",))
def update_size(case: Case) -> Finding | None:
    """An update of 0, or one longer than the weights."""
    updates = case.measured_pass.updates
    if error := case.measured_pass.step_error:
        case.notes.append(
            f"what the optimizer changes was not looked at: a step of a copy of it raised "
            f"{type(error).__name__}{f' ({error})' if str(error) else ''}."
        )
    if not updates:
        return None
    return _nothing(case, updates) or _rounded(case, updates) or _too_long(case.measured_pass)


def _nothing(case: Case, updates: dict[str, Tensor]) -> Finding | None:
    """Learning rates of 0."""
    measured_pass = case.measured_pass
    rates = {name: float(group.get("lr", 1.0)) for name, group in _groups(measured_pass).items()}
    still = [name for name in updates if rates.get(name) == 0]
    if not still:
        return None
    groups = _groups(measured_pass)
    assert measured_pass.optimizer is not None
    planned = all(groups[name].get("initial_lr", 0) for name in still)
    begun = bool(measured_pass.optimizer.state)
    if len(still) < len(updates) or (planned and not begun):
        case.notes.append(
            f"{len(still)} of {len(updates)} parameters stay as they are, for the learning rate "
            "of their group is 0"
            + (
                ": the first step of a warm-up, or the end of a schedule. Measure again a few "
                "steps later."
                if planned
                else ". If that is not meant to freeze them, give the group a rate."
            )
        )
        return None
    usual = "1e-2" if isinstance(measured_pass.optimizer, torch.optim.SGD) else "1e-3"
    return Finding(
        kind="update_size",
        layers=_modules(still),
        quantity="‖Δθ‖/‖θ‖ of one step",
        measured=0.0,
        predicted=USUAL,
        cause="The step moves no parameter, for the learning rate (lr) is 0"
        + (": its schedule has come to its end." if planned else " in every group."),
        remedy=f'for group in optimizer.param_groups:\n    group["lr"] = {usual}',
        notebook=remedies.CHAPTERS[12],
    )


def _rounded(case: Case, updates: dict[str, Tensor]) -> Finding | None:
    """Updates that are shorter than the distance of two numbers of the format."""
    measured_pass = case.measured_pass
    moved = stuck = 0
    formats, rates = set(), {n: g.get("lr", 1.0) for n, g in _groups(measured_pass).items()}
    for name, change in updates.items():
        grad = measured_pass.grads[name]
        if grad is None or grad.is_sparse or not rates.get(name):
            continue
        pushed = grad != 0
        moved += int(pushed.sum())
        stuck += int((pushed & (change == 0)).sum())
        formats.add(change.dtype)
    if not moved or stuck / moved < 0.9:
        return None
    names = " and ".join(sorted(str(one).removeprefix("torch.") for one in formats))
    said = f"{stuck / moved:.0%} of the numbers with a gradient stay as they are in one step"
    digits = max(torch.finfo(one).eps for one in formats)
    groups = _groups(measured_pass)
    tiny = all(
        float(groups[name].get("lr", 1.0)) < digits and not groups[name].get("initial_lr")
        for name in updates
    )
    if tiny and not formats <= set(_SHORT):
        return _rate_lost(measured_pass, updates, said, names)
    if not formats <= set(_SHORT):
        case.notes.append(
            f"{said}: the update is lost in the rounding of {names}. That is the end of training, "
            "or a learning rate that is too small for this loss."
        )
        return None
    return Finding(
        kind="update_size",
        layers=_modules(list(updates)),
        quantity="share of the numbers with a gradient that a step changes",
        measured=1 - stuck / moved,
        predicted=1.0,
        cause=f"{said}: the update is lost in rounding, for {names} tells two numbers apart only "
        f"if they differ by {digits:.1g} of their size.",
        remedy=(
            "model.float()  # weights in float32; only the forward pass in 16 bits:\n"
            "# with torch.autocast(device_type, dtype=torch.bfloat16): output = model(x)"
        ),
        notebook=remedies.CHAPTERS[12],
    )


def _rate_lost(
    measured_pass: MeasuredPass, updates: dict[str, Tensor], said: str, names: str
) -> Finding:
    """A learning rate that is smaller than the last digit of the weights."""
    rate = max(float(group.get("lr", 1.0)) for group in _groups(measured_pass).values())
    usual = "1e-2" if isinstance(measured_pass.optimizer, torch.optim.SGD) else "1e-3"
    return Finding(
        kind="update_size",
        layers=_modules(list(updates)),
        quantity="share of the numbers with a gradient that a step changes",
        measured=0.0,
        predicted=1.0,
        cause=f"{said}: the learning rate, {rate:.3g}, is below the last digit of {names}.",
        remedy=f'for group in optimizer.param_groups:\n    group["lr"] = {usual}',
        notebook=remedies.CHAPTERS[12],
    )


def _too_long(measured_pass: MeasuredPass) -> Finding | None:
    """A step that is longer than the weights it moves."""
    kinds = (nn.Linear, *CONVOLUTIONS)
    ratios: dict[str, float] = {}
    named = {id(p): name for name, p in measured_pass.parameters.items()}
    for module in measured_pass.model.modules():
        if not isinstance(module, kinds) or named.get(id(module.weight)) is None:
            continue
        name, weight = named[id(module.weight)], module.weight.detach()
        size = rms(weight)
        if name in measured_pass.updates and size * math.sqrt(weight[0].numel()) > _BEGUN:
            ratios[name] = rms(measured_pass.updates[name].detach()) / size / _first(measured_pass)
    long = [name for name, ratio in ratios.items() if ratio > 1]
    if not long:
        return None
    worst = max(long, key=lambda name: ratios[name])
    group = _groups(measured_pass)[worst]
    rate, decay = float(group.get("lr", math.nan)), float(group.get("weight_decay", 0))
    by_decay = rate * decay > 0.5 * ratios[worst]
    shrink = USUAL / ratios[worst]
    what = "weight_decay" if by_decay else "lr"
    return Finding(
        kind="update_size",
        layers=_modules(long),
        quantity="‖Δθ‖/‖θ‖ of one step",
        measured=ratios[worst],
        predicted=USUAL,
        cause=f"One step changes {worst} by {ratios[worst]:.3g} times its own length, so that "
        "nothing is left of the weights it started from. "
        + (
            f"That is the weight decay: lr × weight_decay = {rate * decay:.3g} of the weights go "
            "in each step."
            if by_decay
            else f"The learning rate, {rate:.3g}, is too large for this loss and these weights; "
            f"about {USUAL:g} is usual."
        ),
        remedy=f"for group in optimizer.param_groups:\n"
        f'    group["{what}"] *= {shrink:.2g}  # ‖Δθ‖/‖θ‖ of about {USUAL:g}',
        notebook=remedies.CHAPTERS[12],
    )


def _first(measured_pass: MeasuredPass) -> float:
    """How much longer than later ones the first step is.

    RMSprop divides by the root of an average that starts at 0 and is not corrected for that, so
    the first step is 1/√(1 − α) times as long.
    """
    optimizer = measured_pass.optimizer
    if isinstance(optimizer, torch.optim.RMSprop) and not optimizer.state:
        return 1 / math.sqrt(1 - optimizer.param_groups[0]["alpha"])
    return 1.0


def _groups(measured_pass: MeasuredPass) -> dict[str, dict]:
    """The group of each parameter that the optimizer holds."""
    assert measured_pass.optimizer is not None
    named = {id(p): name for name, p in measured_pass.parameters.items()}
    return {
        named[id(p)]: group
        for group in measured_pass.optimizer.param_groups
        for p in group["params"]
        if id(p) in named
    }


def _modules(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.rpartition(".")[0] or "(model)" for name in names))
