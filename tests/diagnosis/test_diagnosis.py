"""Diagnosis: evidence by outside oracles, remedies by applying them, a model left alone."""

import copy
import itertools
import json
import math
import random
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import course_utils as cu
from course_utils.diagnosis import (
    KINDS,
    DiagnosisError,
    NonFiniteSource,
    first_nonfinite,
    jacobian_singular_values,
    remedies,
)
from course_utils.diagnosis.batch import split_batch
from course_utils.diagnosis.graph import follow, transmitted
from course_utils.diagnosis.factors import factorize, typical
from course_utils.diagnosis.measured_pass import measure
from course_utils.diagnosis.layer_calls import CallRecorder
from course_utils.diagnosis.recurrence import Recurrence, over_time
from course_utils.diagnosis.slope import fit_slope as fit


def data(size=32, width=64, seed=1, outputs=10):
    g = cu.seeded(seed)
    x = torch.randn(size, width, generator=g)
    return x, torch.randint(0, outputs, (size,), generator=g)


def images(size=16, seed=1):
    x, y = data(size, 64, seed)
    return x.view(size, 1, 8, 8), y


def the(diagnosis, kind):
    (found,) = [finding for finding in diagnosis.findings if finding.kind == kind]
    return found


def diagnose(model, batch=None, loss=F.cross_entropy, **options):
    return cu.diagnose(model, data() if batch is None else batch, loss=loss, **options)


def net(depth, width=64, seed=0, **options):
    return cu.mlp(depth, width, inputs=64, generator=cu.seeded(seed), **options)


def passed(model, batch, loss=F.cross_entropy):
    return measure(model, split_batch(model, batch, loss), loss)


# ---------------------------------------------------------------- the six patients of the clinic


def six():
    rnn = cu.recurrent("rnn", 48, inputs=2, activation="relu", outputs=10, generator=cu.seeded(3))
    with torch.no_grad():
        rnn.rnn.weight_hh_l0.copy_(1.3 * torch.eye(48))
    sequence = torch.rand(32, 40, 2, generator=cu.seeded(4)), data()[1]
    double = nn.Sequential(*net(4), nn.Softmax(dim=1))
    return {
        "sigmoid": (net(12, activation="sigmoid", init="xavier"), data(), "vanishing"),
        "default": (net(30, 128, init="torch_default"), data(), "vanishing"),
        "normal": (net(12, init="normal", std=1.0), data(), "exploding"),
        "double": (double, data(), "double_softmax"),
        "batch norm": (net(60, norm="batch"), data(128), "exploding"),
        "rnn": (rnn, sequence, "exploding"),
    }


CAUSES = {
    "sigmoid": "The activation: sigmoid passes",
    "default": "Linear's default init with ReLU predicts √(1/6) = 0.408",
    "normal": "The weights are too large for relu",
    "double": "the loss applies one again",
    "batch norm": "Batch norm without a skip connection",
    "rnn": "spectral radius 1.3",
}


@pytest.mark.parametrize("name", CAUSES)
def test_each_patient_of_the_clinic_gets_its_cause(name):
    model, batch, kind = six()[name]
    found = diagnose(model, batch)
    assert CAUSES[name] in the(found, kind).cause.replace("0.409", "0.408")
    assert found.kinds == ({kind, "shattered"} if name == "batch norm" else {kind})


@pytest.mark.parametrize("name", [name for name in CAUSES if name != "rnn"])
def test_the_remedy_runs_as_it_stands_and_heals(name):
    model, batch, kind = six()[name]
    torch.manual_seed(0)
    scope = {"model": model, "nn": nn, "torch": torch, "F": F}
    exec(the(diagnose(model, batch), kind).remedy, scope)
    assert diagnose(scope["model"], batch).healthy


def test_the_remedy_of_an_exploding_recurrence_tames_it_from_the_start():
    model, batch, _ = six()["rnn"]
    model.zero_grad()
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    scope = {"model": model, "nn": nn, "torch": torch}
    exec(the(diagnose(model, batch), "exploding").remedy, scope)
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
    assert norm <= 1.0 + 1e-5
    assert "exploding" not in diagnose(model, batch).kinds


@pytest.mark.parametrize("activation", ["gelu", "silu", "tanh", "leaky_relu", "elu", "selu"])
def test_the_remedy_heals_other_activations_too(activation):
    model = net(40, 256, activation=activation, init="torch_default")
    found = diagnose(model)
    torch.manual_seed(1)
    scope = {"model": model, "nn": nn, "torch": torch, "F": F}
    exec(the(found, "vanishing").remedy, scope)
    assert diagnose(model).healthy


def test_the_remedy_of_a_residual_net_scales_every_branch():
    model = net(30, skip="plain")
    scope = {"model": model, "nn": nn, "torch": torch}
    exec(the(diagnose(model), "exploding").remedy, scope)
    assert diagnose(model).healthy


def test_the_remedy_of_a_hidden_softmax_says_where_to_look():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net(3)

        def forward(self, x):
            return self.body(x).softmax(-1)

    assert "model.forward" in the(diagnose(Hidden()), "double_softmax").remedy


def test_a_softmax_inside_a_child_is_taken_out_by_its_path():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleDict({"head": nn.Sequential(net(3), nn.Softmax(-1))})

        def forward(self, x):
            return self.parts["head"](x)

    model = Wrapped()
    remedy = the(diagnose(model), "double_softmax").remedy
    exec(remedy.replace("model.parts.head", "model.parts['head']"), {"model": model, "nn": nn})
    assert diagnose(model).healthy


# ---------------------------------------------------------------- evidence, by outside oracles


def test_the_measured_factor_is_the_slope_of_gradients_taken_by_autograd():
    model = net(15, init="torch_default", seed=5)
    x, y = data()
    hidden, h = [], x
    for module in model:
        h = module(h)
        if isinstance(module, nn.ReLU):
            hidden.append(h)
    grads = torch.autograd.grad(F.cross_entropy(h, y), hidden)
    logs = [math.log(float(g.double().square().mean().sqrt())) for g in grads]
    slope = np.polyfit(range(len(logs)), logs, 1)[0]
    found = the(diagnose(model), "vanishing")
    assert found.measured == pytest.approx(math.exp(-slope), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "between", "weights"),
    [
        ({"activation": "sigmoid", "init": "xavier"}, 0.236, 1.0),
        ({"activation": "relu", "init": "torch_default"}, 0.5**0.5, 3**-0.5),
        ({"activation": "tanh", "init": "normal", "std": 0.01}, 1.0, 0.01 * 256**0.5),
        ({"activation": "tanh", "init": "he", "gain": 3.0}, 0.455, 3.0),
    ],
)
def test_the_factor_is_slope_times_weights_within_two_and_a_half_percent(options, between, weights):
    model = cu.mlp(12, 256, inputs=256, generator=cu.seeded(2), **options)
    found = passed(model, data(64, 256))
    edges = [(call, path) for call, path in found.paths.items() if path.chain]
    factors = factorize(edges, found)
    pairs = [(path.parents[0], call) for call, path in edges]
    measured_between = typical(before.grad_out / call.grad_in for before, call in pairs)
    measured_weights = typical(before.grad_in / before.grad_out for before, _ in pairs)
    assert measured_between == pytest.approx(factors.between, rel=0.025)
    assert measured_weights == pytest.approx(factors.weights, rel=0.025)
    assert factors.between == pytest.approx(between, rel=0.025)
    assert factors.weights == pytest.approx(weights, rel=0.025)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(40, 30),
        nn.Conv1d(6, 9, 3, padding=1),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.Conv2d(8, 4, 5, stride=2, padding=2, dilation=1),
        nn.Conv2d(4, 8, 3, padding="same", groups=2),
        nn.Conv2d(3, 5, 3, padding="valid", dilation=2),
        nn.Conv3d(2, 3, 3, stride=2),
    ],
)
def test_the_weight_factor_is_what_random_gradients_are_multiplied_by(layer):
    sizes = {nn.Linear: (64, 40), nn.Conv1d: (64, 6, 20)}
    spatial = {nn.Conv2d: (11, 9), nn.Conv3d: (7, 6, 5)}
    kind = type(layer)
    shape = sizes.get(kind) or (64, layer.in_channels, *spatial[kind])
    torch.manual_seed(0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(shape, requires_grad=True)
    output = layer(x)
    v = torch.randn_like(output)
    (back,) = torch.autograd.grad(output, x, v)
    probe = CallRecorder(wrapper := nn.Sequential(layer))
    wrapper(x.detach())
    (call,) = probe.calls
    probe.close()
    measured = float(back.double().square().mean().sqrt() / v.double().square().mean().sqrt())
    assert call.weight_factor() == pytest.approx(measured, rel=0.04)


def test_what_a_batch_norm_and_relu_let_through_is_the_norm_of_their_jacobian():
    norm = nn.BatchNorm1d(5)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.3, 1.0, 2.0, -1.5, 0.7]))
    z = torch.randn(6, 5, generator=cu.seeded(8))
    jacobian = torch.autograd.functional.jacobian(lambda v: F.relu(norm(v)), z).reshape(30, 30)
    expected = float(jacobian.double().square().sum() / 30) ** 0.5
    leaf = (z.requires_grad_() * 1.0).relu_().mul(1.0)  # something before, to be walked into
    start = nn.Linear(5, 5)(leaf)
    h = F.relu(norm(z * 1.0))
    path = follow(h.grad_fn, {start.grad_fn: None})
    path.nodes = path.nodes[:2]
    values = [transmitted(path, cu.seeded(seed)) ** 2 for seed in range(400)]
    assert math.sqrt(sum(values) / 400) == pytest.approx(expected, rel=0.05)


