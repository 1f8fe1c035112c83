"""A zoo of networks with a known condition, drawn from a seed: families, not a list.

Each family says what its networks have by construction, with widths, depths, batch sizes and
losses drawn at random. Conditions are chosen from theory and clear of the borderline: what is
called vanishing is predicted to fall by more than 1000× over the depth, what is called healthy to
change by less than 10×. In between the condition is not known beforehand.
"""

import copy
import itertools
import math
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import course_utils as cu


@dataclass
class Patient:
    """A network with its batch and what is known about it.

    Attributes:
        family: Name of the family.
        model: The network.
        batch: What `cu.diagnose` gets.
        loss: Likewise; multiply what it returns to change the scale.
        has: Kinds that must be found.
        may: Kinds that may be found too, because they are true of some members.
        optimizer: What `cu.diagnose` gets, or None.
    """

    family: str
    model: nn.Module
    batch: object
    loss: Callable[..., Tensor]
    has: frozenset[str]
    may: frozenset[str] = field(default_factory=frozenset)
    optimizer: torch.optim.Optimizer | None = None

    def diagnosed(self, factor: float = 1.0) -> cu.Diagnosis:
        """Its diagnosis, with the loss times a factor."""
        loss = scaled(self.loss, factor)
        return cu.diagnose(self.model, self.batch, loss=loss, optimizer=self.optimizer)

    def right(self, kinds: set[str]) -> bool:
        """Whether a verdict is right."""
        return self.has <= kinds <= self.has | self.may


