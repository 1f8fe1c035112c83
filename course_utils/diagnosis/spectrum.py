"""Singular values of the input-output Jacobian: exact for small nets, Lanczos for large ones."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..arguments import integer, one_of
from .running import borrowed

EXACT_UP_TO = 1 << 20
"""Entries of the Jacobian up to which it is computed whole."""


def jacobian_singular_values(
    model: nn.Module | Callable[[Tensor], Tensor],
    x: Tensor,
    k: int | None = None,
    *,
    method: str | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Singular values of ∂f(x)/∂x, largest first.

    x and f(x) count as one long vector each, so hand over one input (as a batch of one where the
    model wants a batch). Small Jacobians are computed whole, row by row; of large ones the
    largest values come from Golub-Kahan-Lanczos bidiagonalization through vector products with J
    and Jᵀ, reorthogonalized, without ever building J.

    Args:
        model: A module, run in the mode it is in and left as it was, or a function.
        x: The input, floating point.
        k: How many values; None for all, which needs the exact method.
        method: "exact" or "lanczos"; by the size of the Jacobian when None.
        generator: Source of the start vector of Lanczos; `torch.Generator().manual_seed(0)` when
            None.

    Returns:
        (k,) float64 on the CPU, in descending order.

    Raises:
        TypeError: If `x` is no floating-point tensor, or the output none, or `k` no integer.
        ValueError: If `k` is out of range or `method` unknown, or the output does not depend
            on x.

    References:
        G. Golub and W. Kahan, "Calculating the Singular Values and Pseudo-Inverse of a Matrix",
        SIAM Journal on Numerical Analysis 2(2), 1965. J. Pennington, S. Schoenholz and
        S. Ganguli, "Resurrecting the Sigmoid in Deep Learning through Dynamical Isometry",
        NeurIPS 2017.

    >>> layer = nn.Linear(2, 2, bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[0.0, 3.0], [-4.0, 0.0]]))
    >>> jacobian_singular_values(layer, torch.ones(1, 2)).tolist()
    [4.0, 3.0]
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x={x!r} must be a floating-point tensor.")
    one_of("method", method, (None, "exact", "lanczos"))
    module = model if isinstance(model, nn.Module) else nn.Identity()
    with borrowed(module):
        leaf = x.detach().clone().requires_grad_()
        output = model(leaf)
        if not isinstance(output, Tensor) or not output.is_floating_point():
            raise TypeError(
                f"The model returned a {type(output).__name__}: one tensor is expected."
            )
        if not output.requires_grad:
            raise ValueError("The output does not depend on x: something detaches it.")
        most = min(leaf.numel(), output.numel())
        count = most if k is None else integer("k", k, 1, most, hint="None is all of them.")
        small = k is None or leaf.numel() * output.numel() <= EXACT_UP_TO
        if method == "exact" or (method is None and small):
            return _exact(leaf, output)[:count]
        if k is None:
            raise ValueError("method='lanczos' needs k, the number of values asked for.")
        start = generator or torch.Generator().manual_seed(0)
        return _lanczos(leaf, output, count, start)


def _exact(x: Tensor, output: Tensor) -> Tensor:
    rows = []
    flat = output.reshape(-1)
    for i in range(flat.numel()):
        (row,) = torch.autograd.grad(flat[i], x, retain_graph=True)
        rows.append(row.reshape(-1))
    return torch.linalg.svdvals(torch.stack(rows).double().cpu())


def _lanczos(x: Tensor, output: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Bidiagonalize J until the values asked for no longer move."""
    probe = torch.zeros_like(output, requires_grad=True)
    (pulled,) = torch.autograd.grad(output, x, probe, create_graph=True)

    def times(v: Tensor) -> Tensor:
        """J v, as the derivative of Jᵀu with respect to u."""
        (found,) = torch.autograd.grad(pulled, probe, v.reshape(x.shape).to(x), retain_graph=True)
        return found.reshape(-1).double().cpu()

    def transposed(u: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(
            output, x, u.reshape(output.shape).to(output), retain_graph=True
        )
        return found.reshape(-1).double().cpu()

    v = torch.randn(x.numel(), generator=generator, dtype=torch.float64)
    v = v / v.norm()
    right, left = [v], list[Tensor]()
    alphas, betas = list[float](), list[float]()
    values = torch.zeros(count, dtype=torch.float64)
    most = min(x.numel(), output.numel())
    for step in range(1, most + 1):
        u = times(right[-1])
        if left:
            u = u - betas[-1] * left[-1]
        u = _against(u, left)
        alpha = float(u.norm())
        if alpha == 0:
            break
        left.append(u / alpha)
        alphas.append(alpha)
        w = _against(transposed(left[-1]) - alpha * right[-1], right)
        beta = float(w.norm())
        matrix = torch.diag(torch.tensor(alphas, dtype=torch.float64))
        for i, value in enumerate(betas[: len(alphas) - 1]):
            matrix[i, i + 1] = value
        before, values = values, torch.linalg.svdvals(matrix)
        settled = step > count and torch.allclose(
            before[:count], values[:count], rtol=1e-10, atol=0.0
        )
        if settled or beta <= 1e-14 * float(values[0]):
            break
        right.append(w / beta)
        betas.append(beta)
    result = torch.zeros(count, dtype=torch.float64)
    found = min(count, len(values))
    result[:found] = values[:found]
    return result if math.isfinite(float(result.sum())) else result.fill_(math.nan)


def _against(vector: Tensor, basis: list[Tensor]) -> Tensor:
    """Take out what lies along the basis, twice, because once leaves rounding errors."""
    for _ in range(2 if basis else 0):
        stacked = torch.stack(basis)
        vector = vector - stacked.T @ (stacked @ vector)
    return vector
