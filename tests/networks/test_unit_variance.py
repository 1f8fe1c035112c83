"""LSUV: unit variance behind every layer, and everything else as it was."""

import copy

import numpy as np
import pytest
import torch
from network_layers import NORMS, RECURRENT, equal_states, gates, gaussian, weighted_outputs
from torch import nn

import course_utils as cu
from course_utils.networks.counting import weight_blocks


def variances(net, x):
    """Variance of the output of every layer with weights, over the whole batch."""
    return {name: np.var(out) for name, out in weighted_outputs(net, x).items()}


@pytest.mark.parametrize("activation", ["gelu", "selu", "sigmoid", "softplus", "hardswish"])
@pytest.mark.parametrize("kind", ["mlp", "conv_net"])
def test_lsuv_gives_every_layer_unit_variance_whatever_the_activation(activation, kind):
    x = 40 * gaussian(128, 64).abs() + 3  # far from normalized
    if kind == "conv_net":
        x = x.reshape(128, 1, 8, 8)
    build = getattr(cu, kind)
    net = build(12, 24, activation=activation, init="lsuv", batch=x, generator=cu.seeded(0))
    got = variances(net, x)
    assert len(got) == 12
    assert list(got.values()) == pytest.approx([1.0] * 12, rel=0.02)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("skip", [None, "plain", "rezero"])
def test_lsuv_sees_norms_and_skips_as_the_first_training_step_does(norm, skip):
    x = gaussian(64, 64)
    net = cu.mlp(7, 20, norm=norm, skip=skip, init="lsuv", batch=x, generator=cu.seeded(0))
    assert list(variances(net, x).values()) == pytest.approx([1.0] * 7, rel=0.02)


def test_lsuv_holds_on_fresh_examples_of_the_same_kind():
    options = {"activation": "gelu", "outputs": 200, "init": "lsuv"}
    net = cu.mlp(10, 200, batch=gaussian(512, 64), generator=cu.seeded(0), **options)
    fresh = variances(net, gaussian(512, 64, seed=8))
    assert list(fresh.values()) == pytest.approx([1.0] * 10, rel=0.1)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv1d(4, 8, 3, groups=2), nn.Tanh(), nn.ConvTranspose1d(8, 6, 4, 2, groups=2)),
        (nn.Conv2d(4, 8, 3, stride=2), nn.GELU(), nn.ConvTranspose2d(8, 6, 3, 2)),
        (nn.Conv3d(4, 8, 2), nn.ReLU(), nn.ConvTranspose3d(8, 2, 2, 2)),
    ],
)
def test_lsuv_measures_convolutions_of_every_kind(layers):
    net = nn.Sequential(*map(copy.deepcopy, layers))
    dimensions = len(layers[0].kernel_size)
    x = 0.01 * gaussian(6, 4, *[9] * dimensions)
    cu.initialize(net, "lsuv", batch=x, generator=cu.seeded(0))
    assert list(variances(net, x).values()) == pytest.approx([1.0, 1.0], rel=0.02)
    for layer in (net[0], net[2]):  # one factor on an orthogonal start, the same for all groups
        blocks = [block.weight.detach() for block in weight_blocks(layer)]
        values = torch.cat([torch.linalg.svdvals(w.flatten(1)) for w in blocks])
        assert (values.max() / values.min()).item() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("name", RECURRENT)
def test_lsuv_gives_the_input_of_every_gate_unit_variance(name):
    layer = RECURRENT[name]()
    x = 5 * gaussian(30, 20) if "cell" in name else 5 * gaussian(7, 30, 20)
    cu.initialize(layer, "lsuv", batch=x, generator=cu.seeded(0))
    for key, matrix in gates(layer):
        if "hh" in key:
            values = torch.linalg.svdvals(matrix)
            torch.testing.assert_close(values, torch.ones_like(values))
        elif "ih" in key and "l1" not in key:
            assert np.var((x @ matrix.T).double().numpy()) == pytest.approx(1, rel=0.02)
    if name in ("rnn", "lstm"):  # the second level: what it is fed is what the first one says
        first = type(layer)(20, 60)
        first.load_state_dict({k: v for k, v in layer.state_dict().items() if k.endswith("l0")})
        h = first(x)[0].detach()
        for key, matrix in gates(layer):
            if key == "weight_ih_l1":
                assert np.var((h @ matrix.T).double().numpy()) == pytest.approx(1, rel=0.02)


