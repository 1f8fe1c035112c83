"""The record itself: what it holds, what it derives, how it travels, what it refuses."""

import copy
import dataclasses
import json
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

import course_utils as cu
from course_utils.measuring.reductions import CHUNK
from course_utils.recording import Factor, NonFinite
from course_utils.recording.gradient_record import PER_LAYER
from course_utils.recording.slope import fit_factor


def chain(factors, width=4):
    """A linear chain whose gradient is multiplied by exactly these factors, layer by layer."""
    layers = []
    for factor in factors:
        layer = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            layer.weight.copy_(factor * torch.eye(width))
        layers.append(layer)
    return nn.Sequential(*layers)


def record_of(model, x, **options):
    with cu.record(model, **options) as recorder:
        model(x).square().mean().backward()
    return recorder.record


def full_record():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with cu.record(model, optimizer=optimizer) as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(torch.randn(6, 3)).square().mean()
            loss.backward()
            optimizer.step()
            recorder.step(loss=loss)
    return recorder.record


@settings(deadline=None, max_examples=25)
@given(
    factor=st.floats(0.05, 20.0),
    depth=st.integers(3, 12),
)
def test_decay_and_span_of_a_chain_of_scaled_identities_are_its_factor_and_its_power(factor, depth):
    record = record_of(chain([factor] * depth), torch.ones(2, 4))
    assert record.factor_per_layer() == pytest.approx(factor, rel=1e-4)
    assert record.factor_per_layer().standard_error == pytest.approx(0.0, abs=1e-4 * factor)
    assert record.total_factor() == pytest.approx(factor ** (depth - 1), rel=1e-4)
    assert record.factor_per_layer("output_rms") == pytest.approx(factor, rel=1e-4)
    assert record.total_factor("output_rms") == pytest.approx(factor ** (depth - 1), rel=1e-4)


def test_decay_is_the_regression_of_scipy_with_its_standard_error():
    generator = cu.seeded(0)
    profile = torch.randn(9, generator=generator, dtype=torch.float64).exp()
    line = stats.linregress(range(9), profile.log().numpy())
    factor = fit_factor(profile, [str(i) for i in range(9)], toward_the_input=False)
    assert factor == pytest.approx(math.exp(line.slope), rel=1e-12)
    assert factor.standard_error == pytest.approx(math.exp(line.slope) * line.stderr, rel=1e-12)
    back = fit_factor(profile, [str(i) for i in range(9)], toward_the_input=True)
    assert back == pytest.approx(math.exp(-line.slope), rel=1e-12)
    profile[4] = math.nan  # left out, but it keeps its place
    kept = [i for i in range(9) if i != 4]
    line = stats.linregress(kept, profile[kept].log().numpy())
    factor = fit_factor(profile, [str(i) for i in range(9)], toward_the_input=False)
    assert factor == pytest.approx(math.exp(line.slope), rel=1e-12)
    assert len(factor.layers) == 8


def test_decay_without_an_answer_is_zero_or_nan_and_never_an_error():
    names = ["a", "b", "c"]
    dead = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    assert fit_factor(dead, names, True) == 0.0
    assert math.isnan(fit_factor(torch.zeros(3, dtype=torch.float64), names, True))
    for bad in (math.nan, math.inf):
        assert math.isnan(fit_factor(torch.tensor([1.0, bad, bad]).double(), names, True))
    two = fit_factor(torch.tensor([1.0, 2.0]).double(), names[:2], True)
    assert two == pytest.approx(0.5) and math.isnan(two.standard_error)


def test_decay_counts_layers_with_weights_unless_told_otherwise():
    torch.manual_seed(0)
    model = nn.Sequential(*[m for _ in range(4) for m in (*chain([0.5]), nn.Identity())])
    record = record_of(model, torch.ones(2, 4))
    assert record.trunk == (True, False) * 4
    assert record.factor_per_layer().layers == ("0", "2", "4", "6")
    assert record.factor_per_layer() == pytest.approx(0.5, rel=1e-5)
    assert record.factor_per_layer(layers=["4", "6"]) == pytest.approx(0.5, rel=1e-5)
    assert record.factor_per_layer(layers=[-4, -2]) == pytest.approx(0.5, rel=1e-5)
    assert record.total_factor(layers=["0", "6"]) == pytest.approx(0.125, rel=1e-5)


