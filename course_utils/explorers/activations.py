"""Explorer of notebook 04: one activation, and inputs of any width."""

import numpy as np
import torch

from .. import theory
from ..activations import ACTIVATIONS, PReLU
from .grid import GridExplorer
from .spec import Line, Panel, Points, Readout, Slider

CHOICES = {**ACTIVATIONS, "prelu": PReLU().entry()}
"""What can be picked: every name in `ACTIVATIONS`, and PReLU at its first slope of 0.25."""

WIDTHS = np.geomspace(0.05, 20, 41)
"""Standard deviations of the preactivation; the middle one is 1."""

EDGES = np.linspace(-0.6, 1.8, 49)
"""Edges of the slope histogram; every slope of every choice lies between the first and last."""

SATURATED = 0.05
"""A unit counts as saturated where |φ′| is below this."""

_REACH = 8.0


def activations_explorer() -> GridExplorer:
    """Explorer of notebook 04: pick an activation and drag the width of its inputs.

    The preactivation is z ~ N(0, std²). The first two panels show φ and φ′, with the density of z
    (scaled) behind φ. The third shows how often each slope then occurs. The fourth shows √E[φ′²]
    by quadrature against the standard deviation, with a dot where the slider stands: it is the
    factor per layer of the gradient's norm when the weights have variance 1/n.

    Returns:
        The explorer, with the traits `activation` and `std`.
    """
    z = np.linspace(-_REACH, _REACH, 161)
    grid = torch.from_numpy(z)
    functions = np.stack([choice.function(grid).numpy() for choice in CHOICES.values()])
    slopes = np.stack([choice.slope(grid).numpy() for choice in CHOICES.values()])
    density = np.exp(-((z / WIDTHS[:, None]) ** 2) / 2)
    rms = np.array(
        [
            [theory.mean_square_slope(choice, width**2) ** 0.5 for width in WIDTHS]
            for choice in CHOICES.values()
        ]
    )
    shares, saturated, mean = slope_statistics()
    heights = np.repeat(shares, 2, axis=-1)
    outline = np.pad(heights, ((0, 0), (0, 0), (1, 1)))  # from the ground up and back
    return GridExplorer(
        title="Which factor does the activation put into the product?",
        sliders=(
            Slider("activation", "activation φ", tuple(CHOICES), start=1),
            Slider("std", "standard deviation of z", WIDTHS.tolist(), start=20, format=".2f"),
        ),
        panels=(
            Panel(
                title="The activation, and where its inputs lie",
                xlabel="preactivation z",
                ylabel="φ(z)",
                marks=(
                    Line(z, density[None], "density of z (scaled)", color=5, dash="dotted"),
                    Line(z, functions[:, None], "φ(z)"),
                ),
                ylim=(-2.0, 6.5),
            ),
            Panel(
                title="Its slope",
                xlabel="preactivation z",
                ylabel="φ′(z)",
                marks=(Line(z, slopes[:, None], "φ′(z)", color=1),),
                ylim=(-0.6, 1.9),
            ),
            Panel(
                title="How often each slope occurs",
                xlabel="slope φ′(z)",
                ylabel="share of units",
                marks=(
                    Line(np.repeat(EDGES, 2), outline, "share per bin"),
                    Line(
                        np.stack([rms, rms], axis=-1),
                        np.array([0.0, 1.0]),
                        "√E[φ′²]",
                        color=1,
                        dash="dashed",
                    ),
                ),
                xlim=(-0.6, 1.8),
                ylim=(0.0, 1.05),
            ),
            Panel(
                title="What the layer leaves of the gradient",
                xlabel="standard deviation of z",
                ylabel="√E[φ′²]",
                marks=(
                    Line(WIDTHS, rms[:, None], "√E[φ′²]"),
                    Points(WIDTHS[None, :, None], rms[..., None], "here", color=1, size=10.0),
                ),
                xscale="log",
                ylim=(0.0, 1.5),
            ),
        ),
        readouts=(
            Readout("√E[φ′²]", rms, ".4f"),
            Readout("ten such layers multiply g by", rms**10, ".2g"),
            Readout(f"share of units with |φ′| < {SATURATED}", saturated, ".0%"),
            Readout("mean output E[φ]", mean, ".2f"),
        ),
    )


def slope_statistics() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How the slopes of every choice are distributed at every width, from 4001 quantiles of z.

    Returns:
        Share of the slopes in each bin, shape (choices, widths, bins); share of slopes smaller
        than `SATURATED` in absolute value, and mean output E[φ], both (choices, widths).
    """
    quantiles = (torch.arange(4001, dtype=torch.float64) + 0.5) / 4001
    z = torch.special.ndtri(quantiles) * torch.from_numpy(WIDTHS)[:, None]
    shares, saturated, mean = [], [], []
    rows = np.arange(len(WIDTHS))[:, None] * (EDGES.size - 1)
    for choice in CHOICES.values():
        values = choice.slope(z).numpy()
        bins = np.clip(np.searchsorted(EDGES, values, "right") - 1, 0, EDGES.size - 2)
        counts = np.bincount((rows + bins).ravel(), minlength=len(WIDTHS) * (EDGES.size - 1))
        shares.append(counts.reshape(len(WIDTHS), -1) / z.shape[1])
        saturated.append((np.abs(values) < SATURATED).mean(1))
        mean.append(choice.function(z).numpy().mean(1))
    return np.stack(shares), np.stack(saturated), np.stack(mean)
