"""The flight recorder: stops before the weights move, keeps the step, and runs it again."""

import copy
import gc
import json
import math
import os
import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import course_utils as cu
from course_utils.recording import crash_folder, decoded, read_folder
from course_utils.recording.nests_on_disk import NotKept, encoded

from .test_ranks import run

BREAKS = 3


class Root(nn.Module):
    """√x, whose slope at 0 is Inf."""

    def forward(self, x):
        return x.sqrt()


class Net(nn.Module):
    """Everything that makes a step depend on more than its weights."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.drop, self.last = nn.Dropout(0.4), nn.Linear(6, 3)

    def forward(self, x, *, scale=None):
        h = self.drop(torch.tanh(self.norm(self.first(x))))
        if scale is not None:
            h = h * scale["by"]
        self.mask = h.detach().clone()
        return self.last(h).log_softmax(-1)


def batches(n=6):
    torch.manual_seed(1)
    data = [(torch.randn(8, 4), torch.randint(0, 3, (8,))) for _ in range(n)]
    for x, _ in data[BREAKS:]:
        x[2, 1] = math.inf
    return data


def net(seed=0):
    torch.manual_seed(seed)
    return Net()


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def train(model, optimizer, data, recorder=None, *, notes=True):
    """A loop; what the model and the random state were at the start of each step."""
    states = []
    for x, y in data:
        states.append((copy.deepcopy(model.state_dict()), torch.get_rng_state()))
        optimizer.zero_grad()
        loss = F.nll_loss(model(x, scale={"by": torch.tensor(0.5)}), y)
        if recorder is not None and notes:
            recorder.note(batch=(x, y), loss=loss)
        loss.backward()
        optimizer.step()
        if recorder is not None:
            recorder.step(loss, batch=(x, y))
    return states


def same(state, other):
    assert state.keys() == other.keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, other[name]), name


def in_folder(folder):
    saved = read_folder(folder)
    both = saved.state("parameters") | saved.state("buffers")
    return {name: decoded(item, saved.arrays) for name, item in both.items()}


@pytest.mark.parametrize("given", [True, False])
def test_it_stops_before_the_weights_move_and_keeps_what_the_step_began_with(tmp_path, given):
    data, model, twin = batches(), net(), net()
    optimizer = sgd(model)
    torch.manual_seed(7)
    states = train(twin, sgd(twin), data)
    torch.manual_seed(7)
    with (
        pytest.raises(FloatingPointError, match=r"forward pass.* layer first \(step 3\)") as raised,
        cu.record(
            model,
            optimizer=optimizer if given else None,
            on_nonfinite="raise",
            save=tmp_path / "crash",
        ) as recorder,
    ):
        train(model, optimizer, data, recorder)
    before, generator = states[BREAKS]
    assert recorder.folder == tmp_path / "crash" and str(recorder.folder) in str(raised.value)
    same(in_folder(recorder.folder), before)
    saved = read_folder(recorder.folder)
    assert torch.equal(decoded(saved.words["generators"], saved.arrays)["cpu"], generator)
    if given:  # the buffers have seen the batch, the weights have not moved
        names = [name for name, _ in model.named_parameters()]
        same({n: model.state_dict()[n] for n in names}, {n: before[n] for n in names})
    assert ("has not stepped" in str(raised.value)) or not given
    kept = cu.GradientRecord.load(recorder.folder / "record.npz")
    assert kept == recorder.record and kept.steps == (0, 1, 2, 3)
    assert kept.first_nonfinite == ("first", "forward", BREAKS)
    assert np.load(recorder.folder / "arrays.npz", allow_pickle=False).files
    assert not [path for path in tmp_path.iterdir() if path != recorder.folder]


def test_replay_names_the_operation_with_the_same_mask_and_leaves_the_model_alone(tmp_path):
    data, model = batches(), net()
    optimizer = sgd(model)
    live = copy.deepcopy(model)
    with (
        pytest.raises(FloatingPointError),
        cu.record(
            model, optimizer=optimizer, on_nonfinite="raise", save=tmp_path / "c"
        ) as recorder,
    ):
        train(model, optimizer, data, recorder)
    other = net(seed=5).eval()
    other.last.weight.requires_grad_(False)
    other.norm.weight.grad = torch.ones(6)
    before, generator = copy.deepcopy(other.state_dict()), torch.get_rng_state()
    masks = []
    source = cu.replay(
        recorder.folder,
        other,
        lambda o, y: (
            masks.append(
                (o.isnan().any()),
            ),
            F.nll_loss(o, y),
        )[1],
    )
    live.load_state_dict(in_folder(recorder.folder))
    expected = cu.first_nonfinite(live, data[BREAKS], F.nll_loss)
    assert source == expected and source.layer == "(input)"
    same(other.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not other.training and not other.norm.training and not hasattr(other, "mask")
    assert not other.last.weight.requires_grad and torch.equal(
        other.norm.weight.grad, torch.ones(6)
    )


def test_dropout_replays_with_the_same_mask(tmp_path):
    masks = []

    class Masks(Net):
        def forward(self, x, **kwargs):
            output = super().forward(x, **kwargs)
            masks.append(self.mask == 0)
            return output

    model, data = Masks(), batches()[:BREAKS]
    with (
        pytest.raises(FloatingPointError, match=r"in the loss.*step 2"),
        cu.record(model, on_nonfinite="raise", save=tmp_path / "c") as recorder,
    ):
        for step, (x, y) in enumerate(data):
            loss = F.nll_loss(model(x), y) * (math.nan if step == 2 else 1.0)
            loss.backward()
            recorder.step(loss, batch=(x, y))
    seen = masks[-1]
    torch.rand(7)
    assert cu.replay(tmp_path / "c", Masks(), F.nll_loss) is None  # it was not in this loss
    assert torch.equal(masks[-1], seen) and 0 < seen.sum() < seen.numel() and len(masks) == 4
    assert not torch.equal(masks[1], seen)


def test_the_operation_of_the_backward_pass_is_that_of_first_nonfinite_on_the_live_model(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Root(), nn.Linear(4, 1))
    nn.init.constant_(model[0].bias, 5.0)
    x, optimizer = torch.ones(2, 3), torch.optim.SGD(model.parameters(), lr=0.01)
    folder = tmp_path / "crash"
    with (
        pytest.raises(FloatingPointError, match=r"backward pass.* output of 1 \(step 2\)"),
        cu.record(model, optimizer=optimizer, on_nonfinite="raise", save=folder) as recorder,
    ):
        for step in range(5):
            if step == 2:
                with torch.no_grad():
                    model[0].bias.fill_(-100)
            optimizer.zero_grad()
            model(x).sum().backward()
            optimizer.step()
            recorder.step()
    source = cu.replay(folder, copy.deepcopy(model), torch.sum)
    assert source == cu.first_nonfinite(model, x, torch.sum) == ("2", "backward", "sqrt", "Inf")


def frozen_norm(model):
    model.norm.eval()
    return model


def test_modes_and_trained_parameters_are_those_of_the_run(tmp_path):
    model = frozen_norm(net())
    with torch.no_grad():
        model.norm.running_var.fill_(-1.0)  # NaN in eval mode only
    model.first.weight.requires_grad_(False)
    x, y = batches()[0]
    with (
        pytest.raises(FloatingPointError, match="layer norm"),
        cu.record(model, on_nonfinite="raise", save=tmp_path / "c") as recorder,
    ):
        loss = F.nll_loss(model(x), y)
        loss.backward()
        recorder.step(loss, batch=(x, y))
    assert cu.replay(tmp_path / "c", net(), F.nll_loss)[:2] == ("norm", "forward")
    assert cu.first_nonfinite(net(), (x, y), F.nll_loss) is None


# What is looked at, and what passes


def one_step(loss_of, *, model=None, given=True, x=None, note=False, clip=None, **options):
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = torch.randn(5, 3) if x is None else x
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options |= {"optimizer": optimizer} if given else {}
    before = copy.deepcopy(model.state_dict())
    try:
        with cu.record(model, on_nonfinite="raise", **options) as recorder:
            for _ in range(2):
                optimizer.zero_grad()
                loss = loss_of(model(x))
                if note:
                    recorder.note(loss=loss)
                if loss.requires_grad:
                    loss.backward()
                if clip:
                    clip(model)
                optimizer.step()
                recorder.step(loss)
    finally:
        moved = any(not torch.equal(p, before[n]) for n, p in model.state_dict().items())
    return moved


class Clamped(torch.autograd.Function):
    """Finite forward, and a gradient that is NaN at its input only."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * math.nan


