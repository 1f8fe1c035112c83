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
from .matrices import eigenvalue_plane, log_norm_paths, matrix_ellipse, norm_growth
from .training import accuracy_curves, training_curves

__all__ = [
    "accuracy_curves",
    "contour_path",
    "eigenvalue_plane",
    "expected_losses",
    "graph_diagram",
    "layer_factors",
    "log_norm_paths",
    "loss_curves",
    "loss_slopes",
    "lr_scan",
    "matrix_ellipse",
    "norm_growth",
    "rate_curve",
    "sharpness_curves",
    "step_errors",
    "training_curves",
    "training_time",
]