class Draw:
    """Random numbers of one patient."""

    def __init__(self, seed: int) -> None:
        self.generator = cu.seeded(seed)

    def whole(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def real(self, low: float, high: float) -> float:
        """A number between low and high."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def one(self, *choices: object) -> object:
        """One of the choices."""
        return choices[self.whole(0, len(choices) - 1)]

    def batch_size(self, least: int = 1, most: int = 512) -> int:
        """1 to 512, even on a log scale."""
        return round(math.exp(self.real(math.log(least), math.log(most))))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(*shape, generator=self.generator)


def classes(draw: Draw, size: int, *shape: int, outputs: int = 10) -> tuple[Tensor, Tensor]:
    """Random inputs with random labels."""
    x = draw.normal(size, *shape)
    return x, torch.randint(0, outputs, (size,), generator=draw.generator)


def supervised(draw: Draw, size: int, *shape: int) -> tuple[tuple[Tensor, Tensor], Callable]:
    """A batch with labels and cross-entropy, or with numbers and squared error."""
    x, y = classes(draw, size, *shape)
    if draw.whole(0, 1):
        return (x, y), F.cross_entropy
    return (x, draw.normal(size, 10)), F.mse_loss


class Functional(nn.Module):
    """An MLP whose activations are functions, invisible to hooks on modules."""

    def __init__(self, layers: list[nn.Module], activation: Callable) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


def _patient(
    name: str, model: nn.Module, draw: Draw, shape: tuple, has: set, may: set = frozenset(), least=1
) -> Patient:
    batch, loss = supervised(draw, draw.batch_size(least), *shape)
    return Patient(name, model, batch, loss, frozenset(has), frozenset(may))


def _mlp(draw: Draw, depth: int, width: int, **options: object) -> nn.Module:
    return cu.mlp(depth, width, inputs=width, generator=draw.generator, **options)


def _width(draw: Draw, depth: int, least: int = 48) -> int:
    """Wide enough that chance adds little: Var log‖g‖² = 5L/n (theory.log_norm_variance)."""
    return max(draw.whole(least, 192), 6 * depth)


# ---------------------------------------------------------------- vanishing


def vanishing_sigmoid(draw: Draw) -> Patient:
    depth, width = draw.whole(8, 24), draw.whole(24, 200)
    model = _mlp(draw, depth, width, activation="sigmoid", init="xavier")
    return _patient("sigmoid, Xavier", model, draw, (width,), {"vanishing"})


def vanishing_default(draw: Draw) -> Patient:
    depth = draw.whole(12, 40)
    width = _width(draw, depth)
    activation = draw.one("relu", "leaky_relu", "gelu", "silu")
    model = _mlp(draw, depth, width, activation=activation, init="torch_default")
    return _patient(f"{activation}, torch's default", model, draw, (width,), {"vanishing"})


def vanishing_small(draw: Draw) -> Patient:
    depth, width = draw.whole(10, 30), draw.whole(32, 200)
    std = draw.real(0.1, 0.4) / math.sqrt(width)
    activation = draw.one("tanh", "linear", "relu")
    model = _mlp(draw, depth, width, activation=activation, init="normal", std=std)
    return _patient(f"{activation}, weights too small", model, draw, (width,), {"vanishing"})


def vanishing_conv(draw: Draw) -> Patient:
    depth, channels = draw.whole(12, 20), draw.whole(12, 32)
    model = cu.conv_net(depth, channels, init="torch_default", generator=draw.generator)
    return _patient("conv, torch's default", model, draw, (1, 8, 8), {"vanishing"})


def vanishing_functional(draw: Draw) -> Patient:
    depth, width = draw.whole(12, 24), draw.whole(48, 160)
    layers = [nn.Linear(width, 10 if i == depth else width) for i in range(1, depth + 1)]
    cu.initialize(nn.ModuleList(layers), "torch_default", generator=draw.generator)
    model = Functional(layers, draw.one(F.relu, torch.sigmoid))
    return _patient("F.relu or torch.sigmoid, default", model, draw, (width,), {"vanishing"})


def _sequences(draw: Draw, steps: int) -> tuple[tuple[Tensor, Tensor], Callable]:
    return classes(draw, draw.batch_size(1, 64), steps, 3), F.cross_entropy


def vanishing_rnn(draw: Draw) -> Patient:
    steps, width = draw.whole(25, 60), draw.whole(16, 96)
    gain = draw.real(0.3, 0.7)
    model = cu.recurrent("rnn", width, inputs=3, outputs=10, generator=draw.generator, gain=gain)
    batch, loss = _sequences(draw, steps)
    return Patient("tanh RNN, small weights", model, batch, loss, frozenset({"vanishing"}))


def vanishing_lstm(draw: Draw) -> Patient:
    steps, width = draw.whole(50, 80), draw.whole(16, 64)
    kind = draw.one("lstm", "gru")
    model = cu.recurrent(
        kind, width, inputs=3, outputs=10, init="torch_default", generator=draw.generator
    )
    batch, loss = _sequences(draw, steps)
    return Patient(f"{kind}, default, last step", model, batch, loss, frozenset({"vanishing"}))


class Steps(nn.Module):
    """A recurrence written out in Python, by a cell, by linear layers or by bare parameters."""

    def __init__(self, how: str, width: int, recurrent: Tensor, activation: str) -> None:
        super().__init__()
        self.how, self.width = how, width
        self.activation = getattr(torch, activation)
        if how == "cell":
            self.cell = nn.RNNCell(3, width, nonlinearity=activation)
            self.cell.weight_hh.data.copy_(recurrent)
            for bias in (self.cell.bias_ih, self.cell.bias_hh):
                nn.init.zeros_(bias)
        elif how == "linear":
            self.read, self.carry = nn.Linear(3, width), nn.Linear(width, width, bias=False)
            self.carry.weight.data.copy_(recurrent)
        else:
            self.W = nn.Parameter(torch.randn(3, width) / 3)
            self.U = nn.Parameter(recurrent.clone())
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.width)
        for step in x.unbind(1):
            if self.how == "cell":
                h = self.cell(step, h)
            elif self.how == "linear":
                h = self.activation(self.read(step) + self.carry(h))
            else:
                h = self.activation(step @ self.W + h @ self.U)
        return self.head(h)


def _written_out(draw: Draw, width: int, recurrent: Tensor, activation: str) -> Steps:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.whole(0, 10**6))
        return Steps(draw.one("cell", "linear", "bare"), width, recurrent, activation)


def _orthogonal(draw: Draw, width: int) -> Tensor:
    return torch.linalg.qr(draw.normal(width, width))[0]


def vanishing_written_out(draw: Draw) -> Patient:
    steps, width = draw.whole(25, 60), draw.whole(16, 96)
    recurrent = draw.real(0.3, 0.7) * _orthogonal(draw, width)
    model = _written_out(draw, width, recurrent, "tanh")
    batch, loss = _sequences(draw, steps)
    name = f"tanh recurrence by {model.how}, small weights"
    return Patient(name, model, batch, loss, frozenset({"vanishing"}))


class Products(nn.Module):
    """An MLP of bare parameters."""

    def __init__(self, weights: list[Tensor], activation: Callable) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(weight) for weight in weights])
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights[:-1]:
            x = self.activation(x @ weight)
        return x @ self.weights[-1]


def _products(draw: Draw, depth: int, gain: float, activation: str) -> Patient:
    width = _width(draw, depth)
    sizes = [width] * depth + [10]
    weights = [gain * draw.normal(n, m) / n**0.5 for n, m in itertools.pairwise(sizes)]
    model = Products(weights, getattr(torch, activation))
    return _patient(f"bare products, {activation}", model, draw, (width,), {"healthy"})


def vanishing_products(draw: Draw) -> Patient:
    activation, gain = draw.one(("relu", 0.7), ("tanh", 0.5))
    patient = _products(draw, draw.whole(12, 30), gain, activation)
    patient.has = frozenset({"vanishing"})
    return patient


# ---------------------------------------------------------------- exploding


def exploding_normal(draw: Draw) -> Patient:
    """Mean square × n/2 per layer: deeper ones overflow where a million times the loss does."""
    depth, width = draw.whole(8, 14), draw.whole(40, 128)
    model = _mlp(draw, depth, width, init="normal", std=1.0)
    return _patient("ReLU, N(0,1) weights", model, draw, (width,), {"exploding"})


def exploding_gain(draw: Draw) -> Patient:
    gain = draw.real(1.5, 3.0)
    depth = math.ceil(math.log(1e4) / math.log(gain)) + draw.whole(1, 6)
    width = _width(draw, depth)
    activation, unit = draw.one(("relu", math.sqrt(2)), ("linear", 1.0), ("leaky_relu", 1.414))
    model = _mlp(draw, depth, width, activation=activation, init="he", gain=gain * unit)
    return _patient(f"{activation}, weights too large", model, draw, (width,), {"exploding"})


def exploding_tanh(draw: Draw) -> Patient:
    depth = draw.whole(30, 40)
    width, gain = draw.whole(100, 200), draw.real(2.5, 4.0)
    model = _mlp(draw, depth, width, activation="tanh", init="he", gain=gain)
    return _patient(
        "tanh, weights too large", model, draw, (width,), {"exploding"}, {"saturated", "shattered"}
    )


def exploding_conv(draw: Draw) -> Patient:
    depth, channels = draw.whole(10, 16), draw.whole(12, 32)
    gain = 1.414 * draw.real(2.2, 3.0)
    model = cu.conv_net(depth, channels, init="he", gain=gain, generator=draw.generator)
    return _patient("conv, weights too large", model, draw, (1, 8, 8), {"exploding"})


def exploding_residual(draw: Draw) -> Patient:
    depth, width = draw.whole(24, 50), draw.whole(48, 160)
    model = _mlp(draw, depth, width, skip="plain")
    return _patient("residual without norm", model, draw, (width,), {"exploding"})


def exploding_batch_norm(draw: Draw) -> Patient:
    depth, width = draw.whole(45, 70), draw.whole(64, 128)
    model = _mlp(draw, depth, width, norm="batch")
    has = {"exploding", "shattered"}
    return _patient("batch norm without skip", model, draw, (width,), has, least=32)


def exploding_rnn(draw: Draw) -> Patient:
    steps, width = draw.whole(40, 70), draw.whole(32, 96)
    model = cu.recurrent(
        "rnn", width, inputs=3, outputs=10, activation="relu", init="he", generator=draw.generator
    )
    with torch.no_grad():
        model.rnn.weight_hh_l0.copy_(draw.real(1.2, 1.5) * torch.eye(width))
        model.rnn.bias_ih_l0.fill_(0.1)
    batch, loss = _sequences(draw, steps)
    batch = batch[0].abs(), batch[1]
    return Patient("ReLU RNN, 1.2 to 1.5 × identity", model, batch, loss, frozenset({"exploding"}))


def exploding_identity(draw: Draw) -> Patient:
    """The unclipped network of notebook 06: ReLU, 1.1 × identity, about 50 steps."""
    steps, width = draw.whole(50, 70), draw.whole(32, 96)
    model = cu.recurrent(
        "rnn", width, inputs=2, outputs=1, activation="relu", generator=draw.generator
    )
    with torch.no_grad():
        model.rnn.weight_hh_l0.copy_(draw.real(1.1, 1.2) * torch.eye(width))
    x, y = cu.adding_problem(draw.batch_size(1, 128), steps, generator=draw.generator)
    y = y.view(len(x), 1)
    name = "ReLU RNN, 1.1 to 1.2 × identity, no clipping"
    return Patient(name, model, (x, y), F.mse_loss, frozenset({"exploding"}))


def exploding_written_out(draw: Draw) -> Patient:
    steps, width = draw.whole(50, 80), draw.whole(64, 128)
    activation, gain = draw.one(("relu", draw.real(1.15, 1.5)), ("tanh", draw.real(2.5, 4.0)))
    recurrent = gain * (torch.eye(width) if activation == "relu" else _orthogonal(draw, width))
    model = _written_out(draw, width, recurrent, activation)
    batch, loss = _sequences(draw, steps)
    name = f"{activation} recurrence by {model.how}, large weights"
    return Patient(name, model, batch, loss, frozenset({"exploding"}), frozenset({"saturated"}))


def exploding_products(draw: Draw) -> Patient:
    patient = _products(draw, draw.whole(16, 30), draw.real(2.8, 4.0), "relu")
    patient.has = frozenset({"exploding"})
    return patient


# ---------------------------------------------------------------- dead, saturated


def dead_layer(draw: Draw) -> Patient:
    depth, width = draw.whole(4, 12), draw.whole(32, 128)
    model = _mlp(draw, depth, width)
    with torch.no_grad():
        layer = getattr(model, f"linear{draw.whole(1, depth - 1)}")
        layer.bias.fill_(-draw.real(50, 100))
    return _patient("one silent ReLU layer", model, draw, (width,), {"dead"})


def dead_units(draw: Draw) -> Patient:
    depth, width = draw.whole(3, 5), draw.whole(128, 256)
    model = _mlp(draw, depth, width)
    with torch.no_grad():
        for i in range(1, depth):
            units = torch.rand(width, generator=draw.generator) < draw.real(0.85, 0.95)
            getattr(model, f"linear{i}").bias[units] = -100.0
    return _patient("most ReLU units dead", model, draw, (width,), {"dead"}, {"vanishing"})


def dead_conv(draw: Draw) -> Patient:
    depth, channels = draw.whole(3, 6), draw.whole(12, 32)
    model = cu.conv_net(depth, channels, generator=draw.generator)
    with torch.no_grad():
        getattr(model, f"conv{draw.whole(1, depth - 1)}").bias.fill_(-100.0)
    return _patient("one silent convolution", model, draw, (1, 8, 8), {"dead"})


def saturated_biases(draw: Draw) -> Patient:
    depth, width = draw.whole(3, 6), draw.whole(32, 160)
    activation, away = draw.one(("tanh", 4.0), ("sigmoid", 8.0))
    model = _mlp(draw, depth, width, activation=activation, init="xavier")
    with torch.no_grad():
        for i in range(1, depth):
            sign = torch.rand(width, generator=draw.generator).sub_(0.5).sign_()
            getattr(model, f"linear{i}").bias.copy_(away * sign)
    return _patient(
        f"{activation}, far biases", model, draw, (width,), {"saturated"}, {"vanishing"}
    )


def saturated_inputs(draw: Draw) -> Patient:
    width = draw.whole(48, 160)
    model = _mlp(draw, 3, width, activation="tanh", init="normal", std=1.0)
    patient = _patient(
        "tanh, N(0,1) weights", model, draw, (width,), {"saturated"}, {"exploding", "shattered"}
    )
    x, y = patient.batch
    patient.batch = 10 * x, y
    return patient


# ---------------------------------------------------------------- NaN, Inf


NON_FINITE = frozenset({"non_finite"})


class Log(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.log()


class Norm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.square().sum(1, keepdim=True).sqrt()


def nan_log(draw: Draw) -> Patient:
    width = draw.whole(16, 64)
    layers = [nn.Linear(width, width), nn.ReLU(), Log(), nn.Linear(width, 10)]
    model = cu.initialize(nn.Sequential(*layers), "he", generator=draw.generator)
    return _patient("log of a ReLU", model, draw, (width,), {"non_finite"})


def nan_backward(draw: Draw) -> Patient:
    width = draw.whole(16, 64)
    layers = [nn.Linear(width, width), nn.ReLU(), Norm(), nn.Linear(1, 10)]
    model = cu.initialize(nn.Sequential(*layers), "he", generator=draw.generator)
    nn.init.constant_(model[0].bias, -100.0)
    return _patient("norm of a zero vector", model, draw, (width,), {"non_finite"})


def nan_weight(draw: Draw) -> Patient:
    depth, width = draw.whole(3, 10), draw.whole(16, 64)
    model = _mlp(draw, depth, width)
    with torch.no_grad():
        bad = draw.one(math.nan, math.inf)
        getattr(model, f"linear{draw.whole(1, depth)}").weight[0, 0] = bad
    return _patient("a weight that is NaN or Inf", model, draw, (width,), {"non_finite"})


def nan_input(draw: Draw) -> Patient:
    width = draw.whole(16, 64)
    model = _mlp(draw, draw.whole(2, 8), width)
    patient = _patient("an input that is NaN", model, draw, (width,), {"non_finite"})
    patient.batch[0][-1, 0] = math.nan
    return patient


def nan_overflow(draw: Draw) -> Patient:
    width = draw.whole(100, 150)
    model = _mlp(draw, draw.whole(55, 70), width, init="normal", std=1.0)
    has = {"non_finite", "exploding"}
    return _patient("N(0,1) weights until overflow", model, draw, (width,), has)


def _root_of_zero(o: Tensor, y: Tensor) -> Tensor:
    return (o - o.detach()).pow(2).sum(1).sqrt().mean() + o.pow(2).mean()


def _arc_cosine_of_one(o: Tensor, y: Tensor) -> Tensor:
    return torch.acos(1 - (o - o.detach()).pow(2).sum(1)).mean()


def _power_of_zero(o: Tensor, y: Tensor) -> Tensor:
    return ((o - o.detach()).abs() ** 0.3).mean()


def _branch_not_taken(o: Tensor, y: Tensor) -> Tensor:
    return torch.where(o.detach() < 1e9, o, (o * 0 + 200).exp()).mean()


def nan_behind_the_output(draw: Draw) -> Patient:
    """A loss that is finite, and whose slope is not."""
    width = draw.whole(16, 64)
    model = _mlp(draw, draw.whole(1, 6), width)
    loss = draw.one(_root_of_zero, _arc_cosine_of_one, _power_of_zero, _branch_not_taken)
    batch = classes(draw, draw.batch_size(2), width)
    return Patient("a slope of the loss is infinite", model, batch, loss, NON_FINITE)


def nan_selection(draw: Draw) -> Patient:
    """A mean over nothing: no label counts, or nothing is selected."""
    width = draw.whole(16, 64)
    model = _mlp(draw, draw.whole(1, 6), width)
    x, y = classes(draw, draw.batch_size(), width)
    if draw.whole(0, 1):
        batch, loss = (x, y * 0 - 100), F.cross_entropy
    else:
        batch, loss = (x, y * 0), lambda o, y: (o[y > 0] - 1).square().mean()
    return Patient("a mean over nothing", model, batch, loss, NON_FINITE)


def nan_range(draw: Draw) -> Patient:
    """A number beyond its format: a square in float16, the exp of a log-variance."""
    width = draw.whole(16, 64)
    model = _mlp(draw, draw.whole(1, 4), width)
    nn.init.constant_(model.get_submodule(list(dict(model.named_modules()))[-1]).bias, 300.0)
    batch = classes(draw, draw.batch_size(), width)
    loss = draw.one(
        lambda o, y: o.half().square().float().mean(), lambda o, y: (o.exp() - o).mean()
    )
    return Patient("beyond the number format", model, batch, loss, NON_FINITE)


class OneHead(nn.Module):
    """One head, written by hand, over sequences of which some places are padding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, 10)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(1, 2) / x.shape[-1] ** 0.5
        scores = scores.masked_fill(padding[:, None], -math.inf)
        return self.out((scores.softmax(-1) @ v).mean(1))


