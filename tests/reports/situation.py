"""A situation as a person meets it: what they hand to `cu.diagnose`, and which answers are right."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn


@dataclass
class Situation:
    """One report rebuilt.

    Attributes:
        name: What it is, in a few words.
        model: The network.
        batch: What `cu.diagnose` gets.
        loss: Likewise.
        optimizer: Likewise.
        kinds: Kinds that are the right answer; a tuple of sets where several answers are right.
        words: What the report must say outside its remedy, upper and lower case alike; "a|b" is
            either. Every figure and name here is what a person needs to act.
        remedy: What the remedy must say, likewise.
        forbidden: What the whole report, remedy included, must not say.
        source: Where it was reported: owner/repo#number, a site, or a line of the design.
        why: Why this is the right answer, where that is not plain.
        raises: The model's own error, which must come out; `words` are then looked for in it and
            its notes.
    """

    name: str
    model: nn.Module
    batch: object
    loss: Callable | None = None
    optimizer: torch.optim.Optimizer | None = None
    kinds: set | tuple = frozenset({"healthy"})
    words: tuple[str, ...] = ()
    remedy: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    source: str = ""
    why: str = ""
    raises: type[Exception] | None = None

    def accepted(self) -> tuple[set, ...]:
        """All sets of kinds that are right."""
        return tuple(map(set, self.kinds)) if isinstance(self.kinds, tuple) else (set(self.kinds),)

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong with it, so that any finding is a false alarm."""
        return {"healthy"} in self.accepted()


HEALTHY = {"healthy"}
QUIET = ({"healthy"}, {"undecided"})
"""No alarm: nothing is wrong, or one batch does not decide."""


def seed(number: int) -> None:
    """Seed torch."""
    torch.manual_seed(number)


def blobs(number: int, features: int, classes: int) -> tuple[Tensor, Tensor]:
    """Standardized inputs with labels that can be learned."""
    y = torch.arange(number) % classes
    centers = torch.randn(classes, features)
    x = centers[y] + 0.5 * torch.randn(number, features)
    return (x - x.mean(0)) / x.std(0), y


def line(number: int, features: int) -> tuple[Tensor, Tensor]:
    """Standardized inputs with standardized targets (N, 1)."""
    x = torch.randn(number, features)
    y = x @ torch.randn(features, 1) / features**0.5 + 0.1 * torch.randn(number, 1)
    return x, y


def mlp(*widths: int, act: type[nn.Module] = nn.ReLU, tail: tuple = ()) -> nn.Sequential:
    """Linear layers with activations between."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), act()]
    return nn.Sequential(*layers[:-1], *tail)
