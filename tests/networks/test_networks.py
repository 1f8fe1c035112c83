"""Builders and first weights: names, forward passes by hand, fans by counting, measured scales."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

import course_utils as cu
from course_utils.networks import Fans, Residual, fans, mean_field, xavier
from course_utils.networks.counting import weight_blocks

NORMS = (None, "batch", "layer", "group")
SKIPS = ("plain", "scaled", "rezero", "skipinit")
PLACEMENTS = ("pre", "post")


def gaussian(*shape, seed=7, dtype=torch.float32):
    return torch.randn(shape, generator=cu.seeded(seed), dtype=dtype)


def names(net):
    """Names of all modules without children, in their order."""
    return [name for name, part in net.named_modules() if not list(part.children())]


def equal_states(first, second):
    assert list(first.state_dict()) == list(second.state_dict())
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)


# ---------------------------------------------------------------- names and shapes


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"depth": 1}, "linear1"),
        ({"depth": 2, "activation": "linear"}, "linear1 linear2"),
        ({"depth": 3, "activation": "mish"}, "linear1 mish1 linear2 mish2 linear3"),
        (
            {"depth": 3, "norm": "layer"},
            "linear1 norm1 relu1 linear2 norm2 relu2 linear3",
        ),
        (
            {"depth": 3, "norm": "layer", "last_norm": False},
            "linear1 norm1 relu1 linear2 relu2 linear3",
        ),
        (
            {"depth": 4, "norm": "group", "skip": "plain"},
            "linear1 block2.norm block2.relu block2.linear block3.norm block3.relu block3.linear "
            "norm3 relu3 linear4",
        ),
        (
            {"depth": 4, "norm": "batch", "skip": "rezero", "last_norm": False},
            "linear1 block2.norm block2.relu block2.linear block3.norm block3.relu block3.linear "
            "relu3 linear4",
        ),
        (
            {"depth": 4, "norm": "batch", "skip": "scaled", "placement": "post"},
            "linear1 norm1 relu1 block2.linear block2.norm relu2 block3.linear block3.norm relu3 "
            "last_norm linear4",
        ),
        (
            {
                "depth": 3,
                "norm": "batch",
                "skip": "plain",
                "placement": "post",
                "last_norm": False,
            },
            "linear1 norm1 relu1 block2.linear block2.norm relu2 linear3",
        ),
        (
            {"depth": 2, "norm": "batch", "skip": "plain", "placement": "post"},
            "linear1 norm1 relu1 linear2",
        ),
        (
            {"depth": 3, "skip": "skipinit", "placement": "post"},
            "linear1 relu1 block2.linear relu2 linear3",
        ),
    ],
)
def test_modules_of_an_mlp_are_named_after_their_layer(options, expected):
    net = cu.mlp(width=24, generator=cu.seeded(0), **options)
    assert names(net) == expected.split()
    assert net(gaussian(6, 64)).shape == (6, 10)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "conv1 relu1 conv2 relu2 pool flatten linear3"),
        (
            {"depth": 4, "norm": "layer"},
            "conv1 norm1 relu1 conv2 norm2 relu2 conv3 norm3 relu3 pool flatten linear4",
        ),
        (
            {"depth": 5, "norm": "batch", "skip": "plain"},
            "conv1 norm1 relu1 conv2 block3.norm block3.relu block3.conv block4.norm block4.relu "
            "block4.conv norm4 relu4 pool flatten linear5",
        ),
        (
            {"depth": 5, "norm": "group", "skip": "rezero", "placement": "post"},
            "conv1 norm1 relu1 conv2 norm2 relu2 block3.conv block3.norm relu3 block4.conv "
            "block4.norm relu4 last_norm pool flatten linear5",
        ),
        (
            {"depth": 4, "skip": "plain", "shape": (3, 17, 5)},
            "conv1 relu1 conv2 relu2 conv3 relu3 pool flatten linear4",
        ),
    ],
)
def test_modules_of_a_conv_net_are_named_after_their_layer(options, expected):
    net = cu.conv_net(channels=8, generator=cu.seeded(0), **options)
    assert names(net) == expected.split()
    shape = options.get("shape", (1, 8, 8))
    assert net(gaussian(6, *shape)).shape == (6, 10)


@given(
    depth=st.integers(1, 7),
    width=st.integers(1, 30),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 5),
    norm=st.sampled_from(NORMS),
    skip=st.sampled_from((None, *SKIPS)),
    placement=st.sampled_from(PLACEMENTS),
    last_norm=st.booleans(),
)
@settings(max_examples=60)
def test_an_mlp_has_depth_weight_layers_of_these_sizes(
    depth, width, inputs, outputs, norm, skip, placement, last_norm
):
    net = cu.mlp(
        depth,
        width,
        inputs=inputs,
        outputs=outputs,
        norm=norm,
        skip=skip,
        placement=placement,
        last_norm=last_norm,
        generator=cu.seeded(0),
    )
    layers = [part for part in net.modules() if isinstance(part, nn.Linear)]
    sizes = [inputs, *[width] * (depth - 1), outputs]
    assert [(layer.in_features, layer.out_features) for layer in layers] == list(
        itertools.pairwise(sizes)
    )
    assert sum(isinstance(part, nn.ReLU) for part in net.modules()) == depth - 1
    assert sum(isinstance(part, Residual) for part in net.modules()) == (
        max(0, depth - 2) if skip else 0
    )
    assert net(gaussian(4, inputs)).shape == (4, outputs)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("skip", [None, "plain"])
@pytest.mark.parametrize("last_norm", [True, False])
def test_a_bias_is_left_out_exactly_where_it_would_change_nothing(placement, skip, last_norm):
    net = cu.mlp(
        4,
        8,
        norm="batch",
        activation="tanh",
        skip=skip,
        placement=placement,
        last_norm=last_norm,
        generator=cu.seeded(0),
    ).double()
    x = gaussian(20, 64, dtype=torch.float64)
    before = net(x)
    for part in net.modules():
        if isinstance(part, nn.Linear):
            bias = part.bias
            part.bias = nn.Parameter(gaussian(part.out_features, seed=3).double())
            changed = not torch.allclose(net(x), before, atol=1e-9)
            if skip == "plain" and placement == "pre" and not last_norm and bias is None:
                part.bias = None  # a shift of the sum: the last block's bias stands for all
                continue
            assert changed == (bias is not None)
            part.bias = bias


@pytest.mark.parametrize(
    ("features", "groups"),
    [(5, 1), (15, 1), (16, 2), (20, 2), (30, 3), (64, 8), (100, 10), (17, 1)],
)
def test_group_norm_has_equal_groups_of_at_least_eight_features(features, groups):
    net = cu.mlp(2, features, norm="group", generator=cu.seeded(0))
    assert net.norm1.num_groups == groups
    net.linear1.register_forward_hook(lambda layer, args, out: 3 + 5 * out)
    seen = net.norm1(net.linear1(gaussian(4, 64))).reshape(4, groups, -1)
    torch.testing.assert_close(seen.mean(-1), torch.zeros(4, groups), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.var(-1, correction=0), torch.ones(4, groups), atol=1e-3, rtol=0)


def test_an_activation_may_be_a_name_a_function_a_module_or_an_entry():
    x = gaussian(5, 64)
    by_name = cu.mlp(3, 9, activation="softplus", generator=cu.seeded(0))
    for activation, label in (
        (cu.ACTIVATIONS["softplus"], "softplus"),
        (lambda z: torch.log1p(torch.exp(z)), "activation"),
        (nn.Softplus(), "softplus"),
    ):
        net = cu.mlp(3, 9, activation=activation, generator=cu.seeded(0))
        assert names(net)[1] == label + "1"
        torch.testing.assert_close(net(x), by_name(x))
    assert "softplus" in repr(cu.mlp(3, 9, activation=F.softplus, generator=cu.seeded(0)))


def test_each_layer_gets_its_own_copy_of_an_activation_module():
    mine = nn.PReLU()
    net = cu.mlp(4, 8, activation=mine, generator=cu.seeded(0))
    copies = [part for part in net.modules() if isinstance(part, nn.PReLU)]
    assert len({id(part.weight) for part in (*copies, mine)}) == 4


@pytest.mark.parametrize("name", list(cu.ACTIVATIONS))
def test_every_activation_stands_in_a_network_as_its_function(name):
    x = gaussian(5, 64, dtype=torch.float64) * 4
    net = cu.mlp(2, 30, activation=name, generator=cu.seeded(0)).double()
    z = F.linear(x, net.linear1.weight, net.linear1.bias)
    expected = F.linear(cu.ACTIVATIONS[name].function(z), net.linear2.weight, net.linear2.bias)
    torch.testing.assert_close(net(x), expected, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- forward passes by hand


def unsettle(net):
    """Give norms and learned factors values that show where they act."""
    with torch.no_grad():
        for index, (name, parameter) in enumerate(net.named_parameters()):
            if "norm" in name or "alpha" in name or name.endswith("bias"):
                parameter.copy_(gaussian(*parameter.shape, seed=index).abs() + 0.2)
    return net.double()


def normalized(z, net, name, norm, groups):
    """A norm by torch.nn.functional, with the parameters of that name."""
    if norm is None:
        return z
    part = net.get_submodule(name)
    if norm == "batch":
        return F.batch_norm(z, None, None, part.weight, part.bias, training=True)
    return F.group_norm(z, 1 if norm == "layer" else groups, part.weight, part.bias)


def factor(net, index, skip, blocks):
    if skip == "plain":
        return 1.0
    if skip == "scaled":
        return 1 / math.sqrt(blocks)
    return dict(net.named_parameters())[f"block{index}.alpha"]


@pytest.mark.parametrize("last_norm", [True, False])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("skip", SKIPS)
def test_a_residual_mlp_is_the_formula_of_its_docstring(skip, norm, placement, last_norm):
    depth, width = 5, 24
    net = cu.mlp(
        depth,
        width,
        inputs=7,
        outputs=3,
        activation="gelu",
        norm=norm,
        skip=skip,
        placement=placement,
        last_norm=last_norm,
        generator=cu.seeded(4),
    )
    net = unsettle(net)
    x = gaussian(9, 7, dtype=torch.float64)

    def dense(name, h):
        layer = net.get_submodule(name)
        return F.linear(h, layer.weight, layer.bias)

    def normed(name, z):
        return normalized(z, net, name, norm, groups=3)

    if placement == "pre":
        z = dense("linear1", x)
        for index in range(2, depth):
            branch = F.gelu(normed(f"block{index}.norm", z))
            scale = factor(net, index, skip, depth - 2)
            z = z + scale * dense(f"block{index}.linear", branch)
        h = F.gelu(normed(f"norm{depth - 1}", z) if last_norm else z)
    else:
        h = F.gelu(normed("norm1", dense("linear1", x)))
        for index in range(2, depth):
            branch = normed(f"block{index}.norm", dense(f"block{index}.linear", h))
            h = F.gelu(h + factor(net, index, skip, depth - 2) * branch)
        h = normed("last_norm", h) if last_norm else h
    torch.testing.assert_close(net(x), dense(f"linear{depth}", h), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("last_norm", [True, False])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("skip", SKIPS)
def test_a_residual_conv_net_is_the_formula_of_its_docstring(skip, norm, placement, last_norm):
    net = cu.conv_net(
        6,
        8,
        shape=(2, 6, 9),
        outputs=3,
        activation="tanh",
        norm=norm,
        skip=skip,
        placement=placement,
        last_norm=last_norm,
        generator=cu.seeded(4),
    )
    net = unsettle(net)
    x = gaussian(5, 2, 6, 9, dtype=torch.float64)

    def conv(name, h, stride=1):
        layer = net.get_submodule(name)
        return F.conv2d(h, layer.weight, layer.bias, stride, padding=1)

    def normed(name, z, groups=2):
        return normalized(z, net, name, norm, groups)

    h = torch.tanh(normed("norm1", conv("conv1", x), groups=1))
    z = conv("conv2", h, stride=2)  # 16 channels from here
    if placement == "pre":
        for index in (3, 4, 5):
            branch = conv(f"block{index}.conv", torch.tanh(normed(f"block{index}.norm", z)))
            z = z + factor(net, index, skip, 3) * branch
        h = torch.tanh(normed("norm5", z) if last_norm else z)
    else:
        h = torch.tanh(normed("norm2", z))
        for index in (3, 4, 5):
            branch = normed(f"block{index}.norm", conv(f"block{index}.conv", h))
            h = torch.tanh(h + factor(net, index, skip, 3) * branch)
        h = normed("last_norm", h) if last_norm else h
    expected = F.linear(h.mean((2, 3)), net.linear6.weight, net.linear6.bias)
    torch.testing.assert_close(net(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", NORMS)
def test_a_plain_mlp_with_norm_is_linear_norm_activation(norm):
    net = unsettle(cu.mlp(3, 16, inputs=4, norm=norm, activation="elu", generator=cu.seeded(1)))
    x = gaussian(9, 4, dtype=torch.float64)
    h = x
    for index in (1, 2):
        layer = net.get_submodule(f"linear{index}")
        z = F.linear(h, layer.weight, layer.bias)
        h = F.elu(normalized(z, net, f"norm{index}", norm, groups=2))
    expected = F.linear(h, net.linear3.weight, net.linear3.bias)
    torch.testing.assert_close(net(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("skip", [None, "plain"])
def test_placement_matters_only_with_a_skip(skip):
    both = [
        cu.mlp(5, 16, norm="batch", skip=skip, placement=placement, generator=cu.seeded(0))
        for placement in PLACEMENTS
    ]
    x = gaussian(8, 64)
    assert torch.equal(both[0](x), both[1](x)) == (skip is None)


@pytest.mark.parametrize("build", [cu.mlp, cu.conv_net])
def test_a_skip_and_a_norm_leave_the_weights_as_they_were(build):
    nets = [
        build(5, 8, skip=skip, norm=norm, placement=placement, generator=cu.seeded(3))
        for skip in (None, *SKIPS)
        for norm in NORMS
        for placement in PLACEMENTS
    ]
    weights = [
        [part.weight for part in net.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
        for net in nets
    ]
    for other in weights[1:]:
        assert all(map(torch.equal, weights[0], other))


def test_recurrent_nets_are_their_equations():
    x = gaussian(3, 6, 2, dtype=torch.float64)
    for activation, function in (("tanh", torch.tanh), ("relu", torch.relu)):
        net = cu.recurrent(
            "rnn", 5, inputs=2, outputs=4, activation=activation, generator=cu.seeded(0)
        ).double()
        h = torch.zeros(3, 5, dtype=torch.float64)
        for t in range(6):
            h = function(x[:, t] @ net.rnn.weight_ih_l0.T + h @ net.rnn.weight_hh_l0.T)
        torch.testing.assert_close(net(x), F.linear(h, net.head.weight))
    for kind, cell in (("lstm", nn.LSTMCell), ("gru", nn.GRUCell)):
        net = cu.recurrent(kind, 5, inputs=2, init="torch_default", generator=cu.seeded(0)).double()
        step = cell(2, 5).double()
        step.load_state_dict(
            {name.removesuffix("_l0"): value for name, value in net.rnn.state_dict().items()}
        )
        state = None
        for t in range(6):
            state = step(x[:, t], state)
        h = state[0] if kind == "lstm" else state
        torch.testing.assert_close(net(x), F.linear(h, net.head.weight, net.head.bias))


# ---------------------------------------------------------------- residual blocks


@pytest.mark.parametrize("skip", ["rezero", "skipinit"])
@pytest.mark.parametrize("norm", NORMS)
def test_a_rezero_block_starts_as_the_identity_and_alpha_moves_first(skip, norm):
    net = cu.conv_net(7, 8, skip=skip, norm=norm, generator=cu.seeded(0)).double()
    x = gaussian(9, 1, 8, 8, dtype=torch.float64)
    blocks = [part for part in net.modules() if isinstance(part, Residual)]
    h = gaussian(9, 16, 4, 4, dtype=torch.float64)
    assert len(blocks) == 4 and all(torch.equal(block(h), h) for block in blocks)
    F.cross_entropy(net(x), torch.arange(9)).backward()
    for block in blocks:
        assert block.alpha.shape == () and block.alpha.item() == 0
        assert block.alpha.grad.abs() > 0
        assert block.conv.weight.grad.count_nonzero() == 0
    unblocked = nn.Sequential(*[part for part in net if not isinstance(part, Residual)])
    torch.testing.assert_close(unblocked(x), net(x))


@pytest.mark.parametrize("skip", ["plain", "scaled"])
def test_a_fixed_factor_is_no_parameter(skip):
    net = cu.mlp(6, 8, skip=skip, generator=cu.seeded(0))
    assert not [name for name, _ in net.named_parameters() if "alpha" in name]
    assert [part.scale for part in net if isinstance(part, Residual)] == [
        1.0 if skip == "plain" else 0.5
    ] * 4


@pytest.mark.parametrize("blocks", [6, 30, 90])
def test_scaled_branches_multiply_the_mean_square_by_e_at_most(blocks):
    """He's branch adds (1/L) of what comes in: (1 + 1/L)^L, and 2^L without the scale."""
    growth = []
    for seed in range(6):
        net = cu.mlp(blocks + 2, 250, skip="scaled", inputs=250, generator=cu.seeded(seed))
        z = net.linear1(gaussian(64, 250, seed=100 + seed))
        out = z
        for part in net:
            out = part(out) if isinstance(part, Residual) else out
        growth.append((out.square().mean() / z.square().mean()).log().item())
    assert np.mean(growth) == pytest.approx(blocks * math.log1p(1 / blocks), rel=0.12)


