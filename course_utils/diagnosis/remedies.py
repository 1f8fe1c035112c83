"""The smallest change that helps, as code on `model`."""

import itertools
import math
import re

import torch
from torch import nn

from ..measuring import torch_internals

CHAPTERS = {
    2: "02 · Follow the chain rule backwards",
    3: "03 · Watch eigenvalues explode",
    4: "04 · Differentiate the activations",
    5: "05 · Start from the right scale",
    6: "06 · Clip the explosion",
    7: "07 · Normalize the batch",
    8: "08 · Skip ahead",
    9: "09 · Gate the memory",
    12: "12 · Run a gradient clinic",
}

_KAIMING = {"relu": "relu", "leaky_relu": "leaky_relu", "relu6": "relu", "prelu": "relu"}
_GAIN_ONE = ("tanh", "selu", "elu", "linear", "hardtanh")

_CLASSES = {
    "sigmoid": "nn.Sigmoid",
    "hardsigmoid": "nn.Hardsigmoid",
    "softplus": "nn.Softplus",
    "gelu": "nn.GELU",
    "silu": "nn.SiLU",
    "mish": "nn.Mish",
    "hardswish": "nn.Hardswish",
}

_LOOP = (
    "kinds = nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d\n"
    "for layer in model.modules():\n"
    "    if isinstance(layer, kinds) and layer.weight.requires_grad:  # what is frozen stays\n"
)
_ZERO_BIAS = "        if layer.bias is not None:\n            nn.init.zeros_(layer.bias)"


def initialize(
    activation: str | None,
    functional: bool = False,
    *,
    axis: int = -1,
    factor: float = math.nan,
    output: tuple[str, ...] = (),
) -> str:
    """Weights at which this activation passes the gradient on; another activation if none do.

    Args:
        activation: Its name; "linear" for none, None if it is not known.
        functional: Whether it is called as a function, so that no module can be replaced.
        axis: First axis that a layer norm before the activation has to average over: 1 for the
            channels and pixels of an image, −1 for the features of a vector or word.
        factor: Factor of the gradient per layer, by which the weights are scaled where the
            activation is not known.
        output: Names of the modules that make the model's output: they stay.
    """
    if activation in _KAIMING:
        return kaiming(_KAIMING[activation])
    if activation in _GAIN_ONE:
        return xavier(f"  # σ_w² = 1: critical for {activation}")
    if activation in ("sigmoid", "hardsigmoid", "softplus"):
        if functional:
            return (
                "# in model.forward, between the layers: F.relu(...) in place of "
                f"{activation}(...), and then\n" + kaiming("relu")
            )
        return replace_modules(_CLASSES[activation], "nn.ReLU()", output) + "\n" + kaiming("relu")
    if activation in _CLASSES:
        shape = f"z.shape[{axis}:]"
        if functional:
            return f"# in model.forward, between the layers: {activation}(F.layer_norm(z, {shape}))"
        return (
            (
                "class Normed(nn.Sequential):\n"
                "    def forward(self, z):\n"
                f"        return super().forward(nn.functional.layer_norm(z, {shape}))\n\n"
            )
            + replace_modules(_CLASSES[activation], "Normed(child)", output)
            + "\n"
        )
    if 0 < factor < math.inf:
        return (
            "# repeat until the factor is 1, for it need not be proportional to the weights:\n"
            "with torch.no_grad():\n    "
            + _LOOP.rstrip().replace("\n", "\n    ")
            + f"\n            layer.weight.mul_({1 / factor:.3g})"
        )
    return "# put a layer norm before each activation, or scale the weights until the factor is 1"


def bare(activation: str | None, fans: dict[str, int]) -> str:
    """The same for weights that stand in a model's own code.

    Args:
        activation: Its name.
        fans: fan_in by name of the weight.
    """
    variances = dict.fromkeys(_KAIMING, "2") | dict.fromkeys(_GAIN_ONE, "1")
    if activation not in variances:
        what = activation or "the activation"
        return f"# in the model's code: relu in place of {what}, with N(0, 2/fan_in) weights"
    same = len(set(fans.values())) == 1
    first = next(iter(fans.values()))
    loop = f"for name in {listed(list(fans))}:" if same else f"for name, n in {fans}.items():"
    return (
        f"with torch.no_grad():\n    {loop}\n"
        f"        model.get_parameter(name).normal_(0, ({variances[activation]} / "
        f"{first if same else 'n'}) ** 0.5)"
    )


