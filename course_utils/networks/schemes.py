"""The schemes of initialization: how one block of weights is filled.

Each fills a weight (outputs, inputs, *kernel), and a bias that comes in as 0, from `generator`, in
place. `fan` is the block's (fan_in, fan_out); where it is None it is counted from the shape.
"""

import math
from collections.abc import Callable

from torch import Generator, Tensor, nn

from .counting import Fans, fans


def zeros(
    weight: Tensor, bias: Tensor | None = None, *, generator: Generator, fan: Fans | None = None
) -> None:
    """All weights 0. Every unit of a layer then stays equal to its neighbors."""
    weight.zero_()


def constant(
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    generator: Generator,
    fan: Fans | None = None,
    value: float = 0.01,
) -> None:
    """All weights equal to `value`. The symmetry between units is never broken."""
    weight.fill_(value)


def normal(
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    generator: Generator,
    fan: Fans | None = None,
    std: float = 0.01,
) -> None:
    """N(0, std²), whatever the width. A ReLU layer multiplies E h² by n·std²/2."""
    weight.normal_(0.0, std, generator=generator)


def xavier(
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    generator: Generator,
    fan: Fans | None = None,
    gain: float = 1.0,
    uniform: bool = False,
) -> None:
    """Variance gain²·2/(fan_in + fan_out): a compromise between forward and backward pass.

    Keeps both at scale for a linear layer of equal fans. A ReLU then costs a factor ½ in E h² and
    √½ in the gradient per layer; with tanh E h² fades like 1/(2l); with the sigmoid the gradient
    falls to 0.236 per layer. X. Glorot and Y. Bengio, "Understanding the difficulty of training
    deep feedforward neural networks", AISTATS 2010, eq. 12 and 16.
    """
    fan_in, fan_out = fan or fans(weight)
    _spread(weight, gain * math.sqrt(2 / (fan_in + fan_out)), uniform, generator)


def he(
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    generator: Generator,
    fan: Fans | None = None,
    gain: float = math.sqrt(2),
    uniform: bool = False,
) -> None:
    """Variance gain²/fan_in, with gain √2 because a ReLU passes half of E z².

    Keeps E h² from layer to layer in a ReLU network. A linear layer doubles E h²; with tanh the
    gradient grows by 1.051 per layer, once E z² has settled at 0.618. With gain = σ_w it is the
    mean-field convention. K. He et al., "Delving Deep into Rectifiers", ICCV 2015, eq. 10.
    """
    fan_in, _ = fan or fans(weight)
    _spread(weight, gain / math.sqrt(fan_in), uniform, generator)


def orthogonal(
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    generator: Generator,
    fan: Fans | None = None,
    gain: float = 1.0,
) -> None:
    """A random matrix with orthonormal rows or columns, whichever are fewer, times gain.

    Of a kernel the matrix is (outputs, inputs·K). All its singular values equal gain, so a square
    linear layer keeps every length. A transposed convolution with steps of S pixels gets √S more,
    because only every S-th product meets in one output: so each layer with at least as many
    inputs·K as outputs multiplies E h² by gain². A ReLU costs a factor ½ unless gain is √2. A. Saxe
    et al., "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
    ICLR 2014.
    """
    products = math.prod(weight.shape[1:])
    fan_in, _ = fan or fans(weight)
    nn.init.orthogonal_(weight, gain * math.sqrt(products / fan_in), generator=generator)


def torch_default(
    weight: Tensor, bias: Tensor | None = None, *, generator: Generator, fan: Fans | None = None
) -> None:
    """What PyTorch does when it makes the layer: weights and bias uniform in ±1/√fan_in.

    The variance is 1/(3·fan_in), a sixth of He's: a ReLU layer passes √(1/6) of the gradient.
    fan_in is here what PyTorch takes for it: n units in recurrent layers, and outputs/g·K in
    transposed convolutions.
    """
    bound = 1 / math.sqrt((fan or fans(weight)).fan_in)
    weight.uniform_(-bound, bound, generator=generator)
    if bias is not None:
        bias.uniform_(-bound, bound, generator=generator)


def mean_field(
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    generator: Generator,
    fan: Fans | None = None,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
) -> None:
    """Weights N(0, weight_variance/fan_in), biases N(0, bias_variance), as `cu.theory` has them.

    S. Schoenholz et al., "Deep Information Propagation", ICLR 2017.
    """
    fan_in, _ = fan or fans(weight)
    weight.normal_(0.0, math.sqrt(weight_variance / fan_in), generator=generator)
    if bias is not None:
        bias.normal_(0.0, math.sqrt(bias_variance), generator=generator)


def lsuv(
    weight: Tensor, bias: Tensor | None = None, *, generator: Generator, fan: Fans | None = None
) -> None:
    """An orthogonal start; `initialize` then divides it by what it measures on a batch.

    Afterwards the output of each layer has variance 1, whatever the activation. D. Mishkin and
    J. Matas, "All you need is a good init", ICLR 2016, Algorithm 1.
    """
    orthogonal(weight, generator=generator, fan=fan)


def _spread(weight: Tensor, std: float, uniform: bool, generator: Generator) -> None:
    """Fill with numbers of mean 0 and standard deviation `std`."""
    if uniform:
        bound = math.sqrt(3) * std
        weight.uniform_(-bound, bound, generator=generator)
    else:
        weight.normal_(0.0, std, generator=generator)


INITIALIZERS: dict[str, Callable[..., None]] = {
    scheme.__name__: scheme
    for scheme in (zeros, constant, normal, xavier, he, orthogonal, torch_default, mean_field, lsuv)
}
