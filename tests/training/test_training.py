"""The training loop against one written by hand, and everything that can go wrong in it."""

import json
import math
import signal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import course_utils as cu
from course_utils.training import History, fit

CPU = {"device": "cpu", "progress": False}


def net(seed=0, depth=3, width=7, **options):
    return cu.mlp(depth, width, inputs=5, outputs=4, generator=cu.seeded(seed), **options)


def data(n=23, seed=1):
    generator = cu.seeded(seed)
    x = torch.randn(n, 5, generator=generator)
    return x, torch.randint(0, 4, (n,), generator=generator)


def weights(model):
    return [value.clone() for value in model.state_dict().values()]


def same(ours, theirs):
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def by_hand(model, x, y, optimizer, epochs, batch_size, generator, loss, clip=None, lr=None):
    """The loop as a textbook writes it; its figures per step, and the size of each batch."""
    rows, sizes = [], []
    for _ in range(epochs):
        for chosen in torch.randperm(len(x), generator=generator).split(batch_size):
            if lr is not None:
                optimizer.param_groups[0]["lr"] = lr(len(rows))
            output = model(x[chosen])
            value = loss(output, y[chosen])
            optimizer.zero_grad()
            value.backward()
            gradient = torch.cat([p.grad.flatten() for p in model.parameters()]).double()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            right = sum(int(o.argmax()) == int(k) for o, k in zip(output, y[chosen], strict=True))
            rows.append((value.item(), right / len(chosen), gradient.norm().item()))
            sizes.append(len(chosen))
    return torch.tensor(rows, dtype=torch.float64), sizes


# ---------------------------------------------------------------- the loop


@pytest.mark.parametrize(
    ("name", "make", "options"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.2), {"lr": 0.2}),
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.7), {"momentum": 0.7}),
        ("adam", lambda p: torch.optim.Adam(p, lr=1e-3), {}),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.02), {"lr": 0.02}),
        ("rmsprop", lambda p: torch.optim.RMSprop(p, lr=1e-3), {}),
    ],
)
@pytest.mark.parametrize("clip", [None, 0.3])
def test_fit_is_the_loop_written_by_hand_bit_by_bit(name, make, options, clip):
    (x, y), ours, theirs = data(), net(), net()
    history = fit(
        ours,
        (x, y),
        optimizer=name,
        epochs=3,
        batch_size=10,
        clip=clip,
        generator=cu.seeded(7),
        **options,
        **CPU,
    )
    rows, sizes = by_hand(
        theirs, x, y, make(theirs.parameters()), 3, 10, cu.seeded(7), F.cross_entropy, clip
    )
    assert same(weights(ours), weights(theirs))
    assert torch.equal(history.loss, rows[:, 0])
    assert torch.allclose(history.accuracy, rows[:, 1], rtol=1e-6)
    assert torch.allclose(history.grad_norm, rows[:, 2], rtol=1e-5)
    assert sizes == [10, 10, 3] * 3
    epochs = [
        sum(n * row for n, row in zip(sizes[at : at + 3], rows[at : at + 3], strict=True)) / 23
        for at in (0, 3, 6)
    ]
    assert torch.allclose(history.epoch_loss, torch.stack(epochs)[:, 0], rtol=1e-12)
    assert torch.allclose(history.epoch_accuracy, torch.stack(epochs)[:, 1], rtol=1e-6)
    assert (history.steps, history.epochs, history.steps_per_epoch) == (9, 3, 3)


def test_a_schedule_sets_the_learning_rate_of_each_step():
    def schedule(step):
        return 0.3 / (1 + step) ** 2

    (x, y), ours, theirs = data(), net(), net()
    history = fit(ours, (x, y), lr=schedule, epochs=2, batch_size=8, generator=cu.seeded(3), **CPU)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=99.0)
    by_hand(theirs, x, y, optimizer, 2, 8, cu.seeded(3), F.cross_entropy, lr=schedule)
    assert same(weights(ours), weights(theirs))
    assert history.lr.tolist() == [schedule(step) for step in range(6)]


