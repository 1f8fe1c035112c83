"""Vanishing and exploding over the depth, by outside oracles."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from patients import (
    Written,
    data,
    diagnose,
    factor_by_autograd,
    functional,
    heal,
    images,
    net,
    passed,
    the,
)
from torch import nn

import course_utils as cu


def test_the_measured_factor_is_the_slope_of_gradients_taken_by_autograd():
    model = net(15, init="torch_default", seed=5)
    x, y = data()
    hidden, h = [], x
    for module in model:
        h = module(h)
        if isinstance(module, nn.ReLU):
            hidden.append(h)
    found = the(diagnose(model), "vanishing")
    assert found.measured == pytest.approx(factor_by_autograd(F.cross_entropy(h, y), hidden), 1e-5)


def test_the_prediction_for_batch_norm_is_that_of_theory():
    found = the(diagnose(net(60, norm="batch"), data(128)), "exploding")
    theory = cu.theory.batchnorm_gradient_factor("relu", 128)
    assert found.predicted == pytest.approx(theory)
    assert found.measured == pytest.approx(theory, rel=0.03)


def test_a_residual_block_multiplies_by_the_root_of_one_plus_a_squared():
    found = the(diagnose(net(40, 128, skip="plain", seed=9)), "exploding")
    assert found.measured == pytest.approx(math.sqrt(2), rel=0.03)
    assert found.predicted == pytest.approx(math.sqrt(2), rel=0.03)


def test_the_remedy_of_a_residual_net_scales_every_branch():
    assert diagnose(heal(net(30, skip="plain"), data(), "exploding")).healthy


def test_weights_so_small_that_nothing_arrives_are_vanishing_too():
    model = net(6, activation="sigmoid")
    with torch.no_grad():
        model.linear5.weight.mul_(1e-46)
    found = the(diagnose(model), "vanishing")
    assert found.measured == 0 and "exactly 0" in found.cause


def test_global_average_pooling_is_no_vanishing_gradient():
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    cu.initialize(model, "he", generator=cu.seeded(0))
    x = torch.randn(2, 3, 112, 112, generator=cu.seeded(1))
    assert diagnose(model, (x, data(2)[1])).healthy


def test_a_single_bad_layer_in_a_good_network_is_still_a_bad_network():
    model = net(20, 128)
    with torch.no_grad():
        model.linear10.weight.mul_(1e-5)
    assert diagnose(model).kinds == {"vanishing"}


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_functional_activations_are_seen(activation):
    torch.manual_seed(0)
    found = the(diagnose(functional(getattr(torch, activation), 20)), "vanishing")
    assert activation in found.cause.lower()
    assert ("in model.forward" in found.remedy) == (not found.remedy_runs) == (activation != "relu")


def test_an_inplace_relu_changes_nothing():
    def build(inplace):
        g = cu.seeded(6)
        layers = []
        for _ in range(20):
            layers += [nn.Linear(64, 64), nn.ReLU(inplace=inplace)]
        return cu.initialize(nn.Sequential(*layers), "torch_default", generator=g)

    first, second = (the(diagnose(build(inplace)), "vanishing") for inplace in (False, True))
    assert first.measured == second.measured
    assert first.cause == second.cause


@pytest.mark.parametrize("size", [1, 32])
def test_an_encoder_on_two_inputs_has_the_slope_of_one(size):
    body = net(16, 128, init="torch_default")
    twins = Written(lambda self, a, b: self.body(a) + self.body(b), body=body)
    (x, y), (other, _) = data(size), data(size, seed=5)
    pair = the(diagnose(twins, ((x, other), y)), "vanishing")
    alone = the(diagnose(body, (x, y)), "vanishing")
    assert pair.measured == pytest.approx(alone.measured, rel=0.1)
    assert "over 15 layers" in pair.cause and "over 15 layers" in alone.cause


def test_layers_side_by_side_have_no_slope():
    def forward(self, x):
        h = torch.relu(self.first(x))
        return sum(10.0**-i * head(h) for i, head in enumerate(self.heads))

    torch.manual_seed(0)
    first, heads = nn.Linear(64, 32), nn.ModuleList(nn.Linear(32, 10) for _ in range(6))
    found = diagnose(Written(forward, first=first, heads=heads))
    assert "vanishing" not in found.kinds and "exploding" not in found.kinds


@pytest.mark.parametrize("total", [1 / 150, 1 / 70])
def test_where_the_limit_lies_within_two_errors_nothing_is_decided(total):
    gains = np.array([0.04, 2.0, 0.1, 3.0, 0.15, 1.0])
    model = net(8, activation="linear", init="orthogonal")
    x, y = data()

    def scale(gains):
        with torch.no_grad():
            for i, gain in enumerate(gains, start=2):
                weight = getattr(model, f"linear{i}").weight
                weight.mul_(gain / float(torch.linalg.matrix_norm(weight, 2)))

    scale(gains)
    measured = passed(model, (x, y)).depth_slope
    scale(gains * (total / math.exp(measured.log_total)) ** (1 / 7))
    found = diagnose(model, (x, y))
    assert passed(model, (x, y)).depth_slope.close
    assert not found.kinds & {"vanishing", "exploding"}
    assert found.kinds in ({"undecided"}, {"unbalanced_update"}) and not found.healthy
    assert any("two standard errors" in question for question in found.undecided)
    assert "healthy" not in str(found)


def test_a_post_norm_encoder_without_its_skips_is_not_healthy():
    torch.manual_seed(0)
    model = net(80, 64, norm="layer", activation="tanh", init="he", gain=4.0)
    assert "exploding" in diagnose(model).kinds


def test_a_network_whose_answers_are_certain_is_judged_all_the_same():
    model = net(12, init="normal", std=1.0)
    x, _ = data(1, 64, 5)
    y = model(x).argmax(1)  # right, and by so much that the loss has no gradient
    found = diagnose(model, (x, y))
    assert found.kinds == {"exploding"}
    assert "random numbers" in the(found, "exploding").cause


@pytest.mark.parametrize("omega", [10, 30])
def test_an_activation_that_nobody_knows_is_not_called_linear_and_its_weights_are_scaled(omega):
    # Sitzmann et al., NeurIPS 2020, without their initialization
    sines = functional(lambda z: torch.sin(omega * z), 8)
    model = Written(lambda self, x: self.head(self.sines(x)), sines=sines, head=nn.Linear(64, 10))
    found = the(diagnose(model), "exploding")
    assert "linear" not in found.cause
    assert found.predicted == pytest.approx(omega * math.sqrt(0.5 / 3), rel=0.25)
    assert diagnose(heal(model, data(), "exploding")).healthy


def test_a_bent_profile_that_is_not_decided_names_its_lowest_layer():
    def pair(n_in, n_out):
        parts = [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*parts, nn.Conv2d(n_out, n_out, 3, padding=1), nn.ReLU())

    def forward(self, x):  # Ronneberger et al., MICCAI 2015, with PyTorch's default weights
        a = self.down1(x)
        b = self.down2(self.pool(a))
        h = self.out2(self.middle(self.pool(b)))
        h = self.out1(self.up2(torch.cat([h, b], 1)))
        return self.head(self.up1(torch.cat([h, a], 1)))

    torch.manual_seed(0)
    pairs = {"down1": (1, 16), "down2": (16, 32), "middle": (32, 64)}
    pairs |= {"up2": (64, 32), "up1": (32, 16)}
    unet = Written(
        forward,
        pool=nn.MaxPool2d(2),
        **{name: pair(*sizes) for name, sizes in pairs.items()},
        out2=nn.ConvTranspose2d(64, 32, 2, 2),
        out1=nn.ConvTranspose2d(32, 16, 2, 2),
        head=nn.Conv2d(16, 1, 1),
    )
    x, _ = images(64)
    found = diagnose(unet, (x, (x > 0).float()), F.binary_cross_entropy_with_logits)
    sizes = dict(zip(found.record.layers, found.record.grad_rms[0].tolist(), strict=True))
    assert min(sizes, key=sizes.get) == "pool#2"  # what "middle.0" reads
    (note,) = found.undecided
    share = sizes["pool#2"] / sizes["up1.3"]  # "up1.3" makes what the head reads
    assert f"{share:.2g} of what head gets, at middle.0" in note
