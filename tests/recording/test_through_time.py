"""Gradients through time: nn.RNNCell, nn.LSTMCell and nn.GRUCell, unrolled, are the oracle."""

import copy

import pytest
import torch
from torch import nn

import course_utils as cu

T, BATCH, FEATURES, HIDDEN = 6, 3, 4, 5


def build(kind, **options):
    torch.manual_seed(0)
    modules = {"rnn": nn.RNN, "relu": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
    if kind == "relu":
        options["nonlinearity"] = "relu"
    return modules[kind](FEATURES, HIDDEN, **options)


def cell_of(rnn, kind, layer=0):
    """torch's own cell with the weights of one layer."""
    size = FEATURES if layer == 0 else HIDDEN
    if kind == "lstm":
        cell = nn.LSTMCell(size, HIDDEN, bias=rnn.bias)
    elif kind == "gru":
        cell = nn.GRUCell(size, HIDDEN, bias=rnn.bias)
    else:
        cell = nn.RNNCell(size, HIDDEN, rnn.bias, "relu" if kind == "relu" else "tanh")
    weights = {name: getattr(rnn, f"{name}_l{layer}") for name, _ in cell.named_parameters()}
    cell.load_state_dict({name: p.detach() for name, p in weights.items()})
    return cell


def unrolled(rnn, kind, x, loss):
    """RMS of ∂L/∂h_t of the top layer, from torch's cells and autograd."""
    inputs = list(x)
    for layer in range(rnn.num_layers):
        cell = cell_of(rnn, kind, layer)
        h, c, states = torch.zeros(x.shape[1], HIDDEN), torch.zeros(x.shape[1], HIDDEN), []
        for value in inputs:
            if kind == "lstm":
                h, c = cell(value, (h, c))
            else:
                h = cell(value, h)
            states.append(h)
        inputs = states
    value = loss(torch.stack(states))
    grads = torch.autograd.grad(value, states)
    return torch.stack([g.double().square().mean().sqrt() for g in grads]), value.detach().double()


def last(output):
    return output[-1].square().sum()


def every(output):
    return output.square().mean()


@pytest.mark.parametrize("loss", [last, every])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["rnn", "relu", "lstm", "gru"])
def test_gradients_through_time_are_those_of_torchs_unrolled_cells(kind, layers, bias, loss):
    rnn = build(kind, num_layers=layers, bias=bias)
    x = torch.randn(T, BATCH, FEATURES)
    record = cu.record_through_time(rnn, x, loss)
    expected, value = unrolled(rnn, kind, x, loss)
    columns = [record.layers.index(f"h_{t}") for t in range(1, T + 1)]
    torch.testing.assert_close(record.grad_rms[0, columns], expected, rtol=1e-4, atol=0)
    assert float(record.losses[0]) == pytest.approx(float(value), rel=1e-5)
    assert record.total_factor() == pytest.approx(float(expected[0] / expected[-1]), rel=1e-4)


@pytest.mark.parametrize("kind", ["rnn", "relu", "lstm", "gru"])
@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"num_layers": 3}])
def test_outputs_and_parameter_gradients_are_those_of_the_fused_module(kind, options):
    rnn = build(kind, **options)
    x = torch.randn(BATCH, T, FEATURES) if options.get("batch_first") else torch.randn(T, 2, 4)
    seen = []

    def loss(output):
        seen.append(output)
        return output.square().mean()

    record = cu.record_through_time(rnn, x, loss)
    fused, _ = rnn(x)
    torch.testing.assert_close(seen[0], fused, rtol=1e-4, atol=1e-6)
    grads = torch.autograd.grad(loss(fused), list(rnn.parameters()))
    expected = torch.stack([g.double().square().mean().sqrt() for g in grads])
    torch.testing.assert_close(record.parameter_grad_rms[0], expected, rtol=1e-4, atol=1e-12)
    assert record.parameters == tuple(name for name, _ in rnn.named_parameters())


def test_cell_state_gradient_counts_the_path_through_h():
    rnn, x = build("lstm"), torch.randn(T, BATCH, FEATURES)
    record = cu.record_through_time(rnn, x, last)
    cell = cell_of(rnn, "lstm")
    gates = [torch.zeros(BATCH, HIDDEN)] * 2
    h, c = gates
    states = []
    for value in x:
        a = value @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh
        i, f, g, o = a.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(c)
    grads = torch.autograd.grad(last(h.unsqueeze(0)), states)
    columns = [record.layers.index(f"c_{t}") for t in range(1, T + 1)]
    expected = torch.stack([g.double().square().mean().sqrt() for g in grads])
    torch.testing.assert_close(record.grad_rms[0, columns], expected, rtol=1e-4, atol=0)


