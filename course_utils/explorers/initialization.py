"""Explorer of notebook 05: one network, placed on the phase diagram and measured layer by layer."""

from functools import cache

import numpy as np
import torch

from .. import theory
from ..activations import ACTIVATIONS, activation_slope
from ..runtime import fixed
from .grid import GridExplorer
from .random_networks import shown
from .spec import Line, Panel, Points, Readout, Slider

ACTIVATION_NAMES = ("tanh", "relu", "sigmoid")
WEIGHT_STDS = (0.3, 3**-0.5, 0.8, 1.0, 1.2, 2**0.5, 5 / 3, 2.0, 3.0, 5.0, 8.0, 10.0, 12.0)
"""σ_w; 0.58 is nn.Linear's, 1 Xavier's, 1.41 He's, 1.67 PyTorch's gain for tanh."""

BIAS_STDS = (0.0, 0.1, 0.05**0.5, 0.5)
"""σ_b; 0.22 is σ_b² = 0.05."""

DEPTHS = (2, 5, 10, 20, 30, 50)
WIDTH = 100
SAMPLES = 12

_EDGES = np.linspace(-4, 4, 34)
_RANGE = 1e-6, 1e6  # wider, and the slow fading of tanh would look level


def initialization_explorer() -> GridExplorer:
    """Explorer of notebook 05: σ_w, σ_b, activation and depth of a random network.

    A network of width 100 per setting, all from the same normal numbers, is sent 12 inputs of mean
    square 1 and a random gradient from the output. The panels show: the preactivations of the
    first, the middle and the last layer; the mean square of z, layer by layer, beside mean-field
    theory; the gradient's norm, relative to the last layer's; and the place in the plane of σ_w
    and σ_b, with the edge of chaos of that activation. Readouts are √χ₁, the depth scale, q* and
    the share of the gradient that reaches layer 1.

    Returns:
        The explorer, with the traits `activation`, `weight_std`, `bias_std` and `depth`.
    """
    shares, variances, gradients = measure()
    shape = (len(ACTIVATION_NAMES), len(WEIGHT_STDS), len(BIAS_STDS), len(DEPTHS))
    fixed, roots = settled()
    predicted = shown(_predicted(), _RANGE)[:, :, :, None]
    layers = np.arange(1, DEPTHS[-1] + 1)
    x = (_EDGES[:-1] + _EDGES[1:]) / 2
    depths = np.array(DEPTHS)
    ends = np.stack([np.ones(depths.size), depths], axis=-1)[None, None, None]
    at_depth, edges = ends[..., [1, 1]], np.array(_RANGE)
    back = (depths[:, None] - layers).astype(float)  # layers from the output
    straight = shown(roots[..., None, None] ** np.where(back < 0, np.nan, back), _RANGE)
    chi = roots**2
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(np.abs(chi - 1) < 1e-3, np.inf, -1 / np.log(chi))
    return GridExplorer(
        title="Where does a network start, and what do its layers see?",
        sliders=(
            Slider("activation", "activation φ", ACTIVATION_NAMES),
            Slider("weight_std", "σ_w (times 1/√fan_in)", WEIGHT_STDS, start=3, format=".2f"),
            Slider("bias_std", "σ_b", BIAS_STDS, start=0, format=".2f"),
            Slider("depth", "depth L (layers)", DEPTHS, start=4, format=".0f"),
        ),
        panels=(
            Panel(
                title="Preactivations (outer bins: all beyond)",
                xlabel="preactivation z",
                ylabel="share of the values",
                marks=(
                    Line(x, shares[..., :1, 0, :], "layer 1", color=5),
                    Line(x, shares[..., 1, :], "layer L/2", color=2, dash="dotted"),
                    Line(x, shares[..., 2, :], "layer L", color=1, dash="dashed"),
                ),
                xlim=(-4, 4),
                ylim=(0, 1.05),
            ),
            Panel(
                title="Forward: the signal",
                xlabel="layer l",
                ylabel="q = mean of z²",
                marks=(
                    Line(layers, shown(variances, _RANGE)[:, :, :, None], "measured", color=0),
                    Line(layers, predicted, "theory", color=6, width=1.5, dash="dotted"),
                    Line(at_depth, edges, "layer L", color=1, width=1, dash="dashed"),
                ),
                yscale="log",
                ylim=_RANGE,
            ),
            Panel(
                title="Backward: the gradient",
                xlabel="layer l",
                ylabel="g in layer l / g in layer L",
                marks=(
                    Line(layers, shown(gradients, _RANGE), "measured", color=0),
                    Line(layers, straight, "√χ₁ per layer", color=6, width=1.5, dash="dotted"),
                ),
                yscale="log",
                ylim=_RANGE,
            ),
            Panel(
                title="Phase diagram (left: vanishes, right: explodes)",
                xlabel="σ_w",
                ylabel="σ_b",
                marks=(
                    Line(*_edges(), "edge of chaos"),
                    Points(
                        np.array(WEIGHT_STDS)[None, :, None, None, None],
                        np.array(BIAS_STDS)[None, None, :, None, None],
                        "here",
                        color=1,
                        size=11.0,
                    ),
                ),
                xscale="log",
                xlim=(0.25, 15),
                ylim=(-0.05, 0.6),
            ),
        ),
        readouts=(
            Readout("√χ₁, factor of g per layer", _filled(roots, shape), ".3f"),
            Readout("depth scale ξ (layers)", _filled(scale, shape), ".3g"),
            Readout("q*, where z² settles", _filled(fixed, shape), ".3g"),
            Readout("g in layer 1 / g in layer L", gradients[..., 0], ".2g"),
        ),
    )