def test_parametrized_layers_keep_their_row_and_count_as_depth():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    record = record_of(model, torch.ones(2, 4))
    assert record.layers == ("0", "1") and record.trunk == (True, True)
    assert "0.parametrizations.weight.original0" in record.parameters


def test_a_factor_is_a_float_that_survives_copying():
    factor = Factor(0.5, 0.01, ("a", "b"))
    twin = copy.deepcopy(factor)
    assert twin == 0.5 and twin.standard_error == 0.01 and twin.layers == ("a", "b")
    assert f"{factor:.2f}" == "0.50" and "±" in repr(factor)


@pytest.mark.parametrize(
    ("activation", "slope_share"),
    [
        (nn.Tanh(), lambda y: 1 - y**2),
        (nn.Sigmoid(), lambda y: 4 * y * (1 - y)),
        (nn.Softsign(), lambda y: (1 - y.abs()) ** 2),
        (nn.Hardtanh(), lambda y: (y.abs() < 1).double()),
        (nn.Hardsigmoid(), lambda y: ((y > 0) & (y < 1)).double()),
    ],
)
@pytest.mark.parametrize("size", [500, 3 * CHUNK + 5])
def test_saturated_share_is_the_share_of_slopes_below_five_percent(activation, slope_share, size):
    x = 4 * torch.randn(2, size, generator=cu.seeded(0)).requires_grad_()
    with cu.record(activation) as recorder:
        activation(x).sum().backward()
    expected = (slope_share(activation(x.detach().double())) < 0.05).double().mean()
    assert recorder.record.saturated_fraction[0, 0] == pytest.approx(float(expected), abs=1e-5)
    assert 0.05 < float(expected) < 0.95


@pytest.mark.parametrize(
    "shape", [(6, 50), (6, 48), (256, 8), (700, 16), (4, 3, 5, 7), (2, 3 * CHUNK)]
)
def test_dead_share_is_the_share_of_units_that_are_zero_for_the_whole_batch(shape):
    relu = nn.ReLU()
    x = torch.randn(shape, generator=cu.seeded(0))
    x[:, ::3] = -1.0  # dead in a batch of any size
    with cu.record(relu) as recorder:
        relu(x)
    record, y = recorder.record, F.relu(x)
    expected = (y == 0).all(0).double().mean()
    assert record.dead_fraction[0, 0] == pytest.approx(float(expected), abs=1e-12)
    assert record.zero_fraction[0, 0] == pytest.approx(float((y == 0).double().mean()), abs=1e-12)
    assert record.output_mean[0, 0] == pytest.approx(float(y.double().mean()), rel=1e-5)


@pytest.mark.parametrize("size", [1e-44, 1e-25, 0.0, 1.0, 1e20, 1e37])
def test_short_vectors_are_measured_together_each_as_alone(size):
    model = nn.Sequential(nn.Linear(3, 7), nn.LayerNorm(7), nn.Linear(7, 2), nn.PReLU())
    with torch.no_grad():
        for i, parameter in enumerate(p for p in model.parameters() if p.dim() == 1):
            parameter.copy_(size * (1.0 + i + torch.arange(len(parameter))))
    with cu.record(model) as recorder:
        (
            sum((size * p).sum() for p in model.parameters()) + model(torch.ones(2, 3)).sum()
        ).backward()
    for measured, values in (
        (recorder.record.parameter_rms[0], list(model.parameters())),
        (recorder.record.parameter_grad_rms[0], [p.grad for p in model.parameters()]),
    ):
        expected = [float(value.detach().double().square().mean().sqrt()) for value in values]
        assert measured.tolist() == pytest.approx(expected, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_entry_in_a_short_vector_stays_in_its_own_row(bad):
    model = nn.Sequential(nn.Linear(3, 7), nn.Linear(7, 2))
    with torch.no_grad():
        model[0].bias[4] = bad
    with cu.record(model) as recorder:
        model(torch.ones(2, 3)).sum().backward()
    finite = recorder.record.parameter_rms[0].isfinite().tolist()
    assert finite == [True, False, True, True]
    assert str(float(recorder.record.parameter_rms[0, 1])) == str(bad)


def test_sparse_gradients_are_measured_over_the_whole_weight():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 4, sparse=True), nn.Linear(4, 1))
    twin = copy.deepcopy(model)
    twin[0].sparse = False
    index = torch.tensor([[1, 1, 3]])
    twin(index).square().sum().backward()
    with cu.record(model) as recorder:
        model(index).square().sum().backward()
    expected = twin[0].weight.grad.double().square().mean().sqrt()
    assert recorder.record.parameter_grad_rms[0, 0] == pytest.approx(float(expected), rel=1e-5)


