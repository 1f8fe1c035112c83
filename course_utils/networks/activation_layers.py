"""Activations as modules, so that hooks see them."""

from collections.abc import Callable
from copy import deepcopy

from torch import Tensor, nn

from ..activations import ACTIVATIONS, SOFTPLUS_THRESHOLD, Activation, lookup

MODULES: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": lambda: nn.Softplus(threshold=SOFTPLUS_THRESHOLD),
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
}
_TAKEN = ("linear", "conv", "norm", "block", "pool", "flatten", "lambda", "alpha")


class Elementwise(nn.Module):
    """A function on tensors as a module, so that hooks see it.

    Args:
        activation: What it computes, elementwise.
    """

    def __init__(self, activation: Activation):
        super().__init__()
        self.activation = activation

    def forward(self, z: Tensor) -> Tensor:
        """φ(z), elementwise."""
        return self.activation.function(z)

    def extra_repr(self) -> str:
        """Its name, for `print(net)`."""
        return self.activation.name


def activation_layers(
    activation: str | Activation | Callable[[Tensor], Tensor] | nn.Module,
) -> tuple[str, Callable[[], nn.Module]]:
    """Name of an activation, and a function that makes a fresh module of it.

    Args:
        activation: A name in `cu.ACTIVATIONS`, an `Activation`, a function on tensors, or a
            module, of which each layer gets a copy.

    Returns:
        (label for module names, maker). "linear" stands for no module at all.

    Raises:
        ValueError: If the name is unknown.
        TypeError: If it is none of these.

    >>> label, make = activation_layers("gelu")
    >>> label, make()
    ('gelu', GELU(approximate='none'))
    """
    if isinstance(activation, nn.Module):
        return _label(type(activation).__name__.lower()), lambda: deepcopy(activation)
    entry = lookup(activation)
    if entry is ACTIVATIONS.get(entry.name):
        return entry.name, MODULES.get(entry.name, lambda: Elementwise(entry))
    return _label(entry.name), lambda: Elementwise(entry)


def _label(name: str) -> str:
    """A name for modules of an activation that is not ours, unlike those of other modules."""
    return name if name.isidentifier() and name not in _TAKEN else "activation"
