"""Explorer of notebook 09: the eigenvalues of one step of a gated cell, and what many leave."""

import math

import numpy as np
import torch

from ..runtime import seeded
from .grid import GridExplorer, Line, Panel, Points, Readout, Slider

KINDS = ("LSTM", "LSTM, tied input gate", "GRU", "diagonal, same eigenvalues")
BIASES = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
VARIANCES = (0.0, 1 / 12, 1 / 3, 0.75, 1.5)
"""v = n·Var(U_jk); PyTorch's weights have 1/3."""
LAGS = (10, 50, 100, 300, 1000)
"""Where the marker stands."""
DIAGONAL = 3
"""Which of the kinds is the diagonal net."""

WIDTH = 64
_LAG = np.unique(np.rint(np.geomspace(1, 1000, 25)).astype(int))  # where g is measured
_CURVE = np.linspace(-2, 9, 111)
_FLOOR, _CEILING = 1e-12, 1e6
_PROBES = 32
_ROOT_V = np.sqrt(np.array(VARIANCES))


def gate_explorer() -> GridExplorer:
    """Explorer of notebook 09: where do the eigenvalues of one step lie?

    One step of a cell at rest is J = kept·I + M with M = opening·U, U a Gaussian matrix of 64 units
    that is the same at every step. An LSTM keeps σ(b) and opens σ(0)² = ¼, with a tied input gate
    (1 − σ(b))·½; a GRU keeps z = σ(b) and opens (1 − z)·½. The diagonal net has the eigenvalues of
    the tied LSTM and nothing beside them: each unit is on its own. The panels show the
    eigenvalues of J with the unit circle and the predicted disc; g against the lag, measured and
    predicted; and the slope ∂σ(b)^T/∂b over b for the T of the marker.

    Returns:
        The explorer, with the traits `kind`, `bias`, `variance` and `lag`.
    """
    kept, opening, eigenvalues, g = measure()
    radius = opening[..., None] * _ROOT_V
    thick = np.stack([growth(int(k), kept, radius) for k in _LAG], axis=-1)
    with np.errstate(under="ignore"):
        thin = kept[..., None] ** _LAG
    grid = (len(KINDS), len(BIASES), len(VARIANCES), 1)
    turn = np.linspace(0, 2 * np.pi, 61)
    circle = np.stack([np.cos(turn), np.sin(turn)])
    disc_x = (kept[..., None, None] + radius[..., None] * circle[0])[..., None, :]
    disc_y = np.broadcast_to(radius[..., None] * circle[1], disc_x.shape[:3] + turn.shape)
    disc_y = disc_y[..., None, :]
    steps = np.array(LAGS)
    gate = 1 / (1 + np.exp(-_CURVE))
    felt = steps[:, None] * gate ** steps[:, None] * (1 - gate)
    own = 1 / (1 + np.exp(-np.array(BIASES)))
    here = steps[None, :] * own[:, None] ** steps[None, :] * (1 - own[:, None])
    peak = (steps / (steps + 1)) ** (steps + 1)
    at_lag = np.stack([growth(int(T), kept, radius) for T in steps], axis=-1)
    factor = kept[..., None] + radius
    loss = -np.log(np.where(factor < 1, factor, np.nan))
    horizon = np.where(factor < 1, 1 / loss, np.inf)
    marker = np.broadcast_to(steps[:, None].astype(float), (len(LAGS), 2))
    return GridExplorer(
        title="Where do the eigenvalues of one step lie?",
        sliders=(
            Slider("kind", "cell", KINDS, start=0),
            Slider("bias", "bias b of its gate", BIASES, start=3, format=".0f"),
            Slider("variance", "recurrent weights v", VARIANCES, start=2, format=".3f"),
            Slider("lag", "lag T (marker)", LAGS, start=1, format="d"),
        ),
        panels=(
            Panel(
                title="Eigenvalues of one step",
                xlabel="real part",
                ylabel="imaginary part",
                marks=(
                    Line(circle[0], circle[1], "unit circle", color=6, width=1.5),
                    Line(disc_x, disc_y, "predicted disc", color=1, width=1.5, dash="dashed"),
                    Points(
                        eigenvalues.real[..., None, :],
                        eigenvalues.imag[..., None, :],
                        "64 eigenvalues",
                        color=0,
                        size=3.5,
                    ),
                ),
                xlim=(-1.3, 1.7),
                ylim=(-1.5, 1.5),
                equal=True,
            ),
            Panel(
                title="Gradient against the lag",
                xlabel="steps back k",
                ylabel="g",
                marks=(
                    Line(
                        _LAG,
                        _to_the_border(thick)[..., None, :],
                        "the same matrix again",
                        color=6,
                        width=3,
                    ),
                    Line(
                        _LAG,
                        _to_the_border(thin)[..., None, None, :],
                        "gates alone",
                        color=6,
                        width=1,
                    ),
                    Points(_LAG, _in_view(g)[..., None, :], "measured", color=1, size=5),
                    Line(
                        marker[None, None, None],
                        np.array([_FLOOR, _CEILING]),
                        "lag T",
                        color=5,
                        width=1.5,
                        dash="dotted",
                    ),
                ),
                xlim=(1, 1000),
                ylim=(_FLOOR, _CEILING),
                xscale="log",
                yscale="log",
            ),
            Panel(
                title="What the bias feels of T steps",
                xlabel="bias b",
                ylabel="slope of σ(b)ᵀ by b",
                marks=(
                    Line(_CURVE, felt[None, None, None], "slope", color=0),
                    Line(
                        np.log(marker)[None, None, None],
                        np.array([0.0, 0.4]),
                        "log T",
                        color=2,
                        width=1.5,
                        dash="dashed",
                    ),
                    Points(
                        np.array(BIASES)[None, :, None, None, None],
                        here[None, :, None, :, None],
                        "bias of the slider",
                        color=1,
                        size=9,
                    ),
                ),
                xlim=(-2, 9),
                ylim=(0, 0.4),
            ),
        ),
        readouts=(
            Readout("g per step, in the end", np.broadcast_to(factor[..., None], grid), ".4f"),
            Readout("below 1/e after steps", np.broadcast_to(horizon[..., None], grid), ".3g"),
            Readout("g at lag T", at_lag, ".3g"),
            Readout("largest slope for T", np.broadcast_to(peak, (1, 1, 1, len(LAGS))), ".3f"),
        ),
    )


