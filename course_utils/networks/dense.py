"""Multilayer perceptrons."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..activations import Activation
from ..arguments import integer
from .assembly import Hidden, assemble


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
    placement: str = "pre",
    last_norm: bool = True,
    generator: torch.Generator,
    **options: Any,
) -> nn.Sequential:
    """A multilayer perceptron with L = `depth` weight layers, the last one included.

    h₀ = x, z_l = W_l h_(l−1) + b_l, h_l = φ(norm(z_l)) for l < L, and the output is z_L: no
    activation and no norm stand behind the last layer. So depth=1 is a linear model, and
    depth=20 has 19 activations. Modules are called linear1, norm1, relu1, linear2, …, linearL,
    after their layer; "linear" as activation puts no module there.

    With a skip the L−2 layers of equal width, 1 < l < L, become residual blocks with the same
    weights. α is 1 for "plain", 1/√(L−2) for "scaled", and a learned number that starts at 0,
    `block2.alpha`, for "rezero" and "skipinit"; see `residual.residual_block`.

    | placement | block l | its modules |
    |---|---|---|
    | "pre" (He et al. 2016b) | z_l = z_(l−1) + α·(W_l φ(norm(z_(l−1))) + b_l) | block2.norm, \
block2.relu, block2.linear |
    | "post" (He et al. 2016a) | h_l = φ(h_(l−1) + α·norm(W_l h_(l−1) + b_l)) | block2.linear, \
block2.norm, then relu2 |

    Args:
        depth: L, number of weight layers, at least 1.
        width: n, units in each hidden layer, at least 1.
        inputs: Features of x.
        outputs: Features of the output; K classes.
        activation: A name in `cu.ACTIVATIONS`, an `Activation`, a function on tensors, or a
            module (each layer gets its own copy).
        init: A name in `cu.INITIALIZERS`, see `initialize`.
        norm: None, "batch", "layer" or "group" (groups of at least 8 units); it stands between
            linear and activation. Layers whose bias a batch norm would subtract again have none.
        skip: None, "plain", "scaled", "rezero" or "skipinit".
        placement: "pre" or "post": where the activation of a residual block stands. Without skip
            both are the same network.
        last_norm: Whether a norm stands between the last hidden layer and the head (the layer
            linearL). It is norm(L−1), in front of the last activation; where the last hidden layer
            is a "post" block, whose sum is not normalized, it is called last_norm and stands
            behind that activation. Without it a deep residual network hands the head an E h² that
            has grown with every block.
        generator: Source of the weights, for example `cu.seeded(0)`.
        **options: Handed to `initialize`, for example `std=0.01` with init="normal", or `batch=x`
            with init="lsuv".

    Returns:
        A Sequential that maps (B, inputs) to (B, outputs), on the CPU.

    Raises:
        ValueError: If a size is below 1, or a name is unknown.
        TypeError: If an argument is of the wrong type.

    References:
        S. Ioffe and C. Szegedy, "Batch Normalization", ICML 2015 (place of the norm). K. He et
        al., "Deep Residual Learning for Image Recognition", CVPR 2016 (a), and "Identity Mappings
        in Deep Residual Networks", ECCV 2016 (b) (place of the skip).

    >>> import course_utils as cu
    >>> [name for name, _ in mlp(3, 100, generator=cu.seeded(0)).named_children()]
    ['linear1', 'relu1', 'linear2', 'relu2', 'linear3']
    >>> mlp(20, 64, norm="batch", skip="scaled", generator=cu.seeded(0)).block2.linear
    Linear(in_features=64, out_features=64, bias=False)
    """
    depth, width = integer("depth", depth, 1), integer("width", width, 1)
    inputs, outputs = integer("inputs", inputs, 1), integer("outputs", outputs, 1)
    sizes = [inputs, *[width] * (depth - 1)]
    return assemble(
        "linear",
        [
            Hidden(partial(_linear, fan_in, width), width, fits=index > 0)
            for index, fan_in in enumerate(sizes[:-1])
        ],
        lambda: {f"linear{depth}": _linear(sizes[-1], outputs, True)},
        image=False,
        activation=activation,
        init=init,
        norm=norm,
        skip=skip,
        placement=placement,
        last_norm=last_norm,
        generator=generator,
        **options,
    )


def _linear(fan_in: int, fan_out: int, bias: bool) -> nn.Linear:
    return nn.Linear(fan_in, fan_out, bias, device="cpu")
