"""The map of notebook 08: which remedies train deep networks, over seeds it has never seen.

The cells of the notebook are run as they stand; only the seeds, the depths and the number of
remedies differ. The ranking is held, no single accuracy.
"""

import os
from pathlib import Path

import nbformat
import pytest
import torch

import course_utils as cu

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "08_residual_networks.ipynb"
# Fresh seeds: python -m pytest tests/test_remedy_map.py with COURSE_MAP_SEED set to any number.
SEED = int(os.environ.get("COURSE_MAP_SEED", "1234"))
DEPTH = 30
DEFINED = (
    "torch.set_num_threads(1)",
    "def accuracy(",
    "test = ",
    "REMEDIES = {",
    "def at_start(",
    "LRS, SEEDS",
)
DEFINED += ("def new_nets(", "def train_group(")
SMALL_BRANCH = ("skip, branch/√L", "skip, ReZero", "skip, batch norm")
STUCK = ("sigmoid, Xavier", "ReLU, default", "ReLU, He", "batch norm, ReLU", "skip")


@pytest.fixture(scope="module")
def cells():
    """The names that the notebook's cells define, without running its experiments."""
    threads = torch.get_num_threads()  # the notebook's first cell sets it to 1
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    names = {}
    exec(code[0], names)
    for start in DEFINED:
        (source,) = [cell for cell in code if cell.startswith(start)]
        exec(source, names)
    yield names
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def results(cells):
    wanted, generator = SMALL_BRANCH + STUCK, cu.seeded(SEED)
    found = {}
    for group in cells["groups"].values():
        names = [name for name in group if name in wanted]
        if names:
            parts = cells["train_group"](names, DEPTH, generator)
            found |= dict(zip(names, zip(*parts, strict=True), strict=True))
    return found


def mean(results, name):
    return float(results[name][0].mean())


def test_every_remedy_is_trained_with_five_seeds(results):
    assert set(results) == {*SMALL_BRANCH, *STUCK}
    for accuracy, ratio, alike in results.values():
        assert accuracy.shape == ratio.shape == alike.shape == (5,)
        assert ((accuracy >= 0) & (accuracy <= 1)).all() and (alike < 1 + 1e-6).all()


def test_small_branches_beat_everything_else_at_30_layers(results):
    worst = min(mean(results, name) for name in SMALL_BRANCH)
    best = max(mean(results, name) for name in STUCK)
    assert worst > 0.7 and best < 0.5 and worst > best + 0.3


def test_a_skip_or_a_norm_alone_is_no_remedy_and_both_together_are_the_best(results):
    both = mean(results, "skip, batch norm")
    assert both > mean(results, "skip") + 0.4
    assert both > mean(results, "batch norm, ReLU") + 0.4


def test_what_leaves_the_range_of_gradient_ratios_does_not_train(results):
    for accuracy, ratio, _ in results.values():
        if not 0.03 < float(ratio.log().mean().exp()) < 30:
            assert float(accuracy.mean()) < 0.5


def test_gradient_ratios_are_those_of_theory(results):
    orders = {name: float(values[1].log10().mean()) for name, values in results.items()}
    between = DEPTH - 2  # layers between the first hidden one and the last
    factor = torch.tensor(
        [
            cu.theory.gradient_factor("sigmoid", 1.0),
            cu.theory.gradient_factor("relu", 1 / 3),
            cu.theory.batchnorm_gradient_factor("relu"),
            cu.theory.residual_growth(1) ** 0.5,
        ]
    )
    names = ("sigmoid, Xavier", "ReLU, default", "batch norm, ReLU", "skip")
    for name, want in zip(names, (between * factor.log10()).tolist(), strict=True):
        assert orders[name] == pytest.approx(want, abs=1.2)
    assert orders["skip, ReZero"] == 0
    assert 0 < orders["skip, branch/√L"] < 0.6


def test_he_weights_fail_with_a_fair_gradient_because_samples_become_alike(results):
    accuracy, ratio, alike = results["ReLU, He"]
    assert 0.03 < float(ratio.log().mean().exp()) < 10
    assert float(alike.mean()) > 0.85 and float(accuracy.mean()) < 0.5
    for name in SMALL_BRANCH:
        assert float(results[name][2].mean()) < 0.8
