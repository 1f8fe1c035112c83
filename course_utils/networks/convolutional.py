"""Convolutional networks for small images."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..activations import Activation
from ..arguments import integer
from .assembly import Hidden, assemble


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
    placement: str = "pre",
    last_norm: bool = True,
    generator: torch.Generator,
    **options: Any,
) -> nn.Sequential:
    """A small convolutional network with L = `depth` weight layers, the last one included.

    L−1 convolutions of 3×3 with padding 1, each followed by norm → activation; then the mean over
    all pixels of each channel, and a linear layer. The second convolution, and for images of more
    than 16 pixels a side the third too, moves in steps of 2 (stride) and doubles the channels.
    It takes the 8×8 digits and the 28×28 images of MNIST alike. With a skip, each convolution that
    keeps the shape becomes a residual block: L−3 of them, or L−4 for large images.

    Args:
        depth: L, number of weight layers, at least 2.
        channels: Channels of the first convolution, at least 1.
        shape: (channels, height, width) of one image, as in `ImageData.shape`.
        outputs: Features of the output; K classes.
        activation: As in `mlp`.
        init: A name in `cu.INITIALIZERS`.
        norm: None, "batch", "layer" (over channels and pixels of one image) or "group" (over
            pixels and groups of at least 8 channels).
        skip: None, "plain", "scaled" (by 1/√ of the number of blocks), "rezero" or "skipinit";
            see `mlp`.
        placement: "pre" or "post", as in `mlp`: block3.norm, block3.relu, block3.conv, or
            block3.conv, block3.norm and then relu3.
        last_norm: Whether a norm stands between the last convolution and the mean over pixels, as
            in `mlp`.
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
    depth, channels = integer("depth", depth, 2), integer("channels", channels, 1)
    outputs = integer("outputs", outputs, 1)
    if not isinstance(shape, tuple | list) or len(shape) != 3:
        raise ValueError(
            f"shape={shape!r} must be (channels, height, width), for example (1, 8, 8)."
        )
    now, *sides = (
        integer(f"{name} of shape", size, 1)
        for name, size in zip(("channels", "height", "width"), shape, strict=True)
    )
    halvings = (2, 3) if max(sides) > 16 else (2,)
    hidden = []
    for index in range(1, depth):
        stride = 2 if index in halvings else 1
        wide = channels if index == 1 else now * stride
        hidden.append(Hidden(partial(_conv, now, wide, stride), wide, index > 1 and stride == 1))
        now = wide

    def head() -> dict[str, nn.Module]:
        linear = nn.Linear(now, outputs, device="cpu")
        return {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), f"linear{depth}": linear}

    return assemble(
        "conv",
        hidden,
        head,
        image=True,
        activation=activation,
        init=init,
        norm=norm,
        skip=skip,
        placement=placement,
        last_norm=last_norm,
        generator=generator,
        **options,
    )


def _conv(fan_in: int, fan_out: int, stride: int, bias: bool) -> nn.Conv2d:
    """A convolution of 3×3 that keeps the size of an image, or halves it."""
    return nn.Conv2d(fan_in, fan_out, 3, stride, padding=1, bias=bias, device="cpu")
