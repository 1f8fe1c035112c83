"""One forward and backward pass, and everything that the rules read from it."""

import copy
import inspect
import math
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from ..measuring import tensors_in, torch_internals
from ..measuring.torch_internals import Node
from ..recording import GradientRecord, Recorder
from .bare_weights import with_bare_products
from .batch import Batch, Loss, as_scalar, evaluate
from .branches import beside, in_branches
from .elementwise import with_decays
from .graph import Path, activation_name, follow, reaches, slopes, walk
from .layer_calls import CONVOLUTIONS, CallRecorder, LayerCall, rms, spread_over_batch
from .post_norm import PostNorm, post_norm
from .recurrence import Recurrence, through_recurrences
from .running import explained, from_reentrant_checkpoint, gradients, run
from .slope import LIMIT, Slope, fit_slope
from .zero_start import is_zero, zero_factors

LOOP = 4
"""A layer called so often in one pass, each time on what came of the last, is a recurrence."""

SMALLEST = 1e-37  # below it float32 has no digits left


MOST_UPDATED = 1 << 24
"""Numbers on which a copy of the optimizer makes its step."""


class TooFewValues(Exception):
    """The model could not run: a batch norm of it has a single value per channel.

    Attributes:
        counts: As `MeasuredPass.norm_counts`, up to there.
    """

    def __init__(self, counts: list[tuple[str, int]]) -> None:
        super().__init__()
        self.counts = counts