def spoiled(model):
    model[0].bias.grad[1] = math.nan


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize(
    ("loss_of", "options", "said"),
    [
        (lambda o: o.sum() * math.nan, {"note": True}, "in the loss"),
        (lambda o: Clamped.apply(o).sum(), {}, "in the gradient at the output of 2"),
        (lambda o: o.sum(), {"x": torch.full((2, 3), math.inf)}, "output of layer 0"),
    ],
)
def test_the_message_names_pass_and_layer(loss_of, options, said, given):
    with pytest.raises(FloatingPointError, match=rf"{said}.*\(step 0\)"):
        one_step(loss_of, given=given, **options)


def test_what_the_optimizer_is_about_to_use_is_looked_at():
    with pytest.raises(FloatingPointError, match=r"gradient of the parameter 0\.bias"):
        one_step(torch.sum, clip=spoiled)


def test_parameters_are_named_where_they_hold_it_already():
    model = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        model[0].bias[0] = math.nan
    for given in (True, False):
        with pytest.raises(FloatingPointError, match=r"parameter 0\.bias, before the step"):
            one_step(torch.sum, model=model, given=given)


def test_a_loss_told_after_the_step_stops_there_and_says_that_the_weights_have_moved(tmp_path):
    def loss_of(o):
        return o.sum() + math.inf

    with pytest.raises(FloatingPointError, match=r"in the loss.*have moved.*behind the step"):
        one_step(loss_of, save=tmp_path / "c")
    assert read_folder(tmp_path / "c").words["weights"] == "after the step"
    with pytest.raises(FloatingPointError, match=r"in the loss.*not stepped"):
        one_step(loss_of, save=tmp_path / "d", note=True)
    assert read_folder(tmp_path / "d").words["weights"] == "before the step"


