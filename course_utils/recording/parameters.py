"""RMS of parameters and of their gradients in fused calls, and the size of an update."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..measuring import SMALL, rms_of, rms_on_device, rms_together, trusted
from ..measuring.torch_internals import (
    foreach_copy_,
    foreach_norm,
    foreach_sub_,
    set_grad_enabled,
)
from .whole import Shards, is_shard, local_part

TOGETHER = 4
"""Small tensors of one shape from which on they are measured in one go."""
SHORT = 1 << 12
"""Entries up to which a vector is joined with others."""


def readable(tensor: Tensor) -> bool:
    """Whether a parameter or gradient has numbers in it yet."""
    return not isinstance(tensor, nn.UninitializedParameter) and not tensor.is_meta


def count_of(tensor: Tensor) -> int:
    """How many numbers a parameter has; 0 where that is not known yet."""
    return 0 if isinstance(tensor, nn.UninitializedParameter) else tensor.numel()


class Sizes:
    """RMS of all parameters, of all their gradients, or of both, in two fused calls.

    It knows the parameters beforehand: where all of them are plain float32 CPU tensors, as they
    usually are, one fused norm reads the large ones, and what it cannot be trusted with
    is measured again. Short vectors (biases) are joined and squared in float64, and small ones of
    one shape are measured together, since a norm of each would cost more than reading it.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._shards = Shards(parameters) if any(map(is_shard, parameters)) else None
        self._plain = (
            bool(parameters)
            and not self._shards
            and all(
                readable(p) and p.is_cpu and p.dtype is torch.float32 and p.numel()
                for p in parameters
            )
        )
        self._counts = [p.numel() if self._plain else 0 for p in parameters]
        self._short = [self._plain and p.dim() == 1 and p.numel() <= SHORT for p in parameters]
        self._shapes = [tuple(p.shape) if self._plain else () for p in parameters]
        self._plans: dict[int, _Plan] = {}

    def measure(self, *groups: list) -> list:
        """RMS of each tensor, as `rms_of_all`.

        Args:
            groups: One list of tensors per group, each with one tensor or None per parameter.

        Returns:
            The RMS of all tensors of all groups, one after the other.
        """
        if self._shards is not None:
            return [rms for group in groups for rms in self._whole(group, group)]
        tensors = groups[0] if len(groups) == 1 else [t for group in groups for t in group]
        if not self._plain:
            return rms_of_all(tensors)
        plan = self._plans.get(len(groups))
        if plan is None:
            n = len(groups)
            plan = _Plan(self._counts * n, self._short * n, self._shapes * n)
            self._plans[len(groups)] = plan
        grad_mode = torch.is_grad_enabled()
        set_grad_enabled(False)
        try:
            return plan.measure(tensors)
        except (TypeError, RuntimeError):  # a missing or a sparse gradient
            return rms_of_all(tensors)
        finally:
            set_grad_enabled(grad_mode)

    @property
    def sharded(self) -> bool:
        """Whether processes hold parts of some of the parameters."""
        return self._shards is not None

    def changes(self, parameters: Sequence[nn.Parameter], differences: list) -> list:
        """RMS of one difference per parameter, of which a shard may be here."""
        if self._shards is not None:
            return self._whole(parameters, differences)
        return self.measure(differences)

    def _whole(self, tensors: Sequence, held: Sequence) -> list:
        assert self._shards is not None
        with torch.no_grad():
            return self._shards.combine(tensors, rms_of_all([local_part(t) for t in held]))


