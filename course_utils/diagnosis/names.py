"""Names of layers as a report says them: with type and shape, and many of a kind as a range."""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from ..measuring import ROOT
from .layer_calls import CONVOLUTIONS

_FEWEST = 3  # names alike that become a range

_MOST = 12
"""Parts of a line beyond which calls of one layer are not told apart."""


def describe(module: object) -> str:
    """Type and shape of a layer, "Linear 64→10" or "Conv2d 3→8, 3×3".

    >>> describe(nn.Linear(64, 10)), describe(nn.ReLU())
    ('Linear 64→10', 'ReLU')
    """
    kind = type(module).__name__.removeprefix("Parametrized")
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return f"{kind} {module.input_size}→{module.hidden_size}"
    if not isinstance(weight, Tensor) or isinstance(weight, nn.UninitializedParameter):
        return kind
    shape = tuple(weight.shape)
    if not isinstance(module, nn.Module):  # a weight in a model's own code
        return f"weight {_times(shape)}"
    if isinstance(module, CONVOLUTIONS):
        return f"{kind} {module.in_channels}→{module.out_channels}, {_times(shape[2:])}"
    if len(shape) == 2 and not isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return f"{kind} {shape[1]}→{shape[0]}"
    return f"{kind} {_times(shape)}"


def _times(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape))


_MOST = 12
"""So many groups of layers are named in a line."""


def in_words(names: Iterable[str], described: Callable[[str], str]) -> str:
    """Layers in a line: each with type and shape, and those that differ in one number as a range.

    Args:
        names: Of layers, input side first.
        described: Type and shape of one, or "".

    >>> in_words(["0", "head", *(f"blocks.{i}.up" for i in range(9))], lambda name: "Linear 4→4")
    '0, head (Linear 4→4), blocks.0.up … blocks.8.up (9 × Linear 4→4)'
    """
    names = list(names)
    groups: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name in names:
        found = re.search(r"\d+", name)
        mask = name if found is None else f"{name[: found.start()]}\0{name[found.end() :]}"
        place = int(found.group()) if found else 0
        groups.setdefault((mask, described(name)), []).append((place, name))
    parts: list[tuple[str, str]] = []
    for (_, what), members in groups.items():
        steps = {b - a for (a, _), (b, _) in pairwise(members)}
        if len(members) < _FEWEST:
            parts += [(name, what) for _, name in members]
            continue
        step = steps.pop() if len(steps) == 1 else 0
        every = "" if step == 1 else f", in steps of {step}" if step else ", not all between"
        count = f"{len(members)} × {what}" if what else f"{len(members)} layers"
        parts.append((f"{members[0][1]} … {members[-1][1]}", f"{count}{every}"))
    if len(parts) > _MOST and any("#" in name for name, _ in parts):  # calls by the dozen
        return in_words(dict.fromkeys(name.split("#")[0] for name in names), described)
    said: list[str] = []
    if len(parts) > _MOST:
        left = len(parts) - _MOST
        parts = [*parts[:_MOST], (f"… and {left} more groups", "")]
    for i, (name, what) in enumerate(parts):
        last = " … " in name or i + 1 == len(parts) or parts[i + 1][1] != what
        said.append(f"{name} ({what})" if what and last else name)
    return ", ".join(said)


def of_model(model: nn.Module, parts: dict[str, object]) -> Callable[[str], str]:
    """Type and shape by name of a layer, of a call of it ("fc#2") or of an output ("lstm[0]").

    Args:
        model: The model.
        parts: Layers that are no modules, by name.
    """
    modules = dict(model.named_modules())

    def described(name: str) -> str:
        plain = re.split(r"[#\[]", name)[0]
        module = modules.get("" if name == ROOT else plain) or parts.get(plain)
        return "" if module is None else describe(module)

    return described


def some_of(names: Sequence[str]) -> str:
    """The first names of parameters, and how many there are."""
    more = f", … ({len(names)} parameters)" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def owners(names: Iterable[str]) -> tuple[str, ...]:
    """Modules that own parameters of these names, each once."""
    return tuple(dict.fromkeys(name.rpartition(".")[0] or "(model)" for name in names))