def _padded(draw: Draw, name: str, has: set, padded: bool) -> Patient:
    width, length, size = draw.whole(8, 48), draw.whole(3, 12), draw.batch_size(2, 64)
    x, y = classes(draw, size, length, width)
    padding = torch.arange(length) >= torch.randint(1, length + 1, (size, 1))
    if padded:
        padding[draw.whole(0, size - 1)] = True
    model = OneHead(width)
    cu.initialize(model, "xavier", generator=draw.generator)
    return Patient(name, model, ((x, padding), y), F.cross_entropy, frozenset(has))


def nan_padding(draw: Draw) -> Patient:
    return _padded(draw, "a sample that is all padding", {"non_finite"}, padded=True)


def healthy_padding(draw: Draw) -> Patient:
    return _padded(draw, "attention with padding", {"healthy"}, padded=False)


def healthy_losses(draw: Draw) -> Patient:
    """Losses that come near a singular point and are written so that it does no harm."""
    width = draw.whole(48, 96)
    model = _mlp(draw, draw.whole(3, 6), width)
    x, y = classes(draw, draw.batch_size(4), width)
    y[1::2] = -100
    numbers = draw.normal(len(x), 10)
    numbers[::2] = math.nan

    def root(o: Tensor, y: Tensor) -> Tensor:
        positive = torch.where(o > 0, o, torch.ones_like(o))
        return torch.where(o > 0, positive.sqrt(), o).mean()

    def known(o: Tensor, y: Tensor) -> Tensor:
        return (o - y)[~y.isnan()].square().mean()

    def excluded(o: Tensor, y: Tensor) -> Tensor:
        mask = F.one_hot((y + 1) % 10, 10).bool()
        return F.cross_entropy(o.masked_fill(mask, -math.inf), y)

    batch, loss = draw.one(
        ((x, y), F.cross_entropy),
        ((x, y.clamp_min(0)), excluded),
        ((x, numbers), known),
        ((x, y), root),
    )
    return Patient("near a singular point", model, batch, loss, frozenset({"healthy"}))


def _normed_last(draw: Draw, name: str, has: set, loss: Callable) -> Patient:
    width, outputs = draw.whole(48, 96), draw.whole(8, 40)
    norm = draw.one(nn.LayerNorm(outputs), nn.BatchNorm1d(outputs))
    layers = [nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs), norm]
    model = cu.initialize(nn.Sequential(*layers), "he", generator=draw.generator)
    batch = draw.normal(draw.batch_size(16), width)
    return Patient(name, model, batch, loss, frozenset(has))


def zero_by_a_norm(draw: Draw) -> Patient:
    loss = draw.one(lambda o: o.mean(), lambda o: -o.sum(1).mean(), lambda o: (1 - o).sum())
    return _normed_last(draw, "a sum of what a norm makes constant", {"zero_gradient"}, loss)


def healthy_norm_last(draw: Draw) -> Patient:
    def loss(o: Tensor) -> Tensor:
        return o[: len(o) // 2, ::2].mean() - o[len(o) // 2 :, 1::2].mean()

    return _normed_last(draw, "a norm at the output", {"healthy"}, loss)


# ---------------------------------------------------------------- wrong wiring


def double_softmax(draw: Draw) -> Patient:
    width = draw.whole(32, 128)
    if draw.whole(0, 1):
        net = _mlp(draw, draw.whole(2, 6), width)
        x, y = classes(draw, draw.batch_size(), width)
    else:
        net = cu.conv_net(draw.whole(3, 6), draw.whole(12, 32), generator=draw.generator)
        x, y = classes(draw, draw.batch_size(), 1, 8, 8)
    model = nn.Sequential(net, nn.Softmax(dim=1))
    has = frozenset({"double_softmax"})
    return Patient("softmax before cross-entropy", model, (x, y), F.cross_entropy, has)


class Detached(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).detach())


