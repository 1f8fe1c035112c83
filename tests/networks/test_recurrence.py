"""Starts of recurrent networks and diagonal state spaces, against loops and PyTorch's cells."""

import math

import numpy as np
import pytest
import torch
from network_layers import gaussian
from torch import nn

import course_utils as cu
from course_utils.networks import DiagonalStateSpace, scan


def loop(a, b):
    h, states = torch.zeros_like(b[..., 0, :]), []
    for t in range(b.shape[-2]):
        h = a[..., t, :] * h + b[..., t, :]
        states.append(h)
    return torch.stack(states, dim=-2)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 13, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_a_scan_is_the_loop(steps, dtype):
    g = cu.seeded(steps)
    a = torch.randn(2, steps, 5, generator=g, dtype=dtype)
    a = a / a.abs() * torch.rand(2, steps, 5, generator=g)
    a[0, steps // 2] = 0  # a step that forgets everything
    b = torch.randn(2, steps, 5, generator=g, dtype=dtype)
    assert (scan(a, b) - loop(a, b)).abs().max() < 1e-12
    assert (scan(a[0, 0], b) - loop(a[0, 0].expand_as(b), b)).abs().max() < 1e-12


def test_a_scan_has_the_gradient_of_the_loop():
    a = torch.rand(6, 3, generator=cu.seeded(0), dtype=torch.float64).requires_grad_()
    b = torch.randn(6, 3, generator=cu.seeded(1), dtype=torch.float64).requires_grad_()
    found = torch.autograd.grad(scan(a, b).sin().sum(), (a, b))
    expected = torch.autograd.grad(loop(a, b).sin().sum(), (a, b))
    assert all(torch.allclose(f, e, atol=1e-12) for f, e in zip(found, expected, strict=True))


def test_a_scan_takes_the_logarithm_of_its_steps(monkeypatch):
    calls, cat = [], torch.cat
    monkeypatch.setattr(
        torch, "cat", lambda *given, **options: calls.append(1) or cat(*given, **options)
    )
    scan(torch.rand(1000, 2), torch.rand(1000, 2))
    assert len(calls) == 2 * 10


def test_a_diagonal_state_space_is_its_recurrence():
    layer = DiagonalStateSpace(3, 5, generator=cu.seeded(0)).double()
    x = gaussian(4, 20, 3, dtype=torch.float64)
    B, C = torch.view_as_complex(layer.B), torch.view_as_complex(layer.C)
    radius = layer.eigenvalues().abs().detach()
    h, outputs = torch.zeros(4, 5, dtype=torch.complex128), []
    for t in range(20):
        h = layer.eigenvalues() * h + (1 - radius**2).sqrt() * (x[:, t].to(B.dtype) @ B.T)
        outputs.append((h @ C.T).real)
    found, last = layer(x)
    assert torch.allclose(found, torch.stack(outputs, 1)) and torch.allclose(last[0], h)


def test_eigenvalues_lie_evenly_on_the_ring_and_stay_inside_the_circle():
    layer = DiagonalStateSpace(1, 20_000, smallest=0.5, largest=0.9, generator=cu.seeded(1))
    radius = layer.eigenvalues().abs().detach()
    assert 0.4999 < radius.min() < 0.51 and 0.89 < radius.max() < 0.9001
    assert radius.square().mean().item() == pytest.approx((0.25 + 0.81) / 2, rel=0.01)
    with torch.no_grad():
        layer.nu.fill_(-40.0)
    assert layer.eigenvalues().abs().max() <= 1


@pytest.mark.parametrize("normalize", [True, False])
def test_the_state_has_the_variance_of_its_drive(normalize):
    layer = DiagonalStateSpace(
        4, 400, smallest=0.9, largest=0.91, normalize=normalize, generator=cu.seeded(2)
    )
    with torch.no_grad():
        _, last = layer(gaussian(200, 300, 4))
    size = last.abs().square().mean()
    assert size == pytest.approx(1 if normalize else 1 / (1 - 0.905**2), rel=0.1)


# ---------------------------------------------------------------- starts
def gate(rnn, name, layer=0):
    order = {"LSTM": ("input", "forget", "cell", "output"), "GRU": ("reset", "update", "new")}[
        rnn.mode
    ]
    total = getattr(rnn, f"bias_ih_l{layer}") + getattr(rnn, f"bias_hh_l{layer}")
    return total.chunk(len(order))[order.index(name)].detach()


@pytest.mark.parametrize(("kind", "opened"), [("lstm", "forget"), ("gru", "update")])
def test_a_forget_bias_is_what_the_gate_reads_in_every_layer(kind, opened):
    net = cu.recurrent(
        kind, 6, layers=2, init="torch_default", forget_bias=2.5, generator=cu.seeded(0)
    )
    same = cu.recurrent(kind, 6, layers=2, init="torch_default", generator=cu.seeded(0))
    for layer in (0, 1):
        assert (gate(net.rnn, opened, layer) == 2.5).all()
        others = {"lstm": ("input", "cell", "output"), "gru": ("reset", "new")}[kind]
        assert all(torch.equal(gate(net.rnn, o, layer), gate(same.rnn, o, layer)) for o in others)
    assert torch.equal(net.rnn.weight_hh_l1, same.rnn.weight_hh_l1)


def test_the_gates_of_torchs_cells_stand_where_they_are_set():
    net = cu.recurrent("lstm", 3, init="zeros", forget_bias=30.0, generator=cu.seeded(0))
    _, (_, c) = net.rnn(torch.zeros(1, 5, 1), (torch.zeros(1, 1, 3), torch.full((1, 1, 3), 0.7)))
    assert torch.allclose(c, torch.full((1, 1, 3), 0.7))
    net = cu.recurrent("gru", 3, init="zeros", forget_bias=30.0, generator=cu.seeded(0))
    _, h = net.rnn(torch.zeros(1, 5, 1), torch.full((1, 1, 3), 0.7))
    assert torch.allclose(h, torch.full((1, 1, 3), 0.7))


def test_chrono_opens_the_forget_gate_and_closes_the_input_gate():
    net = cu.recurrent("lstm", 4, chrono=101, generator=cu.seeded(0))
    assert torch.allclose(gate(net.rnn, "forget"), torch.tensor(math.log(100)))
    assert torch.allclose(gate(net.rnn, "input"), torch.tensor(-math.log(100)))
    assert (gate(net.rnn, "output") == 0).all()
    net = cu.recurrent("gru", 4, chrono=101, generator=cu.seeded(0))
    assert torch.allclose(gate(net.rnn, "update"), torch.tensor(math.log(100)))


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_a_recurrence_starts_orthogonal_or_as_the_identity_block_by_block(kind):
    for how in ("orthogonal", "identity"):
        net = cu.recurrent(
            kind, 5, layers=2, init="xavier", recurrent_init=how, generator=cu.seeded(0)
        )
        for layer in (0, 1):
            for block in getattr(net.rnn, f"weight_hh_l{layer}").detach().split(5):
                assert torch.allclose(block @ block.T, torch.eye(5), atol=1e-5)
                assert torch.equal(block, torch.eye(5)) == (how == "identity")


def test_a_diagonal_network_reads_its_last_state_and_repeats():
    build = lambda: cu.recurrent(  # noqa: E731
        "diagonal", 8, inputs=2, outputs=3, smallest=0.5, generator=cu.seeded(3)
    )
    net, before = build(), torch.get_rng_state()
    x = gaussian(4, 10, 2)
    assert net(x).shape == (4, 3)
    assert torch.equal(net(x), net.head(net.rnn(x)[0][:, -1]))
    assert torch.equal(net(x), build()(x)) and torch.equal(torch.get_rng_state(), before)
    losses = []
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (net(x) - x[:, 0, :1]).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0] and np.isfinite(losses).all()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"kind": "rnn", "forget_bias": 1.0}, ValueError, "has no gates"),
        ({"kind": "diagonal", "chrono": 10}, ValueError, "has no gates"),
        ({"kind": "lstm", "forget_bias": 1.0, "chrono": 10}, ValueError, "give one of them"),
        ({"kind": "lstm", "chrono": 1}, ValueError, "chrono=1"),
        ({"kind": "gru", "recurrent_init": "eye"}, ValueError, "recurrent_init='eye'"),
        ({"kind": "diagonal", "layers": 2}, ValueError, "has one layer"),
        ({"kind": "diagonal", "smallest": 1.0}, ValueError, "smallest=1.0"),
        ({"kind": "diagonal", "largest": 1.5}, ValueError, "largest=1.5"),
    ],
)
def test_what_does_not_fit_is_refused(options, error, said):
    with pytest.raises(error, match=said):
        cu.recurrent(width=4, generator=cu.seeded(0), **options)


@pytest.mark.parametrize(
    ("a", "b"), [(torch.ones(3), torch.ones(3)), (torch.ones(4, 2), torch.ones(3, 2))]
)
def test_a_scan_of_the_wrong_shape_is_refused(a, b):
    with pytest.raises(ValueError, match="has shape"):
        scan(a, b)


def test_a_plain_rnn_cell_is_not_a_state_space():
    with pytest.raises(TypeError, match="DiagonalStateSpace"):
        cu.record_through_time(nn.RNNCell(1, 1), torch.zeros(1, 1, 1), lambda o: o.sum())