def measure() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One network per setting: its histograms, its forward and its backward sizes.

    Returns:
        Shares per bin of layer 1, L/2 and L, (activations, σ_w, σ_b, depths, 3, bins); mean of z²
        per layer, (activations, σ_w, σ_b, layers); norm of ∂𝓛/∂z_l relative to the last layer's,
        (activations, σ_w, σ_b, depths, layers), NaN behind the last layer.
    """
    generator = fixed(5)
    layers = DEPTHS[-1]
    normal = torch.randn(layers, WIDTH, WIDTH, generator=generator) / WIDTH**0.5
    shifts = torch.randn(layers, WIDTH, generator=generator)
    x = torch.randn(SAMPLES, WIDTH, generator=generator)
    x = x / x.square().mean(1, keepdim=True).sqrt()
    arriving = torch.randn(SAMPLES, WIDTH, generator=generator)
    arriving = arriving / arriving.norm()
    weight = torch.tensor(WEIGHT_STDS)[:, None, None, None]
    bias = torch.tensor(BIAS_STDS)[None, :, None, None]
    settings = len(WEIGHT_STDS), len(BIAS_STDS)
    shares = np.zeros((len(ACTIVATION_NAMES), *settings, len(DEPTHS), 3, _EDGES.size - 1))
    variances = np.zeros((len(ACTIVATION_NAMES), *settings, layers))
    gradients = np.full((len(ACTIVATION_NAMES), *settings, len(DEPTHS), layers), np.nan)
    wanted = {1, *DEPTHS, *(depth // 2 for depth in DEPTHS)}
    for a, name in enumerate(ACTIVATION_NAMES):
        h, slopes, histograms = x.expand(*settings, -1, -1), [], {}
        for layer in range(layers):
            z = weight * (h @ normal[layer]) + bias * shifts[layer]
            z = z.clamp(-1e18, 1e18)  # squares stay finite in float32
            variances[a, ..., layer] = z.square().mean((-2, -1))
            if layer + 1 in wanted:
                histograms[layer + 1] = _histogram(z.flatten(2).numpy())
            h = ACTIVATIONS[name].function(z)
            slopes.append(activation_slope(name, z))
        for d, depth in enumerate(DEPTHS):
            for i, layer in enumerate((1, depth // 2, depth)):
                shares[a, :, :, d, i] = histograms[layer]
        for d, depth in enumerate(DEPTHS):
            delta = arriving.expand(*settings, -1, -1)
            log_size = torch.zeros(*settings, 1, 1)
            gradients[a, ..., d, depth - 1] = 1
            for layer in range(depth - 2, -1, -1):
                delta = slopes[layer] * (weight * (delta @ normal[layer + 1].T))
                size = delta.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-30)
                delta, log_size = delta / size, log_size + size.log()
                gradients[a, ..., d, layer] = log_size[..., 0, 0].clamp(-80, 80).exp()
    return shares, variances, gradients


def _histogram(values: np.ndarray) -> np.ndarray:
    """Share of the values in each bin, along the last axis; beyond the ends in the outer bins."""
    rows = values.reshape(-1, values.shape[-1])
    bins = np.clip(np.searchsorted(_EDGES, rows, "right") - 1, 0, _EDGES.size - 2)
    bins += np.arange(len(rows))[:, None] * (_EDGES.size - 1)
    counts = np.bincount(bins.ravel(), minlength=len(rows) * (_EDGES.size - 1))
    return (counts / rows.shape[1]).reshape(*values.shape[:-1], -1)


@cache
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log of q on a fine grid, and E[φ²] and E[φ′²] of every activation there."""
    log_q = np.linspace(-30, 30, 601)
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    positive = np.abs(nodes)  # both halves from the same nodes, so that a kink at 0 costs nothing
    z = torch.from_numpy(np.exp(log_q / 2)[:, None] * positive)
    weights = weights / weights.sum() / 2
    squares, slopes = [], []
    for name in ACTIVATION_NAMES:
        function = ACTIVATIONS[name].function
        squares.append(((function(z) ** 2 + function(-z) ** 2).numpy() * weights).sum(1))
        slopes.append(
            (
                (activation_slope(name, z) ** 2 + activation_slope(name, -z) ** 2).numpy() * weights
            ).sum(1)
        )
    return log_q, np.stack(squares), np.stack(slopes)


