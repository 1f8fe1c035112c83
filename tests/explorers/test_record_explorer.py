"""The explorer of a record: every setting shows what the record holds, and a long record fits."""

import json
import math
import time

import numpy as np
import pytest
import torch
from explorer_readings import mark, readouts
from torch import nn

import course_utils as cu
from course_utils.explorers import GridExplorer, record_explorer


def recorded(depth=5, steps=6, loss=True):
    torch.manual_seed(0)
    net = nn.Sequential(*[part for _ in range(depth) for part in (nn.Linear(4, 4), nn.ReLU())])
    with cu.record(net) as recorder:
        for i in range(steps):
            net.zero_grad()
            out = net(torch.randn(8, 4)).square().sum() * (i + 1)
            out.backward()
            recorder.step(loss=out if loss else None)
    return recorder.record


def test_every_setting_shows_what_the_record_holds():
    record = recorded()
    explorer = record_explorer(record)
    columns = record.columns()
    for quantity, name in (("RMS of ∂L/∂h", "grad_rms"), ("RMS of output h", "output_rms")):
        explorer.quantity = quantity
        for row, step in enumerate(record.steps):
            explorer.step = step
            values = getattr(record, name)[row, columns].numpy()
            x, y = mark(explorer, 0, "at the step chosen")
            assert x.tolist() == [1, 2, 3, 4, 5]
            np.testing.assert_allclose(y, values, rtol=1e-6)
            x, y = mark(explorer, 1, "the step chosen")
            assert (x[0], y[0]) == pytest.approx((step, values[0]), rel=1e-6)
            x, y = mark(explorer, 2, "the step chosen")
            assert (x[0], y[0]) == pytest.approx((step, record.losses[row].item()), rel=1e-6)
            first, last, change, loss = readouts(explorer)
            assert [first, last, loss] == [values[0], values[-1], record.losses[row].item()]
            assert change == pytest.approx(values[0] / values[-1])


def test_without_a_loss_there_is_no_panel_of_it():
    explorer = record_explorer(recorded(loss=False))
    assert len(explorer._packed.spec["panels"]) == 2
    assert math.isnan(readouts(explorer)[-1])


def long_record(layers, steps, scale=1.0):
    record = recorded(2, 2)
    values = torch.rand(steps, layers, dtype=torch.float64) * scale
    data = record.to_dict()
    plain = {"shape": [steps, layers], "values": values.flatten().tolist()}
    for name, value in data.items():
        if isinstance(value, dict) and len(value["shape"]) == 2:
            count = layers if value["shape"][1] == len(record.layers) else 0
            size = {"shape": [steps, count], "values": []}
            data[name] = plain if count else size
        elif isinstance(value, dict):
            data[name] = {"shape": [steps], "values": [1.0] * steps}
    data |= {
        "layers": [f"l.{i}" for i in range(layers)],
        "layer_types": ["Linear"] * layers,
        "trunk": [True] * layers,
        "steps": list(range(steps)),
        "parameters": [],
        "first_nonfinite": None,
    }
    return cu.GradientRecord.from_dict(data)


@pytest.mark.parametrize(("layers", "steps", "scale"), [(300, 1000, 1.0), (1000, 300, 1e-60)])
def test_a_long_record_fits_and_says_that_steps_are_left_out(layers, steps, scale):
    record = long_record(layers, steps, scale)
    start = time.process_time()
    explorer = record_explorer(record)
    assert time.process_time() - start < 2
    assert explorer.nbytes <= 1_000_000
    assert "of its" in explorer._spec["title"] and str(steps) in explorer._spec["title"]
    kept = explorer._packed.values["step"]
    assert 10 < len(kept) < steps
    explorer.step = kept[3]
    _, y = mark(explorer, 0, "at the step chosen")
    np.testing.assert_allclose(y, record.grad_rms[kept[3]].numpy(), rtol=1e-6)
    json.dumps(explorer._spec, allow_nan=False)


def test_what_it_cannot_show_is_said():
    with pytest.raises(TypeError, match=r"record=.*GradientRecord"):
        record_explorer([1, 2])
    with pytest.raises(ValueError, match=r"1 steps.*at least two steps"):
        record_explorer(recorded(steps=1))


def test_a_page_without_scripts_shows_a_picture():
    explorer = record_explorer(recorded())
    data, _ = explorer._repr_mimebundle_()
    assert "image/png" in data and isinstance(explorer, GridExplorer)
