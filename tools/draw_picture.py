"""Draw gradients.png, the picture of README.md, from a run of the course's own package.

    .venv/bin/python tools/draw_picture.py

Four networks of 30 layers before their first training step: how much of the gradient at the last
hidden layer reaches the others. Lines are predicted by `cu.theory`, markers measured by
`cu.record`.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import cross_entropy

import course_utils as cu
from course_utils.plots.style import series

TARGET = Path(__file__).resolve().parent.parent / "gradients.png"
DEPTH, WIDTH = 30, 256
# Name, activation, options of cu.mlp, and the same weights' variance times fan_in.
NETWORKS = (
    ("ReLU, weights √2 × He", "relu", {"init": "mean_field", "weight_variance": 4.0}, 4.0),
    ("ReLU, He", "relu", {"init": "he"}, 2.0),
    ("ReLU, default of nn.Linear", "relu", {"init": "torch_default"}, 1 / 3),
    ("sigmoid, Xavier", "sigmoid", {"init": "xavier"}, 1.0),
)


def share(activation: str, options: dict) -> torch.Tensor:
    """RMS of ∂L/∂h of each activation over that of the last one."""
    digits = cu.load_digits()
    net = cu.mlp(DEPTH, WIDTH, activation=activation, generator=cu.seeded(0), **options)
    with cu.record(net) as recorder:
        cross_entropy(net(digits.train_x[:256]), digits.train_y[:256]).backward()
        recorder.step()
    record = recorder.record
    columns = [i for i, name in enumerate(record.layers) if name.startswith(activation)]
    rms = record.grad_rms[0, columns]
    return rms / rms[-1]


def draw() -> plt.Figure:
    """The figure."""
    figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    layers = torch.arange(1, DEPTH)
    for i, (name, activation, options, variance) in enumerate(NETWORKS):
        style = series(i)
        factor = cu.theory.gradient_factor(activation, variance)
        ax.semilogy(layers, factor ** (DEPTH - 1 - layers), color=style["color"], linewidth=1.2)
        ax.semilogy(
            layers[::2],
            share(activation, options)[::2],
            linestyle="none",
            marker=style["marker"],
            markersize=5,
            color=style["color"],
            label=f"{name}: × {factor:.3f} per layer",
        )
    ax.set(
        xlabel="layer (1 = input side)",
        ylabel="gradient, relative to layer 29",
        title="Four networks before training: predicted (lines) and measured (markers)",
    )
    ax.grid(alpha=0.3)
    ax.legend(loc="lower right")
    return figure


if __name__ == "__main__":
    draw().savefig(TARGET, dpi=120, metadata={"Software": None})
    print(TARGET.name)