def test_lazy_modules_are_recorded_from_their_first_call():
    torch.manual_seed(0)
    model = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 1))
    record = record_of(model, torch.ones(2, 3))
    assert record.layers == ("0", "1")
    assert record.parameter_rms.isfinite().all() and record.parameter_grad_rms.isfinite().all()


def test_every_third_step_is_recorded_and_the_hooks_are_off_in_between():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    hooked, alone = [], []
    for i in range(7):
        alone.append(record_of(model, torch.full((2, 3), float(i))).grad_rms[0])
    model.zero_grad()
    with cu.record(model, every=3) as recorder:
        for i in range(7):
            hooked.append(bool(model[0]._forward_hooks))
            model(torch.full((2, 3), float(i))).square().mean().backward()
            recorder.step(loss=float(i))
    record = recorder.record
    assert hooked == [True, False, False, True, False, False, True]
    assert record.steps == (0, 3, 6) and record.losses.tolist() == [0.0, 3.0, 6.0]
    assert torch.equal(record.grad_rms, torch.stack([alone[0], alone[3], alone[6]]))


def test_every_with_an_optimizer_counts_its_steps_and_keeps_exact_updates():
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    ratios = []
    with cu.record(model, every=2, optimizer=optimizer) as recorder:
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.randn(4, 3)).square().mean().backward()
            before = model.weight.detach().double().clone()
            optimizer.step()
            ratios.append(((model.weight.detach().double() - before).norm() / before.norm()).item())
            recorder.step(loss=1.0)
    record = recorder.record
    assert record.steps == (0, 2, 4)
    assert record.update_ratio[:, 0].tolist() == pytest.approx(ratios[::2], rel=1e-5)


def test_a_module_that_runs_only_sometimes_keeps_its_place_in_forward_order():
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(2, 2) for _ in range(3))

        def forward(self, x, detour):
            h = self.a(x)
            return self.c(self.b(h) if detour else h)

    model = Sometimes()
    with cu.record(model) as recorder:
        for detour in (False, True, False):
            model(torch.ones(1, 2), detour).sum().backward()
            recorder.step()
    record = recorder.record
    assert record.layers == ("a", "b", "c")
    skipped = [False, True, False]
    assert record.grad_rms.isnan().tolist() == [skipped, [False] * 3, skipped]


def test_selected_layers_and_containers():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    x = torch.ones(1, 2)
    assert record_of(model, x).layers == ("0", "1.0", "1.1")
    assert record_of(model, x, layers="all").layers == ("0", "1.0", "1.1", "1", "(model)")
    assert record_of(model, x, layers=["1.0", model[0]]).layers == ("0", "1.0")
    only = record_of(model, x, layers=lambda name, module: isinstance(module, nn.ReLU))
    assert only.layers == ("1.1",) and only.layer_types == ("ReLU",)
    assert record_of(nn.Linear(2, 1), x).layers == ("(model)",)


def test_loss_modules_inside_the_model_have_no_row():
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.loss = nn.Linear(2, 2), nn.MSELoss()

        def forward(self, x):
            return self.loss(self.layer(x), x)

    assert record_of(WithLoss(), torch.ones(1, 2)).layers == ("layer",)


def test_json_round_trip_is_bit_for_bit_with_nan_inf_and_the_first_nonfinite():
    record = full_record()
    broken = dataclasses.replace(
        record,
        losses=torch.tensor([math.nan, math.inf, -math.inf], dtype=torch.float64),
        first_nonfinite=NonFinite("0", "backward", 1),
    )
    for one in (record, broken):
        text = json.dumps(one.to_dict(), allow_nan=False)
        twin = cu.GradientRecord.from_dict(json.loads(text))
        assert twin == one
        assert twin.grad_rms.dtype == torch.float64 and twin.layers == one.layers
    assert record != broken


