"""Builders of networks: depth, width, activation, initialization, norm, skip.

All numbers are drawn on the CPU from the generator that is handed in; the global random state is
neither read nor changed. A network is built on the CPU and then moved: `cu.to_device(net)`.
"""

import inspect
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import pairwise
from numbers import Real

import torch
from torch import Tensor, nn

from .activations import ACTIVATIONS, SOFTPLUS_THRESHOLD, Activation, lookup
from .runtime import check_generator, unknown

_MODULES: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": lambda: nn.Softplus(threshold=SOFTPLUS_THRESHOLD),
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
}


class Elementwise(nn.Module):
    """A function on tensors as a module, so that hooks see it."""

    def __init__(self, activation: Activation):
        super().__init__()
        self.activation = activation

    def forward(self, z: Tensor) -> Tensor:
        """φ(z), elementwise."""
        return self.activation.function(z)

    def extra_repr(self) -> str:
        """Its name, for `print(net)`."""
        return self.activation.name


class Residual(nn.Sequential):
    """A block with a skip connection: x + branch(x), the branch being the modules inside."""

    def forward(self, x: Tensor) -> Tensor:
        """X + branch(x), of the shape of x."""
        return x + super().forward(x)


def mlp(
    depth: int,
    width: int,
    *,
    inputs: int = 64,
    outputs: int = 10,
    activation: str | Activation | Callable[[Tensor], Tensor] | nn.Module = "relu",
    init: str = "he",
    norm: str | None = None,
    skip: str | None = None,
    generator: torch.Generator,
    **options: float,
) -> nn.Sequential:
    """A multilayer perceptron with L = `depth` weight layers, the last one included.

    h₀ = x, z_l = W_l h_(l−1) + b_l, h_l = φ(norm(z_l)) for l < L, and the output is z_L: no
    activation and no norm stand behind the last layer. So depth=1 is a linear model, and
    depth=20 has 19 activations. Modules are called linear1, norm1, relu1, linear2, …, linearL,
    after their layer; "linear" as activation puts no module there.

    With skip="plain" the same layers in the same order, with the same weights, get a skip
    connection around each norm → activation → linear of equal width (He et al. 2016b, the
    pre-activation order): z_l = z_(l−1) + W_l φ(norm(z_(l−1))) + b_l for 1 < l < L. These modules
    are called block2.norm, block2.relu, block2.linear and so on.

    Args:
        depth: L, number of weight layers, at least 1.
        width: n, units in each hidden layer, at least 1.
        inputs: Features of x.
        outputs: Features of the output; K classes.
        activation: A name in `cu.ACTIVATIONS`, an `Activation`, a function on tensors, or a
            module (each layer gets its own copy).
        init: A name in `cu.INITIALIZERS`, see `initialize`.
        norm: None, "batch" or "layer"; it stands between linear and activation. Layers before
            a batch norm have no bias, which the norm would subtract again.
        skip: None or "plain".
        generator: Source of the weights, for example `cu.seeded(0)`.
        **options: Handed to `initialize`, for example `std=0.01` with init="normal".

    Returns:
        A Sequential that maps (B, inputs) to (B, outputs), on the CPU.

    Raises:
        ValueError: If a size is below 1, or a name is unknown.
        TypeError: If an argument is of the wrong type.

    References:
        S. Ioffe and C. Szegedy, "Batch Normalization", ICML 2015 (place of the norm). K. He et
        al., "Identity Mappings in Deep Residual Networks", ECCV 2016 (place of the skip).

    >>> import course_utils as cu
    >>> [name for name, _ in mlp(3, 100, generator=cu.seeded(0)).named_children()]
    ['linear1', 'relu1', 'linear2', 'relu2', 'linear3']
    """
    for name, size in (
        ("depth", depth),
        ("width", width),
        ("inputs", inputs),
        ("outputs", outputs),
    ):
        _at_least(1, name, size)
    _one_of("norm", norm, (None, "batch", "layer"))
    _one_of("skip", skip, (None, "plain"))
    _one_of("init", init, tuple(INITIALIZERS))
    label, make_activation = _activation_modules(activation)
    sizes = [inputs, *[width] * (depth - 1), outputs]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with _building():
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
            before: OrderedDict[str, nn.Module] = OrderedDict()
            if index > 1 and norm is not None:
                before["norm"] = _NORMS[norm](fan_in)
            if index > 1 and label != "linear":
                before[label] = make_activation()
            bias = norm != "batch" or index == depth
            linear = nn.Linear(fan_in, fan_out, bias=bias)
            if skip == "plain" and 1 < index < depth:
                layers[f"block{index}"] = Residual(OrderedDict(**before, linear=linear))
            else:
                layers |= {f"{name}{index - 1}": module for name, module in before.items()}
                layers[f"linear{index}"] = linear
    return initialize(nn.Sequential(layers), init, generator=generator, **options)


_NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def conv_net(
    depth: int = 3,
    channels: int = 16,
    *,
    shape: tuple[int, int, int] = (1, 8, 8),
    outputs: int = 10,
    activation: str | Activation | Callable[[Tensor], Tensor] | nn.Module = "relu",
    init: str = "he",
    norm: str | None = None,
    skip: str | None = None,
    generator: torch.Generator,
    **options: float,
) -> nn.Sequential:
    """A small convolutional network with L = `depth` weight layers, the last one included.

    L−1 convolutions of 3×3 with padding 1, each followed by norm → activation; then the mean over
    all pixels of each channel, and a linear layer. The second convolution, and for images of more
    than 16 pixels a side the third too, moves in steps of 2 (stride) and doubles the channels.
    It takes the 8×8 digits and the 28×28 images of MNIST alike.

    Args:
        depth: L, number of weight layers, at least 2.
        channels: Channels of the first convolution, at least 1.
        shape: (channels, height, width) of one image, as in `ImageData.shape`.
        outputs: Features of the output; K classes.
        activation: As in `mlp`.
        init: A name in `cu.INITIALIZERS`.
        norm: None, "batch" or "layer" (layer norm over channels and pixels of one image).
        skip: None, or "plain" for x + branch(x) around each norm → activation → convolution that
            keeps the shape.
        generator: Source of the weights, for example `cu.seeded(0)`.
        **options: Handed to `initialize`.

    Returns:
        A Sequential that maps (B, *shape) to (B, outputs), on the CPU.

    Raises:
        ValueError: If a size is below its minimum, or a name is unknown.
        TypeError: If an argument is of the wrong type.

    >>> import course_utils as cu
    >>> net = conv_net(generator=cu.seeded(0))
    >>> [name for name, _ in net.named_children()]
    ['conv1', 'relu1', 'conv2', 'relu2', 'pool', 'flatten', 'linear3']
    >>> net(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    _at_least(2, "depth", depth)
    _at_least(1, "channels", channels)
    _at_least(1, "outputs", outputs)
    if not isinstance(shape, tuple | list) or len(shape) != 3:
        raise ValueError(
            f"shape={shape!r} must be (channels, height, width), for example (1, 8, 8)."
        )
    for name, size in zip(("channels", "height", "width"), shape, strict=True):
        _at_least(1, f"{name} of shape", size)
    _one_of("norm", norm, (None, "batch", "layer"))
    _one_of("skip", skip, (None, "plain"))
    _one_of("init", init, tuple(INITIALIZERS))
    label, make_activation = _activation_modules(activation)
    halvings = (2, 3) if max(shape[1:]) > 16 else (2,)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    before: OrderedDict[str, nn.Module] = OrderedDict()
    now, height, width = shape
    with _building():
        for index in range(1, depth):
            stride = 2 if index in halvings else 1
            fan_out = channels if index == 1 else now * stride
            conv = nn.Conv2d(now, fan_out, 3, stride, padding=1, bias=norm != "batch")
            if skip == "plain" and index > 1 and stride == 1:
                layers[f"block{index}"] = Residual(OrderedDict(**before, conv=conv))
            else:
                layers |= {f"{name}{index - 1}": module for name, module in before.items()}
                layers[f"conv{index}"] = conv
            now = fan_out
            height, width = -(-height // stride), -(-width // stride)
            before = OrderedDict()
            if norm == "batch":
                before["norm"] = nn.BatchNorm2d(now)
            elif norm == "layer":
                before["norm"] = nn.GroupNorm(1, now)
            if label != "linear":
                before[label] = make_activation()
        layers |= {f"{name}{depth - 1}": module for name, module in before.items()}
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers[f"linear{depth}"] = nn.Linear(now, outputs)
    return initialize(nn.Sequential(layers), init, generator=generator, **options)


class RecurrentNet(nn.Module):
    """A recurrent layer read out at its last time step; see `recurrent`."""

    def __init__(self, rnn: nn.RNNBase, outputs: int):
        super().__init__()
        self.rnn = rnn
        self.head = nn.Linear(rnn.hidden_size, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Output after the last step: (B, T, inputs) to (B, outputs)."""
        if x.ndim != 3 or x.shape[2] != self.rnn.input_size:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, (batch, steps, {self.rnn.input_size}) is expected."
            )
        states, _ = self.rnn(x)
        return self.head(states[:, -1])


