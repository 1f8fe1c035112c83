"""Pictures of a record, by the data on their artists."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

import course_utils as cu


@pytest.fixture(scope="module")
def record():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1), nn.Identity()
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with cu.record(model, optimizer=optimizer) as recorder:
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.randn(6, 3)).square().mean().backward()
            optimizer.step()
    return recorder.record


def spoiled(record, quantity):
    values = getattr(record, quantity).clone()
    values[-1, 1], values[-1, 2], values[-1, 4] = 0.0, math.nan, math.inf
    return dataclasses.replace(record, **{quantity: values})


PROFILES = {"grad_rms": cu.plots.gradient_profile, "output_rms": cu.plots.output_profile}


@pytest.mark.parametrize("quantity", PROFILES)
def test_a_profile_draws_every_layer_of_the_chosen_step_on_a_log_axis(ax, record, quantity):
    assert PROFILES[quantity](record, ax=ax, step=1, label="net", color="k") is ax
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(line.get_ydata(), getattr(record, quantity)[1].numpy())
    assert ax.get_yscale() == "log" and ax.get_xlabel() and ax.get_ylabel()
    assert line.get_label() == "net" and line.get_color() == "k"


@pytest.mark.parametrize("quantity", PROFILES)
def test_zeros_nans_and_infinities_are_marked_and_not_dropped(ax, record, quantity):
    PROFILES[quantity](spoiled(record, quantity), ax=ax)
    marks = {line.get_label(): line for line in ax.lines[1:]}
    assert {name: line.get_xdata().tolist() for name, line in marks.items()} == {
        "exactly 0": [2.0],
        "none or NaN": [3.0],
        "infinite": [5.0],
    }
    assert marks["exactly 0"].get_ydata()[0] < 0.1 and marks["infinite"].get_ydata()[0] > 0.9
    assert np.isnan(ax.lines[0].get_ydata()).tolist() == [False, True, True, False, True, False]
    assert len({line.get_marker() for line in marks.values()}) == 3
    named = {text.get_text() for text in ax.get_legend().get_texts()}
    assert {"exactly 0", "none or NaN", "infinite"} <= named


def test_marks_of_two_profiles_stand_once_in_the_legend(ax, record):
    for label in ("a", "b"):
        cu.plots.gradient_profile(spoiled(record, "grad_rms"), ax=ax, label=label)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sorted(texts) == ["a", "b", "exactly 0", "infinite", "none or NaN"]


def test_a_profile_of_chosen_layers_has_only_them(ax, record):
    cu.plots.gradient_profile(record, ax=ax, layers=["0", "4"])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), record.grad_rms[-1, [0, 4]].numpy())


def test_history_has_one_line_per_trunk_layer_over_the_steps(ax, record):
    cu.plots.gradient_history(record, ax=ax)
    assert [line.get_label() for line in ax.lines] == ["0", "2", "4"]
    for line, column in zip(ax.lines, (0, 2, 4), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), record.steps)
        np.testing.assert_array_equal(line.get_ydata(), record.grad_rms[:, column].numpy())


def test_update_ratios_are_drawn_per_weight(ax, record):
    cu.plots.update_ratios(record, ax=ax)
    assert [line.get_label() for line in ax.lines] == ["0.weight", "2.weight", "4.weight"]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), record.update_ratio[:, 2].numpy())
    assert ax.get_yscale() == "log"


def test_many_layers_become_a_heat_map_of_layer_and_step(ax):
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(30)))
    with cu.record(model, every=2) as recorder:
        for _ in range(6):
            model(torch.ones(1, 2)).sum().backward()
            recorder.step()
    record = recorder.record
    record.grad_rms[1, 3], record.grad_rms[2, 4], record.grad_rms[0, 5] = 0.0, math.inf, math.nan
    cu.plots.gradient_history(record, ax=ax)
    (image,) = [*ax.images, *ax.collections]
    drawn, sizes = np.ma.masked_invalid(image.get_array()), record.grad_rms.T.numpy()
    usual = np.isfinite(sizes) & (sizes > 0)
    np.testing.assert_array_equal(drawn[usual], sizes[usual])
    assert image.norm(drawn[3, 1]) < 0 and image.norm(drawn[4, 2]) > 1 and drawn.mask[5, 0]
    assert not ax.lines and len(ax.get_yticks()) == 12
    assert [text.get_text() for text in ax.get_yticklabels()][::11] == ["0", "29"]
    assert ax.get_xlim() == (0, 6)


def test_what_cannot_be_drawn_is_named(ax, record):
    model = nn.Linear(3, 1)
    with cu.record(model) as recorder:
        model(torch.ones(1, 3)).sum().backward()
    with pytest.raises(ValueError, match="optimizer="):
        cu.plots.update_ratios(recorder.record, ax=ax)
    with pytest.raises(ValueError, match=r"9\.weight"):
        cu.plots.update_ratios(record, ax=ax, parameters=["9.weight"])
    with pytest.raises(ValueError, match="step=7"):
        cu.plots.gradient_profile(record, ax=ax, step=7)
    with pytest.raises(ValueError, match="layers='9'"):
        cu.plots.gradient_profile(record, ax=ax, layers=["9"])
    with pytest.raises(TypeError, match="record="):
        cu.plots.gradient_profile([1.0], ax=ax)
    with pytest.warns(RuntimeWarning), cu.record(model) as nothing:
        pass
    with pytest.raises(ValueError, match="empty"):
        cu.plots.gradient_profile(nothing.record, ax=ax)
