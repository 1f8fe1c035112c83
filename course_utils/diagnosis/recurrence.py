"""Vanishing and exploding through time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .. import theory
from ..recording import record_through_time
from . import remedies
from .graph import activation_name, slopes
from .measure import Pass
from .probe import Bare, Call
from .report import Finding
from .slope import LIMIT, Slope, fit

LEAST_STEPS = 4
LEAST_TO_PERSIST = 8
"""Of fewer steps no half is long enough to tell a growth that lasts from one that stops."""


@dataclass(frozen=True)
class Through:
    """How the gradient of one recurrence changes from step to step, backward in time.

    Attributes:
        name: Name of the recurrent module.
        module: The module, or the weight of a product in the model's own code.
        slope: Factor of ∂L/∂h_t per step.
        lasting: Factor per step of that half of the steps in which it grows less; NaN for a short
            sequence.
        steps: T.
        predicted: The factor that the weights and slopes predict; NaN where theory says nothing.
        said: Why, in a sentence.
    """

    name: str
    module: nn.Module | Bare
    slope: Slope
    lasting: float
    steps: int
    predicted: float
    said: str

    @property
    def persists(self) -> bool:
        """Whether it grows in both halves so fast that 2T steps would pass the limit."""
        return self.lasting > 1 and 2 * self.slope.span * math.log(self.lasting) > math.log(LIMIT)

    @property
    def verdict(self) -> str | None:
        """Either "vanishing", "exploding", or None.

        More than 100× over the steps of this batch, as over a depth. But how long a sequence is
        belongs to the batch and not to the network, which uses the same matrix at every step: a
        growth that lasts through both halves of the steps also explodes if the same rate passes
        100× within twice as many.
        """
        return self.slope.verdict or ("exploding" if self.persists else None)


def through_recurrences(found: Pass) -> tuple[list[Through], list[str]]:
    """Every fused recurrent layer and written-out loop, and what could not be seen."""
    measured: list[Through] = []
    notes: list[str] = []
    for call in found.calls:
        if call.recurrent and call.cotangents and call.module not in found.loops:
            _fused(call, measured, notes)
    measured += [_loop(calls, found) for calls in found.loops.values()]
    for one in measured:
        if not one.verdict and one.slope.log_total > math.log(LIMIT) / 2:
            notes.append(
                f"through the {one.steps} steps of {one.name} the gradient grows by a factor of "
                f"{math.exp(one.slope.log_total):.3g}, most of it in one half of them. Measure "
                "again with a sequence twice as long."
            )
    return measured, notes


def over_time(sizes: Sequence[float]) -> tuple[Slope, float]:
    """Slope of log ‖∂L/∂h_t‖ over the steps, and the factor of the half that grows less.

    Args:
        sizes: RMS of ∂L/∂h_t, first step first.

    Returns:
        The slope, with factor 0 where all but the last steps get exactly 0, and the lesser factor
        of both halves.
    """
    count = len(sizes)
    slope = _fit(sizes)
    if math.isnan(slope.factor) and 0 in sizes and any(size > 0 for size in sizes):
        slope = replace(slope, factor=0.0, underflow=True)
    if count < LEAST_TO_PERSIST:
        return slope, math.nan
    halves = _fit(sizes[: count // 2 + 1]).factor, _fit(sizes[count // 2 :]).factor
    return slope, math.nan if any(map(math.isnan, halves)) else min(halves)


def _fit(sizes: Sequence[float]) -> Slope:
    return fit(sizes, range(len(sizes)), [0] * len(sizes), len(sizes) - 1)


# ---------------------------------------------------------------- measured


def _fused(call: Call, measured: list[Through], notes: list[str]) -> None:
    rnn, name = call.module, call.name
    if rnn.bidirectional or not isinstance(call.input, Tensor):
        what = "is bidirectional" if rnn.bidirectional else "reads a packed sequence"
        notes.append(
            f"{name} {what}: its gradient through time is not measured. Measure next: "
            "cu.record_through_time on one direction with a plain tensor."
        )
        return
    axis = 1 if rnn.batch_first and call.input.dim() == 3 else 0
    steps = call.input.shape[axis]
    if steps < LEAST_STEPS:
        return
    output = call.cotangents.get("[0]")
    last = call.cotangents.get("[1][0]", call.cotangents.get("[1]"))

    def loss(sequence: Tensor) -> Tensor:
        total = sequence.sum() * 0
        if output is not None:
            total = total + (sequence * output).sum()
        if last is not None:
            total = total + (sequence.select(axis, steps - 1) * last[-1]).sum()
        return total

    state = call.state
    if state is not None:
        parts = state if isinstance(state, tuple | list) else [state]
        state = [part.detach() for part in parts]
        state = tuple(state) if isinstance(rnn, nn.LSTM) else state[0]
    record = record_through_time(rnn, call.input.detach(), loss, state)
    rows = [i for i, label in enumerate(record.layers) if label.startswith("h_")]
    slope, lasting = over_time(record.grad_rms[0, rows].tolist())
    if isinstance(rnn, nn.RNN):
        weight = getattr(rnn, f"weight_hh_l{rnn.num_layers - 1}")
        said = _by_slopes(weight, _slopes_of(call.output, rnn.nonlinearity), rnn.nonlinearity)
    else:
        said = _by_gates(rnn, _kept_by_layer(call), slope)
    measured.append(Through(name, rnn, slope, lasting, steps, *said))


def _loop(calls: list[Call], found: Pass) -> Through:
    sizes = [call.grad_in for call in calls]
    if all(math.isnan(value) for value in sizes[1:]):
        sizes = [call.grad_out for call in calls]
    slope, lasting = over_time(sizes)
    module = calls[0].module
    if isinstance(module, nn.RNNCell):
        states = torch.stack([call.output for call in calls])
        squares = _slopes_of(states, module.nonlinearity)
        said = _by_slopes(module.weight_hh, squares, module.nonlinearity)
    elif isinstance(module, nn.LSTMCell | nn.GRUCell):
        said = _by_gates(module, _kept_by_cell(calls), slope)
    else:
        said = _by_path(calls, found)
    return Through(calls[0].name, module, slope, lasting, len(calls), *said)


# ---------------------------------------------------------------- predicted


def _slopes_of(h: Tensor, activation: str) -> Tensor:
    """Mean φ′² of each unit, from the states (…, n)."""
    h = _wide(h)
    slope = 1 - h.square() if activation == "tanh" else (h > 0).to(h.dtype)
    return slope.square().flatten(0, -2).mean(0)


def _wide(value: Tensor) -> Tensor:
    return value.double() if value.device.type != "mps" else value.float()


def _by_slopes(weight: Tensor, squares: Tensor, activation: str) -> tuple[float, str]:
    """ρ(diag(d) W), d being the rms slope of each unit over the batch and time."""
    weight = weight.detach().to(squares)
    radius = theory.spectral_radius(weight)
    together = theory.spectral_radius(squares.sqrt()[:, None] * weight)
    return together, (
        f"Each step multiplies by the recurrent weights, spectral radius {radius:.3g}, and by the "
        f"slope of {activation}, rms {float(squares.mean().sqrt()):.3g}; row by row together they "
        f"have a spectral radius of {together:.3g}."
    )


def _by_path(calls: list[Call], found: Pass) -> tuple[float, str]:
    """The same for a square linear layer in a loop, with the slopes that stand in the graph."""
    weight = getattr(calls[0].module, "weight", None)
    again = "The same weights at every step"
    if not isinstance(weight, Tensor) or weight.dim() != 2 or weight.shape[0] != weight.shape[1]:
        return math.nan, (
            f"{again}: the factor is the spectral radius of what carries the state on, times the "
            "slope of the activation."
        )
    nodes = [n for call in calls if call in found.paths for n in found.paths[call].activations[:1]]
    values = [value for value in map(slopes, nodes) if value is not None]
    if len(values) < len(calls) - 1 or any(value.shape[-1] != len(weight) for value in values):
        radius = theory.spectral_radius(weight.detach())
        return math.nan, f"{again}, of spectral radius {radius:.3g}."
    squares = torch.stack([_wide(v).square().flatten(0, -2).mean(0) for v in values]).mean(0)
    return _by_slopes(weight, squares, activation_name(nodes[0]) or "the activation")


def _by_gates(rnn: nn.Module, kept: float, slope: Slope) -> tuple[float, str]:
    if slope.factor > 1 and slope.log_total > math.log(LIMIT) / 2:
        weights = [weight for name, weight in rnn.named_parameters() if "weight_hh" in name]
        gates = [g for w in weights for g in w.detach().chunk(max(1, len(w) // w.shape[1]))]
        radius = max((theory.spectral_radius(g) for g in gates if len(g) == g.shape[1]), default=0)
        large = f", of spectral radius up to {radius:.3g}" if radius else ""
        return math.nan, (
            "No gate multiplies the state by more than 1, so the growth comes by the other way: "
            f"through the recurrent weights of the gates themselves{large}."
        )
    if math.isnan(kept):
        return math.nan, (
            "What its gates keep of the state is not computed here (more than one layer, or a "
            "projection); without biases that open them it is about half per step."
        )
    what = "forget gate" if isinstance(rnn, nn.LSTM | nn.LSTMCell) else "update gate"
    closed = ": without a bias that opens it, a sigmoid near ½" if kept < 0.75 else ""
    return kept, f"The {what} keeps a share of {kept:.3g} of the state per step{closed}."


def _kept_by_layer(call: Call) -> float:
    """RMS of the gate that carries the state on; of a single layer only."""
    rnn = call.module
    if rnn.num_layers > 1 or getattr(rnn, "proj_size", 0):
        return math.nan
    x, h = call.input.detach(), call.output
    axis = 1 if rnn.batch_first and x.dim() == 3 else 0
    before = h.narrow(axis, 0, h.shape[axis] - 1)
    now = x.narrow(axis, 1, x.shape[axis] - 1)
    biases = (rnn.bias_ih_l0, rnn.bias_hh_l0) if rnn.bias else (None, None)
    return _gate(rnn, now, before, (rnn.weight_ih_l0, rnn.weight_hh_l0), biases)


def _kept_by_cell(calls: list[Call]) -> float:
    cell = calls[0].module
    later = [c for c in calls[1:] if isinstance(c.input, Tensor) and c.input.dim() == 2]
    if not later or len({c.input.shape for c in later}) > 1:
        return math.nan
    now = torch.stack([call.input.detach() for call in later])
    before = torch.stack([call.output for call in calls if call is not calls[-1]][-len(later) :])
    biases = (cell.bias_ih, cell.bias_hh) if cell.bias else (None, None)
    return _gate(cell, now, before, (cell.weight_ih, cell.weight_hh), biases)


def _gate(
    module: nn.Module, x: Tensor, h: Tensor, weights: tuple[Tensor, Tensor], biases: tuple
) -> float:
    with torch.no_grad():
        gates = linear(x, weights[0], biases[0]) + linear(h, weights[1], biases[1])
        count = 4 if isinstance(module, nn.LSTM | nn.LSTMCell) else 3
        kept = torch.sigmoid(gates.chunk(count, dim=-1)[1]).float()
    return float(kept.square().mean().sqrt())


# ---------------------------------------------------------------- said


def finding(one: Through) -> Finding:
    """The finding for a gradient that vanishes or explodes through time."""
    slope, kind, again = one.slope, one.verdict, ""
    if not slope.factor:
        size = "Of the gradient at the last step exactly 0 arrives at the steps before."
    else:
        size = (
            f"From step {one.steps} back to step 1 ∂L/∂h_t is multiplied by "
            f"10^{slope.log_total / math.log(10):.1f}."
        )
    if not slope.verdict:
        again = (
            " That is less than 100×, but it grows in both halves of the steps, and twice as many "
            "steps would square it."
        )
    cause = f"{size}{again} {one.said}"
    if kind == "exploding":
        cause += " Nothing clips the gradient inside backward: clip its norm before the step."
    return Finding(
        kind,
        (one.name,),
        "factor of ∂L/∂h_t per time step",
        slope.factor,
        one.predicted,
        cause,
        remedies.recurrent(one.module, one.name, kind, one.steps),
        remedies.CHAPTERS[6 if kind == "exploding" else 3],
    )


def in_order(one: Through) -> str:
    """A sentence on a recurrence of which nothing is wrong."""
    total = math.exp(one.slope.log_total)
    text = (
        f"Through the {one.steps} steps of {one.name} the gradient changes by a factor of "
        f"{total:.3g}, {one.slope.factor:.3g} per step. {one.said}"
    )
    if one.predicted < 0.8 * one.slope.factor:
        text += " That it does not fade all the same is due to the steps that the loss reads."
    return text
