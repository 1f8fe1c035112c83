"""RMS of parameters and of their gradients in one fused pass, and the size of an update."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .reduce import rms_of, rms_on_device, trusted


def readable(tensor: Tensor) -> bool:
    """Whether a parameter or gradient has numbers in it yet."""
    return not isinstance(tensor, nn.UninitializedParameter) and not tensor.is_meta


class Sizes:
    """RMS of all parameters, of all their gradients, or of both, in one fused call.

    It knows the parameters beforehand: where all of them are plain float32 CPU tensors, as they
    usually are, `torch._foreach_norm` reads them in one call, and what it cannot be trusted
    with is measured again.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._plain = bool(parameters) and all(
            readable(p) and p.is_cpu and p.dtype is torch.float32 and p.numel() for p in parameters
        )
        self._roots = [math.sqrt(p.numel()) for p in parameters] if self._plain else []

    def measure(self, *groups: list) -> list:
        """RMS of each tensor, as `rms_of_all`.

        Args:
            groups: One list of tensors per group, each with one tensor or None per parameter.

        Returns:
            The RMS of all tensors of all groups, one after the other.
        """
        tensors = groups[0] if len(groups) == 1 else [t for group in groups for t in group]
        if not self._plain:
            return rms_of_all(tensors)
        grad_mode = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        try:
            norms = torch.stack(torch._foreach_norm(tensors)).tolist()
        except (TypeError, RuntimeError):  # a missing or a sparse gradient
            return rms_of_all(tensors)
        finally:
            torch._C._set_grad_enabled(grad_mode)
        result = [norm / root for norm, root in zip(norms, self._roots * len(groups), strict=True)]
        if not (min(result) > 1e-16 and max(norms) < 3e18 and not any(map(math.isnan, norms))):
            for i, tensor in enumerate(tensors):
                if not trusted(norms[i] ** 2, tensor.numel(), torch.float32):
                    result[i] = rms_of(tensor.detach())[0]
        return result


@torch.no_grad()
def rms_of_all(tensors: Sequence[Tensor | None]) -> list:
    """RMS of each tensor; NaN for None, empty and lazy ones.

    CPU tensors of one dtype are reduced in one call of `torch._foreach_norm`.

    Returns:
        Floats, or 0-d tensors for what lies on another device.
    """
    result: list = [math.nan] * len(tensors)
    fused: dict[torch.dtype, list[int]] = {torch.float32: [], torch.float64: []}
    for i, tensor in enumerate(tensors):
        if tensor is None or not readable(tensor) or not tensor.numel():
            continue
        members = fused.get(tensor.dtype)
        if members is not None and tensor.is_cpu and tensor.layout is torch.strided:
            members.append(i)
        else:
            measure = rms_of if tensor.is_cpu else rms_on_device
            result[i] = measure(tensor.detach())[0]
    for dtype, members in fused.items():
        if not members:
            continue
        norms = torch.stack(torch._foreach_norm([tensors[i] for i in members])).tolist()
        for i, norm in zip(members, norms, strict=True):
            count = tensors[i].numel()
            if trusted(norm * norm, count, dtype):
                result[i] = norm / math.sqrt(count)
            else:
                result[i] = rms_of(tensors[i].detach())[0]
    return result


class Update:
    """The exact size of an optimizer step: a copy before, a difference after.

    It holds one copy of the parameters, made once and reused.
    """

    def __init__(self) -> None:
        self._copies: list[Tensor] = []
        self._members: list[int] = []

    @torch.no_grad()
    def before(self, parameters: Sequence[nn.Parameter]) -> list:
        """Copy the parameters and return their RMS."""
        members = [i for i, p in enumerate(parameters) if readable(p)]
        current = [parameters[i].detach() for i in members]
        fits = members == self._members and all(
            copy.shape == now.shape and copy.dtype == now.dtype and copy.device == now.device
            for copy, now in zip(self._copies, current, strict=True)
        )
        if not fits:
            self._copies = [torch.empty_like(now) for now in current]
            self._members = members
        if current:
            torch._foreach_copy_(self._copies, current)
        result: list = [math.nan] * len(parameters)
        for i, rms in zip(members, rms_of_all(self._copies), strict=True):
            result[i] = rms
        return result

    @torch.no_grad()
    def after(self, parameters: Sequence[nn.Parameter]) -> list:
        """RMS of θ_after − θ_before; the copy is overwritten with the difference."""
        result: list = [math.nan] * len(parameters)
        current = [parameters[i].detach() for i in self._members]
        if current:
            torch._foreach_sub_(self._copies, current)
        for i, rms in zip(self._members, rms_of_all(self._copies), strict=True):
            result[i] = rms
        return result