def test_the_prediction_for_batch_norm_is_that_of_theory():
    found = the(diagnose(net(60, norm="batch"), data(128)), "exploding")
    theory = cu.theory.batchnorm_gradient_factor("relu", 128)
    assert found.predicted == pytest.approx(theory)
    assert found.measured == pytest.approx(theory, rel=0.03)


def test_a_residual_block_multiplies_by_the_root_of_one_plus_a_squared():
    found = the(diagnose(net(40, 128, skip="plain", seed=9)), "exploding")
    assert found.measured == pytest.approx(math.sqrt(2), rel=0.03)
    assert found.predicted == pytest.approx(math.sqrt(2), rel=0.03)


def test_the_slope_is_that_of_a_regression_with_a_level_for_each_shape():
    g = np.random.default_rng(0)
    groups = ["a"] * 5 + ["b"] * 4 + ["a"] * 3
    places = list(range(12))
    level = {"a": 0.0, "b": 7.0}
    logs = [level[s] - 0.3 * i + 0.1 * g.standard_normal() for i, s in enumerate(groups)]
    design = np.array([[i, s == "a", s == "b"] for i, s in enumerate(groups)], dtype=float)
    solution, residual, *_ = np.linalg.lstsq(design, np.array(logs), rcond=None)
    slope = fit([math.exp(v) for v in logs], places, groups, 11)
    assert math.log(slope.factor) == pytest.approx(-solution[0])
    variance = residual[0] / 9 * np.linalg.inv(design.T @ design)[0, 0]
    assert slope.error == pytest.approx(math.sqrt(variance))
    assert slope.log_total == pytest.approx(-11 * solution[0])


def test_a_gradient_that_underflows_is_fitted_where_it_has_digits():
    slope = fit([0.0, 0.0, 1e-9, 1e-6, 1e-3, 1.0], range(6), [0] * 6, 5)
    assert slope.factor == pytest.approx(1e-3)
    assert slope.underflow and slope.verdict == "vanishing"


def test_weights_so_small_that_nothing_arrives_are_vanishing_too():
    model = net(6, activation="sigmoid")
    with torch.no_grad():
        model.linear5.weight.mul_(1e-46)
    found = the(diagnose(model), "vanishing")
    assert found.measured == 0 and "exactly 0" in found.cause


def test_a_slope_near_the_limit_says_so():
    logs = [0, 0.6, 1.2, 2.6, 3.1, 4.4]
    slope = fit([math.exp(v) for v in logs], range(6), [0] * 6, 5)
    assert slope.close and slope.verdict is None


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
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(20))

        def forward(self, x):
            for layer in self.layers:
                x = getattr(torch, activation)(layer(x))
            return x

    torch.manual_seed(0)
    found = the(diagnose(Plain()), "vanishing")
    assert activation in found.cause.lower()
    if activation == "sigmoid":
        assert "in model.forward" in found.remedy


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


# ---------------------------------------------------------------- units


@pytest.mark.parametrize("size", [1, 2, 256])
def test_a_symmetric_layer_is_not_dead_whatever_the_batch(size):
    assert diagnose(net(20, 256), data(size)).healthy


def test_a_signal_that_fades_away_is_not_called_dead():
    model = net(20, init="normal", std=1e-4)
    assert diagnose(model).kinds == {"vanishing"}


def test_dead_units_are_counted_per_channel_of_a_convolution():
    model = cu.conv_net(4, 64, generator=cu.seeded(0))
    with torch.no_grad():
        model.conv1.bias[:60] = -100.0
    found = the(diagnose(model, images()), "dead")
    assert found.layers == ("conv1",)
    assert found.measured == 60 / 64


def test_a_narrow_network_dies_by_chance_and_the_finding_gives_the_probability():
    model = cu.mlp(30, 2, inputs=64, generator=cu.seeded(0))
    found = the(diagnose(model, data(1)), "dead")
    expected = cu.theory.dead_network_probability(2, 29)
    assert f"{expected:.2g}" in found.cause


def test_a_saturated_layer_is_named_with_the_share_counted_by_hand():
    model = net(4, activation="tanh", init="xavier")
    with torch.no_grad():
        model.linear2.bias.fill_(3.0)
    x, y = data()
    h = model[:4](x)
    share = float((1 - h.double().square() < 0.05).double().mean())
    found = the(diagnose(model, (x, y)), "saturated")
    assert found.layers == ("linear2",)
    assert found.measured == pytest.approx(share, abs=1e-3)


def test_a_sigmoid_at_the_output_may_saturate():
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1), nn.Sigmoid())
    nn.init.constant_(model[2].bias, 20.0)
    target = torch.ones(32, 1)
    found = diagnose(model, (data()[0], target), loss=F.binary_cross_entropy)
    assert "saturated" not in found.kinds


# ---------------------------------------------------------------- softmax twice


def test_the_extra_softmax_shrinks_the_gradient_k_fold_at_uniform_logits():
    model = nn.Sequential(nn.Linear(64, 25), nn.Softmax(dim=1))
    nn.init.zeros_(model[0].weight), nn.init.zeros_(model[0].bias)
    found = the(diagnose(model, data(outputs=25)), "double_softmax")
    assert found.measured == pytest.approx(1 / 25)
    assert found.predicted == pytest.approx(1 / 25)
    floor = float(F.cross_entropy(torch.eye(25), torch.arange(25)))
    assert f"{floor:.3g}" in found.cause


def test_a_sigmoid_before_binary_cross_entropy_with_logits_is_one_too_many():
    model = nn.Sequential(net(3), nn.Linear(10, 1), nn.Sigmoid())
    y = torch.randint(0, 2, (32, 1), generator=cu.seeded(0)).float()
    found = diagnose(model, (data()[0], y), loss=F.binary_cross_entropy_with_logits)
    assert found.kinds == {"double_softmax"}


