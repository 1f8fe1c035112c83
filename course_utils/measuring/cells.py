"""One time step of nn.RNN, nn.LSTM and nn.GRU, written out, with the weights of the module."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

State = tuple[Tensor, ...]
"""(h,) or, for an LSTM, (h, c)."""


def cell(rnn: nn.RNNBase, layer: int) -> Callable[[Tensor, State], State]:
    """The step of one layer: from input x_t and state to the next state.

    RNN: h_t = φ(W_ih x_t + b_ih + W_hh h_(t−1) + b_hh).
    LSTM: c_t = f c_(t−1) + i g and h_t = o tanh(c_t), times W_hr with a projection.
    GRU: h_t = (1 − z) n + z h_(t−1) with n = tanh(W_in x_t + b_in + r (W_hn h_(t−1) + b_hn)).

    Args:
        rnn: The fused module.
        layer: Index of the layer in the stack.

    Returns:
        A function of x_t (batch, features) and the state.
    """

    def weight(kind: str) -> Tensor | None:
        return getattr(rnn, f"{kind}_l{layer}", None)

    def from_input(x: Tensor) -> Tensor:
        return linear(x, weight("weight_ih"), weight("bias_ih"))

    def from_state(h: Tensor) -> Tensor:
        return linear(h, weight("weight_hh"), weight("bias_hh"))

    def plain(x: Tensor, state: State) -> State:
        squash = torch.relu if rnn.mode == "RNN_RELU" else torch.tanh
        return (squash(from_input(x) + from_state(state[0])),)

    def lstm(x: Tensor, state: State) -> State:
        h, c = state
        i, f, g, o = (from_input(x) + from_state(h)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        projection = weight("weight_hr")
        return (h if projection is None else linear(h, projection)), c

    def gru(x: Tensor, state: State) -> State:
        (h,) = state
        input_r, input_z, input_n = from_input(x).chunk(3, dim=1)
        state_r, state_z, state_n = from_state(h).chunk(3, dim=1)
        r, z = torch.sigmoid(input_r + state_r), torch.sigmoid(input_z + state_z)
        n = torch.tanh(input_n + r * state_n)
        return ((1 - z) * n + z * h,)

    return {"LSTM": lstm, "GRU": gru}.get(rnn.mode, plain)


def initial_states(rnn: nn.RNNBase, state: object, batch: int, like: Tensor) -> list[State]:
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