def test_plain_blocks_without_norm_double_the_mean_square():
    growth = []
    for seed in range(8):
        net = cu.mlp(8, 400, skip="plain", inputs=30, generator=cu.seeded(seed))
        z = net.linear1(gaussian(200, 30, seed=50 + seed))
        out = z
        for part in net:
            out = part(out) if isinstance(part, Residual) else out
        growth.append((out.square().mean() / z.square().mean()).item() ** (1 / 6))
    assert np.mean(growth) == pytest.approx(2, rel=0.03)


def test_initialize_sets_a_learned_factor_back_to_zero():
    net = unsettle(cu.mlp(5, 8, skip="rezero", norm="batch", generator=cu.seeded(0)))
    net(gaussian(9, 64).double())
    fresh = cu.mlp(5, 8, skip="rezero", norm="batch", generator=cu.seeded(9)).double()
    cu.initialize(net, "zeros", generator=cu.seeded(0))
    cu.initialize(fresh, "zeros", generator=cu.seeded(0))
    equal_states(net, fresh)


# ---------------------------------------------------------------- many networks at once


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("skip", [None, *SKIPS])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_stack_of_networks_is_the_loop_over_them(norm, skip, placement):
    options = {"norm": norm, "skip": skip, "placement": placement}
    x = gaussian(6, 64, dtype=torch.float64)
    image = x.reshape(6, 1, 8, 8)
    for batch, nets in (
        (x, [cu.mlp(5, 16, generator=cu.seeded(s), **options) for s in range(3)]),
        (image, [cu.conv_net(5, 8, generator=cu.seeded(s), **options) for s in range(3)]),
    ):
        nets = [unsettle(net) for net in nets]
        copies = [copy.deepcopy(net) for net in nets]
        parameters, buffers = stack_module_state(nets)
        template = copy.deepcopy(nets[0])

        def loss(parameters, buffers, template=template, batch=batch):
            out = functional_call(template, (parameters, buffers), (batch,))
            return out.square().mean()

        gradients = vmap(grad(loss))(parameters, buffers)
        for index, net in enumerate(copies):
            net(batch).square().mean().backward()
            for name, parameter in net.named_parameters():
                torch.testing.assert_close(
                    gradients[name][index], parameter.grad, rtol=1e-9, atol=1e-12
                )
            for name, buffer in net.named_buffers():
                torch.testing.assert_close(buffers[name][index], buffer)  # running statistics