def xavier(said: str = "") -> str:
    """Weights with σ_w² = 1, and biases 0."""
    return f"{_LOOP}        nn.init.xavier_normal_(layer.weight){said}\n{_ZERO_BIAS}"


def kaiming(nonlinearity: str) -> str:
    """He initialization with zero biases."""
    return (
        _LOOP
        + f'        nn.init.kaiming_normal_(layer.weight, nonlinearity="{nonlinearity}")\n'
        + _ZERO_BIAS
    )


def replace_modules(kind: str, by: str, output: tuple[str, ...] = ()) -> str:
    """Replace the modules of a class, but for those that make the model's output."""
    keep, unless = "", ""
    if output:
        one = f"model.get_submodule({output[0]!r})"
        many = f"model.get_submodule(name) for name in {list(output)}"
        keep = f"output = [{one if len(output) == 1 else many}]  # stays as it is\n"
        unless = " and child not in output"
    return (
        f"{keep}for parent in list(model.modules()):\n"
        "    for name, child in list(parent.named_children()):\n"
        f"        if isinstance(child, {kind}){unless}:\n"
        f"            setattr(parent, name, {by})"
    )


def smooth(model: nn.Module) -> str:
    """For a loss that asks for a second derivative."""
    said = "# a smooth activation, such as tanh, in place of the one that is bent\n"
    modules = any(isinstance(module, nn.ReLU) for module in model.modules())
    return said + (replace_modules("nn.ReLU", "nn.Tanh()") if modules else "")


_RESIDUAL = (
    "class Residual(nn.Sequential):\n"
    "    def forward(self, x):\n"
    "        return x + super().forward(x)\n\n"
)


def add_skips(model: nn.Module) -> str:
    """Skip connections around each norm → activation → layer of equal width.

    Where a plain nn.Sequential in the model repeats such layers, or a list of the model holds
    equal blocks, the code runs as it is.
    """
    for name, module in model.named_modules():
        starts = _repeats(list(module.children())) if type(module) is nn.Sequential else []
        if len(starts) > 1:
            place, first, period = path(name), starts[0], starts[1] - starts[0]
            return (
                _RESIDUAL + f"layers = list({place})\n"
                f"blocks = [Residual(*layers[i : i + {period}]) "
                f"for i in range({first}, {starts[-1] + 1}, {period})]\n"
                f"{place} = nn.Sequential(*layers[:{first}], *blocks, "
                f"*layers[{starts[-1] + period}:])"
            )
    for name, module in model.named_modules():
        blocks = _equal_blocks(module)
        if len(blocks) > 1:
            place = path(name)
            return (
                _RESIDUAL + f"for i in range({blocks[0]}, {blocks[-1] + 1}):\n"
                f"    {place}[i] = Residual({place}[i])"
            )
    return (
        _RESIDUAL + "# wrap each group of equal width, for example\n"
        "# Residual(nn.BatchNorm1d(n), nn.ReLU(), nn.Linear(n, n))"
    )


def _equal_blocks(module: nn.Module) -> range:
    """Places of children of one class that keep the shape, in a list or sequence of blocks."""
    if not isinstance(module, nn.ModuleList | nn.Sequential):
        return range(0)
    alike = itertools.groupby(
        range(len(module)), key=lambda i: _keeps_the_shape(module[i]) and type(module[i])
    )
    first: list[int] = next((list(places) for kind, places in alike if kind), [])
    return range(first[0], first[-1] + 1) if first else range(0)


