"""What width does to a step of Adam, and how to undo it (notebook 13)."""

import math
from collections.abc import Sequence

from ..arguments import integer, number


def adam_feature_step(lr: float, width: int, batch_size: int = 1) -> float:
    """How far one step of Adam moves a preactivation, for inputs with E|h| = √(2/π).

    η √(2n²/(πB) + n(1 − 2/(πB))). Adam's first step moves each weight by η in the direction of a
    sign. For one sample the signs of a row agree with the input's, Δz = ∓η‖h‖₁, which grows with n
    and not with √n; with B samples the sign agrees with one of them by √(2/(πB)).

    Args:
        lr: η, positive.
        width: n, fan-in of the layer, at least 1.
        batch_size: B, at least 1.

    Returns:
        Root mean square of Δz on a sample of the batch, for Gaussian inputs of size 1.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If a count is not an integer.

    References:
        G. Yang et al., "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot
        Hyperparameter Transfer", arXiv:2203.03466, 2022, on why the step must shrink with n.

    >>> round(adam_feature_step(1.0, 1024) / adam_feature_step(1.0, 64), 1)
    15.9
    """
    lr, n = number("lr", lr, above=0), integer("width", width, 1)
    agreement = 2 / (math.pi * integer("batch_size", batch_size, 1))
    return lr * math.sqrt(n * n * agreement + n * (1 - agreement))


def adam_lr_ratio(fan_ins: Sequence[int], base_fan_ins: Sequence[int]) -> float:
    """Factor of Adam's best learning rate from one network to a wider one: Σ base / Σ fan-in.

    One rate for all layers has to keep the *sum* of their changes, and each is proportional to its
    fan-in. It tends to 1/width only where the hidden layers outweigh the input.

    Args:
        fan_ins: Inputs of each layer of the network asked for, each at least 1.
        base_fan_ins: The same of the network whose best rate is known.

    Returns:
        The factor, below 1 for a wider network.

    Raises:
        ValueError: If a list is empty or an entry is below 1.
        TypeError: If an entry is not an integer.

    >>> adam_lr_ratio([64, 256, 256], [64, 32, 32])
    0.2222222222222222
    """
    return _total("base_fan_ins", base_fan_ins) / _total("fan_ins", fan_ins)


def _total(name: str, values: Sequence[int]) -> int:
    counts = [integer(f"{name}[{i}]", value, 1) for i, value in enumerate(values)]
    if not counts:
        raise ValueError(f"{name} is empty: hand over the fan-in of each layer.")
    return sum(counts)