def test_squared_error_of_all_samples_at_once_needs_no_generator():
    x, model = data()[0], net()
    y = x[:, :4].sin()
    before = F.mse_loss(net()(x), y).item()
    history = fit(model, (x, y), loss="mse", batch_size=None, epochs=4, lr=0.1, **CPU)
    assert history.loss[0].item() == before and (history.steps, history.epochs) == (4, 4)
    assert history.accuracy.isnan().all() and history.loss.diff().max() < 0


def test_an_optimizer_may_be_an_instance_a_class_or_a_function():
    x, y = data()
    results = []
    for choose in (
        lambda model: {"optimizer": "sgd", "lr": 0.05},
        lambda model: {"optimizer": torch.optim.SGD, "lr": 0.05},
        lambda model: {"optimizer": torch.optim.SGD(model.parameters(), lr=0.05)},
        lambda model: {"optimizer": lambda p: torch.optim.SGD(p, lr=0.05)},
    ):
        model = net()
        fit(model, (x, y), epochs=2, generator=cu.seeded(0), **choose(model), **CPU)
        results.append(weights(model))
    assert all(same(results[0], other) for other in results[1:])


def test_a_dataloader_brings_its_own_batches():
    x, y = data(20)
    ours, theirs = net(), net()
    loader = DataLoader(TensorDataset(x, y.int()), batch_size=6)
    history = fit(ours, loader, epochs=2, lr=0.1, **CPU)
    batches = list(zip(x.split(6), y.split(6), strict=True))
    fit(theirs, batches, epochs=2, lr=0.1, **CPU)
    for a, b in zip(weights(ours), weights(theirs), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)
    assert (history.steps, history.epochs, history.steps_per_epoch) == (8, 2, 4)


def test_a_stream_without_a_length_is_trained_on_too():
    class Stream:
        def __iter__(self):
            return zip(*(part.split(5) for part in data(15)), strict=True)

    history = fit(net(), Stream(), epochs=2, lr=0.1, **CPU)
    assert (history.steps, history.steps_per_epoch) == (6, 3)


def test_the_test_set_is_measured_in_eval_mode_and_in_parts(monkeypatch):
    monkeypatch.setattr("course_utils.training.loop.EVALUATION_BATCH", 4)
    x, y = data(30)
    model = nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 4)
    )
    test = data(11, seed=9)
    history = fit(model, (x, y), test=test, epochs=2, generator=cu.seeded(0), **CPU)
    with torch.no_grad():
        output = model.eval()(test[0])
    assert math.isclose(history.test_loss[-1], F.cross_entropy(output, test[1]), rel_tol=1e-6)
    assert math.isclose(
        history.test_accuracy[-1], (output.argmax(1) == test[1]).double().mean(), rel_tol=1e-6
    )


def test_image_data_brings_its_test_set_and_a_linear_model_learns_the_digits():
    digits, model = cu.load_digits(n=600), cu.mlp(1, 1, generator=cu.seeded(0))
    history = fit(model, digits, epochs=5, lr=0.5, generator=cu.seeded(0), **CPU)
    assert history.test_accuracy[-1] > 0.85 and len(history.test_loss) == 5


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_of_the_model_is_given_back(mode):
    model = net().train(mode)
    fit(model, data(), epochs=1, generator=cu.seeded(0), **CPU)
    assert model.training is mode
    model[2].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError):
        fit(model, data(), epochs=1, generator=cu.seeded(0), **CPU)
    assert model.training is mode


def test_frozen_parameters_stay_and_unused_ones_do_no_harm():
    model = net()
    model[0].requires_grad_(False)
    model.unused = nn.Linear(2, 2)
    model.forward = lambda x: model[4](model[2](model[0](x)))
    before = weights(model)
    fit(model, data(), epochs=1, lr=0.1, generator=cu.seeded(0), **CPU)
    after = weights(model)
    still = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert still == [True, True, False, False, False, False, True, True]


