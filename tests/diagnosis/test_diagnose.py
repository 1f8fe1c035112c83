"""Diagnose as a whole: the six patients of the clinic, order, wrong arguments."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from patients import data, diagnose, heal, net, passed, six, the
from torch import nn

import course_utils as cu
from course_utils.diagnosis import KINDS
from course_utils.diagnosis.diagnose import RULES
from course_utils.diagnosis.rules.rule import EVERYTHING

CAUSES = {
    "sigmoid": "The activation: sigmoid passes",
    "default": "Linear's default init with ReLU predicts √(1/6) = 0.408",
    "normal": "The weights are too large for relu",
    "double": "the loss applies one again",
    "batch norm": "Batch norm without a skip connection",
    "rnn": "spectral radius 1.3",
}


@pytest.mark.parametrize("name", CAUSES)
def test_each_patient_of_the_clinic_gets_its_cause(name):
    model, batch, kind = six()[name]
    found = diagnose(model, batch)
    assert CAUSES[name] in the(found, kind).cause.replace("0.409", "0.408")
    assert the(found, kind).remedy_runs
    assert found.kinds == ({kind, "shattered"} if name == "batch norm" else {kind})


@pytest.mark.parametrize("name", CAUSES)
def test_the_remedy_runs_as_it_stands_and_heals(name):
    model, batch, kind = six()[name]
    model.zero_grad()
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    healed = heal(model, batch, kind)
    if name == "rnn":  # first of all its gradient is clipped
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in healed.parameters()))
        assert norm <= 1.0 + 1e-5 and "exploding" not in diagnose(healed, batch).kinds
    else:
        assert diagnose(healed, batch).healthy


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", list(six()))
def test_a_gpu_gets_the_findings_of_the_cpu(name):
    model, batch, kind = six()[name]
    here = the(diagnose(model, batch), kind)
    there = the(diagnose(copy.deepcopy(model).cuda(), tuple(t.cuda() for t in batch)), kind)
    assert there.measured == pytest.approx(here.measured, rel=1e-2)
    assert there.predicted == pytest.approx(here.predicted, rel=1e-2)


def test_findings_come_most_urgent_first():
    model = net(40, 100, activation="tanh", init="he", gain=5.0)
    found = [KINDS.index(f.kind) for f in diagnose(model).findings]
    assert len(found) > 1 and found == sorted(found)


def test_a_copy_of_the_model_is_not_needed():
    model = net(6)
    twin = copy.deepcopy(model)
    assert diagnose(model).to_dict() == diagnose(twin).to_dict()
    assert passed(model, data()).depth_slope.factor > 0


linear = nn.Linear(64, 10)
each = nn.CrossEntropyLoss(reduction="none")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((torch.relu, (1, 2), None), TypeError, "nn.Module is expected"),
        ((nn.Linear(2, 2), 3, F.mse_loss), TypeError, r"expected \(x, y\)"),
        ((linear, data(), 3), TypeError, "must be a function"),
        ((linear, data(), "cross_entropy"), TypeError, "must be a function"),
        ((linear, data(), nn.CrossEntropyLoss), TypeError, r"a class: .*nn\.CrossEntropyLoss\(\)"),
        ((linear, data(), None), ValueError, "loss=None"),
        ((linear, data(), lambda o, y: o), ValueError, "expected a scalar"),
        ((linear, data(), each), ValueError, r"\(32,\).*Take the mean"),
        ((linear, iter([data()]), F.cross_entropy), TypeError, r"next\(iter\(loader\)\)"),
    ],
)
def test_a_wrong_argument_is_told_with_the_way_out_and_not_laid_at_the_models_door(
    arguments, error, text
):
    with pytest.raises(error, match=text) as caught:
        cu.diagnose(*arguments)
    assert not getattr(caught.value, "__notes__", [])


def test_a_model_that_cannot_run_raises_its_own_error_with_a_note():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        diagnose(nn.Linear(3, 4))
    assert "(32, 64)" in caught.value.__notes__[0]


def test_rules_silence_only_rules_that_are_asked_after_them():
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    for i, rule in enumerate(RULES):
        assert rule.silences == EVERYTHING or set(rule.silences) <= set(names[i + 1 :])
