"""How the gradient of a recurrence changes from step to step, measured and predicted."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .. import theory
from ..measuring import torch_internals
from ..measuring.torch_internals import outputs_of
from ..recording import record_through_time
from .bare_weights import unit_axis
from .elementwise import kept_per_step
from .graph import PRODUCTS, Path, activation_name, is_plumbing, reaches, slopes, stem, walk
from .layer_calls import BareWeight, LayerCall, rms
from .one_direction import one_direction
from .slope import LIMIT, Slope, fit_slope

LEAST_STEPS = 4
LEAST_TO_PERSIST = 8
"""Of fewer steps no half is long enough to tell a growth that lasts from one that stops."""


_EXPLAINS = 0.05  # largest error of the log of a factor that is said to be the cause of a growth
_NEAR = 6  # nodes from the output of a layer to its product
_REMAINS = 0.05  # least share of the differences between inputs that a fixed point has left


@dataclass(frozen=True)
class Recurrence:
    """How the gradient of one recurrence changes from step to step, backward in time.

    Attributes:
        name: Name of the recurrent module.
        module: The module, or a `BareWeight`.
        slope: Factor of ∂L/∂h_t per step.
        lasting: Factor per step of that half of the steps in which it grows less; NaN for a short
            sequence.
        steps: T.
        predicted: The factor that the weights and slopes predict; NaN where theory says nothing.
        said: Why, in a sentence.
        part: Axis, start and stop of that part of the weights that the state meets, where the
            layer reads something beside it.
        activation: Name of the activation behind each step of a written-out recurrence.
        shrinking: What the difference of successive states is multiplied by per step, where they
            converge to something that depends on the input; else NaN.
    """

    name: str
    module: Any
    slope: Slope
    lasting: float
    steps: int
    predicted: float
    said: str
    part: tuple[int, int, int] | None = None
    activation: str | None = None
    shrinking: float = math.nan

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


def through_recurrences(
    calls: Sequence[LayerCall],
    loops: Mapping[Any, list[LayerCall]],
    paths: Mapping[LayerCall, Path],
) -> tuple[list[Recurrence], list[str]]:
    """Every fused recurrent layer and written-out loop, and a sentence on what was not measured.

    Args:
        calls: Calls of all layers, in forward order.
        loops: Calls of those that run on what came of their last call.
        paths: What stands before each layer.
    """
    measured: list[Recurrence] = []
    unseen: list[str] = []
    for call in calls:
        if not call.recurrent or not call.cotangents or call.module in loops:
            continue
        plain = one_direction(call)
        if not plain:
            unseen.append(
                f"the gradient of {call.name} through time is not measured. Measure next: "
                "cu.record_through_time on its input as a plain tensor."
            )
            continue
        both = [
            replace(_fused(one, one.input.detach()), module=call.module)
            for one in plain
            if one.input is not None and one.cotangents
            if one.input.shape[_time_axis(one)] >= LEAST_STEPS
        ]
        if len(plain) == 2 and both and _one_of_two_arrives(both):
            continue
        if len(plain) == 2 and both:
            both = [max(both, key=lambda one: abs(one.slope.log_total))]
            both[0] = replace(both[0], said=f"{both[0].said} That is the worse of two directions.")
        measured += both
    return measured + [_loop(steps, paths) for steps in loops.values()], unseen


def _one_of_two_arrives(both: Sequence[Recurrence]) -> bool:
    """Whether the two directions together bring every step within the limit.

    One fades from the last step to the first and the other from the first to the last, so least
    arrives where they meet: with totals of e^−a and e^−b that is e^(−ab/(a + b)).
    """
    if len(both) != 2 or any(one.verdict != "vanishing" or not one.slope.factor for one in both):
        return False
    a, b = (-one.slope.log_total for one in both)
    return a * b / (a + b) <= math.log(LIMIT)


def _time_axis(call: LayerCall) -> int:
    return 1 if call.module.batch_first and call.input is not None and call.input.dim() == 3 else 0


def over_time(sizes: Sequence[float]) -> tuple[Slope, float]:
    """Slope of log ‖∂L/∂h_t‖ over the steps, and the factor of the half that grows less.

    Args:
        sizes: RMS of ∂L/∂h_t, first step first.

    Returns:
        The slope, with factor 0 where all but the last steps get exactly 0, and the lesser factor
        of both halves.
    """
    count = len(sizes)
    slope = fit_slope(sizes)
    if math.isnan(slope.factor) and 0 in sizes and any(size > 0 for size in sizes):
        slope = replace(slope, factor=0.0, underflow=True)
    if count < LEAST_TO_PERSIST:
        return slope, math.nan
    halves = [fit_slope(half).factor for half in (sizes[: count // 2 + 1], sizes[count // 2 :])]
    return slope, math.nan if any(map(math.isnan, halves)) else min(halves)


# ---------------------------------------------------------------- measured


def _fused(call: LayerCall, x: Tensor) -> Recurrence:
    rnn, axis = call.module, _time_axis(call)
    steps = x.shape[axis]
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
    if isinstance(state, tuple | list):
        state = tuple(part.detach() for part in state)
    elif state is not None:
        state = state.detach()
    record = record_through_time(rnn, x, loss, state)
    rows = [i for i, label in enumerate(record.layers) if label.startswith("h_")]
    slope, lasting = over_time(record.grad_rms[0, rows].tolist())
    if isinstance(rnn, nn.RNN):
        weight = getattr(rnn, f"weight_hh_l{rnn.num_layers - 1}")
        assert call.output is not None
        said = _by_slopes(weight, _slopes_of(call.output, rnn.nonlinearity), rnn.nonlinearity)
    else:
        said = _by_gates(rnn, *_gates_of_layer(call, x), slope)
    return Recurrence(call.name, rnn, slope, lasting, steps, *said)


def _loop(calls: Sequence[LayerCall], paths: Mapping[LayerCall, Path]) -> Recurrence:
    sizes = [call.grad_in for call in calls]
    if all(math.isnan(value) for value in sizes[1:]):
        sizes = [call.grad_out for call in calls]
    slope, lasting = over_time(sizes)
    module = calls[0].module
    if isinstance(module, nn.RNNCell):
        squares = _slopes_of(_stacked(call.output for call in calls), module.nonlinearity)
        said = _by_slopes(module.weight_hh, squares, module.nonlinearity)
    elif isinstance(module, nn.LSTMCell | nn.GRUCell):
        said = _by_gates(module, *_gates_of_cell(calls), slope)
    else:
        return _written_out(calls, paths, slope, lasting)
    found = Recurrence(calls[0].name, module, slope, lasting, len(calls), *said)
    return _or_converging(found, [call.output for call in calls])


def _written_out(
    calls: Sequence[LayerCall], paths: Mapping[LayerCall, Path], slope: Slope, lasting: float
) -> Recurrence:
    part = _part_of_the_state(calls)
    name = next((activation_name(n) for n in paths[calls[-1]].activations), None)
    found = Recurrence(
        calls[0].name,
        calls[0].module,
        slope,
        lasting,
        len(calls),
        *_by_path(calls, paths, part),
        part=part,
        activation=name,
    )
    return _or_converging(found, [_input_of(call) for call in calls])


def _input_of(call: LayerCall) -> Tensor | None:
    if call.out_node is None:
        return None
    nodes = itertools.islice(walk(call.out_node), _NEAR)
    product = next((n for n in nodes if any(p in n.name() for p in PRODUCTS)), None)
    return None if product is None else torch_internals.saved_input(product)


def _part_of_the_state(calls: Sequence[LayerCall]) -> tuple[int, int, int] | None:
    """Axis, start and stop of what a weight over cat(x, h) has of h; None if not known."""
    call, before = calls[-1], calls[-2]
    weight = getattr(call.module, "weight", None)
    if call.in_node is None or stem(call.in_node) != "Cat":
        return None
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        return None
    axis = 1
    if not isinstance(call.module, nn.Module):
        units = unit_axis(call, weight)
        if units is None:
            return None
        axis = 1 - units
    pieces = call.in_node.next_functions
    widths = [
        None if after is None else int(outputs_of(after)[place].shape[-1])
        for after, place in pieces
    ]
    state = [i for i, (after, _) in enumerate(pieces) if reaches(after, before.out_node)]
    if len(state) != 1:
        return None
    (here,) = state
    width, total = widths[here], weight.shape[axis]
    ahead, behind = widths[:here], widths[here + 1 :]
    if width is None:
        return None
    if None not in ahead:
        start = sum(w for w in ahead if w is not None)
    elif None not in behind:
        start = total - width - sum(w for w in behind if w is not None)
    else:
        return None
    return axis, start, start + width


# ---------------------------------------------------------------- states that converge


def _or_converging(found: Recurrence, states: Sequence[Tensor | None]) -> Recurrence:
    """The same, with what the states do, where the gradient vanishes through them."""
    if found.verdict != "vanishing" or any(state is None for state in states):
        return found
    values = [_wide(state.detach()) for state in states if state is not None]
    if len({value.shape for value in values}) > 1:
        return found
    return replace(found, shrinking=_shrinking(values))


def _shrinking(states: Sequence[Tensor]) -> float:
    """What the difference of successive states is multiplied by per step; NaN if it does not last.

    NaN too if what they converge to is the same for every input: then nothing of it remains.
    """
    differences = [rms(b - a) for a, b in itertools.pairwise(states)]
    middle = len(differences) // 2
    size = rms(states[-1])
    rounding = 16 * torch.finfo(states[0].dtype).eps * size
    first, half, last = differences[0], differences[middle], differences[-1]
    if not (first > 0 and half <= first / 4 and last <= max(half / 4, 1e-6 * size)):
        return math.nan
    spreads = [size] if len(states[-1]) < 2 else [rms(s - s.mean(0)) for s in states]
    reference = [rms(s) for s in states] if len(states[-1]) < 2 else spreads
    if not spreads[-1] > max(_REMAINS * max(reference), 1e-3 * size):
        return math.nan
    kept = [d for d in differences if d > max(rounding, 1e-6 * size)]
    if len(kept) < 2:
        return 0.0
    return (kept[-1] / kept[0]) ** (1 / (len(kept) - 1))


def _stacked(values: Iterable[Tensor | None]) -> Tensor:
    return torch.stack([value.detach() for value in values if value is not None])


# ---------------------------------------------------------------- predicted


def _slopes_of(h: Tensor, activation: str) -> Tensor:
    """Mean φ′² of each unit, from the states (…, n)."""
    h = _wide(h)
    return _mean_square(1 - h.square() if activation == "tanh" else (h > 0).to(h.dtype))


def _mean_square(slope: Tensor) -> Tensor:
    """Mean φ′² of each unit over batch and time."""
    return _wide(slope).square().flatten(0, -2).mean(0)


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


def _by_path(
    calls: Sequence[LayerCall],
    paths: Mapping[LayerCall, Path],
    part: tuple[int, int, int] | None,
) -> tuple[float, str]:
    """The same for a linear layer in a loop, with the slopes that stand in the graph."""
    weight = getattr(calls[0].module, "weight", None)
    if isinstance(weight, Tensor) and part is not None:
        weight = weight.narrow(part[0], part[1], part[2] - part[1])
    again = "The same weights at every step"
    entries = calls[-1].out_node is not None and stem(calls[-1].out_node) == "Mul"
    if isinstance(calls[0].module, BareWeight) and entries:
        path = paths.get(calls[-1])
        return kept_per_step(list(calls), path.activations if path else [])
    if not isinstance(weight, Tensor) or weight.dim() != 2 or weight.shape[0] != weight.shape[1]:
        return math.nan, (
            f"{again}: the factor is the spectral radius of what carries the state on, times the "
            "slope of the activation."
        )
    last = paths.get(calls[-1])
    if last and sum(parent.module is calls[0].module for parent in last.parents) > 1:
        radius = theory.spectral_radius(weight.detach())
        return math.nan, (
            f"{again}, of spectral radius {radius:.3g}, and a way around them: a skip or a gate "
            "carries the state on."
        )
    if last and not last.activations and all(map(is_plumbing, last.nodes)):
        radius = theory.spectral_radius(weight.detach())
        return radius, f"{again}, of spectral radius {radius:.3g}, with no activation between."
    nodes = [n for call in calls if call in paths for n in paths[call].activations[:1]]
    values = [value for value in map(slopes, nodes) if value is not None]
    if len(values) < len(calls) - 1 or any(value.shape[-1] != len(weight) for value in values):
        radius = theory.spectral_radius(weight.detach())
        return math.nan, f"{again}, of spectral radius {radius:.3g}."
    squares = torch.stack([_mean_square(value) for value in values]).mean(0)
    return _by_slopes(weight, squares, activation_name(nodes[0]) or "the activation")


def _by_gates(rnn: nn.Module, kept: float, together: float, slope: Slope) -> tuple[float, str]:
    """What one step keeps and what the recurrent weights add, in words; the second is predicted."""
    what = "forget gate" if isinstance(rnn, nn.LSTM | nn.LSTMCell) else "update gate"
    adds = (
        f"the recurrent weights, the same at every step, add to it: {together:.3g} together, the "
        "spectral radius of the mean step"
    )
    if slope.factor > 1 and slope.log_total > math.log(LIMIT) / 2:
        if together > 1 and abs(math.log(together / slope.factor)) < _EXPLAINS:
            return together, f"The {what} keeps a share of {kept:.3g} per step, and {adds}."
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
    closed = " (without a bias that opens it, a sigmoid near ½)" if kept < 0.75 else ""
    said = f"The {what} keeps a share of {kept:.3g} of the state per step{closed}"
    return (kept, f"{said}.") if math.isnan(together) else (together, f"{said}, and {adds}.")


def _gates_of_layer(call: LayerCall, x: Tensor) -> tuple[float, float]:
    """RMS of the gate that carries the state on, and `_mean_step`; of a single layer only."""
    rnn, h, axis = call.module, call.output, _time_axis(call)
    if h is None or rnn.num_layers > 1 or getattr(rnn, "proj_size", 0):
        return math.nan, math.nan
    steps = h.shape[axis]
    states = h.narrow(axis, 0, steps - 1), h.narrow(axis, 1, steps - 1)
    biases = (rnn.bias_ih_l0, rnn.bias_hh_l0) if rnn.bias else (None, None)
    weights = rnn.weight_ih_l0, rnn.weight_hh_l0
    return _gates(rnn, x.narrow(axis, 1, steps - 1), states, weights, biases)


def _gates_of_cell(calls: Sequence[LayerCall]) -> tuple[float, float]:
    cell = calls[0].module
    inputs = [c.input for c in calls[1:] if isinstance(c.input, Tensor) and c.input.dim() == 2]
    if not inputs or len({x.shape for x in inputs}) > 1:
        return math.nan, math.nan
    before = _stacked(call.output for call in calls[:-1][-len(inputs) :])
    after = _stacked(call.output for call in calls[1:][-len(inputs) :])
    biases = (cell.bias_ih, cell.bias_hh) if cell.bias else (None, None)
    weights = cell.weight_ih, cell.weight_hh
    return _gates(cell, _stacked(inputs), (before, after), weights, biases)


def _gates(
    module: nn.Module,
    x: Tensor,
    states: tuple[Tensor, Tensor],
    weights: tuple[Tensor, Tensor],
    biases: tuple,
) -> tuple[float, float]:
    """RMS of the gate that carries the state on, and the spectral radius of the mean step.

    The Jacobian of the cell (of a GRU's state) by the one before, averaged over batch and time:
    diag(f) + diag(i g′) U_g diag(o tanh′(c)), of a GRU diag(z) + diag((1 − z) n′ r) U_n. What goes
    through the other gates has a state or a candidate as a factor and averages out.
    """
    with torch.no_grad():
        drive = _wide(linear(x, weights[0], biases[0]))
        echo = _wide(linear(states[0], weights[1], biases[1]))
        if isinstance(module, nn.LSTM | nn.LSTMCell):
            into, kept, new, out = (drive + echo).chunk(4, dim=-1)
            kept, out = torch.sigmoid(kept), torch.sigmoid(out)
            opened = torch.sigmoid(into) * (1 - torch.tanh(new).square())
            tiny = torch.finfo(out.dtype).tiny  # a gate may be exactly 0
            seen = (out - _wide(states[1]).square() / out.clamp(min=tiny)).clamp(0, 1)
        else:
            (reset, kept, _), new = (drive + echo).chunk(3, dim=-1), drive.chunk(3, dim=-1)[2]
            reset, kept = torch.sigmoid(reset), torch.sigmoid(kept)
            new = torch.tanh(new + reset * echo.chunk(3, dim=-1)[2])
            opened = (1 - kept) * (1 - new.square()) * reset
            seen = torch.ones_like(kept)
        keeps, opens, sees = (part.flatten(0, -2).mean(0) for part in (kept, opened, seen))
        recurrent = _wide(weights[1]).chunk(4 if len(weights[1]) // len(keeps) == 4 else 3)[2]
        step = keeps.diag() + opens[:, None] * recurrent * sees
        radius = theory.spectral_radius(step) if torch.isfinite(step).all() else math.nan
        return float(kept.square().mean().sqrt()), radius