def test_the_record_is_frozen_float64_and_free_of_graph_and_model():
    record = full_record()
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.layers = ()
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        assert not isinstance(value, nn.Module)
        if isinstance(value, torch.Tensor):
            assert value.dtype == torch.float64 and not value.requires_grad
    for name in PER_LAYER:
        assert getattr(record, name).shape == (3, 5)
    assert record.losses.isfinite().all() and len(record) == 3 and record.depths == (1, 2, 3, 4, 5)
    assert copy.deepcopy(record) == record


def test_to_frame_is_tidy_and_says_what_is_missing(monkeypatch):
    pandas = pytest.importorskip("pandas")
    record = full_record()
    frame = record.to_frame()
    assert isinstance(frame, pandas.DataFrame) and len(frame) == 15
    row = frame[(frame.step == 1) & (frame.layer == "2")].iloc[0]
    assert row.grad_rms == float(record.grad_rms[1, 2])
    assert (row.type, row.depth) == (record.layer_types[2], 3)
    assert np.array_equal(row.loss, record.losses[1].item(), equal_nan=True)
    parameters = record.to_frame("parameters")
    assert len(parameters) == 18
    assert parameters.update_ratio.tolist() == record.update_ratio.reshape(-1).tolist()
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        record.to_frame()


def test_html_shows_every_layer_escaped_and_shortens_long_records():
    model = nn.Sequential()
    model.add_module("<b>", nn.Linear(2, 2))
    assert "&lt;b&gt;" in record_of(model, torch.ones(1, 2))._repr_html_()
    long = record_of(chain([1.0] * 60), torch.ones(1, 4))
    assert long._repr_html_().count("<tr>") < 30 and "36 more" in long._repr_html_()
    assert "60 layers" in repr(long)


def test_record_inside_the_block_holds_the_closed_steps():
    model = nn.Linear(2, 1)
    with cu.record(model) as recorder:
        for i in range(3):
            model(torch.ones(1, 2)).sum().backward()
            recorder.step()
            assert len(recorder.record) == i + 1
    assert recorder.record is recorder.record


MODEL = nn.Linear(2, 1)
ELSEWHERE = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "net"}, TypeError, "model='net'"),
        ({"every": 0}, ValueError, "every=0"),
        ({"every": 1.5}, TypeError, "every=1.5"),
        ({"every": True}, TypeError, "every=True"),
        ({"layers": ["wieght"]}, ValueError, "layers='wieght'"),
        ({"layers": "0"}, ValueError, "['0']"),
        ({"layers": []}, ValueError, "no module"),
        ({"layers": 3}, TypeError, "layers=3"),
        ({"layers": [nn.Linear(1, 1)]}, ValueError, "not a module of this model"),
        ({"optimizer": "adam"}, TypeError, "optimizer='a'"),
        ({"optimizer": 3}, TypeError, "optimizer=3"),
        ({"optimizer": ELSEWHERE}, ValueError, "none of the model's parameters"),
        ({"scaler": 2.0}, TypeError, "scaler=2.0"),
    ],
)
def test_bad_arguments_are_named_with_a_way_out(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        cu.record(**{"model": MODEL, **arguments})


def test_misuse_of_a_recorder_is_a_clear_error():
    recorder = cu.record(MODEL)
    with pytest.raises(RuntimeError, match="with record"):
        _ = recorder.record
    with pytest.raises(RuntimeError, match="inside"):
        recorder.step()
    with recorder:
        with pytest.raises(ValueError, match=re.escape("shape (2,)")):
            recorder.step(loss=torch.zeros(2))
        with pytest.raises(TypeError, match="loss='x'"):
            recorder.step(loss="x")
        MODEL(torch.ones(1, 2)).sum().backward()
    with pytest.raises(RuntimeError, match="used before"), recorder:
        pass
    with pytest.raises(ValueError, match="scripted"):
        cu.record(torch.jit.script(nn.Linear(2, 1)))


def test_bad_questions_to_a_record_are_named():
    record = full_record()
    for call in (
        lambda: record.factor_per_layer("grad_rsm"),
        lambda: record.factor_per_layer(layers=["9"]),
        lambda: record.factor_per_layer(layers=[7]),
        lambda: record.factor_per_layer(step=3),
        lambda: record.to_frame("steps"),
        lambda: cu.GradientRecord.from_dict({"layers": []}),
        lambda: cu.GradientRecord.from_dict({**record.to_dict(), "losses": {"values": ["x"]}}),
    ):
        with pytest.raises(ValueError):
            call()