class _Plan:
    """Which tensors of a list are joined and which are read one by one, worked out once."""

    def __init__(self, counts: list[int], short: list[bool], shapes: list[tuple]) -> None:
        self._short = [i for i, joined in enumerate(short) if joined]
        alike: dict[tuple, list[int]] = {}
        for i, shape in enumerate(shapes):
            if not short[i] and counts[i] <= SMALL:
                alike.setdefault(shape, []).append(i)
        self._alike = [places for places in alike.values() if len(places) >= TOGETHER]
        apart = {*self._short, *(i for places in self._alike for i in places)}
        self._long = [i for i in range(len(counts)) if i not in apart]
        self._counts = counts
        ends = np.cumsum([0, *(counts[i] for i in self._short)])
        self._starts, self._end = ends[:-1], int(ends[-1])
        self._sizes = np.array([counts[i] for i in self._short], dtype=np.float64)

    def measure(self, tensors: list) -> list:
        """RMS of each tensor.

        Raises:
            TypeError, RuntimeError: If one of them is None, sparse, or of another size.
        """
        result: list = [math.nan] * len(tensors)
        if self._short:
            joined = torch.cat([tensors[i] for i in self._short]).numpy()
            if len(joined) != self._end:
                raise RuntimeError("A parameter has changed its size.")
            squares = np.multiply(joined, joined, dtype=np.float64)
            roots = np.sqrt(np.add.reduceat(squares, self._starts) / self._sizes)
            for i, rms in zip(self._short, roots.tolist(), strict=True):
                result[i] = rms
        for places in self._alike:
            sizes = rms_together([tensors[i] for i in places])
            for i, (rms, _, _) in zip(places, sizes, strict=True):
                result[i] = rms
        if self._long:
            norms = torch.stack(foreach_norm([tensors[i] for i in self._long])).tolist()
            for i, norm in zip(self._long, norms, strict=True):
                if trusted(norm * norm, self._counts[i], torch.float32):
                    result[i] = norm / math.sqrt(self._counts[i])
                else:
                    result[i] = rms_of(tensors[i].detach())[0]
        return result


@torch.no_grad()
def rms_of_all(tensors: Sequence[Tensor | None]) -> list:
    """RMS of each tensor; NaN for None, empty and lazy ones.

    CPU tensors of one dtype are reduced in one call of one fused norm.

    Returns:
        Floats, or 0-d tensors for what lies on another device.
    """
    result: list = [math.nan] * len(tensors)
    fused: dict[torch.dtype, list[tuple[int, Tensor]]] = {torch.float32: [], torch.float64: []}
    for i, tensor in enumerate(tensors):
        if tensor is None or not readable(tensor) or not tensor.numel():
            continue
        members = fused.get(tensor.dtype)
        if members is not None and tensor.is_cpu and tensor.layout is torch.strided:
            members.append((i, tensor))
        else:
            measure = rms_of if tensor.is_cpu else rms_on_device
            result[i] = measure(tensor.detach())[0]
    for dtype, members in fused.items():
        norms = foreach_norm([tensor for _, tensor in members]) if members else ()
        for (i, tensor), norm in zip(members, norms, strict=True):
            count, size = tensor.numel(), norm.item()
            kept = trusted(size * size, count, dtype)
            result[i] = size / math.sqrt(count) if kept else rms_of(tensor.detach())[0]
    return result


class Update:
    """The exact size of an optimizer step: a copy before, a difference after.

    It holds one copy of the parameters, made once and reused.

    Args:
        sizes: What measures the parameters.
    """

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self._copies: list[Tensor] = []
        self._members: list[int] = []
        self._kinds: list[tuple | None] = []

    @torch.no_grad()
    def before(self, parameters: Sequence[nn.Parameter]) -> list:
        """Copy the parameters and return their RMS."""
        kinds = [(p.shape, p.dtype, p.device) if readable(p) else None for p in parameters]
        if kinds != self._kinds:
            self._members = [i for i, kind in enumerate(kinds) if kind is not None]
            self._copies = [torch.empty_like(t.detach()) for t in self._held(parameters)]
            self._kinds = kinds
        if self._copies:
            foreach_copy_(self._copies, self._held(parameters))
        return self._measure(parameters)

    @torch.no_grad()
    def after(self, parameters: Sequence[nn.Parameter]) -> list:
        """RMS of θ_after − θ_before; the copy is overwritten with the difference."""
        if self._copies:
            foreach_sub_(self._copies, self._held(parameters))
        return self._measure(parameters)

    def _held(self, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """What this process holds of the parameters that have numbers."""
        members: list[Tensor] = [parameters[i] for i in self._members]
        return [local_part(p) for p in members] if self._sizes.sharded else members

    def _measure(self, parameters: Sequence[nn.Parameter]) -> list:
        """RMS of the copies, NaN for a parameter without one."""
        if len(self._copies) == len(parameters):
            return self._sizes.changes(parameters, self._copies)
        held: list[Tensor | None] = [None] * len(parameters)
        for i, copy in zip(self._members, self._copies, strict=True):
            held[i] = copy
        return self._sizes.changes(parameters, held)