def detached(draw: Draw) -> Patient:
    width = draw.whole(16, 64)
    first = cu.mlp(2, width, inputs=width, outputs=width, generator=draw.generator)
    model = Detached(first, _mlp(draw, 3, width))
    return _patient("detached in the middle", model, draw, (width,), {"not_connected"})


def zeros(draw: Draw) -> Patient:
    width = draw.whole(16, 64)
    model = _mlp(draw, draw.whole(2, 6), width, activation="tanh", init="zeros")
    return _patient("all weights zero", model, draw, (width,), {"symmetric"}, least=2)


def small_batch(draw: Draw) -> Patient:
    width = draw.whole(16, 64)
    model = _mlp(draw, draw.whole(3, 8), width, norm="batch")
    patient = _patient(
        "batch norm on 1 to 3 values", model, draw, (width,), {"batch_too_small_for_norm"}
    )
    size = draw.whole(1, 3)
    patient.batch = draw.normal(size, width), draw.normal(size, 10)
    patient.loss = F.mse_loss
    return patient


def unbalanced(draw: Draw) -> Patient:
    depth, width = draw.whole(5, 8), draw.whole(32, 128)
    model = _mlp(draw, depth, width)
    a = draw.real(30, 100)
    with torch.no_grad():
        model.linear2.weight.mul_(a)
        model.linear3.weight.div_(a)
    return _patient("one layer ×a, the next ÷a", model, draw, (width,), {"unbalanced_update"})


# ---------------------------------------------------------------- healthy


def healthy_he(draw: Draw) -> Patient:
    depth = draw.whole(2, 30)
    model = _mlp(draw, depth, width := max(_width(draw, depth), 12 * depth))
    return _patient("ReLU, He", model, draw, (width,), {"healthy"})


def healthy_tanh(draw: Draw) -> Patient:
    depth, width = draw.whole(3, 20), draw.whole(64, 192)
    init = draw.one("xavier", "orthogonal")
    model = _mlp(draw, depth, width, activation="tanh", init=init)
    return _patient(f"tanh, {init}", model, draw, (width,), {"healthy"})


def healthy_selu(draw: Draw) -> Patient:
    depth = draw.whole(3, 20)
    model = _mlp(draw, depth, width := _width(draw, depth), activation="selu", init="he", gain=1.0)
    return _patient("SELU, LeCun", model, draw, (width,), {"healthy"})


def healthy_shallow_default(draw: Draw) -> Patient:
    depth, width = draw.whole(2, 3), draw.whole(32, 256)
    activation = draw.one("relu", "tanh", "gelu", "leaky_relu")
    model = _mlp(draw, depth, width, activation=activation, init="torch_default")
    return _patient(f"shallow {activation}, default", model, draw, (width,), {"healthy"})


def healthy_batch_norm(draw: Draw) -> Patient:
    depth, width = draw.whole(3, 10), draw.whole(48, 160)
    model = _mlp(draw, depth, width, norm="batch")
    return _patient("a few layers with batch norm", model, draw, (width,), {"healthy"}, least=16)


def healthy_layer_norm(draw: Draw) -> Patient:
    depth, width = draw.whole(3, 12), draw.whole(64, 192)
    activation = draw.one("relu", "gelu", "silu")
    init = draw.one("he", "torch_default")
    model = _mlp(draw, depth, width, norm="layer", activation=activation, init=init)
    return _patient(f"layer norm, {activation}, {init}", model, draw, (width,), {"healthy"})


def healthy_residual(draw: Draw) -> Patient:
    depth, width = draw.whole(10, 60), draw.whole(48, 160)
    model = _mlp(draw, depth, width, norm="batch", skip="plain")
    return _patient("residual with batch norm", model, draw, (width,), {"healthy"}, least=16)


def healthy_conv(draw: Draw) -> Patient:
    depth, channels = draw.whole(3, 9), draw.whole(12, 32)
    norm = draw.one(None, "layer")
    model = cu.conv_net(depth, channels, norm=norm, generator=draw.generator)
    return _patient("conv, He", model, draw, (1, 8, 8), {"healthy"})


def healthy_conv_large(draw: Draw) -> Patient:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(32 * 64, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
    cu.initialize(model, draw.one("torch_default", "he"), generator=draw.generator)
    batch = classes(draw, draw.batch_size(1, 64), 3, 32, 32)
    return Patient("the usual CNN", model, batch, F.cross_entropy, frozenset({"healthy"}))


def healthy_transformer(draw: Draw) -> Patient:
    width = 16 * draw.whole(2, 4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.whole(0, 10**6))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, batch_first=True, norm_first=bool(draw.whole(0, 1))
        )
        body = nn.TransformerEncoder(layer, draw.whole(2, 6), enable_nested_tensor=False)
        model = nn.Sequential(body, nn.Linear(width, 10))
    size, steps = draw.batch_size(1, 32), draw.whole(5, 20)
    batch = draw.normal(size, steps, width), draw.normal(size, steps, 10)
    return Patient("TransformerEncoder", model, batch, F.mse_loss, frozenset({"healthy"}))


class LanguageModel(nn.Module):
    """Embedding, LSTM and a head, answering at every step."""

    def __init__(self, words: int, width: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, words)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(tokens))[0]).transpose(1, 2)


def healthy_language_model(draw: Draw) -> Patient:
    words, steps, size = 50, draw.whole(10, 40), draw.batch_size(1, 32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.whole(0, 10**6))
        model = LanguageModel(words, draw.whole(16, 64), draw.whole(1, 2))
    tokens = torch.randint(0, words, (size, steps + 1), generator=draw.generator)
    batch = tokens[:, :-1], tokens[:, 1:]
    return Patient("LSTM language model", model, batch, F.cross_entropy, frozenset({"healthy"}))


def healthy_rnn(draw: Draw) -> Patient:
    steps, width = draw.whole(5, 20), draw.whole(32, 96)
    model = cu.recurrent("rnn", width, inputs=3, outputs=10, generator=draw.generator)
    for weight in (model.rnn.weight_ih_l0,):
        weight.data.mul_(0.1)
    batch, loss = _sequences(draw, steps)
    return Patient("orthogonal tanh RNN", model, batch, loss, frozenset({"healthy"}))


def healthy_functional(draw: Draw) -> Patient:
    depth, width = draw.whole(3, 15), draw.whole(96, 192)
    layers = [nn.Linear(width, 10 if i == depth else width) for i in range(1, depth + 1)]
    cu.initialize(nn.ModuleList(layers), "he", generator=draw.generator)
    return _patient("F.relu, He", Functional(layers, F.relu), draw, (width,), {"healthy"})


def healthy_dict(draw: Draw) -> Patient:
    patient = healthy_he(draw)
    x, y = patient.batch
    patient.family, patient.batch = "dict batch, He", {"input": x, "labels": y}
    return patient


def healthy_products(draw: Draw) -> Patient:
    activation, gain = draw.one(("relu", math.sqrt(2)), ("tanh", 1.0))
    return _products(draw, draw.whole(3, 20), gain, activation)


class Twins(nn.Module):
    """One encoder on two inputs, side by side."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.body(first) - self.body(second)


def healthy_twins(draw: Draw) -> Patient:
    depth = draw.whole(3, 20)
    width = max(_width(draw, depth), 12 * depth)
    model, size = Twins(_mlp(draw, depth, width)), draw.batch_size()
    x = draw.normal(size, width), draw.normal(size, width)
    batch = x, draw.normal(size, 10)
    return Patient("one encoder, two inputs", model, batch, F.mse_loss, frozenset({"healthy"}))


def healthy_critic(draw: Draw) -> Patient:
    depth, width = draw.whole(2, 4), draw.whole(64, 192)
    model = _mlp(
        draw, depth, width, outputs=1, activation="leaky_relu", init=draw.one("he", "torch_default")
    )
    size = draw.batch_size()
    fake = draw.normal(size, width) + 1

    def loss(output: Tensor) -> Tensor:
        return model(fake).mean() - output.mean()

    batch = draw.normal(size, width)
    return Patient("Wasserstein critic", model, batch, loss, frozenset({"healthy"}))


class Attention(nn.Module):
    """A pre-norm block of a language model with attention of its own."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class SmallGPT(nn.Module):
    """Token and position embeddings, blocks, and a head that shares the embedding."""

    def __init__(self, words: int, width: int, depth: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.position = nn.Parameter(0.02 * torch.randn(64, width))
        self.blocks = nn.Sequential(*(Attention(width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x))).transpose(1, 2)


def healthy_gpt(draw: Draw) -> Patient:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.whole(0, 10**6))
        model = SmallGPT(40, 16 * draw.whole(1, 4), draw.whole(2, 8))
    shape = (draw.batch_size(1, 16), draw.whole(6, 40))
    tokens = torch.randint(0, 40, shape, generator=draw.generator)
    batch = tokens[:, :-1], tokens[:, 1:]
    return Patient("small GPT, tied", model, batch, F.cross_entropy, frozenset({"healthy"}))


