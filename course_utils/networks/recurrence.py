"""Recurrent networks."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import integer, number, one_of
from .initialization import initialize
from .schemes import INITIALIZERS
from .state_space import DiagonalStateSpace


class RecurrentNet(nn.Module):
    """A recurrent layer read out at its last time step; see `recurrent`."""

    def __init__(self, rnn: nn.RNNBase | DiagonalStateSpace, outputs: int):
        super().__init__()
        self.rnn = rnn
        self.head = nn.Linear(rnn.hidden_size, outputs, device="cpu")

    def forward(self, x: Tensor) -> Tensor:
        """Output after the last step: (B, T, inputs) to (B, outputs)."""
        if x.ndim != 3 or x.shape[2] != self.rnn.input_size:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, (batch, steps, {self.rnn.input_size}) is expected."
            )
        states, _ = self.rnn(x)
        return self.head(states[:, -1])


_RECURRENT = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
KINDS = (*_RECURRENT, "diagonal")


def recurrent(
    kind: str = "rnn",
    width: int = 64,
    *,
    inputs: int = 1,
    outputs: int = 1,
    layers: int = 1,
    activation: str = "tanh",
    init: str = "orthogonal",
    recurrent_init: str | None = None,
    forget_bias: float | None = None,
    chrono: float | None = None,
    generator: torch.Generator,
    **options: Any,
) -> RecurrentNet:
    """A recurrent network that reads a sequence and answers after its last step.

    rnn: h_t = φ(W x_t + U h_(t−1) + b), ŷ = V h_T + c. "lstm" and "gru" are PyTorch's `nn.LSTM`
    and `nn.GRU` in place of the first equation, "diagonal" is a `DiagonalStateSpace`. Input and
    recurrent matrices, and within them the blocks of each gate, are initialized one by one.

    Args:
        kind: "rnn", "lstm", "gru" or "diagonal".
        width: n, units of the state, at least 1.
        inputs: Features of x_t.
        outputs: Features of ŷ.
        layers: Recurrent layers on top of each other; 1 for "diagonal".
        activation: φ of "rnn": "tanh" or "relu". The gates of the other two are fixed: "tanh".
        init: A name in `cu.INITIALIZERS`. Biases start at 0 except with "torch_default". The
            layer of "diagonal" has a start of its own: `options` go to it.
        recurrent_init: What U starts as in place of `init`, block by block: "orthogonal" or
            "identity".
        forget_bias: Bias of the forget gate of "lstm", or of the update gate of "gru" (both of
            PyTorch's together): see `cu.theory.gate_bias`.
        chrono: T, steps to remember: the bias log(T − 1) for the forget (or update) gate, and
            −log(T − 1) for the input gate of "lstm".
        generator: Source of the weights, for example `cu.seeded(0)`.
        **options: Handed to `initialize`.

    Returns:
        A module that maps (B, T, inputs) to (B, outputs), on the CPU; its parts are `rnn` and
        `head`.

    Raises:
        ValueError: If a size is below 1, a name is unknown, or an option does not belong to this
            kind.
        TypeError: If an argument is of the wrong type.

    References:
        C. Tallec and Y. Ollivier, "Can recurrent neural networks warp time?", ICLR 2018 (chrono,
        there with T drawn anew for each unit).

    >>> import course_utils as cu
    >>> recurrent("gru", 8, inputs=2, generator=cu.seeded(0))(torch.zeros(3, 20, 2)).shape
    torch.Size([3, 1])
    >>> net = recurrent("lstm", 2, chrono=11, generator=cu.seeded(0))
    >>> [round(value, 2) for value in net.rnn.bias_ih_l0.tolist()]  # input, forget, cell, output
    [-2.3, -2.3, 2.3, 2.3, 0.0, 0.0, 0.0, 0.0]
    """
    one_of("kind", kind, KINDS)
    width, layers = integer("width", width, 1), integer("layers", layers, 1)
    inputs, outputs = integer("inputs", inputs, 1), integer("outputs", outputs, 1)
    one_of("init", init, INITIALIZERS)
    one_of("recurrent_init", recurrent_init, (None, "orthogonal", "identity"))
    biases = _gate_biases(kind, forget_bias, chrono)
    if kind == "diagonal":
        return _diagonal(width, inputs, outputs, layers, recurrent_init, generator, options)
    allowed = ("tanh", "relu") if kind == "rnn" else ("tanh",)
    offer = f"PyTorch's nn.{_RECURRENT[kind].__name__} has {' and '.join(allowed)}."
    hint = f"{offer} Write the cell yourself for another one, as the notebooks do."
    one_of("activation", activation, allowed, hint=hint)
    chosen = {"nonlinearity": activation} if kind == "rnn" else {}
    with torch.random.fork_rng(devices=[]):
        rnn = _RECURRENT[kind](
            inputs, width, num_layers=layers, batch_first=True, device="cpu", **chosen
        )
        net = RecurrentNet(rnn, outputs)
    initialize(net, init, generator=generator, **options)
    if recurrent_init is not None:
        _start_recurrence(rnn, recurrent_init, generator)
    for gate, bias in biases.items():
        _set_gate(rnn, gate, bias)
    return net


_GATES = {"lstm": ("input", "forget", "cell", "output"), "gru": ("reset", "update", "new")}
"""The order of the blocks in PyTorch's weights and biases."""


def _gate_biases(kind: str, forget_bias: object, chrono: object) -> dict[str, float]:
    """The bias of each gate that has one of its own."""
    if forget_bias is None and chrono is None:
        return {}
    if kind not in _GATES:
        name, value = ("chrono", chrono) if forget_bias is None else ("forget_bias", forget_bias)
        raise ValueError(f"{name}={value!r}, but {kind!r} has no gates: use 'lstm' or 'gru'.")
    if forget_bias is not None and chrono is not None:
        raise ValueError(f"forget_bias={forget_bias!r} and chrono={chrono!r}: give one of them.")
    open_gate = "forget" if kind == "lstm" else "update"
    if chrono is None:
        return {open_gate: number("forget_bias", forget_bias)}
    bias = math.log(number("chrono", chrono, above=1, hint="Steps to remember.") - 1)
    return {open_gate: bias} | ({"input": -bias} if kind == "lstm" else {})


@torch.no_grad()
def _set_gate(rnn: nn.RNNBase, gate: str, bias: float) -> None:
    """The two biases of a gate, in every layer: `bias` and 0."""
    index = _GATES[rnn.mode.lower()].index(gate)
    rows = slice(index * rnn.hidden_size, (index + 1) * rnn.hidden_size)
    for layer in range(rnn.num_layers):
        getattr(rnn, f"bias_ih_l{layer}")[rows] = bias
        getattr(rnn, f"bias_hh_l{layer}")[rows] = 0.0


@torch.no_grad()
def _start_recurrence(rnn: nn.RNNBase, how: str, generator: torch.Generator) -> None:
    """Every n × n block of every recurrent matrix."""
    for layer in range(rnn.num_layers):
        for block in getattr(rnn, f"weight_hh_l{layer}").split(rnn.hidden_size):
            if how == "identity":
                nn.init.eye_(block)
            else:
                nn.init.orthogonal_(block, generator=generator)


def _diagonal(
    width: int,
    inputs: int,
    outputs: int,
    layers: int,
    recurrent_init: str | None,
    generator: torch.Generator,
    options: dict[str, Any],
) -> RecurrentNet:
    if layers != 1 or recurrent_init is not None:
        raise ValueError(
            f"layers={layers}, recurrent_init={recurrent_init!r}: 'diagonal' has one layer, and "
            "its own start (smallest=, largest=, phase=). Stack DiagonalStateSpace layers yourself."
        )
    with torch.random.fork_rng(devices=[]):
        net = RecurrentNet(
            DiagonalStateSpace(inputs, width, generator=generator, **options), outputs
        )
    initialize(net.head, "xavier", generator=generator)
    return net
