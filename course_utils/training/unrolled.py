"""Recurrent layers written out step by step, because torch.func.vmap cannot map the fused ones."""

from copy import deepcopy
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..measuring import GATES, State, initial_states


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
            module.__dict__["forward"] = partial(_unrolled, module)
    return copy


def _unrolled(
    rnn: nn.RNNBase, x: Tensor, start: Tensor | State | None = None
) -> tuple[Tensor, Tensor | State]:
    """What the layer returns, the outputs of all steps and the last state, one step at a time.

    The equations and the order of the gates are those of PyTorch's nn.RNN, nn.LSTM and nn.GRU.
    """
    if x.ndim != 3:
        raise ValueError(
            f"A recurrent layer got x of shape {tuple(x.shape)}: to train many models at once, "
            "(B, T, inputs) is expected, or (T, B, inputs) without batch_first."
        )
    x = x.transpose(0, 1) if rnn.batch_first else x  # (T, B, inputs)
    ends: list[State] = []
    for layer, state in enumerate(initial_states(rnn, start, x.shape[1], x)):
        into, back, offset, bias = (
            getattr(rnn, f"{kind}_l{layer}", None)
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        assert into is not None and back is not None
        if bias is not None and offset is not None and rnn.mode != "GRU":
            offset, bias = offset + bias, None  # added once, not at every step; a GRU gates one
        outputs = []
        for drive in F.linear(x, into, offset).unbind(0):
            state = GATES[rnn.mode](drive, F.linear(state[0], back, bias), *state)
            outputs.append(state[0])
        x = torch.stack(outputs)
        ends.append(state)
    last = tuple(torch.stack(part) for part in zip(*ends, strict=True))
    return x.transpose(0, 1) if rnn.batch_first else x, last if len(last) > 1 else last[0]