def _keeps_the_shape(block: nn.Module) -> bool:
    """Whether each layer of a block has as many outputs as inputs, and no stride."""
    layers = [m for m in block.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    same = all(layer.weight.shape[0] == layer.weight.shape[1] for layer in layers)
    still = all(m.stride in (1, (1, 1)) and _padded(m) for m in layers if isinstance(m, nn.Conv2d))
    thin = any(isinstance(m, torch_internals.Pools) for m in block.modules())
    return block not in layers and bool(layers) and same and still and not thin


def _padded(conv: nn.Conv2d) -> bool:
    reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    return conv.padding == "same" or [2 * p for p in conv.padding if p != "valid"] == reach


def _repeats(children: list[nn.Module]) -> list[int]:
    """Starts of consecutive norm → … → layer groups that keep the shape."""
    norms = (torch_internals.BatchNorms, nn.LayerNorm, nn.GroupNorm)
    places = [i for i, child in enumerate(children) if isinstance(child, norms)]
    if len(places) < 2:
        return []
    period = places[1] - places[0]
    pattern = [type(child) for child in children[places[0] : places[1]]]
    good: list[int] = []
    for i in places:
        group = children[i : i + period]
        if [type(child) for child in group] != pattern:
            break
        layers = [m for m in group if isinstance(m, nn.Linear | nn.Conv2d)]
        square = len(layers) == 1 and layers[0].weight.shape[0] == layers[0].weight.shape[1]
        still = square and getattr(layers[0], "stride", (1, 1)) == (1, 1)
        if still and (not good or i == good[-1] + period):
            good.append(i)
        elif good:
            break
    return good


def listed(names: list[str]) -> str:
    """Names as code: a list, or a comprehension where they only differ in one running number.

    >>> listed(["block2.linear", "block3.linear", "block4.linear", "block5.linear"])
    "[f'block{i}.linear' for i in range(2, 6)]"
    """
    parts = [re.split(r"(\d+)", name) for name in names]
    if len(names) > 3 and len({len(part) for part in parts}) == 1:
        columns = list(zip(*parts, strict=True))
        running = [i for i, column in enumerate(columns) if len(set(column)) > 1]
        if len(running) == 1 and all(value.isdigit() for value in columns[running[0]]):
            numbers = [int(value) for value in columns[running[0]]]
            step = numbers[1] - numbers[0]
            if step and numbers == list(range(numbers[0], numbers[-1] + step, step)):
                parts[0][running[0]] = "{i}"
                stop = f"{numbers[-1] + 1}" if step == 1 else f"{numbers[-1] + 1}, {step}"
                return f"[f{''.join(parts[0])!r} for i in range({numbers[0]}, {stop})]"
    return repr(names)


def path(name: str) -> str:
    """A submodule as code.

    >>> path("blocks.3.norm"), path("")
    ('model.blocks[3].norm', 'model')
    """
    return "model" + "".join(_access(part) for part in name.split(".") if part)


def _access(part: str) -> str:
    return f"[{part}]" if part.isdigit() else f".{part}"


def standardize(shape: tuple[int, ...]) -> str:
    """Inputs of mean 0 and standard deviation 1: in the data, or by a norm in front."""
    said = "# better in the data: x = (x - mean) / std, both from the training set, per feature\n"
    norm = {2: "nn.BatchNorm1d", 4: "nn.BatchNorm2d"}.get(len(shape))
    if norm is None:
        return said.rstrip()
    return f"{said}model = nn.Sequential({norm}({shape[1]}, affine=False), model)"


def pre_norm(*, stock: bool) -> str:
    """The norm in front of each branch, where the layers are torch's own; and a warm-up."""
    warm_up = (
        "# or start again from fresh weights with the norm where it is, and warm up:\n"
        "# torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 4000))"
    )
    if not stock:
        return f"# in each block: x + f(norm(x)) in place of norm(x + f(x))\n{warm_up}"
    return (
        "for part in model.modules():\n"
        "    if isinstance(part, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):\n"
        "        part.norm_first = True\n"
        "    elif isinstance(part, (nn.TransformerEncoder, nn.TransformerDecoder)):\n"
        "        if part.norm is None:  # one norm behind the whole stack\n"
        "            weight = part.layers[-1].norm1.weight\n"
        "            part.norm = nn.LayerNorm(weight.shape).to(weight)\n" + warm_up
    )


def clip() -> str:
    """Norm clipping, between backward and the optimizer's step."""
    return (
        "# in the training step, between loss.backward() and optimizer.step():\n"
        "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)"
    )


def open_gate(module: nn.Module, place: str, steps: int) -> str:
    """Biases with which the gates of an LSTM or GRU carry the state through so many steps."""
    bias, paper = math.log(max(steps - 1, 2)), "(Tallec and Ollivier, ICLR 2018)"
    loop = f'for name, bias in {place}.named_parameters():\n    if name.startswith("bias"):\n'
    value = f'{bias:.2f} if "bias_ih" in name else 0.0'
    if not isinstance(module, nn.LSTM | nn.LSTMCell):
        keep = f"        bias.data.chunk(3)[1].fill_({value})"
        return f"# keep the state for about {steps} steps {paper}\n{loop}{keep}"
    return (
        f"# open the forget gate for about {steps} steps, and close the input gate by as much, or "
        f"the\n# recurrent weights make the step explode (notebook 09) {paper}\n{loop}"
        "        into, keep = bias.data.chunk(4)[:2]\n"
        f"        keep.fill_({value})\n"
        "        into.copy_(-keep)"
    )


def _orthogonal(rnn: nn.RNN) -> bool:
    """Whether every recurrent matrix keeps the length of a vector, to a thousandth."""
    weights = [p.detach().double().cpu() for n, p in rnn.named_parameters() if "weight_hh" in n]
    eye = torch.eye(rnn.hidden_size, dtype=torch.float64)
    return all(bool(((w @ w.T - eye).abs() < 1e-3).all()) for w in weights)


def recurrent(
    module: object,
    name: str,
    kind: str,
    steps: int,
    *,
    part: tuple[int, int, int] | None = None,
    activation: str | None = None,
) -> str:
    """For a gradient that vanishes or explodes through time.

    Args:
        module: A recurrent module, a cell, or the layer of a recurrence that is written out.
        name: Its name.
        kind: "vanishing" or "exploding".
        steps: T.
        part: Axis, start and stop of that part of the layer's weights that the state meets.
        activation: Name of the activation behind each step that is written out.
    """
    place = path("" if name == "(model)" else name)
    each = f'for name, weight in {place}.named_parameters():\n    if "weight_hh" in name:\n'
    first = clip() + "\n" if kind == "exploding" else ""
    if not isinstance(module, nn.RNNBase | nn.RNNCellBase):
        shape: tuple[int, ...] = getattr(getattr(module, "weight", None), "shape", ())
        section = ""
        if part is not None:
            axis, start, stop = part
            shape = (shape[1 - axis], stop - start)
            section = f"[:, {start}:{stop}]" if axis else f"[{start}:{stop}]"
        if not isinstance(module, nn.Module) and max(shape, default=1) == math.prod(shape):
            return first + (
                f"# start {name} so that it multiplies the state by {math.exp(-1 / steps):.3g} = "
                f"e^(−1/{steps}) or a little more,\n"
                "# as much as has to be kept over so many steps, and never by more than 1"
            )
        if len(shape) != 2 or shape[0] != shape[1]:
            return first + (
                "# start from recurrent weights of spectral radius 1, or use gates (nn.LSTMCell)"
            )
        weight = f"{place}.weight" if isinstance(module, nn.Module) else place
        init = "eye_" if activation == "relu" else "orthogonal_"
        if section:
            return (
                f"{first}with torch.no_grad():  # the part of the weights that sees the state\n"
                f"    nn.init.{init}({weight}{section})  # spectral radius 1"
            )
        return f"{first}nn.init.{init}({weight})  # recurrent weights with spectral radius 1"
    if getattr(module, "nonlinearity", None) == "relu":  # orthogonal weights would vanish
        eye = "nn.init.eye_(weight)  # Le, Jaitly and Hinton 2015; ReLU passes it unchanged"
        return f"{first}{each}        {eye}"
    gated = isinstance(module, nn.LSTM | nn.LSTMCell | nn.GRU | nn.GRUCell)
    if kind == "exploding":
        return (
            f"{first}# and, to start without the explosion: recurrent weights with spectral radius "
            f"1\n{each}"
            "        for gate in weight.chunk(max(1, weight.shape[0] // weight.shape[1])):\n"
            "            nn.init.orthogonal_(gate)"
        ) + ("\n" + open_gate(module, place, steps) if gated else "")
    if gated:
        return open_gate(module, place, steps)
    if isinstance(module, nn.RNN) and _orthogonal(module):
        return (
            "# its weights are orthogonal already: what is lost is lost in the slope of tanh.\n"
            "# A gate keeps it:\n"
            f"{place} = nn.GRU({module.input_size}, {module.hidden_size}, {module.num_layers}, "
            f"batch_first={module.batch_first}, bidirectional={module.bidirectional})\n"
            + open_gate(nn.GRU(1, 1), place, steps)
        )
    return (
        f"{each}        nn.init.orthogonal_(weight)  # spectral radius 1\n"
        "# for more steps than that carries, replace nn.RNN by nn.LSTM or nn.GRU"
    )