# ---------------------------------------------------------------- fans

LAYERS = {
    "linear": lambda: nn.Linear(96, 64),
    "conv1d": lambda: nn.Conv1d(64, 96, 5),
    "conv2d": lambda: nn.Conv2d(48, 64, 3),
    "conv3d": lambda: nn.Conv3d(16, 24, 3),
    "conv2d, two steps": lambda: nn.Conv2d(48, 64, 3, stride=2),
    "conv1d, kernel below step": lambda: nn.Conv1d(96, 192, 1, stride=2),
    "conv2d, uneven steps": lambda: nn.Conv2d(32, 48, (3, 4), stride=(1, 3)),
    "conv2d, dilated": lambda: nn.Conv2d(48, 32, 3, dilation=2),
    "conv2d, groups": lambda: nn.Conv2d(96, 48, 3, groups=4),
    "conv2d, depthwise": lambda: nn.Conv2d(256, 512, 3, groups=256),
    "conv2d, groups and steps": lambda: nn.Conv2d(96, 192, 4, stride=2, groups=3),
    "transposed1d": lambda: nn.ConvTranspose1d(64, 96, 5),
    "transposed2d": lambda: nn.ConvTranspose2d(64, 32, 3),
    "transposed3d, steps": lambda: nn.ConvTranspose3d(24, 16, 3, stride=2),
    "transposed2d, steps": lambda: nn.ConvTranspose2d(96, 48, 4, stride=2),
    "transposed2d, uneven kernel": lambda: nn.ConvTranspose2d(96, 48, 3, stride=2),
    "transposed1d, kernel below step": lambda: nn.ConvTranspose1d(256, 128, 2, stride=3),
    "transposed2d, groups and steps": lambda: nn.ConvTranspose2d(96, 192, 4, stride=2, groups=3),
    "transposed2d, groups": lambda: nn.ConvTranspose2d(96, 192, 3, groups=4),
}
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


