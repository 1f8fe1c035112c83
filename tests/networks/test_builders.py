"""Builders: names, forward passes by hand, residual blocks, and what is refused."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from network_layers import NORMS, equal_states, gaussian
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

import course_utils as cu
from course_utils.networks import Residual, fans

SKIPS = ("plain", "scaled", "rezero", "skipinit")
PLACEMENTS = ("pre", "post")
OPTIONS = {
    "norm": NORMS,
    "skip": (None, *SKIPS),
    "placement": PLACEMENTS,
    "last_norm": (True, False),
}
each_combination = pytest.mark.parametrize(
    "options",
    [dict(zip(OPTIONS, chosen, strict=True)) for chosen in itertools.product(*OPTIONS.values())],
    ids=lambda options: "-".join(map(str, options.values())),
)


def names(net):
    """Names of all modules without children, in their order."""
    return [name for name, part in net.named_modules() if not list(part.children())]


# ---------------------------------------------------------------- names and shapes
NAMED = {
    "linear1": {"depth": 1},
    "linear1 linear2": {"depth": 2, "activation": "linear"},
    "linear1 mish1 linear2 mish2 linear3": {"depth": 3, "activation": "mish"},
    "linear1 norm1 relu1 linear2 norm2 relu2 linear3": {"depth": 3, "norm": "layer"},
    "linear1 norm1 relu1 linear2 relu2 linear3": {"depth": 3, "norm": "layer", "last_norm": False},
    "linear1 block2.norm block2.relu block2.linear block3.norm block3.relu block3.linear "
    "norm3 relu3 linear4": {"depth": 4, "norm": "group", "skip": "plain"},
    "linear1 block2.norm block2.relu block2.linear block3.norm block3.relu block3.linear "
    "relu3 linear4": {"depth": 4, "norm": "batch", "skip": "rezero", "last_norm": False},
    "linear1 norm1 relu1 block2.linear block2.norm relu2 block3.linear block3.norm relu3 "
    "last_norm linear4": {"depth": 4, "norm": "batch", "skip": "scaled", "placement": "post"},
    "linear1 norm1 relu1 block2.linear block2.norm relu2 linear3": {"depth": 3, "norm": "batch"}
    | {"skip": "plain", "placement": "post", "last_norm": False},
    "linear1 norm1 relu1 linear2": {"depth": 2, "norm": "batch", "skip": "plain"}
    | {"placement": "post"},
    "linear1 relu1 block2.linear relu2 linear3": {"depth": 3, "skip": "skipinit"}
    | {"placement": "post"},
    "conv1 relu1 conv2 relu2 pool flatten linear3": {},
    "conv1 norm1 relu1 conv2 norm2 relu2 conv3 norm3 relu3 pool flatten linear4": {"depth": 4}
    | {"norm": "layer"},
    "conv1 norm1 relu1 conv2 block3.norm block3.relu block3.conv block4.norm block4.relu "
    "block4.conv norm4 relu4 pool flatten linear5": {"depth": 5, "norm": "batch", "skip": "plain"},
    "conv1 norm1 relu1 conv2 norm2 relu2 block3.conv block3.norm relu3 block4.conv block4.norm "
    "relu4 last_norm pool flatten linear5": {"depth": 5, "norm": "group", "skip": "rezero"}
    | {"placement": "post"},
    "conv1 relu1 conv2 relu2 conv3 relu3 pool flatten linear4": {"depth": 4, "skip": "plain"}
    | {"shape": (3, 17, 5)},
}


@pytest.mark.parametrize("expected", NAMED)
def test_modules_are_named_after_their_layer(expected):
    options = NAMED[expected]
    build, size, shape = cu.mlp, {"width": 24}, (64,)
    if expected.startswith("conv"):
        build, size, shape = cu.conv_net, {"channels": 8}, options.get("shape", (1, 8, 8))
    net = build(**size, generator=cu.seeded(0), **options)
    assert names(net) == expected.split()
    assert net(gaussian(6, *shape)).shape == (6, 10)


@given(
    depth=st.integers(1, 7),
    width=st.integers(1, 30),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 5),
    options=st.fixed_dictionaries({name: st.sampled_from(OPTIONS[name]) for name in OPTIONS}),
)
@settings(max_examples=60)
def test_an_mlp_has_depth_weight_layers_of_these_sizes(depth, width, inputs, outputs, options):
    sizes = {"inputs": inputs, "outputs": outputs}
    net = cu.mlp(depth, width, **sizes, **options, generator=cu.seeded(0))
    layers = [part for part in net.modules() if isinstance(part, nn.Linear)]
    sizes = [inputs, *[width] * (depth - 1), outputs]
    assert [(layer.in_features, layer.out_features) for layer in layers] == list(
        itertools.pairwise(sizes)
    )
    assert sum(isinstance(part, nn.ReLU) for part in net.modules()) == depth - 1
    assert sum(isinstance(part, Residual) for part in net.modules()) == (
        max(0, depth - 2) if options["skip"] else 0
    )
    assert net(gaussian(4, inputs)).shape == (4, outputs)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("skip", [None, "plain"])
@pytest.mark.parametrize("last_norm", [True, False])
def test_a_bias_is_left_out_exactly_where_it_would_change_nothing(placement, skip, last_norm):
    options = {"skip": skip, "placement": placement, "last_norm": last_norm}
    net = cu.mlp(4, 8, norm="batch", activation="tanh", generator=cu.seeded(0), **options).double()
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


@each_combination
def test_an_mlp_is_the_formula_of_its_docstring(options):
    norm, skip, placement, last_norm = options.values()
    depth, width = 5, 24
    sizes = {"inputs": 7, "outputs": 3}
    net = cu.mlp(depth, width, **sizes, activation="gelu", generator=cu.seeded(4), **options)
    net = unsettle(net)
    x = gaussian(9, 7, dtype=torch.float64)

    def dense(name, h):
        layer = net.get_submodule(name)
        return F.linear(h, layer.weight, layer.bias)

    def normed(name, z):
        return normalized(z, net, name, norm, groups=3)

    if skip is None:
        h = x
        for index in range(1, depth):
            z = dense(f"linear{index}", h)
            h = F.gelu(normed(f"norm{index}", z) if last_norm or index < depth - 1 else z)
    elif placement == "pre":
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


@each_combination
def test_a_conv_net_is_the_formula_of_its_docstring(options):
    norm, skip, placement, last_norm = options.values()
    sizes = {"shape": (2, 6, 9), "outputs": 3}
    net = cu.conv_net(6, 8, **sizes, activation="tanh", generator=cu.seeded(4), **options)
    net = unsettle(net)
    x = gaussian(5, 2, 6, 9, dtype=torch.float64)

    def conv(name, h, stride=1):
        layer = net.get_submodule(name)
        return F.conv2d(h, layer.weight, layer.bias, stride, padding=1)

    def normed(name, z, groups=2):
        return normalized(z, net, name, norm, groups)

    h = torch.tanh(normed("norm1", conv("conv1", x), groups=1))
    z = conv("conv2", h, stride=2)  # 16 channels from here
    if skip is None:
        for index in (3, 4, 5):
            z = conv(f"conv{index}", torch.tanh(normed(f"norm{index - 1}", z)))
        h = torch.tanh(normed("norm5", z) if last_norm else z)
    elif placement == "pre":
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


@pytest.mark.parametrize(
    ("skip", "blocks", "width", "rel"),
    [
        ("scaled", 6, 250, 0.018),
        ("scaled", 30, 250, 0.0039),
        ("scaled", 90, 250, 0.0013),
        ("plain", 6, 400, 0.03),
    ],
)
def test_a_branch_adds_its_share_of_the_mean_square(skip, blocks, width, rel):
    """He's branch adds what comes in, 1/L of it where scaled: 2^L, and (1 + 1/L)^L < e."""
    growth = []
    for seed in range(8):
        net = cu.mlp(blocks + 2, width, skip=skip, inputs=width, generator=cu.seeded(seed))
        z = out = net.linear1(gaussian(100, width, seed=100 + seed))
        for part in net:
            out = part(out) if isinstance(part, Residual) else out
        growth.append((out.square().mean() / z.square().mean()).log().item() / blocks)
    expected = 2 if skip == "plain" else 1 + 1 / blocks
    assert math.exp(np.mean(growth)) == pytest.approx(expected, rel=rel)


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