@dataclass(eq=False, frozen=True)
class MeasuredPass:
    """What one forward and backward pass left behind.

    Attributes:
        model: The model that ran.
        batch: The batch, split.
        loss: The loss function.
        optimizer: The optimizer in use, or None.
        output: What the model returned.
        loss_value: The loss.
        scale: RMS of ∂L/∂(output), which gradients in the record have in and those of `calls`
            have not.
        own_gradient: False where that was 0 and random numbers stood in for ∂L/∂(output).
        calls: Calls of layers with weights, in forward order.
        record: The record.
        grads: Gradient over `scale` by name of the parameter, None where none arrived.
        norm_counts: Name of each batch norm that ran in training mode, and how many values per
            channel it saw.
    """

    model: nn.Module
    batch: Batch
    loss: Loss
    optimizer: torch.optim.Optimizer | None
    output: object
    loss_value: Tensor
    scale: float
    own_gradient: bool
    calls: list[LayerCall]
    record: GradientRecord
    grads: dict[str, Tensor | None]
    norm_counts: list[tuple[str, int]]

    @cached_property
    def ends(self) -> dict[Node, LayerCall]:
        """Nodes that made the outputs of layers."""
        return {call.out_node: call for call in self.calls if call.out_node is not None}

    @cached_property
    def paths(self) -> dict[LayerCall, Path]:
        """What stands before each layer, for those whose input has a gradient."""
        return {
            call: follow(call.in_node, self.ends) for call in self.calls if call.in_node is not None
        }

    @cached_property
    def loops(self) -> dict[nn.Module, list[LayerCall]]:
        """Calls of layers that run on what came of their last call: written-out recurrences."""
        by_module: dict[nn.Module, list[LayerCall]] = {}
        for call in self.calls:
            by_module.setdefault(call.module, []).append(call)
        return {
            module: calls
            for module, calls in by_module.items()
            if len(calls) >= LOOP and reaches(calls[-1].out_node, calls[0].out_node)
        }

    @cached_property
    def trunk(self) -> list[LayerCall]:
        """Layers that are no steps of a recurrence."""
        return [call for call in self.calls if call.module not in self.loops]

    @cached_property
    def depth(self) -> list[LayerCall]:
        """Layers that count as depth: not those of a short branch beside others."""
        apart = beside(self.calls, self.paths, self.output_paths)
        return [call for call in self.trunk if call not in apart]

    @cached_property
    def places(self) -> dict[LayerCall, int]:
        """How many layers lie between each layer and the input, along the longest way.

        Not the order of calls: two branches, or one encoder called on two inputs, stand side by
        side. Steps of a recurrence count for nothing.
        """
        trunk = set(self.trunk)
        apart = trunk.difference(self.depth)
        places: dict[LayerCall, int] = {}
        last = -1
        for call in self.calls:
            path = self.paths.get(call)
            parents = [p for p in path.parents if p in places] if path else []
            joined = [p for p in parents if p not in apart] or parents
            behind = [places[p] + (p in trunk and not {p, call} <= apart) for p in joined]
            lost = path is not None and path.unknown and not behind
            places[call] = max(behind, default=last + 1 if lost else 0)
            last = max(last, places[call]) if call in trunk else last
        return places

    @property
    def outputs(self) -> list[Tensor]:
        """Floating tensors of the output that carry a gradient."""
        return _with_gradient(self.output)

    @property
    def differentiates_input(self) -> bool:
        """Whether the batch takes a gradient itself, as where the input is what is trained."""
        asks = any(tensor.requires_grad for tensor in self.batch.tensors())
        return asks and self.loss_value.requires_grad

    @cached_property
    def output_paths(self) -> list[Path]:
        """What stands behind the last layers, for each output."""
        return [follow(tensor.grad_fn, self.ends) for tensor in self.outputs]

    @cached_property
    def output_nodes(self) -> Collection[Node]:
        """Nodes of the graph below the output."""
        roots = {t.grad_fn for t in self.outputs if t.grad_fn is not None}
        return dict.fromkeys(walk(*roots)).keys()

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Parameters of the model by name."""
        return dict(self.model.named_parameters())

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """Those that are not frozen."""
        return {name: p for name, p in self.parameters.items() if p.requires_grad}

    def whereabouts(self, node: Node, start: Node | None = None) -> str:
        """Where an operation stands: in the loss, or in forward and behind which layer."""
        if node not in self.output_nodes:
            return "in the loss"
        parents = follow(start or node, self.ends).parents
        return f"in forward, behind {parents[0].name}" if parents else "in forward"

    @cached_property
    def held(self) -> set[int] | None:
        """Ids of the tensors that the optimizer holds; None without one."""
        if self.optimizer is None:
            return None
        return {id(p) for group in self.optimizer.param_groups for p in group["params"]}

    @cached_property
    def parameter_sizes(self) -> dict[str, float]:
        """RMS of each parameter."""
        return dict(zip(self.record.parameters, self.record.parameter_rms[0].tolist(), strict=True))

    @cached_property
    def updates(self) -> dict[str, Tensor]:
        """What a step of the optimizer adds to each parameter of it that has a gradient.

        A copy of it makes the step on copies of the parameters; of more than `MOST_UPDATED` numbers
        on the smallest of them. Empty without an optimizer, and for one whose step cannot be made
        here, such as one that has to evaluate the loss itself (L-BFGS).
        """
        return self._step[0]

    @property
    def step_error(self) -> Exception | None:
        """What the copy of the optimizer raised in place of a step."""
        return self._step[1]

    @cached_property
    def _step(self) -> tuple[dict[str, Tensor], Exception | None]:
        if self.optimizer is None or _needs_closure(self.optimizer):
            return {}, None
        try:
            return self._updates(self.optimizer), None
        except Exception as error:  # an optimizer of strangers, which may need more than a gradient
            return {}, error

    def _updates(self, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        flat = [p for group in optimizer.param_groups for p in group["params"]]
        double = copy.deepcopy(optimizer, _left_out(optimizer, flat))
        twins = [p for group in double.param_groups for p in group["params"]]
        twin = {id(p): q for p, q in zip(flat, twins, strict=True)}
        named = self.parameters
        for parameter in twins:
            parameter.grad = None
        moved = []
        for name, grad in self.grads.items():
            other = twin.get(id(named[name]))
            if grad is not None and other is not None and other.shape == named[name].shape:
                twin[id(named[name])].grad = grad.detach() * self.scale
                moved.append(name)
        double.step()
        return {name: twin[id(named[name])].detach() - named[name].detach() for name in moved}

    @cached_property
    def depth_slope(self) -> Slope:
        """Slope of log‖∂L/∂h‖ at the inputs of the layers.

        Inputs, not preactivations: before a batch norm the gradient is inversely proportional to
        the scale of the weights, which means nothing.
        """
        calls = [
            call
            for call in self.depth
            if not math.isnan(call.grad_in) and not (call.grad_in == 0 and call in self.zero_calls)
        ]
        norms = [call.grad_in * math.sqrt(math.prod(call.in_shape)) for call in calls]
        places = [self.places[call] for call in calls]
        span = max((self.places[call] for call in self.depth), default=0)
        towers = [self.towers[call] for call in calls]
        slope = fit_slope(norms, places, [call.in_shape for call in calls], span, towers)
        if slope.close and any(path.skip for path in self.paths.values()):
            # a branch may be small, which tells nothing about the skip
            inside = in_branches(self.paths, self.places, self.output_nodes)
            shapes = [call.in_shape for call in calls]
            apart = [2 * self.towers[call] + (call in inside) for call in calls]
            finer = fit_slope(norms, places, shapes, span, apart)
            slope = slope if math.isnan(finer.factor) or finer.close else finer
            arrived = [norm for norm in norms if norm > 0]
            if slope.close and max(arrived) < LIMIT / 4 * min(arrived):  # nothing to extrapolate
                total = arrived[0] / arrived[-1]
                slope = replace(slope, factor=total ** (1 / slope.span), error=0.0)
        if (self.zero_calls or self.zero_factors) and not self.cut_by_zero:  # 0 by construction
            return replace(slope, underflow=False)
        sizes = [call.grad_in for call in calls]
        if math.isnan(slope.factor) and 0 in sizes and any(size > 0 for size in sizes):
            if not any(path.skip for path in self.paths.values()):  # one layer took it all away
                return replace(slope, factor=0.0, underflow=True)
        return slope

    @cached_property
    def recurrences(self) -> tuple[list[Recurrence], list[str]]:
        """What was measured through time, and a sentence on each that was not."""
        return through_recurrences(self.calls, self.loops, self.paths)

    @cached_property
    def activations(self) -> list[tuple[LayerCall, Node]]:
        """Activations between layers, each once, with the layer before it."""
        before: dict[Node, LayerCall] = {}
        for path in self.paths.values():
            for node in path.activations:
                if path.parents:
                    before.setdefault(node, path.parents[0])
        return [(call, node) for node, call in before.items()]

    @cached_property
    def relu_units(self) -> dict[str, tuple[float, int]]:
        """Share of ReLU units that are 0 for the whole batch behind a layer, and their number.

        Without layers whose output is 0 because the signal faded away.
        """
        units = {}
        sizes = dict(zip(self.record.layers, self.record.output_rms[0].tolist(), strict=True))
        for call, node in self.activations:
            if activation_name(node) not in ("relu", "relu6"):
                continue
            values = slopes(node)
            if (
                values is None
                or values.dim() < 2
                or not values.numel()
                or sizes.get(call.name, 1.0) < SMALLEST
            ):
                continue
            axis = 1 if isinstance(call.module, CONVOLUTIONS) else values.dim() - 1
            alive = values.transpose(0, axis).flatten(1).ne(0).any(1)
            units[call.name] = 1 - float(alive.double().mean()), alive.numel()
        return units

    @cached_property
    def grads_by_id(self) -> dict[int, Tensor | None]:
        """Gradient over `scale` by id of the parameter."""
        named = self.parameters
        return {id(named[name]): grad for name, grad in self.grads.items()}

    @cached_property
    def post_norm(self) -> PostNorm:
        """Blocks whose norm stands behind the addition."""
        return post_norm(self.output_nodes)

    @cached_property
    def zero_calls(self) -> set[LayerCall]:
        """Calls of layers all of whose weights are 0, which hand no gradient on."""
        return {
            call
            for call in self.trunk
            if isinstance(weight := getattr(call.module, "weight", None), Tensor)
            and is_zero(weight)
        }

    @cached_property
    def cut_by_zero(self) -> bool:
        """Whether a layer of zero weights that is no output keeps the input from the output."""
        last = {c for t in self.outputs for c in follow(t.grad_fn, self.ends).parents}
        batches = [t for t in self.outputs if t.dim() > 1 and len(t) > 1]
        constant = all(not spread_over_batch(t) > 8 * torch.finfo(t.dtype).eps for t in batches)
        return bool(batches) and constant and not self.zero_calls <= last

    @cached_property
    def zero_factors(self) -> list[str]:
        """Names of parameters that are 0, multiply something, and move at the first step."""
        weights = {id(getattr(call.module, "weight", None)) for call in self.calls}
        named = self.parameters
        return zero_factors(named, self.grads, weights, self.output_nodes)

    @cached_property
    def towers(self) -> dict[LayerCall, int]:
        """A number for each layer, the same for those that lie behind or before each other.

        Networks beside each other in one model, an actor and a critic or two encoders, each get
        their own share of the loss: how the shares differ is no slope over a depth.
        """
        number = {call: i for i, call in enumerate(self.calls)}
        before: LayerCall | None = None
        for call in self.calls:
            path = self.paths.get(call)
            joined = [] if path is None else [p for p in path.parents if p in number]
            if path is not None and path.unknown and before is not None:
                joined.append(before)
            for other in joined:
                old, new = number[call], number[other]
                if old != new:
                    number = {c: new if n == old else n for c, n in number.items()}
            before = call
        return number

    @cached_property
    def loss_nodes(self) -> list[Node]:
        """Nodes between the loss and the last layers on each way, those layers' own included."""
        root = self.loss_value.grad_fn
        return [] if root is None else list(walk(root, ends=self.ends))

    @cached_property
    def differentiates(self) -> bool:
        """Whether the loss depends on a derivative that model or loss has taken itself."""
        return self.differentiates_input or any(call.differentiated for call in self.calls)


