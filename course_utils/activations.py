"""Each activation once: function, slope, bound of the slope, where it is reached, source."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .arguments import integer, number, one_of


@dataclass(frozen=True)
class Activation:
    """An elementwise nonlinearity φ and its slope φ′.

    Attributes:
        name: Its name in `ACTIVATIONS`.
        function: φ, tensor to tensor of the same shape.
        slope: φ′; at a kink the convention is the one PyTorch's autograd uses.
        bound: sup |φ′|, dimensionless.
        bound_at: A z where the bound is reached; at a kink the limit from one side counts, and
            ±inf means that it is only approached.
        source: Author, year.
        kinks: Points where φ is not differentiable.
        saturates: Whether φ′ tends to 0 on at least one side.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    bound: float
    bound_at: float
    source: str
    kinks: tuple[float, ...] = ()
    saturates: bool = True


LEAK = 0.01
"""Slope of leaky ReLU on the negative side, PyTorch's default."""

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
"""α and λ of Klambauer et al. (2017), eq. 14, to float64."""

SOFTPLUS_THRESHOLD = 40.0
"""Above it softplus(z) = z to the last bit of float64; PyTorch's 20 is off by 2e-9 there."""


def _identity(z: Tensor) -> Tensor:
    return z.clone()


def _leaky_relu(z: Tensor) -> Tensor:
    return F.leaky_relu(z, LEAK)


def _elu(z: Tensor) -> Tensor:
    # F.elu of older PyTorch takes exp(z) - 1, which has no digits left near 0.
    return torch.where(z > 0, z, torch.expm1(z.clamp(max=0)))


def _selu(z: Tensor) -> Tensor:
    return SELU_SCALE * torch.where(z > 0, z, SELU_ALPHA * torch.expm1(z.clamp(max=0)))


def _softplus(z: Tensor) -> Tensor:
    return F.softplus(z, threshold=SOFTPLUS_THRESHOLD)


def _sigmoid_slope(z: Tensor) -> Tensor:
    """s(z) s(−z); s(−z) keeps its digits where 1 − s(z) has none left."""
    return torch.sigmoid(z) * torch.sigmoid(-z)


def _tanh_slope(z: Tensor) -> Tensor:
    """1 − tanh² z = 4 s(2z) s(−2z)."""
    return 4 * _sigmoid_slope(2 * z)


def _step(z: Tensor, below: float, above: float) -> Tensor:
    """`above` for z > 0, `below` for z ≤ 0, NaN for NaN."""
    return torch.where(z > 0, above, torch.where(z.isnan(), z, below))


def _relu_slope(z: Tensor) -> Tensor:
    return _step(z, 0.0, 1.0)


def _leaky_relu_slope(z: Tensor) -> Tensor:
    return _step(z, LEAK, 1.0)


def _elu_slope(z: Tensor) -> Tensor:
    return torch.exp(z.clamp(max=0))


def _selu_slope(z: Tensor) -> Tensor:
    return torch.where(z > 0, SELU_SCALE, SELU_SCALE * SELU_ALPHA * torch.exp(z.clamp(max=0)))


def _gelu_slope(z: Tensor) -> Tensor:
    """Φ(z) + z p(z), with Φ and p the distribution function and density of N(0, 1)."""
    return torch.special.ndtr(z) + z * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _silu_slope(z: Tensor) -> Tensor:
    """s(z) (1 + z s(−z))."""
    return torch.sigmoid(z) * (1 + z * torch.sigmoid(-z))


def _mish_slope(z: Tensor) -> Tensor:
    """Tanh u + z s(z) (1 − tanh² u), with u = softplus(z) and u′ = s(z)."""
    u = _softplus(z)
    return torch.tanh(u) + z * torch.sigmoid(z) * _tanh_slope(u)


def _relu6_slope(z: Tensor) -> Tensor:
    inside = (z > 0) & (z < 6)
    return torch.where(inside, 1.0, torch.where(z.isnan(), z, 0.0))


def _hardswish_slope(z: Tensor) -> Tensor:
    middle = z / 3 + 0.5
    return torch.where(z <= -3, 0.0, torch.where(z < 3, middle, torch.where(z.isnan(), z, 1.0)))