def _predicted() -> np.ndarray:
    """Mean-field q per layer, (activations, σ_w, σ_b, layers)."""
    log_q, squares, _ = _tables()
    weight = np.square(WEIGHT_STDS)[:, None]
    bias = np.square(BIAS_STDS)[None, :]
    found = []
    for table in squares:
        q = [weight + bias]
        for _ in range(DEPTHS[-1] - 1):
            mean = np.exp(np.interp(np.log(q[-1]), log_q, np.log(table)))
            q.append(np.clip(weight * mean + bias, np.exp(-30), np.exp(30)))
        found.append(np.stack(q, axis=-1))
    return np.stack(found)


def settled() -> tuple[np.ndarray, np.ndarray]:
    """Where theory says that each setting settles, from tables: `theory` itself would take 2 s.

    Returns:
        q*, 0 where the signal dies and inf where it diverges, and √χ₁, the factor of the
        gradient's norm per layer there; both (activations, σ_w, σ_b), within 1 %.
    """
    log_q, squares, slopes = _tables()
    shape = len(ACTIVATION_NAMES), len(WEIGHT_STDS), len(BIAS_STDS)
    fixed, roots = np.zeros(shape), np.zeros(shape)
    start = log_q.size // 2  # q = 1
    for (a, w, b), _ in np.ndenumerate(fixed):
        variance, bias = WEIGHT_STDS[w] ** 2, BIAS_STDS[b] ** 2
        growth = np.log((variance * squares[a] + bias) / np.exp(log_q))
        growth[np.abs(growth) < 1e-9] = 0
        step = int(np.sign(growth[start]))
        path = np.arange(start, log_q.size) if step > 0 else np.arange(start, -1, -1)
        crossed = np.flatnonzero(growth[path] * step <= 0)
        if not crossed.size:
            at, fixed[a, w, b] = log_q[path[-1]], np.inf if step > 0 else 0.0
        else:
            i, j = path[max(crossed[0] - 1, 0)], path[crossed[0]]
            share = growth[i] / (growth[i] - growth[j]) if i != j else 0.0
            at = log_q[i] + share * (log_q[j] - log_q[i])
            fixed[a, w, b] = np.exp(at) if at > -18 else 0.0  # at criticality it fades slowly
        roots[a, w, b] = np.sqrt(variance * np.interp(at, log_q, slopes[a]))
    return fixed, roots


def _edges() -> tuple[np.ndarray, np.ndarray]:
    """The edge of chaos of each activation in the plane of σ_w and σ_b."""
    tanh = np.sqrt(theory.edge_of_chaos("tanh", np.geomspace(1e-4, 1.7, 30).tolist()))
    relu = np.stack([np.full(30, 2**0.5), np.linspace(0, 0.6, 30)], axis=-1)
    first = 45.624278  # here sigmoid's q* has σ_b = 0, below it σ_b² would be negative
    sigmoid = theory.edge_of_chaos("sigmoid", np.linspace(first, 1.02 * first, 30).tolist())
    x, y = np.moveaxis(np.stack([tanh, relu, np.sqrt(sigmoid)]), -1, 0)
    shape = (len(ACTIVATION_NAMES), 1, 1, 1, 30)
    return x.reshape(shape), y.reshape(shape)


def _filled(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A readout that does not depend on depth, at every depth."""
    return np.broadcast_to(values[..., None], shape)
