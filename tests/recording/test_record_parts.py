"""Parts of a record, records in a row, files, tables, and the newest row for a logger."""

import json
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import course_utils as cu
from course_utils.recording.gradient_record import PER_LAYER, PER_PARAMETER, PER_STEP


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def trained(net, steps, optimizer=None, seed=0, watch=None):
    g = cu.seeded(seed)
    with cu.record(net, optimizer=optimizer) as recorder:
        for _ in range(steps):
            x, y = torch.randn(8, 4, generator=g), torch.randint(0, 3, (8,), generator=g)
            net.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            if optimizer:
                optimizer.step()
            recorder.step(loss=loss)
            if watch:
                watch(recorder)
    return recorder.record


def test_steps_of_a_record_are_a_record():
    record = trained(model(), 6)
    part = record[2:4]
    assert part.steps == (2, 3) and len(part) == 2 and part.layers == record.layers
    for name in (*PER_LAYER, *PER_PARAMETER, *PER_STEP):
        torch.testing.assert_close(
            getattr(part, name), getattr(record, name)[2:4], rtol=0, atol=0, equal_nan=True
        )
    assert record[-1] == record[5] == record[5:] and record[:] == record
    with pytest.raises(IndexError, match="6 rows"):
        record[6]
    with pytest.raises(TypeError, match="a layer's name"):
        record[1.0]


def test_a_layer_of_a_record_has_its_calls_and_parameters():
    shared = nn.Linear(4, 4)
    record = trained(nn.Sequential(shared, nn.Tanh(), shared, nn.Linear(4, 3)), 2)
    assert record["0"].layers == ("0",)
    assert record["0"].parameters == ("0.weight", "0.bias")
    whole = record["1"]
    assert whole.layers == ("1",) and not whole.parameters
    assert torch.equal(record["0"].grad_rms[:, 0], record.grad_rms[:, record.layers.index("0")])
    with pytest.raises(KeyError, match="did you mean"):
        record["00"]


def test_the_first_nonfinite_stays_with_the_steps_that_hold_it():
    net = model()

    def spoil(recorder):
        if len(recorder.record) == 2:
            with torch.no_grad():
                net[2].weight[0, 0] = math.nan

    record = trained(net, 4, watch=spoil)
    assert record.first_nonfinite.step == 2
    assert record[:2].first_nonfinite is None and record[2:].first_nonfinite.step == 2
    assert (record + record).first_nonfinite == record.first_nonfinite
    assert (record[:2] + record[2:]).first_nonfinite.step == 4


def test_records_one_after_the_other_are_one_with_its_steps_counted_on():
    net = model()
    first, second = trained(net, 3), trained(net, 2, seed=1)
    both = first + second
    assert both.steps == (0, 1, 2, 3, 4)
    assert both[:3] == first
    assert torch.equal(both[3:].grad_rms, second.grad_rms)
    other = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 3))
    mixed = first + trained(other, 1)
    assert mixed.layers == ("0", "1", "2", "3")
    assert mixed.grad_rms[:3, 3].isnan().all() and mixed.grad_nan[:3, 3].eq(0).all()
    assert mixed.grad_rms[3].isfinite().all()


def test_a_file_gives_the_record_back_and_holds_no_pickle(tmp_path):
    net = model()
    record = trained(net, 3, torch.optim.Adam(net.parameters(), lr=0.01))
    file = tmp_path / "run.npz"
    record.save(file)
    assert cu.GradientRecord.load(file) == record
    with np.load(file, allow_pickle=False) as stored:
        assert json.loads(str(stored["words"]))["layers"] == ["0", "1", "2"]
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


def test_an_interrupted_write_leaves_what_was_there(tmp_path, monkeypatch):
    record, file = trained(model(), 2), tmp_path / "run.npz"
    record.save(file)

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        record[:1].save(file)
    assert cu.GradientRecord.load(file) == record
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


def test_a_file_that_holds_no_record_is_refused(tmp_path):
    file = tmp_path / "other.npz"
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="holds no record"):
        cu.GradientRecord.load(file)
    np.savez(file, a=np.ones(2))
    with pytest.raises(ValueError, match="holds no record"):
        cu.GradientRecord.load(file)
    with pytest.raises(FileNotFoundError):
        cu.GradientRecord.load(tmp_path / "none.npz")


def test_the_total_norm_is_what_clipping_measures_and_lr_what_the_optimizer_used():
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1)
    norms = []
    with cu.record(net, optimizer=optimizer) as recorder:
        for _ in range(3):
            net.zero_grad()
            net(torch.randn(8, 4)).square().sum().backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(net.parameters(), math.inf)))
            optimizer.step()
            schedule.step()
    record = recorder.record
    np.testing.assert_allclose(record.total_grad_norm, norms, rtol=1e-6)
    np.testing.assert_allclose(record.lr, [0.5, 0.05, 0.005])
    assert trained(net, 1).lr.isnan().all()