ACTIVATIONS: dict[str, Activation] = {
    entry.name: entry
    for entry in (
        Activation("linear", _identity, torch.ones_like, 1.0, 0.0, "the identity", saturates=False),
        Activation(
            "sigmoid",
            torch.sigmoid,
            _sigmoid_slope,
            0.25,
            0.0,
            "Rumelhart, Hinton & Williams, 1986",
        ),
        Activation("tanh", torch.tanh, _tanh_slope, 1.0, 0.0, "LeCun et al., 1998"),
        Activation("relu", torch.relu, _relu_slope, 1.0, 1.0, "Nair & Hinton, 2010", (0.0,)),
        Activation(
            "leaky_relu",
            _leaky_relu,
            _leaky_relu_slope,
            1.0,
            1.0,
            "Maas, Hannun & Ng, 2013",
            (0.0,),
            saturates=False,
        ),
        Activation("elu", _elu, _elu_slope, 1.0, 0.0, "Clevert, Unterthiner & Hochreiter, 2016"),
        Activation(
            "selu",
            _selu,
            _selu_slope,
            SELU_SCALE * SELU_ALPHA,
            0.0,
            "Klambauer et al., 2017",
            (0.0,),
        ),
        Activation(
            "gelu",
            F.gelu,
            _gelu_slope,
            1.1289041451851548,
            math.sqrt(2),
            "Hendrycks & Gimpel, 2016",
        ),
        Activation(
            "silu",
            F.silu,
            _silu_slope,
            1.0998393201288669,
            2.3993572805154677,
            "Hendrycks & Gimpel, 2016; Elfwing, Uchibe & Doya, 2018",
        ),
        Activation(
            "mish", F.mish, _mish_slope, 1.0884981612517179, 1.490571179471185, "Misra, 2020"
        ),
        Activation("softplus", _softplus, torch.sigmoid, 1.0, math.inf, "Dugas et al., 2001"),
        Activation("relu6", F.relu6, _relu6_slope, 1.0, 3.0, "Krizhevsky, 2010", (0.0, 6.0)),
        Activation(
            "hardswish", F.hardswish, _hardswish_slope, 1.5, 3.0, "Howard et al., 2019", (-3.0, 3.0)
        ),
    )
}
"""Every activation of the course by name."""


class PReLU(nn.Module):
    """Parametric ReLU: z for z > 0 and a·z below, with one slope a that is learned.

    φ′ = 1 and a; ∂φ/∂a = min(z, 0). Bound of the slope max(1, |a|), reached on the whole half
    line. It does not saturate unless a is 0.

    Args:
        init: First value of a, finite; 0.25 as in the paper. 0 makes it a ReLU.

    Raises:
        ValueError: If `init` is not a finite number.

    References:
        K. He et al., "Delving Deep into Rectifiers", ICCV 2015, eq. 1.

    >>> PReLU()(torch.tensor([-2.0, 3.0])).tolist()
    [-0.5, 3.0]
    """

    def __init__(self, init: float = 0.25):
        super().__init__()
        first = number("init", init, hint="For example 0.25.")
        self.a = nn.Parameter(torch.tensor(first))

    def forward(self, z: Tensor) -> Tensor:
        """φ(z), elementwise, in the dtype of z."""
        return F.prelu(z, self.a.to(z.dtype).reshape(1))

    def entry(self) -> Activation:
        """The activation at the present a, detached: what `slope` and `cu.theory` work with."""
        a = self.a.detach().double().item()
        return Activation(
            name="prelu",
            function=lambda z: F.leaky_relu(z, a),
            slope=lambda z: _step(z, a, 1.0),
            bound=max(1.0, abs(a)),
            bound_at=1.0 if abs(a) <= 1 else -1.0,
            kinks=(0.0,),
            saturates=a == 0,
            source="He, Zhang, Ren & Sun, 2015",
        )

    def extra_repr(self) -> str:
        """Its slope, for `print(net)`."""
        return f"a={self.a.item():.4g}"


