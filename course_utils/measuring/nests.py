"""The tensors in a nest of tuples, lists, dicts and plain objects."""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from types import ModuleType

from torch import Tensor, nn


def tensors_in(
    output: object, path: str = "", *, integers: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """Every floating or complex tensor in a nest of tuples, lists, dicts and plain objects.

    Args:
        output: The nest. Of an object that is no container its attributes are looked at, one deep:
            a dataclass, a namespace, a distribution, a batch of graphs.
        path: Where it stands.
        integers: Tensors of integers and booleans too.

    Yields:
        Pairs of path and tensor: "" for a bare tensor, "[1][0]" in tuples, "[logits]" in dicts.
    """
    if isinstance(output, Tensor):
        if integers or output.is_floating_point() or output.is_complex():
            yield path, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from tensors_in(value, f"{path}[{key}]", integers=integers)
    elif isinstance(output, nn.utils.rnn.PackedSequence):
        yield from tensors_in(output.data, f"{path}[data]")
    elif isinstance(output, list | tuple):
        names = getattr(output, "_fields", range(len(output)))
        for key, value in zip(names, output, strict=True):
            yield from tensors_in(value, f"{path}[{key}]", integers=integers)
    elif hasattr(output, "__dict__") and not isinstance(output, type | nn.Module | ModuleType):
        for key, value in vars(output).items():
            if is_dataclass(output) or isinstance(value, Tensor | Mapping | list | tuple):
                yield from tensors_in(value, f"{path}[{key}]", integers=integers)
