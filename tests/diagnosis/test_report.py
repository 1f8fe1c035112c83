"""What a diagnosis says, to whom."""

import json

import pytest
import torch
import torch.nn.functional as F
from patients import data, diagnose, net, the
from torch import nn

import course_utils as cu
from course_utils.diagnosis import KINDS, DiagnosisError


def test_a_diagnosis_speaks_to_terminals_notebooks_and_ci():
    found = diagnose(net(12, activation="sigmoid", init="xavier"))
    finding = the(found, "vanishing")
    as_json = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert as_json["kinds"] == ["vanishing"] and not as_json["healthy"]
    assert as_json["findings"][0]["measured"] == finding.measured
    for text in (str(found), found._repr_html_()):
        assert f"{finding.measured:.3g}" in text and f"{finding.predicted:.3g}" in text
        assert "04 · Differentiate" in text
    assert "<b>vanishing</b>" in found._repr_html_()
    assert repr(found) == "Diagnosis(vanishing)"
    found.raise_if("exploding", "dead")
    with pytest.raises(DiagnosisError, match="VANISHING"):
        found.raise_if("dead", "vanishing")
    with pytest.raises(AssertionError):
        found.raise_if()
    with pytest.raises(ValueError, match="did you mean 'vanishing'"):
        found.raise_if("vanish")


def test_names_are_escaped_in_html():
    model = nn.Sequential(nn.Identity(), nn.Linear(64, 10))
    model.add_module("<b>", nn.Softmax(1))
    assert "<b><" not in diagnose(model)._repr_html_().replace("<p><b>", "")
    assert "&lt;b&gt;" in diagnose(model)._repr_html_()


def test_a_healthy_network_has_one_finding_that_says_so():
    found = diagnose(net(10, 256))
    assert found.healthy and [f.kind for f in found.findings] == ["healthy"]
    found.raise_if()
    assert set(KINDS) >= found.kinds and not found.findings[0].remedy_runs


def test_the_record_holds_the_gradients_of_the_loss_itself():
    model, (x, y) = net(8), data()
    with cu.record(model) as recorder:
        (1e4 * F.cross_entropy(model(x), y)).backward()
    found = diagnose(model, (x, y), loss=lambda o, t: 1e4 * F.cross_entropy(o, t))
    torch.testing.assert_close(found.record.grad_rms, recorder.record.grad_rms, rtol=1e-4, atol=0.0)
