"""ReLU units that are silent for the whole batch, where chance does not explain them.

With weights symmetric about 0 a unit is silent for one input with probability ½, so for a batch
with at most ½, whatever its size and however alike its inputs. More than that, by five standard
deviations √(¼/n) of a share, is no chance: biases or a step too long drove the units below 0. A
layer that is silent as a whole stops every gradient and counts always.
"""

import math

from ... import theory
from .. import remedies
from ..graph import activation_name
from ..measured_pass import MeasuredPass
from ..report import Finding
from .rule import Case, rule

SURE = 5.0
"""Standard deviations above chance at which a share of dead units counts as evidence."""


@rule(
    silences=(
        *("zero_gradient", "dead_units", "through_time", "over_depth", "small_batch_explodes"),
        *("shattered", "second_derivative"),
    ),
)
def silent_layer(case: Case) -> Finding | None:
    """A layer without a single unit that is ever above 0."""
    units = case.measured_pass.relu_units
    silent = [name for name, (share, _) in units.items() if share == 1]
    if not silent:
        return None
    case.undecided.append(
        "a silent layer stops the gradient, so the layers below it cannot be judged. Measure "
        "again when it is mended."
    )
    narrow, relus = min(units[name][1] for name in silent), _relus(case.measured_pass)
    by_chance = theory.dead_network_probability(narrow, relus)
    cause, remedy = _DRIVEN, _START_AGAIN
    if by_chance > 1e-3:
        cause = (
            f"Chance alone does that: a network with {relus} ReLU layers of {narrow} units has a "
            f"silent layer with probability {by_chance:.2g} for one input."
        )
        leaky = remedies.replace_modules("nn.ReLU", "nn.LeakyReLU(0.1)")
        remedy = f"# a wider network, or a ReLU that leaks:\n{leaky}"
    return Finding(
        kind="dead",
        layers=tuple(silent),
        quantity="share of dead units",
        measured=1.0,
        cause=f"Every unit behind {silent[0]} is 0 for every input of this batch, and no gradient "
        f"passes it. {cause}",
        remedy=remedy,
        notebook=remedies.CHAPTERS[4],
    )


@rule()
def dead_units(case: Case) -> Finding | None:
    """More silent units than chance explains, in one layer or in all together."""
    units = case.measured_pass.relu_units
    total = sum(count for _, count in units.values())
    layers = [name for name, (share, count) in units.items() if _above_half(share, count)]
    if not layers and total:
        if _above_half(sum(share * count for share, count in units.values()) / total, total):
            layers = [name for name, (share, _) in units.items() if share > 0.5]
    if not layers:
        return None
    measured = max(units[name][0] for name in layers)
    return Finding(
        kind="dead",
        layers=tuple(layers),
        quantity="share of dead units",
        measured=measured,
        predicted=0.5,
        cause=f"{measured:.0%} of the units of a ReLU layer are 0 for every input of this batch. "
        + _DRIVEN,
        remedy=_START_AGAIN,
        notebook=remedies.CHAPTERS[4],
    )


_DRIVEN = (
    "Symmetric weights silence at most half, so the biases (or the mean of the inputs) hold them "
    "below 0; a step with too large a learning rate does that."
)
_START_AGAIN = remedies.kaiming("relu") + "\n# and train on with a tenth of the learning rate"


def _relus(measured_pass: MeasuredPass) -> int:
    return sum(activation_name(n) in ("relu", "relu6") for _, n in measured_pass.activations)


def _above_half(share: float, units: int) -> bool:
    return (share - 0.5) * 2 * math.sqrt(units) > SURE