_RECURRENT = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def recurrent(
    kind: str = "rnn",
    width: int = 64,
    *,
    inputs: int = 1,
    outputs: int = 1,
    layers: int = 1,
    activation: str = "tanh",
    init: str = "orthogonal",
    generator: torch.Generator,
    **options: float,
) -> RecurrentNet:
    """A recurrent network that reads a sequence and answers after its last step.

    rnn: h_t = φ(W x_t + U h_(t−1) + b), ŷ = V h_T + c. "lstm" and "gru" are PyTorch's `nn.LSTM`
    and `nn.GRU` in place of the first equation. Input and recurrent matrices, and within them the
    blocks of each gate, are initialized one by one.

    Args:
        kind: "rnn", "lstm" or "gru".
        width: n, units of the state, at least 1.
        inputs: Features of x_t.
        outputs: Features of ŷ.
        layers: Recurrent layers on top of each other.
        activation: φ of "rnn": "tanh" or "relu". The gates of the other two are fixed: "tanh".
        init: A name in `cu.INITIALIZERS`. Biases start at 0 except with "torch_default".
        generator: Source of the weights, for example `cu.seeded(0)`.
        **options: Handed to `initialize`.

    Returns:
        A module that maps (B, T, inputs) to (B, outputs), on the CPU; its parts are `rnn` and
        `head`.

    Raises:
        ValueError: If a size is below 1, or a name is unknown.
        TypeError: If an argument is of the wrong type.

    >>> import course_utils as cu
    >>> recurrent("gru", 8, inputs=2, generator=cu.seeded(0))(torch.zeros(3, 20, 2)).shape
    torch.Size([3, 1])
    """
    _one_of("kind", kind, tuple(_RECURRENT))
    for name, size in (
        ("width", width),
        ("inputs", inputs),
        ("outputs", outputs),
        ("layers", layers),
    ):
        _at_least(1, name, size)
    _one_of("init", init, tuple(INITIALIZERS))
    allowed = ("tanh", "relu") if kind == "rnn" else ("tanh",)
    if activation not in allowed:
        raise ValueError(
            f"activation={activation!r} is not offered by kind={kind!r}: PyTorch's nn."
            f"{_RECURRENT[kind].__name__} has {' and '.join(allowed)}. Write the cell yourself for "
            "another one, as the notebooks do."
        )
    chosen = {"nonlinearity": activation} if kind == "rnn" else {}
    with _building():
        rnn = _RECURRENT[kind](inputs, width, num_layers=layers, batch_first=True, **chosen)
        net = RecurrentNet(rnn, outputs)
    return initialize(net, init, generator=generator, **options)


# ---------------------------------------------------------------- initialization


def zeros(weight: Tensor, bias: Tensor | None, *, generator: torch.Generator) -> None:
    """All weights 0. Every unit of a layer then stays equal to its neighbours."""
    weight.zero_()


def constant(
    weight: Tensor, bias: Tensor | None, *, generator: torch.Generator, value: float = 0.01
) -> None:
    """All weights equal to `value`. The symmetry between units is never broken."""
    weight.fill_(value)


def normal(
    weight: Tensor, bias: Tensor | None, *, generator: torch.Generator, std: float = 0.01
) -> None:
    """N(0, std²), whatever the width. A ReLU layer multiplies E h² by n·std²/2."""
    weight.normal_(0.0, std, generator=generator)


def xavier(
    weight: Tensor,
    bias: Tensor | None,
    *,
    generator: torch.Generator,
    gain: float = 1.0,
    uniform: bool = False,
) -> None:
    """Variance gain²·2/(fan_in + fan_out): a compromise between forward and backward pass.

    Keeps both at scale for a linear layer of equal fans; a ReLU costs a factor ½ in E h² per
    layer. X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward
    neural networks", AISTATS 2010, eq. 12 and 16.
    """
    fan_in, fan_out = fans(weight)
    _spread(weight, gain * math.sqrt(2 / (fan_in + fan_out)), uniform, generator)


def he(
    weight: Tensor,
    bias: Tensor | None,
    *,
    generator: torch.Generator,
    gain: float = math.sqrt(2),
    uniform: bool = False,
) -> None:
    """Variance gain²/fan_in, with gain √2 because a ReLU passes half of E z².

    Keeps E h² from layer to layer in a ReLU network. With gain = σ_w it is the mean-field
    convention. K. He et al., "Delving Deep into Rectifiers", ICCV 2015, eq. 10.
    """
    _spread(weight, gain / math.sqrt(fans(weight)[0]), uniform, generator)


