"""Pictures: arrays or a record in, Axes out. No model, no training, no `plt.show()` inside."""

from .descent import contour_path, loss_curves, rate_curve, sharpness_curves, training_time

__all__ = [
    "contour_path",
    "loss_curves",
    "rate_curve",
    "sharpness_curves",
    "training_time",
]
