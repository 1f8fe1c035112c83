"""The four patients of notebook 12, and what its references promise."""

import numpy as np
import pytest
import torch
from exercises.answers.clinic import ILL

import course_utils as cu
from course_utils.exercises import clinic


@pytest.mark.parametrize("name", ILL)
def test_the_instrument_finds_what_each_patient_has(name):
    model, batch, loss = clinic.patients()[name]
    assert cu.diagnose(model, batch, loss=loss).kinds == {ILL[name]}


def test_autograd_confirms_the_four_patients():
    found = clinic.patients()
    model, (x, y), loss = found["A"]
    loss(model(x), y).backward()
    assert model.branch.weight.grad is None and model.trunk[0].weight.grad.abs().sum() > 0
    model, (x, y), loss = found["D"]
    assert not model[:6](x).any() and model[:4](x).any()
    model, (x, y), loss = found["B"]
    assert 0 <= model(x).min() and model(x).max() <= 1
    model, (x, y), loss = found["C"]
    grads = torch.autograd.grad(loss(model(x), y), [model[0].weight, model[-1].weight])
    assert all(0 < g.abs().mean() < 1e-8 for g in grads)
    assert 0.01 < grads[0].norm() / grads[1].norm() < 100


def test_patients_are_the_same_at_every_call_and_leave_the_random_state_alone():
    before = torch.get_rng_state()
    first, second = clinic.patients(), clinic.patients()
    for name in first:
        pairs = zip(first[name][0].parameters(), second[name][0].parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.equal(torch.get_rng_state(), before)


def test_random_gradients_confirm_the_factor_of_a_layer():
    rng = np.random.default_rng(1)
    W, slopes = rng.normal(size=(60, 40)) / 5, rng.uniform(0, 1, size=(4000, 60))
    delta = slopes * rng.normal(size=slopes.shape)
    measured = np.sqrt(np.square(delta @ W).mean())
    assert clinic.layer_factor.reference(W, slopes) == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_the_reference_remedy_passes_whatever_it_draws(seed):
    with torch.random.fork_rng():
        torch.manual_seed(100 + seed)
        assert clinic.treat_network.check(clinic.treat_network.reference)
