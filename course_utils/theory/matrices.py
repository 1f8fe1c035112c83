"""What a product of many matrices does to a vector: spectral radius, operator norm, growth rate.

Three numbers that are often taken for one another. The spectral radius ρ says how the powers of
*one* matrix grow in the end. The operator norm σ₁ bounds what any *single* factor can do. The
Lyapunov exponent is the growth rate of a product of *different* random matrices.
"""

import math

import numpy as np
import torch
from torch import Tensor

from ..arguments import integer, number
from .quadrature import Nonlinearity, output_of


def spectral_radius(matrix: Tensor) -> float:
    """Largest absolute value of an eigenvalue: the factor per step of a repeated matrix.

    ρ = max |λᵢ|, and ‖Wᵏ‖^(1/k) → ρ as k grows (Gelfand). It says nothing about a few steps, nor
    about a product of different matrices.

    Args:
        matrix: Square matrix of shape (n, n), n at least 1; real or complex. Computed in float64.
            Where an eigenvalue is m-fold and has too few eigenvectors, its computed value is off
            by about ε^(1/m), 1e-8 for a double one.

    Returns:
        ρ, dimensionless, at least 0.

    Raises:
        ValueError: If `matrix` is not square, is empty, or holds NaN or Inf.

    References:
        R. A. Horn and C. R. Johnson, "Matrix Analysis", Cambridge University Press, 2nd ed. 2013.

    >>> round(spectral_radius(torch.tensor([[2.0, 3.0], [4.0, 5.0]])), 6)  # (7 + √57)/2
    7.274917
    """
    values = _matrix(matrix)
    if values.shape[0] != values.shape[1]:
        raise ValueError(
            f"matrix has shape {tuple(values.shape)}: only a square one has eigenvalues. For a "
            "layer that changes the width, ask for its operator_norm."
        )
    scale = values.abs().max()
    if scale == 0:
        return 0.0
    values = values / scale  # LAPACK does not converge where squares of entries underflow
    try:
        eigenvalues = torch.linalg.eigvals(values)
    except torch.linalg.LinAlgError:
        eigenvalues = torch.linalg.eigvals(values.masked_fill(values.abs() < 1e-150, 0))
    return (scale * eigenvalues.abs().max()).item()


def operator_norm(matrix: Tensor) -> float:
    """Largest singular value: the most that one factor can lengthen a vector.

    σ₁ = max ‖Wv‖/‖v‖ = √(largest eigenvalue of WᵀW). Always σ₁ ≥ ρ, and ‖W_L⋯W₁‖ ≤ ∏ σ₁(W_l) for
    any product.

    Args:
        matrix: Matrix of shape (m, n), both at least 1; real or complex. Computed in float64.

    Returns:
        σ₁, dimensionless, at least 0.

    Raises:
        ValueError: If `matrix` is not two-dimensional, is empty, or holds NaN or Inf.

    References:
        R. A. Horn and C. R. Johnson, "Matrix Analysis", Cambridge University Press, 2nd ed. 2013.

    >>> round(operator_norm(torch.tensor([[0.5, 10.0], [0.0, 0.5]])), 6)  # 5 + √25.25
    10.024938
    """
    return torch.linalg.svdvals(_matrix(matrix))[0].item()


def lyapunov_exponent(width: int, weight_std: float = 1.0) -> float:
    """Mean log growth per layer of a product of independent Gaussian matrices.

    γ = ½(log 2 + ψ(n/2) − log n) + log σ for entries N(0, σ²/n), ψ the digamma function. Exact at
    every depth and width: whatever the direction of v, ‖Wv‖²/‖v‖² is σ²/n times a chi-square
    variable with n degrees of freedom, whose mean logarithm is log 2 + ψ(n/2). About −1/(2n) at
    σ = 1: the typical vector shrinks although the mean of ‖Wv‖² is ‖v‖².

    Args:
        width: n, at least 1.
        weight_std: σ, standard deviation of a weight times √n; at least 0.

    Returns:
        γ, natural logarithm per layer; exp γ is the typical factor. −inf at σ = 0.

    Raises:
        TypeError: If `width` is no integer.
        ValueError: If an argument lies outside its range.

    References:
        J. E. Cohen and C. M. Newman, "The stability of large random matrices and their products",
        Annals of Probability 12(2), 1984.

    >>> round(lyapunov_exponent(10), 6), round(lyapunov_exponent(10, weight_std=2.0), 6)
    (-0.05166, 0.641487)
    """
    half = integer("width", width, 1) / 2
    std = number("weight_std", weight_std, least=0)
    if half < 500:
        isotropic = torch.special.digamma(torch.tensor(half, dtype=torch.float64)).item()
        isotropic = (isotropic - math.log(half)) / 2
    else:  # ψ(x) − log x by its asymptotic series: the two logarithms would cancel
        isotropic = -(1 / half + 1 / (6 * half**2) - 1 / (60 * half**4)) / 4
    return isotropic + (math.log(std) if std > 0 else -math.inf)