@pytest.mark.parametrize(
    ("layer", "loss"),
    [
        (nn.Softmax(dim=1), lambda p, y: F.nll_loss(p.log(), y)),
        (nn.LogSoftmax(dim=1), F.cross_entropy),
        (nn.LogSoftmax(dim=1), F.nll_loss),
        (nn.Identity(), nn.CrossEntropyLoss(label_smoothing=0.1)),
    ],
)
def test_a_softmax_that_is_used_once_is_no_finding(layer, loss):
    assert diagnose(nn.Sequential(net(3), layer), loss=loss).healthy


# ---------------------------------------------------------------- NaN and Inf


class Op(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: (-x.abs()).log(), "log"),
        (lambda x: (1e4 * x.abs() + 1e3).exp(), "exp"),
        (lambda x: x / (x - x), "div"),
        (lambda x: (-x.abs() - 1).sqrt(), "sqrt"),
    ],
)
def test_the_producer_of_a_forward_nan_is_named_with_its_operation(function, operation):
    model = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), Op(function), nn.Linear(8, 10), nn.ReLU())
    found = first_nonfinite(model, data(), F.cross_entropy)
    assert found[:3] == ("2", "forward", operation)
    assert diagnose(model).kinds == {"non_finite"}


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: (0 * x).abs().sqrt() + x, "sqrt"),
        (lambda x: (0 * x).norm(dim=1, keepdim=True).pow(0.5) + x, "pow"),
    ],
)
def test_the_producer_of_a_backward_nan_is_named(function, operation):
    model = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), Op(function), nn.Linear(8, 10))
    found = first_nonfinite(model, data(), F.cross_entropy)
    assert found[:3] == ("2", "backward", operation)
    with torch.autograd.detect_anomaly(check_nan=False):
        loss = F.cross_entropy(model(data()[0]), data()[1])
    loss.backward()
    assert not all(bool(p.grad.isfinite().all()) for p in model.parameters())


def test_the_producer_is_not_the_layer_that_passes_it_on():
    model = net(6)
    with torch.no_grad():
        model.linear3.weight[0, 0] = math.nan
    found = first_nonfinite(model, data(), F.cross_entropy)
    assert found == NonFiniteSource("linear3", "forward", "parameter linear3.weight", "NaN")


def test_inputs_targets_and_the_loss_are_named_for_what_they_are():
    x, y = data()
    model = net(3)
    bad = x.clone()
    bad[3, 4] = math.inf
    assert first_nonfinite(model, (bad, y), F.cross_entropy).layer == "(input)"
    target = torch.full((32, 10), math.nan)
    assert first_nonfinite(model, (x, target), F.mse_loss).layer == "(target)"
    found = first_nonfinite(model, (x, y), lambda o, t: (o * 0).log().mean())
    assert found.layer == "(loss)" and found.operation == "log"
    found = first_nonfinite(model, (x, y), lambda o, t: (o * 0).abs().sqrt().sum())
    assert found[:3] == ("(loss)", "backward", "sqrt")


def test_code_between_the_layers_is_named_by_the_module_it_stands_in():
    class Custom(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(64, 8), nn.Linear(8, 10)

        def forward(self, x):
            return self.b(torch.log(F.relu(self.a(x)) * 0))

    model = nn.Sequential(Custom())
    assert first_nonfinite(model, data(), F.cross_entropy)[:3] == ("0", "forward", "log")


def test_the_mask_of_an_attention_is_no_producer():
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(6)
    batch = {"src": torch.randn(3, 6, 16), "src_mask": mask, "target": torch.randn(3, 6, 16)}
    for masked in (mask, mask == -math.inf):
        batch["src_mask"] = masked
        assert first_nonfinite(model, batch, F.mse_loss) is None
        assert diagnose(model, batch, F.mse_loss).healthy
    batch["src_mask"] = torch.full((6, 6), -math.inf)
    found = first_nonfinite(model, batch, F.mse_loss)
    assert found is None or "softmax" in found.operation or "attention" in found.operation
    batch["src"][0, 0, 0] = math.nan
    batch["src_mask"] = mask
    assert first_nonfinite(model, batch, F.mse_loss).layer == "(input)"


def test_a_row_that_is_masked_everywhere_is_the_fault_of_the_softmax():
    model = nn.Sequential(nn.Linear(64, 10), Op(lambda x: (x * 0 - math.inf).softmax(1)))
    x, y = data()
    found = first_nonfinite(model, (x, y), F.cross_entropy)
    assert found[:3] == ("1", "forward", "softmax") and found.value == "NaN"


def test_nothing_is_found_where_everything_is_finite():
    assert first_nonfinite(net(5), data(), F.cross_entropy) is None


def test_an_overflow_is_traced_to_the_growth_before_it():
    model = cu.mlp(60, 120, inputs=64, init="normal", std=1.0, generator=cu.seeded(0))
    found = diagnose(model)
    assert found.kinds == {"non_finite", "exploding"}
    growth = math.sqrt(120 / 2)  # E h² per layer is n/2 for N(0,1) weights and ReLU
    assert the(found, "exploding").measured == pytest.approx(growth, rel=0.05)


# ---------------------------------------------------------------- wiring


def test_a_branch_that_is_not_used_is_named():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.spare = net(3), nn.Linear(4, 4)

        def forward(self, x):
            return self.body(x)

    found = the(diagnose(Spare()), "not_connected")
    assert found.layers == ("spare",) and "did not run" in found.cause


def test_a_frozen_layer_is_no_finding_and_a_frozen_network_is_one():
    model = net(4)
    model.linear1.requires_grad_(False)
    assert diagnose(model).healthy
    model.requires_grad_(False)
    assert "frozen" in the(diagnose(model), "not_connected").cause


def test_a_loss_that_is_cut_off_is_found():
    found = diagnose(net(3), loss=lambda o, y: (o.argmax(1) == y).float().mean())
    assert found.kinds == {"not_connected"}


def test_equal_weights_everywhere_give_a_constant_output():
    model = net(4, activation="tanh", init="zeros")
    assert diagnose(model).kinds == {"constant_output"}


def test_a_last_layer_that_starts_at_zero_is_a_note_and_no_finding():
    model = net(5)
    nn.init.zeros_(model.linear5.weight)
    found = diagnose(model)
    assert found.healthy and any("starts at zero" in note for note in found.notes)


@pytest.mark.parametrize("skip", ["plain", "scaled", "rezero", "skipinit"])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_residual_networks_with_a_norm_are_healthy(skip, norm):
    assert diagnose(net(40, 128, skip=skip, norm=norm), data(64)).healthy


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_batch_norm_on_a_few_values_is_found_before_anything_else(size):
    x, y = data(size)
    assert diagnose(net(5, norm="batch"), (x, y)).kinds == {"batch_too_small_for_norm"}


def test_a_small_batch_that_explodes_over_many_norms_is_told_apart():
    small = diagnose(net(40, norm="batch"), data(5))
    large = diagnose(net(40, norm="batch"), data(256))
    assert {"batch_too_small_for_norm", "exploding"} <= small.kinds
    assert "exploding" in large.kinds and "batch_too_small_for_norm" not in large.kinds
    ratio = cu.theory.batchnorm_gradient_factor("relu", 5) / cu.theory.batchnorm_gradient_factor(
        "relu"
    )
    assert f"{ratio**39:.3g}" in the(small, "batch_too_small_for_norm").cause


def test_layers_of_one_shape_with_unlike_weights_get_unlike_updates():
    model = net(6)
    with torch.no_grad():
        model.linear2.weight.mul_(40)
        model.linear3.weight.div_(40)
    found = the(diagnose(model), "unbalanced_update")
    assert set(found.layers) == {"linear2.weight", "linear3.weight"}
    assert 40**4 / 10 < found.measured < 40**4 * 10


def test_with_an_optimizer_its_own_updates_are_compared_and_nothing_moves():
    model = net(6)
    with torch.no_grad():
        model.linear2.weight.mul_(40)
        model.linear3.weight.div_(40)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    before = [p.detach().clone() for p in model.parameters()]
    found = the(diagnose(model, optimizer=optimizer), "unbalanced_update")
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert not optimizer.state
    F.cross_entropy(model(data()[0]), data()[1]).backward()
    optimizer.step()
    ratio = {
        name: float((p.detach() - q).norm() / q.norm())
        for (name, p), q in zip(model.named_parameters(), before, strict=True)
        if p.dim() == 2
    }
    low, high = found.layers
    assert found.measured == pytest.approx(ratio[high] / ratio[low], rel=1e-3)


# ---------------------------------------------------------------- through time


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
    grads = torch.autograd.grad(F.cross_entropy(model.head(h), y), states)
    logs = [math.log(float(g.double().square().mean().sqrt())) for g in grads]
    found = the(diagnose(model, (x, y)), "vanishing")
    assert found.measured == pytest.approx(math.exp(-np.polyfit(range(30), logs, 1)[0]), rel=1e-4)


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
    assert 0.4 < found.predicted < 0.6  # a sigmoid near ½
    exec(found.remedy, {"model": model, "nn": nn, "torch": torch})
    assert diagnose(model, batch).healthy


def test_a_loop_over_a_cell_is_a_recurrence():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.RNNCell(3, 20), nn.Linear(20, 10)

        def forward(self, x):
            h = x.new_zeros(len(x), 20)
            for step in x.unbind(1):
                h = self.cell(step, h)
            return self.head(h)

    torch.manual_seed(0)
    model = Loop()
    batch = torch.randn(8, 40, 3), data(8)[1]
    found = the(diagnose(model, batch), "vanishing")
    assert found.layers == ("cell",)
    exec(found.remedy, {"model": model, "nn": nn})
    short = batch[0][:, :15], batch[1]  # over fewer steps: tanh still costs a little in each
    assert diagnose(model, short).healthy


def test_a_shared_head_is_no_recurrence():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(5))
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            total = 0
            for layer in self.layers:
                x = F.relu(layer(x))
                total = total + self.head(x)
            return total

    torch.manual_seed(0)
    assert diagnose(Shared()).healthy


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
    grads = torch.autograd.grad(F.cross_entropy(model.head(states[-1]), y), states)
    logs = [math.log(float(g.double().square().mean().sqrt())) for g in grads]
    return math.exp(-np.polyfit(range(len(logs)), logs, 1)[0])


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