# ---------------------------------------------------------------- equal units, zeros on purpose


def _constant(module: nn.Module, value: float) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value if parameter.dim() > 1 else 0.0)
    return module


def symmetric_constant(draw: Draw) -> Patient:
    depth, width = draw.whole(2, 6), draw.whole(8, 96)
    activation = draw.one("tanh", "gelu", "silu", "softplus")
    model = _mlp(draw, depth, width, activation=activation, init="xavier")
    _constant(model, draw.real(0.3, 1.0) / width)
    name = f"{activation}, every weight the same"
    return _patient(name, model, draw, (width,), {"symmetric"}, least=2)


def symmetric_layer(draw: Draw) -> Patient:
    depth, width = draw.whole(4, 8), draw.whole(24, 96)
    model = _mlp(draw, depth, width, activation="tanh", init="xavier")
    which = draw.whole(1, depth - 1)
    for layer in (which, which + 1):
        _constant(getattr(model, f"linear{layer}"), draw.real(0.5, 1.0) / width)
    name = "one hidden layer of equal weights, in and out"
    return _patient(name, model, draw, (width,), {"symmetric"}, least=2)


def symmetric_pairs(draw: Draw) -> Patient:
    depth, width = draw.whole(2, 6), 2 * draw.whole(12, 60)
    model = _mlp(draw, depth, width, activation="tanh", init="xavier")
    which = draw.whole(1, depth - 1)
    first, second = getattr(model, f"linear{which}"), getattr(model, f"linear{which + 1}")
    with torch.no_grad():
        for tensor in (first.weight, first.bias):
            tensor[width // 2 :] = tensor[: width // 2]
        second.weight[:, width // 2 :] = second.weight[:, : width // 2]
    return _patient("every unit of a layer twice", model, draw, (width,), {"symmetric"}, least=2)


def healthy_incoming(draw: Draw) -> Patient:
    """Equal incoming weights under unlike outgoing ones: told apart at the first step."""
    depth, width = draw.whole(2, 5), draw.whole(24, 96)
    model = _mlp(draw, depth, width, activation="tanh", init="xavier")
    _constant(model.linear1, draw.real(0.5, 1.0) / width**0.5)
    return _patient("equal incoming weights", model, draw, (width,), {"healthy"}, {"undecided"}, 2)


class Branches(nn.Module):
    """Residual blocks that begin as the identity, by a zero layer, norm or gate."""

    def __init__(self, how: str, blocks: int, width: int) -> None:
        super().__init__()
        self.how = how
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.gates = nn.Parameter(torch.ones(blocks) if how != "gate" else torch.zeros(blocks))
        self.head = nn.Linear(width, 10)
        for layer, norm in zip(self.second, self.norms, strict=True):
            if how == "layer":
                _constant(layer, 0.0)
            elif how == "norm":
                nn.init.zeros_(norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        parts = zip(self.first, self.second, self.norms, self.gates, strict=True)
        for first, second, norm, gate in parts:
            branch = second(F.gelu(first(x if self.how == "norm" else norm(x))))
            x = x + gate * (norm(branch) if self.how == "norm" else branch)
        return self.head(x)


def healthy_zero_branches(draw: Draw) -> Patient:
    width, how = draw.whole(24, 96), draw.one("layer", "norm", "gate")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.whole(0, 10**6))
        model = Branches(how, draw.whole(3, 12), width)
    return _patient(f"branches that start at a zero {how}", model, draw, (width,), {"healthy"})


def healthy_zero_output(draw: Draw) -> Patient:
    depth, width = draw.whole(1, 6), draw.whole(24, 96)
    model = _mlp(draw, depth, width)
    _constant(getattr(model, f"linear{depth}"), 0.0)
    return _patient("zero output layer", model, draw, (width,), {"healthy"})


class Adapted(nn.Module):
    """A frozen layer with two thin ones beside it, of which the second starts at zero."""

    def __init__(self, width: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.base = nn.Linear(width, outputs).requires_grad_(False)
        self.a, self.b = nn.Linear(width, rank, bias=False), nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.b(self.a(x))


def healthy_adapted(draw: Draw) -> Patient:
    width, rank = draw.whole(24, 96), draw.whole(1, 8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.whole(0, 10**6))
        layers = [Adapted(width, width, rank) for _ in range(draw.whole(1, 2))]
        act = draw.one(nn.Sigmoid, nn.ReLU, nn.Tanh)
        body = [module for layer in layers for module in (layer, act())]
        model = nn.Sequential(*body, Adapted(width, 10, rank))
    return _patient("LoRA", model, draw, (width,), {"healthy"}, {"undecided"})


# ---------------------------------------------------------------- fixed points, recurrences by hand


class FixedPoint(nn.Module):
    """z ← φ(W z + U x), unrolled."""

    def __init__(self, recurrent: Tensor, inputs: int, steps: int, activation: Callable) -> None:
        super().__init__()
        width = len(recurrent)
        self.read, self.carry = nn.Linear(inputs, width), nn.Linear(width, width, bias=False)
        self.carry.weight.data.copy_(recurrent)
        self.head, self.steps, self.activation = nn.Linear(width, 10), steps, activation

    def forward(self, x: Tensor) -> Tensor:
        u = self.read(x)
        z = torch.zeros_like(u)
        for _ in range(self.steps):
            z = self.activation(self.carry(z) + u)
        return self.head(z)


def healthy_fixed_point(draw: Draw) -> Patient:
    width, inputs, gain = draw.whole(16, 96), draw.whole(4, 32), draw.real(0.2, 0.6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.whole(0, 10**6))
        recurrent = gain * _orthogonal(draw, width)
        activation = draw.one(torch.tanh, torch.relu)
        model = FixedPoint(recurrent, inputs, draw.whole(20, 50), activation)
    return _patient("unrolled fixed point", model, draw, (inputs,), {"healthy"}, least=2)


class OverBoth(nn.Module):
    """h ← φ(W [x, h]) or φ(W [h, x]), written out."""

    def __init__(self, recurrent: Tensor, first: bool, activation: Callable) -> None:
        super().__init__()
        self.width, self.first, self.activation = len(recurrent), first, activation
        self.cell, self.head = nn.Linear(3 + self.width, self.width), nn.Linear(self.width, 10)
        start = 0 if first else 3
        self.cell.weight.data[:, start : start + self.width] = recurrent

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.width)
        for step in x.unbind(1):
            both = (h, step) if self.first else (step, h)
            h = self.activation(self.cell(torch.cat(both, 1)))
        return self.head(h)


def vanishing_over_both(draw: Draw) -> Patient:
    steps, width = draw.whole(25, 60), draw.whole(16, 96)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.whole(0, 10**6))
        recurrent = draw.real(0.3, 0.7) * _orthogonal(draw, width)
        model = OverBoth(recurrent, bool(draw.whole(0, 1)), torch.tanh)
    batch, loss = _sequences(draw, steps)
    name = "tanh recurrence over cat(x, h), small weights"
    return Patient(name, model, batch, loss, frozenset({"vanishing"}))


def healthy_over_both(draw: Draw) -> Patient:
    steps, width = draw.whole(5, 20), draw.whole(32, 96)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.whole(0, 10**6))
        model = OverBoth(_orthogonal(draw, width), bool(draw.whole(0, 1)), torch.tanh)
    (x, y), loss = _sequences(draw, steps)
    name = "orthogonal recurrence over cat(x, h)"
    return Patient(name, model, (0.1 * x, y), loss, frozenset({"healthy"}))