def orthogonal(
    weight: Tensor, bias: Tensor | None, *, generator: torch.Generator, gain: float = 1.0
) -> None:
    """A random matrix with orthonormal rows or columns, whichever are fewer, times gain.

    All its singular values equal gain, so a square linear layer keeps every length. A. Saxe et
    al., "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
    ICLR 2014.
    """
    nn.init.orthogonal_(weight, gain, generator=generator)


def torch_default(weight: Tensor, bias: Tensor | None, *, generator: torch.Generator) -> None:
    """What `nn.Linear` and `nn.Conv2d` do: weights and bias uniform in ±1/√fan_in.

    The variance is 1/(3·fan_in), a sixth of He's: a ReLU layer passes √(1/6) of the gradient.
    """
    bound = 1 / math.sqrt(fans(weight)[0])
    weight.uniform_(-bound, bound, generator=generator)
    if bias is not None:
        bias.uniform_(-bound, bound, generator=generator)


def mean_field(
    weight: Tensor,
    bias: Tensor | None,
    *,
    generator: torch.Generator,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
) -> None:
    """Weights N(0, weight_variance/fan_in), biases N(0, bias_variance), as `cu.theory` has them.

    S. Schoenholz et al., "Deep Information Propagation", ICLR 2017.
    """
    weight.normal_(0.0, math.sqrt(weight_variance / fans(weight)[0]), generator=generator)
    if bias is not None:
        bias.normal_(0.0, math.sqrt(bias_variance), generator=generator)


INITIALIZERS: dict[str, Callable[..., None]] = {
    scheme.__name__: scheme
    for scheme in (zeros, constant, normal, xavier, he, orthogonal, torch_default, mean_field)
}
"""Each scheme fills a weight (and a bias, which comes in as 0) from `generator`, in place."""


