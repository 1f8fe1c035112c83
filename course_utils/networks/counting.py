"""fan_in and fan_out of a layer: how many products meet in one output, and how many use one input.

A layer of independent weights of mean 0 and variance v multiplies E h² by fan_in·v on the way
forward and E δ² by fan_out·v on the way back, away from the borders of an image.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
MATRIX_LAYERS = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)


class Fans(NamedTuple):
    """Products that meet in one output, and products one input takes part in, on average.

    Attributes:
        fan_in: Terms in the sum of one output.
        fan_out: Outputs that one input enters.
    """

    fan_in: float
    fan_out: float


@dataclass(frozen=True)
class WeightBlock:
    """A block of weights that is initialized by itself: a layer, one group, or one gate.

    Attributes:
        weight: A view of the parameter, (outputs, inputs, *kernel).
        bias: A view of the bias that belongs to it, or None.
        fans: Its fan_in and fan_out by counting.
        default_fan: What PyTorch takes for fan_in when it makes such a layer.
    """

    weight: Tensor
    bias: Tensor | None
    fans: Fans
    default_fan: float


def fans(layer: nn.Module | Tensor) -> Fans:
    """fan_in and fan_out, counted: terms in the sum of one output, and outputs one input enters.

    With g groups, a kernel of K pixels and steps of S pixels (the product of the strides):

    | layer | fan_in | fan_out |
    |---|---|---|
    | linear | inputs | outputs |
    | convolution | inputs/g · K | outputs/g · K/S |
    | transposed convolution | inputs/g · K/S | outputs/g · K |

    Both are means over pixels, away from the border: with K = 3 and S = 2 in one dimension, an
    input of a convolution enters 1 or 2 outputs in turn, 1.5 on average. PyTorch's own
    `nn.init` counts otherwise: it does not divide by S, multiplies by all outputs where groups
    share them out, and swaps the two for a transposed convolution.

    Args:
        layer: A linear layer, a convolution or a transposed convolution; or the weight of one
            without groups and strides, (outputs, inputs, *kernel).

    Returns:
        (fan_in, fan_out).

    Raises:
        ValueError: If a weight has fewer than two dimensions.
        TypeError: If it is another module.

    >>> fans(nn.Conv2d(8, 16, 3))
    Fans(fan_in=72.0, fan_out=144.0)
    >>> fans(nn.ConvTranspose2d(8, 16, 4, stride=2, groups=2))
    Fans(fan_in=16.0, fan_out=128.0)
    """
    if isinstance(layer, Tensor):
        if layer.ndim < 2:
            raise ValueError(
                f"weight has shape {tuple(layer.shape)}: at least (outputs, inputs) is expected."
            )
        pixels = math.prod(layer.shape[2:])
        return Fans(float(layer.shape[1] * pixels), float(layer.shape[0] * pixels))
    if isinstance(layer, nn.Linear):
        return Fans(float(layer.in_features), float(layer.out_features))
    if not isinstance(layer, CONVOLUTIONS + TRANSPOSED):
        raise TypeError(
            f"layer={type(layer).__name__} must be a linear layer or a convolution; of a recurrent "
            "layer pass one of its weights."
        )
    pixels, steps = math.prod(layer.kernel_size), math.prod(layer.stride)
    fan_in = layer.in_channels // layer.groups * pixels
    fan_out = layer.out_channels // layer.groups * pixels
    if isinstance(layer, TRANSPOSED):
        return Fans(fan_in / steps, float(fan_out))
    return Fans(float(fan_in), fan_out / steps)


def weight_blocks(layer: nn.Module, *, second_bias: bool = False) -> Iterator[WeightBlock]:
    """The blocks of weights of one layer: one per group of a convolution, one per gate.

    Args:
        layer: Any module; one that is neither linear, convolutional nor recurrent has none.
        second_bias: PyTorch's recurrent layers have two biases that add up. Whether the second
            one comes with its block, too.

    Yields:
        Blocks whose weight and bias are views of the layer's parameters.

    >>> [tuple(block.weight.shape) for block in weight_blocks(nn.LSTM(2, 5))][:2]
    [(5, 2), (5, 2)]
    >>> [tuple(b.weight.shape) for b in weight_blocks(nn.ConvTranspose1d(6, 4, 3, groups=2))]
    [(2, 3, 3), (2, 3, 3)]
    """
    if isinstance(layer, nn.Linear):
        yield WeightBlock(layer.weight, layer.bias, fans(layer), layer.in_features)
    elif isinstance(layer, CONVOLUTIONS + TRANSPOSED):
        weights = layer.weight.chunk(layer.groups)
        biases = _chunks(layer.bias, layer.groups)
        for weight, bias in zip(weights, biases, strict=True):
            default_fan = weight.shape[1] * math.prod(layer.kernel_size)
            if isinstance(layer, TRANSPOSED):
                weight = weight.transpose(0, 1)
            yield WeightBlock(weight, bias, fans(layer), default_fan)
    elif isinstance(layer, RECURRENT):
        named = dict(layer.named_parameters(recurse=False))
        for name, weight in named.items():
            if name.startswith("weight"):
                bias = named.get(name.replace("weight", "bias"))
                if name.startswith("weight_hh") and not second_bias:
                    bias = None
                gates = max(1, weight.shape[0] // layer.hidden_size)
                for gate, offset in zip(weight.chunk(gates), _chunks(bias, gates), strict=True):
                    yield WeightBlock(gate, offset, fans(gate), layer.hidden_size)


def _chunks(bias: Tensor | None, pieces: int) -> tuple[Tensor | None, ...]:
    return (None,) * pieces if bias is None else bias.chunk(pieces)