def test_a_norm_below_the_squares_of_float32_is_not_zero():
    x, y = data()

    def tiny(output, y):
        return 1e-30 * F.cross_entropy(output, y)

    history = fit(net(), (x, y), loss=tiny, epochs=1, batch_size=None, **CPU)
    usual = fit(net(), (x, y), epochs=1, batch_size=None, **CPU)
    assert math.isclose(history.grad_norm[0], 1e-30 * usual.grad_norm[0], rel_tol=1e-4)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), batch=st.integers(1, 50))
def test_every_sample_is_seen_once_in_an_epoch(seed, n, batch):
    seen = []

    class Spy(nn.Linear):
        def forward(self, x):
            seen.append(x[:, 0])
            return super().forward(x)

    x = torch.arange(float(n))[:, None]
    fit(
        Spy(1, 1), (x, x), loss="mse", lr=0, epochs=2, batch_size=batch, generator=cu.seeded(seed),
        **CPU,
    )  # fmt: skip
    half = math.ceil(n / batch)
    assert len(seen) == 2 * half and all(len(part) == batch for part in seen[: half - 1])
    for epoch in (seen[:half], seen[half:]):
        assert torch.cat(epoch).sort().values.tolist() == list(range(n))


# ---------------------------------------------------------------- recorder


@pytest.mark.parametrize("told", [False, True])
def test_the_record_holds_a_row_and_the_loss_of_each_step(told):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with cu.record(model, **({"optimizer": optimizer} if told else {})) as recorder:
        history = fit(
            model,
            data(),
            optimizer=optimizer,
            epochs=2,
            batch_size=8,
            recorder=recorder,
            generator=cu.seeded(0),
            **CPU,
        )
    record = recorder.record
    assert record.losses.tolist() == history.loss.tolist() and len(record.steps) == 6


def test_recording_changes_no_weight():
    ours, theirs = net(), net()
    with cu.record(ours) as recorder:
        fit(ours, data(), epochs=2, recorder=recorder, generator=cu.seeded(0), **CPU)
    fit(theirs, data(), epochs=2, generator=cu.seeded(0), **CPU)
    assert same(weights(ours), weights(theirs))


# ---------------------------------------------------------------- it stops, and says where


def test_fit_stops_at_the_first_loss_that_is_not_finite_and_names_the_layer(capsys):
    class Blows(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0
            self.inner = nn.Sequential(nn.Linear(5, 4), nn.Identity())
            self.last = nn.Linear(4, 4)

        def forward(self, x):
            self.calls += 1
            h = self.inner[0](x)
            h = self.inner[1](h / 0 if self.calls > 3 else h)
            return self.last(h)

    model = Blows()
    history = fit(
        model, data(), epochs=5, batch_size=8, lr=0.1, generator=cu.seeded(0), device="cpu"
    )
    assert (history.stopped, history.layer, history.steps) == ("non-finite loss", "inner.1", 4)
    assert history.loss[:3].isfinite().all() and not history.loss[3].isfinite()
    assert history.epochs == 1 and history.grad_norm[3].isnan()
    assert all(p.isfinite().all() for p in model.parameters())
    printed = capsys.readouterr().out
    assert history.message in printed and "step 4 (epoch 2)" in printed and "inner.1" in printed


def test_weights_that_the_step_before_blew_up_are_named(capsys):
    history = fit(net(), data(), lr=1e38, epochs=9, generator=cu.seeded(0), **CPU)
    assert history.stopped == "non-finite loss" and history.layer.startswith("linear")
    assert "smaller lr" in history.message and capsys.readouterr().out == ""


def test_a_gradient_that_is_not_finite_never_reaches_the_weights():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 4)

        def forward(self, x):
            return self.last((self.second(self.first(x)) * 0).sqrt())

    torch.manual_seed(0)
    model = Root()
    before = weights(model)
    history = fit(model, data(), epochs=2, generator=cu.seeded(0), **CPU)
    assert (history.stopped, history.layer) == ("non-finite gradient", "second")
    assert history.loss.isfinite().all() and history.steps == 1
    assert same(before, weights(model))