def expected_scales(scheme, layer):
    """(forward, backward) factors of E h² and E δ² from the variance of one weight."""
    fan_in, fan_out = fans(layer)
    variance = {
        "xavier": 2 / (fan_in + fan_out),
        "he": 2 / fan_in,
        "normal": 0.03**2,
        "mean_field": 1.7 / fan_in,
    }[scheme]
    return fan_in * variance, fan_out * variance


OPTIONS = {"normal": {"std": 0.03}, "mean_field": {"weight_variance": 1.7}}


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
@pytest.mark.parametrize("scheme", ["xavier", "he", "normal", "mean_field"])
def test_scale_forward_and_backward_are_fan_times_variance(scheme, name):
    measured = []
    for seed in range(3):
        layer = LAYERS[name]()
        cu.initialize(layer, scheme, generator=cu.seeded(seed), **OPTIONS.get(scheme, {}))
        measured.append(measured_scales(layer, 10 + seed))
    assert np.mean(measured, axis=0) == pytest.approx(expected_scales(scheme, layer), rel=0.05)


@pytest.mark.parametrize("name", LAYERS)
def test_he_with_gain_one_keeps_the_mean_square_of_every_kind_of_layer(name):
    layer = LAYERS[name]()
    measured = []
    for seed in range(3):
        cu.initialize(layer, "he", gain=1.0, generator=cu.seeded(seed))
        measured.append(measured_scales(layer, 20 + seed)[0])
    assert np.mean(measured) == pytest.approx(1, rel=0.05)


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


