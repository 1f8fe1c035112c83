"""The tensors in a nest of tuples, lists, dicts and dataclasses."""

from collections.abc import Iterator

from torch import Tensor, nn


def tensors_in(output: object, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every floating or complex tensor in a nest of tuples, lists, dicts and dataclasses.

    Yields:
        Pairs of path and tensor: "" for a bare tensor, "[1][0]" in tuples, "[logits]" in dicts.
    """
    if isinstance(output, Tensor):
        if output.is_floating_point() or output.is_complex():
            yield path, output
    elif isinstance(output, dict):
        for key, value in output.items():
            yield from tensors_in(value, f"{path}[{key}]")
    elif isinstance(output, nn.utils.rnn.PackedSequence):
        yield from tensors_in(output.data, f"{path}[data]")
    elif isinstance(output, list | tuple):
        names = getattr(output, "_fields", range(len(output)))
        for key, value in zip(names, output, strict=True):
            yield from tensors_in(value, f"{path}[{key}]")
    elif hasattr(output, "__dataclass_fields__") and not isinstance(output, type):
        for key in output.__dataclass_fields__:
            yield from tensors_in(getattr(output, key), f"{path}[{key}]")
