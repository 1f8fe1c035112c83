"""Explorer of notebook 07: depth, batch size, weight scale and norm of a random ReLU network."""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import theory
from ..runtime import fixed
from .grid import GridExplorer
from .random_networks import forward, gradients, normalized, one_thread
from .spec import Line, Panel, Readout, Slider

NORMS = ("none", "batch", "layer")
DEPTHS = (5, 10, 20, 30, 40, 50)
BATCHES = (2, 3, 4, 6, 8, 16, 32, 64)
SCALES = (0.5, 0.8, 1.0, 1.25, 2.0)
"""Standard deviation of the weights in units of He's √(2/n)."""

WIDTH, SEEDS, LAYERS = 96, 4, 50
_FLOOR, _CEILING = 1e-16, 1e16
_ROUND_OFF = 1e-3  # no layer of an ordinary network loses that much


def normalization_explorer() -> GridExplorer:
    """Explorer of notebook 07: what a norm does to gradient and signal of a random ReLU network.

    The network is h_l = ReLU(norm(W h_(l−1))) with weights of standard deviation scale·√(2/n),
    width 96, independent inputs, and a random gradient at the last layer. The first panel shows
    the gradient's norm at every layer over that at the last one, beside the prediction. The second
    shows the mean cosine between the h_l of two samples. Every figure is a mean over 4 seeds (of
    the logarithm for gradients).

    Returns:
        The explorer, with the traits `norm`, `depth`, `batch` and `scale`.
    """
    g, cosine = measure()
    layers = np.arange(LAYERS + 1)
    depth = np.array(DEPTHS)[:, None]
    inside = np.where(layers <= depth, 1.0, np.nan)  # (depths, layers)
    profile = g[:, :, :, None] * np.array(SCALES)[:, None] ** _exponents(depth, layers)
    factor = predicted_factors()
    back = (depth - layers)[:, None, None]  # (depths, 1, 1, layers)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        line = factor[:, None, :, :, None] ** back[None]
    line = np.where(layers > depth[:, None, None], np.nan, np.where(np.isinf(line), np.nan, line))
    by_depth = np.repeat(factor[:, None], len(DEPTHS), axis=1)
    inner = np.stack([_per_layer(profile[:, i], d) for i, d in enumerate(DEPTHS)], 1)
    shared = np.broadcast_to(cosine[:, None], (len(NORMS), len(DEPTHS), *cosine.shape[1:]))
    alike = (shared * inside[:, None])[:, :, :, None]
    return GridExplorer(
        title="What does a norm do to the gradient?",
        sliders=(
            Slider("norm", "norm", NORMS, start=1),
            Slider("depth", "depth L (layers)", DEPTHS, start=5, format="d"),
            Slider("batch", "batch size B", BATCHES, start=7, format="d"),
            Slider("scale", "weights, in units of He's", SCALES, start=2, format=".2f"),
        ),
        panels=(
            Panel(
                title="Gradient on its way back",
                xlabel="layer l",
                ylabel="‖∂𝓛/∂h_l‖ over that of the last layer",
                marks=(
                    Line(layers, profile, "measured", color=0, width=3),
                    Line(layers, line, "predicted", color=1, dash="dashed"),
                ),
                xlim=(0, LAYERS),
                ylim=(_FLOOR, _CEILING),
                yscale="log",
            ),
            Panel(
                title="How alike two samples are",
                xlabel="layer l",
                ylabel="cosine between their h_l",
                marks=(Line(layers, alike, "mean cosine", color=2),),
                xlim=(0, LAYERS),
                ylim=(-0.5, 1.05),
            ),
        ),
        readouts=(
            Readout("factor of g per layer, measured", inner, ".3f"),
            Readout("factor of g per layer, predicted", by_depth, ".3f"),
            Readout("g at the input over g at the output", profile[..., 0], ".2g"),
        ),
    )


