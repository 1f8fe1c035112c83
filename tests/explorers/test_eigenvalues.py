"""The grid of notebook 03's explorer: sizes, and figures against formulas and NumPy."""

import numpy as np
import pytest
from explorer_readings import mark, readouts

from course_utils.explorers import eigenvalues

SETTINGS = [(0.9, 0.8, 3.0), (1.2, -1.2, 90.0), (0.4, 1.1, 30.0), (-0.8, 0.6, 10.0)]


@pytest.mark.parametrize(("first", "second", "angle"), SETTINGS)
def test_the_matrix_has_the_eigenvalues_and_the_angle_that_were_asked_for(first, second, angle):
    W = eigenvalues.matrix_of(np.array(first), np.array(second), np.array(angle))
    values, vectors = np.linalg.eig(W)
    np.testing.assert_allclose(sorted(values), sorted((first, second)), atol=1e-12)
    between = np.degrees(np.arccos(abs(vectors[:, 0] @ vectors[:, 1])))
    assert between == pytest.approx(angle, abs=1e-6)
    along = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    np.testing.assert_allclose(W @ along, second * along, atol=1e-12)


def test_powers_are_those_of_numpy():
    W = np.random.default_rng(0).normal(size=(2, 3, 4, 4))
    powers = eigenvalues.matrix_powers(W, 6)
    assert powers.shape == (2, 3, 7, 4, 4)
    for k in range(7):
        np.testing.assert_allclose(powers[:, :, k], np.linalg.matrix_power(W, k), rtol=1e-10)


@pytest.mark.parametrize(("first", "second", "angle"), SETTINGS)
def test_every_panel_shows_the_matrix_of_the_sliders(explorer, first, second, angle):
    explorer.first, explorer.second, explorer.angle = first, second, angle
    W = eigenvalues.matrix_of(np.array(first), np.array(second), np.array(angle))
    ellipse = np.stack(mark(explorer, 0, "its image under W"))
    circle = np.stack(mark(explorer, 0, "unit circle"))
    np.testing.assert_allclose(ellipse, W @ circle, atol=1e-5)
    axes = np.stack(mark(explorer, 0, "half-axes σ₁u₁, σ₂u₂"))
    np.testing.assert_allclose(axes[:, 1], 0)
    sigma = np.linalg.svd(W, compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(axes[:, [0, 2]], axis=0), sigma, rtol=1e-5)
    unit = np.linalg.inv(W) @ axes[:, [0, 2]]  # both ends lie on the ellipse
    np.testing.assert_allclose(np.linalg.norm(unit, axis=0), 1, rtol=1e-4)
    path = np.stack(mark(explorer, 1, "path"))
    for k in range(13):
        np.testing.assert_allclose(
            path[:, k], np.linalg.matrix_power(W, k) @ [0, 1], rtol=1e-4, atol=1e-6
        )
    assert np.stack(mark(explorer, 1, "start")).ravel().tolist() == path[:, 0].tolist()
    depth, norms = mark(explorer, 2, "‖Wᵏ‖")
    expected = [np.linalg.norm(np.linalg.matrix_power(W, int(k)), 2) for k in depth]
    np.testing.assert_allclose(norms, expected, rtol=1e-5)
    for label, factor in (("σ₁ᵏ", sigma[0]), ("ρᵏ", max(abs(first), abs(second)))):
        x, y = mark(explorer, 2, label)
        np.testing.assert_allclose(np.log(y), x * np.log(factor), rtol=1e-4, atol=1e-6)
    assert readouts(explorer) == pytest.approx(
        [max(abs(first), abs(second)), sigma[0], max(expected), np.argmax(expected)], rel=1e-9
    )


def test_at_a_right_angle_the_norm_runs_along_both_bounds(explorer):
    explorer.first, explorer.second, explorer.angle = 0.8, 0.6, 90.0
    depth, norms = mark(explorer, 2, "‖Wᵏ‖")
    np.testing.assert_allclose(norms, 0.8**depth, rtol=1e-5)
    radius, norm, *_ = readouts(explorer)
    assert radius == pytest.approx(norm)


def test_a_bound_is_drawn_no_farther_than_it_can_be_seen(explorer):
    explorer.first, explorer.second, explorer.angle = 1.2, -1.2, 3.0
    x, y = mark(explorer, 2, "σ₁ᵏ")
    assert x[1] < 40 and y[1] == pytest.approx(1e7, rel=1e-4)


def test_two_zero_eigenvalues_leave_nothing_after_one_factor(explorer):
    explorer.first, explorer.second, explorer.angle = 0.0, 0.0, 45.0
    _, norms = mark(explorer, 2, "‖Wᵏ‖")
    np.testing.assert_array_equal(norms, [1] + 40 * [0])


def test_the_norm_lies_between_its_bounds_at_every_setting():
    grid = np.array(eigenvalues.EIGENVALUES)
    W = eigenvalues.matrix_of(
        grid[:, None, None], grid[None, :, None], np.array(eigenvalues.ANGLES)
    )
    norms = np.linalg.norm(eigenvalues.matrix_powers(W, 40), 2, axis=(-2, -1))
    k = np.arange(41)
    lower = np.abs(np.linalg.eigvals(W)).max(-1)[..., None] ** k
    upper = np.linalg.norm(W, 2, axis=(-2, -1))[..., None] ** k
    assert (norms >= lower * (1 - 1e-9)).all() and (norms <= upper * (1 + 1e-9)).all()


def test_it_starts_where_the_norm_grows_first(explorer):
    radius, norm, largest, at = readouts(explorer)
    assert radius < 1 < norm and largest > 4 and 3 < at < 12


def test_the_path_it_starts_with_lies_inside_its_picture(explorer):
    panel = explorer._packed.spec["panels"][1]
    for values, (low, high) in zip(
        mark(explorer, 1, "path"), (panel["xlim"], panel["ylim"]), strict=True
    ):
        assert low < values.min() and values.max() < high
