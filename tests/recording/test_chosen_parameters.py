"""`parameters=` chooses columns, `.grad` is the oracle; loggers take what `latest()` gives."""

import importlib.util
import json
import math
import re

import pytest
import torch
from torch import nn

import course_utils as cu
from course_utils.recording import Recorder


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))


CHOICES = [
    ("*.weight", {"0.weight", "2.weight", "4.weight"}),
    ("2.bias", {"2.bias"}),
    (re.compile(r"^[24]\.b"), {"2.bias", "4.bias"}),
    (["0.bias", "4.*"], {"0.bias", "4.weight", "4.bias"}),
    (lambda name: name.startswith("0"), {"0.weight", "0.bias"}),
]


@pytest.mark.parametrize("with_optimizer", [False, True])
@pytest.mark.parametrize(("parameters", "names"), CHOICES, ids=range(len(CHOICES)))
def test_only_the_chosen_have_columns(parameters, names, with_optimizer):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    given = optimizer if with_optimizer else None
    with cu.record(model, optimizer=given, parameters=parameters) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.ones(5, 3)).sum().backward()
            grads = {n: p.grad.double().square().mean().sqrt().item() for n, p in named(model)}
            total = math.sqrt(sum(p.grad.norm().item() ** 2 for n, p in named(model) if n in names))
            optimizer.step()
            recorder.step()
    record = recorder.record
    assert set(record.parameters) == names and len(record) == 2
    expected = [grads[name] for name in record.parameters]
    assert record.parameter_grad_rms[-1].tolist() == pytest.approx(expected, rel=1e-6)
    assert record.total_grad_norm[-1].item() == pytest.approx(total, rel=1e-6)
    assert bool(record.update_ratio.isfinite().all()) == with_optimizer
    assert record.layers == ("0", "1", "2", "3", "4")


def named(model):
    return list(model.named_parameters())


def test_a_pass_that_reaches_none_of_the_chosen_still_counts():
    model = net()
    with cu.record(model, parameters="0.*") as recorder:
        model[2](torch.ones(2, 4)).sum().backward()
    assert recorder.record.grad_rms.tolist() == [[1.0]]
    assert recorder.record.parameter_grad_rms.isnan().all()


def test_a_layer_that_is_replaced_keeps_its_columns():
    model = net()
    with cu.record(model, parameters=["*.weight"]) as recorder:
        for i in range(2):
            model.zero_grad()
            model(torch.ones(5, 3)).sum().backward()
            recorder.step()
            if i == 0:
                model[2] = nn.Linear(4, 4)
    assert recorder.record.parameters == ("0.weight", "2.weight", "4.weight")
    rms = model[2].weight.grad.double().square().mean().sqrt().item()
    assert recorder.record.parameter_grad_rms[1, 1].item() == pytest.approx(rms, rel=1e-6)


@pytest.mark.parametrize(
    ("parameters", "error", "said"),
    [
        ("5.weight", ValueError, "5.weight"),
        (["0.weight", "0.wieght"], ValueError, "0.weight"),
        (lambda name: False, ValueError, "leaves none to record"),
        (3, TypeError, r"parameters=3 must be None"),
        ([3], TypeError, "parameters holds 3"),
    ],
)
def test_what_it_does_not_understand_is_said(parameters, error, said):
    with pytest.raises(error, match=re.escape(said)):
        Recorder(net(), parameters=parameters)


def train(log):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with cu.record(model, optimizer=optimizer) as recorder:
        for i in range(3):
            optimizer.zero_grad()
            loss = model(torch.ones(5, 3)).square().mean()
            loss.backward()
            optimizer.step()
            recorder.step(loss=loss)
            log(recorder.latest(), i)
    return recorder.record


def test_a_logger_of_json_lines_takes_the_newest_row(tmp_path):
    file = tmp_path / "log.jsonl"

    def log(row, step):
        with open(file, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(row, allow_nan=False) + "\n")

    record = train(log)
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert [row["grad_rms/2"] for row in rows] == record.grad_rms[:, 2].tolist()
    assert [row["loss"] for row in rows] == record.losses.tolist()


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs tensorboard")
def test_tensorboard_takes_the_newest_row(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:

        def log(row, step):
            for key, value in row.items():
                writer.add_scalar(key, value, step)

        record = train(log)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    written = [event.value for event in events.Scalars("grad_rms/2")]
    assert written == pytest.approx(record.grad_rms[:, 2].tolist(), rel=1e-6)


def test_the_newest_row_costs_as_much_as_one_however_many_there_are(monkeypatch):
    from course_utils.recording import open_step

    reads = []
    read = open_step.Packed.read
    monkeypatch.setattr(open_step.Packed, "read", lambda self: reads.append(0) or read(self))
    counts = []

    def log(row, step):
        counts.append(len(reads))
        reads.clear()

    train(log)
    assert len(set(counts)) == 1 and counts[0] <= 3
