"""Explorer of notebook 12: any network, its verdict, and what a watcher of weights sees."""

import math

import numpy as np
import torch
from torch import Tensor

from ..activations import ACTIVATIONS
from ..diagnosis import LIMIT, fit_slope
from ..runtime import fixed
from .grid import GridExplorer
from .random_networks import forward, gradients, normalized, one_thread, shown
from .spec import Line, Mark, Panel, Readout, Slider, Text

ACTIVATION_NAMES = ("relu", "tanh", "sigmoid")
DEPTHS = (5, 10, 20, 30, 50)
SCALES = (0.1, 0.2, 3**-0.5, 1.0, 2**0.5, 2.0, 5.0)
"""σ_w: weights are N(0, σ_w²/n). 0.58 is PyTorch's default, 1 Xavier's, 1.41 He's."""

WIRINGS = ("nothing", "batch norm", "skip", "skip and batch norm")
VERDICTS = ("vanishing", "healthy", "exploding")

WIDTH, SAMPLES, SEEDS = 48, 32, 2
_RANGE = 1e-20, 1e20


def clinic_explorer() -> GridExplorer:
    """Explorer of notebook 12: which networks are healthy, and which gauge says so.

    The network is z_l = W_l φ(norm(z_(l−1))), plus z_(l−1) with a skip, of width 48, with
    independent inputs and a random gradient at z_L. The left panel shows the RMS of ∂L/∂z_l over
    that of the last layer, and the verdict of `cu.diagnose`: a change by more than 100 over the
    depth, by least squares. The right one shows ∂L/∂W_l in the same way. Every figure is the
    geometric mean over 2 seeds.

    Returns:
        The explorer, with the traits `activation`, `depth`, `scale` and `wiring`.
    """
    outputs, weights = measure()
    layers = np.arange(1, DEPTHS[-1] + 1)
    factor, verdict = judged(outputs)
    marks: list[Mark] = [Line(layers, shown(outputs, _RANGE), "∂𝓛/∂z", color=0, width=3)]
    for i, word in enumerate(VERDICTS):
        x = np.where(verdict == i, 25.5, np.nan)[..., None]
        marks.append(Text(x, np.array([1e17]), (word,), color=(1, 2, 1)[i]))
    ends = np.array([1.0, DEPTHS[-1]])
    for edge in (1 / LIMIT, LIMIT):
        marks.append(Line(ends, np.array([edge, edge]), color=6, width=1, dash="dotted"))
    return GridExplorer(
        title="Is this network healthy?",
        sliders=(
            Slider("activation", "activation φ", ACTIVATION_NAMES),
            Slider("depth", "depth L (layers)", DEPTHS, start=3, format="d"),
            Slider("scale", "weight scale σ_w (times 1/√n)", SCALES, start=2, format=".2f"),
            Slider("wiring", "between the layers", WIRINGS),
        ),
        panels=(
            Panel(
                title="Gradient of the outputs",
                xlabel="layer l",
                ylabel="rms ∂𝓛/∂z_l over that of the last layer",
                marks=tuple(marks),
                xlim=(0, 51),
                ylim=_RANGE,
                yscale="log",
            ),
            Panel(
                title="Gradient of the weights",
                xlabel="layer l",
                ylabel="rms ∂𝓛/∂W_l over that of the last layer",
                marks=(Line(layers, shown(weights, _RANGE), "∂𝓛/∂W", color=3, width=3),),
                xlim=(0, 51),
                ylim=_RANGE,
                yscale="log",
            ),
        ),
        readouts=(
            Readout("factor of ∂𝓛/∂z per layer", factor, ".3f"),
            Readout("∂𝓛/∂z, first layer over last", outputs[..., 0], ".1e"),
            # The first layer has another input: the second is the first that can be compared.
            Readout("∂𝓛/∂W, second layer over last", weights[..., 1], ".1e"),
        ),
    )


@one_thread()
def measure() -> tuple[np.ndarray, np.ndarray]:
    """RMS of ∂L/∂z_l and of ∂L/∂W_l at every setting, each over that of the last layer.

    Returns:
        Two arrays (activations, depths, scales, wirings, layers), geometric means over seeds, NaN
        behind layer L; layer 1 reads the input.
    """
    shape = (len(ACTIVATION_NAMES), len(DEPTHS), len(SCALES), len(WIRINGS), DEPTHS[-1])
    outputs, weights = np.full(shape, np.nan), np.full(shape, np.nan)
    normal, x, delta = drawn()
    for a, name in enumerate(ACTIVATION_NAMES):
        for w, wiring in enumerate(WIRINGS):
            # With a batch norm σ_w cancels in every ratio: one scale stands for all.
            scales = (1.0,) if "batch norm" in wiring else SCALES
            scale = torch.tensor(scales, dtype=torch.float64)[:, None, None, None]
            states, inputs = forward(
                ((scale * normal[0]) @ x).requires_grad_(),
                [scale * matrix for matrix in normal[1:]],
                phi=ACTIVATIONS[name].function,
                norm=normalized if "batch norm" in wiring else None,
                skip=1.0 if "skip" in wiring else 0.0,
            )
            for d, depth in enumerate(DEPTHS):
                found = gradients(states, depth - 1, delta)
                for layer, (gradient, h) in enumerate(zip(found, [x, *inputs], strict=False)):
                    outputs[a, d, :, w, layer] = _log_mean(gradient)
                    weights[a, d, :, w, layer] = _log_mean(gradient @ h.detach().mT)
                for table in (outputs, weights):
                    table[a, d, :, w] -= table[a, d, :, w, depth - 1 : depth]
    with np.errstate(over="ignore"):
        return np.exp(outputs), np.exp(weights)


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    """Numbers behind weights (layers, 1, seeds, n, n), input and gradient (1, seeds, n, B)."""
    generator = fixed(12)
    shapes = (DEPTHS[-1], 1, SEEDS, WIDTH, WIDTH), (2, 1, SEEDS, WIDTH, SAMPLES)
    normal, ends = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes
    )
    return normal / WIDTH**0.5, ends[0], ends[1]


def judged(outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factor per layer by least squares, and the index of the verdict, (*grid,)."""
    factor, verdict = np.ones(outputs.shape[:-1]), np.ones(outputs.shape[:-1])
    for index in np.ndindex(*outputs.shape[:-1]):
        depth = DEPTHS[index[1]]
        slope = fit_slope(outputs[index][:depth].tolist())
        factor[index] = slope.factor
        verdict[index] = {"vanishing": 0, None: 1, "exploding": 2}[slope.verdict]
    return factor, verdict


def _log_mean(values: Tensor) -> np.ndarray:
    """Log of the RMS, mean over seeds, per scale."""
    size = values.detach().square().mean((-2, -1)).clamp(min=math.ldexp(1, -1000))
    return (size.log() / 2).mean(1).numpy()
