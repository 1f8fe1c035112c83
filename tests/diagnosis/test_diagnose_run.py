"""What a diagnosis of a run says where a record is short or lacks something; its rules: the zoo."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import course_utils as cu


def trained(steps=30, lr=0.1, given=True, optimizer_given=True, spoiled=None):
    net = cu.mlp(3, 16, inputs=4, generator=cu.seeded(0))
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    generator = cu.seeded(1)
    with cu.record(net, optimizer=optimizer if optimizer_given else None) as recorder:
        for i in range(steps):
            x = torch.randn(32, 4, generator=generator)
            y = (x[:, 0] > 0).long()
            if i == spoiled:
                x[0, 0] = torch.nan
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            if given:
                recorder.step(loss=loss)
            elif not optimizer_given:
                recorder.step()
    return recorder.record


def test_a_healthy_run_says_how_far_the_loss_came():
    found = cu.diagnose_run(trained())
    assert found.healthy and not found.notes and found.findings[0].step is None
    assert "The loss went from" in found.findings[0].cause
    found.raise_if()


def test_a_finding_says_when_it_began_in_text_html_and_json():
    found = cu.diagnose_run(trained(spoiled=17))
    assert found.kinds == {"non_finite"} and found.findings[0].step == 17
    assert "began      at step 17" in str(found) and "at step 17" in found._repr_html_()
    as_json = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert as_json["findings"][0]["step"] == 17
    with pytest.raises(AssertionError, match="NON_FINITE"):
        found.raise_if("non_finite")


def test_what_the_record_lacks_is_said():
    without_loss = cu.diagnose_run(trained(given=False))
    assert without_loss.healthy and "loss is not in the record" in without_loss.notes[0]
    without_updates = cu.diagnose_run(trained(optimizer_given=False))
    assert without_updates.healthy and "updates are not in the record" in without_updates.notes[0]


@pytest.mark.parametrize("steps", [1, 3, 9])
def test_a_few_steps_are_no_run(steps):
    found = cu.diagnose_run(trained(steps))
    assert found.kinds == {"undecided"} and not found.healthy
    assert f"{steps} row" in found.undecided[0]
    assert not any("undecided" in note for note in found.notes)


def test_a_record_without_rows_is_undecided_and_a_short_one_says_what_was_left_out():
    record = trained(12)
    empty = {
        name: getattr(record, name)[:0]
        for name, value in vars(record).items()
        if isinstance(value, torch.Tensor)
    }
    found = cu.diagnose_run(replace(record, steps=(), **empty))
    assert found.kinds == {"undecided"}
    assert any("12 rows" in note for note in cu.diagnose_run(record).notes)


def test_a_nan_in_few_steps_is_found_all_the_same():
    found = cu.diagnose_run(trained(4, spoiled=2))
    assert found.kinds == {"non_finite"} and found.findings[0].step == 2


def test_a_record_without_parameters_or_layers_does_not_break():
    record = trained()
    none = {
        name: getattr(record, name)[:, :0] for name in cu.recording.gradient_record.PER_PARAMETER
    }
    assert cu.diagnose_run(replace(record, parameters=(), **none)).kinds == {"healthy"}


def test_an_inf_that_does_no_harm_is_a_note():
    record = trained()
    output_inf = record.output_inf.clone()
    output_inf[5, 1] = 3
    first = type(trained(4, spoiled=2).first_nonfinite)(record.layers[1], "forward", 5)
    found = cu.diagnose_run(replace(record, output_inf=output_inf, first_nonfinite=first))
    assert found.healthy and "did no harm" in found.notes[0]


def test_no_record_is_a_clear_error():
    with pytest.raises(TypeError, match="GradientRecord is expected"):
        cu.diagnose_run({"losses": [1.0]})


def test_a_loss_of_exactly_0_at_the_end_is_no_error():
    record = trained()
    losses = record.losses.clone()
    losses[10:] = 0.0
    assert cu.diagnose_run(replace(record, losses=losses)).healthy
    assert cu.diagnose_run(replace(record, losses=torch.zeros_like(losses))).healthy
    assert cu.diagnose_run(replace(record, losses=-losses - 1)).kinds <= {"healthy", "diverged"}