def measure(
    model: nn.Module, batch: Batch, loss: Loss, optimizer: torch.optim.Optimizer | None = None
) -> MeasuredPass:
    """Run the model forward and backward, recorded.

    The backward pass starts from ∂L/∂(output) divided by its RMS, so that a factor in front of
    the loss, however large or small, changes no digit of what follows; the record has it
    multiplied in again, in float64.

    Raises:
        TooFewValues: If it could not run because a batch norm has a single value per channel.
    """
    parameters = dict(model.named_parameters())
    call_recorder = CallRecorder(model)
    try:
        with (
            _counting_values(model) as norm_counts,
            Recorder(model, evaluation=True, strip=False) as recorder,
        ):
            with recorder.paused():  # model and loss may differentiate by themselves
                with explained("the forward pass of", model, batch):
                    output = run(model, batch)
                with explained("the loss of", model, batch):
                    answer = evaluate(output, batch, loss)
                value = as_scalar(answer, loss)
                with explained("the backward pass of", model, batch):
                    start, scale, own_gradient = _where_to_start(output, value)
            calls = with_bare_products(model, value.grad_fn, call_recorder.calls)
            calls = with_decays(model, value.grad_fn, calls)
            call_recorder.armed = True
            inputs = [t for t in batch.tensors() if t.requires_grad and t.is_leaf]
            grads: list[Tensor | None] = [None] * len(parameters)
            if start is not None:
                seed = torch.ones_like(start, dtype=torch.float64) / scale
                wanted = [*parameters.values(), *inputs]
                with explained("the backward pass of", model, batch):
                    grads = gradients(start, wanted, seed)[: len(parameters)]
            with warnings.catch_warnings():  # a model of bare parameters has no layer to record
                warnings.filterwarnings("ignore", message="No layer ran")
                recorder.step(loss=value.detach())
    except ValueError as error:
        if any(count < 2 for _, count in norm_counts):
            raise TooFewValues(norm_counts) from error
        raise
    finally:
        call_recorder.close()
    grad_rms = recorder.record.grad_rms * scale
    whole = replace(recorder.record, grad_rms=grad_rms, grad_rms_largest=grad_rms.clone())
    return MeasuredPass(
        model=model,
        batch=batch,
        loss=loss,
        optimizer=optimizer,
        output=output,
        loss_value=value,
        scale=scale,
        own_gradient=own_gradient,
        calls=calls,
        record=whole,
        grads=dict(zip(parameters, grads, strict=True)),
        norm_counts=norm_counts,
    )