def test_initial_state_projection_unbatched_input_and_precision():
    torch.manual_seed(0)
    rnn = nn.LSTM(FEATURES, HIDDEN, proj_size=2, num_layers=2).double()
    x = torch.randn(T, FEATURES, dtype=torch.float64)
    state = (torch.randn(2, 2).double(), torch.randn(2, HIDDEN).double())
    seen = []
    cu.record_through_time(rnn, x, lambda out: seen.append(out) or out.sum(), state)
    torch.testing.assert_close(seen[0], rnn(x, state)[0])


def test_a_linear_rnn_decays_by_its_recurrent_weight_per_step():
    rnn = nn.RNN(1, 1, nonlinearity="relu", bias=False)
    with torch.no_grad():
        rnn.weight_hh_l0.fill_(0.8)
        rnn.weight_ih_l0.fill_(1.0)
    record = cu.record_through_time(rnn, torch.ones(30, 1, 1), lambda out: out[-1].sum())
    assert record.factor_per_layer() == pytest.approx(0.8, rel=1e-5)
    assert record.total_factor() == pytest.approx(0.8**29, rel=1e-4)


def test_a_long_sequence_whose_gradient_underflows_float32_squares_is_not_zero():
    rnn = nn.RNN(1, 1, nonlinearity="relu", bias=False)
    with torch.no_grad():
        rnn.weight_hh_l0.fill_(0.1)
        rnn.weight_ih_l0.fill_(1.0)
    record = cu.record_through_time(rnn, torch.ones(31, 1, 1), lambda out: out[-1].sum())
    assert record.grad_rms[0, 0] == pytest.approx(1e-30, rel=1e-4)


def test_the_module_is_left_as_it_is():
    rnn = build("gru", num_layers=2, dropout=0.5)
    for parameter in rnn.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = copy.deepcopy(rnn.state_dict())
    with torch.no_grad():
        record = cu.record_through_time(rnn, torch.randn(T, BATCH, FEATURES), every)
    assert record.grad_rms.isfinite().all()
    assert all(torch.equal(state[name], value) for name, value in rnn.state_dict().items())
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in rnn.parameters())
    assert not rnn._forward_hooks and rnn.training


def test_frozen_weights_have_no_gradient_and_steps_after_the_loss_have_exactly_zero():
    rnn = build("rnn")
    rnn.weight_ih_l0.requires_grad_(False)
    record = cu.record_through_time(rnn, torch.randn(T, 1, FEATURES), lambda out: out[2].sum())
    assert record.parameter_grad_rms[0, 0].isnan()
    assert (record.grad_rms[0] == 0).tolist() == [False] * 3 + [True] * 3


X = torch.randn(T, BATCH, FEATURES)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rnn": nn.Linear(4, 4)}, TypeError, "rnn="),
        ({"rnn": nn.LSTMCell(4, 4)}, TypeError, "rnn="),
        ({"rnn": nn.GRU(4, 5, bidirectional=True)}, ValueError, "bidirectional"),
        ({"x": [1.0]}, TypeError, "x="),
        ({"x": X[..., :2]}, ValueError, "x has the shape"),
        ({"x": X[:0]}, ValueError, "at least one time step"),
        ({"x": X.double()}, ValueError, "float64"),
        ({"loss": 3}, TypeError, "loss=3"),
        ({"loss": lambda out: out}, ValueError, "scalar"),
        ({"loss": lambda out: out.detach().sum()}, ValueError, "does not depend"),
        ({"state": torch.zeros(1, 2, 5)}, ValueError, "state"),
        ({"state": 3}, ValueError, "state"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        cu.record_through_time(**{"rnn": build("rnn"), "x": X, "loss": last, **arguments})


def test_a_diagonal_state_space_is_recorded_as_autograd_sees_its_states():
    layer = cu.networks.DiagonalStateSpace(2, 4, generator=cu.seeded(0)).double()
    x = torch.randn(3, T, 2, generator=cu.seeded(1), dtype=torch.float64)
    record = cu.record_through_time(layer, x, lambda output: output[:, -1].square().sum())
    h, states = torch.zeros(3, 4, dtype=torch.complex128), []
    for t in range(T):
        h = layer.eigenvalues() * h + layer.drive(x[:, t])
        states.append(h)
    last = layer(x)[0][:, -1]
    assert torch.allclose(layer.read(states[-1]), last)
    gradients = torch.autograd.grad(layer.read(states[-1]).square().sum(), states)
    expected = [float((g.abs().square().mean() / 2).sqrt()) for g in gradients]
    assert record.layers == tuple(f"h_{t}" for t in range(1, T + 1))
    assert record.grad_rms[0].tolist() == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="starts from zeros"):
        cu.record_through_time(layer, x, lambda output: output.sum(), torch.zeros(1, 3, 4))
    with pytest.raises(ValueError, match=r"\(batch, T, features\)"):
        cu.record_through_time(layer, torch.zeros(3, T, 7), lambda output: output.sum())