class Masked(nn.Module):
    def forward(self, x):
        return x.masked_fill(torch.tensor([True, False, False]), -math.inf)


def test_a_mask_of_minus_inf_passes_and_a_loss_that_it_breaks_does_not():
    model = nn.Sequential(nn.Linear(3, 3), Masked())
    assert one_step(lambda o: o.softmax(-1).square().sum(), model=model)
    with pytest.raises(FloatingPointError, match="output of layer 1"):
        one_step(lambda o: o.exp().log().sum(), model=model, note=True)


def test_a_healthy_run_and_steps_that_are_not_recorded_pass():
    assert one_step(torch.sum) and one_step(torch.sum, given=False)
    model, data = net(), batches()
    optimizer = sgd(model)
    with cu.record(model, optimizer=optimizer, on_nonfinite="raise", every=100) as recorder:
        train(model, optimizer, data, recorder)
    assert recorder.record.steps == (0,)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("ends", ["step", "nothing"])
def test_a_scaler_that_finds_its_factor_is_not_stopped(told, given, ends):
    if not told and not given:
        pytest.skip("without optimizer= the scaler has to be handed over")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    options = {"optimizer": optimizer} if given else {}
    options |= {"scaler": scaler} if told else {}

    def step(recorder, spoil=1.0):
        optimizer.zero_grad()
        loss = model(torch.ones(5, 3) * spoil).square().sum() * 10
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if ends == "step":
            recorder.step(loss)
        elif not given:
            recorder.step()

    before = model[0].weight.clone()
    with cu.record(model, on_nonfinite="raise", **options) as recorder:
        for _ in range(12):
            step(recorder)
    assert scaler.get_scale() < 2.0**126 and not torch.equal(model[0].weight, before)
    with (
        pytest.raises(FloatingPointError, match="forward pass, in the output of layer 0"),
        cu.record(model, on_nonfinite="raise", **options) as recorder,
    ):
        step(recorder, math.inf)
        step(recorder)


def test_gradients_that_no_factor_mends_stop_the_run_of_a_scaler():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    options = {"optimizer": optimizer, "scaler": scaler}
    with (
        pytest.raises(FloatingPointError, match=r"output of 1 \(step 6\)"),
        cu.record(model, on_nonfinite="raise", **options) as recorder,
    ):
        for _ in range(20):
            optimizer.zero_grad()
            loss = Clamped.apply(model(torch.ones(5, 3))).sum()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            recorder.step(loss)


