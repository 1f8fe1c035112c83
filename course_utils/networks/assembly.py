"""The order of weight layers, norms, activations and skips; one for dense and for conv nets."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import nn

from .norms import norm_layer
from .residual import residual_block


class Hidden(NamedTuple):
    """One hidden weight layer before it is made.

    Attributes:
        make: Makes the layer, from whether it has a bias.
        features: Its outputs, or output channels.
        fits: Whether its output has the shape of its input, so that a skip can go around it.
    """

    make: Callable[[bool], nn.Module]
    features: int
    fits: bool


def assemble(
    kind: str,
    hidden: Sequence[Hidden],
    *,
    activation: tuple[str, Callable[[], nn.Module]],
    norm: str | None,
    image: bool,
    skip: str | None,
    placement: str,
    last_norm: bool,
) -> OrderedDict[str, nn.Module]:
    """All modules in front of the head, by name, in their order.

    Args:
        kind: Name of the weight layers, "linear" or "conv".
        hidden: The hidden layers, input side first.
        activation: Label and maker, of `activation_layers`.
        norm: A name in `NORMS`, or None.
        image: Whether pixels follow the features.
        skip: A name in `SKIPS`, or None.
        placement: "pre" or "post", see `mlp`.
        last_norm: Whether a norm stands between the last hidden layer and the head.

    Returns:
        Modules by name.

    >>> from torch.nn import Linear, ReLU
    >>> layer = Hidden(lambda bias: Linear(8, 8, bias), 8, True)
    >>> layers = assemble("linear", [layer], activation=("relu", ReLU), norm="batch", image=False,
    ...                   skip="plain", placement="post", last_norm=True)
    >>> list(layers), list(dict(layers["block1"].named_children()))
    (['block1', 'relu1', 'last_norm'], ['linear', 'norm'])
    """
    label, make_activation = activation
    blocks = sum(layer.fits for layer in hidden)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    waiting: OrderedDict[str, nn.Module] = OrderedDict()  # norm and activation of the layer before
    sum_is_raw = False  # whether what comes out last is a sum that no norm has seen
    for index, layer in enumerate(hidden, start=1):
        block = skip is not None and layer.fits
        post = block and placement == "post"
        normed = norm is not None and (post or last_norm or index < len(hidden))
        weighted = layer.make(not (normed and norm == "batch"))  # batch norm subtracts a bias
        own = OrderedDict(norm=norm_layer(norm, layer.features, image=image)) if normed else {}
        if block and not post:
            branch = OrderedDict(**waiting, **{kind: weighted})
        else:
            layers |= _numbered(waiting, index - 1)
            branch = OrderedDict({kind: weighted}, **own) if post else None
        if branch is None:
            layers[f"{kind}{index}"] = weighted
        else:
            layers[f"block{index}"] = residual_block(skip, branch, blocks)
        waiting = OrderedDict() if post else OrderedDict(own)
        if label != "linear":
            waiting[label] = make_activation()
        sum_is_raw = post
    layers |= _numbered(waiting, len(hidden))
    if sum_is_raw and last_norm and norm is not None:
        layers["last_norm"] = norm_layer(norm, hidden[-1].features, image=image)
    return layers


def _numbered(modules: OrderedDict[str, nn.Module], index: int) -> dict[str, nn.Module]:
    """Their names with the number of the layer they follow."""
    return {f"{name}{index}": module for name, module in modules.items()}
