"""LSUV's second step: run a network once and give each layer's output the variance 1."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..measuring.torch_internals import RunningNorms
from ..runtime import to_device
from .counting import MATRIX_LAYERS, RECURRENT
from .random_state import random_state_kept


def check_batch(batch: object) -> Tensor | tuple:
    """A batch to measure on, as it was handed over.

    Raises:
        ValueError: If it is missing, empty, or holds NaN or Inf.
        TypeError: If it is neither a tensor nor a tuple.

    >>> check_batch(torch.ones(4, 2)).shape
    torch.Size([4, 2])
    """
    if batch is None:
        raise ValueError("batch=None, but scheme 'lsuv' measures on a batch: pass batch=x.")
    if not isinstance(batch, Tensor | tuple):
        raise TypeError(
            f"batch={batch!r} must be a tensor, or a tuple of what the network is called with."
        )
    for part in (batch,) if isinstance(batch, Tensor) else batch:
        if isinstance(part, Tensor) and not part.numel():
            raise ValueError(f"batch has shape {tuple(part.shape)}: it holds no example.")
        if isinstance(part, Tensor) and not part.isfinite().all():
            raise ValueError("batch holds NaN or Inf: clean the data first.")
    return batch


@contextmanager
def restored_on_failure(module: nn.Module) -> Iterator[None]:
    """Parameters and buffers are as they were if what happens inside raises."""
    tensors = [*module.parameters(), *module.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        raise


@torch.no_grad()
def unit_variance(module: nn.Module, batch: Tensor | tuple[Tensor, ...]) -> None:
    """Divide each layer's weights by the standard deviation of its output, in one run.

    Each layer is divided before the next one sees its output. Biases must be 0. Dropout is off;
    batch norms use the batch, as in a first training step. Mode, hooks and buffers are as they
    were afterwards.

    Args:
        module: The network, changed in place.
        batch: What it is called with, one tensor or a tuple of arguments.

    Raises:
        ValueError: If the batch does not run through, or a layer's output is constant or not
            finite.

    References:
        D. Mishkin and J. Matas, "All you need is a good init", ICLR 2016, Algorithm 1.

    >>> net = nn.Sequential(nn.Linear(9, 99, bias=False), nn.ReLU(), nn.Linear(99, 9, bias=False))
    >>> x = torch.arange(45.0).reshape(5, 9)
    >>> unit_variance(net, x)
    >>> [round(layer(x).detach().var(correction=0).item(), 3) for layer in (net[0], net)]
    [1.0, 1.0]
    """
    where = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    arguments = to_device((batch,) if isinstance(batch, Tensor) else batch, where)
    done: set[int] = set()  # parameters that were divided: shared ones only once

    def after(layer: nn.Module, _: tuple, output: Tensor, *, place: str) -> Tensor | None:
        weight = layer.get_parameter("weight")
        if id(weight) in done:
            return None
        done.add(id(weight))
        std = _std(place, output)
        weight.div_(std)
        return output / std

    def ahead(layer: nn.RNNBase | nn.RNNCellBase, inputs: tuple, *, place: str) -> None:
        if id(layer) not in done:
            done.add(id(layer))
            _divide_input_matrices(place, layer, inputs[0])

    with _measuring(module) as handles:
        for name, layer in module.named_modules():
            place = f"layer {name}" if name else "the layer"
            if isinstance(layer, MATRIX_LAYERS):
                handles.append(layer.register_forward_hook(partial(after, place=place)))
            elif isinstance(layer, RECURRENT):
                handles.append(layer.register_forward_pre_hook(partial(ahead, place=place)))
        try:
            module(*arguments)
        except (RuntimeError, TypeError, IndexError) as error:
            shapes = [tuple(part.shape) for part in arguments if isinstance(part, Tensor)]
            raise ValueError(
                f"batch of shape {', '.join(map(str, shapes))} does not run through the network: "
                f"{error}"
            ) from error


@contextmanager
def _measuring(module: nn.Module) -> Iterator[list]:
    """A state to measure in; everything but the weights is as it was afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    buffers = [
        (part, name, buffer, buffer.clone())
        for part in module.modules()
        for name, buffer in part.named_buffers(recurse=False)
    ]
    handles: list = []
    try:
        for part, _ in modes:
            part.training = isinstance(part, RunningNorms)
        with random_state_kept():
            yield handles
    finally:
        for handle in handles:
            handle.remove()
        for part, mode in modes:
            part.training = mode
        for part, name, buffer, value in buffers:
            buffer.copy_(value)
            part._buffers[name] = buffer


def _divide_input_matrices(
    name: str, layer: nn.RNNBase | nn.RNNCellBase, sequence: Tensor | PackedSequence
) -> None:
    """Give W x_t of each gate, level and direction the variance 1; the state starts at 0."""
    if not isinstance(layer, nn.RNNBase):
        _divide_gates(name, layer, "weight_ih", sequence)
        return
    for level in range(layer.num_layers):
        for suffix in ("", "_reverse") if layer.bidirectional else ("",):
            _divide_gates(name, layer, f"weight_ih_l{level}{suffix}", sequence)
        if level < layer.num_layers - 1:
            sequence = _one_level(layer, level)(sequence)[0]


def _divide_gates(
    name: str,
    layer: nn.RNNBase | nn.RNNCellBase,
    matrix: str,
    sequence: Tensor | PackedSequence,
) -> None:
    data = sequence.data if isinstance(sequence, PackedSequence) else sequence
    weight = layer.get_parameter(matrix)
    for gate in weight.chunk(weight.shape[0] // layer.hidden_size):
        gate.div_(_std(name, F.linear(data, gate)))


def _one_level(layer: nn.RNNBase, level: int) -> nn.RNNBase:
    """One level of a stacked recurrent layer as a layer of its own."""
    options: dict[str, Any] = {}
    if isinstance(layer, nn.RNN):
        options["nonlinearity"] = layer.nonlinearity
    if isinstance(layer, nn.LSTM):
        options["proj_size"] = layer.proj_size
    kind: Callable[..., nn.RNNBase] = type(layer)
    weight = layer.get_parameter(f"weight_ih_l{level}")
    alone = kind(
        weight.shape[1],
        layer.hidden_size,
        bias=layer.bias,
        batch_first=layer.batch_first,
        bidirectional=layer.bidirectional,
        **options,
    ).to(weight)
    for name, parameter in alone.named_parameters():
        parameter.copy_(layer.get_parameter(name.replace("_l0", f"_l{level}")))
    return alone


def _std(name: str, output: Tensor) -> float:
    """Standard deviation of all numbers of an output, which must vary."""
    precise = torch.float32 if output.device.type == "mps" else torch.float64  # mps has no other
    variance = output.to(precise).var(correction=0).item()
    if not 0 < variance < float("inf"):
        raise ValueError(
            f"The output of {name} has variance {variance:g} on this batch, so it cannot be given "
            "variance 1: pass a batch of several different examples, and check that the layers "
            "before it are alive."
        )
    return variance**0.5
