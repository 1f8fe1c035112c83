"""Pictures: arrays or a record in, Axes out. No model, no training, no `plt.show()` inside."""

from .backprop import (
    expected_losses,
    graph_diagram,
    layer_factors,
    loss_slopes,
    lr_scan,
    step_errors,
)
from .descent import contour_path, loss_curves, rate_curve, sharpness_curves, training_time

__all__ = [
    "contour_path",
    "expected_losses",
    "graph_diagram",
    "layer_factors",
    "loss_curves",
    "loss_slopes",
    "lr_scan",
    "rate_curve",
    "sharpness_curves",
    "step_errors",
    "training_time",
]