@one_thread()
def measure() -> tuple[np.ndarray, np.ndarray]:
    """Gradient profile and likeness of samples, with He's weights.

    Returns:
        g: ‖∂𝓛/∂h_l‖ over that at l = L, geometric mean over seeds, 0 where only round-off is
            left, shape (norms, depths, batches, layers + 1), NaN behind layer L.
        cosine: Mean cosine between h_l of different samples, shape (norms, batches, layers + 1).
    """
    shape = (len(NORMS), len(DEPTHS), len(BATCHES), LAYERS + 1)
    g, cosine = np.full(shape, np.nan), np.zeros((len(NORMS), len(BATCHES), LAYERS + 1))
    generator = fixed(7)
    weights = torch.randn(LAYERS, SEEDS, WIDTH, WIDTH, generator=generator) * (2 / WIDTH) ** 0.5
    x = torch.randn(SEEDS, WIDTH, max(BATCHES), generator=generator)
    delta = torch.randn(SEEDS, WIDTH, max(BATCHES), generator=generator)
    for i, norm in enumerate(NORMS):
        # Without batch norm a sample does not see the others: the first B of 64 are a batch of B.
        for k, B in enumerate(BATCHES if norm == "batch" else BATCHES[-1:]):
            start = x[..., :B].clone().requires_grad_()
            _, hidden = forward(weights[0] @ start, weights[1:], norm=_NORM_OF[norm])
            states = [start, *hidden]
            likeness = [_cosines(h.detach()) for h in states]
            paths = [gradients(states, d, delta[..., :B]) for d in DEPTHS]
            for b, size in enumerate(BATCHES):
                if norm == "batch" and b != k:
                    continue
                cosine[i, b] = [_mean_off_diagonal(c[:, :size, :size]) for c in likeness]
                for j, (d, path) in enumerate(zip(DEPTHS, paths, strict=True)):
                    sizes = torch.stack([_sizes(part[..., :size]) for part in path])
                    g[i, j, b, : d + 1] = _mean_profile(sizes.numpy())
    return g, cosine


def _mean_profile(sizes: np.ndarray) -> np.ndarray:
    """Geometric mean over seeds of g at layers 0 … L over that at L, from shape (L + 1, seeds).

    Where one layer leaves less than a thousandth in the mean, that is round-off of a gradient that
    is exactly 0 (a batch of 2): 0 from there on.
    """
    logs = np.log(sizes / sizes[-1]).mean(1)
    lost = np.flatnonzero(logs[:-1] - logs[1:] < np.log(_ROUND_OFF))
    profile = np.exp(logs)
    if lost.size:
        profile[: lost[-1] + 1] = 0
    return profile


def predicted_factors() -> np.ndarray:
    """Factor of g per layer by theory, shape (norms, batches, scales); inf for a batch of 3."""
    batch = np.array([theory.batchnorm_gradient_factor("relu", B) for B in BATCHES])
    scales = np.array(SCALES)
    none = np.array([theory.gradient_factor("relu", 2 * s * s) for s in scales])
    table = np.ones((len(NORMS), len(BATCHES), len(SCALES)))
    table[0] = none
    table[1] = batch[:, None]
    return table


def _batch_norm(z: Tensor) -> Tensor:
    """Every seed and unit of (seeds, units, samples) over its samples."""
    flat = z.reshape(1, -1, z.shape[2])
    return F.batch_norm(flat, None, None, training=True, eps=1e-12).reshape(z.shape)


_NORM_OF = {"none": None, "batch": _batch_norm, "layer": partial(normalized, dim=1)}


def _sizes(gradient: Tensor) -> Tensor:
    """Norm per seed, added up in float64: the square of a gradient may leave float32."""
    return torch.linalg.vector_norm(gradient, dim=(1, 2), dtype=torch.float64)


def _cosines(h: Tensor) -> Tensor:
    """Cosines between the samples of (seeds, units, samples)."""
    h = F.normalize(h, dim=1)
    return h.mT @ h


def _mean_off_diagonal(cosines: Tensor) -> float:
    count = cosines.shape[-1]
    rest = cosines.sum((1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(1)
    return (rest / (count * (count - 1))).mean().item()


def _exponents(depth: np.ndarray, layers: np.ndarray) -> np.ndarray:
    """How often a scale of all weights enters g: once per layer without a norm.

    With a norm it cancels between each W and the norm behind it. Shape (norms, depths, 1, 1,
    layers + 1).
    """
    passed = (depth - layers).astype(np.float64)
    return np.stack([passed, 0 * passed, 0 * passed])[:, :, None, None]


def _per_layer(profile: np.ndarray, depth: int) -> np.ndarray:
    """Factor per layer between layers 2 and L−1; the outer ones see unusual statistics."""
    outer = profile[..., depth - 1]
    inner = np.where(outer > 0, profile[..., 2] / np.where(outer > 0, outer, 1), 0)
    return inner ** (1 / (depth - 3))
