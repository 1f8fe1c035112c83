"""The layers and parameters of a watched model, also when they change while it is watched."""

import fnmatch
import re
import warnings
from collections.abc import Callable, Iterable
from itertools import chain
from operator import is_not
from typing import Any

from torch import nn

from ..measuring import ROOT, WHOLE, has_weight
from ..measuring.torch_internals import child_modules, own_parameters
from .naming import named_parameters, plain_names
from .parameters import count_of, readable
from .selection import chosen_parameters, named_layers
from .whole import can_be_read, shards_modules


class Structure:
    """Which modules have rows and which parameters have columns.

    Attributes:
        layers: Pairs of name and module.
        types: Class name of each module that has or had a row, in the order of the model.
        weighted: Names of the modules with a weight of two or more dimensions.
        parameter_names: One per column. Columns stay where they are, new ones come behind.
        parameters: The parameter of each column; an empty one where the model has it no more.
        everything: All parameters of the model, also those without a column.
        whole: Modules that are computed in one piece, without calling those inside.
        sharded: Whether FSDP runs the model with other parameters than those that it lists.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | Iterable[str | nn.Module] | Callable[[str, nn.Module], bool] | None,
        strip: bool,
        parameters: str | re.Pattern | Iterable[str] | Callable[[str], bool] | None = None,
    ) -> None:
        self._model = model
        self._strip = strip
        self._unreadable: set[str] = set()
        self.types: dict[str, str] = {}
        self.weighted: set[str] = set()
        self.layers: list[tuple[str, nn.Module]] = []
        self.parameter_names: tuple[str, ...] = ()
        self.parameters: list[nn.Parameter] = []
        self.everything: list[nn.Parameter] = []
        self._counts: dict[str, int] = {}
        self.sharded = shards_modules(model)
        self._chosen: str | re.Pattern | Iterable[str] | Callable[[str], bool] | None = parameters
        self._survey(layers)
        if parameters is not None and not isinstance(parameters, re.Pattern):
            if not callable(parameters):  # of a layer that comes later those that fit too
                patterns = [parameters] if isinstance(parameters, str) else list(parameters)
                self._chosen = lambda name: any(fnmatch.fnmatchcase(name, p) for p in patterns)
        self._wanted = layers
        if layers is not None and not isinstance(layers, str) and not callable(layers):
            names = {name for name, _ in self.layers}
            self._wanted = lambda name, _: name in names

    def changed(self) -> bool:
        """Whether a module or parameter was replaced, added or taken away since the last look."""
        values = map(dict.values, map(child_modules, self._parents))
        if list(chain.from_iterable(values)) != self._modules:
            return True
        if not self._follows_parameters:
            return False
        now = list(chain.from_iterable(map(dict.values, self._owners)))
        if len(now) != len(self._held):
            return True
        if not any(map(is_not, now, self._held)):
            return False
        pairs = zip(now, self._held, strict=True)
        # torch.func.functional_call puts plain tensors there for the time of a call
        return any(a is not b and isinstance(a, nn.Parameter) for a, b in pairs)

    def follow(self) -> None:
        """Look again."""
        try:
            self._survey(self._wanted)
        except ValueError:  # nothing of what was asked for is left
            self.layers = []

    def counts(self) -> tuple[int, ...]:
        """How many numbers the parameter of each column has, or had when the model had it."""
        if not all(self._counts.values()):  # lazy ones have got their numbers since
            self._count()
        return tuple(self._counts.values())

    def _count(self) -> None:
        for name, parameter in zip(self.parameter_names, self.parameters, strict=False):
            self._counts[name] = count_of(parameter) or self._counts.get(name, 0)

    def let_go(self) -> None:
        """Forget the model; names and counts stay."""
        self._count()
        self._model = nn.Module()
        self.layers, self.parameters, self.everything = [], [], []
        self._watch()

    def _survey(
        self, layers: str | Iterable[str | nn.Module] | Callable[[str, nn.Module], bool] | None
    ) -> None:
        model = self._model
        names = plain_names(model) if self._strip else {n: n for n, _ in model.named_modules()}
        self.layers = named_layers(model, layers, names)
        self.types = {**{n: type(m).__name__ for n, m in self.layers}, **self._gone()}
        self.weighted |= {name for name, module in self.layers if has_weight(module)}
        named = named_parameters(model, names)
        self.everything = list(named.values())
        try:
            chosen = chosen_parameters(named, self._chosen)
        except ValueError:
            if not self.parameter_names:
                raise
            chosen = set()  # those that were chosen are gone
        named = {name: parameter for name, parameter in named.items() if name in chosen}
        added = tuple(name for name in named if name not in self.parameter_names)
        self.parameter_names += added
        self._name_unreadable({n: p for n, p in named.items() if not can_be_read(p)})
        nothing: Any = nn.UninitializedParameter(requires_grad=False)
        self.parameters = [
            nothing if name in self._unreadable else named.get(name, nothing)
            for name in self.parameter_names
        ]
        self._count()
        self._watch()

    def _gone(self) -> dict[str, str]:
        here = {name for name, _ in self.layers}
        return {name: kind for name, kind in self.types.items() if name not in here}

    def _name_unreadable(self, found: dict[str, nn.Parameter]) -> None:
        if not found or set(found) <= self._unreadable:
            return
        self._unreadable |= set(found)
        kinds = sorted({type(p).__name__ for p in found.values()})
        warnings.warn(
            f"The numbers of {', '.join(found)} cannot be read: {', '.join(kinds)} is a class of "
            "tensors that does not give the norm of its values. Their columns hold NaN; outputs "
            "and gradients of the layers are recorded.",
            RuntimeWarning,
            stacklevel=5,
        )

    def _watch(self) -> None:
        """Remember what `changed` compares with."""
        modules = list(self._model.modules())
        self.whole = [module for module in modules if isinstance(module, WHOLE)]
        self._parents = [module for module in modules if child_modules(module)]
        self._modules = list(
            chain.from_iterable(child_modules(module).values() for module in self._parents)
        )
        self._follows_parameters = not self.sharded and all(
            type(p) in (nn.Parameter, nn.UninitializedParameter) for p in self._model.parameters()
        )
        self._owners = [own for module in modules if (own := own_parameters(module))]
        self._held = list(chain.from_iterable(map(dict.values, self._owners)))


def called_around(
    structure: Structure, ran: set[str], trains: Callable[[nn.Parameter], bool]
) -> set[str]:
    """Layers that no hook saw run, and whose parameters the backward pass reaches all the same.

    Left out are modules without a forward of their own, such as nn.ParameterList, and parameters
    that a layer that ran holds too.

    Args:
        structure: Of the watched model.
        ran: Names of the layers that have rows.
        trains: Whether the backward pass that is running reaches a parameter.

    Returns:
        Their names: their `forward` was called directly, or a function used their weights.
    """
    missing = [
        (name, module)
        for name, module in structure.layers
        if name not in ran
        and name != ROOT
        and type(module).forward is not nn.Module.forward
        and own_parameters(module)
    ]
    if not missing:
        return set()
    explained = {id(p) for m in structure.whole for p in m.parameters()}
    for name, module in structure.layers:
        if name in ran:
            explained |= {id(p) for p in module.parameters(recurse=False)}
    return {
        name
        for name, module in missing
        if any(
            id(p) not in explained and p.requires_grad and readable(p) and trains(p)
            for p in module.parameters(recurse=False)
        )
    }