def initialize(
    module: nn.Module, scheme: str = "he", *, generator: torch.Generator, **options: float
) -> nn.Module:
    """Give a network new first weights, in place.

    What a layer then multiplies E h² by, on the way forward, at width n:

    | scheme | weight variance | linear | ReLU |
    |---|---|---|---|
    | zeros, constant | 0 | no gradient, or all units alike | the same |
    | normal (std=0.01) | std² | n·std² | n·std²/2 |
    | xavier (gain=1) | gain²·2/(fan_in + fan_out) | gain² | gain²/2 |
    | he (gain=√2) | gain²/fan_in | gain² | gain²/2 = 1 |
    | orthogonal (gain=1) | gain²/n | gain², exactly | gain²/2 |
    | torch_default | 1/(3·fan_in) | 1/3 | 1/6 |
    | mean_field (weight_variance=1, bias_variance=0) | weight_variance/fan_in | | |

    Weights of linear, convolutional and recurrent layers are drawn in the order of
    `module.modules()`; their biases become 0 unless the scheme says otherwise. Norm layers start
    anew (scale 1, shift 0, fresh running statistics). Other modules, transposed convolutions and
    embeddings among them, stay as they are. Numbers are
    drawn on the CPU and copied to where the weight lives, so they do not depend on the device.

    Args:
        module: Any network; also a single layer.
        scheme: A name in `INITIALIZERS`.
        generator: Source of the numbers, for example `cu.seeded(0)`.
        **options: What the scheme takes: `std`, `value`, `gain`, `uniform` (uniform of the same
            variance instead of Gaussian, xavier and he), `weight_variance`, `bias_variance`.

    Returns:
        The same module.

    Raises:
        ValueError: If the scheme or an option is unknown, or an option is out of range.
        TypeError: If an argument is of the wrong type.

    >>> import course_utils as cu
    >>> layer = initialize(nn.Linear(500, 500), "he", generator=cu.seeded(0))
    >>> round(float(layer.weight.detach().var() * 500), 1)
    2.0
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module={module!r} must be a torch.nn.Module, for example cu.mlp(...).")
    check_generator(generator)
    _one_of("scheme", scheme, tuple(INITIALIZERS))
    fill = INITIALIZERS[scheme]
    _check_options(scheme, fill, options)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, _NORM_LAYERS):
                layer.reset_parameters()  # ones and zeros: nothing is drawn
                continue
            for weight, bias in _weights(layer):
                _check_weight(layer, weight)
                fresh = torch.empty(weight.shape, dtype=_draw_dtype(weight), device="cpu")
                offset = None
                if bias is not None:
                    offset = torch.zeros(bias.shape, dtype=_draw_dtype(bias), device="cpu")
                fill(fresh, offset, generator=generator, **options)
                weight.copy_(fresh)
                if bias is not None:
                    bias.copy_(offset)
    return module


def fans(weight: Tensor) -> tuple[int, int]:
    """fan_in and fan_out of a weight: terms in the sum of one output, and uses of one input.

    Args:
        weight: (outputs, inputs) of a linear layer, or (outputs, inputs, *kernel) of a convolution.

    Returns:
        (inputs × pixels of the kernel, outputs × pixels of the kernel).

    Raises:
        ValueError: If the weight has fewer than two dimensions.

    >>> fans(torch.zeros(16, 8, 3, 3))
    (72, 144)
    """
    if weight.ndim < 2:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}: at least (outputs, inputs) is expected."
        )
    pixels = math.prod(weight.shape[2:])
    return weight.shape[1] * pixels, weight.shape[0] * pixels


_NORM_LAYERS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
_MATRIX_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_DRAWN = (torch.float32, torch.float64)


def _weights(layer: nn.Module) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Matrices of one layer with their biases; one per gate in a recurrent layer."""
    if isinstance(layer, _MATRIX_LAYERS):
        yield layer.weight, layer.bias
    elif isinstance(layer, nn.RNNBase | nn.RNNCellBase):
        named = dict(layer.named_parameters(recurse=False))
        for name, weight in named.items():
            if name.startswith("weight"):
                bias = named.get(name.replace("weight", "bias"))
                gates = max(1, weight.shape[0] // layer.hidden_size)
                biases = [None] * gates if bias is None else bias.chunk(gates)
                yield from zip(weight.chunk(gates), biases, strict=True)


def _check_weight(layer: nn.Module, weight: Tensor) -> None:
    """Refuse weights that cannot be written to, instead of writing to a copy in silence."""
    kind = type(layer).__name__
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise ValueError(f"{kind} has no shape yet: run the network on one batch first.")
    if isinstance(layer, _MATRIX_LAYERS) and not isinstance(layer.weight, nn.Parameter):
        raise ValueError(
            f"The weight of {kind} is computed (weight_norm, spectral_norm, pruning): initialize "
            "the network first and add that afterwards."
        )
    if weight.device.type == "meta":
        raise ValueError(f"{kind} lies on the meta device: call module.to_empty first.")


def _spread(weight: Tensor, std: float, uniform: bool, generator: torch.Generator) -> None:
    """Fill with numbers of mean 0 and standard deviation `std`."""
    if uniform:
        bound = math.sqrt(3) * std
        weight.uniform_(-bound, bound, generator=generator)
    else:
        weight.normal_(0.0, std, generator=generator)


def _draw_dtype(weight: Tensor) -> torch.dtype:
    """Half precision is drawn in float32 and rounded."""
    return weight.dtype if weight.dtype in _DRAWN else torch.float32


@contextmanager
def _building() -> Iterator[None]:
    """Modules made inside lie on the CPU and leave the global random state as it was."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        yield


def _activation_modules(activation: object) -> tuple[str, Callable[[], nn.Module]]:
    """Name of an activation, and a function that makes a fresh module of it."""
    if isinstance(activation, nn.Module):
        return _label(type(activation).__name__.lower()), lambda: deepcopy(activation)
    entry = lookup(activation)
    if entry is ACTIVATIONS.get(entry.name):
        return entry.name, _MODULES.get(entry.name, lambda: Elementwise(entry))
    return _label(entry.name), lambda: Elementwise(entry)


def _label(name: str) -> str:
    """A name for modules of an activation that is not ours, unlike those of other modules."""
    taken = ("linear", "conv", "norm", "block", "pool", "flatten", "lambda")
    return name if name.isidentifier() and name not in taken else "activation"


def _at_least(least: int, argument: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument}={value!r} must be an integer, at least {least}.")
    if value < least:
        raise ValueError(f"{argument}={value} must be at least {least}.")


def _one_of(argument: str, value: object, known: tuple[str | None, ...]) -> None:
    if not (value is None or isinstance(value, str)) or value not in known:
        raise ValueError(unknown(argument, value, [str(name) for name in known]))


def _check_options(scheme: str, fill: Callable, options: dict[str, object]) -> None:
    """Options the scheme has, each a finite number in its range."""
    taken = [
        name
        for name, parameter in inspect.signature(fill).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "generator"
    ]
    for name, value in options.items():
        if name not in taken:
            offer = f"it takes {', '.join(taken)}" if taken else "it takes none"
            raise ValueError(f"{name}={value!r} is no option of scheme {scheme!r}: {offer}.")
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ValueError(f"{name}={value!r} must be a finite number.")
        if value < 0 and name != "value":
            raise ValueError(f"{name}={value} must not be negative.")