class PostNorm(nn.Module):
    """LayerNorm(x + f(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.branch = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.branch(x))


def healthy_post_norm(draw: Draw) -> Patient:
    width = draw.whole(24, 64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.whole(0, 10**6))
        body = [PostNorm(width) for _ in range(draw.whole(3, 24))]
        model = nn.Sequential(nn.Linear(width, width), *body, nn.Linear(width, 10))
    return _patient("post-norm blocks, fresh", model, draw, (width,), {"healthy"})


# ---------------------------------------------------------------- exactly 0


class Between(nn.Module):
    """Two parts of a network with a function between."""

    def __init__(self, first: nn.Module, function: Callable, second: nn.Module) -> None:
        super().__init__()
        self.first, self.function, self.second = first, function, second

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.function(self.first(x)))


def _between(draw: Draw, function: Callable) -> tuple[nn.Module, int]:
    width = draw.whole(16, 64)
    first = cu.mlp(draw.whole(1, 3), width, inputs=width, outputs=width, generator=draw.generator)
    return Between(first, function, _mlp(draw, draw.whole(1, 3), width)), width


def flat_steps(draw: Draw) -> Patient:
    function = draw.one(torch.round, torch.floor, torch.ceil, torch.sign, torch.trunc)
    model, width = _between(draw, function)
    return _patient("a step function between", model, draw, (width,), {"zero_gradient"}, least=4)


def flat_clamp(draw: Draw) -> Patient:
    far = draw.real(30, 300)
    model, width = _between(draw, lambda h: (h + far).clamp(-1, 1))
    return _patient("a clamp out of reach", model, draw, (width,), {"zero_gradient"}, least=8)


def flat_loss(draw: Draw) -> Patient:
    width, far = draw.whole(16, 64), draw.real(50, 500)
    model = _mlp(draw, draw.whole(2, 6), width)
    loss = draw.one(
        lambda o: F.relu(o - far).mean(), lambda o: o.round().sum(), lambda o: (0.0 * o).mean()
    )
    x = draw.normal(draw.batch_size(4), width)
    return Patient("a flat loss", model, x, loss, frozenset({"zero_gradient"}))


class LowRank(nn.Module):
    """A frozen network with a trained product of two thin matrices beside its first layer."""

    def __init__(self, base: nn.Module, width: int, rank: int, draw: Draw) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a, self.b = (
            nn.Linear(width, rank, bias=False),
            nn.Linear(rank, width, bias=False),
        )
        with torch.no_grad():
            self.a.weight.copy_(draw.normal(rank, width) / math.sqrt(width))
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x + self.b(self.a(x)))


def zero_pair(draw: Draw) -> Patient:
    width = draw.whole(16, 64)
    model = LowRank(_mlp(draw, draw.whole(1, 4), width), width, draw.whole(1, 8), draw)
    nn.init.zeros_(model.a.weight)
    return _patient("both factors zero", model, draw, (width,), {"zero_gradient"})


def healthy_low_rank(draw: Draw) -> Patient:
    width = draw.whole(16, 64)
    model = LowRank(_mlp(draw, 1, width), width, draw.whole(1, 8), draw)
    return _patient("one factor zero", model, draw, (width,), {"healthy"})


def healthy_straight_through(draw: Draw) -> Patient:
    model, width = _between(draw, lambda h: h + (h.round() - h).detach())
    return _patient("straight-through rounding", model, draw, (width,), {"healthy"})


def healthy_margin(draw: Draw) -> Patient:
    """All margins kept, by far, because the labels are what the network says."""
    width, margin = draw.whole(16, 64), draw.real(1e-4, 1e-3)
    model = _mlp(draw, draw.whole(2, 6), width)
    x = draw.normal(draw.batch_size(16), width)
    with torch.no_grad():
        y = model(x)

    def loss(o: Tensor, y: Tensor) -> Tensor:
        return F.relu(margin - o * y).clamp_min(0).mul((y.abs() > 0.1).to(o)).mean()

    return Patient("a margin that is kept", model, (x, y), loss, frozenset({"healthy"}))


# ---------------------------------------------------------------- behind the last layer


def _with_output(draw: Draw, function: Callable, gain: float, bias: float) -> tuple:
    width = draw.whole(16, 64)
    layers = _mlp(draw, draw.whole(2, 5), width)
    last = [module for module in layers.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.mul_(gain)
        last.bias.add_(bias)
    x = draw.normal(draw.batch_size(32), width)
    return Between(layers, function, nn.Identity()), x


def saturated_output(draw: Draw) -> Patient:
    model, x = _with_output(draw, torch.sigmoid, draw.real(100, 1000), 0)
    y = (torch.rand(len(x), 10, generator=draw.generator) > 0.5).float()
    return Patient(
        "sigmoid at the output, sure and wrong",
        model,
        (x, y),
        draw.one(F.mse_loss, F.l1_loss),
        frozenset({"saturated"}),
        frozenset({"unscaled"}),
    )


def dead_output(draw: Draw) -> Patient:
    model, x = _with_output(draw, torch.relu, 0.1, -draw.real(3, 30))
    y = torch.rand(len(x), 10, generator=draw.generator)
    return Patient("ReLU at the output, all 0", model, (x, y), F.mse_loss, frozenset({"dead"}))


def healthy_sure_output(draw: Draw) -> Patient:
    """As sure, and right."""
    model, x = _with_output(draw, torch.sigmoid, draw.real(100, 1000), 0)
    with torch.no_grad():
        y = model(x).round()
    loss = draw.one(F.mse_loss, F.binary_cross_entropy)
    may = frozenset({"unscaled"})
    return Patient("sigmoid, sure and right", model, (x, y), loss, frozenset(), may | {"healthy"})


def healthy_undone_output(draw: Draw) -> Patient:
    model, x = _with_output(draw, torch.sigmoid, 1, draw.real(4, 9) * draw.one(-1, 1))
    y = (torch.rand(len(x), 10, generator=draw.generator) > 0.5).float()
    may = frozenset({"unscaled", "healthy"})
    return Patient(
        "cross-entropy undoes it", model, (x, y), F.binary_cross_entropy, frozenset(), may
    )


# ---------------------------------------------------------------- what an optimizer holds


def _adam(parameters: object, lr: float = 1e-3) -> torch.optim.Optimizer:
    """Steps that no factor before the loss changes."""
    return torch.optim.Adam(parameters, lr=lr, eps=1e-30)


class Listed(nn.Module):
    """Hidden layers in a plain list, or in one of modules."""

    def __init__(self, body: nn.Sequential, container: Callable) -> None:
        super().__init__()
        children = list(body)
        self.hidden, self.head = container(children[:-1]), children[-1]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden.values() if isinstance(self.hidden, dict) else self.hidden:
            x = layer(x)
        return self.head(x)


def _listed(draw: Draw, container: Callable, has: str) -> Patient:
    width = draw.whole(48, 128)
    model = Listed(_mlp(draw, draw.whole(2, 6), width), container)
    patient = _patient("layers in a list", model, draw, (width,), {has}, least=4)
    patient.optimizer = draw.one(None, _adam(model.parameters()))
    return patient


def not_registered(draw: Draw) -> Patient:
    return _listed(
        draw, draw.one(list, tuple, lambda layers: dict(enumerate(layers))), "not_registered"
    )


def healthy_module_list(draw: Draw) -> Patient:
    return _listed(draw, nn.ModuleList, "healthy")


def _tuned(draw: Draw, held: Callable, has: str, lr: float = 1e-3) -> Patient:
    """A pretrained body with a new head, and an optimizer of what `held` says."""
    width = draw.whole(48, 128)
    model = _mlp(draw, draw.whole(2, 6), width)
    patient = _patient("an optimizer of a part", model, draw, (width,), {has}, least=4)
    patient.optimizer = _adam(held(model), lr)
    return patient


def not_optimized(draw: Draw) -> Patient:
    return _tuned(draw, lambda net: list(net.parameters())[:-2], "not_optimized")


def not_optimized_copy(draw: Draw) -> Patient:
    return _tuned(draw, lambda net: copy.deepcopy(net).parameters(), "not_optimized")


def healthy_frozen_body(draw: Draw) -> Patient:
    def last_layer(net: nn.Module) -> list[nn.Parameter]:
        parameters = list(net.parameters())
        for parameter in parameters[:-2]:
            parameter.requires_grad_(False)
        return parameters[-2:]

    return _tuned(draw, last_layer, "healthy")


def healthy_optimizer(draw: Draw) -> Patient:
    return _tuned(draw, lambda net: net.parameters(), "healthy")


def update_of_nothing(draw: Draw) -> Patient:
    return _tuned(draw, lambda net: net.parameters(), "update_size", lr=0.0)


def update_too_long(draw: Draw) -> Patient:
    return _tuned(draw, lambda net: net.parameters(), "update_size", lr=draw.real(3, 100))


class Experts(nn.Module):
    """Each sample goes to one of many experts, so that most of them get none of a small batch."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, count)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(count))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x).softmax(-1).max(-1)
        mixed = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            rows = chosen == i
            if rows.any():
                mixed = mixed.index_put(
                    (rows.nonzero()[:, 0],), weights[rows, None] * expert(x[rows])
                )
        return self.head(torch.relu(x + mixed))