def test_lsuv_works_on_a_recurrent_net_with_its_head():
    x = gaussian(16, 9, 3)
    net = cu.recurrent("gru", 12, inputs=3, init="lsuv", batch=x, generator=cu.seeded(0))
    assert np.var(net(x).detach().numpy()) == pytest.approx(1, rel=0.02)


class Twice(nn.Module):
    """One layer called twice, a network with two arguments, and a layer that is never called."""

    def __init__(self):
        super().__init__()
        self.shared, self.unused = nn.Linear(6, 6), nn.Linear(6, 6)
        self.drop, self.norm = nn.Dropout(0.5), nn.BatchNorm1d(6)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, shift):
        self.calls = self.calls + 1
        return self.shared(torch.tanh(self.norm(self.drop(self.shared(x))) + shift))


@pytest.mark.parametrize("training", [True, False])
def test_lsuv_leaves_mode_hooks_buffers_gradients_and_random_state(training):
    net = Twice().train(training)
    net.norm.eval()
    net.norm.running_mean.fill_(3.0)
    modes = [part.training for part in net.modules()]
    x, shift = gaussian(20, 6), gaussian(6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = torch.random.get_rng_state()
        cu.initialize(net, "lsuv", batch=(x, shift), generator=cu.seeded(0))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert [part.training for part in net.modules()] == modes
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    assert net.calls == 0 and (net.norm.running_mean == 0).all()  # norms start anew
    assert net.norm.num_batches_tracked == 0
    assert all(value.grad is None and value.requires_grad for value in net.parameters())
    assert np.var(net.shared(x).detach().numpy()) == pytest.approx(1, rel=0.02)  # the first call
    values = torch.linalg.svdvals(net.unused.weight.detach())
    torch.testing.assert_close(values, torch.ones_like(values))


@pytest.mark.parametrize("training", [True, False])
def test_lsuv_measures_without_dropout(training):
    x, nets = gaussian(20, 6), []
    for share in (0.0, 0.9):
        net = nn.Sequential(nn.Linear(6, 9), nn.Dropout(share), nn.ReLU(), nn.Linear(9, 4))
        nets.append(cu.initialize(net.train(training), "lsuv", batch=x, generator=cu.seeded(0)))
    equal_states(*nets)


def test_lsuv_divides_a_weight_that_two_layers_share_once():
    net = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))
    net[2].weight = net[0].weight
    x = 9 * gaussian(50, 5)
    cu.initialize(net, "lsuv", batch=x, generator=cu.seeded(0))
    assert np.var(net[0](x).detach().numpy()) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (gaussian(9, 63), r"batch of shape \(9, 63\) does not run"),
        (torch.zeros(9, 64), "layer linear1 has variance 0"),
        (torch.full((9, 64), torch.nan), "NaN"),
        (torch.empty(0, 64), "no example"),
        (None, "pass batch=x"),
        ((gaussian(9, 64), 3), "does not run"),
    ],
)
def test_after_an_error_of_lsuv_the_network_is_as_it_was(batch, message):
    net = cu.mlp(4, 8, norm="batch", generator=cu.seeded(0)).train()
    net(gaussian(5, 64))
    before = copy.deepcopy(net)
    with pytest.raises(ValueError, match=message):
        cu.initialize(net, "lsuv", batch=batch, generator=cu.seeded(1))
    equal_states(net, before)
    assert net.training and not any(part._forward_hooks for part in net.modules())


def test_lsuv_names_the_layer_behind_dead_units():
    net = nn.Sequential(nn.Linear(4, 4), nn.Threshold(1e9, 0.0), nn.Linear(4, 4))
    with pytest.raises(ValueError, match="layer 2 has variance 0"):
        cu.initialize(net, "lsuv", batch=gaussian(9, 4), generator=cu.seeded(0))
