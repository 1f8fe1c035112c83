"""Vanishing and exploding through time, by outside oracles."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from patients import Written, data, diagnose, factor_by_autograd, heal, reads, the
from torch import nn

import course_utils as cu
from course_utils.diagnosis.recurrence import Recurrence, over_time


class Unrolled(nn.Module):
    """One recurrence in four ways to write it, with the same weights in each."""

    def __init__(self, how, recurrent, activation="relu", inputs=2, bias=None):
        super().__init__()
        width = len(recurrent)
        g = cu.seeded(12)
        read, head = torch.randn(width, inputs, generator=g), torch.randn(10, width, generator=g)
        bias = torch.zeros(width) if bias is None else bias
        self.how, self.act = how, getattr(torch, activation)
        self.head = nn.Linear(width, 10, bias=False)
        if how == "fused":
            self.rnn = nn.RNN(inputs, width, nonlinearity=activation, batch_first=True)
            parts = [getattr(self.rnn, f"{name}_l0") for name in ("weight_ih", "weight_hh")]
            biases = [self.rnn.bias_ih_l0, self.rnn.bias_hh_l0]
        elif how == "cell":
            self.cell = nn.RNNCell(inputs, width, nonlinearity=activation)
            parts = [self.cell.weight_ih, self.cell.weight_hh]
            biases = [self.cell.bias_ih, self.cell.bias_hh]
        elif how == "linear":
            self.W, self.U = nn.Linear(inputs, width), nn.Linear(width, width)
            parts, biases = [self.W.weight, self.U.weight], [self.W.bias, self.U.bias]
        else:
            self.W, self.U, self.b, self.c = map(
                nn.Parameter, (read.T.clone(), recurrent.T.clone(), bias.clone(), bias * 0)
            )
            parts, biases = [self.W.T, self.U.T], [self.b, self.c]
        with torch.no_grad():
            for part, value in zip(
                [*parts, *biases, self.head.weight],
                [read, recurrent, bias, bias * 0, head],
                strict=True,
            ):
                part.copy_(value)

    def forward(self, x):
        if self.how == "fused":
            return self.head(self.rnn(x)[0][:, -1])
        return self.head(self.states(x)[-1])

    def states(self, x):
        h, states = x.new_zeros(len(x), self.head.in_features), []
        for step in x.unbind(1):
            if self.how == "cell":
                h = self.cell(step, h)
            elif self.how == "linear":
                h = self.act(self.W(step) + self.U(h))
            else:
                h = self.act(step @ self.W + self.b + h @ self.U + self.c)
            states.append(h)
        return states


WAYS = ("fused", "cell", "linear", "bare")


def by_autograd(model, x, y):
    """Factor per step from gradients that autograd takes at every state of the bare recurrence."""
    states = model.states(x)
    return factor_by_autograd(F.cross_entropy(model.head(states[-1]), y), states)


def test_the_factor_per_step_is_that_of_gradients_through_the_unrolled_cells():
    model = cu.recurrent("rnn", 32, inputs=3, outputs=10, generator=cu.seeded(0), gain=0.5)
    x = torch.randn(8, 30, 3, generator=cu.seeded(1))
    y = data(8)[1]
    cell = nn.RNNCell(3, 32)
    with torch.no_grad():
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(cell, kind).copy_(getattr(model.rnn, f"{kind}_l0"))
    states, h = [], torch.zeros(8, 32)
    for t in range(30):
        h = cell(x[:, t], h)
        states.append(h)
    expected = factor_by_autograd(F.cross_entropy(model.head(h), y), states)
    assert the(diagnose(model, (x, y)), "vanishing").measured == pytest.approx(expected, rel=1e-4)


def test_the_factor_of_a_linear_recurrence_is_its_spectral_radius():
    model = cu.recurrent("rnn", 16, inputs=2, outputs=10, activation="relu", generator=cu.seeded(0))
    with torch.no_grad():
        model.rnn.weight_hh_l0.copy_(1.25 * torch.eye(16))
        model.rnn.weight_ih_l0.abs_()
    x = torch.rand(4, 50, 2, generator=cu.seeded(1)) + 0.1
    found = the(diagnose(model, (x, data(4)[1])), "exploding")
    assert found.measured == pytest.approx(1.25, rel=1e-5)
    assert found.predicted == pytest.approx(1.25, rel=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_opening_the_gate_keeps_the_gradient(kind):
    model = cu.recurrent(
        kind, 32, inputs=3, outputs=10, init="torch_default", generator=cu.seeded(0)
    )
    batch = torch.randn(8, 60, 3, generator=cu.seeded(1)), data(8)[1]
    found = the(diagnose(model, batch), "vanishing")
    assert found.predicted == pytest.approx(found.measured, rel=0.05)
    assert found.notebook.startswith("09")
    assert diagnose(heal(model, batch, "vanishing"), batch).healthy


def gated(kind, width, bias, steps, size=1.0, seed=0, batch=8):
    model = cu.recurrent(
        kind, width, inputs=3, outputs=10, init="torch_default", generator=cu.seeded(seed)
    )
    count = {"lstm": 4, "gru": 3}[kind]
    with torch.no_grad():
        model.rnn.bias_ih_l0.chunk(count)[1].fill_(bias)
        model.rnn.bias_hh_l0.chunk(count)[1].zero_()
    x = size * torch.randn(batch, steps, 3, generator=cu.seeded(seed + 1))
    return model, (x, data(batch)[1])


def of_time(found):
    (one,) = [f for f in found.findings if "time step" in f.quantity]
    return one


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize(("width", "bias", "steps"), [(32, 0, 60), (64, 1, 100), (96, 2, 150)])
def test_the_recurrent_weights_count_in_what_a_gated_step_is_predicted_to_keep(
    kind, width, bias, steps
):
    found = of_time(diagnose(*gated(kind, width, float(bias), steps)))
    alone = 1 / (1 + math.exp(-bias))
    assert found.predicted == pytest.approx(found.measured, rel=0.04)
    assert found.measured > alone + 0.02  # and the gate alone is off


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_at_rest_the_prediction_is_the_radius_of_pytorchs_jacobian(kind):
    model, (x, y) = gated(kind, 24, 0.5, 80, size=1e-3)
    with torch.no_grad():
        model.rnn.bias_ih_l0.chunk(4 if kind == "lstm" else 3)[2].zero_()
        model.rnn.bias_hh_l0.chunk(4 if kind == "lstm" else 3)[2].zero_()
    rnn, zero = model.rnn.double(), torch.zeros(1, 1, 24).double()
    out = torch.sigmoid((rnn.bias_ih_l0 + rnn.bias_hh_l0).detach()[-24:])

    def step(c):
        state = ((out * c.tanh())[None, None], c[None, None]) if kind == "lstm" else c[None, None]
        after = rnn(torch.zeros(1, 1, 3).double(), state)[1]
        return (after[1] if kind == "lstm" else after).flatten()

    J = torch.autograd.functional.jacobian(step, zero.flatten())
    radius = float(torch.linalg.eigvals(J).abs().max())
    found = of_time(diagnose(model.float(), (x, y)))
    assert found.predicted == pytest.approx(radius, rel=1e-3)


def test_an_lstm_with_open_gates_explodes_as_predicted_and_its_twin_with_a_closed_one_does_not():
    model, batch = gated("lstm", 96, 5.0, 120, size=1e-6)
    with torch.no_grad():
        for bias in (model.rnn.bias_ih_l0, model.rnn.bias_hh_l0):
            bias[2 * 96 : 3 * 96] = 0.0  # at rest
    found = the(diagnose(model, batch), "exploding")
    assert found.predicted == pytest.approx(found.measured, rel=0.04) and found.predicted > 1.05
    assert "the same at every step, add to it" in found.cause
    with torch.no_grad():
        model.rnn.bias_ih_l0[:96] = -5.0
    assert "exploding" not in diagnose(model, batch).kinds


def test_the_remedy_of_an_lstm_sets_the_forget_and_the_input_gate():
    model, batch = gated("lstm", 32, 0.0, 60)
    healed = heal(model, batch, "vanishing").rnn
    into, keep, *_ = (healed.bias_ih_l0 + healed.bias_hh_l0).detach().chunk(4)
    torch.testing.assert_close(keep, torch.full((32,), math.log(59)), atol=0.005, rtol=0)
    torch.testing.assert_close(into, -keep)
    before = gated("lstm", 32, 0.0, 60)[0].rnn
    for block in (2, 3):
        assert torch.equal(healed.bias_ih_l0.chunk(4)[block], before.bias_ih_l0.chunk(4)[block])


def test_gates_that_are_exactly_shut_leave_a_prediction():
    model, (x, y) = gated("lstm", 16, 0.0, 40)
    with torch.no_grad():
        model.rnn.bias_ih_l0[-16:-8] = -1000.0
    found = of_time(diagnose(model, (x, y)))
    assert 0.4 < found.predicted < 0.7


def test_neither_the_size_of_the_loss_nor_of_the_batch_moves_the_prediction():
    small, large = (of_time(diagnose(*gated("lstm", 48, 1.0, 60, batch=b))) for b in (8, 32))
    assert small.predicted == pytest.approx(large.predicted, rel=0.01)


def test_a_loop_over_a_cell_is_a_recurrence():
    def loop(self, x):
        h = x.new_zeros(len(x), 20)
        for step in x.unbind(1):
            h = self.cell(step, h)
        return self.head(h)

    torch.manual_seed(0)
    model = Written(loop, cell=nn.RNNCell(3, 20), head=nn.Linear(20, 10))
    batch = torch.randn(8, 40, 3), data(8)[1]
    assert the(diagnose(model, batch), "vanishing").layers == ("cell",)
    model = heal(model, batch, "vanishing")
    short = batch[0][:, :15], batch[1]  # over fewer steps: tanh still costs a little in each
    assert diagnose(model, short).healthy


def test_a_shared_head_is_no_recurrence():
    def forward(self, x):
        total = 0
        for layer in self.layers:
            x = F.relu(layer(x))
            total = total + self.head(x)
        return total

    torch.manual_seed(0)
    layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(5))
    assert diagnose(Written(forward, layers=layers, head=nn.Linear(64, 10))).healthy


@pytest.mark.parametrize("how", WAYS)
def test_a_recurrence_that_nothing_clips_is_exploding_however_it_is_written(how):
    x, _ = cu.adding_problem(24, 50, generator=cu.seeded(1))
    y = data(24)[1]
    recurrent = 1.1 * torch.eye(40)
    found = the(diagnose(Unrolled(how, recurrent), (x, y)), "exploding")
    expected = by_autograd(Unrolled("bare", recurrent), x, y)
    assert found.measured == pytest.approx(expected, rel=2e-3)  # loops leave out the last state
    assert "spectral radius 1.1," in found.cause
    assert "clip_grad_norm_" in found.remedy and found.notebook.startswith("06")
    place = {"fused": "rnn", "cell": "cell"}.get(how, "U")
    assert found.layers == (place,)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(("activation", "gain"), [("tanh", 0.5), ("relu", 1.05)])
def test_a_recurrence_that_fades_is_vanishing_even_with_a_radius_above_one(how, activation, gain):
    g = cu.seeded(5)
    recurrent = gain * torch.randn(60, 60, generator=g) / 60**0.5
    x, y = torch.randn(16, 50, 2, generator=g), data(16)[1]
    found = the(diagnose(Unrolled(how, recurrent, activation), (x, y)), "vanishing")
    expected = by_autograd(Unrolled("bare", recurrent, activation), x, y)
    assert found.measured == pytest.approx(expected, rel=2e-2)
    assert found.notebook.startswith("03")
    if activation == "tanh":
        assert found.predicted == pytest.approx(found.measured, rel=0.1)
    else:  # the mask of a ReLU changes from step to step: no more than a bound here
        assert torch.linalg.eigvals(recurrent).abs().max() > 1 > found.predicted > found.measured


@pytest.mark.parametrize("how", WAYS)
def test_the_predicted_factor_is_the_radius_of_the_weights_with_each_units_slope(how):
    g = cu.seeded(3)
    recurrent, bias = torch.randn(24, 24, generator=g) / 4, torch.zeros(24)
    bias[:8] = 3.0  # a third of the units is driven into saturation
    model = Unrolled(how, recurrent, "tanh", bias=bias)
    x, y = torch.randn(16, 40, 2, generator=g), data(16)[1]
    states = torch.stack(Unrolled("bare", recurrent, "tanh", bias=bias).states(x)).detach()
    slopes = (1 - states.double().square()).square().mean((0, 1)).sqrt().numpy()
    jacobian = np.diag(slopes) @ recurrent.double().numpy()
    expected = np.abs(np.linalg.eigvals(jacobian)).max()
    found = [f for f in diagnose(model, (x, y)).findings if "time step" in f.quantity]
    assert found[0].predicted == pytest.approx(expected, rel=5e-3)


def test_units_that_stay_silent_do_not_lower_the_prediction():
    bias = torch.zeros(30)
    bias[:20] = -1000.0
    model = Unrolled("fused", 1.25 * torch.eye(30), bias=bias)
    with torch.no_grad():
        model.rnn.weight_ih_l0.abs_()
    x = torch.rand(8, 40, 2, generator=cu.seeded(1)) + 0.1
    found = the(diagnose(model, (x, data(8)[1])), "exploding")
    assert found.predicted == pytest.approx(1.25, rel=1e-6)
    assert found.measured == pytest.approx(1.25, rel=5e-3)  # silent units only have the last step


def even(total, steps):
    return [total ** (1 - t / (steps - 1)) for t in range(steps)]


@pytest.mark.parametrize(
    ("sizes", "verdict"),
    [
        (even(20.0, 40), "exploding"),  # and 400 within twice as many steps
        (even(5.0, 40), None),
        (even(1 / 20, 40), None),
        (even(1 / 200, 40), "vanishing"),
        (even(200.0, 40), "exploding"),
        (even(40.0, 20) + [1.0] * 20, None),  # a growth that stops
        ([1.0 * k for k in range(60, 0, -1)], None),  # a loss that adds the same at every step
        (even(20.0, 6), None),  # too few to have halves
        ([0.0] * 9 + [1.0], "vanishing"),
    ],
)
def test_a_growth_must_last_to_count_below_the_limit(sizes, verdict):
    slope, lasting = over_time(sizes)
    one = Recurrence("h", nn.RNN(1, 1), slope, lasting, len(sizes), math.nan, "")
    assert one.verdict == verdict


def test_a_growth_that_stops_is_undecided_with_what_to_measure_next():
    g = cu.seeded(7)
    q = torch.linalg.qr(torch.randn(64, 64, generator=g))[0]
    x, y = 0.007 * torch.randn(32, 50, 2, generator=g), data()[1]
    found = diagnose(Unrolled("fused", 1.2 * q, "tanh"), (x, y))
    assert found.kinds == {"undecided"}
    assert any("twice as long" in question for question in found.undecided)


def test_a_healthy_recurrence_is_reported_with_its_figure():
    g = cu.seeded(2)
    q = torch.linalg.qr(torch.randn(64, 64, generator=g))[0]
    x, y = 0.02 * torch.randn(32, 20, 2, generator=g), data()[1]
    found = diagnose(Unrolled("cell", q, "tanh"), (x, y))
    assert found.healthy and "per step" in found.findings[0].cause
    assert found.findings[0].measured == pytest.approx(1.0, abs=0.05)


def test_a_loss_at_every_step_keeps_a_fading_recurrence_alive():
    class EachStep(Unrolled):
        def forward(self, x):
            return self.head(torch.stack(self.states(x), 1)).transpose(1, 2)

    x = torch.randn(8, 40, 2, generator=cu.seeded(1))
    y = torch.randint(0, 10, (8, 40), generator=cu.seeded(2))
    recurrent = 0.5 * torch.eye(24)
    found = diagnose(EachStep("bare", recurrent, "tanh"), (x, y))
    assert found.healthy and "due to the steps that the loss reads" in str(found)


@pytest.mark.parametrize(("fused", "cell"), [(nn.LSTM, nn.LSTMCell), (nn.GRU, nn.GRUCell)])
def test_a_cell_in_a_loop_gets_the_diagnosis_of_the_fused_layer(fused, cell):
    def loop(self, x):
        h = None
        for step in x.unbind(1):
            h = self.rnn(step, h)
        return self.head(h[0] if isinstance(h, tuple) else h)

    torch.manual_seed(4)
    one = reads(fused(3, 24, batch_first=True))
    other = Written(loop, rnn=cell(3, 24), head=one.head)
    for name, weight in other.rnn.named_parameters():
        weight.data.copy_(getattr(one.rnn, f"{name}_l0"))
    batch = torch.randn(8, 60, 3), data(8)[1]
    a, b = (the(diagnose(model, batch), "vanishing") for model in (one, other))
    assert a.predicted == pytest.approx(b.predicted, rel=1e-5)
    assert a.measured == pytest.approx(b.measured, rel=0.05)
    assert "vanishing" not in diagnose(heal(other, batch, "vanishing"), batch).kinds


@pytest.mark.parametrize("how", ["cell", "linear", "bare"])
def test_the_remedy_of_a_written_out_recurrence_runs(how):
    x, _ = cu.adding_problem(24, 50, generator=cu.seeded(1))
    model = Unrolled(how, 1.3 * torch.eye(40))
    batch = x, data(24)[1]
    F.cross_entropy(model(x), batch[1]).backward()
    heal(model, batch, "exploding")
    assert "exploding" not in diagnose(model, batch).kinds
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
    assert norm <= 1.0 + 1e-5


def test_what_cannot_be_measured_through_time_is_said():
    class Unbatched(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(4, 8, bidirectional=True), nn.Linear(16, 1)

        def forward(self, x):
            return self.head(self.lstm(x[:, 0])[0])

    found = diagnose(Unbatched(), (torch.randn(30, 1, 4), torch.zeros(30, 1)), F.mse_loss)
    assert any("lstm through time is not measured" in question for question in found.undecided)
    assert "is not measured" in str(found) and "is not measured" in found._repr_html_()


@pytest.mark.parametrize("scale", [0.8, 1.1, 1.3])
def test_the_remedy_of_a_relu_recurrence_neither_vanishes_nor_explodes(scale):
    # Orthogonal weights, right for tanh, lose about a factor of 0.7 per step behind ReLU.
    for seed in range(3):
        model = cu.recurrent("rnn", 32, inputs=2, activation="relu", generator=cu.seeded(seed))
        model.rnn.weight_hh_l0.data.copy_(scale * torch.eye(32))
        x, y = cu.adding_problem(64, 40, generator=cu.seeded(seed))
        sick = cu.diagnose(model, (x, y), loss=F.mse_loss)
        assert sick.kinds == {"vanishing" if scale < 1 else "exploding"}
        exec(sick.findings[0].remedy, {"model": model, "nn": nn, "torch": torch})
        states, _ = model.rnn(x)
        leaf = states.detach()[:, 0].requires_grad_()
        h = leaf
        for t in range(1, 40):
            drive = F.linear(x[:, t], model.rnn.weight_ih_l0, model.rnn.bias_ih_l0)
            h = torch.relu(drive + F.linear(h, model.rnn.weight_hh_l0, model.rnn.bias_hh_l0))
        out = model.head(h)
        first, last = torch.autograd.grad(F.mse_loss(out, y), [leaf, h])
        assert 0.1 < first.norm() / last.norm() < 10
        assert cu.diagnose(model, (x, y), loss=F.mse_loss).healthy


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_gates_that_explode_are_blamed_on_their_weights_and_healed(kind):
    torch.manual_seed(0)
    model = reads(kind(2, 32, batch_first=True))
    with torch.no_grad():
        for weight in model.rnn.parameters():
            weight *= 16
    batch = torch.rand(32, 50, 2, generator=cu.seeded(4)), data()[1]
    found = the(diagnose(model, batch), "exploding")
    gates = model.rnn.weight_hh_l0.detach().split(32)
    radius = max(float(torch.linalg.eigvals(gate).abs().max()) for gate in gates)
    assert f"spectral radius up to {radius:.3g}" in found.cause
    assert math.isnan(found.predicted)
    assert diagnose(heal(model, batch, "exploding"), batch).healthy


def test_an_orthogonal_tanh_recurrence_that_still_fades_gets_gates():
    torch.manual_seed(0)
    model = reads(nn.RNN(8, 32, batch_first=True))
    batch = torch.randn(32, 80, 8, generator=cu.seeded(4)), data()[1]
    once = heal(model, batch, "vanishing")
    assert isinstance(once.rnn, nn.RNN)
    assert "vanishing" in diagnose(once, batch).kinds
    twice = heal(once, batch, "vanishing")
    assert isinstance(twice.rnn, nn.GRU)
    assert diagnose(twice, batch).healthy