def measure() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues of one step and the gradient behind many, for each cell, bias and v.

    Returns:
        What one step keeps, (kinds, biases); what it opens for the recurrent matrix, the same
        shape; the eigenvalues of kept·I + opening·√v·U, complex, (kinds, biases, variances, n);
        the root mean square gradient behind each lag, (kinds, biases, variances, lags).
    """
    own = 1 / (1 + np.exp(-np.array(BIASES)))
    kept = np.broadcast_to(own, (len(KINDS), len(BIASES)))
    opening = np.stack([np.full_like(own, 0.25), (1 - own) / 2, (1 - own) / 2, (1 - own) / 2])
    n, generator = WIDTH, seeded(900)
    U = _gaussian(generator, n, n) / math.sqrt(n)
    probes = _gaussian(generator, n, _PROBES)
    spectrum, vectors = np.linalg.eig(U)
    eigenvalues = (
        kept[..., None, None] + opening[..., None, None] * _ROOT_V[:, None] * spectrum[None, None]
    )
    # (V Λᵏ V⁻¹) probes, all lags at once: what J = V Λ V⁻¹ does k times
    inside = np.linalg.solve(vectors, probes.astype(complex))
    size = (probes**2).sum()
    weights = vectors.conj().T @ vectors * (inside @ inside.conj().T).T  # of λ_iᵏ* λ_jᵏ
    with np.errstate(under="ignore"):
        powers = eigenvalues[..., None] ** _LAG
        paths = (powers.conj(), weights, powers)
        squares = np.einsum("...ik,ij,...jk->...k", *paths, optimize=True).real / size
        squares[DIAGONAL] = (np.abs(powers[DIAGONAL]) ** 2).mean(-2)
    g = np.sqrt(np.maximum(squares, 0))
    return kept, opening, eigenvalues, g


def growth(steps: int, kept: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """The root mean square gradient behind some steps, as equation 6 predicts it for each kind.

    √Σ C(T, k)² kept^(2T−2k) radius^(2k); of the diagonal net each term over k + 1, the mean of
    |λ|^(2k) over the unit disc.

    Args:
        steps: T, at least 1.
        kept: What one step keeps, (kinds, biases), positive.
        radius: Radius of the disc of eigenvalues, (kinds, biases, variances).

    Returns:
        Shape (kinds, biases, variances); inf where it is beyond float64.
    """
    k = np.arange(steps + 1)
    binomial = np.array([math.lgamma(i + 1) + math.lgamma(steps - i + 1) for i in k])
    binomial = math.lgamma(steps + 1) - binomial
    with np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore"):
        part = np.where(k == 0, 0.0, k * np.log(radius[..., None]))
        logs = 2 * (binomial + (steps - k) * np.log(kept[..., None, None]) + part)
        logs[DIAGONAL] -= np.log(k + 1)
        top = logs.max(-1)
        return np.exp((top + np.log(np.exp(logs - top[..., None]).sum(-1))) / 2)


def _gaussian(generator: torch.Generator, *shape: int) -> np.ndarray:
    return torch.randn(shape, generator=generator, dtype=torch.float64).numpy()


def _in_view(g: np.ndarray) -> np.ndarray:
    """Hide dots that lie outside of the picture."""
    return np.where((g >= _FLOOR) & (g <= _CEILING), g, np.nan)


def _to_the_border(g: np.ndarray) -> np.ndarray:
    """Lines go on a little outside of the picture, and there they stay."""
    return np.clip(g, _FLOOR / 100, _CEILING * 100)
