"""Explorer of notebook 08: strength of the skip, norm and depth of a random residual network."""

import math

import numpy as np
import torch
from torch import Tensor

from ..runtime import fixed
from .grid import GridExplorer
from .random_networks import forward, gradients, one_thread
from .spec import Line, Panel, Readout, Slider

NORMS = ("none", "batch")
STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
DEPTHS = (5, 10, 20, 30, 40, 50)

WIDTH, SEEDS, SAMPLES, LAYERS = 96, 4, 48, 50
_VARYING = 1 - 1 / math.pi  # share of a ReLU's mean square that varies over the batch
_FEW = SAMPLES / (SAMPLES - 3)  # mean of 1/variance of so many samples, times the true variance


def residual_explorer() -> GridExplorer:
    """Explorer of notebook 08: what a skip of strength a does to gradients and their likeness.

    The network is x_l = a·x_(l−1) + W_l ReLU(norm(x_(l−1))) with He weights, width 96: a = 0 is a
    plain network and a = 1 a residual one. All samples get the same gradient at the last layer,
    and the statistics of batch norm are held fixed on the way back. The first panel shows the
    gradient's norm at every layer over that at the last one, the second the correlation of the
    gradients of two samples, both measured (4 seeds) and predicted.

    Returns:
        The explorer, with the traits `norm`, `strength` and `depth`.
    """
    g, correlation = measure()
    line, alike = predicted()
    layers = np.arange(LAYERS + 1)
    return GridExplorer(
        title="How strong must the skip be?",
        sliders=(
            Slider("norm", "norm in the branch", NORMS, start=1),
            Slider("strength", "skip strength a", STRENGTHS, start=10, format=".1f"),
            Slider("depth", "depth L (blocks)", DEPTHS, start=5, format="d"),
        ),
        panels=(
            Panel(
                title="Gradient on its way back",
                xlabel="layer l",
                ylabel="‖∂𝓛/∂x_l‖ over that of the last layer",
                marks=(
                    Line(layers, g, "measured", color=0, width=3),
                    Line(layers, line, "predicted", color=1, dash="dashed"),
                ),
                xlim=(0, LAYERS),
                ylim=(1e-1, 1e8),
                yscale="log",
            ),
            Panel(
                title="How alike two gradients are",
                xlabel="layer l",
                ylabel="correlation",
                marks=(
                    Line(layers, correlation, "measured", color=0, width=3),
                    Line(layers, alike, "predicted", color=1, dash="dashed"),
                ),
                xlim=(0, LAYERS),
                ylim=(-0.05, 1.05),
            ),
        ),
        readouts=(
            Readout("g at the input over g at the output, measured", g[..., 0], ".3g"),
            Readout("g at the input over g at the output, predicted", line[..., 0], ".3g"),
            Readout("correlation at the input, measured", correlation[..., 0], ".3f"),
            Readout("correlation at the input, predicted", alike[..., 0], ".3f"),
        ),
    )


@one_thread()
def measure() -> tuple[np.ndarray, np.ndarray]:
    """Gradient profile and correlation of random networks.

    Returns:
        Two arrays of shape (norms, strengths, depths, layers + 1), NaN behind layer L: the norm of
        the gradient at layer l over that at L (geometric mean over seeds), and the correlation of
        the gradients of two samples, mean over pairs and seeds.
    """
    shape = (len(NORMS), len(STRENGTHS), len(DEPTHS), LAYERS + 1)
    g, correlation = np.full(shape, np.nan), np.full(shape, np.nan)
    generator = fixed(8)
    weights = torch.randn(LAYERS, SEEDS, WIDTH, WIDTH, generator=generator) * (2 / WIDTH) ** 0.5
    x = torch.randn(SEEDS, WIDTH, SAMPLES, generator=generator)
    delta = torch.randn(SEEDS, WIDTH, 1, generator=generator)
    strength = torch.tensor(STRENGTHS)[:, None, None, None]
    for i, norm in enumerate((None, _batch_norm)):
        start = x.repeat(len(STRENGTHS), 1, 1, 1).requires_grad_()
        states, _ = forward(start, weights, norm=norm, skip=strength)
        for j, depth in enumerate(DEPTHS):
            found = [part.double() for part in gradients(states, depth, delta)]
            sizes = torch.stack([part.square().sum((2, 3)) for part in found])
            shared = torch.stack([part.sum(3).square().sum(2) for part in found])
            g[i, :, j, : depth + 1] = np.exp((sizes / sizes[-1]).log().mean(2).numpy().T / 2)
            alike = (shared - sizes) / ((SAMPLES - 1) * sizes)
            correlation[i, :, j, : depth + 1] = alike.mean(2).numpy().T
    return g, correlation


def predicted() -> tuple[np.ndarray, np.ndarray]:
    """The same two arrays in a wide network.

    With 1/s the mean of 1/variance of x over a batch of B (1 without norm; B/(B − 3) more than for
    an infinite batch with it), a block multiplies g² by a² + 1/s and the correlation by
    (a² + p/s)/(a² + 1/s), p being the chance that a unit open for one sample is open for the other.
    """
    shape = (len(NORMS), len(STRENGTHS), len(DEPTHS), LAYERS + 1)
    line, alike = np.full(shape, np.nan), np.full(shape, np.nan)
    for i, norm in enumerate(NORMS):
        for k, strength in enumerate(STRENGTHS):
            growth, kept = _factors(strength, norm == "batch")
            for j, depth in enumerate(DEPTHS):
                for layer in range(depth + 1):
                    line[i, k, j, layer] = math.sqrt(math.prod(growth[layer:depth]))
                    alike[i, k, j, layer] = math.prod(kept[layer:depth])
    return line, alike


def _factors(strength: float, batch: bool) -> tuple[list[float], list[float]]:
    """Factor of g² and of the correlation, block by block."""
    square, spread, cosine = strength**2, 1.0, 0.0
    growth, kept = [], []
    for _ in range(LAYERS):
        angle = math.acos(min(1.0, cosine))
        share, both_open = (_FEW / spread, 0.5) if batch else (1.0, 1 - angle / math.pi)
        growth.append(square + share)
        kept.append((square + both_open * share) / (square + share))
        spread = square * spread + _VARYING
        passed = (math.sin(angle) + (math.pi - angle) * cosine) / math.pi
        cosine = (square * cosine + passed) / (square + 1)
    return growth, kept


def _batch_norm(x: Tensor) -> Tensor:
    """Every unit of (…, units, samples) over its samples, statistics held fixed on the way back."""
    mean, variance = x.detach().mean(-1, keepdim=True), x.detach().var(-1, False, keepdim=True)
    return (x - mean) * variance.add(1e-12).rsqrt()