def log_norm_variance(width: int, depth: int, activation: Nonlinearity = "relu") -> float:
    """Variance over seeds of log‖h‖² after `depth` random layers: how far two seeds lie apart.

    (E[φ⁴]/E[φ²]² − 1)·L/n with z ~ N(0, 1): 5L/n for ReLU, 2L/n for a linear net. The squared
    norm of a gradient that arrives in a random direction scatters alike. The weights are
    N(0, σ²/n) and there is no bias; σ does not matter, because φ(az) = aφ(z) for a > 0. To leading
    order in 1/n: for ReLU the exact variance is 4 % higher at n = 100, 25 % at n = 20.

    Args:
        width: n, at least 1.
        depth: L, number of layers, at least 0.
        activation: A name in `ACTIVATIONS`, an `Activation`, or a callable on tensors, with
            φ(az) = aφ(z) for a > 0: "linear", "relu", "leaky_relu". For any other the factors
            depend on how large ‖h‖ is.

    Returns:
        The variance, dimensionless.

    Raises:
        TypeError: If a count is no integer, or `activation` is no activation.
        ValueError: If a count is out of range, the activation is unknown, not
            positively homogeneous, or zero everywhere.

    References:
        B. Hanin and M. Nica, "Products of Many Large Random Matrices and Gradients in Deep Neural
        Networks", Communications in Mathematical Physics 376, 2020.

    >>> round(log_norm_variance(100, 40), 12), round(log_norm_variance(100, 40, "linear"), 12)
    (2.0, 0.8)
    """
    width, depth = integer("width", width, 1), integer("depth", depth, 0)
    plus, minus = _slopes_of_homogeneous(activation)
    kurtosis = 6 * (plus**4 + minus**4) / (plus**2 + minus**2) ** 2  # E[φ⁴]/E[φ²]²
    return (kurtosis - 1) * depth / width


def _slopes_of_homogeneous(activation: Nonlinearity) -> tuple[float, float]:
    """Slopes right and left of 0 of an activation that is linear on either side."""
    z = np.array([1.0, -1.0, 0.0, 0.01, -0.01, 0.7, -0.7, 5.0, -5.0, 300.0, -300.0])
    values = output_of(activation).function(z)
    plus, minus = float(values[0]), -float(values[1])
    if not np.allclose(values, np.where(z > 0, plus * z, minus * z), atol=1e-12):
        raise ValueError(
            f"activation={activation!r} does not satisfy φ(az) = aφ(z): the spread then depends on "
            "the size of the signal and has no closed form. Use linear, relu or leaky_relu, or "
            "measure it over seeds."
        )
    if plus == minus == 0:
        raise ValueError(f"activation={activation!r} is zero everywhere: no norm is left.")
    return plus, minus


def _matrix(matrix: Tensor) -> Tensor:
    """`matrix` in float64 (complex128) on the CPU, or an error that names it."""
    try:
        values = torch.as_tensor(matrix).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"matrix={matrix!r} must be a tensor of shape (m, n), torch.eye(2) for instance."
        ) from None
    if values.ndim != 2 or values.numel() == 0:
        raise ValueError(
            f"matrix has shape {tuple(values.shape)}: one matrix with at least one row and one "
            "column is expected. For a batch, call this once per matrix."
        )
    values = values.to(torch.complex128 if values.is_complex() else torch.float64)
    if not torch.isfinite(values).all():
        raise ValueError("matrix holds NaN or Inf: it has neither eigenvalues nor a norm.")
    return values
