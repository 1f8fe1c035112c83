"""Which modules get a row, and what the row is called."""

import fnmatch
import re
from collections.abc import Callable, Iterable

from torch import nn

from ..arguments import unknown
from ..measuring import ROOT, is_layer


def named_layers(
    model: nn.Module,
    layers: "str | Iterable[str | nn.Module] | Callable[[str, nn.Module], bool] | None",
    plain: dict[str, str],
) -> list[tuple[str, nn.Module]]:
    """The modules that get rows, with their names.

    Args:
        model: The watched model.
        layers: None for the default, "all" for every module, a predicate of name and module,
            or names and modules.
        plain: Names of the modules as they are, and as they are to be called.

    Returns:
        Pairs of name and module, in the order of `named_modules()`.

    Raises:
        ValueError: If a name or module is not part of the model, or nothing is left.
        TypeError: If `layers` is none of these.
    """
    modules = {plain[name] or ROOT: module for name, module in model.named_modules()}
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
        wanted = [plain.get(x, x) if isinstance(x, str) else x for x in layers]
        chosen = _listed(modules, wanted)
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


def chosen_parameters(
    names: Iterable[str],
    parameters: "str | re.Pattern | Iterable[str] | Callable[[str], bool] | None",
) -> set[str]:
    """Names of the parameters that get columns.

    Args:
        names: Of all parameters.
        parameters: None for all, a pattern with wildcards, a compiled regular expression that is
            searched for, names or patterns, or a predicate of the name.

    Raises:
        ValueError: If a name or pattern fits none of them, or nothing is left.
        TypeError: If `parameters` is none of these.
    """
    names = list(names)
    if parameters is None:
        return set(names)
    if isinstance(parameters, str):
        parameters = [parameters]
    if isinstance(parameters, re.Pattern):
        found = {name for name in names if parameters.search(name)}
    elif callable(parameters):
        found = {name for name in names if parameters(name)}
    elif isinstance(parameters, Iterable):
        found = set()
        for item in parameters:
            if not isinstance(item, str):
                raise TypeError(
                    f"parameters holds {item!r}: names or patterns such as '*.weight' are expected."
                )
            fits = {item} & set(names) or set(fnmatch.filter(names, item))
            if not fits:
                raise ValueError(unknown("parameters", item, names))
            found |= fits
    else:
        raise TypeError(
            f"parameters={parameters!r} must be None, a pattern such as '*.weight', a compiled "
            "regular expression, a list of names, or a function of the name."
        )
    if not found:
        raise ValueError(
            f"parameters={parameters!r} leaves none to record: the model has {', '.join(names)}."
        )
    return found


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
