"""Explorer of notebook 03: a 2×2 matrix by its eigenvalues and the angle of its eigenvectors."""

import numpy as np

from .grid import GridExplorer, Line, Panel, Points, Readout, Slider

DEPTH = 40
EIGENVALUES = (-1.2, -1.0, -0.8, -0.4, 0.0, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2)
ANGLES = (3.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 75.0, 90.0)
"""Angle between the two eigenvectors, in degrees."""

_XLIM, _YLIM = (-6.0, 6.0), (-3.6, 3.6)
_FLOOR, _CEILING = 1e-4, 1e6
_STEPS_OF_PATH = 12


def eigenvalues_explorer() -> GridExplorer:
    """Explorer of notebook 03: two eigenvalues and an angle make a matrix; watch its powers.

    The first eigenvector lies along the horizontal axis, the second at the angle α to it, so that
    W = [[λ₁, (λ₂ − λ₁) cot α], [0, λ₂]]. The panels show the ellipse that W makes of the unit
    circle, the path of the vector (0, 1) under W, W², W³, …, and ‖Wᵏ‖ against the number of
    factors k between its bounds ρᵏ and σ₁ᵏ. Readouts are ρ, σ₁, the largest ‖Wᵏ‖ for k up to 40
    and where it is reached.

    Returns:
        The explorer, with the traits `first`, `second` (the eigenvalues) and `angle` (degrees).
    """
    W = matrix_of(
        np.array(EIGENVALUES)[:, None, None], np.array(EIGENVALUES)[None, :, None], np.array(ANGLES)
    )
    powers = matrix_powers(W, DEPTH)
    norms = np.linalg.norm(powers, 2, axis=(-2, -1))
    radius = np.abs(np.linalg.eigvals(W)).max(-1)
    u, sigma, _ = np.linalg.svd(W)
    turn = np.linspace(0, 2 * np.pi, 45)
    ellipse = _in_view(W @ np.stack([np.cos(turn), np.sin(turn)]))
    path = _in_view(np.moveaxis(powers[..., : _STEPS_OF_PATH + 1, :, 1], -1, -2))
    axes = (u * sigma[..., None, :])[..., [0, 0, 1]] * np.array([1, 0, 1])
    k = np.arange(DEPTH + 1)
    return GridExplorer(
        title="What do the powers of a matrix do?",
        sliders=(
            Slider("first", "eigenvalue λ₁", EIGENVALUES, start=8, format=".1f"),
            Slider("second", "eigenvalue λ₂", EIGENVALUES, start=7, format=".1f"),
            Slider("angle", "angle of the eigenvectors (degrees)", ANGLES, start=0, format=".0f"),
        ),
        panels=(
            Panel(
                title="One factor",
                xlabel="first component",
                ylabel="second component",
                marks=(
                    *_eigenvector_lines(),
                    Line(np.cos(turn), np.sin(turn), "unit circle", color=6, width=1),
                    Line(ellipse[..., 0, :], ellipse[..., 1, :], "its image under W", color=0),
                    Line(axes[..., 0, :], axes[..., 1, :], "half-axes σ₁u₁, σ₂u₂", color=1),
                ),
                xlim=_XLIM,
                ylim=_YLIM,
                equal=True,
            ),
            Panel(
                title="Path of (0, 1) under W, W², … W¹²",
                xlabel="first component",
                ylabel="second component",
                marks=(
                    *_eigenvector_lines(),
                    Line(path[..., 0, :], path[..., 1, :], "path", color=0, width=1.5, marker=True),
                    Points(np.array([0.0]), np.array([1.0]), "start", color=1),
                ),
                xlim=_XLIM,
                ylim=_YLIM,
                equal=True,
            ),
            Panel(
                title="Norm against depth",
                xlabel="number of factors k",
                ylabel="norm",
                marks=(
                    Line(*_straight(sigma[..., 0]), "σ₁ᵏ", color=1, width=1.5, dash="dashed"),
                    Line(k, norms, "‖Wᵏ‖", color=0),
                    Line(*_straight(radius[..., :1]), "ρᵏ", color=2, width=1.5, dash="dotted"),
                ),
                xlim=(0, DEPTH),
                ylim=(_FLOOR, _CEILING),
                yscale="log",
            ),
        ),
        readouts=(
            Readout("spectral radius ρ", radius[..., :1], ".2f"),
            Readout("operator norm σ₁", sigma[..., 0], ".2f"),
            Readout(f"largest ‖Wᵏ‖ up to k = {DEPTH}", norms.max(-1), ".3g"),
            Readout("reached at k", norms.argmax(-1).astype(np.float64), ".0f"),
        ),
    )


def matrix_of(first: np.ndarray, second: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Matrices with given eigenvalues and angle between their eigenvectors.

    V diag(λ₁, λ₂) V⁻¹ with the eigenvectors (1, 0) and (cos α, sin α) as columns of V.

    Args:
        first: λ₁, any shape that broadcasts with the others.
        second: λ₂.
        angle: α in degrees, above 0 and at most 90.

    Returns:
        The matrices, float64, shape (*broadcast, 2, 2).

    >>> matrix_of(np.array(1.0), np.array(3.0), np.array(45.0)).round(12)
    array([[1., 2.],
           [0., 3.]])
    """
    first, second, angle = np.broadcast_arrays(first, second, np.deg2rad(angle))
    cotangent = np.cos(angle) / np.sin(angle)
    rows = [[first, (second - first) * cotangent], [np.zeros_like(first), second]]
    return np.moveaxis(np.array(rows, dtype=np.float64), (0, 1), (-2, -1))


def matrix_powers(W: np.ndarray, depth: int) -> np.ndarray:
    """W⁰, W¹, … W^depth by repeated multiplication.

    Args:
        W: Square matrices, shape (..., n, n).
        depth: The highest power, at least 0.

    Returns:
        Shape (..., depth + 1, n, n).
    """
    powers = [np.broadcast_to(np.eye(W.shape[-1]), W.shape)]
    for _ in range(depth):
        powers.append(W @ powers[-1])
    return np.stack(powers, axis=-3)


def _eigenvector_lines() -> tuple[Line, Line]:
    """The lines of both eigenvectors through the picture; the second turns with the angle."""
    ends = 2 * np.array(_XLIM)
    alpha = np.deg2rad(np.array(ANGLES))[None, None, :, None]
    x, y = np.cos(alpha) * ends, np.sin(alpha) * ends
    return (
        Line(ends, np.zeros(2), "eigenvectors", color=2, width=1.5, dash="dashed"),
        Line(x, y, color=2, width=1.5, dash="dashed"),
    )


def _in_view(points: np.ndarray) -> np.ndarray:
    """Hide points far outside of the picture: a line to the first of them still leaves it."""
    far = (np.abs(points) > 8 * _XLIM[1]).any(-2, keepdims=True)
    return np.where(far, np.nan, points)


def _straight(factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two ends of the line factorᵏ on a log axis, cut where it leaves the scale."""
    last = np.full(factor.shape, float(DEPTH))
    steep = factor**last > 10 * _CEILING
    last[steep] = np.log(10 * _CEILING) / np.log(factor[steep])
    x = np.stack([np.zeros_like(last), last], axis=-1)
    return x, factor[..., None] ** x
