"""First weights: fans by counting, measured scales, and where the numbers come from."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from network_layers import LAYERS, RECURRENT, equal_states, gates, gaussian, weighted_outputs
from torch import nn

import course_utils as cu
from course_utils.networks import Fans, fans, mean_field, xavier
from course_utils.networks.counting import weight_blocks

# ---------------------------------------------------------------- fans
SIDE = {1: 60, 2: 36, 3: 26}
BATCH = {1: 24, 2: 2, 3: 1}


def inside(value, start=12, length=12):
    """The pixels away from the border, whole periods of steps 1, 2 and 3."""
    for dimension in range(2, value.ndim):
        value = value.narrow(dimension, start, length)
    return value


def images(layer):
    """An input of a layer, to be filled."""
    if isinstance(layer, nn.Linear):
        return torch.empty(500, layer.in_features)
    dimensions = len(layer.kernel_size)
    return torch.empty(BATCH[dimensions], layer.in_channels, *[SIDE[dimensions]] * dimensions)


def outputs_inside(layer, h):
    steps = layer.stride if hasattr(layer, "stride") else ()
    if steps and max(steps) > 1 and not isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return inside(h, start=2, length=8)  # fewer pixels, and steps have no phase here
    return inside(h)


@pytest.mark.parametrize("name", LAYERS)
def test_fans_are_the_products_that_meet_in_an_output_and_use_an_input(name):
    """With weights and inputs of 1 an output is its fan_in, an input's gradient its fan_out."""
    layer = LAYERS[name]()
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.zero_()
    x = images(layer).fill_(1.0).requires_grad_()
    out = layer(x)
    (back,) = torch.autograd.grad(out.sum(), x)
    counted = outputs_inside(layer, out).mean().item(), inside(back).mean().item()
    assert fans(layer) == pytest.approx(counted, rel=1e-5)


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3), (7, 5, 3, 2)])
def test_fans_of_a_weight_are_those_that_pytorch_counts(shape):
    weight = torch.zeros(shape)
    assert fans(weight) == nn.init._calculate_fan_in_and_fan_out(weight)
    assert isinstance(fans(weight), Fans)


# scheme, its options, variance of one weight
SCHEMES = [
    ("xavier", {}, lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
    ("he", {}, lambda fan_in, fan_out: 2 / fan_in),
    ("he", {"gain": 1.0}, lambda fan_in, fan_out: 1 / fan_in),  # keeps E h² of every layer
    ("normal", {"std": 0.03}, lambda fan_in, fan_out: 0.03**2),
    ("mean_field", {"weight_variance": 1.7}, lambda fan_in, fan_out: 1.7 / fan_in),
]


def measured_scales(layer, seed):
    """(forward, backward) factors of E h² and E δ², on Gaussian noise."""
    x = images(layer)
    with torch.no_grad():
        x.normal_(generator=cu.seeded(seed))
    x.requires_grad_()
    out = layer(x)
    noise = gaussian(*out.shape, seed=seed + 1)
    (back,) = torch.autograd.grad(out, x, noise)
    return outputs_inside(layer, out).square().mean().item(), inside(back).square().mean().item()


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("scheme", "options", "variance"), SCHEMES)
def test_scale_forward_and_backward_are_fan_times_variance(scheme, options, variance, name):
    measured = []
    for seed in range(3):
        layer = LAYERS[name]()
        cu.initialize(layer, scheme, generator=cu.seeded(seed), **options)
        measured.append(measured_scales(layer, 10 + seed))
    expected = np.array(fans(layer)) * variance(*fans(layer))
    assert np.mean(measured, axis=0) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", LAYERS)
