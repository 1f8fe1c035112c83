"""Hooks on the layers with weights: the gradient at the input and at the output of each call."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..measuring import ROOT, has_weight, is_layer, rms_of, rms_on_device, tensors_in
from ..measuring.torch_internals import Node, is_functorch_wrapped

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(eq=False, frozen=True)
class BareWeight:
    """Stands as the module of a product by a weight in a model's own code."""

    weight: nn.Parameter


@dataclass(eq=False)
class LayerCall:
    """One call of a layer with weights.

    Attributes:
        name: Its module's name, with "#2" at the second call and so on.
        module: The module, or a `BareWeight`.
        in_node: Autograd node that made the input; None for data.
        out_node: Autograd node that made the output.
        in_shape: Shape of the input.
        input: The floating tensor it was called with, kept for recurrent modules and cells only.
        data: The floating tensor it was called with, where that was data and no layer's output.
        state: The second argument of a recurrent module.
        output: Its first output, kept like the input.
        grad_in: RMS of ∂L/∂(input), NaN without one. A tensor while it waits on a device.
        grad_out: RMS of ∂L/∂(first output), likewise.
        cotangents: ∂L/∂(output) of a recurrent module, by path.
        differentiated: Whether model or loss took a derivative of it that the loss depends on.
    """

    name: str
    module: Any
    in_node: Node | None = None
    out_node: Node | None = None
    in_shape: tuple[int, ...] = ()
    input: Tensor | None = None
    data: Tensor | None = None
    state: Any = None
    output: Tensor | None = None
    grad_in: float = math.nan
    grad_out: float = math.nan
    cotangents: dict[str, Tensor] = field(default_factory=dict)
    differentiated: bool = False
    arrived: set[str] = field(default_factory=set)

    @property
    def recurrent(self) -> bool:
        """Whether it is a fused nn.RNN, nn.LSTM or nn.GRU."""
        return isinstance(self.module, nn.RNNBase)

    @property
    def stateful(self) -> bool:
        """Whether it carries a state on: fused, or one step of it."""
        return isinstance(self.module, nn.RNNBase | nn.RNNCellBase)

    def weight_factor(self) -> float:
        """What a random gradient's RMS is multiplied by on its way from output to input.

        ‖W‖_F/√fan_in for a linear layer: E‖Wᵀδ‖² = ‖W‖_F² E δ² for entries of δ with mean 0 and
        independent of each other. For a convolution ‖W‖_F² counts once per pair of a position of
        the output and a tap that falls inside the image, over the entries of the input.
        NaN for other layers.
        """
        weight = getattr(self.module, "weight", None)
        if not isinstance(weight, Tensor) or weight.is_meta:
            return math.nan
        square = rms(weight.detach()) ** 2 * weight.numel()
        if isinstance(self.module, nn.Linear):
            return math.sqrt(square / weight.shape[1])
        if isinstance(self.module, BareWeight):
            return math.sqrt(square / self.fan_in) if weight.dim() == 2 else math.nan
        if not isinstance(self.module, CONVOLUTIONS):
            return math.nan
        taps = math.prod(weight.shape[2:])
        entries = math.prod(self.in_shape[-(weight.dim() - 1) :])
        return math.sqrt(square / taps * self._taps_inside() / entries)

    def _taps_inside(self) -> float:
        """Pairs of a position of a convolution's output and a tap that falls inside the image."""
        conv, size = self.module, self.module.weight.shape[2:]
        image = torch.ones(1, 1, *self.in_shape[-len(size) :], device="cpu")
        taps = torch.ones(1, 1, *size, device="cpu")
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(size) - 1]
        inside = convolve(
            image, taps, stride=conv.stride, padding=conv.padding, dilation=conv.dilation
        )
        return (
            float(inside.sum()) if conv.padding_mode == "zeros" else inside.numel() * taps.numel()
        )

    @property
    def fan_in(self) -> int:
        """Inputs of a unit; of a bare matrix that side which its input has too."""
        if self.stateful:
            return self.module.input_size
        weight = self.module.weight
        if not isinstance(self.module, BareWeight):
            return weight[0].numel()
        return next((n for n in self.in_shape[::-1] if n in weight.shape), weight.shape[0])

    def variances(self) -> tuple[float, float]:
        """σ_w² = fan_in × mean W² and σ_b² = mean b², as `cu.theory` has them; NaN for others."""
        if not isinstance(self.module, (nn.Linear, BareWeight, *CONVOLUTIONS)):
            return math.nan, math.nan
        bias = getattr(self.module, "bias", None)
        bias_variance = 0.0 if bias is None else rms(bias.detach()) ** 2
        return self.fan_in * rms(self.module.weight.detach()) ** 2, bias_variance

    def default_initialized(self) -> bool:
        """Whether the weights look like torch's default: uniform in ±1/√fan_in."""
        if not isinstance(self.module, (nn.Linear, *CONVOLUTIONS)):
            return False
        weight = self.module.weight
        if weight.numel() < 50:
            return False
        scaled = weight.detach().abs() * math.sqrt(weight[0].numel())
        largest, mean = float(scaled.max()), float(scaled.mean())
        few = 6 / math.sqrt(weight.numel())  # standard error of the mean is 0.29/√numel
        return 1 - 2 * few < largest <= 1.0 + 1e-3 and abs(mean - 0.5) < few


