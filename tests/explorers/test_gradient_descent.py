"""The explorer of notebook 01: its runs are torch.optim.SGD's, its readouts theory's."""

import numpy as np
import torch
from explorer_readings import mark

from course_utils import theory
from course_utils.explorers import gradient_descent as module


def sliders(explorer):
    return {name: list(values) for name, values in explorer._packed.values.items()}


def torch_path(curvature, lr, momentum):
    theta = torch.tensor(module.START, dtype=torch.float64, requires_grad=True)
    curvature = torch.tensor(curvature, dtype=torch.float64)
    optimizer = torch.optim.SGD([theta], lr=lr, momentum=momentum)
    path = [theta.detach().clone()]
    for _ in range(module.STEPS):
        optimizer.zero_grad()
        (curvature * theta**2).sum().div(2).backward()
        optimizer.step()
        path.append(theta.detach().clone())
    return torch.stack(path).numpy()


def test_every_path_is_the_one_torch_sgd_takes():
    curvature, lr, momentum = np.array([[0.5, 1.0], [0.1, 1.0]]), [0.1, 1.5, 2.5], [0.0, 0.4, 0.9]
    paths = module.descent_paths(curvature, np.array(lr), np.array(momentum))
    assert paths.shape == (2, 3, 3, module.STEPS + 1, 2)
    for i, j, k in np.ndindex(2, 3, 3):
        expected = torch_path(curvature[i].tolist(), lr[j], momentum[k])
        np.testing.assert_allclose(paths[i, j, k], expected, rtol=1e-9, atol=1e-12)


def test_sliders_reach_past_the_largest_stable_lr_of_every_momentum(explorer):
    values = sliders(explorer)
    assert max(values["lr"]) > theory.largest_stable_lr(1.0, max(values["momentum"]))
    assert min(values["lr"]) > 0 and values["momentum"][0] == 0


def test_landscapes_have_the_condition_number_in_their_name():
    for name, (small, large) in module.LANDSCAPES.items():
        assert f"κ = {large / small:.0f}" in name and large == 1


def test_marks_of_a_run_are_its_points_and_its_losses(explorer):
    explorer.lr, explorer.momentum = 1.2, 0.7
    expected = torch_path([1 / 30, 1.0], 1.2, 0.7)
    np.testing.assert_allclose(
        np.stack(mark(explorer, 0, "path"), axis=-1), expected, rtol=1e-5, atol=1e-6
    )
    losses = (np.array([1 / 30, 1.0]) * expected**2).sum(1) / 2
    steps, loss = mark(explorer, 1, "loss")
    np.testing.assert_allclose(loss, losses, rtol=1e-4)
    assert steps.tolist() == list(range(len(losses)))
    assert np.stack(mark(explorer, 0, "minimum")).ravel().tolist() == [0, 0]


def test_a_diverging_path_is_cut_after_it_has_left_the_picture():
    path = np.stack([10.0 ** np.arange(6), np.zeros(6)], axis=-1)
    shown = module._inside_the_picture(path)
    assert np.isfinite(shown[:3]).all() and np.isnan(shown[3:]).all()


def test_contours_are_lines_of_equal_loss():
    curvature = np.array(list(module.LANDSCAPES.values()))
    x, y = module._contours(curvature)
    for i, (small, large) in enumerate(curvature):
        loss = (small * x[i].ravel() ** 2 + large * y[i].ravel() ** 2) / 2
        loss = loss.reshape(10, -1)
        assert np.isnan(loss[:, -1]).all()
        np.testing.assert_allclose(loss[:, :-1], loss[:, :1] * np.ones(61), rtol=1e-4)


def test_readouts_are_the_closed_forms(explorer):
    text = explorer._repr_mimebundle_()
    shown = (text[0] if isinstance(text, tuple) else text)["text/plain"]
    assert f"{theory.largest_stable_lr(1.0):.2f}" in shown
    assert f"{theory.convergence_factor(1.8, 1 / 30):.3f}" in shown
