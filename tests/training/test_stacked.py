"""Networks in one stack: each must do, and learn, what it does alone in plain PyTorch."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import course_utils as cu
from course_utils.networks import stack_mlps
from course_utils.training import fit_many

SKIPS = ("plain", "scaled", "rezero", "skipinit")
KINDS = {
    "plain relu": [{}, {"init": "xavier"}, {"init": "torch_default"}],
    "tanh": [{"activation": "tanh"}] * 2,
    "a function": [{"activation": torch.sin}] * 2,
    "batch norm": [{"norm": "batch"}, {"norm": "batch", "init": "orthogonal"}],
    "layer norm": [{"norm": "layer"}] * 2,
    "all skips": [{"skip": skip} for skip in SKIPS],
    "all skips, batch norm": [{"skip": skip, "norm": "batch"} for skip in SKIPS],
    "plain skips, batch norm": [{"skip": "plain", "norm": "batch"}] * 3,
    "no last norm": [{"skip": "plain", "norm": "batch", "last_norm": False}] * 2,
    "post": [{"skip": skip, "norm": "batch", "placement": "post"} for skip in SKIPS],
    "layer norm, skips": [{"skip": skip, "norm": "layer"} for skip in SKIPS],
}


def networks(kind, depth=5, width=7, inputs=6, seed=0, dtype=torch.float64):
    """Networks whose every number has left its round start value."""
    nets = []
    for i, options in enumerate(KINDS[kind]):
        generator = cu.seeded(100 * seed + i)
        net = cu.mlp(depth, width, inputs=inputs, outputs=4, generator=generator, **options)
        net = net.to(dtype)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=dtype)
            for buffer in net.buffers():
                if buffer.is_floating_point():
                    buffer += torch.rand(buffer.shape, generator=generator, dtype=dtype)
        nets.append(net)
    return nets


def samples(count, features=6, seed=1, dtype=torch.float64):
    generator = cu.seeded(seed)
    x = torch.randn(count, features, generator=generator, dtype=dtype)
    return x, torch.randint(0, 4, (count,), generator=generator)


def same(stack, nets):
    """Every parameter and running statistic of the stack is that of its network."""
    own = [dict(net.state_dict()) for net in nets]
    for name, value in stack.state_dict().items():
        for part, state in zip(value, own, strict=True):
            if name.endswith((".scale", ".learned")):
                continue
            if name not in state:  # a fixed skip has no α, the stack keeps a 0 for it
                assert name.endswith("alpha") and not part.any()
                continue
            torch.testing.assert_close(part.reshape(state[name].shape), state[name])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_a_stack_answers_as_each_network_alone(kind, training):
    nets = networks(kind)
    stack = stack_mlps(nets).train(training)
    same(stack, nets)
    x, _ = samples(9)
    alone = torch.stack([net.train(training)(x) for net in nets])
    torch.testing.assert_close(stack(x), alone)
    same(stack, nets)  # the running statistics moved alike, or not at all
    own = torch.stack([x + i for i in range(len(nets))])
    alone = torch.stack([net(part) for net, part in zip(nets, own, strict=True)])
    torch.testing.assert_close(stack(own), alone)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradients_are_those_of_each_network_alone(kind):
    nets = networks(kind, seed=2)
    stack = stack_mlps(nets)
    x, y = samples(8, seed=3)
    (stack(x).mT.cos() * (y + 1)).sum().backward()
    for i, net in enumerate(nets):
        (net(x).mT.cos() * (y + 1)).sum().backward()
        joined = dict(stack.named_parameters())
        for name, parameter in net.named_parameters():
            part = joined[name].grad[i].reshape(parameter.shape)
            torch.testing.assert_close(part, parameter.grad)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_training_is_the_loop_of_plain_pytorch(kind, momentum):
    nets = networks(kind, seed=4)
    stack = stack_mlps(nets)
    rates = [0.02 * (i + 1) for i in range(len(nets))]
    x, y = samples(40, seed=5)
    loss = fit_many(
        stack,
        (x, y),
        steps=6,
        lr=rates,
        momentum=momentum,
        batch_size=8,
        generator=cu.seeded(9),
    ).loss
    generator = cu.seeded(9)
    batches = [torch.randint(0, 40, (8,), generator=generator) for _ in range(6)]
    for net, rate, losses in zip(nets, rates, loss, strict=True):
        optimizer = torch.optim.SGD(net.train().parameters(), lr=rate, momentum=momentum)
        for rows, seen in zip(batches, losses, strict=True):
            own = F.cross_entropy(net(x[rows]), y[rows])
            assert float(own.detach()) == pytest.approx(float(seen), rel=1e-9)
            optimizer.zero_grad()
            own.backward()
            optimizer.step()
    same(stack, nets)
    assert stack.training and all(p.grad is None for p in stack.parameters())


def test_training_is_that_of_fit_on_the_same_batches():
    digits = cu.load_digits(n=64)
    pair = digits.train_x, digits.train_y
    nets = [cu.mlp(4, 12, norm="batch", generator=cu.seeded(i)) for i in range(3)]
    stack = stack_mlps(nets)
    run = fit_many(stack, pair, steps=5, lr=0.2, batch_size=16, generator=cu.seeded(3))
    generator = cu.seeded(3)
    rows = [torch.randint(0, 64, (16,), generator=generator) for _ in range(5)]
    batches = [(pair[0][r], pair[1][r]) for r in rows]
    for net, losses, right in zip(nets, run.loss, run.accuracy, strict=True):
        history = cu.fit(net, batches, epochs=1, lr=0.2, device="cpu")
        torch.testing.assert_close(losses.float(), history.loss.float(), rtol=1e-4, atol=1e-5)
        assert torch.equal(right, history.accuracy)


def test_a_network_that_diverges_leaves_the_others_alone():
    x, y = samples(30, seed=6)
    both = networks("plain relu")[:2]
    alone = stack_mlps(both[:1])
    stack = stack_mlps(both).eval()  # training puts it into training mode
    options = {"steps": 7, "batch_size": 10}
    both = fit_many(stack, (x, y), lr=[0.1, 1e200], generator=cu.seeded(0), **options)
    want = fit_many(alone, (x, y), lr=0.1, generator=cu.seeded(0), **options)
    loss = both.loss
    torch.testing.assert_close(loss[:1], want.loss)
    assert both.diverged.tolist() == [False, True] and both[1].message.startswith("diverged at")
    assert both.lr[:, 0].tolist() == [0.1, 1e200] and both[0].epochs == 0
    assert loss[1, -1].isnan() and not loss.isinf().any() and loss.dtype == torch.float64
    assert stack.training


def test_an_infinite_loss_counts_as_diverged():
    x, y = samples(30, seed=6)
    one = networks("plain relu")[0]
    with torch.no_grad():
        one.linear5.weight.mul_(1e308)
    options = {"steps": 1, "lr": 0.0, "batch_size": 30, "generator": cu.seeded(0)}
    assert fit_many(stack_mlps([one]), (x, y), **options).loss.isnan().all()


def test_the_networks_handed_over_are_left_alone():
    for kind in KINDS:
        nets = [net.train() for net in networks(kind)]
        before = [copy.deepcopy(net.state_dict()) for net in nets]
        stack = stack_mlps(nets)
        fit_many(stack, samples(12), steps=2, lr=0.1, batch_size=4, generator=cu.seeded(0))
        stack.eval()
        for net, state in zip(nets, before, strict=True):
            assert all(module.training for module in net.modules())
            assert all(bool((net.state_dict()[name] == state[name]).all()) for name in state)


def test_blocks_keep_their_names_and_can_be_taken_out():
    nets = networks("all skips")
    stack = stack_mlps(nets)
    names = [name for name, _ in stack.named_children()]
    assert names == ["columns", *[name for name, _ in nets[0].named_children()], "rows"]
    stack.block3 = nn.Identity()
    for net in nets:
        net.block3 = nn.Identity()
    x, _ = samples(5)
    torch.testing.assert_close(stack(x), torch.stack([net(x) for net in nets]))


def test_learned_factors_learn_and_fixed_ones_stay():
    nets = [cu.mlp(6, 7, inputs=6, outputs=4, skip=s, generator=cu.seeded(1)) for s in SKIPS]
    stack = stack_mlps(nets)
    scales = stack.block2.scale.flatten()
    torch.testing.assert_close(scales, torch.tensor([1.0, 1 / math.sqrt(4), 0.0, 0.0]))
    data = samples(20, dtype=torch.float32)
    fit_many(stack, data, steps=4, lr=0.1, batch_size=8, generator=cu.seeded(0))
    alpha = stack.block2.alpha.flatten()
    assert (alpha[:2] == 0).all() and (alpha[2:] != 0).all()
    assert (stack.block2.scale.flatten() == scales).all()


BASE = {"inputs": 6, "outputs": 4}


def net(depth=4, width=7, **options):
    return cu.mlp(depth, width, **{**BASE, **options}, generator=cu.seeded(0))


@pytest.mark.parametrize(
    ("models", "error", "match"),
    [
        (lambda: [], ValueError, "empty"),
        (lambda: net(), TypeError, "Sequential"),
        (lambda: [net(), 3], TypeError, "list"),
        (lambda: [net(), net(depth=5)], ValueError, "structure"),
        (lambda: [net(), net(skip="plain")], ValueError, "structure"),
        (lambda: [net(), net(norm="batch")], ValueError, "structure"),
        (lambda: [net(), net(activation="tanh")], ValueError, "structure"),
        (lambda: [net(), net(width=8)], ValueError, "linear1"),
        (lambda: [net(norm="batch"), net(norm="layer")], ValueError, "differ"),
        (
            lambda: [net(skip="plain"), net(skip="plain", norm="batch")],
            ValueError,
            "structure",
        ),
        (
            lambda: [net(activation=lambda z: z), net(activation=lambda z: 2 * z)],
            ValueError,
            "differ",
        ),
        (
            lambda: [net(norm="batch", width=16), _momentum(net(norm="batch", width=16))],
            ValueError,
            "norm1",
        ),
        (lambda: [net(norm="group", width=16)], ValueError, "cannot be stacked"),
        (lambda: [nn.Sequential(nn.Conv2d(1, 1, 3))], ValueError, "fit_many"),
    ],
)
def test_what_cannot_be_stacked_is_refused(models, error, match):
    with pytest.raises(error, match=match):
        stack_mlps(models())


def _momentum(model):
    model.norm1.momentum = 0.5
    return model


X, Y = samples(20, dtype=torch.float32)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"steps": 0}, ValueError, "steps=0"),
        ({"steps": True}, TypeError, "steps=True"),
        ({"steps": 2.0}, TypeError, "steps"),
        ({"steps": None}, TypeError, "single network"),
        ({"optimizer": "adam"}, ValueError, "optimizer is not for a stack"),
        ({"clip": 1.0}, ValueError, "clip is not for a stack"),
        ({"epochs": 3}, ValueError, "epochs is not for a stack"),
        ({"stack": [net()]}, ValueError, "steps=2 is for a stack"),
        ({"lr": -0.1}, ValueError, "lr=-0.1"),
        ({"lr": "fast"}, ValueError, "lr='fast'"),
        ({"lr": [0.1, math.nan]}, ValueError, "lr=nan"),
        ({"lr": [0.1] * 3}, ValueError, "3 rates for 2 networks"),
        ({"momentum": 1.0}, ValueError, "momentum"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"generator": 5}, TypeError, "generator"),
        ({"data": X}, TypeError, "data"),
        ({"data": (X, Y[:5])}, ValueError, "data"),
        ({"data": (X, Y + 1)}, ValueError, "0 to 3"),
        ({"data": (X, Y - 1)}, ValueError, "0 to 3"),
        ({"data": (X, Y.float())}, ValueError, "class numbers"),
        ({"data": (X * math.nan, Y)}, ValueError, "NaN"),
        ({"stack": net()}, ValueError, "networks, samples, classes"),
        ({"stack": "net", "steps": None}, TypeError, "model="),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(change, error, match):
    options = {
        "stack": stack_mlps([net(), net()]),
        "data": (X, Y),
        "steps": 2,
        "lr": 0.1,
        "batch_size": 5,
        "generator": cu.seeded(0),
        **change,
    }
    stack, data = options.pop("stack"), options.pop("data")
    with pytest.raises(error, match=match):
        fit_many(stack, data, **options)


@pytest.mark.parametrize("lr", [0.2, torch.tensor(0.2), [0.2, 0.2], torch.tensor([0.2, 0.2])])
def test_one_rate_for_all_is_that_rate_for_each(lr):
    stack = stack_mlps([net(), net()])
    loss = fit_many(stack, (X, Y), steps=3, lr=lr, batch_size=5, generator=cu.seeded(0)).loss
    other = stack_mlps([net(), net()])
    want = fit_many(other, (X, Y), steps=3, lr=[0.2] * 2, batch_size=5, generator=cu.seeded(0))
    assert (loss == want.loss).all() and (loss[0] == loss[1]).all()
