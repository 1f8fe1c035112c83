"""Vanishing and exploding through time."""

import math

import torch
from torch import Tensor, nn

from .. import theory
from ..recording import through_time
from . import remedies
from .measure import Pass
from .probe import Call
from .report import Finding
from .slope import Slope, fit

LEAST_STEPS = 4


def through_recurrences(found: Pass) -> tuple[list[Finding], list[str]]:
    """Findings of fused recurrent layers and of written-out loops, and what could not be seen."""
    findings, notes = [], []
    for call in found.calls:
        if call.recurrent and call.cotangents and call.module not in found.loops:
            _fused(call, findings, notes)
    for calls in found.loops.values():
        _loop(calls, findings)
    return findings, notes


def _fused(call: Call, findings: list[Finding], notes: list[str]) -> None:
    rnn, name = call.module, call.name
    if rnn.bidirectional or not isinstance(call.input, Tensor):
        what = "is bidirectional" if rnn.bidirectional else "reads a packed sequence"
        notes.append(
            f"{name} {what}: its gradient through time is not measured. Measure next: "
            "cu.through_time on one direction with a plain tensor."
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
    record = through_time(rnn, call.input.detach(), loss, state)
    rows = [i for i, label in enumerate(record.layers) if label.startswith("h_")]
    norms = record.grad_rms[0, rows].tolist()
    slope = fit(norms, range(len(norms)), [0] * len(norms), len(norms) - 1)
    if slope.verdict:
        findings.append(_finding(slope, call, steps))


def _finding(slope: Slope, call: Call, steps: int) -> Finding:
    predicted, cause = _predict(call)
    decades = slope.log_total / math.log(10)
    cause = f"From step {steps} back to step 1 ∂L/∂h_t is multiplied by 10^{decades:.1f}. {cause}"
    if slope.verdict == "exploding":
        cause += " Nothing clips the gradient inside backward: clip its norm before the step."
    return Finding(
        slope.verdict,
        (call.name,),
        "factor of ∂L/∂h_t per time step",
        slope.factor,
        predicted,
        cause,
        remedies.recurrent(call.module, call.name, slope.verdict, steps),
        remedies.CHAPTERS[6 if slope.verdict == "exploding" else 3],
    )


def _predict(call: Call) -> tuple[float, str]:
    rnn, h = call.module, call.output.double()
    top = rnn.num_layers - 1
    if isinstance(rnn, nn.RNN):
        weight = getattr(rnn, f"weight_hh_l{top}").detach()
        radius = theory.spectral_radius(weight)
        slope = 1 - h.square() if rnn.nonlinearity == "tanh" else (h > 0).double()
        rms_slope = float(slope.square().mean().sqrt())
        return radius * rms_slope, (
            f"Each step multiplies by the recurrent weights, spectral radius {radius:.3g}, and by "
            f"the slope of {rnn.nonlinearity}, rms {rms_slope:.3g}: {radius * rms_slope:.3g} per "
            "step."
        )
    gate = _kept(call)
    if math.isnan(gate):
        return math.nan, "The gates keep too little (or too much) of the state from step to step."
    what = "forget gate" if isinstance(rnn, nn.LSTM) else "update gate"
    return gate, (
        f"The {what} keeps a share of {gate:.3g} of the state per step: without a bias that opens "
        "it, a sigmoid near ½."
    )


def _kept(call: Call) -> float:
    """RMS of the gate that carries the state on; of a single layer only."""
    rnn = call.module
    if rnn.num_layers > 1 or getattr(rnn, "proj_size", 0):
        return math.nan
    with torch.no_grad():
        x, h = call.input.detach(), call.output
        axis = 1 if rnn.batch_first and x.dim() == 3 else 0
        before = h.narrow(axis, 0, h.shape[axis] - 1)
        gates = nn.functional.linear(
            x.narrow(axis, 1, x.shape[axis] - 1),
            rnn.weight_ih_l0,
            rnn.bias_ih_l0 if rnn.bias else None,
        ) + nn.functional.linear(before, rnn.weight_hh_l0, rnn.bias_hh_l0 if rnn.bias else None)
        count = 4 if isinstance(rnn, nn.LSTM) else 3
        kept = torch.sigmoid(gates.chunk(count, dim=-1)[1]).double()
    return float(kept.square().mean().sqrt())


def _loop(calls: list[Call], findings: list[Finding]) -> None:
    points = [call.grad_in for call in calls]
    if all(math.isnan(value) for value in points[1:]):
        points = [call.grad_out for call in calls]
    slope = fit(points, range(len(points)), [0] * len(points), len(points) - 1)
    if not slope.verdict:
        return
    name = calls[0].name
    predicted, said = math.nan, ""
    weight = getattr(calls[0].module, "weight_hh", getattr(calls[0].module, "weight", None))
    if isinstance(weight, Tensor) and weight.dim() == 2 and weight.shape[0] == weight.shape[1]:
        radius = theory.spectral_radius(weight.detach())
        said = f" Its weights have a spectral radius of {radius:.3g}."
    decades = slope.log_total / math.log(10)
    findings.append(
        Finding(
            slope.verdict,
            (name,),
            "factor of ∂L/∂h per call",
            slope.factor,
            predicted,
            f"{name} is called {len(calls)} times, each time on what came of the last call, and "
            f"over these ∂L/∂h is multiplied by 10^{decades:.1f}.{said} The same weights at every "
            "step: the factor per step is the spectral radius times the slope of the activation.",
            remedies.clip()
            if slope.verdict == "exploding"
            else "# start from recurrent weights of spectral radius 1, or use gates:\n"
            + "for name, weight in model.named_parameters():\n"
            + '    if "weight_hh" in name:\n'
            + "        for gate in weight.chunk(max(1, weight.shape[0] // weight.shape[1])):\n"
            + "            nn.init.orthogonal_(gate)",
            remedies.CHAPTERS[6 if slope.verdict == "exploding" else 3],
        )
    )
