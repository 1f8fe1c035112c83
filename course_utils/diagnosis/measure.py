"""One forward and backward pass, and everything that the rules read from it."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..measuring import tensors_in
from ..recording import GradientRecord, record
from .bare import bare_products
from .calling import Batch, Loss, as_scalar, evaluate, explained, gradients, loss_of
from .graph import Path, follow, reaches
from .probe import Call, Probe, rms

LOOP = 4
"""A layer called so often in one pass, each time on what came of the last, is a recurrence."""


@dataclass(eq=False)
class Pass:
    """What one pass left behind.

    Attributes:
        model: The model that ran.
        batch: The batch, taken apart.
        loss: The loss function.
        output: What the model returned.
        value: The loss.
        scale: RMS of ∂L/∂(output), which gradients in the record have in and those of `calls`
            have not.
        own_gradient: False where that was 0 and random numbers stood in for ∂L/∂(output).
        calls: Calls of layers with weights, in forward order.
        record: The record.
        names: Names of the parameters.
        grads: Gradient of each parameter over `scale`, None where none arrived.
    """

    model: nn.Module
    batch: Batch
    loss: Loss
    output: object = None
    value: Tensor | None = None
    scale: float = 1.0
    own_gradient: bool = True
    calls: list[Call] = field(default_factory=list)
    record: GradientRecord | None = None
    names: list[str] = field(default_factory=list)
    grads: list[Tensor | None] = field(default_factory=list)

    @cached_property
    def ends(self) -> dict[object, Call]:
        """Nodes that made the outputs of layers."""
        return {call.out_node: call for call in self.calls if call.out_node is not None}

    @cached_property
    def paths(self) -> dict[Call, Path]:
        """What stands before each layer, for those whose input has a gradient."""
        return {
            call: follow(call.in_node, self.ends) for call in self.calls if call.in_node is not None
        }

    @cached_property
    def loops(self) -> dict[nn.Module, list[Call]]:
        """Calls of layers that run on what came of their last call: written-out recurrences."""
        by_module: dict[nn.Module, list[Call]] = {}
        for call in self.calls:
            by_module.setdefault(call.module, []).append(call)
        return {
            module: calls
            for module, calls in by_module.items()
            if len(calls) >= LOOP and reaches(calls[-1].out_node, calls[0].out_node)
        }

    @cached_property
    def trunk(self) -> list[Call]:
        """Layers that count as depth."""
        return [call for call in self.calls if call.module not in self.loops]

    @cached_property
    def places(self) -> dict[Call, int]:
        """How many layers lie between each layer and the input, along the longest way.

        Not the order of calls: two branches, or one encoder called on two inputs, stand side by
        side. Steps of a recurrence count for nothing.
        """
        counts = set(self.trunk)
        places: dict[Call, int] = {}
        last = -1
        for call in self.calls:
            path = self.paths.get(call)
            behind = (
                [places[p] + (p in counts) for p in path.parents if p in places] if path else []
            )
            lost = path is not None and path.unknown and not behind
            places[call] = max(behind, default=last + 1 if lost else 0)
            last = max(last, places[call]) if call in counts else last
        return places

    @property
    def outputs(self) -> list[Tensor]:
        """Floating tensors of the output that carry a gradient."""
        return [t for _, t in tensors_in(self.output) if t.requires_grad]


def run(model: nn.Module, batch: Batch, loss: Loss) -> Pass:
    """Run the model forward and backward, recorded.

    The backward pass starts from ∂L/∂(output) divided by its RMS, so that a factor in front of
    the loss, however large or small, changes no digit of what follows; the record has it
    multiplied in again, in float64.
    """
    found = Pass(model, batch, loss)
    named = list(model.named_parameters())
    found.names = [name for name, _ in named]
    parameters = [parameter for _, parameter in named]
    probe = Probe(model)
    try:
        with record(model, evaluation=True) as recorder:
            with explained("the forward pass of", model, batch):
                found.output = model(*batch.args, **batch.kwargs)
            with explained("the loss of", model, batch):
                value = evaluate(found.output, batch, loss)
            found.value = as_scalar(value, loss)
            calls = bare_products(model, found.value.grad_fn, probe.calls)
            if found.value.requires_grad and bool(found.value.isfinite()):
                found.scale = _output_gradient(found)
                if 0 < found.scale < math.inf:
                    seed = torch.ones_like(found.value, dtype=torch.float64) / found.scale
                    found.grads = gradients(found.value, parameters, seed)
                elif found.scale == 0 and found.outputs:
                    found.own_gradient, found.scale = False, 1.0
                    start = _random_start(found.outputs)
                    one = torch.ones((), dtype=torch.float64)
                    found.grads = gradients(start, parameters, one)
                else:
                    found.scale = 1.0
            with warnings.catch_warnings():  # a model of bare parameters has no layer to record
                warnings.filterwarnings("ignore", message="No layer ran")
                recorder.step(loss=found.value.detach())
        found.record = recorder.record
        object.__setattr__(found.record, "grad_rms", found.record.grad_rms * found.scale)
    finally:
        probe.close()
    found.calls = calls
    return found


def _output_gradient(found: Pass) -> float:
    """RMS of ∂L/∂(output), from a second evaluation of the loss at a copy of the output."""
    if found.loss is None or not found.outputs:
        return 1.0
    leaves: list[Tensor] = []

    def leaf(value: object) -> object:
        if isinstance(value, Tensor) and value.requires_grad:
            value = value.detach().clone().requires_grad_()
            leaves.append(value)
        return value

    copy = tree_map(leaf, found.output)
    value = loss_of(copy, found.batch, found.loss)
    if not leaves or not value.requires_grad:
        return 1.0
    grads = torch.autograd.grad(value, leaves, allow_unused=True)
    sizes = [rms(grad.detach()) for grad in grads if grad is not None]
    return max(sizes, default=1.0) if all(map(math.isfinite, sizes)) else math.inf


def _random_start(outputs: list[Tensor]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    total = outputs[0].new_zeros(())
    for output in outputs:
        numbers = torch.randn(output.shape, generator=generator)
        total = total + (output * numbers.to(output)).sum()
    return total


def each_module(model: nn.Module, kind: type, hook: Callable) -> list:
    """Put a forward pre-hook on every module of a kind."""
    return [m.register_forward_pre_hook(hook) for m in model.modules() if isinstance(m, kind)]
