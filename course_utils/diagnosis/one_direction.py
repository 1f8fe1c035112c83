"""A bidirectional or packed call of a fused recurrent module as plain calls of one direction."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from .layer_calls import LayerCall

_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def one_direction(call: LayerCall) -> list[LayerCall]:
    """What the last layer did in each direction, as calls on plain tensors (batch, time, …).

    Of a packed sequence the longest ones are kept, which need no padding. A call that is plain and
    of one direction comes back as it is.

    Returns:
        One call or two; none for an input that is not understood.
    """
    rnn, packed = call.module, call.input if isinstance(call.input, PackedSequence) else None
    if packed is None and not rnn.bidirectional:
        return [call] if isinstance(call.input, Tensor) else []
    if packed is None and not (isinstance(call.input, Tensor) and call.input.dim() == 3):
        return []
    longest: Any = slice(None)
    if packed is not None:
        lengths = pad_packed_sequence(packed)[1]
        longest = lengths == lengths.max()

    def plain(value: Tensor | None) -> Tensor | None:
        if value is None or packed is None:
            return value if value is None or rnn.batch_first else value.transpose(0, 1)
        return pad_packed_sequence(packed._replace(data=value), batch_first=True)[0][longest]

    directions, layer = 2 if rnn.bidirectional else 1, rnn.num_layers - 1
    x = plain(packed.data if packed is not None else call.input)
    states = call.state if isinstance(call.state, tuple | list) else [call.state]
    states = [s[:, longest].detach() for s in states if s is not None]
    if x is None or call.output is None:
        return []
    x = x.detach()
    if layer:
        with torch.no_grad():
            below = _twin(rnn, range(layer), directions, rnn.input_size)
            x = below(x, _state(rnn, [s[: layer * directions] for s in states]))[0]
    sums = plain(call.cotangents.get("[0]" if packed is None else "[0][data]"))
    last = call.cotangents.get("[1][0]", call.cotangents.get("[1]"))
    last = None if last is None else last[:, longest]
    output = plain(call.output)
    calls = []
    for direction in range(directions):
        at = layer * directions + direction
        twin = _twin(rnn, range(layer, layer + 1), 1, x.shape[-1], "_reverse" * direction)
        width = twin.proj_size or twin.hidden_size
        columns = slice(direction * width, (direction + 1) * width)

        def ours(value: Tensor | None) -> Tensor | None:
            part = None if value is None else value[..., columns]  # noqa: B023
            return part.flip(1) if part is not None and direction else part  # noqa: B023

        cotangents = {"[0]": ours(sums), "[1][0]": None if last is None else last[at : at + 1]}
        calls.append(
            LayerCall(
                call.name,
                twin,
                input=x.flip(1) if direction else x,
                state=_state(rnn, [s[at : at + 1] for s in states]),
                output=ours(output),
                cotangents={path: value for path, value in cotangents.items() if value is not None},
            )
        )
    return calls


def _state(rnn: nn.RNNBase, parts: list[Tensor]) -> Any:
    return (tuple(parts) if isinstance(rnn, nn.LSTM) else parts[0]) if parts else None


def _twin(rnn: Any, layers: range, directions: int, features: int, suffix: str = "") -> nn.RNNBase:
    """A module with the weights of some of the layers."""
    options = {"nonlinearity": rnn.nonlinearity} if isinstance(rnn, nn.RNN) else {}
    if isinstance(rnn, nn.LSTM):
        options = {"proj_size": rnn.proj_size}
    twin = type(rnn)(
        features,
        rnn.hidden_size,
        len(layers),
        bias=rnn.bias,
        batch_first=True,
        bidirectional=directions == 2,
        **options,
    )
    with torch.no_grad():
        for new, old in enumerate(layers):
            for end in ("", "_reverse")[:directions]:
                for kind in _WEIGHTS:
                    value = getattr(rnn, f"{kind}_l{old}{suffix or end}", None)
                    if value is not None:
                        getattr(twin, f"{kind}_l{new}{end}").copy_(value)
    return twin.to(rnn.weight_ih_l0)
