"""Recurrent layers written out step by step, because torch.func.vmap cannot map the fused ones."""

from copy import deepcopy
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mappable(model: nn.Module) -> nn.Module:
    """A copy of the model whose recurrent layers are loops over time, with the same parameters.

    Args:
        model: Any network.

    Returns:
        A copy to call with `torch.func.functional_call`.

    Raises:
        ValueError: If a recurrent layer has two directions, dropout or a projection.
    """
    copy = deepcopy(model)
    for module in copy.modules():
        if isinstance(module, nn.RNNBase):
            if module.bidirectional or module.dropout or module.proj_size:
                raise ValueError(
                    f"models hold {module}: recurrent layers with two directions, dropout or a "
                    "projection cannot be trained many at once. Train them one by one with cu.fit."
                )
            module.forward = partial(_unrolled, module)
    return copy


def _unrolled(rnn: nn.RNNBase, x: Tensor, start: Tensor | tuple[Tensor, Tensor] | None = None):
    """What the layer returns, the outputs of all steps and the last state, one step at a time.

    The equations and the order of the gates are those of PyTorch's nn.RNN, nn.LSTM and nn.GRU.
    """
    if x.ndim != 3:
        raise ValueError(
            f"A recurrent layer got x of shape {tuple(x.shape)}: to train many models at once, "
            "(B, T, inputs) is expected, or (T, B, inputs) without batch_first."
        )
    cell, lstm = _CELLS[rnn.mode], rnn.mode == "LSTM"
    x = x.transpose(0, 1) if rnn.batch_first else x  # (T, B, inputs)
    if start is None:
        zeros = x.new_zeros(rnn.num_layers, x.shape[1], rnn.hidden_size)
        start = (zeros, zeros) if lstm else zeros
    start = start if lstm else (start,)
    ends = []
    for layer in range(rnn.num_layers):
        into, back, offset, bias = (
            getattr(rnn, f"{kind}_l{layer}", None)
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        if bias is not None and rnn.mode != "GRU":  # a GRU gates its second bias
            offset, bias = offset + bias, None  # added once, not at every step
        state, outputs = tuple(part[layer] for part in start), []
        for drive in F.linear(x, into, offset).unbind(0):
            state = cell(drive, F.linear(state[0], back, bias), *state)
            outputs.append(state[0])
        x = torch.stack(outputs)
        ends.append(state)
    last = tuple(torch.stack(part) for part in zip(*ends, strict=True))
    return x.transpose(0, 1) if rnn.batch_first else x, last if lstm else last[0]


def _tanh_step(drive: Tensor, echo: Tensor, h: Tensor) -> tuple[Tensor]:
    return (torch.tanh(drive + echo),)


def _relu_step(drive: Tensor, echo: Tensor, h: Tensor) -> tuple[Tensor]:
    return (torch.relu(drive + echo),)


def _lstm_step(drive: Tensor, echo: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = (drive + echo).chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru_step(drive: Tensor, echo: Tensor, h: Tensor) -> tuple[Tensor]:
    (r, z, n), (r_echo, z_echo, n_echo) = drive.chunk(3, dim=-1), echo.chunk(3, dim=-1)
    n = torch.tanh(n + torch.sigmoid(r + r_echo) * n_echo)
    z = torch.sigmoid(z + z_echo)
    return ((1 - z) * n + z * h,)


_CELLS = {"RNN_TANH": _tanh_step, "RNN_RELU": _relu_step, "LSTM": _lstm_step, "GRU": _gru_step}