def _where_to_start(output: object, value: Tensor) -> tuple[Tensor | None, float, bool]:
    """What to go back from (None for nothing), the scale to divide by, and if it is the loss."""
    if not value.requires_grad or not bool(value.detach().isfinite()):
        return None, 1.0, True
    outputs = [tensor for tensor in _with_gradient(output) if tensor is not value]
    scale = _output_gradient(outputs, value)
    if scale == 0:
        generator = torch.Generator().manual_seed(0)
        drawn = [torch.randn(t.shape, generator=generator).to(t) for t in outputs]
        total = outputs[0].new_zeros(())
        for tensor, numbers in zip(outputs, drawn, strict=True):
            total = total + (tensor * numbers).sum()
        return total, 1.0, False
    return value, scale if math.isfinite(scale) else 1.0, True


def _output_gradient(outputs: list[Tensor], value: Tensor) -> float:
    """RMS of ∂L/∂(output), the largest of several; 1 where the loss uses none of them itself."""
    if value.grad_fn is None:
        return 1.0
    edges = {tensor: torch.autograd.graph.get_gradient_edge(tensor).node for tensor in outputs}
    reached = set(walk(value.grad_fn, ends=set(edges.values())))
    used = [tensor for tensor in outputs if edges[tensor] in reached]
    if not used:
        return 1.0
    try:
        grads = torch.autograd.grad(value.sum(), used, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if not from_reentrant_checkpoint(error):
            raise
        return 1.0
    sizes = [rms(grad.detach()) for grad in grads if grad is not None]
    return max(sizes, default=1.0) if all(map(math.isfinite, sizes)) else math.inf


def _left_out(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> dict[int, object]:
    """A memo for `copy.deepcopy` that leaves the largest parameters and their state where they are.

    An empty tensor stands for each. What is done to one parameter depends on no other.
    """
    memo: dict[int, object] = {}
    count = 0
    for parameter in sorted(parameters, key=Tensor.numel):
        count += parameter.numel()
        if count > MOST_UPDATED:
            memo[id(parameter)] = nn.Parameter(parameter.detach().new_empty(0))
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor):
                    memo[id(value)] = value
    return memo


def _needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its step cannot be made without a function that evaluates the loss."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def _with_gradient(output: object) -> list[Tensor]:
    """Floating tensors of an output that carry a gradient."""
    return [tensor for _, tensor in tensors_in(output) if tensor.requires_grad]


@contextmanager
def _counting_values(model: nn.Module) -> Iterator[list[tuple[str, int]]]:
    """Values per channel that each batch norm sees in training mode, while the model runs."""
    counts: list[tuple[str, int]] = []

    def count(name: str, norm: nn.Module, args: tuple) -> None:
        x = args[0]
        uses_batch = norm.training or norm.running_mean is None
        if uses_batch and isinstance(x, Tensor) and x.dim() >= 2:
            counts.append((name, x.numel() // x.shape[1]))

    handles = [
        module.register_forward_pre_hook(partial(count, name))
        for name, module in model.named_modules()
        if isinstance(module, torch_internals.BatchNorms)
    ]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()
