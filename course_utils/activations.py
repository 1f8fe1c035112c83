"""Each activation once: function, slope, bound of the slope, where it is reached, source."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """An elementwise nonlinearity φ and its slope φ′.

    Attributes:
        name: Its name in `ACTIVATIONS`.
        function: φ, tensor to tensor of the same shape.
        slope: φ′; at a kink the convention is the one PyTorch's autograd uses.
        bound: sup |φ′|, dimensionless.
        bound_at: A z where the bound is reached, or ±inf where it is approached.
        kinks: Points where φ is not differentiable.
        saturates: Whether φ′ tends to 0 on at least one side.
        source: Author, year.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    bound: float
    bound_at: float
    kinks: tuple[float, ...]
    saturates: bool
    source: str