def test_a_growth_that_stops_is_a_note_with_what_to_measure_next():
    g = cu.seeded(7)
    q = torch.linalg.qr(torch.randn(64, 64, generator=g))[0]
    x, y = 0.007 * torch.randn(32, 50, 2, generator=g), data()[1]
    found = diagnose(Unrolled("fused", 1.2 * q, "tanh"), (x, y))
    assert found.healthy
    assert any("twice as long" in note for note in found.notes)


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
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = fused(3, 24, batch_first=True), nn.Linear(24, 10)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    class Loop(nn.Module):
        def __init__(self, like):
            super().__init__()
            self.rnn, self.head = cell(3, 24), like.head
            for name, weight in self.rnn.named_parameters():
                weight.data.copy_(getattr(like.rnn, f"{name}_l0"))

        def forward(self, x):
            h = None
            for step in x.unbind(1):
                h = self.rnn(step, h)
            return self.head(h[0] if isinstance(h, tuple) else h)

    torch.manual_seed(4)
    one = Fused()
    batch = torch.randn(8, 60, 3), data(8)[1]
    a, b = (the(diagnose(model, batch), "vanishing") for model in (one, Loop(one)))
    assert a.predicted == pytest.approx(b.predicted, rel=1e-5)
    assert a.measured == pytest.approx(b.measured, rel=0.05)
    model = Loop(one)
    exec(b.remedy, {"model": model, "nn": nn, "torch": torch})
    assert "vanishing" not in diagnose(model, batch).kinds


@pytest.mark.parametrize("how", ["cell", "linear", "bare"])
def test_the_remedy_of_a_written_out_recurrence_runs(how):
    x, _ = cu.adding_problem(24, 50, generator=cu.seeded(1))
    model = Unrolled(how, 1.3 * torch.eye(40))
    batch = x, data(24)[1]
    F.cross_entropy(model(x), batch[1]).backward()
    torch.manual_seed(0)
    exec(
        the(diagnose(model, batch), "exploding").remedy, {"model": model, "nn": nn, "torch": torch}
    )
    assert "exploding" not in diagnose(model, batch).kinds
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
    assert norm <= 1.0 + 1e-5


# ---------------------------------------------------------------- weights in a model's own code


class Products(nn.Module):
    def __init__(self, gain, activation=torch.relu, depth=16, width=96):
        super().__init__()
        g = cu.seeded(9)
        self.weights = nn.ParameterList(
            nn.Parameter(gain * torch.randn(n, m, generator=g) / n**0.5)
            for n, m in [(64, width), *[(width, width)] * depth, (width, 10)]
        )
        self.activation = activation

    def forward(self, x):
        return self.hidden(x)[-1] @ self.weights[-1]

    def hidden(self, x):
        states = []
        for weight in self.weights[:-1]:
            x = self.activation(x @ weight)
            states.append(x)
        return states


@pytest.mark.parametrize(("gain", "kind"), [(0.6, "vanishing"), (3.0, "exploding")])
def test_products_by_bare_weights_are_layers(gain, kind):
    model, (x, y) = Products(gain), data()
    hidden = model.hidden(x)
    grads = torch.autograd.grad(F.cross_entropy(hidden[-1] @ model.weights[-1], y), hidden)
    logs = [math.log(float(g.double().square().mean().sqrt())) for g in grads]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that it has no layer to record is no news
        found = the(diagnose(model), kind)
    expected = math.exp(-np.polyfit(range(len(logs)), logs, 1)[0])
    assert found.measured == pytest.approx(expected, rel=1e-4)
    assert found.predicted == pytest.approx(gain / 2**0.5, rel=0.03)
    torch.manual_seed(0)
    exec(found.remedy, {"model": model, "nn": nn, "torch": torch})
    assert diagnose(model).healthy


def test_a_leaf_with_one_weight_is_a_layer_and_one_with_many_is_looked_into():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(0.4 * torch.randn(64, 64, generator=cu.seeded(1)) / 8)

        def forward(self, x):
            return torch.tanh(F.linear(x, self.weight))

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            g = cu.seeded(2)
            self.a, self.b = (
                nn.Parameter(0.4 * torch.randn(64, 64, generator=g) / 8) for _ in range(2)
            )

        def forward(self, x):
            return torch.tanh(torch.tanh(x @ self.a) @ self.b)

    single = nn.Sequential(*(Own() for _ in range(12)), nn.Linear(64, 10))
    paired = nn.Sequential(*(Pair() for _ in range(6)), nn.Linear(64, 10))
    for model, name in ((single, "3"), (paired, "3.b")):
        found = the(diagnose(model), "vanishing")
        assert name in found.layers and len(found.layers) == 13
        assert found.measured == pytest.approx(0.4, rel=0.05)


def test_only_the_parameter_that_is_not_used_is_frozen_by_the_remedy():
    model = Products(2**0.5, depth=3)
    model.spare = nn.Parameter(torch.zeros(3))
    found = the(diagnose(model), "not_connected")
    exec(found.remedy, {"model": model})
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["spare"]
    assert diagnose(model).healthy


