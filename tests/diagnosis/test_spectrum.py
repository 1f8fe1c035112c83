"""Singular values of the Jacobian."""

import math

import numpy as np
import pytest
import torch
from patients import data, images, net

import course_utils as cu
from course_utils.diagnosis import jacobian_singular_values


def test_the_exact_spectrum_is_that_of_the_jacobian():
    model = net(6, 20, seed=4).double()
    x = data(1)[0].double()
    jacobian = torch.autograd.functional.jacobian(model, x).reshape(10, 64)
    expected = torch.from_numpy(np.linalg.svd(jacobian.numpy(), compute_uv=False))
    torch.testing.assert_close(jacobian_singular_values(model, x), expected)
    torch.testing.assert_close(jacobian_singular_values(model, x, 3), expected[:3])


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_lanczos_agrees_with_the_exact_values(activation):
    model = cu.mlp(
        8, 90, inputs=120, outputs=80, activation=activation, generator=cu.seeded(1)
    ).double()
    x = torch.randn(1, 120, generator=cu.seeded(2), dtype=torch.float64)
    exact = jacobian_singular_values(model, x, 6, method="exact")
    lanczos = jacobian_singular_values(model, x, 6, method="lanczos", generator=cu.seeded(3))
    torch.testing.assert_close(lanczos, exact, rtol=1e-7, atol=1e-12)


def test_lanczos_works_on_convolutions_in_float32_and_on_functions():
    model = cu.conv_net(4, 8, generator=cu.seeded(0))
    x = images(1)[0]
    exact = jacobian_singular_values(model, x, 4, method="exact")
    lanczos = jacobian_singular_values(model, x, 4, method="lanczos")
    torch.testing.assert_close(lanczos, exact, rtol=1e-4, atol=1e-7)
    values = jacobian_singular_values(torch.sin, torch.tensor([0.0, math.pi / 3]))
    torch.testing.assert_close(values, torch.tensor([1.0, 0.5], dtype=torch.float64))


def test_lanczos_finds_repeated_and_missing_values():
    matrix = torch.diag(torch.tensor([3.0, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    values = jacobian_singular_values(
        lambda x: x @ matrix, torch.ones(5, dtype=torch.float64), 4, method="lanczos"
    )
    expected = torch.tensor([3.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(values, expected, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"k": 0}, "k=0"),
        ({"k": 11}, "from 1 to 10"),
        ({"method": "power"}, "method='power'"),
        ({"method": "lanczos"}, "needs k"),
    ],
)
def test_a_spectrum_that_cannot_be_had_says_why(options, text):
    with pytest.raises(ValueError, match=text):
        jacobian_singular_values(net(2), data(1)[0], **options)