def test_a_row_closed_before_the_optimizer_steps_stops_at_its_step(tmp_path):
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), Root())
    nn.init.constant_(model[0].bias, -50.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.ones(5, 3), torch.zeros(5, 2)
    with cu.record(
        model, optimizer=optimizer, on_nonfinite="raise", save=tmp_path / "c"
    ) as recorder:
        loss = F.mse_loss(model(x), y - 1)
        loss.backward()
        recorder.step(loss, batch=(x, y - 1))
        with pytest.raises(FloatingPointError, match="output of 1"):
            optimizer.step()
    assert cu.replay(tmp_path / "c", model, F.mse_loss) == ("2", "backward", "sqrt", "Inf")


def test_two_optimizers_and_one_in_the_backward_pass_keep_the_weights_of_the_start(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (model[2], model[0])]
    before = copy.deepcopy(model.state_dict())
    with (
        pytest.raises(FloatingPointError, match=r"gradient of the parameter 0\.bias"),
        cu.record(model, optimizer=optimizers, on_nonfinite="raise", save=tmp_path / "c"),
    ):
        model(torch.ones(2, 3)).sum().backward()
        optimizers[0].step()
        spoiled(model)
        optimizers[1].step()
    same(in_folder(tmp_path / "c"), before)
    assert not torch.equal(model[2].weight, before["2.weight"])

    model.load_state_dict(before)
    own = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}
    for parameter in own:
        parameter.register_post_accumulate_grad_hook(lambda p: (own[p].step(), own[p].zero_grad()))
    options = {"optimizer": list(own.values()), "on_nonfinite": "raise", "save": tmp_path / "d"}
    with (
        pytest.raises(FloatingPointError, match="output of 2"),
        cu.record(model, **options),
    ):
        Clamped.apply(model(torch.ones(2, 3))).sum().backward()
    same(in_folder(tmp_path / "d"), before)


# Rows


def test_the_rows_that_stay_are_the_tail_of_a_full_record():
    data = batches(6)[:BREAKS] * 4
    models = net(), net()
    records = []
    for model, keep in zip(models, (None, 5), strict=True):
        optimizer = sgd(model)
        torch.manual_seed(3)
        with cu.record(model, optimizer=optimizer, keep=keep) as recorder:
            train(model, optimizer, data, recorder)
            inside = recorder.record
        assert recorder.record == inside
        records.append(recorder.record)
    full, tail = records
    assert len(full) == 12 and len(tail) == 5 and tail.steps == (7, 8, 9, 10, 11)
    assert tail == full[-5:] and torch.equal(tail.losses, full.losses[-5:])
    same(models[0].state_dict(), models[1].state_dict())