# ---------------------------------------------------------------- bad input
G = cu.seeded(0)


def filling(layer, *arguments, **options):
    """The call that gives a layer new first weights, to be made later."""
    return lambda: cu.initialize(layer, *arguments, generator=G, **options)


LINEAR, META = nn.Linear(2, 2), nn.Linear(2, 2, device="meta")
COMPUTED = nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(2, 2, 2))
SHORT = torch.zeros(3, 4)
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
        lambda: cu.recurrent(inputs=2, generator=G)(SHORT),
        ValueError,
        r"\(3, 4\), \(batch, steps, 2\)",
    ),
    (lambda: cu.conv_net(shape=(1, 8.0, 8), generator=G), TypeError, "height of shape=8.0"),
    (filling([1]), TypeError, "torch.nn.Module"),
    (filling(LINEAR, "orthogonl"), ValueError, "orthogonal"),
    (filling(LINEAR, "zeros", gain=1), ValueError, "none"),
    (filling(LINEAR, gain=-1), ValueError, "gain=-1.*least 0"),
    (filling(LINEAR, uniform=1), TypeError, "True or False"),
    (filling(LINEAR, "he", gain=math.nan), ValueError, "gain=nan must be a finite number"),
    (filling(LINEAR, "he", batch=torch.ones(2)), ValueError, "batch was given"),
    (filling(LINEAR, "lsuv", batch=[1.0]), TypeError, "must be a tensor"),
    (filling(nn.LazyLinear(2)), ValueError, "no shape yet"),
    (filling(nn.LazyConv2d(2, 3)), ValueError, "no shape yet"),
    (filling(META), ValueError, "meta device"),
    (filling(COMPUTED), ValueError, "is computed"),
    (lambda: fans(torch.zeros(3)), ValueError, r"weight has shape \(3,\)"),
    (lambda: fans(nn.LSTM(2, 2)), TypeError, "layer=LSTM"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input_is_named_with_the_way_out(call, error, message):
    with pytest.raises(error, match=message):
        call()
