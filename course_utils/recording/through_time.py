"""Gradients through time: a recurrent network unrolled, so that every h_t has a gradient."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from ..measuring import DiagonalCell, OutputNumbers, cell, initial_states, rms_of, rms_on_device
from .assemble import Assembly
from .gradient_record import GradientRecord
from .open_step import COUNT, GRAD_INF, GRAD_NAN, GRAD_ORDER, GRAD_RMS, ClosedStep, Packed
from .parameters import count_of, rms_of_all


def record_through_time(
    rnn: Any,
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    state: Tensor | tuple[Tensor, Tensor] | None = None,
) -> GradientRecord:
    """Record ∂L/∂h_t of an nn.RNN, nn.LSTM, nn.GRU or diagonal state space for each time step t.

    The fused module computes the whole sequence at once, and a hook on it sees no gradient of
    an inner h_t. Here the same weights are applied one step at a time.

    ∂L/∂h_t counts every path from h_t to the loss: directly, and through h_(t+1), h_(t+2), ….
    ∂L/∂c_t of an LSTM does too, the path through h_t included. A complex state counts with its real
    and its imaginary parts, so its RMS is that of |h| over √2.

    Args:
        rnn: The module, with any number of layers, in one direction. It is left as it is: no
            hook, no change of `.grad`. Dropout between layers draws new masks, in another order
            than the fused module.
        x: The input, shaped as the module takes it: (T, batch, features), with batch_first
            (batch, T, features), or (T, features).
        loss: From the output sequence, shaped as `rnn(x)[0]`, to a scalar.
        state: h_0, or (h_0, c_0) for an LSTM, as for `rnn(x, state)`; zeros when None. A diagonal
            state space starts from zeros.

    Returns:
        A record of one step. Its layers are `h_1` … `h_T` of the top layer, and `layer0.h_1` …
        of the layers below it; an LSTM also has `c_1` …. `factor_per_layer()` is the factor per
        time step, backward in time, of the top layer's h; `total_factor()` is h_1 over h_T.

    Raises:
        TypeError: If `rnn` is not an nn.RNN, nn.LSTM, nn.GRU or `networks.DiagonalStateSpace`, `x`
            not a tensor, or `loss` not a function.
        ValueError: If the network is bidirectional, `x` or `state` has the wrong shape, or the
            loss is not a scalar that depends on the network.

    References:
        Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997.
        Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP 2014.

    >>> rnn = nn.RNN(1, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = rnn.weight_hh_l0.fill_(0.5)
    >>> record = record_through_time(rnn, torch.zeros(4, 1, 1), lambda output: output[-1].sum())
    >>> [round(value, 6) for value in record.grad_rms[0].tolist()]
    [0.125, 0.25, 0.5, 1.0]
    """
    _check(rnn, x, loss)
    sequence = x.unsqueeze(1) if x.dim() == 2 else x
    if rnn.batch_first and x.dim() == 3:
        sequence = sequence.transpose(0, 1)
    with torch.enable_grad():
        if isinstance(rnn, nn.RNNBase):
            states = initial_states(rnn, state, sequence.shape[1], sequence)
            names, values, output = _unroll(rnn, sequence, states)
        else:
            _refuse_state(state)
            names, values, output = _unroll_diagonal(rnn, sequence)
        if x.dim() == 2:
            output = output.squeeze(1)
        elif rnn.batch_first:
            output = output.transpose(0, 1)
        result = loss(output)
        _check_loss(result)
        named = list(rnn.named_parameters())
        watched = [v for v in [*values, *(p for _, p in named)] if v.requires_grad]
        found = torch.autograd.grad(result, watched, allow_unused=True)
    gradients = {id(v): g for v, g in zip(watched, found, strict=True)}
    return _as_record(rnn, names, values, named, gradients, result)


def _unroll(
    rnn: nn.RNNBase, sequence: Tensor, states: list
) -> tuple[list[str], list[Tensor], Tensor]:
    """Names and values of all h_t and c_t, and the output sequence (T, batch, features)."""
    names: list[str] = []
    values: list[Tensor] = []
    layer_input = list(sequence.unbind(0))
    for layer in range(rnn.num_layers):
        top = layer == rnn.num_layers - 1
        step, now, outputs = cell(rnn, layer), states[layer], []
        for t, x in enumerate(layer_input, start=1):
            now = step(x, now)
            for letter, part in zip("hc", now, strict=False):
                names.append(f"{letter}_{t}" if top else f"layer{layer}.{letter}_{t}")
                values.append(part)
            outputs.append(now[0])
        layer_input = outputs
        if rnn.dropout and rnn.training and not top:
            layer_input = [dropout(h, rnn.dropout) for h in outputs]
    return names, values, torch.stack(outputs)


def _unroll_diagonal(
    layer: DiagonalCell, sequence: Tensor
) -> tuple[list[str], list[Tensor], Tensor]:
    """As `_unroll`; each h_t as pairs of a real and an imaginary part."""
    factors, drive = layer.eigenvalues(), layer.drive(sequence)
    names: list[str] = []
    values: list[Tensor] = []
    h = torch.zeros_like(drive[0])
    for t, driven in enumerate(drive.unbind(0), start=1):
        values.append(torch.view_as_real(factors * h + driven))
        names.append(f"h_{t}")
        h = torch.view_as_complex(values[-1])
    return names, values, layer.read(torch.view_as_complex(torch.stack(values)))


def _refuse_state(state: object) -> None:
    if state is not None:
        raise ValueError("state was given, but a diagonal state space starts from zeros: None.")


def _as_record(
    rnn: Any,
    names: list[str],
    values: list[Tensor],
    named: list[tuple[str, nn.Parameter]],
    gradients: Mapping[int, Tensor | None],
    loss: Tensor,
) -> GradientRecord:
    reducer, rows = OutputNumbers(), []
    on_cpu = loss.device.type == "cpu"
    measure = rms_of if on_cpu else rms_on_device
    for i, value in enumerate(values):
        reduce = reducer.on_cpu if on_cpu else reducer.on_device
        row = reduce(value.detach(), None, False)
        row += (math.nan, 0.0, 0.0, math.nan, 0.0)
        row[COUNT] = value.numel()
        gradient = gradients.get(id(value))
        if gradient is not None:
            row[GRAD_RMS], row[GRAD_NAN], row[GRAD_INF] = measure(gradient)
            row[GRAD_ORDER] = float(len(values) - i)
        rows.append(row)
    numbers = [number for row in rows for number in row]
    own = [parameter for _, parameter in named]
    own_gradients = [gradients.get(id(parameter)) for parameter in own]
    step = ClosedStep(
        step=0,
        keys=tuple((name, 1, "") for name in names),
        outputs=Packed(numbers, not on_cpu),
        parameters=Packed([*rms_of_all(own), *rms_of_all(own_gradients)], not on_cpu),
        has_grad=tuple(gradient is not None for gradient in own_gradients),
        loss=float(loss.detach()),
    )
    types = {name: type(rnn).__name__ for name in names}
    top = {name for name in names if name.startswith("h_")}
    counts = tuple(map(count_of, own))
    return Assembly().record([step], tuple(name for name, _ in named), counts, types, top, set())


def _check(rnn: Any, x: object, loss: object) -> None:
    known = isinstance(rnn, nn.RNN | nn.LSTM | nn.GRU | DiagonalCell)  # no narrowing: it is Any
    if not known:
        raise TypeError(
            f"rnn={rnn!r} is a {type(rnn).__name__}: record_through_time() takes an nn.RNN, "
            "nn.LSTM, nn.GRU or DiagonalStateSpace. Cells that you call yourself are watched by "
            "record()."
        )
    if rnn.bidirectional:
        raise ValueError(
            "rnn is bidirectional: its output has no single order in time. Record one direction, "
            "with bidirectional=False."
        )
    if not isinstance(x, Tensor):
        raise TypeError(f"x={x!r} is a {type(x).__name__}: expected a tensor.")
    if x.dim() not in (2, 3) or x.shape[-1] != rnn.input_size:
        order = "(batch, T, features)" if rnn.batch_first else "(T, batch, features)"
        raise ValueError(
            f"x has the shape {tuple(x.shape)}: this module takes {order} or (T, features) with "
            f"{rnn.input_size} features."
        )
    if x.shape[1 if rnn.batch_first and x.dim() == 3 else 0] == 0:
        raise ValueError(f"x has the shape {tuple(x.shape)}: it needs at least one time step.")
    weight = next(rnn.parameters())
    if x.dtype != weight.dtype or x.device != weight.device:
        raise ValueError(
            f"x is {x.dtype} on {x.device}, the module {weight.dtype} on {weight.device}: "
            "convert one of them with .to(...)."
        )
    if not callable(loss):
        raise TypeError(
            f"loss={loss!r} must be a function from the output sequence to a scalar, for example "
            "lambda output: output[-1].square().mean()."
        )


def _check_loss(value: object) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss returned {shape}: expected a scalar tensor, such as a mean.")
    if not value.requires_grad:
        raise ValueError(
            "loss returned a tensor that does not depend on the network: compute it from the "
            "output it is given, without detach() or no_grad()."
        )
