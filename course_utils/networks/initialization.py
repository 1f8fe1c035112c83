"""Give a whole network new first weights."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..arguments import boolean, check_generator, number, one_of
from ..measuring.torch_internals import RunningNorms
from .counting import MATRIX_LAYERS, RECURRENT, Fans, weight_blocks
from .residual import Residual
from .schemes import INITIALIZERS
from .unit_variance import check_batch, restored_on_failure, unit_variance

Net = TypeVar("Net", bound=nn.Module)

_START_ANEW = (RunningNorms, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, Residual)
_DRAWN = (torch.float32, torch.float64)


def initialize(
    module: Net,
    scheme: str = "he",
    *,
    generator: torch.Generator,
    batch: Tensor | tuple[Tensor, ...] | None = None,
    **options: float,
) -> Net:
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
    | lsuv (batch=x) | as measured | 1 | 1 |

    A scheme that does not fit the activation is allowed. What it costs, as factor of the gradient
    norm per layer (√χ₁ at the level the signal settles at, see `cu.theory.gradient_factor`):

    | activation | xavier | he |
    |---|---|---|
    | linear | 1 | 1.414 |
    | ReLU | 0.707 | 1 |
    | tanh | 1, while E h² fades like 1/(2l) | 1.051 |
    | sigmoid | 0.236 | 0.318 |
    | GELU, SiLU | 0.5 | 0.707, once the signal has died |
    | SELU | 1.035 | 1.13 at first, 1.051 in the end; E h² grows without end |

    Weights of linear, convolutional, transposed convolutional and recurrent layers are drawn in
    the order of `module.modules()`, group by group and gate by gate, with the fans of `fans`. The
    input and the recurrent matrix of a recurrent layer are each treated as a layer of its own.
    Biases become 0 unless the scheme says otherwise (of the two biases of PyTorch's recurrent
    layers, which add up, mean_field draws the first). Norm layers start anew (scale 1, shift 0,
    fresh running statistics), and so does a learned factor of a `Residual` block (0). Other
    modules, embeddings and the input projection of attention among them, stay as they are.
    Numbers are drawn on the CPU and copied to where the weight lives, so they do not depend on the
    device.

    With "lsuv" the network, orthogonal at first, runs once on `batch`, and each layer on its way is
    divided by the standard deviation of its output (over examples, units and pixels), before the
    next layer sees it. A layer is linear in its weights, so one division does what the paper
    repeats until the variance is near 1. Of a recurrent layer the input matrices are divided, so
    that each gate's W x_t has variance 1; the recurrent matrices stay orthogonal. A layer that
    runs twice is divided the first time. Dropout is off in this run, batch norms use the batch; the
    mode, hooks, running statistics and gradients are as they were afterwards, and after an error
    the weights, too.

    Args:
        module: Any network; also a single layer.
        scheme: A name in `INITIALIZERS`.
        generator: Source of the numbers, for example `cu.seeded(0)`.
        batch: For "lsuv", and only there: examples as the network takes them, or a tuple of
            several arguments; moved to the network's device. 64 to 256 examples do.
        **options: What the scheme takes: `std`, `value`, `gain`, `uniform` (uniform of the same
            variance instead of Gaussian, xavier and he), `weight_variance`, `bias_variance`.

    Returns:
        The same module.

    Raises:
        ValueError: If the scheme or an option is unknown, or an option is out of range; if the
            batch is missing, does not fit, or leaves a layer with a constant output.
        TypeError: If an argument is of the wrong type.

    References:
        D. Mishkin and J. Matas, "All you need is a good init", ICLR 2016, Algorithm 1 (lsuv); the
        other schemes name theirs.

    >>> import course_utils as cu
    >>> layer = initialize(nn.Linear(500, 500), "he", generator=cu.seeded(0))
    >>> round(float(layer.weight.detach().var() * 500), 1)
    2.0
    >>> x = 7 * torch.randn(100, 500, generator=cu.seeded(1))
    >>> layer = initialize(layer, "lsuv", batch=x, generator=cu.seeded(0))
    >>> round(float(layer(x).detach().var()), 3)
    1.0
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module={module!r} must be a torch.nn.Module, for example cu.mlp(...).")
    check_generator(generator)
    one_of("scheme", scheme, INITIALIZERS)
    options = _checked(scheme, options)
    if scheme == "lsuv":
        examples = check_batch(batch)
        with restored_on_failure(module):
            _fill(module, scheme, generator, options)
            unit_variance(module, examples)
        return module
    if batch is not None:
        raise ValueError(
            f"batch was given, but scheme {scheme!r} measures nothing: leave it out, or use 'lsuv'."
        )
    _fill(module, scheme, generator, options)
    return module


@torch.no_grad()
def _fill(
    module: nn.Module, scheme: str, generator: torch.Generator, options: dict[str, float]
) -> None:
    """Fill every block of weights, and start norms and learned factors anew."""
    fill = INITIALIZERS[scheme]
    default = scheme == "torch_default"
    for layer in module.modules():
        if isinstance(layer, _START_ANEW):
            layer.reset_parameters()  # ones and zeros: nothing is drawn
        if not isinstance(layer, MATRIX_LAYERS + RECURRENT):
            continue
        _check_weights(layer)
        for name, parameter in layer.named_parameters(recurse=False):
            if name.startswith("bias"):
                parameter.zero_()
        for block in weight_blocks(layer, second_bias=default):
            fresh = _like(block.weight, torch.empty)
            bias = None if block.bias is None else _like(block.bias, torch.zeros)
            fan = Fans(block.default_fan, block.fans.fan_out) if default else block.fans
            fill(fresh, bias, generator=generator, fan=fan, **options)
            block.weight.copy_(fresh)
            if block.bias is not None and bias is not None:
                block.bias.copy_(bias)


def _like(tensor: Tensor, make: Callable[..., Tensor]) -> Tensor:
    """A tensor of the same shape on the CPU; half precision is drawn in float32 and rounded."""
    dtype = tensor.dtype if tensor.dtype in _DRAWN else torch.float32
    return make(tensor.shape, dtype=dtype, device="cpu")


def _check_weights(layer: nn.Module) -> None:
    """Refuse weights that cannot be written to, instead of writing to a copy in silence."""
    kind = type(layer).__name__
    if isinstance(layer, MATRIX_LAYERS) and not isinstance(layer.weight, nn.Parameter):
        raise ValueError(
            f"The weight of {kind} is computed (weight_norm, spectral_norm, pruning): initialize "
            "the network first and add that afterwards."
        )
    for weight in layer.parameters(recurse=False):
        if isinstance(weight, nn.parameter.UninitializedParameter):
            raise ValueError(f"{kind} has no shape yet: run the network on one batch first.")
        if weight.device.type == "meta":
            raise ValueError(f"{kind} lies on the meta device: call module.to_empty first.")


def _checked(scheme: str, options: Mapping[str, object]) -> dict[str, float]:
    """Options the scheme has, each a finite number in its range."""
    taken = {
        name: parameter.default
        for name, parameter in inspect.signature(INITIALIZERS[scheme]).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in ("generator", "fan")
    }
    checked: dict[str, float] = {}
    for name, value in options.items():
        if name not in taken:
            offer = f"it takes {', '.join(taken)}" if taken else "it takes none"
            raise ValueError(f"{name}={value!r} is no option of scheme {scheme!r}: {offer}.")
        if isinstance(taken[name], bool):
            checked[name] = boolean(name, value)
        else:
            checked[name] = number(name, value, least=-math.inf if name == "value" else 0)
    return checked
