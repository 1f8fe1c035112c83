"""A factor per layer from a profile over depth, with its standard error."""

import math
from collections.abc import Sequence

import torch

from ..measuring import line_slope


class Factor(float):
    """A factor per layer. It is a float, and knows how sure it is.

    Attributes:
        standard_error: Of the factor, dimensionless; NaN with fewer than three layers.
        layers: Names of the layers it was fitted to.
    """

    standard_error: float
    layers: tuple[str, ...]

    def __new__(cls, value: float, standard_error: float, layers: Sequence[str]) -> "Factor":
        """Make a float that carries its standard error and its layers."""
        factor = super().__new__(cls, value)
        factor.standard_error = float(standard_error)
        factor.layers = tuple(layers)
        return factor

    def __getnewargs__(self) -> tuple:
        return float(self), self.standard_error, self.layers

    def __repr__(self) -> str:
        return f"{float(self):.4g} ± {self.standard_error:.2g} per layer"

    __str__ = __repr__


def fit_factor(rms: torch.Tensor, layers: Sequence[str], toward_the_input: bool) -> Factor:
    """Least squares line through log RMS over depth, as a factor per layer.

    With x = 0, 1, … the position and y = log RMS, the slope is b = Σ(x−x̄)(y−ȳ)/Σ(x−x̄)² and
    the factor f = e^b, or e^−b for a signal that travels toward the input. The standard error
    of b is √(Σ residual²/(n−2) / Σ(x−x̄)²), that of f is f times it.

    Args:
        rms: (layers,), float64. NaN where there is none: left out, but it counts as a layer.
        layers: Their names.
        toward_the_input: Whether the signal travels from the last layer to the first.

    Returns:
        The factor; 0 if a layer's RMS is exactly 0, NaN if one is infinite or fewer than two
        layers are left.
    """
    keep = ~rms.isnan()
    names = [name for name, kept in zip(layers, keep.tolist(), strict=True) if kept]
    y = rms[keep]
    if len(y) < 2 or y.isinf().any():
        return Factor(math.nan, math.nan, names)
    if (y == 0).any():
        return Factor(0.0 if (y != 0).any() else math.nan, math.nan, names)
    x = torch.arange(len(rms), dtype=torch.float64)[keep]
    slope, error = line_slope(x.numpy(), y.log().numpy())
    factor = math.exp(-slope if toward_the_input else slope)
    return Factor(factor, factor * error, names)