def healthy_experts(draw: Draw) -> Patient:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.whole(0, 10**6))
        model = Experts(width := draw.whole(16, 64), draw.whole(16, 40))
    patient = _patient("experts without a sample", model, draw, (width,), {"healthy"}, least=2)
    patient.batch = tuple(part[:12] for part in patient.batch)
    patient.optimizer = _adam(model.parameters())
    return patient


# ---------------------------------------------------------------- losses and answers of strangers


def healthy_physics(draw: Draw) -> Patient:
    """A physics-informed network: the loss holds the derivative by the input."""
    width = draw.whole(48, 96)
    model = cu.mlp(
        draw.whole(2, 6), width, inputs=2, outputs=1, activation="tanh", generator=draw.generator
    )
    x = draw.normal(draw.batch_size(8), 2).requires_grad_()

    def loss(output: Tensor) -> Tensor:
        slope = torch.autograd.grad(output.sum(), x, create_graph=True)[0]
        return (slope[:, 0] - slope[:, 1]).square().mean() + (
            output - x.sin()[:, :1]
        ).square().mean()

    return Patient(
        "physics-informed", model, x, loss, frozenset({"healthy"}), frozenset({"unscaled"})
    )


class Nested(nn.Module):
    def __init__(self, body: nn.Module, wrap: Callable) -> None:
        super().__init__()
        self.body, self.wrap = body, wrap

    def forward(self, x: Tensor) -> object:
        return self.wrap(self.body(x))


def _nested(draw: Draw, body: nn.Module, has: str) -> Patient:
    width = next(body.parameters()).shape[1]
    wrap, unwrap = draw.one(
        (lambda o: {"logits": o}, lambda o: o["logits"]),
        (lambda o: (o, o.argmax(-1)), lambda o: o[0]),
        (lambda o: types.SimpleNamespace(logits=o), lambda o: o.logits),
    )
    batch = classes(draw, draw.batch_size(8), width)
    loss = lambda o, y: F.cross_entropy(unwrap(o), y)  # noqa: E731
    return Patient("an answer in a nest", Nested(body, wrap), batch, loss, frozenset({has}))


def nested_double_softmax(draw: Draw) -> Patient:
    body = _mlp(draw, draw.whole(2, 6), draw.whole(32, 128))
    return _nested(draw, nn.Sequential(body, nn.Softmax(dim=1)), "double_softmax")


def nested_zeros(draw: Draw) -> Patient:
    body = _mlp(draw, draw.whole(2, 6), draw.whole(16, 64), activation="tanh", init="zeros")
    return _nested(draw, body, "symmetric")


def healthy_nested(draw: Draw) -> Patient:
    return _nested(draw, _mlp(draw, draw.whole(2, 6), draw.whole(48, 128)), "healthy")


def _simple(draw: Draw, outputs: int, *tail: nn.Module, init: str = "") -> nn.Sequential:
    """A network of two to four layers in which nothing else is wrong."""
    widths = [16, *(draw.whole(32, 96) for _ in range(draw.whole(1, 3)))]
    layers = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
    drawn = draw.one("torch_default", "he")
    cu.initialize(model, init or drawn, generator=draw.generator)
    return nn.Sequential(*model, *tail)


class Exp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


def mismatch_log(draw: Draw) -> Patient:
    count = draw.whole(2, 20)
    tail = draw.one((nn.Softmax(1),), (Exp(),), ())
    batch = classes(draw, draw.batch_size(8, 256), 16, outputs=count)
    loss = draw.one(F.nll_loss, lambda o, y: F.nll_loss(o, y, reduction="sum"))
    return Patient(
        "no log-probabilities", _simple(draw, count, *tail), batch, loss, frozenset({MISMATCH})
    )


def mismatch_bounded(draw: Draw) -> Patient:
    count = draw.whole(3, 20)
    batch = classes(draw, draw.batch_size(8, 256), 16, outputs=count)
    model = _simple(draw, count, draw.one(nn.Sigmoid(), nn.Tanh(), nn.Hardtanh()))
    return Patient("bounded logits", model, batch, F.cross_entropy, frozenset({MISMATCH}))


def _errors(draw: Draw) -> Callable[[Tensor, Tensor], Tensor]:
    return draw.one(
        lambda o, y: F.mse_loss(o, y),
        lambda o, y: F.smooth_l1_loss(o, y),
        lambda o, y: F.huber_loss(o, y),
        lambda o, y: ((o - y) ** 2).mean(),
        lambda o, y: (y - o).abs().mean(),
    )


def mismatch_shape(draw: Draw) -> Patient:
    size = draw.batch_size(8, 256)
    model, y = _simple(draw, 1), draw.normal(size)
    if draw.whole(0, 1):
        model, y = nn.Sequential(model, nn.Flatten(0)), y[:, None]
    error = _errors(draw)

    def loss(o: Tensor, y: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return error(o, y)

    batch = draw.normal(size, 16), y
    return Patient("column against row", model, batch, loss, frozenset({MISMATCH}))


def mismatch_range(draw: Draw) -> Patient:
    size = draw.batch_size(16, 256)
    tail, shift = draw.one((nn.Sigmoid(), 3), (nn.Tanh(), 4), (nn.ReLU(), -3), (nn.Softplus(), -3))
    batch = draw.normal(size, 16), shift + draw.normal(size, 1)
    model = _simple(draw, 1, tail)
    return Patient("targets out of reach", model, batch, _errors(draw), frozenset({MISMATCH}), TOO)


def healthy_match(draw: Draw) -> Patient:
    count, size = draw.whole(3, 20), draw.batch_size(8, 256)
    x, y = classes(draw, size, 16, outputs=count)
    one, numbers = F.one_hot(y, count).float(), draw.normal(size, count)
    tail, target, loss = draw.one(
        ((nn.LogSoftmax(1),), y, F.nll_loss),
        ((nn.LogSoftmax(1),), y, F.cross_entropy),
        ((nn.Sigmoid(),), one, F.binary_cross_entropy),
        ((nn.Softmax(1),), one, F.mse_loss),
        ((nn.Tanh(),), torch.tanh(numbers), F.mse_loss),
        ((nn.Softplus(),), numbers.exp(), F.l1_loss),
        ((nn.LogSoftmax(1),), numbers.softmax(1), lambda o, y: F.kl_div(o, y, reduction="sum")),
        ((), numbers[:, :1], lambda o, y: ((o - y) ** 2).mean()),
        ((), numbers, _errors(draw)),
    )
    model = _simple(draw, count, *tail, init="torch_default")  # He's may saturate a tanh
    return Patient("what its loss expects", model, (x, target), loss, HEALTHY)


def unscaled_inputs(draw: Draw) -> Patient:
    (x, y), loss = supervised(draw, draw.batch_size(16, 256), 16)
    scale = 10 ** draw.real(2.5, 5)
    x = draw.one(
        scale * x,
        x * torch.where(torch.arange(16) == draw.whole(0, 15), 4 * scale, 1e-2),
        scale + 0.02 * scale * x,
        (50 * x + 128).clamp(0, 255).round(),
    )
    model = _simple(draw, 10)
    return Patient("inputs out of scale", model, (x, y), loss, frozenset({"unscaled"}), TOO)


def unscaled_targets(draw: Draw) -> Patient:
    size, scale = draw.batch_size(16, 256), 10 ** draw.real(3, 6)
    y = draw.one(scale * draw.normal(size, 3), scale * (3 + draw.normal(size, 3)))
    batch = draw.normal(size, 16), y
    return Patient(
        "targets out of scale", _simple(draw, 3), batch, _errors(draw), frozenset({"unscaled"})
    )


def unscaled_head(draw: Draw) -> Patient:
    count = draw.whole(3, 50)
    batch = classes(draw, draw.batch_size(32, 256), 16, outputs=count)
    model = _simple(draw, count, init="he")
    with torch.no_grad():
        model[-1].weight.normal_(0, draw.real(5, 20), generator=draw.generator)
    return Patient("head out of scale", model, batch, F.cross_entropy, frozenset({"unscaled"}), TOO)


def healthy_scale(draw: Draw) -> Patient:
    (x, y), loss = supervised(draw, draw.batch_size(16, 256), 16)
    plain, scale = _simple(draw, 10), 10 ** draw.real(2, 5)
    model, x = draw.one(
        (nn.Sequential(nn.BatchNorm1d(16), *plain), scale * x),
        (nn.Sequential(nn.LayerNorm(16), *plain), scale * x),
        (nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), *plain), 200 * x),
        (plain, F.one_hot(torch.arange(len(x)) % 16, 16).float()),
        (plain, torch.poisson(torch.full_like(x, 0.3), generator=draw.generator)),
        (plain, draw.real(0.1, 3) * x),
    )
    return Patient("in scale for its layers", model, (x, y), loss, HEALTHY)