class Maxout(nn.Module):
    """The largest of k preactivations: h_i = max(z_i1, …, z_ik). It follows a linear layer.

    The slope is 1 for the largest piece (the first, where several are largest) and 0 for the
    others, so the squared slopes of one unit always add up to 1: bound 1, reached everywhere, no
    saturation. A unit is the largest of k planes, so it can take any convex shape in its input.
    ReLU is the case of two pieces of which one is 0.

    Args:
        pieces: k, preactivations per unit, at least 1.

    Raises:
        TypeError: If `pieces` is no integer.
        ValueError: If `pieces` is below 1.

    References:
        I. Goodfellow et al., "Maxout Networks", ICML 2013.

    >>> layer = nn.Sequential(nn.Linear(10, 2 * 5), Maxout(2))
    >>> layer(torch.zeros(3, 10)).shape
    torch.Size([3, 5])
    """

    bound = 1.0
    saturates = False
    source = "Goodfellow et al., 2013"

    def __init__(self, pieces: int = 2):
        super().__init__()
        self.pieces = integer("pieces", pieces, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Largest piece of each unit: (…, n·k) to (…, n). Pieces of a unit are neighbors."""
        return self._apart(z).max(dim=-1).values

    def slope(self, z: Tensor) -> Tensor:
        """∂h/∂z, 1 for the largest piece of a unit and 0 for the others, of the shape of z."""
        parts = self._apart(z.detach())
        winner = parts.argmax(dim=-1, keepdim=True)
        return torch.zeros_like(parts).scatter_(-1, winner, 1.0).reshape(z.shape)

    def extra_repr(self) -> str:
        """Its number of pieces, for `print(net)`."""
        return f"pieces={self.pieces}"

    def _apart(self, z: Tensor) -> Tensor:
        if not z.ndim or z.shape[-1] % self.pieces:
            raise ValueError(
                f"z has shape {tuple(z.shape)}: its last dimension must be a multiple of the "
                f"{self.pieces} pieces. Put a linear layer of pieces × units outputs before it."
            )
        return z.unflatten(-1, (-1, self.pieces))


def lookup(activation: str | Activation | Callable[[Tensor], Tensor]) -> Activation:
    """The entry of `ACTIVATIONS` for a name; a callable becomes an entry of its own.

    Args:
        activation: A name in `ACTIVATIONS`, an `Activation` (handed back), or any elementwise
            function on tensors. Such a function gets its slope from autograd; its bound is
            unknown (NaN), its kinks are not looked for. A `PReLU` counts with its present a.

    Returns:
        The activation.

    Raises:
        ValueError: If no activation has this name.
        TypeError: If it is none of the three.

    >>> lookup("tanh").bound
    1.0
    """
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, PReLU):
        return activation.entry()
    if isinstance(activation, str):
        return ACTIVATIONS[one_of("activation", activation, ACTIVATIONS)]
    if not callable(activation):
        raise TypeError(
            f"activation={activation!r} must be a name such as 'relu', an Activation, or a "
            f"function on tensors. Names: {', '.join(ACTIVATIONS)}."
        )
    return Activation(
        name=getattr(activation, "__name__", type(activation).__name__).strip("<>"),
        function=activation,
        slope=lambda z: _autograd_slope(activation, z),
        bound=math.nan,
        bound_at=math.nan,
        kinks=(),
        saturates=False,
        source="autograd",
    )


def activation_slope(
    activation: str | Activation | Callable[[Tensor], Tensor], z: Tensor
) -> Tensor:
    """φ′(z), elementwise: the closed form where there is one, autograd for a function of yours.

    At a kink the value is the one PyTorch's autograd uses: relu and relu6 have 0 at each kink,
    leaky relu its slope of 0.01 and selu 1.7581 at 0, hardswish 0 at −3 and 1 at 3.

    Args:
        activation: A name in `ACTIVATIONS`, an `Activation`, or any function on tensors that
            autograd can differentiate.
        z: Preactivations, floating point, any shape; a plain number is taken as float64.

    Returns:
        A detached tensor of the shape, dtype and device of `z`.

    Raises:
        ValueError: If no activation has this name, or the function of yours is not elementwise
            or not differentiable by autograd.
        TypeError: If `z` is not floating point, or `activation` is no activation.

    >>> activation_slope("sigmoid", torch.zeros(2))
    tensor([0.2500, 0.2500])
    >>> activation_slope("rellu", torch.zeros(2))
    Traceback (most recent call last):
    ValueError: activation='rellu' is unknown: did you mean 'relu'? Known: linear, sigmoid, tanh, \
relu, leaky_relu, elu, selu, gelu, silu, mish, softplus, relu6, hardswish.
    """
    entry = lookup(activation)
    if not isinstance(z, Tensor):
        try:
            z = torch.as_tensor(z, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"z={z!r} must be a tensor of floating-point numbers.") from None
    if not z.is_floating_point():
        raise TypeError(f"z has dtype {z.dtype}, floating point is expected: use z.float().")
    return entry.slope(z.detach())


def _autograd_slope(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """The slope of an elementwise function, by one backward pass through the sum of its values."""
    name = getattr(function, "__name__", type(function).__name__)
    with torch.enable_grad():
        leaf = z.detach().clone().requires_grad_()
        value = function(leaf.clone())  # a copy: the function may work in place
        if not isinstance(value, Tensor) or value.shape != z.shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"activation {name} returned {got} for z of shape {tuple(z.shape)}: an elementwise "
                "function on tensors is expected, for example torch.tanh."
            )
        if not value.requires_grad:
            raise ValueError(
                f"activation {name} is cut off from z, so autograd cannot differentiate it: "
                "compute it with torch operations, without detach, numpy or no_grad."
            )
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return gradient.detach()