def test_orthogonal_keeps_the_mean_square_where_inputs_are_not_fewer(name):
    """Each group's matrix (outputs, inputs·K) has all singular values alike."""
    layer = LAYERS[name]()
    cu.initialize(layer, "orthogonal", gain=1.5, generator=cu.seeded(0))
    groups = getattr(layer, "groups", 1)
    steps = math.prod(layer.stride) if isinstance(layer, nn.modules.conv._ConvTransposeNd) else 1
    for part in layer.weight.detach().chunk(groups):
        matrix = part.transpose(0, 1) if type(layer).__name__.startswith("ConvT") else part
        values = torch.linalg.svdvals(matrix.flatten(1).double())
        torch.testing.assert_close(
            values, torch.full_like(values, 1.5 * math.sqrt(steps)), rtol=1e-5, atol=0
        )
    rows, columns = matrix.flatten(1).shape
    share = min(1, columns / rows)  # with more outputs than products the energy is spread
    measured = np.mean([measured_scales(layer, 30 + seed)[0] for seed in range(3)])
    assert measured == pytest.approx(1.5**2 * share, rel=0.05)


@pytest.mark.parametrize("name", ["conv2d, groups", "transposed2d, groups and steps", "linear"])
@pytest.mark.parametrize("scheme", ["xavier", "he"])
def test_uniform_weights_have_the_variance_of_gaussian_ones(scheme, name):
    weights = []
    for uniform in (False, True):
        layer = LAYERS[name]()
        cu.initialize(layer, scheme, uniform=uniform, gain=0.7, generator=cu.seeded(5))
        weights.append(layer.weight.detach().double())
    assert weights[1].var().item() == pytest.approx(weights[0].var().item(), rel=0.05)
    assert weights[1].abs().max().item() <= math.sqrt(3 * weights[1].var().item()) * 1.05
    assert weights[0].abs().max().item() > 3 * weights[0].std().item()


@pytest.mark.parametrize("name", RECURRENT)
def test_every_gate_of_a_recurrent_layer_is_a_matrix_of_its_own(name):
    layer = RECURRENT[name]()
    cu.initialize(layer, "orthogonal", gain=0.9, generator=cu.seeded(0))
    for _, matrix in gates(layer):
        values = torch.linalg.svdvals(matrix.double())
        torch.testing.assert_close(values, torch.full_like(values, 0.9), rtol=1e-5, atol=0)
    variances = {
        "he": lambda m: 2 / m.shape[1],
        "xavier": lambda m: 2 / sum(m.shape),
        "torch_default": lambda m: 1 / (3 * 60),
        "mean_field": lambda m: 1 / m.shape[1],
    }
    for scheme, variance in variances.items():
        ratios = []
        for seed in range(5):
            cu.initialize(layer, scheme, generator=cu.seeded(seed))
            ratios += [m.var().item() / variance(m) for _, m in gates(layer)]
        assert np.mean(ratios) == pytest.approx(1, rel=0.05)
        biases = [value for key, value in layer.named_parameters() if key.startswith("bias")]
        assert all((bias != 0).any() == (scheme == "torch_default") for bias in biases)


