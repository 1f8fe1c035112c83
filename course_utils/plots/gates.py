"""Pictures of gates: eigenvalues of one step of a recurrent net, and what many steps leave."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ..arguments import number
from .style import COLORS


def step_eigenvalues(
    eigenvalues: ArrayLike, center: float, radius: float, ax: Axes | None = None
) -> Axes:
    """Draw eigenvalues in the complex plane, with the unit circle and the disc that was predicted.

    Outside of the unit circle a repeated step explodes. An eigenvalue out there is a square and
    has another color.

    Args:
        eigenvalues: Complex numbers, shape (n,).
        center: Where the predicted disc has its center, on the real axis.
        radius: Its radius, at least 0.
        ax: Axes to draw on; the current ones when None.

    Returns:
        The Axes; `ax.patches` are the unit circle and the disc, `ax.lines` the eigenvalues inside
        and outside of the unit circle.

    Raises:
        ValueError: If there is no eigenvalue, one is not finite, or the radius is negative.
    """
    values = np.asarray(eigenvalues, dtype=np.complex128).reshape(-1)
    if not values.size or not np.isfinite(values).all():
        raise ValueError("eigenvalues must be finite complex numbers, at least one of them.")
    center, radius = number("center", center), number("radius", radius, least=0)
    ax = ax or plt.gca()
    ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor=COLORS[6], linewidth=1.5))
    look = {"edgecolor": COLORS[6], "linestyle": "--", "linewidth": 1.5, "zorder": 3}
    ax.add_patch(Circle((center, 0), radius, fill=False, **look))
    inside = np.abs(values) <= 1
    for which, color, marker in ((inside, COLORS[0], "."), (~inside, COLORS[1], "s")):
        part = values[which]
        ax.plot(part.real, part.imag, marker, color=color, markersize=3, linestyle="none")
    reach = max(1.15, center + radius + 0.1)
    ax.set(aspect="equal", xlim=(-1.15, reach), ylim=(-1.15, 1.15))
    ax.set(xlabel="real part", ylabel="imaginary part")
    ax.label_outer()
    return ax


def gate_memory(
    measured: ArrayLike, predicted: ArrayLike, gates: ArrayLike, ax: Axes | None = None
) -> Axes:
    """Draw the gradient of a cell against the lag: measured, predicted, and the gates alone.

    Args:
        measured: g behind 0, 1, … steps over g at the start, shape (seeds, lags): dots, the
            geometric mean over seeds, and bars from the lowest to the highest.
        predicted: What theory says, shape (lags,): the thick line.
        gates: The product of the forget gates, shape (lags,): the thin line.
        ax: Axes to draw on; the current ones when None.

    Returns:
        The Axes; `ax.lines` are the thick line, the thin line and the dots.

    Raises:
        ValueError: If a shape does not fit or a value is not positive and finite.
    """
    runs = np.atleast_2d(np.asarray(measured, dtype=np.float64))
    lines = [np.asarray(values, dtype=np.float64) for values in (predicted, gates)]
    for name, values in zip(("measured", "predicted", "gates"), (runs, *lines), strict=True):
        if values.shape[-1:] != runs.shape[1:] or (name != "measured" and values.ndim != 1):
            raise ValueError(f"{name} has shape {values.shape}; {runs.shape[1]} lags are expected.")
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError(f"{name} must be positive and finite: it stands on a log axis.")
    ax = ax or plt.gca()
    ax.set_yscale("log")
    lag = np.arange(runs.shape[1])
    ax.plot(lag, lines[0], color=COLORS[6], linewidth=3, label="predicted, the same matrix again")
    ax.plot(lag, lines[1], color=COLORS[6], linewidth=1, ls="--", label="product of forget gates")
    every = slice(None, None, max(1, lag.size // 12))
    mean = np.exp(np.log(runs).mean(0))
    look: dict[str, Any] = {"color": COLORS[1], "linestyle": "none", "zorder": 3}
    ax.plot(lag[every], mean[every], "o", markersize=5, label="measured", **look)
    reach = np.stack([mean - runs.min(0), runs.max(0) - mean])[:, every].clip(0)
    ax.errorbar(lag[every], mean[every], yerr=reach, fmt="none", ecolor=COLORS[1], capsize=3)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    ax.set(xlabel="steps back k", ylabel="g over g at the end")
    ax.label_outer()
    ax.legend(fontsize="small", frameon=False, loc="lower left")
    return ax