RECURRENT = {
    "rnn": lambda: nn.RNN(20, 60, 2),
    "rnn, both ways": lambda: nn.RNN(20, 60, bidirectional=True),
    "lstm": lambda: nn.LSTM(20, 60, 2),
    "lstm, projected": lambda: nn.LSTM(20, 60, proj_size=30),
    "gru": lambda: nn.GRU(20, 60),
    "gru, no bias": lambda: nn.GRU(20, 60, bias=False),
    "rnn cell": lambda: nn.RNNCell(20, 60),
    "lstm cell": lambda: nn.LSTMCell(20, 60),
    "gru cell": lambda: nn.GRUCell(20, 60),
}


def gates(layer):
    """(name, matrix) of every gate, by PyTorch's layout: gates are stacked along the rows."""
    per = {"RNN": 1, "LST": 4, "GRU": 3}[type(layer).__name__[:3]]
    for name, value in layer.named_parameters():
        if name.startswith("weight"):
            yield from ((name, m) for m in value.detach().chunk(1 if "hr" in name else per))


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


def squares(net, x):
    """E z² of the first preactivation and of those after it, input side first."""
    found = []
    handles = [
        part.register_forward_hook(lambda part, args, out: found.append(out.square().mean().item()))
        for part in net.modules()
        if isinstance(part, nn.Linear)
    ]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return np.array(found)


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
        net = cu.mlp(
            5,
            N,
            inputs=N,
            outputs=N,
            activation=activation,
            init=scheme,
            generator=cu.seeded(seed),
            **options,
        ).double()
        if scheme == "torch_default":  # its biases add to E h²; the table speaks of weights
            with torch.no_grad():
                [part.bias.zero_() for part in net if isinstance(part, nn.Linear)]
        squared = squares(net, gaussian(200, N, seed=seed, dtype=torch.float64))
        logs.append(np.log(squared[-1] / squared[0]) / 4)
    assert math.exp(np.mean(logs)) == pytest.approx(gain, rel=0.06)


