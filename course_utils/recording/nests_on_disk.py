"""Nests of tensors as JSON and plain arrays, and back: no pickle, so reading one runs no code."""

import math
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import is_dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..measuring import from_json, to_json

_BY_SIZE = {1: torch.uint8, 2: torch.uint16, 4: torch.int32, 8: torch.int64}


class NotKept(ValueError):
    """Something in a nest that could not be written down, and so cannot be given back."""


def encoded(value: Any, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """A nest as what JSON can hold; the numbers of its tensors go into `arrays`.

    Tuples, lists, dicts, named tuples, packed sequences and objects with tensors as attributes
    are followed. What is none of these is named, and reading it back raises `NotKept`.

    Args:
        value: The nest.
        arrays: Where its arrays go, by the names that the result refers to.
    """
    if value is None or isinstance(value, bool | int | str):
        return {"kind": "plain", "value": value}
    if isinstance(value, float):
        return {"kind": "float", "value": to_json(value)}
    if isinstance(value, Tensor):
        return _of_tensor(value, arrays)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufcU":
        return {"kind": "array", "array": _put(value, arrays)}
    if isinstance(value, nn.utils.rnn.PackedSequence):
        return {"kind": "packed", "items": [encoded(part, arrays) for part in value]}
    if isinstance(value, Mapping):
        pairs = [[encoded(k, arrays), encoded(v, arrays)] for k, v in value.items()]
        return {"kind": "dict", "items": pairs}
    if isinstance(value, list | tuple):
        items = [encoded(item, arrays) for item in value]
        if (fields := getattr(value, "_fields", None)) is not None:
            return {"kind": "named", "fields": list(fields), "items": items}
        return {"kind": "list" if isinstance(value, list) else "tuple", "items": items}
    if is_dataclass(value) or any(
        isinstance(v, Tensor) for v in getattr(value, "__dict__", {}).values()
    ):
        inside = {name: encoded(held, arrays) for name, held in vars(value).items()}
        return {"kind": "object", "items": inside}
    return {"kind": "missing", "value": type(value).__name__}


def _of_tensor(tensor: Tensor, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    plain = tensor.detach()
    if plain.is_nested or plain.is_quantized or plain.is_meta:
        return {"kind": "missing", "value": f"{type(tensor).__name__} without plain memory"}
    dense = plain.to_dense().cpu().resolve_conj().resolve_neg().contiguous()
    try:
        values = dense.numpy()
    except TypeError:  # bfloat16 and the like: the bits, with the name of the format
        values = dense.reshape(-1).view(_BY_SIZE[dense.element_size()]).numpy()
    return {
        "kind": "tensor",
        "array": _put(values, arrays),
        "dtype": str(dense.dtype).removeprefix("torch."),
        "shape": list(dense.shape),
        "device": tensor.device.type,
        "requires_grad": tensor.requires_grad,
    }


def _put(values: np.ndarray, arrays: dict[str, np.ndarray]) -> str:
    name = str(len(arrays))
    arrays[name] = values
    return name


def decoded(item: dict[str, Any], arrays: Mapping[str, np.ndarray], device: Any = "cpu") -> Any:
    """The nest that `encoded` took down.

    A mapping comes back as a dict, an object as a namespace with its attributes.

    Args:
        item: What it returned.
        arrays: The arrays.
        device: Where tensors go that were not on the CPU.

    Raises:
        NotKept: If a part of it could not be written down.
    """
    kind = item["kind"]
    if kind == "missing":
        raise NotKept(f"it held a {item['value']}, which is no tensor, number, list or dict")
    if kind == "plain":
        return item["value"]
    if kind == "float":
        return from_json(item["value"])
    if kind == "tensor":
        return _tensor(item, arrays, device)
    if kind == "array":
        return arrays[item["array"]]
    if kind == "dict":
        pairs = [[decoded(part, arrays, device) for part in pair] for pair in item["items"]]
        return {key: value for key, value in pairs}
    if kind == "object":
        values = {k: decoded(v, arrays, device) for k, v in item["items"].items()}
        return SimpleNamespace(**values)
    items = [decoded(part, arrays, device) for part in item["items"]]
    if kind == "packed":
        return nn.utils.rnn.PackedSequence(*items)
    if kind == "named":
        return namedtuple("Batch", item["fields"])(*items)
    return items if kind == "list" else tuple(items)


def _tensor(item: dict[str, Any], arrays: Mapping[str, np.ndarray], device: Any) -> Tensor:
    dtype = getattr(torch, item["dtype"])
    values = torch.from_numpy(arrays[item["array"]].copy())
    values = values.view(dtype) if values.dtype is not dtype else values
    tensor = values.reshape(item["shape"])
    if math.prod(item["shape"]) and item["device"] != "cpu":
        tensor = tensor.to(device)
    return tensor.requires_grad_(item["requires_grad"])