def test_a_loss_function_that_is_not_finite_is_told_apart_from_the_layers():
    def log(output, y):
        return (output.sum() * 0).log()

    history = fit(net(), data(), loss=log, epochs=1, generator=cu.seeded(0), **CPU)
    assert (history.stopped, history.layer) == ("non-finite loss", "loss")


def test_looking_for_the_layer_changes_neither_buffers_nor_the_random_state():
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 4))
    fit(model, data(), lr=1e30, epochs=1, batch_size=4, generator=cu.seeded(0), **CPU)
    torch.manual_seed(3)
    state, tracked = torch.get_rng_state(), int(model[1].num_batches_tracked)
    from course_utils.training.nonfinite import first_nonfinite_output

    first_nonfinite_output(model, data()[0])
    assert torch.equal(state, torch.get_rng_state())
    assert int(model[1].num_batches_tracked) == tracked


def test_batches_that_hold_nan_are_named_as_such():
    x, y = data()
    x[3] = math.nan
    history = fit(net(), [(x, y)], epochs=1, **CPU)
    assert history.layer == "input" and "clean the data" in history.message


@pytest.fixture
def _interrupts_arrive():
    """A process started in the background may have been told to ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts_arrive")
@pytest.mark.parametrize("at", [1, 5, 9])
def test_an_interrupted_fit_leaves_model_and_history_usable(at):
    class Stops(nn.Linear):
        calls = 0

        def forward(self, x):
            Stops.calls += 1
            if Stops.calls == at:
                signal.raise_signal(signal.SIGINT)
            return super().forward(x)

    Stops.calls = 0
    torch.manual_seed(1)
    model = Stops(5, 4).eval()
    twin = nn.Linear(5, 4)
    twin.load_state_dict(model.state_dict())
    options = {"lr": 0.1, "batch_size": 8, **CPU}
    history = fit(model, data(), epochs=4, generator=cu.seeded(2), **options)
    assert history.stopped == "interrupted" and "interrupted at step" in history.message
    assert history.steps == at - 1 and history.epochs == (at - 1) // 3
    assert not model.training
    History.from_dict(history.to_dict())
    generator = cu.seeded(2)
    orders = [torch.randperm(23, generator=generator).split(8) for _ in range(4)]
    for rows in [rows for order in orders for rows in order][: at - 1]:
        value = F.cross_entropy(twin(data()[0][rows]), data()[1][rows])
        twin.zero_grad()
        value.backward()
        with torch.no_grad():
            for p in twin.parameters():
                p -= 0.1 * p.grad
    assert torch.allclose(model.weight, twin.weight, atol=1e-6)
    model.train()
    assert fit(model, data(), epochs=1, generator=cu.seeded(0), **options).stopped == "finished"


# ---------------------------------------------------------------- History


def test_a_history_survives_json():
    history = fit(net(), data(), lr=1e38, epochs=3, test=data(9), generator=cu.seeded(0), **CPU)
    again = History.from_dict(json.loads(json.dumps(history.to_dict(), allow_nan=False)))
    for name, value in vars(history).items():
        other = getattr(again, name)
        if isinstance(value, torch.Tensor):
            assert other.dtype == torch.float64
            assert torch.equal(value.nan_to_num(7, 8, 9), other.nan_to_num(7, 8, 9))
        else:
            assert other == value


@given(st.lists(st.floats(width=64), max_size=5))
def test_any_float_survives_json(values):
    loss = torch.tensor(values, dtype=torch.float64)
    none = torch.empty(0, dtype=torch.float64)
    text = json.dumps(History(loss, *[none] * 7).to_dict(), allow_nan=False)
    again = History.from_dict(json.loads(text)).loss
    assert torch.equal(loss.isnan(), again.isnan())
    assert torch.equal(loss[~loss.isnan()], again[~loss.isnan()])


@pytest.mark.parametrize(
    "break_it",
    [
        lambda d: d.pop("loss"),
        lambda d: d.update(more=1),
        lambda d: d.update(loss=["a"]),
        lambda d: d.update(lr=[True]),
    ],
)
def test_a_broken_dict_is_refused(break_it):
    values = fit(net(), data(), epochs=1, generator=cu.seeded(0), **CPU).to_dict()
    break_it(values)
    with pytest.raises(ValueError, match="values"):
        History.from_dict(values)


def test_a_history_is_frozen_detached_and_shows_how_it_went():
    history = fit(net(), data(), epochs=2, test=data(9), generator=cu.seeded(0), **CPU)
    with pytest.raises(AttributeError):
        history.loss = None
    assert not history.loss.requires_grad and history.loss.dtype == torch.float64
    first, last = f"{history.loss[0]:.3g}", f"{history.loss[-1]:.3g}"
    for text in (repr(history), history._repr_html_()):
        assert first in text and last in text and "finished" in text
        assert f"{history.test_accuracy[-1]:.3f}" in text
    failed = History(*[torch.zeros(0)] * 8, stopped="non-finite loss", layer="<script>")
    assert "<script>" not in failed._repr_html_()


# ---------------------------------------------------------------- bad input

X, Y = data()
EMPTY = (X[:0], Y[:0])


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"model": "net"}, TypeError, "model='net'"),
        ({"model": nn.ReLU()}, ValueError, "no parameter"),
        ({"model": nn.LazyLinear(4)}, ValueError, "one batch first"),
        ({"model": nn.Linear(6, 4)}, RuntimeError, r"shape \(8, 5\)"),
        ({"data": EMPTY}, ValueError, "data is empty"),
        ({"data": (X, Y[:5])}, ValueError, r"data has x of shape \(23, 5\)"),
        ({"data": (X, Y + 1)}, ValueError, "labels from 1 to 4"),
        ({"data": (X, Y - 1)}, ValueError, "labels from -1 to 2"),
        ({"data": (X, Y[:, None])}, ValueError, r"y of shape \(8, 1\)"),
        ({"data": (X / 0, Y)}, ValueError, "x of data holds NaN or Inf"),
        ({"data": X}, TypeError, "data is a Tensor"),
        ({"data": 3}, TypeError, "data is a int"),
        ({"data": TensorDataset(X, Y)}, TypeError, "DataLoader"),
        ({"data": [X]}, ValueError, "batch of type Tensor"),
        ({"data": []}, ValueError, "no batch in epoch 1"),
        ({"test": X}, TypeError, "test is a Tensor"),
        ({"test": EMPTY}, ValueError, "test is empty"),
        ({"loss": "cross_entrpy"}, ValueError, "did you mean 'cross_entropy'"),
        ({"loss": 3}, TypeError, "loss=3"),
        ({"loss": "mse"}, ValueError, "loss='mse'.*same shape"),
        ({"loss": lambda o, y: o}, ValueError, r"loss=.*returned \(8, 4\)"),
        ({"loss": lambda o, y: 1.0}, ValueError, "scalar tensor"),
        ({"loss": lambda o, y: o.detach().sum()}, ValueError, "cut off"),
        ({"optimizer": "sdg"}, ValueError, "did you mean 'sgd'"),
        ({"optimizer": torch.optim.LBFGS}, TypeError, "without a closure"),
        ({"optimizer": 5}, TypeError, "optimizer=5"),
        ({"optimizer": torch.optim.SGD([nn.Parameter(X)], lr=1)}, ValueError, "none of the param"),
        ({"optimizer": torch.optim.SGD([nn.Parameter(X)]), "lr": 0.1}, ValueError, "leave it out"),
        ({"lr": -0.1}, ValueError, "lr=-0.1"),
        ({"lr": math.nan}, ValueError, "lr=nan"),
        ({"lr": math.inf}, ValueError, "lr=inf"),
        ({"lr": "0.1"}, ValueError, "lr='0.1'"),
        ({"lr": lambda step: -1.0}, ValueError, "lr=-1.0"),
        ({"lr": lambda step: None}, ValueError, "lr=None"),
        ({"momentum": 1.0}, ValueError, "momentum=1.0"),
        ({"momentum": -0.1}, ValueError, "momentum=-0.1"),
        ({"momentum": 0.5, "optimizer": "adam"}, ValueError, "belongs to optimizer='sgd'"),
        ({"epochs": 0}, ValueError, "epochs=0"),
        ({"epochs": 1.5}, TypeError, "epochs=1.5"),
        ({"epochs": True}, TypeError, "epochs=True"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"batch_size": 2.0}, TypeError, "batch_size=2.0"),
        ({"clip": 0}, ValueError, "clip=0"),
        ({"clip": -1.0}, ValueError, "clip=-1.0"),
        ({"clip": math.nan}, ValueError, "clip=nan"),
        ({"recorder": 3}, TypeError, "recorder=3"),
        ({"device": "gpu"}, ValueError, "device='gpu'"),
        ({"device": "cuda:77"}, ValueError, "device='cuda:77'"),
        ({"generator": None}, TypeError, "generator=None"),
        ({"generator": 0}, TypeError, "generator=0"),
    ],
)
def test_bad_input_is_answered_with_the_argument_and_the_way_out(wrong, error, says):
    model = net()
    before = weights(model)
    arguments = {"model": model, "data": (X, Y), "batch_size": 8, "generator": cu.seeded(0), **CPU}
    with pytest.raises(error, match=says) as caught:
        fit(**{**arguments, **wrong})
    assert type(caught.value) is error and same(before, weights(model))


def test_a_model_that_holds_nan_is_refused():
    model = net()
    with torch.no_grad():
        model[2].weight[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"NaN or Inf in linear2\.weight"):
        fit(model, data(), generator=cu.seeded(0), **CPU)


def test_data_that_runs_dry_is_refused_in_the_second_epoch():
    once = iter([data(8)])
    with pytest.raises(ValueError, match="no batch in epoch 2"):
        fit(net(), once, epochs=2, **CPU)


def test_the_progress_bar_counts_steps_and_can_be_turned_off(monkeypatch, capsys):
    made = []

    class Bar:
        def __init__(self, **options):
            made.append(self)
            self.options, self.count = options, 0

        def update(self):
            self.count += 1

        def set_postfix_str(self, *_, **__):
            pass

        def close(self):
            self.closed = True

    monkeypatch.setattr("course_utils.training.loop.tqdm", Bar)
    for progress in (True, False):
        fit(
            net(),
            data(),
            epochs=2,
            batch_size=8,
            generator=cu.seeded(0),
            device="cpu",
            progress=progress,
        )
    assert [bar.options["disable"] for bar in made] == [None, True]
    assert made[0].options["total"] == made[0].count == 6 and made[0].closed
    assert capsys.readouterr().out == ""


def test_an_error_of_your_own_keeps_its_type_its_place_and_its_message():
    class Mine(Exception):
        pass

    def fails(*_):
        raise Mine("of my own")

    for arguments in ({"model": Failing(fails)}, {"loss": fails}):
        given = {"model": net(), "data": (X, Y), "batch_size": 8, "generator": cu.seeded(0)}
        for train in (fit, lambda model, **rest: cu.fit_many([model], **rest)):
            with pytest.raises(Mine, match="of my own") as caught:
                train(**{**given, **arguments}, **CPU)
            assert caught.traceback[-1].name == "fails"
            assert "This error comes from" in caught.value.__notes__[0]


class Failing(nn.Linear):
    def __init__(self, fails):
        super().__init__(5, 4)
        self.forward = fails
