"""Many networks at once against a loop of `fit`, which is held by its own tests."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import course_utils as cu
from course_utils.training import fit, fit_many

CPU = {"device": "cpu", "progress": False}
FIGURES = (
    "loss",
    "accuracy",
    "grad_norm",
    "lr",
    "epoch_loss",
    "epoch_accuracy",
    "test_loss",
    "test_accuracy",
)


def data(n=23, seed=1, shape=(5,)):
    generator = cu.seeded(seed)
    x = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 4, (n,), generator=generator)


def mlps(count=4, depth=3, **options):
    sizes = {"inputs": 5, "outputs": 4}
    return [
        cu.mlp(depth, 7, generator=cu.seeded(seed), **sizes, **options).double()
        for seed in range(count)
    ]


def agree(models, pair, generators=None, **options):
    """Train by both ways; options that are lists hold one value per model."""
    twins = copy.deepcopy(models)
    generator = cu.seeded(5) if generators is None else [cu.seeded(s) for s in generators]
    histories = fit_many(models, pair, generator=generator, **options, **CPU)
    for index, twin in enumerate(twins):
        own = {k: v[index] if isinstance(v, list) else v for k, v in options.items()}
        seed = 5 if generators is None else generators[index]
        alone = fit(twin, pair, generator=cu.seeded(seed), **own, **CPU)
        ours = histories[index]
        for name in FIGURES:
            a, b = getattr(ours, name), getattr(alone, name)
            assert a.shape == b.shape, name
            assert torch.allclose(a, b, rtol=1e-10, atol=1e-10, equal_nan=True), name
        assert (ours.stopped, ours.layer) == (alone.stopped, alone.layer)
        assert (ours.steps_per_epoch or 0) == alone.steps_per_epoch or not alone.epochs
        for name, value in twin.state_dict().items():
            mine = models[index].state_dict()[name]
            assert mine.dtype == value.dtype
            close = torch.allclose(mine, value, rtol=1e-10, atol=1e-10, equal_nan=True)
            assert close, f"{name} of model {index}"
    return histories


# ---------------------------------------------------------------- the same as a loop of fit


@pytest.mark.parametrize(
    ("options", "settings_of_fit"),
    [
        ({}, {"lr": 0.1}),
        ({}, {"lr": [0.0, 0.1, 0.3, 1.0]}),
        ({}, {"lr": 0.1, "momentum": 0.8}),
        ({}, {"lr": [0.1, 0.2, 0.1, 0.2], "momentum": [0.0, 0.5, 0.9, 0.0]}),
        ({}, {"lr": 0.5, "clip": 0.1}),
        ({}, {"lr": 0.5, "clip": [None, 0.1, 1.0, 1e-3]}),
        ({}, {"optimizer": "adam"}),
        ({}, {"optimizer": "adam", "lr": [0.1, 0.01, 0.03, 0.0], "clip": 0.2}),
        ({}, {"lr": lambda step: 0.3 / (1 + step)}),
        ({"activation": "tanh", "norm": "layer"}, {"lr": 0.1}),
        ({"norm": "batch"}, {"lr": 0.1}),
        ({"norm": "batch", "skip": "plain", "depth": 5}, {"lr": 0.1, "momentum": 0.9}),
    ],
)
def test_many_at_once_are_a_loop_of_fit(options, settings_of_fit):
    histories = agree(mlps(**options), data(), test=data(9, 2), epochs=3, batch_size=8,
                      **settings_of_fit)  # fmt: skip
    assert histories.loss.shape == (4, 9) and histories.test_loss.shape == (4, 3)
    assert not histories.diverged.any()


def test_each_model_may_have_an_order_of_its_own():
    histories = agree(mlps(norm="batch"), data(), generators=[3, 1, 4, 1], epochs=2, lr=0.1,
                      batch_size=8)  # fmt: skip
    assert len(set(histories.loss[:, 0].tolist())) == 4


def test_all_samples_in_each_step_need_no_generator():
    models, twins = mlps(), mlps()
    histories = fit_many(models, data(), batch_size=None, epochs=4, lr=0.1, **CPU)
    for index, twin in enumerate(twins):
        alone = fit(twin, data(), batch_size=None, epochs=4, lr=0.1, **CPU)
        assert torch.allclose(histories[index].loss, alone.loss, rtol=1e-10)


def test_a_schedule_may_differ_from_model_to_model():
    models, twins = mlps(2), mlps(2)
    rates = [0.3, 0.1]
    histories = fit_many(
        models, data(), lr=lambda t: [r / (1 + t) for r in rates], epochs=2, generator=cu.seeded(0),
        **CPU,
    )  # fmt: skip
    for index, twin in enumerate(twins):
        alone = fit(
            twin, data(), lr=lambda t, r=rates[index]: r / (1 + t), epochs=2,
            generator=cu.seeded(0), **CPU,
        )  # fmt: skip
        assert torch.allclose(histories[index].loss, alone.loss, rtol=1e-10)
        assert histories[index].lr.tolist() == alone.lr.tolist()


def test_convolutions_with_batch_norm_agree():
    models = [
        cu.conv_net(3, 4, shape=(1, 6, 6), outputs=4, norm="batch", generator=cu.seeded(s)).double()
        for s in range(3)
    ]
    agree(models, data(20, shape=(1, 6, 6)), epochs=2, batch_size=9, lr=0.1)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("rnn", {}), ("rnn", {"activation": "relu", "layers": 2}), ("lstm", {}), ("gru", {}),
     ("lstm", {"layers": 2}), ("gru", {"layers": 3})],
)  # fmt: skip
def test_recurrent_networks_agree(kind, options):
    models = [
        cu.recurrent(kind, 6, inputs=2, generator=cu.seeded(s), **options).double()
        for s in range(3)
    ]
    x, y = cu.adding_problem(17, 8, generator=cu.seeded(0))
    pair = (x.double(), y.double())
    agree(models, pair, loss="mse", epochs=2, batch_size=6, lr=0.05, clip=[0.1, None, 1.0])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_recurrent_layer_written_out_returns_what_torch_returns(kind, bias, batch_first):
    from course_utils.training.unrolled import mappable

    torch.manual_seed(0)
    layer = kind(3, 4, num_layers=2, bias=bias, batch_first=batch_first).double()
    written, x = mappable(layer), torch.randn(5, 5, 3, dtype=torch.float64)
    start = torch.randn(2, 5, 4, dtype=torch.float64)
    for more in ((), ((start, 2 * start) if kind is nn.LSTM else start,)):
        theirs, ours = layer(x, *more), written(x, *more)
        assert torch.allclose(ours[0], theirs[0], atol=1e-12)
        ends = (ours[1], theirs[1]) if kind is nn.LSTM else ((ours[1],), (theirs[1],))
        for a, b in zip(*ends, strict=True):
            assert torch.allclose(a, b, atol=1e-12)


def test_a_loss_of_ones_own_is_mapped_too():
    def smooth(output, y):
        return F.cross_entropy(output, y, label_smoothing=0.1) + output.square().mean()

    agree(mlps(), data(), loss=smooth, epochs=2, batch_size=8, lr=0.1)


@given(
    count=st.integers(1, 5),
    batch=st.integers(2, 30),
    lr=st.floats(0, 0.5),
    seed=st.integers(0, 999),
)
@settings(max_examples=15)
def test_any_sweep_agrees(count, batch, lr, seed):
    agree(mlps(count, depth=2), data(11, seed), epochs=2, batch_size=batch, lr=lr)


# ---------------------------------------------------------------- models that diverge


@pytest.mark.parametrize("generators", [None, [1, 2, 3, 4]])
@pytest.mark.parametrize("options", [{}, {"norm": "batch"}])
def test_a_model_that_diverges_leaves_the_others_as_they_were(options, generators):
    rates = [0.1, 0.2, 0.3, 0.1]
    bad = [0.1, 1e200, 0.3, 1e250]
    calm, wild = mlps(**options), mlps(**options)

    def order():
        return cu.seeded(5) if generators is None else [cu.seeded(s) for s in generators]

    how = {"epochs": 3, "batch_size": 8, "momentum": 0.5, **CPU}
    first = fit_many(calm, data(), lr=rates, generator=order(), **how)
    second = fit_many(wild, data(), lr=bad, generator=order(), **how)
    for index in (0, 2):
        assert torch.allclose(first.loss[index], second.loss[index], rtol=1e-10)
        for a, b in zip(calm[index].parameters(), wild[index].parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-10)
    assert second.diverged.tolist() == [False, True, False, True]


def test_a_model_that_diverges_is_frozen_where_fit_stops():
    histories = agree(mlps(), data(), epochs=3, batch_size=8, lr=[0.1, 1e300, 0.2, 0.1],
                      test=data(9, 2))  # fmt: skip
    assert histories.diverged.tolist() == [False, True, False, False]
    assert histories.stopped[1] == "non-finite loss" and histories.layer[1].startswith("linear")
    assert "Model 1 stopped at step" in histories.message[1] and histories.message[0] == ""
    steps = histories[1].steps
    assert histories.lr[1, steps:].isnan().all() and histories.loss[1, steps:].isnan().all()
    assert histories.epoch_loss[1].isnan().all() and histories.test_loss[1].isnan().all()
    assert histories.loss[0].isfinite().all()


class Root(nn.Module):
    """Its gradient is NaN where `level` is 0, its loss never."""

    def __init__(self, level):
        super().__init__()
        self.first, self.last = nn.Linear(5, 5), nn.Linear(5, 4)
        self.register_buffer("level", torch.tensor(level))

    def forward(self, x):
        return self.last((self.first(x) ** 2 * self.level).sqrt())


@pytest.mark.parametrize("batch_size", [8, 23])  # 23: the only step of its epoch
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(batch_size):
    torch.manual_seed(0)
    models = [Root(level).double() for level in (1.0, 0.0, 2.0)]
    before = copy.deepcopy(models[1].state_dict())
    histories = agree(models, data(), epochs=2, batch_size=batch_size, lr=0.01)
    assert histories.stopped == ("finished", "non-finite gradient", "finished")
    assert histories.layer[1] == "first" and "holds NaN or Inf" in histories.message[1]
    assert all(torch.equal(before[k], v) for k, v in models[1].state_dict().items())
    assert all(p.grad is None for model in models for p in model.parameters())


def test_training_ends_when_no_model_is_left():
    histories = fit_many(mlps(2), data(), lr=1e300, epochs=50, generator=cu.seeded(0), **CPU)
    assert histories.diverged.all() and histories.loss.shape[1] < 10
    assert histories.epoch_loss.shape[0] == 2


def test_a_norm_below_the_squares_of_float32_is_not_zero():
    def tiny(output, y):
        return 1e-30 * F.cross_entropy(output, y)

    x, y = data()
    models = [model.float() for model in mlps(2)]
    small = fit_many(models, (x.float(), y), loss=tiny, epochs=1, batch_size=None, **CPU)
    usual = fit_many(models, (x.float(), y), epochs=1, batch_size=None, **CPU)
    assert torch.allclose(small.grad_norm, 1e-30 * usual.grad_norm, rtol=1e-4, atol=0)


# ---------------------------------------------------------------- what is given back


@pytest.mark.parametrize("at", [1, 6])
def test_an_interrupted_run_leaves_models_and_histories_usable(at, monkeypatch):
    calls = []

    def stops(output, y):
        calls.append(1)
        if len(calls) == at + 2:  # one call tries the loss out
            raise KeyboardInterrupt
        return F.cross_entropy(output, y)

    models, twins = mlps(), mlps()
    how = {"lr": 0.1, "batch_size": 8, **CPU}
    histories = fit_many(models, data(), loss=stops, epochs=9, generator=cu.seeded(0), **how)
    assert set(histories.stopped) == {"interrupted"} and histories.loss.shape == (4, at)
    assert not histories.diverged.any()
    generator = cu.seeded(0)
    orders = [torch.randperm(23, generator=generator).split(8) for _ in range(9)]
    for model, twin in zip(models, twins, strict=True):
        for rows in [rows for order in orders for rows in order][:at]:
            twin.zero_grad()
            F.cross_entropy(twin(data()[0][rows]), data()[1][rows]).backward()
            with torch.no_grad():
                for p in twin.parameters():
                    p -= 0.1 * p.grad
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.allclose(p, q, rtol=1e-9)
    assert set(fit_many(models, data(), generator=cu.seeded(0), **how).stopped) == {"finished"}


def test_modes_parameters_and_the_random_state_are_left_alone():
    models = mlps(3, norm="batch")
    models[0].eval()
    models[2].eval()
    kept = [list(model.parameters()) for model in models]
    torch.manual_seed(4)
    state = torch.get_rng_state()
    fit_many(models, data(), test=data(5, 3), epochs=1, generator=cu.seeded(0), **CPU)
    assert [model.training for model in models] == [False, True, False]
    assert all(module.training for module in models[1].modules())
    for model, parameters in zip(models, kept, strict=True):
        assert all(p is q for p, q in zip(model.parameters(), parameters, strict=True))
        assert all(p.requires_grad and p.grad is None for p in parameters)
    assert torch.equal(state, torch.get_rng_state())


def test_an_error_on_the_way_leaves_modes_and_weights_as_they_are():
    calls = []

    def breaks(output, y):
        calls.append(1)
        if len(calls) == 3:
            raise OSError("disk")
        return F.cross_entropy(output, y)

    models = mlps(2)
    models[0].eval()
    with pytest.raises(OSError, match="disk"):
        fit_many(models, data(), loss=breaks, generator=cu.seeded(0), **CPU)
    assert [model.training for model in models] == [False, True]
    assert all(p.isfinite().all() for model in models for p in model.parameters())


def test_dropout_differs_from_model_to_model():
    def one():
        return nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 4, bias=False)).double()

    models = [one() for _ in range(3)]
    for model in models:
        model.load_state_dict(models[0].state_dict())
    torch.manual_seed(0)
    fit_many(models, data(), lr=0.1, epochs=1, generator=cu.seeded(0), **CPU)
    first, second, third = (model[1].weight for model in models)
    assert not torch.allclose(first, second) and not torch.allclose(second, third)


def test_frozen_and_tied_parameters_are_kept_so():
    def one(seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Linear(5, 4)).double()
        model[2].weight = model[0].weight
        model[3].bias.requires_grad_(False)
        return model

    models = [one(seed) for seed in range(3)]
    frozen = [model[3].bias.clone() for model in models]
    agree(models, data(), epochs=2, batch_size=8, lr=0.1)
    for model, bias in zip(models, frozen, strict=True):
        assert model[2].weight is model[0].weight and torch.equal(model[3].bias, bias)


def test_histories_are_indexed_iterated_and_shown():
    histories = fit_many(mlps(3), data(), test=data(9, 2), epochs=2, generator=cu.seeded(0), **CPU)
    assert len(histories) == len(list(histories)) == 3
    assert torch.equal(histories[-1].loss, histories.loss[2])
    with pytest.raises(IndexError, match="model 3"):
        histories[3]
    best = histories.test_accuracy[:, -1]
    for text in (repr(histories), histories._repr_html_()):
        assert "3 finished" in text and f"{best.min():.3f} to {best.max():.3f}" in text
    assert cu.training.History.from_dict(histories[0].to_dict()).steps == histories[0].steps
    with pytest.raises(AttributeError):
        histories.loss = None


# ---------------------------------------------------------------- bad input

X, Y = data()


def scaled(factor):
    class Scaled(nn.Linear):
        def __init__(self):
            super().__init__(5, 4, dtype=torch.float64)
            self.factor = factor

    return Scaled()


class BothWays(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(5, 4, bidirectional=True, dtype=torch.float64)

    def forward(self, x):
        return self.rnn(x[None])[0][0]


class OneSequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(5, 4, dtype=torch.float64)

    def forward(self, x):
        return self.rnn(x)[0]


TWO = mlps(2)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"models": TWO[0]}, TypeError, "single network"),
        ({"models": 3}, TypeError, "models=3"),
        ({"models": []}, ValueError, "models is empty"),
        ({"models": [TWO[0], 3]}, TypeError, "model=3"),
        ({"models": [TWO[0], TWO[0]]}, ValueError, "same network twice"),
        ({"models": [*TWO, *mlps(1, depth=4)]}, ValueError, r"models\[0\] and models\[2\] differ"),
        ({"models": [*TWO, *mlps(1, activation="tanh")]}, ValueError, "differ in .*relu1"),
        ({"models": [TWO[0], copy.deepcopy(TWO[1]).float()]}, ValueError, "shape of linear1"),
        ({"models": [scaled(1.0), scaled(2.0)]}, ValueError, "factor of the model: 1.0 and 2.0"),
        ({"models": [BothWays(), BothWays()]}, ValueError, "two directions.*cu.fit"),
        (
            {"models": [OneSequence(), OneSequence()]},
            ValueError,
            r"shape \(23, 5\).*\(B, T, inputs\)",
        ),
        ({"data": [(X, Y)]}, TypeError, "data is a list"),
        ({"data": (X, Y[:3])}, ValueError, "data has x"),
        ({"data": (X[:, :4], Y)}, RuntimeError, r"shape \(2, 4\)"),
        ({"data": (X, Y + 1)}, ValueError, "labels from 1 to 4"),
        ({"data": (X, Y - 1)}, ValueError, "labels from -1 to 2"),
        ({"loss": "mae"}, ValueError, "loss='mae'"),
        ({"loss": lambda o, y: o.detach().sum()}, ValueError, "cut off"),
        ({"loss": lambda o, y: o}, ValueError, "scalar tensor"),
        ({"loss": lambda o, y: o.sum() * o.sum().item()}, ValueError, "cannot be trained at once"),
        ({"optimizer": "rmsprop"}, ValueError, "Known: sgd, adam.*cu.fit"),
        ({"optimizer": torch.optim.SGD}, ValueError, "optimizer="),
        ({"optimizer": "adam", "momentum": 0.5}, ValueError, "momentum=0.5"),
        ({"lr": [0.1]}, ValueError, "lr holds 1 values for 2 models"),
        ({"lr": [0.1, -1]}, ValueError, "lr=-1"),
        ({"lr": torch.tensor([0.1, math.nan])}, ValueError, "lr=nan"),
        ({"lr": "0.1"}, ValueError, "lr='0.1'"),
        ({"lr": lambda t: [0.1, 0.1, 0.1]}, ValueError, "lr holds 3 values"),
        ({"momentum": [0.1, 1.0]}, ValueError, "momentum=1.0"),
        ({"clip": [0.1, 0.0]}, ValueError, "clip=0.0"),
        ({"clip": [0.1] * 3}, ValueError, "clip holds 3 values"),
        ({"epochs": 0}, ValueError, "epochs=0"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"generator": None}, TypeError, "generator=None"),
        ({"generator": [cu.seeded(0)]}, ValueError, "1 generators for 2 models"),
        ({"generator": [cu.seeded(0), 3]}, TypeError, "generator=3"),
        ({"test": X}, TypeError, "test is a Tensor"),
        ({"device": "gpu"}, ValueError, "device='gpu'"),
    ],
)
def test_bad_input_is_answered_with_the_argument_and_the_way_out(wrong, error, says):
    arguments = {"models": mlps(2), "data": (X, Y), "generator": cu.seeded(0), **CPU}
    with pytest.raises(error, match=says) as caught:
        fit_many(**{**arguments, **wrong})
    assert type(caught.value) is error


def test_numbers_per_model_may_be_arrays_and_tensors():
    import numpy as np

    results = [
        fit_many(mlps(2), data(), lr=lr, epochs=1, generator=cu.seeded(0), **CPU).loss
        for lr in ([0.1, 0.2], (0.1, 0.2), torch.tensor([0.1, 0.2]).double(), np.array([0.1, 0.2]))
    ]
    assert all(torch.equal(results[0], other) for other in results[1:])
