"""Pictures: arrays or a record in, Axes out. No model, no training, no `plt.show()` inside."""

from .activations import (
    function_and_slope,
    share_by_layer,
    share_by_lr,
    slope_histogram,
    width_phases,
)
from .backprop import (
    expected_losses,
    graph_diagram,
    layer_factors,
    loss_slopes,
    lr_scan,
    step_errors,
)
from .clipping import cliff_map, cliff_surface, clip_turn, clipped_vectors, norm_history
from .course_map import course_map
from .descent import contour_path, loss_curves, lr_curve, sharpness_curves, training_time
from .diagnosis import before_and_after, image_strip, relative_by_layer
from .initialization import (
    depth_accuracy,
    layer_histograms,
    phase_diagram,
    scale_by_layer,
    singular_spectrum,
)
from .matrices import eigenvalue_plane, log_norm_paths, matrix_ellipse, norm_growth
from .normalization import factor_by_batch, shared_statistics
from .records import gradient_history, gradient_profile, output_profile, update_ratios
from .residual import (
    correlation_by_depth,
    input_gradients,
    lesion_accuracy,
    path_lengths,
    remedy_map,
)
from .style import COLORS, MARKERS
from .training import accuracy_curves, training_curves

__all__ = [
    "COLORS",
    "MARKERS",
    "accuracy_curves",
    "before_and_after",
    "cliff_map",
    "cliff_surface",
    "clip_turn",
    "clipped_vectors",
    "contour_path",
    "correlation_by_depth",
    "course_map",
    "depth_accuracy",
    "eigenvalue_plane",
    "expected_losses",
    "factor_by_batch",
    "function_and_slope",
    "gradient_history",
    "gradient_profile",
    "graph_diagram",
    "image_strip",
    "input_gradients",
    "layer_factors",
    "layer_histograms",
    "lesion_accuracy",
    "log_norm_paths",
    "loss_curves",
    "loss_slopes",
    "lr_curve",
    "lr_scan",
    "matrix_ellipse",
    "norm_growth",
    "norm_history",
    "output_profile",
    "path_lengths",
    "phase_diagram",
    "relative_by_layer",
    "remedy_map",
    "scale_by_layer",
    "share_by_layer",
    "share_by_lr",
    "shared_statistics",
    "sharpness_curves",
    "singular_spectrum",
    "slope_histogram",
    "step_errors",
    "training_curves",
    "training_time",
    "update_ratios",
    "width_phases",
]