class CallRecorder:
    """Hooks on every layer with weights, for one forward and backward pass.

    Attributes:
        calls: What they have seen.
        armed: Whether gradients that come by are those of the pass to be measured.
    """

    def __init__(self, model: nn.Module) -> None:
        self.calls: list[LayerCall] = []
        self.armed = False
        self._handles: list[RemovableHandle] = []
        self._counts: dict[str, int] = {}
        for name, module in model.named_modules():
            embedding = isinstance(module, nn.Embedding | nn.EmbeddingBag)
            if is_layer(name, module) and has_weight(module) and not embedding:
                self._watch(name or ROOT, module)

    def _watch(self, name: str, module: nn.Module) -> None:
        open_calls: list[LayerCall | None] = []

        def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
            given = [t for v in (*args, *kwargs.values()) for _, t in tensors_in(v)]
            if any(map(is_functorch_wrapped, given)):  # under torch.func it has no values
                open_calls.append(None)
                return
            self._counts[name] = count = self._counts.get(name, 0) + 1
            call = LayerCall(name if count == 1 else f"{name}#{count}", module)
            tensor = next((t for t in given if t.requires_grad), next(iter(given), None))
            if tensor is not None:
                call.in_shape, call.in_node = tuple(tensor.shape), tensor.grad_fn
                call.data = tensor.detach() if tensor.grad_fn is None else None
                if call.stateful:
                    call.input = args[0] if args else tensor
                    call.state = args[1] if len(args) > 1 else kwargs.get("hx")
                if tensor.requires_grad:
                    self._handles.append(tensor.register_hook(self._writer(call, "grad_in")))
            open_calls.append(call)

        def after(module: nn.Module, args: tuple, output: object) -> None:
            call = open_calls.pop()
            if call is None:
                return
            outputs = dict(tensors_in(output))
            if outputs:
                first = next(iter(outputs.values()))
                call.out_node = first.grad_fn
                call.output = first.detach() if call.stateful else None
                if first.requires_grad:
                    self._handles.append(first.register_hook(self._writer(call, "grad_out")))
            if call.recurrent:
                for path, tensor in outputs.items():
                    if tensor.requires_grad:
                        tensor.register_hook(self._keeper(call, path))
            self.calls.append(call)

        self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        self._handles.append(module.register_forward_hook(after))

    def close(self) -> None:
        """Take the hooks off and read what still waits on a device."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        for call in self.calls:
            call.grad_in, call.grad_out = float(call.grad_in), float(call.grad_out)

    def _writer(self, call: LayerCall, place: str) -> Callable[[Tensor | None], None]:
        def hook(grad: Tensor | None) -> None:
            if not self.armed and torch.is_grad_enabled():  # by create_graph=True
                call.differentiated = True
            if self.armed and grad is not None and place not in call.arrived:
                call.arrived.add(place)
                measure = rms_of if grad.device.type == "cpu" else rms_on_device
                setattr(call, place, measure(grad.detach())[0])

        return hook

    def _keeper(self, call: LayerCall, path: str) -> Callable[[Tensor | None], None]:
        def hook(grad: Tensor | None) -> None:
            if self.armed and grad is not None:
                call.cotangents.setdefault(path, grad.detach())

        return hook


def spread_over_batch(output: Tensor) -> float:
    """RMS of the deviation from the mean over the batch, as a share of the RMS.

    Args:
        output: (B, …), B at least 2.

    Returns:
        The share, NaN for an output that is 0 or not finite.
    """
    value = output.detach().double() if output.device.type != "mps" else output.detach()
    whole = float(value.square().mean().sqrt())
    if not 0 < whole < math.inf:
        return math.nan
    return float((value - value.mean(0, keepdim=True)).square().mean().sqrt()) / whole


def rms(value: Tensor) -> float:
    """RMS of a tensor, careful with tiny and huge entries."""
    return float((rms_of if value.device.type == "cpu" else rms_on_device)(value)[0])