@pytest.mark.parametrize("name", [*LAYERS, *RECURRENT])
def test_torch_default_is_what_pytorch_draws(name):
    make = {**LAYERS, **RECURRENT}[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = [dict(make().named_parameters()) for _ in range(30)]
    ours = [
        dict(cu.initialize(make(), "torch_default", generator=cu.seeded(s)).named_parameters())
        for s in range(30)
    ]
    for key in theirs[0]:
        pair = [torch.stack([p[key].detach() for p in each]).double() for each in (theirs, ours)]
        expected, got = (part.square().mean().sqrt().item() for part in pair)
        assert got == pytest.approx(expected, rel=0.12 if "bias" in key else 0.05)
        largest = [part.abs().max().item() for part in pair]
        assert largest[1] == pytest.approx(largest[0], rel=0.06 if "bias" in key else 0.03)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru cell"])
def test_mean_field_biases_of_a_recurrent_layer_add_up_to_the_variance_asked_for(name):
    sums = []
    for seed in range(40):
        layer = RECURRENT[name]()
        cu.initialize(layer, "mean_field", bias_variance=0.3, generator=cu.seeded(seed))
        named = dict(layer.named_parameters())
        sums += [
            (named[key] + named[key.replace("ih", "hh")]).detach()
            for key in named
            if key.startswith("bias_ih")
        ]
    assert torch.cat(sums).var().item() == pytest.approx(0.3, rel=0.06)


# ---------------------------------------------------------------- gains, layer by layer
def square_net(depth, width, activation, init, seed, **options):
    """A dense network whose layers, the first and the last one too, all have this width."""
    sizes = {"inputs": width, "outputs": width, "activation": activation, "init": init}
    return cu.mlp(depth, width, generator=cu.seeded(seed), **sizes, **options).double()


N = 300
GAINS = [
    ("linear", "xavier", {}, 1.0),
    ("linear", "he", {}, 2.0),
    ("linear", "he", {"gain": 1.3}, 1.3**2),
    ("linear", "normal", {"std": 0.05}, N * 0.05**2),
    ("linear", "normal", {"std": 1 / N}, 1 / N),
    ("linear", "torch_default", {}, 1 / 3),
    ("linear", "mean_field", {"weight_variance": 0.6}, 0.6),
    ("relu", "xavier", {}, 0.5),
    ("relu", "xavier", {"gain": math.sqrt(2)}, 1.0),
    ("relu", "he", {}, 1.0),
    ("relu", "normal", {"std": 0.01}, N * 1e-4 / 2),
    ("relu", "normal", {"std": 1.0}, N / 2),
    ("relu", "orthogonal", {}, 0.5),
    ("relu", "orthogonal", {"gain": math.sqrt(2)}, 1.0),
    ("relu", "torch_default", {}, 1 / 6),
    ("leaky_relu", "he", {}, 1 + 0.01**2),
]


@pytest.mark.parametrize(("activation", "scheme", "options", "gain"), GAINS)
def test_mean_square_is_multiplied_by_the_gain_of_the_table(activation, scheme, options, gain):
    logs = []
    for seed in range(6):
        net = square_net(5, N, activation, scheme, seed, **options)
        if scheme == "torch_default":  # its biases add to E h²; the table speaks of weights
            with torch.no_grad():
                [part.bias.zero_() for part in net if isinstance(part, nn.Linear)]
        z = weighted_outputs(net, gaussian(200, N, seed=seed, dtype=torch.float64))
        logs.append(np.log(np.mean(z["linear5"] ** 2) / np.mean(z["linear1"] ** 2)) / 4)
    assert math.exp(np.mean(logs)) == pytest.approx(gain, rel=0.06)


def test_orthogonal_linear_networks_keep_every_length():
    net = square_net(30, 40, "linear", "orthogonal", seed=0)
    cu.initialize(net, "orthogonal", generator=cu.seeded(1))  # drawn in float64
    x = gaussian(9, 40, dtype=torch.float64)
    torch.testing.assert_close(net(x).norm(dim=1), x.norm(dim=1), rtol=1e-12, atol=0)


def gradient_factor(activation, scheme, seed, depth=24, first=8, last=20):
    """Factor of the gradient norm per layer, between two layers far from both ends."""
    n = 400
    net = square_net(depth, n, activation, scheme, seed)
    h, outputs = gaussian(20, n, seed=seed, dtype=torch.float64).requires_grad_(), {}
    for name, part in net.named_children():
        h = outputs[name] = part(h)
    wanted = [outputs[f"linear{first}"], outputs[f"linear{last}"]]
    noise = gaussian(20, n, seed=seed + 1, dtype=torch.float64)
    early, late = torch.autograd.grad(h, wanted, noise)
    return (early.norm() / late.norm()).item() ** (1 / (last - first))


@pytest.mark.parametrize(
    ("activation", "scheme", "factor"),
    [
        ("linear", "xavier", 1.0),
        ("linear", "he", 1.4142),
        ("relu", "xavier", 0.7071),
        ("relu", "he", 1.0),
        ("tanh", "he", 1.0514),
        ("sigmoid", "xavier", 0.2361),
        ("sigmoid", "he", 0.3178),
        ("gelu", "xavier", 0.5),
        ("silu", "xavier", 0.5),
        ("selu", "xavier", 1.0352),
    ],
)
def test_a_scheme_that_does_not_fit_costs_the_factor_of_the_docstring(activation, scheme, factor):
    measured = [gradient_factor(activation, scheme, seed) for seed in range(4)]
    assert np.mean(measured) == pytest.approx(factor, rel=0.02)
    predicted = cu.theory.gradient_factor(activation, {"xavier": 1.0, "he": 2.0}[scheme])
    assert predicted == pytest.approx(factor, rel=1e-3)


def test_he_lets_selu_grow_without_end_and_its_gradient_by_lambda_then():
    """For large z SELU is λ·ReLU, so that χ₁ tends to λ² = 1.104."""
    assert math.isinf(cu.theory.fixed_point("selu", 2.0))
    measured = [gradient_factor("selu", "he", s, depth=130, first=100, last=126) for s in range(2)]
    assert np.mean(measured) == pytest.approx(1.0507, rel=0.01)
    assert gradient_factor("selu", "he", 0) > 1.1  # on the way there it is more


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_he_lets_smooth_relus_fade_only_after_many_layers(activation):
    """The factor √½ is that of small signals: He's nets reach it once the signal has died."""
    assert cu.theory.gradient_factor(activation, 2.0) == pytest.approx(math.sqrt(0.5))
    late = np.mean(
        [gradient_factor(activation, "he", seed, depth=90, first=60, last=88) for seed in range(3)]
    )
    assert late == pytest.approx(math.sqrt(0.5), rel=0.05)


@pytest.mark.parametrize(("scheme", "options"), [("zeros", {}), ("constant", {"value": -0.3})])
def test_constant_weights_leave_all_units_of_a_layer_alike(scheme, options):
    net = cu.mlp(4, 9, activation="tanh", init=scheme, generator=cu.seeded(0), **options)
    F.cross_entropy(net(gaussian(8, 64)), torch.arange(8)).backward()
    gradient = net.linear2.weight.grad
    assert torch.allclose(gradient, gradient[0, 0].expand_as(gradient))
    assert (net.linear2.weight == options.get("value", 0.0)).all()
    assert (gradient != 0).any() == (scheme == "constant")


# ---------------------------------------------------------------- where the numbers come from
def every_kind():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, groups=1),
        nn.BatchNorm2d(4),
        nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2),
        nn.Flatten(2),
        nn.GRU(144, 5, batch_first=True),
    )


