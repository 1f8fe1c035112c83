"""Which modules are layers."""

from torch import nn

from .torch_internals import LossModule

ROOT = "(model)"
"""Name of the watched module itself, which `named_modules()` leaves empty."""

WHOLE = (nn.RNNBase, nn.MultiheadAttention)
"""Modules that are computed in one piece, whatever they hold inside."""


def children_that_compute(module: nn.Module) -> bool:
    """Whether a module calls other modules; a parametrization's do not count."""
    return any(name != "parametrizations" for name, _ in module.named_children())


def is_layer(name: str, module: nn.Module) -> bool:
    """Whether a module has a row by default: a leaf, or a recurrent or attention module."""
    if "parametrizations" in name.split(".") or isinstance(module, LossModule):
        return False
    return isinstance(module, WHOLE) or not children_that_compute(module)


def has_weight(module: nn.Module) -> bool:
    """Whether the module owns a weight of two or more dimensions, also when parametrized."""
    own = list(module.parameters(recurse=False))
    if isinstance(module, WHOLE):
        own = list(module.parameters())
    elif next(module.children(), None) is not None:
        own += [p for n, p in module.named_parameters() if "parametrizations" in n.split(".")]
    return any(isinstance(p, nn.UninitializedParameter) or p.dim() >= 2 for p in own)