def test_the_newest_row_is_flat_floats_for_any_logger():
    net = nn.Sequential()
    net.add_module("fc one", nn.Linear(4, 4))
    shared = nn.Linear(4, 4)
    net.add_module("a", shared)
    net.add_module("tanh", nn.Tanh())
    net.add_module("b", nn.Sequential(nn.Linear(4, 3)))
    seen = []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    record = trained(net, 3, optimizer, watch=lambda recorder: seen.append(recorder.latest()))
    for i, latest in enumerate(seen):
        assert all(type(value) is float for value in latest.values())
        assert all(re.fullmatch(r"[\w.\-/]+", key) for key in latest)
        assert latest["step"] == i and latest["lr"] == 0.1
        assert latest["loss"] == pytest.approx(float(record.losses[i]))
        assert latest["total_grad_norm"] == pytest.approx(float(record.total_grad_norm[i]))
        for name, column in (("a", 1), ("b.0", 3), ("fc.one", 0)):
            for quantity in ("grad_rms", "output_rms"):
                value = float(getattr(record, quantity)[i, column])
                assert latest[f"{quantity}/{name}"] == pytest.approx(value)
        place = record.parameters.index("b.0.weight")
        assert latest["update_ratio/b.0.weight"] == pytest.approx(
            float(record.update_ratio[i, place])
        )
    json.dumps(seen, allow_nan=False)


def test_what_has_no_value_is_left_out_and_a_nan_is_a_value():
    net = model()
    net[0].requires_grad_(False)
    with cu.record(net) as recorder:
        assert recorder.latest() == {}
        net(torch.randn(8, 4)).sum().backward()
        recorder.step()
        assert "grad_rms/0" not in recorder.latest() and "loss" not in recorder.latest()
        (net(torch.full((8, 4), math.nan)).sum()).backward()
        recorder.step(loss=math.nan)
        assert math.isnan(recorder.latest()["output_rms/0"])
        assert math.isnan(recorder.latest()["loss"])


def test_start_and_close_do_what_the_with_statement_does():
    net = model()
    recorder = cu.record(net).start()
    net(torch.ones(2, 4)).sum().backward()
    recorder.close()
    recorder.close()
    assert len(recorder.record) == 1
    assert not any(module._forward_hooks for module in net.modules())
    with cu.record(net) as other:
        net(torch.ones(2, 4)).sum().backward()
    torch.testing.assert_close(recorder.record.output_rms, other.record.output_rms)


def test_a_record_prints_as_a_table():
    record = trained(model(), 2)
    lines = str(record).splitlines()
    assert lines[0].startswith("2 steps, 3 layers, 4 parameters") and lines[0].endswith("step, 1:")
    assert lines[1].split()[:2] == ["layer", "type"] and len(lines) == 5
    assert lines[2].split()[:2] == ["0", "Linear"]
    assert f"{record.grad_rms[-1, 0]:.3g}" == lines[2].split()[-1]
    long = nn.Sequential(*(nn.Linear(4, 4) for _ in range(40)))
    with cu.record(long) as recorder:
        long(torch.ones(2, 4)).sum().backward()
    assert "… 16 more …" in str(recorder.record)


def test_reading_the_record_in_each_step_puts_each_row_together_once():
    seen = []
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def watch(recorder):
        before = recorder._assembly.assembled
        seen.append(recorder.record)
        assert recorder._assembly.assembled - before == 1
        assert recorder.record == seen[-1] and recorder._assembly.assembled - before == 1

    whole = trained(net, 40, optimizer, watch=watch)
    for steps, record in enumerate(seen, 1):  # as they were when they were read
        assert record == whole[:steps], steps


def test_a_record_read_too_early_stays_and_the_next_one_knows_more():
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    early, counts = [], []
    with cu.record(net, optimizer=optimizer) as recorder:
        for step in range(6):
            optimizer.zero_grad()
            loss = net(torch.ones(3, 4)).square().mean()
            loss.backward()
            optimizer.step()
            early.append(recorder.record)
            recorder.step(loss=math.nan if step == 4 else loss)
            counts.append(len(recorder.record))
            assert recorder.record.losses[-1].isnan() == (step == 4)
    assert counts == list(range(1, 7))
    assert all(record.losses[-1].isnan() for record in early)
    assert not early[3].losses[:-1].isnan().any() and early[4].first_nonfinite is None
    assert recorder.record.first_nonfinite == ("(loss)", "forward", 4)


def test_layers_that_come_and_rows_that_go_are_read_as_at_the_end():
    class Grows(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
            self.used = 3

        def forward(self, x):
            for part in self.parts[-self.used :]:
                x = part(x)
            return x

    for keep in (None, 2):
        net, read = Grows(), []
        with cu.record(net, keep=keep) as recorder:
            for used in (1, 1, 2, 3, 1, 3):
                net.used = used
                net(torch.randn(2, 4)).sum().backward()
                recorder.step()
                read.append(recorder.record)
        assert [len(record.layers) for record in read] == [1, 1, 2, 3, 3, 3]
        assert read[-1] == recorder.record and len(recorder.record) == (keep or 6)
