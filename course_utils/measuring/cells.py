"""One time step of nn.RNN, nn.LSTM and nn.GRU, written out, with the weights of the module."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

State = tuple[Tensor, ...]
"""(h,) or, for an LSTM, (h, c)."""


@runtime_checkable
class DiagonalCell(Protocol):
    """A diagonal state space taken apart, as `networks.DiagonalStateSpace` is."""

    input_size: int
    hidden_size: int
    num_layers: int
    batch_first: bool
    bidirectional: bool

    def eigenvalues(self) -> Tensor:
        """λ, (n,)."""

    def drive(self, x: Tensor) -> Tensor:
        """What the input adds to the state, (…, n)."""

    def read(self, states: Tensor) -> Tensor:
        """Outputs of states."""


def _tanh(drive: Tensor, echo: Tensor, h: Tensor) -> State:
    return (torch.tanh(drive + echo),)


def _relu(drive: Tensor, echo: Tensor, h: Tensor) -> State:
    return (torch.relu(drive + echo),)


def _lstm(drive: Tensor, echo: Tensor, h: Tensor, c: Tensor) -> State:
    i, f, g, o = (drive + echo).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru(drive: Tensor, echo: Tensor, h: Tensor) -> State:
    (r, z, n), (r_echo, z_echo, n_echo) = drive.chunk(3, dim=-1), echo.chunk(3, dim=-1)
    n = torch.tanh(n + torch.sigmoid(r + r_echo) * n_echo)
    z = torch.sigmoid(z + z_echo)
    return ((1 - z) * n + z * h,)


GATES: dict[str, Callable[..., State]] = {
    "RNN_TANH": _tanh,
    "RNN_RELU": _relu,
    "LSTM": _lstm,
    "GRU": _gru,
}
"""By `rnn.mode`: from what the input drives, what the last h echoes, and the state, to the next.

RNN: h_t = φ(W_ih x_t + b_ih + W_hh h_(t−1) + b_hh).
LSTM: c_t = f c_(t−1) + i g and h_t = o tanh(c_t), times W_hr with a projection.
GRU: h_t = (1 − z) n + z h_(t−1) with n = tanh(W_in x_t + b_in + r (W_hn h_(t−1) + b_hn)).
"""


def cell(rnn: nn.RNNBase, layer: int) -> Callable[[Tensor, State], State]:
    """The step of one layer: from input x_t and state to the next state.

    Args:
        rnn: The fused module.
        layer: Index of the layer in the stack.

    Returns:
        A function of x_t (batch, features) and the state; see `GATES`.
    """
    into, back, offset, bias, projection = (
        getattr(rnn, f"{kind}_l{layer}", None)
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    )
    assert into is not None and back is not None

    def step(x: Tensor, state: State) -> State:
        drive, echo = linear(x, into, offset), linear(state[0], back, bias)
        h, *rest = GATES[rnn.mode](drive, echo, *state)
        return h if projection is None else linear(h, projection), *rest

    return step


def initial_states(rnn: nn.RNNBase, state: Any, batch: int, like: Tensor) -> list[State]:
    """The state before the first step, one per layer; zeros when `state` is None.

    Raises:
        ValueError: If the state does not have the shape that the module takes.
    """
    sizes = [getattr(rnn, "proj_size", 0) or rnn.hidden_size]
    if rnn.mode == "LSTM":
        sizes.append(rnn.hidden_size)
    shapes = [(rnn.num_layers, batch, size) for size in sizes]
    if state is None:
        parts = [like.new_zeros(shape) for shape in shapes]
    else:
        parts = list(state) if isinstance(state, tuple | list) else [state]
        parts = [p.unsqueeze(1) if isinstance(p, Tensor) and p.dim() == 2 else p for p in parts]
    given = [tuple(part.shape) if isinstance(part, Tensor) else part for part in parts]
    if given != shapes:
        raise ValueError(
            f"state has the shapes {given}: this {rnn.mode} takes {shapes}, or None for zeros."
        )
    return list(zip(*(part.unbind(0) for part in parts), strict=True))
