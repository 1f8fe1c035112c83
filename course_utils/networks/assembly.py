"""The order of weight layers, norms, activations and skips; one for dense and for conv nets."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..activations import Activation
from ..arguments import boolean, one_of
from .activation_layers import activation_layers
from .initialization import initialize
from .norms import NORMS, norm_layer
from .residual import SKIPS, residual_block
from .schemes import INITIALIZERS


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
    head: Callable[[], dict[str, nn.Module]],
    *,
    image: bool,
    activation: str | Activation | Callable[[Tensor], Tensor] | nn.Module,
    init: str,
    norm: str | None,
    skip: str | None,
    placement: str,
    last_norm: bool,
    generator: torch.Generator,
    **options: Any,
) -> nn.Sequential:
    """A network of these layers, initialized; what both builders are given goes in as it is.

    Args:
        kind: Name of the weight layers, "linear" or "conv".
        hidden: The hidden layers, input side first.
        head: Makes what follows them, by name.
        image: Whether pixels follow the features.
        activation: As in `mlp`, like all that follow.
        init: A name in `INITIALIZERS`.
        norm: A name in `NORMS`.
        skip: A name in `SKIPS`.
        placement: "pre" or "post".
        last_norm: Whether a norm stands before the head.
        generator: Source of the weights.
        **options: Handed to `initialize`.

    Returns:
        The network, on the CPU.

    Raises:
        ValueError: If a name is unknown.
        TypeError: If an argument is of the wrong type.

    >>> layer = Hidden(lambda bias: nn.Linear(8, 8, bias), 8, True)
    >>> net = assemble(
    ...     "linear", [layer], lambda: {"linear2": nn.Linear(8, 1)}, image=False, init="he",
    ...     activation="relu", norm="batch", skip="plain", placement="post", last_norm=True,
    ...     generator=torch.Generator())
    >>> names = [name for name, _ in net.named_children()]
    >>> names, [name for name, _ in net.block1.named_children()]
    (['block1', 'relu1', 'last_norm', 'linear2'], ['linear', 'norm'])
    """
    one_of("norm", norm, NORMS)
    one_of("skip", skip, SKIPS)
    one_of("placement", placement, ("pre", "post"))
    boolean("last_norm", last_norm)
    one_of("init", init, INITIALIZERS)
    label, make_activation = activation_layers(activation)
    blocks = sum(layer.fits for layer in hidden)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    waiting: OrderedDict[str, nn.Module] = OrderedDict()  # norm and activation of the layer before
    post = False  # whether what comes out last is a sum that no norm has seen
    with torch.random.fork_rng(devices=[]):
        for index, layer in enumerate(hidden, start=1):
            around = skip if layer.fits else None
            post = around is not None and placement == "post"
            own: OrderedDict[str, nn.Module] = OrderedDict()
            if norm is not None and (post or last_norm or index < len(hidden)):
                own["norm"] = norm_layer(norm, layer.features, image=image)
            weighted = layer.make(not (own and norm == "batch"))  # batch norm subtracts a bias
            if around is None or post:
                layers |= _numbered(waiting, index - 1)
            if around is None:
                layers[f"{kind}{index}"] = weighted
            else:
                before, behind = (OrderedDict(), own) if post else (waiting, OrderedDict())
                branch = OrderedDict(**before, **{kind: weighted}, **behind)
                layers[f"block{index}"] = residual_block(around, branch, blocks)
            waiting = OrderedDict() if post else own
            if label != "linear":
                waiting[label] = make_activation()
        layers |= _numbered(waiting, len(hidden))
        if post and last_norm and norm is not None:
            layers["last_norm"] = norm_layer(norm, hidden[-1].features, image=image)
        layers |= head()
    return initialize(nn.Sequential(layers), init, generator=generator, **options)


def _numbered(modules: OrderedDict[str, nn.Module], index: int) -> dict[str, nn.Module]:
    """Their names with the number of the layer they follow."""
    return {f"{name}{index}": module for name, module in modules.items()}
