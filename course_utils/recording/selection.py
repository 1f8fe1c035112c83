"""Which modules get a row, and what the row is called."""

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from ..runtime import unknown

ROOT = "(model)"
"""Name of the watched module itself, which `named_modules()` leaves empty."""

WHOLE = (nn.RNNBase, nn.MultiheadAttention)
"""Modules that are computed in one piece, whatever they hold inside."""


def children_that_compute(module: nn.Module) -> bool:
    """Whether a module calls other modules; a parametrization's do not count."""
    return any(name != "parametrizations" for name, _ in module.named_children())


def is_layer(name: str, module: nn.Module) -> bool:
    """Whether a module has a row by default: a leaf, or a recurrent or attention module."""
    if "parametrizations" in name.split(".") or isinstance(module, _Loss):
        return False
    return isinstance(module, WHOLE) or not children_that_compute(module)


def named_layers(
    model: nn.Module,
    layers: "str | Iterable[str | nn.Module] | Callable[[str, nn.Module], bool] | None",
) -> list[tuple[str, nn.Module]]:
    """The modules that get rows, with their names.

    Args:
        model: The watched model.
        layers: None for the default, "all" for every module, a predicate of name and module,
            or names and modules.

    Returns:
        Pairs of name and module, in the order of `named_modules()`.

    Raises:
        ValueError: If a name or module is not part of the model, or nothing is left.
        TypeError: If `layers` is none of these.
    """
    modules = {name or ROOT: module for name, module in model.named_modules()}
    if layers is None:
        chosen = {name: m for name, m in modules.items() if is_layer(name, m)}
    elif isinstance(layers, str):
        if layers != "all":
            raise ValueError(
                f"layers={layers!r} is not understood: use None, 'all', a list of names such as "
                f"[{layers!r}], or a function of name and module."
            )
        chosen = {n: m for n, m in modules.items() if "parametrizations" not in n.split(".")}
    elif callable(layers) and not isinstance(layers, nn.Module):
        chosen = {name: m for name, m in modules.items() if layers(name, m)}
    elif isinstance(layers, Iterable) and not isinstance(layers, nn.Module):
        chosen = _listed(modules, list(layers))
    else:
        raise TypeError(
            f"layers={layers!r} must be None, 'all', a list of names or modules, or a function."
        )
    if not chosen:
        raise ValueError(
            f"layers={layers!r} leaves no module to record: the model has {', '.join(modules)}."
        )
    return list(chosen.items())


def _listed(modules: dict[str, nn.Module], wanted: list) -> dict[str, nn.Module]:
    names = {id(module): name for name, module in modules.items()}
    asked = set()
    for item in wanted:
        if isinstance(item, nn.Module):
            if id(item) not in names:
                raise ValueError(
                    f"layers holds a {type(item).__name__} that is not a module of this model."
                )
            asked.add(names[id(item)])
        elif item in ("", ROOT):
            asked.add(ROOT)
        elif item in modules:
            asked.add(item)
        else:
            raise ValueError(unknown("layers", item, modules))
    return {name: module for name, module in modules.items() if name in asked}


def saturation_of(module: nn.Module) -> tuple[float, float] | None:
    """Where the output of a saturating activation counts as saturated.

    A unit is saturated where the slope is below 5 % of the largest slope: 1 − y² < 0.05 for
    tanh, 4y(1 − y) < 0.05 for the sigmoid, (1 − |y|)² < 0.05 for softsign, and at the bound
    for the piecewise linear ones.

    Returns:
        (center, distance), or None for a module that does not saturate on both sides.
    """
    if isinstance(module, nn.Tanh):
        return 0.0, 0.95**0.5
    if isinstance(module, nn.Sigmoid):
        return 0.5, 0.5 * 0.95**0.5
    if isinstance(module, nn.Softsign):
        return 0.0, 1.0 - 0.05**0.5
    if isinstance(module, nn.Hardsigmoid):
        return 0.5, 0.5 * (1 - 1e-6)
    if isinstance(module, nn.Hardtanh) and not isinstance(module, nn.ReLU6):
        low, high = float(module.min_val), float(module.max_val)
        return 0.5 * (low + high), 0.5 * (high - low) * (1 - 1e-6)
    return None


def can_die(module: nn.Module) -> bool:
    """Whether the module is a ReLU, whose units can be 0 for every input."""
    return isinstance(module, nn.ReLU | nn.ReLU6)


def has_weight(module: nn.Module) -> bool:
    """Whether the module owns a weight of two or more dimensions, also when parametrized."""
    own = list(module.parameters(recurse=False))
    own += [p for n, p in module.named_parameters() if "parametrizations" in n.split(".")]
    own += list(module.parameters()) if isinstance(module, WHOLE) else []
    return any(isinstance(p, nn.UninitializedParameter) or p.dim() >= 2 for p in own)


def tensors_in(output: object, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every floating or complex tensor in a nest of tuples, lists, dicts and dataclasses.

    Yields:
        Pairs of path and tensor: "" for a bare tensor, "[1][0]" in tuples, "[logits]" in dicts.
    """
    if isinstance(output, Tensor):
        if output.is_floating_point() or output.is_complex():
            yield path, output
    elif isinstance(output, dict):
        for key, value in output.items():
            yield from tensors_in(value, f"{path}[{key}]")
    elif isinstance(output, nn.utils.rnn.PackedSequence):
        yield from tensors_in(output.data, f"{path}[data]")
    elif isinstance(output, list | tuple):
        names = getattr(output, "_fields", range(len(output)))
        for key, value in zip(names, output, strict=True):
            yield from tensors_in(value, f"{path}[{key}]")
    elif hasattr(output, "__dataclass_fields__") and not isinstance(output, type):
        for key in output.__dataclass_fields__:
            yield from tensors_in(getattr(output, key), f"{path}[{key}]")
