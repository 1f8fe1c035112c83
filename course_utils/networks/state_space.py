"""Diagonal state-space layers: a recurrence whose matrix is a list of eigenvalues."""

import math

import torch
from torch import Tensor, nn

from ..arguments import boolean, check_generator, integer, number


def scan(a: Tensor, b: Tensor) -> Tensor:
    """All h_t = a_t h_{t−1} + b_t at once, from h_0 = 0, in ⌈log₂T⌉ operations on whole arrays.

    Two steps in a row are one step: (a, b) then (a′, b′) is (a′a, a′b + b′). Each pass combines
    every step with the one 1, 2, 4, … places before it.

    Args:
        a: Factors of shape (…, T, n), real or complex; expanded to the shape of b.
        b: What is added, (…, T, n).

    Returns:
        All states, (…, T, n).

    Raises:
        ValueError: If the shapes do not fit.

    References:
        G. E. Blelloch, "Prefix Sums and Their Applications", Carnegie Mellon University, 1990.

    >>> scan(torch.tensor([[0.5]]), torch.ones(3, 1)).flatten()
    tensor([1.0000, 1.5000, 1.7500])
    """
    if b.dim() < 2:
        raise ValueError(f"b has shape {tuple(b.shape)}: (…, steps, units) is expected.")
    try:
        a = a.expand(b.shape)
    except RuntimeError:
        raise ValueError(
            f"a has shape {tuple(a.shape)}, which does not expand to that of b, {tuple(b.shape)}."
        ) from None
    reach = 1
    while reach < b.shape[-2]:
        early, late = slice(None, -reach), slice(reach, None)
        combined = a[..., late, :] * b[..., early, :] + b[..., late, :]
        factors = a[..., late, :] * a[..., early, :]
        b = torch.cat([b[..., :reach, :], combined], dim=-2)
        a = torch.cat([a[..., :reach, :], factors], dim=-2)
        reach *= 2
    return b


class DiagonalStateSpace(nn.Module):
    """A linear recurrence with a diagonal matrix: h_t = λ ⊙ h_{t−1} + γ ⊙ (B x_t), y_t = Re(C h_t).

    λ = exp(−e^ν + iθ) stays inside the unit circle whatever the optimizer does to ν, and
    γ = √(1 − |λ|²) gives the state the variance of its drive whatever λ. The eigenvalues start
    uniform on the area of a ring. B and C are complex with variance 1/inputs and 1/n.

    Args:
        inputs: Features of x_t, at least 1.
        width: n, complex entries of the state and features of y_t, at least 1.
        smallest: Inner radius of the ring, at least 0.
        largest: Its outer radius, at most 1 and above `smallest`.
        phase: Largest |θ| at the start, in radians, at most π.
        normalize: Whether γ is applied; without it γ = 1, and the state grows like 1/(1 − |λ|²).
        generator: Source of the weights, for example `cu.seeded(0)`.

    Raises:
        ValueError: If an argument lies outside its range.
        TypeError: If one is of another type.

    References:
        A. Orvieto et al., "Resurrecting Recurrent Neural Networks for Long Sequences", ICML 2023
        (there γ is learned from this start).

    >>> layer = DiagonalStateSpace(2, 8, generator=torch.Generator())
    >>> outputs, last = layer(torch.zeros(3, 100, 2))
    >>> outputs.shape, last.shape, last.is_complex()
    (torch.Size([3, 100, 8]), torch.Size([1, 3, 8]), True)
    """

    num_layers, batch_first, bidirectional = 1, True, False

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        smallest: float = 0.9,
        largest: float = 0.999,
        phase: float = math.pi,
        normalize: bool = True,
        generator: torch.Generator,
    ):
        super().__init__()
        self.input_size = integer("inputs", inputs, 1)
        self.hidden_size = integer("width", width, 1)
        outer = number("largest", largest, above=0, most=1)
        inner = number("smallest", smallest, least=0, below=outer)
        phase = number("phase", phase, least=0, most=math.pi)
        self.normalize = boolean("normalize", normalize)
        check_generator(generator)

        def draw(*shape: int, std: float) -> nn.Parameter:
            return nn.Parameter(std * torch.randn(*shape, 2, generator=generator))

        area = torch.rand(width, generator=generator, dtype=torch.float64)
        radius = (inner**2 + (outer**2 - inner**2) * area).sqrt().clamp(1e-6, 1 - 1e-7)
        angle = phase * (2 * torch.rand(width, generator=generator) - 1)
        self.nu = nn.Parameter((-radius.log()).log().float())
        self.theta = nn.Parameter(angle)
        self.B = draw(width, inputs, std=(2 * inputs) ** -0.5)
        self.C = draw(width, width, std=(2 * width) ** -0.5)

    def eigenvalues(self) -> Tensor:
        """λ, complex, of shape (n,)."""
        return torch.exp(torch.complex(-self.nu.exp(), self.theta))

    def drive(self, x: Tensor) -> Tensor:
        """γ ⊙ (B x_t) for all steps, complex, (…, T, n)."""
        B = torch.view_as_complex(self.B)
        driven = torch.complex(x @ B.real.T, x @ B.imag.T)
        if self.normalize:
            driven = driven * torch.sqrt(-torch.expm1(-2 * self.nu.exp()))
        return driven

    def read(self, states: Tensor) -> Tensor:
        """Re(C h), real, (…, n)."""
        C = torch.view_as_complex(self.C)
        return states.real @ C.real.T - states.imag @ C.imag.T

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (B, T, n) and the last state (1, B, n), as nn.RNN with batch_first gives them."""
        states = scan(self.eigenvalues(), self.drive(x))
        return self.read(states), states[..., -1, :].unsqueeze(0)

    def extra_repr(self) -> str:
        """Sizes, for `print(net)`."""
        return f"{self.input_size}, {self.hidden_size}, normalize={self.normalize}"
