"""Units that pass nothing on: dead ones and saturated ones."""

import math

from torch import nn

from .. import theory
from . import remedies
from .graph import LARGEST_SLOPE, activation_name, slopes
from .measure import Pass
from .probe import Call, rms
from .report import Finding

SATURATED_SLOPE = 0.05
"""A unit is saturated where its slope is below this share of the largest slope."""

_SMALLEST = 1e-37  # below it float32 has no digits left

LARGE_INPUT = 3.0
"""RMS of a batch beyond which its scale, and not that of the weights, may saturate a layer."""

SURE = 5.0
"""Standard deviations above chance at which a share of dead units counts as evidence."""


_LEAKY = (
    "for parent in list(model.modules()):\n"
    "    for name, child in list(parent.named_children()):\n"
    "        if isinstance(child, nn.ReLU):\n"
    "            setattr(parent, name, nn.LeakyReLU(0.1))"
)


def _nodes(found: Pass) -> list[tuple[str, object, bool]]:
    """Activations between layers: name of the layer before, node, whether that is a convolution."""
    result, seen = [], set()
    for path in found.paths.values():
        for node in path.activations:
            if node in seen or not path.parents:
                continue
            seen.add(node)
            parent = path.parents[0]
            conv = isinstance(parent.module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
            result.append((parent.name, node, conv))
    return result


def dead(found: Pass) -> tuple[Finding | None, bool]:
    """ReLU units that are silent for the whole batch, where chance does not explain them.

    With weights symmetric about 0 a unit is silent for one input with probability ½, so for a
    batch with at most ½, whatever its size and however alike its inputs. More than that, by five
    standard deviations √(¼/n) of a share, is no chance: biases or a step too long drove the
    units below 0. A layer that is silent as a whole stops every gradient and counts always.

    Returns:
        The finding, and whether a whole layer is silent.
    """
    shares, units, silent, layers_of_relu = {}, {}, [], 0
    for name, node, conv in _nodes(found):
        if activation_name(node) not in ("relu", "relu6"):
            continue
        layers_of_relu += 1
        values = slopes(node)
        if values is None or values.dim() < 2 or _faded(found, name):
            continue
        axis = 1 if conv else values.dim() - 1
        alive = values.transpose(0, axis).flatten(1).ne(0).any(1)
        shares[name], units[name] = 1 - float(alive.double().mean()), alive.numel()
        if not bool(alive.any()):
            silent.append(name)
    if not shares:
        return None, False
    total = sum(units.values())
    share = sum(shares[name] * units[name] for name in shares) / total
    suspect = [name for name in shares if _above_half(shares[name], units[name])]
    if not silent and not suspect and not _above_half(share, total):
        return None, False
    layers = silent or suspect or [name for name in shares if shares[name] > 0.5]
    measured = max(shares[name] for name in layers)
    cause = (
        f"{measured:.0%} of the units of a ReLU layer are 0 for every input of this batch"
        if not silent
        else f"every unit behind {silent[0]} is 0 for every input of this batch, and no gradient "
        "passes it"
    )
    narrow = min(units[name] for name in layers)
    by_chance = theory.dead_network_probability(narrow, layers_of_relu)
    if silent and by_chance > 1e-3:
        cause += (
            f". Chance alone does that: a network with {layers_of_relu} ReLU layers of {narrow} "
            f"units has a silent layer with probability {by_chance:.2g} for one input"
        )
        remedy = "# a wider network, or a ReLU that leaks:\n" + _LEAKY
    else:
        cause += (
            ". Symmetric weights silence at most half, so the biases (or the mean of the inputs) "
            "hold them below 0; a step with too large a learning rate does that"
        )
        remedy = (
            "for layer in model.modules():\n"
            "    if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):\n"
            '        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")\n'
            "        if layer.bias is not None:\n"
            "            nn.init.zeros_(layer.bias)\n"
            "# and train on with a tenth of the learning rate"
        )
    finding = Finding(
        "dead",
        tuple(layers),
        "share of dead units",
        measured,
        0.5 if not silent else math.nan,
        cause[0].upper() + cause[1:] + ".",
        remedy,
        remedies.CHAPTERS[4],
    )
    return finding, bool(silent)


def _faded(found: Pass, name: str) -> bool:
    """Whether a layer's output is 0 because the signal faded away, not because it is negative."""
    if name not in found.record.layers:
        return False
    return float(found.record.output_rms[0, found.record.layers.index(name)]) < _SMALLEST


def _above_half(share: float, units: int) -> bool:
    return (share - 0.5) * 2 * math.sqrt(units) > SURE


def saturated(found: Pass) -> Finding | None:
    """Layers of which most units are saturated: slope below 5 % of the largest one."""
    shares: dict[str, float] = {}
    kinds: dict[str, str] = {}
    for name, node, _ in _nodes(found):
        largest = LARGEST_SLOPE.get(activation_name(node) or "")
        values = slopes(node) if largest else None
        if values is None:
            continue
        share = float((values < SATURATED_SLOPE * largest).double().mean())
        if share > 0.5:
            shares[name], kinds[name] = share, activation_name(node)
    for call in found.calls:
        if isinstance(call.module, nn.RNN) and call.module.nonlinearity == "tanh":
            far = call.output.abs() > math.sqrt(1 - SATURATED_SLOPE)
            share = float(far.double().mean())
            if share > 0.5:
                shares[call.name], kinds[call.name] = share, "tanh"
    if not shares:
        return None
    name = max(shares, key=shares.get)
    activation = kinds[name]
    call = next(call for call in found.calls if call.name == name)
    weight_variance, bias_variance = call.variances()
    said, remedy = "", remedies.xavier() + "\n# and inputs of mean 0 and standard deviation 1"
    size = _size_of_input(found, call)
    if size > LARGE_INPUT and not size < math.sqrt(weight_variance):
        said = (
            f" Its inputs have a root mean square of {size:.3g}, and the preactivations with them: "
            "weights are drawn for inputs of about 1"
            + ("." if math.isnan(weight_variance) else f" (here σ_w² = {weight_variance:.3g}).")
        )
        remedy = remedies.standardize(call.in_shape)
    elif not math.isnan(weight_variance):
        said = (
            f" Its weights have σ_w² = {weight_variance:.3g} and its biases a mean square of "
            f"{bias_variance:.3g}; with σ_w² = 1 and zero biases {activation} works around 0."
        )
    return Finding(
        "saturated",
        tuple(shares),
        "share of saturated units",
        shares[name],
        math.nan,
        f"{shares[name]:.0%} of the outputs of {activation} after {name} lie where its slope is "
        f"below 5 % of the largest.{said}",
        remedy,
        remedies.CHAPTERS[4],
    )


def _size_of_input(found: Pass, call: Call) -> float:
    """RMS of what a layer reads, if that is the batch itself; else NaN."""
    same = [t for t in found.batch.tensors() if tuple(t.shape) == call.in_shape]
    if call.in_node is not None or len(same) != 1 or not same[0].is_floating_point():
        return math.nan
    return rms(same[0].detach())
