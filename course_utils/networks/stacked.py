"""Many dense networks of one structure side by side: one batched product per layer."""

from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .activation_layers import MODULES, Elementwise
from .residual import Residual

_ACTIVATIONS = (Elementwise, *(type(make()) for make in MODULES.values()))


def stack_mlps(models: Sequence[nn.Sequential]) -> nn.Sequential:
    """M dense networks as one, which answers for all of them at once.

    Deep narrow networks cost their number of calls, not their arithmetic. Stacked, a layer of M
    networks is one batched matrix product, and `cu.fit_many` trains them all. They must
    have the same modules of the same sizes. They may differ in all numbers, and in their skip:
    "plain", "scaled", "rezero" and "skipinit" go together in one stack.

    Inside, a signal has the shape (M, units, B), samples last: then the statistics of batch norm
    are those of one call with M·units channels. The modules keep the names they have in the
    models, between a first one, "columns", and a last one, "rows". So a block is taken out, or its
    output read, by its name.

    Args:
        models: Networks made by `cu.mlp`. They are copied from and left alone.

    Returns:
        A Sequential that maps (B, inputs), or (M, B, inputs) with a batch for each, to
        (M, B, outputs). All its parameters and running statistics have M as their first size.

    Raises:
        TypeError: If `models` is no list of Sequentials.
        ValueError: If it is empty, the structures differ, or a module cannot be stacked.

    >>> import course_utils as cu
    >>> nets = [cu.mlp(4, 8, norm="batch", skip="plain", generator=cu.seeded(i)) for i in range(3)]
    >>> stack, x = stack_mlps(nets), torch.rand(5, 64)
    >>> stack(x).shape, bool(torch.allclose(stack(x)[2], nets[2](x), atol=1e-5))
    (torch.Size([3, 5, 10]), True)
    """
    if not isinstance(models, list | tuple) or not all(
        isinstance(model, nn.Sequential) for model in models
    ):
        raise TypeError(f"models is a {type(models).__name__}: a list of cu.mlp networks is due.")
    if not models:
        raise ValueError("models is empty: hand over at least one network.")
    layers = _stacked_children(models)
    return nn.Sequential(OrderedDict(columns=_Columns(), **layers, rows=_Rows()))


def _stacked_children(models: Sequence[nn.Module]) -> OrderedDict[str, nn.Module]:
    """The stacked modules of these containers, by name."""
    names = [[name for name, _ in model.named_children()] for model in models]
    if any(own != names[0] for own in names):
        raise ValueError(
            "models differ in structure: all need the same depth, width, norm, activation and "
            f"placement, and a skip or none; one has {_few(names[0])}, another "
            f"{_few(next(own for own in names if own != names[0]))}."
        )
    layers = OrderedDict()
    for name in names[0]:
        layers[name] = _stacked(name, [model.get_submodule(name) for model in models])
    return layers


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")


def _stacked(name: str, parts: list[nn.Module]) -> nn.Module:
    """One module that does the work of all these."""
    kinds = {type(part) for part in parts}
    if len(kinds) > 1:
        raise ValueError(f"models differ in structure: {name} is of more than one type.")
    kind = kinds.pop()
    if kind is not Residual and len({_settings(part) for part in parts}) > 1:
        raise ValueError(
            f"models differ: {name} is {parts[0]} in one, and in another "
            f"{next(part for part in parts if _settings(part) != _settings(parts[0]))}."
        )
    if kind in _STACKS:
        return _STACKS[kind](parts)
    if kind in _ACTIVATIONS:
        return deepcopy(parts[0])
    raise ValueError(
        f"{name} is a {kind.__name__}, which cannot be stacked: cu.mlp with norm=None, 'batch' or "
        "'layer' and an activation without parameters can. cu.fit_many trains any network."
    )


def _settings(part: nn.Module) -> object:
    """All that makes one module unlike another of its type, but for its numbers."""
    return part.activation.function if isinstance(part, Elementwise) else part.extra_repr()


def _joined(tensors: Sequence[Tensor], *extra: int) -> nn.Parameter:
    """Copies of these along a new first axis, with axes of size 1 at the end."""
    joined = torch.stack([tensor.detach() for tensor in tensors])
    return nn.Parameter(joined.reshape(*joined.shape, *extra))


class _Columns(nn.Module):
    """(B, inputs) or (M, B, inputs), samples last from here on."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mT


class _Rows(nn.Module):
    """(M, outputs, B), samples in front again."""

    def forward(self, h: Tensor) -> Tensor:
        return h.mT


class _Linear(nn.Module):
    """W_i h_i + b_i for every network i."""

    def __init__(self, parts: list[nn.Linear]):
        super().__init__()
        self.weight = _joined([part.weight for part in parts])
        bias = [part.bias for part in parts if part.bias is not None]
        self.bias = _joined(bias, 1) if bias else None

    def forward(self, h: Tensor) -> Tensor:
        if h.ndim == 3 and self.bias is not None:
            return torch.baddbmm(self.bias, self.weight, h)
        z = self.weight @ h
        return z if self.bias is None else z + self.bias


class _BatchNorm(nn.Module):
    """Batch norm of M networks of n units: one call with M·n channels."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, parts: list[nn.BatchNorm1d]):
        super().__init__()
        self.weight = _joined([part.weight for part in parts])
        self.bias = _joined([part.bias for part in parts])
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, torch.stack([part.get_buffer(name) for part in parts]))
        assert parts[0].momentum is not None  # cu.mlp's batch norms have 0.1
        self.momentum, self.eps = parts[0].momentum, parts[0].eps

    def forward(self, z: Tensor) -> Tensor:
        return F.batch_norm(
            z.reshape(1, -1, z.shape[-1]),
            self.running_mean.view(-1),
            self.running_var.view(-1),
            self.weight.reshape(-1),
            self.bias.reshape(-1),
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
        ).reshape(z.shape)


class _LayerNorm(nn.Module):
    """Each sample over its units."""

    def __init__(self, parts: list[nn.LayerNorm]):
        super().__init__()
        self.weight = _joined([part.weight for part in parts], 1)
        self.bias = _joined([part.bias for part in parts], 1)
        self.eps = parts[0].eps

    def forward(self, z: Tensor) -> Tensor:
        z = z - z.mean(1, keepdim=True)
        z = z * torch.rsqrt(z.square().mean(1, keepdim=True) + self.eps)
        return torch.addcmul(self.bias, z, self.weight)


class _Residual(nn.Sequential):
    """x + α_i·branch(x); α_i is a fixed number in some networks and learned in others."""

    scale: Tensor
    learned: Tensor

    def __init__(self, parts: list[Residual]):
        super().__init__(_stacked_children(parts))
        learned = torch.tensor([part.alpha is not None for part in parts])
        fixed = [0.0 if part.alpha is not None else part.scale for part in parts]
        like = next(parts[0].parameters())
        self.register_buffer("scale", like.new_tensor(fixed)[:, None, None])
        self.register_buffer("learned", learned.to(like)[:, None, None])
        start = [like.new_zeros(()) if part.alpha is None else part.alpha for part in parts]
        self.alpha = _joined(start, 1, 1) if learned.any() else None
        self.plain = all(scale == 1 for scale in fixed)

    def forward(self, x: Tensor) -> Tensor:
        branch = super().forward(x)
        if self.plain:
            return x + branch
        scale = self.scale if self.alpha is None else self.scale + self.learned * self.alpha
        return torch.addcmul(x, scale, branch)


_STACKS = {
    nn.Linear: _Linear,
    nn.BatchNorm1d: _BatchNorm,
    nn.LayerNorm: _LayerNorm,
    Residual: _Residual,
}
