"""Every activation and its slope by NumPy and SciPy alone: the oracle of several tests."""

import numpy as np
import scipy.special as sp

ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805


def density(z):
    return np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def mish(z):
    return z * np.tanh(np.logaddexp(0, z))


def mish_slope(z):
    t = np.tanh(np.logaddexp(0, z))
    return t + z * (1 - t * t) * sp.expit(z)


# name: φ, φ′, points at which φ or φ′ is not smooth
FORMULAS = {
    "linear": (lambda z: z, lambda z: 1.0, ()),
    "sigmoid": (sp.expit, lambda z: sp.expit(z) * sp.expit(-z), ()),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(min(abs(z), 350.0)) ** 2, ()),
    "relu": (lambda z: max(z, 0.0), lambda z: float(z > 0), (0,)),
    "leaky_relu": (lambda z: max(z, 0.01 * z), lambda z: 1.0 if z > 0 else 0.01, (0,)),
    "elu": (lambda z: z if z > 0 else np.expm1(z), lambda z: np.exp(min(z, 0.0)), (0,)),
    "selu": (
        lambda z: SCALE * (z if z > 0 else ALPHA * np.expm1(z)),
        lambda z: SCALE * (1.0 if z > 0 else ALPHA * np.exp(z)),
        (0,),
    ),
    "gelu": (lambda z: z * sp.ndtr(z), lambda z: sp.ndtr(z) + z * density(z), ()),
    "silu": (
        lambda z: z * sp.expit(z),
        lambda z: sp.expit(z) + z * sp.expit(z) * sp.expit(-z),
        (),
    ),
    "mish": (mish, mish_slope, ()),
    "softplus": (lambda z: np.logaddexp(0, z), sp.expit, ()),
    "relu6": (lambda z: min(max(z, 0.0), 6.0), lambda z: float(0 < z < 6), (0, 6)),
    "hardswish": (
        lambda z: z * min(max(z + 3, 0.0), 6.0) / 6,
        lambda z: 0.0 if z <= -3 else 1.0 if z >= 3 else (2 * z + 3) / 6,
        (-3, 3),
    ),
}
