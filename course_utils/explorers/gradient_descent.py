"""Explorer of notebook 01: gradient descent with momentum in a bowl and in a valley."""

import numpy as np

from .. import theory
from .grid import GridExplorer, Line, Panel, Points, Readout, Slider

STEPS = 50
START = (9.0, 3.0)
LANDSCAPES = {"bowl (κ = 2)": (0.5, 1.0), "valley (κ = 30)": (1 / 30, 1.0)}
"""Name of each landscape and its two curvatures, μ along θ₁ and λ_max along θ₂."""

_XLIM, _YLIM = (-11.0, 11.0), (-6.0, 6.0)
_FLOOR, _CEILING = 1e-8, 1e6


def gradient_descent_explorer() -> GridExplorer:
    """Explorer of notebook 01: a bowl and a valley, with sliders for learning rate and momentum.

    The loss is ½(μθ₁² + λ_max θ₂²), with λ_max = 1 in both landscapes, so the largest stable
    learning rate is 2(1+β) in both. Every setting is a run of 50 steps from the same start. The
    panels show the path over contours of equal loss, and the loss at each step on a log axis.
    Readouts are the largest stable learning rate, the factor per step of the slowest direction,
    and the loss at the end.

    Returns:
        The explorer, with the traits `landscape`, `lr` and `momentum`.
    """
    lr = np.round(np.append(np.arange(0.1, 2.41, 0.1), np.arange(2.6, 4.01, 0.2)), 10)
    momentum = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
    curvature = np.array(list(LANDSCAPES.values()))
    path = descent_paths(curvature, lr, momentum)
    loss = (curvature[:, None, None, None] * path**2).sum(-1) / 2
    final, path, loss = loss[..., -1], _inside_the_picture(path), _inside_the_scale(loss)
    limit = [[[theory.largest_stable_lr(large, b) for b in momentum]] for _, large in curvature]
    rate = [
        [[max(theory.convergence_factor(a, c, b) for c in pair) for b in momentum] for a in lr]
        for pair in curvature
    ]
    contour_x, contour_y = _contours(curvature)
    steps = np.arange(STEPS + 1)
    return GridExplorer(
        title="How far may one step go?",
        sliders=(
            Slider("landscape", "landscape", tuple(LANDSCAPES), start=1),
            Slider("lr", "learning rate η", lr.tolist(), start=17, format=".1f"),
            Slider("momentum", "momentum β", momentum.tolist(), start=0, format=".2f"),
        ),
        panels=(
            Panel(
                title="Path",
                xlabel="θ₁",
                ylabel="θ₂",
                marks=(
                    Line(contour_x, contour_y, "equal loss", color=6, width=0.7),
                    Line(path[..., 0], path[..., 1], "path", color=0, width=1.5, marker=True),
                    Points(np.array([0.0]), np.array([0.0]), "minimum", color=1),
                ),
                xlim=_XLIM,
                ylim=_YLIM,
                equal=True,
            ),
            Panel(
                title="Loss",
                xlabel="step t",
                ylabel="loss",
                marks=(Line(steps, loss, "loss", color=0),),
                xlim=(0, STEPS),
                ylim=(_FLOOR, _CEILING),
                yscale="log",
            ),
        ),
        readouts=(
            Readout("largest stable η, 2(1+β)/λ_max", np.array(limit), ".2f"),
            Readout("predicted factor per step, slowest direction", np.array(rate), ".3f"),
            Readout(f"measured loss after {STEPS} steps", final, ".2g"),
        ),
    )


def descent_paths(curvature: np.ndarray, lr: np.ndarray, momentum: np.ndarray) -> np.ndarray:
    """Run gradient descent with momentum for every combination of the arguments.

    Args:
        curvature: Curvatures along θ₁ and θ₂, shape (landscapes, 2).
        lr: Learning rates, shape (n,).
        momentum: Momenta, shape (m,).

    Returns:
        The points θ_0 … θ_50, float64, shape (landscapes, n, m, 51, 2).
    """
    scale = curvature[:, None, None]
    theta = np.broadcast_to(START, (len(curvature), len(lr), len(momentum), 2))
    velocity, path = np.zeros_like(theta), [theta]
    for _ in range(STEPS):
        velocity = momentum[:, None] * velocity + scale * theta
        theta = theta - lr[:, None, None] * velocity
        path.append(theta)
    return np.stack(path, axis=-2)


def _inside_the_picture(path: np.ndarray) -> np.ndarray:
    """Hide points far outside of the picture: the line to the first of them still leaves it."""
    far = (np.abs(path) > 3 * np.array([_XLIM[1], _YLIM[1]])).any(-1)
    gone = np.cumsum(far, axis=-1) > 1
    path = np.where(np.abs(path) < 1e-30, 0.0, np.clip(path, -1e3, 1e3))  # fits float32
    return np.where(gone[..., None], np.nan, path)


def _inside_the_scale(loss: np.ndarray) -> np.ndarray:
    """End the curve of the loss where it leaves the axis."""
    out = np.cumsum(loss > 10 * _CEILING, axis=-1) > 1
    return np.where(out, np.nan, np.clip(loss, 1e-30, 1e9))


def _contours(curvature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ellipses of equal loss, ten per landscape, separated by NaN; shape (landscapes, 1, 1, n)."""
    angle = np.append(np.linspace(0, 2 * np.pi, 61), np.nan)
    radius = np.arange(1, 11)[:, None]
    x, y = [], []
    for small, large in curvature:
        top = np.sqrt(small * _XLIM[1] ** 2 + large * _YLIM[1] ** 2)
        x.append((top / 10 * radius / np.sqrt(small) * np.cos(angle)).ravel())
        y.append((top / 10 * radius / np.sqrt(large) * np.sin(angle)).ravel())
    shape = (len(curvature), 1, 1, -1)
    return np.reshape(x, shape), np.reshape(y, shape)