def test_memory_is_flat_with_keep():
    model, x = nn.Sequential(nn.Linear(2, 2), nn.Tanh()), torch.ones(1, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def steps(n):
        for _ in range(n):
            optimizer.zero_grad()
            model(x).sum().backward()
            optimizer.step()
            recorder.step()

    growth = {}
    for keep in (10, None):
        with cu.record(model, optimizer=optimizer, on_nonfinite="raise", keep=keep) as recorder:
            tracemalloc.start()
            try:
                sizes = []
                for _ in range(2):
                    steps(200)
                    gc.collect()
                    sizes.append(tracemalloc.get_traced_memory()[0])
            finally:
                tracemalloc.stop()
            assert len(recorder.record) == (keep or 400) and recorder.latest()["step"] == 399
        growth[keep] = sizes[1] - sizes[0]
    assert growth[10] < 200 * 100 and growth[None] > 200 * 500  # bytes: a row takes a thousand


def test_in_the_usual_mode_nothing_is_looked_at_or_copied(monkeypatch):
    def never(*args):
        raise AssertionError("the flight recorder ran")

    monkeypatch.setattr("course_utils.recording.recorder.first_bad", never)
    monkeypatch.setattr("course_utils.recording.flight.Flight.begin", never)
    model, data = net(), batches()
    optimizer = sgd(model)
    with cu.record(model, optimizer=optimizer) as recorder:
        train(model, optimizer, data, recorder)
    assert recorder.folder is None and len(recorder.record) == 6


# The folder


def crash(folder, model=None):
    model = model or nn.Sequential(nn.Linear(3, 2))
    with cu.record(model, on_nonfinite="raise", save=folder) as recorder:
        try:
            loss = model(torch.full((2, 3), math.nan)).sum()
            loss.backward()
            recorder.step(loss)
        except FloatingPointError as error:
            return error, recorder.folder
    raise AssertionError("it did not stop")


def everything(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine.txt").write_text("kept")
    error, folder = crash(tmp_path / "runs")
    assert folder == tmp_path / "runs-2" and str(folder) in str(error)
    assert crash(tmp_path / "runs")[1] == tmp_path / "runs-3"
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for name in ("empty", "broken"):
        assert crash(tmp_path / name)[1] == tmp_path / f"{name}-2"
    assert everything(tmp_path / "runs") == {
        (tmp_path / "x").relative_to(tmp_path).with_name("mine.txt"): b"kept"
    }
    assert crash(tmp_path / "a" / "b")[1] == tmp_path / "a" / "b"


@pytest.mark.parametrize("where", ["savez", "dump", "rename", "save"])
@pytest.mark.parametrize("kind", [OSError, MemoryError, KeyboardInterrupt])
def test_an_interrupted_write_loses_nothing_and_leaves_nothing(tmp_path, monkeypatch, where, kind):
    crash(tmp_path / "c")
    before = everything(tmp_path)

    def fails(*args, **kwargs):
        for thing in args:
            if hasattr(thing, "write"):
                thing.write("half" if where == "dump" else b"half")
        raise kind(28, "No space left on device")

    place = {"savez": np, "dump": json, "rename": os, "save": cu.GradientRecord}[where]
    monkeypatch.setattr(place, where, fails)
    if kind is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            crash(tmp_path / "c")
    else:
        error, folder = crash(tmp_path / "c")
        assert folder is None and "output of layer 0" in str(error)
        assert "No space left on device" in error.__notes__[0] and "Saved" not in str(error)
        assert "nothing was saved" in error.__notes__[0].lower()
    monkeypatch.undo()
    assert everything(tmp_path) == before and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made_fails_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        crash(tmp_path / "file" / "inside" / "c")


def test_a_half_written_folder_does_not_look_whole(tmp_path):
    crash(tmp_path / "c")
    os.remove(tmp_path / "c" / crash_folder.WORDS)
    with pytest.raises(ValueError, match="holds no step"):
        cu.replay(tmp_path / "c", nn.Sequential(nn.Linear(3, 2)), torch.sum)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.5, dtype=torch.bfloat16),
        torch.randn(3, 4).to(torch.float8_e4m3fn),
        torch.randn(2, 3, dtype=torch.complex64).conj(),
        torch.randn(4, 3).t()[1:],
        torch.zeros(0, 3),
        torch.tensor([True, False]),
        torch.tensor([math.nan, -math.inf, 0.0], dtype=torch.float16),
        torch.randn(2, requires_grad=True),
        torch.tensor([1, 65535], dtype=torch.uint16),
    ],
    ids=lambda t: f"{t.dtype} {tuple(t.shape)}",
)
def test_tensors_come_back_bit_by_bit(tensor):
    arrays = {}
    item = json.loads(json.dumps(encoded(tensor, arrays)))
    again = decoded(item, arrays)
    assert again.dtype is tensor.dtype and again.shape == tensor.shape
    assert again.requires_grad == tensor.requires_grad
    plain = [t.detach().resolve_conj().contiguous().reshape(-1) for t in (again, tensor)]
    assert plain[0].view(torch.uint8).tolist() == plain[1].view(torch.uint8).tolist()


def test_nests_come_back():
    packed = nn.utils.rnn.pack_sequence([torch.ones(3, 2), torch.zeros(1, 2)])
    nest = [
        (1, 2.5, math.inf),
        {"a": None, 3: "x", True: packed},
        torch.return_types.max((torch.ones(2), torch.tensor([0, 1]))),
    ]
    arrays = {}
    again = decoded(json.loads(json.dumps(encoded(nest, arrays), allow_nan=False)), arrays)
    assert again[0] == nest[0] and list(again[1]) == list(nest[1])
    assert torch.equal(again[1][True].data, packed.data)
    assert torch.equal(again[2][1], nest[2].indices)
    with pytest.raises(NotKept, match="generator"):
        decoded(encoded({"a": [1, (i for i in ())]}, arrays), arrays)


# Errors


