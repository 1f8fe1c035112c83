"""Explorer of notebook 06: one step from any point of the cliff surface, clipped and not."""

import numpy as np
from matplotlib.figure import Figure

from .. import theory
from .grid import GridExplorer, Line, Panel, Points, Readout, Slider

TIME_STEPS = 50
START, TARGET = 0.5, 0.7
"""x₀, the state before the first step, and the value that σ(x₅₀) should reach."""

WEIGHTS = (4.1, 4.2, 4.3, 4.4, 4.5, 4.6, 4.7, 4.8, 4.9, 5.0)
DISTANCES = (-0.3, -0.1, -0.03, -0.01, -0.003, -0.001, 0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""How far the bias lies above the cliff, b − b*(w)."""

LRS = (0.03, 0.1, 0.3)
MAX_NORMS = (0.1, 0.3, 1.0, 3.0, 10.0)

_WLIM, _BLIM = (3.9, 5.3), (-2.9, -1.6)
_ALONG = np.linspace(-0.1, 1.0, 89)
_EVERY = 2  # time steps between two points of the panel of states


def clipping_explorer() -> GridExplorer:
    """Explorer of notebook 06: a step of gradient descent near a cliff, clipped and not.

    The network is x_t = w σ(x_(t−1)) + b with x₀ = 0.5, over 50 time steps, and its loss is
    𝓛 = (σ(x₅₀) − 0.7)². Its cliff runs along b* = x₀ − w σ(x₀). The sliders choose w, how far b
    lies above the cliff, the learning rate and the threshold of clipping. The panels show both
    steps in the plane of w and b, the loss along the direction of the step, and the states x_t
    before and after. Readouts are the gradient norm, and the loss before and after each step.

    Returns:
        The explorer, with the traits `weight`, `distance`, `lr` and `max_norm`.
    """
    w, d = np.array(WEIGHTS)[:, None], np.array(DISTANCES)[None, :]
    shape = (len(WEIGHTS), len(DISTANCES), len(LRS), len(MAX_NORMS))
    cliff = np.array([theory.cliff_bias(v, START) for v in WEIGHTS])[:, None]
    theta = np.stack(np.broadcast_arrays(w, cliff + d))[..., None, None]  # (2, w, d, 1, 1)
    states, gradient = run(*theta)
    norm = np.linalg.norm(gradient, axis=0)
    lr, limit = np.array(LRS)[:, None], np.array(MAX_NORMS)
    plain = theta - lr * gradient
    clipped = theta - lr * gradient * np.minimum(1, limit / norm)
    after_plain, _ = run(*plain)
    after_clipped, _ = run(*clipped)
    slice_x, slice_y = _slice(theta, gradient / norm)
    along_plain, along_clipped = lr * norm, lr * np.minimum(norm, limit)
    time = np.arange(0, TIME_STEPS + 1, _EVERY)
    contour_x, contour_y = _contours()
    edge, edge_bias = np.array(_WLIM), np.array([theory.cliff_bias(v, START) for v in _WLIM])
    return GridExplorer(
        title="How far does one step from the cliff go?",
        sliders=(
            Slider("weight", "weight w", WEIGHTS, start=4, format=".1f"),
            Slider("distance", "bias above the cliff, b − b*", DISTANCES, start=6, format=".3f"),
            Slider("lr", "learning rate η", LRS, start=1, format=".2f"),
            Slider("max_norm", "threshold of clipping, max_norm", MAX_NORMS, start=2, format=".1f"),
        ),
        panels=(
            Panel(
                title="The step",
                xlabel="weight w",
                ylabel="bias b",
                marks=(
                    Line(contour_x, contour_y, "equal loss", color=6, width=0.7),
                    Line(edge, edge_bias, "cliff", color=2, width=1.5, dash="dashed"),
                    Line(*_step(theta, plain), "not clipped", color=0),
                    Line(*_step(theta, clipped), "clipped", color=1, width=3, marker=True),
                    Points(theta[0][..., None], theta[1][..., None], "start", color=6),
                ),
                xlim=_WLIM,
                ylim=_BLIM,
            ),
            Panel(
                title="Loss along the step",
                xlabel="distance against the gradient",
                ylabel="𝓛",
                marks=(
                    Line(slice_x, slice_y, "loss", color=6, width=1.5),
                    Points(np.array([0.0]), _loss(states)[..., None], "start", color=6),
                    Points(_seen(along_plain), _loss(after_plain)[..., None], "not clipped"),
                    Points(_seen(along_clipped), _loss(after_clipped)[..., None], "clipped", 1),
                ),
                xlim=(-0.1, 1.0),
                ylim=(0.0, 0.45),
            ),
            Panel(
                title="States of the network",
                xlabel="time step t",
                ylabel="x_t",
                marks=(
                    Line(time, _thin(states), "start", color=6, width=1.5),
                    Line(time, _thin(after_plain), "not clipped", color=0, dash="dashed"),
                    Line(time, _thin(after_clipped), "clipped", color=1, dash="dotted"),
                ),
                xlim=(0, TIME_STEPS),
                ylim=(-4.0, 5.0),
            ),
        ),
        readouts=(
            Readout("gradient norm g", norm, ".3g"),
            Readout("length of the step, not clipped", along_plain, ".3g"),
            Readout("clipped", np.broadcast_to(along_clipped, shape), ".3g"),
            Readout("𝓛 before", _loss(states), ".3f"),
            Readout("after, not clipped", _loss(after_plain), ".3f"),
            Readout("after, clipped", _loss(after_clipped), ".3f"),
        ),
    )


def run(w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The states of the network, and the gradient of its loss.

    Args:
        w: Weights, any shape.
        b: Biases, of the same shape.

    Returns:
        x₀ … x₅₀, shape (51, *shape of w), and (∂𝓛/∂w, ∂𝓛/∂b), shape (2, *shape of w).
    """
    x = np.full(np.shape(w), START)
    states, by_w, by_b = [x], np.zeros_like(x), np.zeros_like(x)
    for _ in range(TIME_STEPS):
        s = _sigmoid(x)
        by_w, by_b = s + w * s * (1 - s) * by_w, 1 + w * s * (1 - s) * by_b
        x = w * s + b
        states.append(x)
    s = _sigmoid(x)
    return np.stack(states), 2 * (s - TARGET) * s * (1 - s) * np.stack([by_w, by_b])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / 2))


