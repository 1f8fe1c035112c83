"""A small explorer for the tests: the text of this file is a cell of the notebook they open."""

import numpy as np

from course_utils.explorers import Bars, GridExplorer, Line, Panel, Points, Readout, Slider, Text

LR = np.array([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.4])
START = ("near", "far", "at the minimum")
STEP = np.arange(31)
FIRST = np.array([1.0, 3.0, 0.0])


def demo() -> GridExplorer:
    """Gradient descent on w²/2 and its mirror image: w ← (1 − η) w, 31 points, 21 settings."""
    w = FIRST[:, None] * (1 - LR[:, None, None]) ** STEP  # (lr, first, step)
    ends = np.stack([w[..., -1], w[..., -1] ** 2 / 2, np.ones((len(LR), len(FIRST)))], axis=-1)
    loss = w**2 / 2
    gap = np.where(np.isin(STEP, (10, 20)), np.nan, w)
    return GridExplorer(
        "Descend a parabola",
        [
            Slider("lr", "learning rate η", LR, start=2),
            Slider("first", "first weight", START, start=1),
        ],
        [
            Panel(
                "Weight",
                "step t",
                "weight w",
                (
                    Line(STEP, gap, label="measured", marker=True),
                    Line(STEP, np.zeros(31), label="minimum", color=6, dash="dashed", width=1),
                ),
                ylim=(-3.5, 3.5),
            ),
            Panel(
                "Loss",
                "step t",
                "loss ½w² (zero: triangles on the lower edge)",
                (Line(STEP, loss, label="measured", color=1, dash="dotted"),),
                yscale="log",
                ylim=(1e-12, 1e4),
            ),
            Panel(
                "Where it ends",
                "",
                "size",
                (
                    Bars(
                        ("weight at the end", "loss at the end", "one"),
                        ends,
                        label="measured",
                        color=2,
                    ),
                ),
                ylim=(-3.0, 3.0),
            ),
            Panel(
                "The same as a diagram",
                "",
                "",
                (
                    Line(np.array([0.0, 1.0]), np.zeros(2), color=6),
                    Points(np.array([0.0, 1.0]), np.zeros(2), size=40, hollow=True),
                    Text(np.array([0.0, 1.0]), np.zeros(2), ("w", "L")),
                    Text(
                        np.array([0.5]),
                        np.array([0.2]),
                        w[..., -1:],
                        prefix=("w after 30 steps = ",),
                        color=1,
                    ),
                ),
                xlim=(-0.4, 1.4),
                ylim=(-0.5, 0.5),
                equal=True,
                axes=False,
            ),
        ],
        [Readout("loss after 30 steps", loss[..., -1]), Readout("fastest η", np.array(1.0))],
    )