def test_what_does_not_fit_is_named(tmp_path):
    data, model = batches(), net()
    optimizer = sgd(model)
    with (
        pytest.raises(FloatingPointError, match="has no targets"),
        cu.record(
            model, optimizer=optimizer, on_nonfinite="raise", save=tmp_path / "c"
        ) as recorder,
    ):
        train(model, optimizer, data, recorder, notes=False)
    folder = recorder.folder
    with pytest.raises(ValueError, match=r"no targets.*recorder\.note"):
        cu.replay(folder, net(), F.nll_loss)
    assert cu.replay(folder, net(), lambda o: o.sum()).layer == "(input)"
    wider, typed, more, less = net(), net().double(), net(), net()
    wider.last = nn.Linear(6, 5)
    more.extra, less.norm = nn.Linear(1, 1), nn.Identity()
    for other, said in (
        (wider, r"parameter 'last\.weight' is \(5, 6\) float32, in the folder \(3, 6\)"),
        (typed, r"'first\.weight' is \(6, 4\) float64, in the folder \(6, 4\) float32"),
        (more, r"only the model has a parameter 'extra\.weight'"),
        (less, r"only the folder has a parameter 'norm\.weight'"),
    ):
        with pytest.raises(ValueError, match=said):
            cu.replay(folder, other, F.nll_loss)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        cu.replay(tmp_path / "nowhere", net(), F.nll_loss)
    with pytest.raises(ValueError, match="holds no step"):
        cu.replay(tmp_path, net(), F.nll_loss)
    with pytest.raises(TypeError, match="None where no step failed"):
        cu.replay(None, net(), F.nll_loss)
    with pytest.raises(TypeError, match=r"nn\.Module"):
        cu.replay(folder, "net", F.nll_loss)


def test_a_model_that_is_not_called_itself_needs_its_batch_noted(tmp_path):
    for noted in (False, True):
        folder = tmp_path / str(noted)
        model = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
        x = torch.full((2, 3), math.nan)
        with (
            pytest.raises(FloatingPointError),
            cu.record(model, on_nonfinite="raise", save=folder) as recorder,
        ):
            model[1](model[0](x)).sum().backward()
            recorder.step(batch=x if noted else None)
        if noted:
            assert cu.replay(folder, model, torch.sum).layer == "(input)"
        else:
            with pytest.raises(ValueError, match="not called itself"):
                cu.replay(folder, model, torch.sum)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"on_nonfinite": "warn"}, ValueError, "on_nonfinite='warn'"),
        ({"save": "here"}, ValueError, "add on_nonfinite='raise'"),
        ({"on_nonfinite": "raise", "save": 3}, TypeError, "save=3"),
        ({"on_nonfinite": "raise", "save": "/"}, ValueError, "must name a folder"),
        ({"keep": 0}, ValueError, "keep=0"),
        ({"keep": 2.5}, TypeError, "keep=2.5"),
    ],
)
def test_arguments_are_checked(options, error, said):
    with pytest.raises(error, match=said):
        cu.record(nn.Linear(1, 1), **options)
    with pytest.raises(RuntimeError, match="belongs inside"):
        cu.record(nn.Linear(1, 1)).note(loss=1.0)


# Processes

STOPS = """
import json, pathlib, sys
import torch, torch.distributed as dist
from torch import nn
import course_utils as cu

rank, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
torch.manual_seed(0)
ddp = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(3, 4), nn.Tanh()))
optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1)
said = None
recorder = cu.record(ddp, optimizer=optimizer, on_nonfinite="raise", save=folder / "crash").start()
try:
    for step in range(4):
        x = torch.full((2, 3), float("nan") if step == 2 and rank == 1 else 1.0)
        optimizer.zero_grad()
        ddp(x).sum().backward()
        optimizer.step()
except FloatingPointError as error:
    said = str(error)
recorder.close()
alone = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
source = cu.replay(recorder.folder, alone, torch.sum)
print(json.dumps([said, str(recorder.folder), source]))
"""


def test_each_process_names_its_rank_and_keeps_its_own_step(tmp_path):
    said = run(STOPS, tmp_path, 90)
    for rank, (message, folder, source) in enumerate(said):
        assert f"(step 2, rank {rank})" in message
        assert folder == str(tmp_path / "crash" / f"rank{rank}")
        assert source == (["(input)", "forward", "data", "NaN"] if rank else None)
    assert "forward pass" in said[1][0] and "gradient of the parameter" in said[0][0]
    with pytest.raises(ValueError, match="rank0, rank1"):
        cu.replay(tmp_path / "crash", nn.Linear(1, 1), torch.sum)