# ---------------------------------------------------------------- branches


class Twins(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, a, b):
        return self.body(a) + self.body(b)


@pytest.mark.parametrize("size", [1, 32])
def test_an_encoder_on_two_inputs_has_the_slope_of_one(size):
    body = net(16, 128, init="torch_default")
    (x, y), (other, _) = data(size), data(size, seed=5)
    pair = the(diagnose(Twins(body), ((x, other), y)), "vanishing")
    alone = the(diagnose(body, (x, y)), "vanishing")
    assert pair.measured == pytest.approx(alone.measured, rel=0.1)
    assert "over 15 layers" in pair.cause and "over 15 layers" in alone.cause


def test_layers_side_by_side_have_no_slope():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(64, 32)
            self.heads = nn.ModuleList(nn.Linear(32, 10) for _ in range(6))

        def forward(self, x):
            h = torch.relu(self.first(x))
            return sum(10.0**-i * head(h) for i, head in enumerate(self.heads))

    torch.manual_seed(0)
    found = diagnose(Wide())
    assert "vanishing" not in found.kinds and "exploding" not in found.kinds


def test_a_line_through_two_points_is_not_drawn_further():
    slope = fit([0.08, 1.0], [1, 2], ["a", "b"], 7)
    assert slope.factor == pytest.approx(0.08) and slope.span == 1
    layers = [nn.Conv1d(4, 16, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2)]
    layers += [nn.Conv1d(16, 32, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()]
    torch.manual_seed(0)
    model = nn.Sequential(*layers, nn.Linear(32, 10))
    for size in (1, 8, 64):
        batch = torch.randn(size, 4, 40), data(size)[1]
        assert diagnose(model, batch).healthy


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
    assert any("two standard errors" in note for note in found.notes)


# ---------------------------------------------------------------- healthy while they train


def digits():
    sklearn = pytest.importorskip("sklearn.datasets")
    raw = sklearn.load_digits()
    x = torch.tensor(raw.images, dtype=torch.float32) / 8 - 1
    return x, torch.tensor(raw.target)


@pytest.mark.parametrize("kind", ["cnn", "mlp", "residual", "lstm", "rnn", "transformer"])
def test_a_network_that_learns_stays_healthy(kind):
    x, y = digits()
    torch.manual_seed(0)
    g = cu.seeded(0)
    if kind == "cnn":
        body = [nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 24, 3, padding=1)]
        body += [nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(384, 10)]
        model, x = nn.Sequential(*body), x[:, None]
    elif kind == "mlp":
        model, x = cu.mlp(8, 96, inputs=64, generator=g), x.flatten(1)
    elif kind == "residual":
        model, x = cu.mlp(24, 48, inputs=64, norm="batch", skip="plain", generator=g), x.flatten(1)
    elif kind == "transformer":
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        body = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        model = nn.Sequential(nn.Linear(8, 32), body, nn.Flatten(), nn.Linear(256, 10))
    else:
        model = cu.recurrent(kind, 48, inputs=8, outputs=10, generator=g)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for step in range(81):
        chosen = torch.randint(0, len(x), (64,), generator=g)
        if step in (0, 1, 3, 10, 30, 80):
            found = diagnose(model, (x[chosen], y[chosen]), optimizer=optimizer)
            assert found.healthy, (step, str(found))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[chosen]), y[chosen])
        loss.backward()
        optimizer.step()
    assert float(loss) < 1.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", list(six()))
def test_a_gpu_gets_the_findings_of_the_cpu(name):
    model, batch, kind = six()[name]
    here = the(diagnose(model, batch), kind)
    there = the(diagnose(copy.deepcopy(model).cuda(), tuple(t.cuda() for t in batch)), kind)
    assert there.measured == pytest.approx(here.measured, rel=1e-2)
    assert there.predicted == pytest.approx(here.predicted, rel=1e-2)


# ---------------------------------------------------------------- what is not measured


def test_what_cannot_be_measured_through_time_is_said():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(4, 8, bidirectional=True, batch_first=True)
            self.head = nn.Linear(16, 10)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    found = diagnose(Both(), (torch.randn(6, 30, 4), data(6)[1]))
    assert any("bidirectional" in note for note in found.notes)
    assert "bidirectional" in str(found) and "bidirectional" in found._repr_html_()


# ---------------------------------------------------------------- real networks


class Block(nn.Module):
    """The basic block of He et al. (2016)."""

    def __init__(self, fan_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity()
        if stride != 1 or fan_in != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(fan_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x):
        h = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


def resnet18(base=16):
    blocks, fan_in = [], base
    for stage in range(4):
        for i in range(2):
            width = base * 2**stage
            blocks.append(Block(fan_in, width, 2 if stage and not i else 1))
            fan_in = width
    stem = [nn.Conv2d(3, base, 3, 1, 1, bias=False), nn.BatchNorm2d(base), nn.ReLU(inplace=True)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fan_in, 10)]
    return nn.Sequential(*stem, *blocks, *head)


@pytest.mark.parametrize("init", ["torch_default", "he"])
def test_a_resnet_18_is_healthy(init):
    model = cu.initialize(resnet18(), init, generator=cu.seeded(0))
    x = torch.randn(8, 3, 32, 32, generator=cu.seeded(1))
    assert diagnose(model, (x, data(8)[1])).healthy


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_transformer_is_healthy(norm_first):
    torch.manual_seed(0)
    model = nn.Transformer(32, 4, 3, 3, 64, batch_first=True, norm_first=norm_first)
    source, target = torch.randn(4, 9, 32), torch.randn(4, 7, 32)
    found = diagnose(model, ((source, target), target), loss=F.mse_loss)
    assert found.healthy


def test_a_post_norm_encoder_without_its_skips_is_not_healthy():
    torch.manual_seed(0)
    model = net(80, 64, norm="layer", activation="tanh", init="he", gain=4.0)
    assert "exploding" in diagnose(model).kinds


