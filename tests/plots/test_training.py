"""Curves of training runs, judged by the data on their artists."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from plot_readings import legend, line

from course_utils.plots import training_curves
from course_utils.training import History


@pytest.fixture(autouse=True)
def _new_axes(ax):
    """Axes of its own for each test; they are the current ones."""


def history(loss, per_epoch=2, test=True, **ended):
    """A run whose epochs' losses are the means of its steps', and whose test figures are near."""
    loss = torch.tensor(loss, dtype=torch.float64)
    whole = len(loss) // per_epoch
    epoch = loss[: whole * per_epoch].reshape(whole, per_epoch).mean(1)
    nothing = torch.full_like(epoch, math.nan)
    return History(
        loss=loss,
        accuracy=loss,
        grad_norm=loss,
        lr=torch.ones_like(loss),
        epoch_loss=epoch,
        epoch_accuracy=epoch,
        test_loss=epoch * 1.5 if test else nothing,
        test_accuracy=epoch if test else nothing,
        steps_per_epoch=per_epoch,
        **ended,
    )


def border_marks(ax, marker):
    return [one for one in ax.lines if one.get_marker() == marker and one.get_linestyle() == "None"]


def test_the_loss_of_each_epoch_stands_at_its_end_on_a_log_axis():
    run = history([8, 4, 2, 1, 0.5, 0.25])
    before = run.to_dict()
    ax = training_curves(run)
    assert ax is plt.gca() and run.to_dict() == before
    train, test = line(ax, "train"), line(ax, "test")
    assert train.get_xdata().tolist() == test.get_xdata().tolist() == [1, 2, 3]
    assert train.get_ydata().tolist() == run.epoch_loss.tolist() == [6, 1.5, 0.375]
    assert test.get_ydata().tolist() == run.test_loss.tolist()
    assert ax.get_yscale() == "log" and ax.get_xlabel() == "epoch" and "loss" in ax.get_ylabel()
    assert train.get_linestyle() != test.get_linestyle()  # they differ in more than color
    assert to_rgb(test.get_markerfacecolor()) == (1, 1, 1) != to_rgb(train.get_markerfacecolor())


def test_the_losses_of_the_batches_lie_pale_between_the_epochs():
    run = history([8, 4, 2, 1, 0.5, 0.25])
    pale = training_curves(run).lines[0]
    assert pale.get_xdata().tolist() == [0.5, 1, 1.5, 2, 2.5, 3]
    assert pale.get_ydata().tolist() == run.loss.tolist() and pale.get_alpha() < 0.5
    _, other = plt.subplots()
    assert training_curves(run, other, steps=False) is other and len(other.lines) == 2


def test_runs_differ_in_marker_and_color_and_are_named():
    ax = training_curves({"SGD": history([4, 2]), "Adam": history([3, 1])}, steps=False)
    assert legend(ax) == ["SGD, train", "SGD, test", "Adam, train", "Adam, test"]
    one, two = line(ax, "SGD, train"), line(ax, "Adam, train")
    assert one.get_marker() != two.get_marker() and one.get_color() != two.get_color()
    assert one.get_color() == line(ax, "SGD, test").get_color()


def test_without_a_test_set_there_is_no_empty_line():
    ax = training_curves(history([4, 2, 2, 1], test=False))
    assert [one.get_label() for one in ax.get_legend().get_lines()] == ["train"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_run_that_ended_in_nan_gets_a_cross_where_it_ended(bad):
    run = history([4, 2, 8, 1e3, bad], stopped="non-finite loss", layer="linear2")
    ax = training_curves({"wild": run})
    (cross,) = border_marks(ax, "x")
    assert cross.get_xdata().tolist() == [2.5] and cross.get_ydata()[0] > 0.9
    assert cross.get_transform() == ax.get_xaxis_transform()
    assert cross.get_label() == "wild, non-finite loss"
    assert ax.lines[0].get_ydata().tolist() == [4, 2, 8, 1e3]


def test_a_run_that_ended_in_its_first_epoch_is_drawn_too():
    run = history([4, 8, math.nan], per_epoch=9, stopped="non-finite gradient")
    run = History(**{**vars(run), "steps_per_epoch": 0})
    ax = training_curves(run)
    (cross,) = border_marks(ax, "x")
    assert cross.get_xdata().tolist() == [1]
    assert ax.lines[0].get_xdata().tolist() == pytest.approx([1 / 3, 2 / 3])


def test_an_interrupted_run_has_no_cross_and_without_an_epoch_no_label():
    ax = training_curves(history([4, 2], per_epoch=9, stopped="interrupted"))
    assert not border_marks(ax, "x") and ax.get_legend() is None
    assert ax.lines[0].get_ydata().tolist() == [4, 2]


def test_a_loss_of_zero_is_marked_at_the_lower_border_not_dropped():
    ax = training_curves(history([4, 2, 0, 0]))
    marks = border_marks(ax, "v")
    assert [m.get_xdata().tolist() for m in marks] == [[1.5, 2], [2], [2]]
    assert all((m.get_ydata() < 0.1).all() for m in marks)
    assert np.isnan(line(ax, "train").get_ydata()[1])


@pytest.mark.parametrize("runs", [1, 2, 3, 5])
def test_the_legend_of_many_runs_covers_no_line(runs):
    ax = training_curves(
        {f"run {k}": history([4 * k, 2, 2 / k, 1, 1, 2]) for k in range(1, runs + 1)}
    )
    ax.figure.draw_without_rendering()
    entries, inside = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert bool(entries.x0 >= inside.x1) == (runs > 3)
