"""Recurrent networks."""

from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import integer, one_of
from .initialization import initialize
from .schemes import INITIALIZERS


class RecurrentNet(nn.Module):
    """A recurrent layer read out at its last time step; see `recurrent`."""

    def __init__(self, rnn: nn.RNNBase, outputs: int):
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
    **options: Any,
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
    one_of("kind", kind, _RECURRENT)
    width, layers = integer("width", width, 1), integer("layers", layers, 1)
    inputs, outputs = integer("inputs", inputs, 1), integer("outputs", outputs, 1)
    one_of("init", init, INITIALIZERS)
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
    return initialize(net, init, generator=generator, **options)