def test_an_lstm_language_model_gets_a_sensible_answer():
    class Language(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(40, 24)
            self.lstm = nn.LSTM(24, 24, 2, batch_first=True, dropout=0.2)
            self.head = nn.Linear(24, 40)

        def forward(self, tokens):
            return self.head(self.lstm(self.embedding(tokens))[0])

    torch.manual_seed(0)
    tokens = torch.randint(0, 40, (6, 33))
    found = diagnose(
        Language(),
        (tokens[:, :-1], tokens[:, 1:]),
        loss=lambda o, y: F.cross_entropy(o.flatten(0, 1), y.flatten()),
    )
    assert found.healthy
    assert "lstm[0]" in found.record.layers


# ---------------------------------------------------------------- the model is left alone


def restless():
    """Everything that a pass could change: norms, dropout, power iteration, frozen parts."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(64, 32)),
        nn.BatchNorm1d(32),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(32, 32),
        nn.BatchNorm1d(32, momentum=None),
        nn.Tanh(),
        nn.Linear(32, 10),
    )
    model[1].eval()
    return model


def state(model):
    return (
        {name: value.detach().clone() for name, value in model.state_dict().items()},
        [id(value) for value in [*model.parameters(), *model.buffers()]],
        [None if p.grad is None else (id(p.grad), p.grad.clone()) for p in model.parameters()],
        [(m.training, getattr(m, "momentum", None)) for m in model.modules()],
        torch.get_rng_state(),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        [
            len(value)
            for module in model.modules()
            for name, value in vars(module).items()
            if name.endswith("_hooks")
        ],
    )


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


@pytest.mark.parametrize("training", [True, False])
def test_parameters_gradients_buffers_mode_and_random_states_are_left(training):
    model, (x, y) = restless(), data()
    if not training:
        model.eval()
    F.cross_entropy(model(x), y).backward()
    model[4].bias.grad = None
    before = state(model)
    diagnose(model, (x, y))
    first_nonfinite(model, (x, y), F.cross_entropy)
    jacobian_singular_values(model.eval() if not training else model, x[:8], 2)
    assert same(before, state(model))


def test_after_an_error_in_the_loss_everything_is_left_too():
    model, (x, y) = restless(), data()
    before = state(model)

    def broken(output, target):
        random.random()
        np.random.rand()  # noqa: NPY002
        raise KeyError("no such column")

    with pytest.raises(KeyError, match="no such column") as caught:
        diagnose(model, (x, y), loss=broken)
    assert "the loss of" in caught.value.__notes__[0]
    assert same(before, state(model))


def test_training_goes_on_as_if_nobody_had_asked():
    def train(asked):
        torch.manual_seed(3)
        model, (x, y) = restless(), data()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            if asked:
                diagnose(model, (x, y), optimizer=optimizer)
            optimizer.step()
        return model.state_dict()

    assert same(dict(train(False)), dict(train(True)))


def test_an_optimizer_that_steps_inside_backward_is_not_set_off():
    model = net(4)
    steps = []
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: steps.append(p))
    diagnose(model)
    assert not steps


def test_lazy_layers_stay_lazy():
    model = nn.Sequential(nn.LazyLinear(32), nn.ReLU(), nn.LazyLinear(10))
    assert diagnose(model).healthy
    assert isinstance(model[0].weight, nn.parameter.UninitializedParameter)


def test_the_loss_runs_under_no_grad_too():
    with torch.no_grad():
        assert diagnose(net(12, activation="sigmoid", init="xavier")).kinds == {"vanishing"}


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_networks_can_be_asked(reentrant):
    class Saving(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.rest = nn.Linear(64, 64), net(4)

        def forward(self, x):
            return checkpoint(self.rest, self.first(x), use_reentrant=reentrant)

    torch.manual_seed(0)
    model = Saving()
    model(data()[0]).sum().backward()
    grads = [p.grad.clone() for p in model.parameters()]
    assert diagnose(model).healthy
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))


# ---------------------------------------------------------------- batches and losses of any kind


def test_every_way_to_hand_over_a_batch_gives_the_same_verdict():
    model, (x, y) = net(12, activation="sigmoid", init="xavier"), data()
    wanted = the(diagnose(model, (x, y)), "vanishing").measured
    batches = [
        [x, y],
        {"input": x, "labels": y},
        {"input": x, "y": y, "index": torch.arange(32)},
        {"image": x, "target": y},
        ((x,), y),
        ({"input": x}, y),
    ]
    for batch in batches:
        assert the(diagnose(model, batch), "vanishing").measured == wanted
    for loss in (nn.CrossEntropyLoss(), lambda o: F.cross_entropy(o, y)):
        assert the(diagnose(model, (x, y), loss), "vanishing").measured == wanted
    found = diagnose(model, x, lambda o: F.cross_entropy(o, y))
    assert the(found, "vanishing").measured == wanted


def test_a_model_that_returns_its_own_loss_needs_none():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net(12, activation="sigmoid", init="xavier")

        def forward(self, x, labels=None):
            logits = self.body(x)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    x, y = data()
    found = cu.diagnose(Own(), {"x": x, "labels": y})
    assert found.kinds == {"vanishing"}


def test_a_network_whose_answers_are_certain_is_judged_all_the_same():
    model = net(12, init="normal", std=1.0)
    x, _ = data(1, 64, 5)
    y = model(x).argmax(1)  # right, and by so much that the loss has no gradient
    found = diagnose(model, (x, y))
    assert found.kinds == {"exploding"}
    assert "random numbers" in the(found, "exploding").cause


def test_a_model_that_cannot_run_raises_its_own_error_with_a_note():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        diagnose(nn.Linear(3, 4))
    assert "(32, 64)" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((torch.relu, (1, 2), None), TypeError, "nn.Module is expected"),
        ((nn.Linear(2, 2), 3, F.mse_loss), TypeError, r"expected \(x, y\)"),
        ((nn.Linear(64, 10), data(), 3), TypeError, "must be a function"),
        ((nn.Linear(64, 10), data(), None), ValueError, "loss=None"),
        ((nn.Linear(64, 10), data(), lambda o, y: o), ValueError, "expected a scalar"),
    ],
)
def test_a_wrong_argument_is_told_with_the_way_out(arguments, error, text):
    with pytest.raises(error, match=text):
        cu.diagnose(*arguments)


# ---------------------------------------------------------------- reports


def test_a_diagnosis_speaks_to_terminals_notebooks_and_ci():
    found = diagnose(net(12, activation="sigmoid", init="xavier"))
    finding = the(found, "vanishing")
    as_json = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert as_json["kinds"] == ["vanishing"] and not as_json["healthy"]
    assert as_json["findings"][0]["measured"] == finding.measured
    for text in (str(found), found._repr_html_()):
        assert f"{finding.measured:.3g}" in text and f"{finding.predicted:.3g}" in text
        assert "04 · Differentiate" in text
    assert "<b>vanishing</b>" in found._repr_html_()
    assert repr(found) == "Diagnosis(vanishing)"
    found.raise_if("exploding", "dead")
    with pytest.raises(DiagnosisError, match="VANISHING"):
        found.raise_if("dead", "vanishing")
    with pytest.raises(AssertionError):
        found.raise_if()
    with pytest.raises(ValueError, match="did you mean 'vanishing'"):
        found.raise_if("vanish")


def test_names_are_escaped_in_html():
    model = nn.Sequential(Op(lambda x: x), nn.Linear(64, 10))
    model.add_module("<b>", nn.Softmax(1))
    assert "<b><" not in diagnose(model)._repr_html_().replace("<p><b>", "")
    assert "&lt;b&gt;" in diagnose(model)._repr_html_()


def test_a_healthy_network_has_one_finding_that_says_so():
    found = diagnose(net(10, 256))
    assert found.healthy and [f.kind for f in found.findings] == ["healthy"]
    found.raise_if()
    assert set(KINDS) >= found.kinds


def test_findings_come_most_urgent_first():
    model = net(40, 100, activation="tanh", init="he", gain=5.0)
    found = [KINDS.index(f.kind) for f in diagnose(model).findings]
    assert len(found) > 1 and found == sorted(found)


def test_the_record_holds_the_gradients_of_the_loss_itself():
    model, (x, y) = net(8), data()
    with cu.record(model) as recorder:
        (1e4 * F.cross_entropy(model(x), y)).backward()
    found = diagnose(model, (x, y), loss=lambda o, t: 1e4 * F.cross_entropy(o, t))
    torch.testing.assert_close(found.record.grad_rms, recorder.record.grad_rms, rtol=1e-4, atol=0.0)


# ---------------------------------------------------------------- the spectrum of the Jacobian


def test_the_exact_spectrum_is_that_of_the_jacobian():
    model = net(6, 20, seed=4).double()
    x = data(1)[0].double()
    jacobian = torch.autograd.functional.jacobian(model, x).reshape(10, 64)
    expected = torch.from_numpy(np.linalg.svd(jacobian.numpy(), compute_uv=False))
    torch.testing.assert_close(jacobian_singular_values(model, x), expected)
    torch.testing.assert_close(jacobian_singular_values(model, x, 3), expected[:3])


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_lanczos_agrees_with_the_exact_values(activation):
    model = cu.mlp(
        8, 90, inputs=120, outputs=80, activation=activation, generator=cu.seeded(1)
    ).double()
    x = torch.randn(1, 120, generator=cu.seeded(2), dtype=torch.float64)
    exact = jacobian_singular_values(model, x, 6, method="exact")
    lanczos = jacobian_singular_values(model, x, 6, method="lanczos", generator=cu.seeded(3))
    torch.testing.assert_close(lanczos, exact, rtol=1e-7, atol=1e-12)


def test_lanczos_works_on_convolutions_in_float32_and_on_functions():
    model = cu.conv_net(4, 8, generator=cu.seeded(0))
    x = images(1)[0]
    exact = jacobian_singular_values(model, x, 4, method="exact")
    lanczos = jacobian_singular_values(model, x, 4, method="lanczos")
    torch.testing.assert_close(lanczos, exact, rtol=1e-4, atol=1e-7)
    values = jacobian_singular_values(torch.sin, torch.tensor([0.0, math.pi / 3]))
    torch.testing.assert_close(values, torch.tensor([1.0, 0.5], dtype=torch.float64))


def test_lanczos_finds_repeated_and_missing_values():
    matrix = torch.diag(torch.tensor([3.0, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    values = jacobian_singular_values(
        lambda x: x @ matrix, torch.ones(5, dtype=torch.float64), 4, method="lanczos"
    )
    expected = torch.tensor([3.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(values, expected, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"k": 0}, "k=0"),
        ({"k": 11}, "from 1 to 10"),
        ({"method": "power"}, "method='power'"),
        ({"method": "lanczos"}, "needs k"),
    ],
)
def test_a_spectrum_that_cannot_be_had_says_why(options, text):
    with pytest.raises(ValueError, match=text):
        jacobian_singular_values(net(2), data(1)[0], **options)


# ---------------------------------------------------------------- shattered


def test_the_correlation_of_gradients_is_that_of_single_backward_passes():
    from course_utils.diagnosis.rules.shattered import gradient_correlation

    model, batch = net(9, 128, seed=2), data(6)
    found = passed(model, batch)
    correlation = gradient_correlation(found)
    v = torch.randn(10, generator=torch.Generator().manual_seed(0))
    grads = []
    for x in batch[0]:
        z = model.linear1(x[None])
        output = model[1:](z)
        grads.append(torch.autograd.grad(output, z, v[None])[0][0].double())
    stacked = torch.stack(grads)
    cosine = torch.corrcoef(torch.cat([stacked, -stacked], dim=1))  # mean 0: plain cosines
    mean = float((cosine.sum() - 6) / 30)
    assert correlation.layers[0] == "linear1"
    assert correlation.cosine[0] == pytest.approx(mean, rel=1e-4)


def test_ten_layers_of_batch_norm_are_not_called_shattered_and_sixty_are():
    assert diagnose(net(10, 128, norm="batch"), data(128)).healthy
    found = the(diagnose(net(60, 128, norm="batch"), data(128)), "shattered")
    assert found.predicted == 0.5


def test_skips_keep_the_gradients_together():
    assert diagnose(net(60, norm="batch", skip="plain"), data(128)).healthy


# ---------------------------------------------------------------- remedies as code


def test_running_names_become_a_comprehension_that_gives_them_back():
    names = [f"blocks.{i}.conv2" for i in range(3, 30, 3)]
    code = remedies.listed(names)
    assert "range" in code and eval(code) == names
    odd = ["a", "b2", "c.3.d"]
    assert eval(remedies.listed(odd)) == odd


def test_a_copy_of_the_model_is_not_needed():
    model = net(6)
    twin = copy.deepcopy(model)
    assert diagnose(model).to_dict() == diagnose(twin).to_dict()
    assert passed(model, data()).depth_slope.factor > 0


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


# ---------------------------------------------------------------- models that readers paste


def heal(model, batch, kind, loss=F.cross_entropy):
    """The model after the remedy of a finding has been run on it, as it is printed."""
    scope = {"model": model, "nn": nn, "torch": torch, "F": F}
    torch.manual_seed(0)
    exec(the(diagnose(model, batch, loss), kind).remedy, scope)
    return scope["model"]


@pytest.mark.parametrize("depth", [7, 11])
def test_a_sigmoid_that_makes_the_output_stays_where_the_others_are_replaced(depth):
    layers = [m for _ in range(depth) for m in (nn.Linear(64, 64), nn.Sigmoid())]
    model = nn.Sequential(nn.Sequential(*layers), nn.Linear(64, 1), nn.Sigmoid())
    batch = data()[0], (data()[1][:, None] > 4).float()
    healed = heal(model, batch, "vanishing", F.binary_cross_entropy)
    assert isinstance(healed[-1], nn.Sigmoid)
    assert not any(isinstance(m, nn.Sigmoid) for m in healed[0])
    assert diagnose(healed, batch, F.binary_cross_entropy).healthy


def test_every_head_keeps_the_sigmoid_that_makes_its_output():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            layers = [m for _ in range(9) for m in (nn.Linear(64, 64), nn.Sigmoid())]
            self.body = nn.Sequential(*layers)
            self.heads = nn.ModuleList(
                nn.Sequential(nn.Linear(64, 8), nn.Sigmoid(), nn.Linear(8, 1), nn.Sigmoid())
                for _ in range(2)
            )

        def forward(self, x):
            h = self.body(x)
            return [head(h) for head in self.heads]

    def loss(outputs, target):
        return sum(F.binary_cross_entropy(output, target) for output in outputs)

    batch = data()[0], (data()[1][:, None] > 4).float()
    healed = heal(Heads(), batch, "vanishing", loss)
    assert all(isinstance(head[3], nn.Sigmoid) for head in healed.heads)
    assert not any(isinstance(m, nn.Sigmoid) for m in [*healed.body, healed.heads[0][1]])
    assert diagnose(healed, batch, loss).healthy


def test_a_sigmoid_module_that_is_used_inside_and_at_the_output_is_no_module_to_replace():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(9))
            self.act = nn.Sigmoid()

        def forward(self, x):
            for layer in self.layers:
                x = self.act(layer(x))
            return x

    found = the(diagnose(Shared(), (data()[0], torch.rand(32, 64)), F.mse_loss), "vanishing")
    assert "in model.forward, between the layers: F.relu" in found.remedy
    assert "setattr" not in found.remedy


@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU])
def test_the_norm_in_front_of_a_gelu_fits_layers_of_any_width(activation):
    widths = [64, 200, 150, 150, 90, 90, 70, 50, 50, 40, 30, 30, 20, 10]
    layers = [m for n in itertools.pairwise(widths) for m in (nn.Linear(*n), activation())]
    model = nn.Sequential(*layers[:-1])
    assert diagnose(heal(model, data(), "vanishing")).healthy


def test_the_norm_in_front_of_a_gelu_takes_channels_and_pixels_of_a_convolution():
    layers = [
        m for k in range(14) for m in (nn.Conv2d(24 if k else 1, 24, 3, padding=1), nn.GELU())
    ]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10))
    assert diagnose(heal(model, images(), "vanishing"), images()).healthy


@pytest.mark.parametrize("omega", [10, 30])
def test_an_activation_that_nobody_knows_is_not_called_linear_and_its_weights_are_scaled(omega):
    class Sines(nn.Module):  # Sitzmann et al., NeurIPS 2020, without their initialization
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(64, 64) for _ in range(8)])
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            for layer in self.layers:
                x = torch.sin(omega * layer(x))
            return self.head(x)

    model = Sines()
    found = the(diagnose(model), "exploding")
    assert "linear" not in found.cause
    assert found.predicted == pytest.approx(omega * math.sqrt(0.5 / 3), rel=0.25)
    assert diagnose(heal(model, data(), "exploding")).healthy


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_gates_that_explode_are_blamed_on_their_weights_and_healed(kind):
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = kind(2, 32, batch_first=True), nn.Linear(32, 10)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    torch.manual_seed(0)
    model = Reads()
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
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.RNN(8, 32, batch_first=True), nn.Linear(32, 10)

        def forward(self, x):
            return self.head(self.rnn(x)[1][-1])

    torch.manual_seed(0)
    model = Reads()
    batch = torch.randn(32, 80, 8, generator=cu.seeded(4)), data()[1]
    once = heal(model, batch, "vanishing")
    assert isinstance(once.rnn, nn.RNN)
    assert "vanishing" in diagnose(once, batch).kinds
    twice = heal(once, batch, "vanishing")
    assert isinstance(twice.rnn, nn.GRU)
    assert diagnose(twice, batch).healthy


@pytest.mark.parametrize("size", [50.0, 1e4])
def test_inputs_far_too_large_are_blamed_before_the_weights(size):
    x, y = data()
    model = net(3, activation="tanh", init="xavier")
    batch = (size * x + size, y)
    found = the(diagnose(model, batch), "saturated")
    rms = float(batch[0].square().mean().sqrt())
    assert f"root mean square of {rms:.3g}" in found.cause
    healed = heal(model, batch, "saturated")
    assert healed[-1] is model and diagnose(healed, batch).healthy
    pictures = images()[0] * size, images()[1]
    conv = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(288, 10))
    assert "saturated" not in diagnose(heal(conv, pictures, "saturated"), pictures).kinds


def test_weights_far_too_large_are_blamed_at_inputs_of_one():
    model = net(3, activation="tanh", init="normal", std=2.0)
    assert "Its weights have" in the(diagnose(model), "saturated").cause


class _Block(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.linear, self.norm = nn.Linear(width, width), nn.BatchNorm1d(width)

    def forward(self, x):
        return F.relu(self.norm(self.linear(x)))


class _Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(64, 16), nn.Linear(16, 10)
        self.blocks = nn.ModuleList(_Block() for _ in range(50))

    def forward(self, x):
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return self.leave(x)


class _Features(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [m for _ in range(50) for m in (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())]
        self.features, self.head = nn.Sequential(*layers), nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.features(x))


def _nested():
    parts = [nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU()) for _ in range(50)]
    return nn.Sequential(nn.Linear(64, 16), *parts, nn.Linear(16, 10))


@pytest.mark.parametrize("build", [_Blocks, _Features, _nested])
def test_skips_are_put_around_blocks_wherever_the_model_keeps_them(build):
    torch.manual_seed(0)
    model, batch = build(), data(128)
    before = sum(p.numel() for p in model.parameters())
    healed = heal(model, batch, "exploding")
    assert sum(p.numel() for p in healed.parameters()) == before
    assert diagnose(healed, batch).healthy


def test_blocks_that_change_the_shape_get_no_skip():
    class Strided(nn.Module):
        def __init__(self, **options):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3, **options), nn.BatchNorm2d(4)

        def forward(self, x):
            return F.relu(self.norm(self.conv(x)))

    for options in ({"stride": 2, "padding": 1}, {"padding": 0}):
        model = nn.Sequential(*(Strided(**options) for _ in range(3)))
        assert "[i] = Residual" not in remedies.add_skips(model)
    model = nn.Sequential(*(Strided(padding=1) for _ in range(3)))
    assert "for i in range(0, 3):\n    model[i] = Residual(model[i])" in remedies.add_skips(model)


@pytest.mark.parametrize("order", [1, -1])
def test_a_loss_in_a_tuple_with_the_logits_is_found(order):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net(12, activation="sigmoid", init="xavier")

        def forward(self, x, targets):
            logits = self.body(x)
            return (logits, F.cross_entropy(logits, targets))[::order]

    x, y = data()
    assert cu.diagnose(Own(), {"x": x, "targets": y}).kinds == {"vanishing"}


@pytest.mark.parametrize(
    ("batch", "loss", "text"),
    [
        (data(), nn.CrossEntropyLoss, r"is a class: .*nn\.CrossEntropyLoss\(\)"),
        (data(), "cross_entropy", "must be a function"),
        (data(), lambda o, y: F.cross_entropy(o, y, reduction="none"), r"\(32,\).*Take the mean"),
        (iter([data()]), F.cross_entropy, r"next\(iter\(loader\)\)"),
    ],
)
def test_a_mistake_in_the_call_is_not_laid_at_the_door_of_the_model(batch, loss, text):
    with pytest.raises((TypeError, ValueError), match=text) as caught:
        cu.diagnose(nn.Linear(64, 10), batch, loss)
    assert not getattr(caught.value, "__notes__", [])


def test_a_bent_profile_that_is_not_decided_names_its_lowest_layer():
    def pair(n_in, n_out):
        parts = [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*parts, nn.Conv2d(n_out, n_out, 3, padding=1), nn.ReLU())

    class UNet(nn.Module):  # Ronneberger et al., MICCAI 2015, with PyTorch's default weights
        def __init__(self):
            super().__init__()
            self.down1, self.down2, self.middle = pair(1, 16), pair(16, 32), pair(32, 64)
            self.pool, self.up2, self.up1 = nn.MaxPool2d(2), pair(64, 32), pair(32, 16)
            self.out2, self.out1 = (
                nn.ConvTranspose2d(64, 32, 2, 2),
                nn.ConvTranspose2d(32, 16, 2, 2),
            )
            self.head = nn.Conv2d(16, 1, 1)

        def forward(self, x):
            a = self.down1(x)
            b = self.down2(self.pool(a))
            h = self.out2(self.middle(self.pool(b)))
            h = self.out1(self.up2(torch.cat([h, b], 1)))
            return self.head(self.up1(torch.cat([h, a], 1)))

    torch.manual_seed(0)
    x, _ = images(64)
    found = diagnose(UNet(), (x, (x > 0).float()), F.binary_cross_entropy_with_logits)
    sizes = dict(zip(found.record.layers, found.record.grad_rms[0].tolist(), strict=True))
    assert min(sizes, key=sizes.get) == "pool#2"  # what "middle.0" reads
    (note,) = found.notes
    share = sizes["pool#2"] / sizes["up1.3"]  # "up1.3" makes what the head reads
    assert f"{share:.2g} of what head gets, at middle.0" in note


@pytest.mark.parametrize(
    "function",
    [
        lambda z: torch.log(z.relu()),
        lambda z: (z * 0).sqrt(),
        lambda z: z / (z * 0),
        lambda z: (200 * z.abs() + 200).exp(),
        lambda z: torch.asin(z.abs() + 2),
    ],
)
def test_a_remedy_that_must_be_done_by_hand_is_a_comment_and_does_not_run(function):
    class Strange(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            return function(self.linear(x))

    found = the(diagnose(Strange()), "non_finite")
    assert found.remedy.startswith("#") and not found.remedy_runs
    exec(found.remedy, {})  # a comment, and no more
    x, y = data()
    x[3, 5] = math.nan
    found = the(diagnose(nn.Linear(64, 10), (x, y)), "non_finite")
    assert not found.remedy_runs and exec(found.remedy, {}) is None


def test_remedies_that_run_as_they_are_say_so():
    for model, batch, kind in six().values():
        assert the(diagnose(model, batch), kind).remedy_runs

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(9))

        def forward(self, x):
            for layer in self.layers:
                x = torch.sigmoid(layer(x))
            return x

    found = the(diagnose(Functional(), (data()[0], torch.rand(32, 64)), F.mse_loss), "vanishing")
    assert found.remedy and not found.remedy_runs
    (healthy,) = diagnose(net(5)).findings
    assert not healthy.remedy_runs
