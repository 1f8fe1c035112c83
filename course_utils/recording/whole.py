"""Tensors that are not one dense tensor: shards of a larger one, and ragged batches."""

import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..measuring import rms_of, rms_on_device

_SHARDING = {"FSDPModule", "FullyShardedDataParallel"}


def is_shard(tensor: object) -> bool:
    """Whether a tensor is a DTensor, of which each process may hold a part."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local_part(tensor: Any) -> Tensor:
    """What this process holds of a tensor, in the same memory."""
    return tensor.detach().to_local() if is_shard(tensor) else tensor


def shards_modules(model: nn.Module) -> bool:
    """Whether FSDP runs the model with other parameters than those that it lists."""
    kinds = {kind.__name__ for module in model.modules() for kind in type(module).__mro__}
    return not _SHARDING.isdisjoint(kinds)


def settles_later() -> bool:
    """Whether processes train together, so that `.grad` is whole only after callbacks of theirs."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def dense(tensor: Any) -> Tensor:
    """All numbers of an output as a plain tensor: the rows of a ragged batch, the whole of shards.

    Shards are gathered, so all processes have to come here.
    """
    if is_shard(tensor):
        return tensor.detach().full_tensor()
    if tensor.is_nested:
        tensor = tensor.detach()
        if tensor.is_contiguous():
            return tensor.values()
        return torch.cat([part.reshape(-1) for part in tensor.unbind()])
    return tensor


def is_odd(tensor: Tensor) -> bool:
    """Whether an output or gradient has to go through `dense`."""
    return tensor.is_nested or is_shard(tensor)


def can_be_read(parameter: nn.Parameter) -> bool:
    """Whether a parameter of a class of its own gives an RMS, or is a shard."""
    plain = type(parameter) in (nn.Parameter, nn.UninitializedParameter, Tensor)
    if plain or is_shard(parameter):
        return True
    try:
        value = parameter.detach()
        rms = (rms_of if value.is_cpu else rms_on_device)(value)[0]
        copy = torch.empty_like(value).copy_(value)
    except Exception:
        return False
    return type(rms) in (float, Tensor) and type(copy) is type(value)


class Shards:
    """RMS of whole tensors of which each process holds a part.

    One sum of a number per tensor over the processes that share it; the number of entries of the
    whole is known. Every process has to come here with the same parameters.

    Args:
        parameters: Those whose sizes, or whose gradients' sizes, are asked for.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters

    def combine(self, tensors: Sequence[Tensor | None], local: list) -> list:
        """RMS of whole tensors.

        Args:
            tensors: One or None per parameter, plain or sharded.
            local: RMS of what is here of each.

        Returns:
            Floats, or 0-d tensors on the device; NaN for None.
        """
        result = list(local)
        members: dict[tuple, list[tuple[int, Any, float | Tensor]]] = {}
        for i, parameter in enumerate(self._parameters):
            tensor = tensors[i]
            like: Any = parameter if tensor is None else tensor
            if not is_shard(like):
                continue
            if any(placement.is_partial() for placement in like.placements):
                value = like.full_tensor()
                result[i] = (rms_of if value.is_cpu else rms_on_device)(value)[0]
                continue
            split = tuple(
                dim for dim, placement in enumerate(like.placements) if not placement.is_replicate()
            )
            if split:
                here = 0 if tensor is None else like.to_local().numel()
                square: float | Tensor = local[i] * local[i] * here if here else 0.0
                members.setdefault((like.device_mesh, split), []).append((i, like, square))
        for (mesh, split), shards in members.items():
            self._sum(mesh, split, shards, result)
        return [
            math.nan if tensor is None else rms for tensor, rms in zip(tensors, result, strict=True)
        ]

    @staticmethod
    def _sum(mesh: Any, split: tuple[int, ...], shards: list, result: list) -> None:
        device = mesh.device_type
        squares = torch.stack(
            [torch.as_tensor(square, dtype=torch.float64, device=device) for _, _, square in shards]
        )
        for dim in split:
            torch.distributed.all_reduce(squares, group=mesh.get_group(dim))
        wholes = torch.tensor([like.numel() for _, like, _ in shards], dtype=torch.float64)
        sizes = (squares / wholes.to(device)).sqrt()
        values: list = sizes.tolist() if device == "cpu" else list(sizes.unbind())
        for (i, _, _), value in zip(shards, values, strict=True):
            result[i] = value