HEALTHY = frozenset({"healthy"})
MISMATCH = "loss_mismatch"
TOO = frozenset({"dead", "constant_output", "unbalanced_update"})
"""What may be true too of a network whose inputs or outputs are far out of scale."""


# ---------------------------------------------------------------- cancelled, alone, beside


def _summed(draw: Draw, name: str, has: str, weights: bool) -> Patient:
    """A loss that asks for a sum of what adds up to a constant, or for a weighted one."""
    width, outputs = draw.whole(16, 96), draw.whole(4, 24)
    weight = draw.normal(outputs) if weights else torch.ones(outputs)
    squash = draw.one(
        lambda o: o.softmax(-1),
        lambda o: F.layer_norm(o, o.shape[1:]),
        lambda o: F.normalize(o, dim=1).pow(2),
        lambda o: o.exp() / o.exp().sum(1, keepdim=True),
    )
    model = cu.mlp(draw.whole(1, 3), width, inputs=width, outputs=outputs, generator=draw.generator)
    return Patient(
        name,
        model.to(draw.one(torch.float32, torch.float64)),
        draw.normal(draw.batch_size(8), width).to(next(model.parameters()).dtype),
        lambda o: (squash(o) * weight.to(o)).sum(1).mean(),
        frozenset({has}),
    )


def cancelled_terms(draw: Draw) -> Patient:
    return _summed(draw, "a sum that is constant", "zero_gradient", weights=False)


def healthy_terms(draw: Draw) -> Patient:
    return _summed(draw, "a weighted sum of the same", "healthy", weights=True)


def _normed(draw: Draw, name: str, has: str, width: int) -> Patient:
    """A norm between two layers, over all that the first one gives."""
    norm = draw.one(
        lambda h: F.layer_norm(h, h.shape[1:]),
        lambda h: F.rms_norm(h, h.shape[1:]),
        lambda h: F.normalize(h, dim=1),
        lambda h: F.group_norm(h[..., None], 1)[..., 0],
    )
    first = cu.mlp(1, width, inputs=32, outputs=width, generator=draw.generator)
    last = cu.mlp(1, width, inputs=width, generator=draw.generator)
    return _patient(name, Between(first, norm, last), draw, (32,), {has}, least=8)


def norm_over_one(draw: Draw) -> Patient:
    return _normed(draw, "a norm over one entry", "zero_gradient", 1)


def healthy_norm_over_some(draw: Draw) -> Patient:
    return _normed(draw, "a norm over several entries", "healthy", draw.whole(8, 64))


def _moved(draw: Draw, depth: int) -> nn.Module:
    """Sigmoid layers with low-rank layers beside them that have left zero."""
    width, rank = draw.whole(24, 96), draw.whole(1, 8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.whole(0, 10**6))
        layers = [Adapted(width, width, rank) for _ in range(depth - 1)]
        layers = [module for layer in layers for module in (layer, nn.Sigmoid())]
        model = nn.Sequential(*layers, Adapted(width, 10, rank))
        for module in model.modules():
            if isinstance(module, Adapted):
                nn.init.normal_(module.b.weight, std=10 ** draw.real(-3, -2))
    return model


def healthy_adapted_later(draw: Draw) -> Patient:
    model = _moved(draw, draw.whole(2, 3))
    return _patient("LoRA after some steps", model, draw, (model[0].base.in_features,), {"healthy"})


def vanishing_beside(draw: Draw) -> Patient:
    model = _moved(draw, draw.whole(7, 12))
    width = model[0].base.in_features
    return _patient("LoRA in a deep sigmoid net", model, draw, (width,), {"vanishing"})


FAMILIES: dict[str, tuple[Callable[[Draw], Patient], ...]] = {
    "vanishing": (
        vanishing_sigmoid,
        vanishing_default,
        vanishing_small,
        vanishing_conv,
        vanishing_functional,
        vanishing_rnn,
        vanishing_lstm,
        vanishing_written_out,
        vanishing_products,
        vanishing_over_both,
    ),
    "exploding": (
        exploding_normal,
        exploding_gain,
        exploding_tanh,
        exploding_conv,
        exploding_residual,
        exploding_rnn,
        exploding_identity,
        exploding_written_out,
        exploding_products,
    ),
    "shattered": (exploding_batch_norm,),
    "dead": (dead_layer, dead_units, dead_conv, dead_output),
    "saturated": (saturated_biases, saturated_inputs, saturated_output),
    "zero_gradient": (flat_steps, flat_clamp, flat_loss, zero_pair, zero_by_a_norm),
    "non_finite": (
        nan_log,
        nan_backward,
        nan_weight,
        nan_input,
        nan_overflow,
        nan_behind_the_output,
        nan_selection,
        nan_range,
        nan_padding,
    ),
    "wired wrong": (
        double_softmax,
        detached,
        zeros,
        small_batch,
        unbalanced,
        not_registered,
        not_optimized,
        not_optimized_copy,
        update_of_nothing,
        update_too_long,
        nested_double_softmax,
        nested_zeros,
    ),
    "healthy": (
        healthy_he,
        healthy_tanh,
        healthy_selu,
        healthy_shallow_default,
        healthy_batch_norm,
        healthy_layer_norm,
        healthy_residual,
        healthy_conv,
        healthy_conv_large,
        healthy_transformer,
        healthy_language_model,
        healthy_rnn,
        healthy_functional,
        healthy_dict,
        healthy_products,
        healthy_twins,
        healthy_critic,
        healthy_gpt,
        healthy_incoming,
        healthy_zero_branches,
        healthy_zero_output,
        healthy_adapted,
        healthy_fixed_point,
        healthy_over_both,
        healthy_post_norm,
        healthy_low_rank,
        healthy_straight_through,
        healthy_margin,
        healthy_sure_output,
        healthy_undone_output,
        healthy_padding,
        healthy_norm_last,
        healthy_losses,
        healthy_module_list,
        healthy_frozen_body,
        healthy_optimizer,
        healthy_experts,
        healthy_physics,
        healthy_nested,
    ),
    "mismatched": (mismatch_log, mismatch_bounded, mismatch_shape, mismatch_range, healthy_match),
    "unscaled": (unscaled_inputs, unscaled_targets, unscaled_head, healthy_scale),
    "symmetric": (symmetric_constant, symmetric_layer, symmetric_pairs),
    "cancelled, alone, beside": (
        cancelled_terms,
        healthy_terms,
        norm_over_one,
        healthy_norm_over_some,
        healthy_adapted_later,
        vanishing_beside,
    ),
}


def zoo(seed: int, of_each: int = 2) -> Iterator[Patient]:
    """Every family, so many members of each, drawn from a seed."""
    number = 0
    for families in FAMILIES.values():
        for family in families:
            for _ in range(of_each):
                number += 1
                yield family(Draw(100_003 * seed + number))


def scaled(loss: Callable[..., Tensor], factor: float) -> Callable[..., Tensor]:
    """The same loss times a factor."""
    return lambda *arguments: factor * loss(*arguments)