def test_orthogonal_linear_networks_keep_every_length():
    net = cu.mlp(
        30,
        40,
        inputs=40,
        outputs=40,
        activation="linear",
        init="orthogonal",
        generator=cu.seeded(0),
    ).double()
    cu.initialize(net, "orthogonal", generator=cu.seeded(1))  # drawn in float64
    x = gaussian(9, 40, dtype=torch.float64)
    torch.testing.assert_close(net(x).norm(dim=1), x.norm(dim=1), rtol=1e-12, atol=0)


def gradient_factor(activation, scheme, seed, depth=24, first=8, last=20):
    """Factor of the gradient norm per layer, between two layers far from both ends."""
    n = 400
    net = cu.mlp(
        depth,
        n,
        inputs=n,
        outputs=n,
        activation=activation,
        init=scheme,
        generator=cu.seeded(seed),
    ).double()
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


# ---------------------------------------------------------------- LSUV


def variances(net, x):
    """Variance of the output of every layer with weights, over the whole batch."""
    found = {}
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    handles = [
        part.register_forward_hook(
            lambda part, args, out, name=name: found.setdefault(name, out.detach())
        )
        for name, part in net.named_modules()
        if isinstance(part, kinds)
    ]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return {name: np.var(out.double().numpy()) for name, out in found.items()}


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


