"""Gradients of different inputs, and whether they agree."""

import pytest
import torch
from patients import data, diagnose, net, passed, the

from course_utils.diagnosis.rules.shattered import gradient_correlation


def test_the_correlation_of_gradients_is_that_of_single_backward_passes():
    model, batch = net(9, 128, seed=2), data(6)
    found = passed(model, batch)
    correlation = gradient_correlation(found)
    v = torch.randn(10, generator=torch.Generator().manual_seed(0))
    grads = []
    for x in batch[0]:
        z = model.linear1(x[None])
        output = model[1:](z)
        grads.append(torch.autograd.grad(output, z, v[None])[0][0].double())
    stacked = torch.stack(grads)
    cosine = torch.corrcoef(torch.cat([stacked, -stacked], dim=1))  # mean 0: plain cosines
    mean = float((cosine.sum() - 6) / 30)
    assert correlation.layers[0] == "linear1"
    assert correlation.cosine[0] == pytest.approx(mean, rel=1e-4)


def test_ten_layers_of_batch_norm_are_not_called_shattered_and_sixty_are():
    assert diagnose(net(10, 128, norm="batch"), data(128)).healthy
    found = the(diagnose(net(60, 128, norm="batch"), data(128)), "shattered")
    assert found.predicted == 0.5


def test_skips_keep_the_gradients_together():
    assert diagnose(net(60, norm="batch", skip="plain"), data(128)).healthy
