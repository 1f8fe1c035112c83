"""Builders of networks: depth, width, activation, initialization, norm, skip.

All numbers are drawn on the CPU from the generator that is handed in; the global random state is
neither read nor changed. A network is built on the CPU and then moved: `cu.to_device(net)`.
"""

from .activation_layers import Elementwise
from .convolutional import conv_net
from .counting import Fans, fans
from .dense import mlp
from .initialization import initialize
from .recurrence import RecurrentNet, recurrent
from .residual import Residual
from .schemes import (
    INITIALIZERS,
    constant,
    he,
    lsuv,
    mean_field,
    normal,
    orthogonal,
    torch_default,
    xavier,
    zeros,
)
from .stacked import stack_mlps
from .state_space import DiagonalStateSpace, scan

__all__ = [
    "INITIALIZERS",
    "DiagonalStateSpace",
    "Elementwise",
    "Fans",
    "RecurrentNet",
    "Residual",
    "constant",
    "conv_net",
    "fans",
    "he",
    "initialize",
    "lsuv",
    "mean_field",
    "mlp",
    "normal",
    "orthogonal",
    "recurrent",
    "scan",
    "stack_mlps",
    "torch_default",
    "xavier",
    "zeros",
]