# ---------------------------------------------------------------- bad input

G = cu.seeded(0)
BAD = [
    (lambda: cu.mlp(2, 5, norm="bach", generator=G), ValueError, "did you mean 'batch'"),
    (lambda: cu.mlp(2, 5, skip="rezro", generator=G), ValueError, "did you mean 'rezero'"),
    (lambda: cu.mlp(2, 5, skip=True, generator=G), ValueError, "skip=True"),
    (lambda: cu.mlp(2, 5, placement="pst", generator=G), ValueError, "did you mean 'post'"),
    (lambda: cu.mlp(2, 5, placement=None, generator=G), ValueError, "placement=None"),
    (lambda: cu.mlp(2, 5, last_norm="batch", generator=G), TypeError, "True or False"),
    (lambda: cu.mlp(2, 5, init="xaver", generator=G), ValueError, "did you mean 'xavier'"),
    (lambda: cu.mlp(2, 5, activation="rellu", generator=G), ValueError, "did you mean 'relu'"),
    (lambda: cu.mlp(2, 5, activation=3, generator=G), TypeError, "activation=3"),
    (lambda: cu.mlp(2, 5, generator=0), TypeError, "generator=0.*cu.seeded"),
    (lambda: cu.mlp(2, 5, std=0.1, generator=G), ValueError, "std=0.1 is no option"),
    (lambda: cu.mlp(2, 5, init="lsuv", generator=G), ValueError, "pass batch=x"),
    (lambda: cu.conv_net(shape=(8, 8), generator=G), ValueError, "channels, height, width"),
    (lambda: cu.conv_net(shape=(1, 8, 0), generator=G), ValueError, "width of shape=0"),
    (lambda: cu.conv_net(norm="grop", generator=G), ValueError, "did you mean 'group'"),
    (lambda: cu.conv_net(skip="skip_init_", generator=G), ValueError, "did you mean 'skipinit'"),
    (lambda: cu.recurrent("ltsm", generator=G), ValueError, "did you mean 'lstm'"),
    (lambda: cu.recurrent("gru", activation="relu", generator=G), ValueError, "nn.GRU has tanh"),
    (
        lambda: cu.recurrent("rnn", inputs=2, generator=G)(torch.zeros(3, 4)),
        ValueError,
        r"\(3, 4\), \(batch, steps, 2\)",
    ),
    (lambda: cu.initialize([1], generator=G), TypeError, "torch.nn.Module"),
    (lambda: cu.initialize(nn.Linear(2, 2), "orthogonl", generator=G), ValueError, "orthogonal"),
    (lambda: cu.initialize(nn.Linear(2, 2), "zeros", gain=1, generator=G), ValueError, "none"),
    (lambda: cu.initialize(nn.Linear(2, 2), gain=-1, generator=G), ValueError, "gain=-1.*least 0"),
    (lambda: cu.initialize(nn.Linear(2, 2), uniform=1, generator=G), TypeError, "True or False"),
    (lambda: cu.conv_net(shape=(1, 8.0, 8), generator=G), TypeError, "height of shape=8.0"),
    (
        lambda: cu.initialize(nn.Linear(2, 2), "he", gain=math.nan, generator=G),
        ValueError,
        "gain=nan must be a finite number",
    ),
    (
        lambda: cu.initialize(nn.Linear(2, 2), "he", batch=torch.ones(2), generator=G),
        ValueError,
        "batch was given",
    ),
    (
        lambda: cu.initialize(nn.Linear(2, 2), "lsuv", batch=[1.0], generator=G),
        TypeError,
        "must be a tensor",
    ),
    (lambda: cu.initialize(nn.LazyLinear(2), generator=G), ValueError, "no shape yet"),
    (lambda: cu.initialize(nn.LazyConv2d(2, 3), generator=G), ValueError, "no shape yet"),
    (
        lambda: cu.initialize(nn.Linear(2, 2, device="meta"), generator=G),
        ValueError,
        "meta device",
    ),
    (
        lambda: cu.initialize(
            nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(2, 2, 2)), generator=G
        ),
        ValueError,
        "is computed",
    ),
    (lambda: fans(torch.zeros(3)), ValueError, r"weight has shape \(3,\)"),
    (lambda: fans(nn.LSTM(2, 2)), TypeError, "layer=LSTM"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input_is_named_with_the_way_out(call, error, message):
    with pytest.raises(error, match=message):
        call()