@pytest.mark.parametrize("scheme", [name for name in cu.INITIALIZERS if name != "lsuv"])
def test_numbers_come_from_the_generator_alone(scheme):
    first = every_kind()
    cu.initialize(first, scheme, generator=cu.seeded(3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        second = every_kind()
        before = torch.random.get_rng_state()
        cu.initialize(second, scheme, generator=cu.seeded(3))
        assert torch.equal(torch.random.get_rng_state(), before)
    equal_states(first, second)


@pytest.mark.parametrize(
    "build",
    [
        lambda g: cu.mlp(6, 8, norm="batch", skip="rezero", generator=g),
        lambda g: cu.conv_net(6, 8, norm="group", skip="scaled", placement="post", generator=g),
        lambda g: cu.recurrent("lstm", 8, layers=2, generator=g),
        lambda g: cu.mlp(4, 8, init="lsuv", batch=gaussian(9, 64), generator=g),
    ],
)
def test_building_draws_from_the_generator_and_leaves_the_global_state(build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        before = torch.random.get_rng_state()
        first = build(cu.seeded(5))
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.manual_seed(2)
        equal_states(build(cu.seeded(5)), first)
    generator = cu.seeded(5)
    build(generator)
    one, two = build(generator).state_dict(), first.state_dict()
    assert any(not torch.equal(one[key], two[key]) for key in one)


def test_a_network_is_built_on_the_cpu_whatever_the_default_device():
    plain = cu.mlp(5, 8, norm="batch", skip="rezero", generator=cu.seeded(0))
    with torch.device("meta"):
        nets = [
            cu.mlp(5, 8, norm="batch", skip="rezero", generator=cu.seeded(0)),
            cu.conv_net(5, 8, norm="layer", generator=cu.seeded(0)),
            cu.recurrent("gru", 8, generator=cu.seeded(0)),
        ]
    equal_states(nets[0], plain)
    for net in nets:
        assert {value.device.type for value in net.state_dict().values()} == {"cpu"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("scheme", list(cu.INITIALIZERS))
def test_numbers_are_the_same_on_a_gpu(scheme):
    x = gaussian(16, 1, 12, 12)
    options = {"batch": x} if scheme == "lsuv" else {}
    here, there = every_kind(), every_kind().cuda()
    cu.initialize(here, scheme, generator=cu.seeded(3), **options)
    cu.initialize(there, scheme, generator=cu.seeded(3), **options)
    for one, other in zip(here.parameters(), there.parameters(), strict=True):
        assert other.device.type == "cuda"
        if scheme == "lsuv":  # what is divided by was summed in another order
            torch.testing.assert_close(other.cpu(), one, rtol=1e-2, atol=1e-5)
        else:
            assert torch.equal(other.cpu(), one)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_a_network_is_kept_and_half_precision_is_rounded(dtype):
    single = cu.initialize(nn.Conv1d(4, 6, 3), "he", generator=cu.seeded(2))
    other = cu.initialize(nn.Conv1d(4, 6, 3).to(dtype), "he", generator=cu.seeded(2))
    assert other.weight.dtype == dtype
    if dtype != torch.float64:
        assert torch.equal(other.weight, single.weight.to(dtype))
    assert other.weight.double().var().item() == pytest.approx(2 / 12, rel=0.5)


def test_initialize_changes_in_place_what_it_knows_and_nothing_else():
    embedding, bilinear = nn.Embedding(5, 4), nn.Bilinear(4, 4, 2)
    frozen = nn.Linear(4, 4).requires_grad_(False)
    norm = nn.GroupNorm(2, 4)
    net = nn.ModuleList([embedding, bilinear, frozen, norm])
    with torch.no_grad():
        norm.weight.fill_(7.0)
    kept = [embedding.weight.clone(), bilinear.weight.clone()]
    weight = frozen.weight
    before = weight.clone()
    assert cu.initialize(net, "he", generator=cu.seeded(0)) is net
    assert torch.equal(embedding.weight, kept[0]) and torch.equal(bilinear.weight, kept[1])
    assert frozen.weight is weight and not torch.equal(weight, before)
    assert not weight.requires_grad and (norm.weight == 1).all()


def test_a_scheme_fills_a_bare_weight_too():
    weight, bias = torch.empty(300, 200), torch.zeros(300)
    mean_field(weight, bias, generator=cu.seeded(0), weight_variance=3.0, bias_variance=0.5)
    assert weight.var().item() == pytest.approx(3 / 200, rel=0.02)
    assert bias.var().item() == pytest.approx(0.5, rel=0.2)
    xavier(weight, generator=cu.seeded(0))
    assert weight.var().item() == pytest.approx(2 / 500, rel=0.02)


def test_blocks_of_weights_cover_each_weight_once():
    for make in (*LAYERS.values(), *RECURRENT.values()):
        layer = make()
        with torch.no_grad():
            for value in layer.parameters():
                value.zero_()
            for block in weight_blocks(layer, second_bias=True):
                block.weight.add_(1)
                if block.bias is not None:
                    block.bias.add_(1)
        assert all((value == 1).all() for value in layer.parameters())