def _loss(states: np.ndarray) -> np.ndarray:
    return (_sigmoid(states[-1]) - TARGET) ** 2


def _slice(theta: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances against the gradient, and the loss there."""
    points = theta[..., None] - direction[..., None] * _ALONG
    return _ALONG, _loss(run(*points)[0])


def _step(theta: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of a step; one that leaves the picture keeps its direction, not its length."""
    move = after - theta
    length = np.linalg.norm(move, axis=0)
    after = theta + move * np.minimum(1, 5 / np.maximum(length, 1e-12))
    ends = np.stack(np.broadcast_arrays(theta, after), axis=-1)
    return ends[0], ends[1]


def _seen(along: np.ndarray) -> np.ndarray:
    """Hide an end that lies beyond the panel."""
    return np.where(along <= _ALONG[-1], along, np.nan)[..., None]


def _thin(states: np.ndarray) -> np.ndarray:
    return np.moveaxis(states[::_EVERY], 0, -1)


def _contours() -> tuple[np.ndarray, np.ndarray]:
    """Lines of equal loss in the plane, separated by NaN."""
    w, b = np.linspace(*_WLIM, 141), np.linspace(*_BLIM, 141)
    loss = _loss(run(*np.meshgrid(w, b))[0])
    levels = (0.002, 0.01, 0.02, 0.03, 0.04, 0.05)
    lines = Figure().subplots().contour(w, b, loss, levels=levels).allsegs
    gap = np.full((1, 2), np.nan)
    points = np.vstack([part for level in lines for line in level for part in (line, gap)])
    return points[:, 0], points[:, 1]
