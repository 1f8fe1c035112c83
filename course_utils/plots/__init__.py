"""Pictures: arrays or a record in, Axes out. No model, no training, no `plt.show()` inside.

`curves` draws named curves over x. What is a picture of its own has a function of its own.
"""

from .activations import activation_panels, function_and_slope, slope_histogram, unit_map
from .backprop import graph_diagram, layer_factors, running_product
from .clipping import cliff_map, clipped_vectors
from .course_map import course_map
from .curves import curves
from .descent import contour_path, momentum_plane, parabola_path
from .diagnosis import image_strip
from .gates import gate_memory, step_eigenvalues
from .initialization import layer_histograms, phase_diagram
from .matrices import growth_factors, matrix_ellipse, turned_vectors, unit_square_image
from .normalization import shared_statistics, tangent_part
from .number_formats import format_histogram, format_numbers
from .records import gradient_history, gradient_profile, output_profile, update_ratios
from .residual import remedy_map, residual_block
from .style import COLORS, MARKERS
from .training import training_curves

__all__ = [
    "COLORS",
    "MARKERS",
    "activation_panels",
    "cliff_map",
    "clipped_vectors",
    "contour_path",
    "course_map",
    "curves",
    "format_histogram",
    "format_numbers",
    "function_and_slope",
    "gate_memory",
    "gradient_history",
    "gradient_profile",
    "graph_diagram",
    "growth_factors",
    "image_strip",
    "layer_factors",
    "layer_histograms",
    "matrix_ellipse",
    "momentum_plane",
    "output_profile",
    "parabola_path",
    "phase_diagram",
    "remedy_map",
    "residual_block",
    "running_product",
    "shared_statistics",
    "slope_histogram",
    "step_eigenvalues",
    "tangent_part",
    "training_curves",
    "turned_vectors",
    "unit_map",
    "unit_square_image",
    "update_ratios",
]
