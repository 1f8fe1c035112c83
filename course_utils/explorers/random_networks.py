"""Random networks of many settings at once, for the explorers of notebooks 07, 08 and 12."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


@contextmanager
def one_thread() -> Iterator[None]:
    """Work on one core: on small matrices a second thread waits more than it does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def forward(
    z: Tensor,
    weights: Iterable[Tensor],
    *,
    phi: Callable[[Tensor], Tensor] = torch.relu,
    norm: Callable[[Tensor], Tensor] | None = None,
    skip: float | Tensor = 0.0,
) -> tuple[list[Tensor], list[Tensor]]:
    """z_l = skip·z_(l−1) + W_l h_(l−1) with h = φ(norm(z)), layer by layer.

    Args:
        z: z_0, shape (…, units, samples).
        weights: W_1 … W_L, each (…, units, units).
        phi: The activation.
        norm: What is done to z before it, nothing when None.
        skip: Strength of the skip connection, any shape that broadcasts with z.

    Returns:
        z_0 … z_L and h_0 … h_L, all in one graph of autograd.
    """
    states, inputs = [z], []
    for W in weights:
        inputs.append(phi(z if norm is None else norm(z)))
        z = skip * z + W @ inputs[-1]
        states.append(z)
    return states, [*inputs, phi(z if norm is None else norm(z))]


def gradients(states: list[Tensor], depth: int, arriving: Tensor) -> tuple[Tensor, ...]:
    """∂𝓛/∂(state) of the first states up to `depth`, where `arriving` is that of the last one.

    Args:
        states: States of one graph, the input first.
        depth: Index of the last one.
        arriving: Gradient there, of any shape that expands to it.

    Returns:
        One gradient per state, the last of them `arriving`.
    """
    end = states[depth]
    wanted = states[: depth + 1]
    return torch.autograd.grad(end, wanted, arriving.expand_as(end), retain_graph=True)


def normalized(z: Tensor, dim: int = -1) -> Tensor:
    """Values of mean 0 and variance 1 along one axis."""
    z = z - z.mean(dim, keepdim=True)
    return z * torch.rsqrt(z.square().mean(dim, keepdim=True) + 1e-12)


def shown(sizes: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Sizes cut just outside of the picture, so that a line leaves it and float32 holds it."""
    return np.clip(sizes, limits[0] / 100, limits[1] * 100)
