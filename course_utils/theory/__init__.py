"""Closed forms and quadrature in float64: what a gradient will do, before anything runs.

One file per subject: `descent` (notebook 01), `matrices` (03), `mean_field` (04 and 05),
`initialization` (05), `clipping` (06), `normalization` (07), `residual` (08).
"""

from .clipping import (
    cliff_bias,
    cliff_slope,
    pinned_gradient_factor,
    quartic_stable_lr,
    value_clip_cosine,
)
from .descent import (
    best_heavy_ball,
    best_lr,
    chain_training_steps,
    convergence_factor,
    gd_convergence_rate,
    heavy_ball_convergence_rate,
    largest_stable_lr,
    sgd_variance,
)
from .initialization import (
    edge_of_chaos,
    largest_singular_value_squared,
    preactivation_variances,
)
from .matrices import (
    log_norm_variance,
    lyapunov_exponent,
    operator_norm,
    spectral_radius,
)
from .mean_field import (
    critical_weight_variance,
    dead_network_probability,
    depth_scale,
    fixed_point,
    gradient_factor,
    mean_square_output,
    mean_square_slope,
)
from .normalization import batchnorm_gradient_factor
from .residual import gradient_correlation, residual_growth

__all__ = [
    "batchnorm_gradient_factor",
    "best_heavy_ball",
    "best_lr",
    "chain_training_steps",
    "cliff_bias",
    "cliff_slope",
    "convergence_factor",
    "critical_weight_variance",
    "dead_network_probability",
    "depth_scale",
    "edge_of_chaos",
    "fixed_point",
    "gd_convergence_rate",
    "gradient_correlation",
    "gradient_factor",
    "heavy_ball_convergence_rate",
    "largest_singular_value_squared",
    "largest_stable_lr",
    "log_norm_variance",
    "lyapunov_exponent",
    "mean_square_output",
    "mean_square_slope",
    "operator_norm",
    "pinned_gradient_factor",
    "preactivation_variances",
    "quartic_stable_lr",
    "residual_growth",
    "sgd_variance",
    "spectral_radius",
    "value_clip_cosine",
]
