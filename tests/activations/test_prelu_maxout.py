"""The two activations that are modules, PReLU and maxout, against autograd and closed forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import course_utils as cu
from course_utils.activations import Maxout, PReLU, lookup

finite = st.floats(-3, 3)


@given(a=finite, z=st.lists(st.floats(-50, 50), min_size=1, max_size=8))
def test_prelu_is_pytorchs_with_its_gradients(a, z):
    ours, theirs = PReLU(a), nn.PReLU(1, a)
    leaves = [torch.tensor(z, requires_grad=True) for _ in range(2)]
    values = [module(leaf) for module, leaf in zip((ours, theirs), leaves, strict=True)]
    torch.testing.assert_close(*values, rtol=0, atol=0)
    for value in values:
        (value**2).sum().backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad)
    torch.testing.assert_close(ours.a.grad, theirs.weight.grad[0])
    torch.testing.assert_close(ours.entry().function(leaves[0]), values[0])


@given(a=finite, z=st.floats(-50, 50).filter(lambda z: z != 0))
def test_prelu_slope_is_autograds_and_stays_within_its_bound(a, z):
    module = PReLU(a)
    leaf = torch.tensor([z], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(leaf).sum(), leaf)
    slope = cu.activation_slope(module, leaf)
    torch.testing.assert_close(slope, gradient)
    entry = lookup(module)
    assert abs(slope.item()) <= entry.bound
    at = torch.tensor([entry.bound_at], dtype=torch.float64)
    assert abs(cu.activation_slope(module, at)).item() == pytest.approx(entry.bound, rel=1e-12)


@pytest.mark.parametrize("a", [0.0, 0.25, -1.0, 2.0])
def test_theory_knows_a_prelu_at_its_present_slope(a):
    module = PReLU(0.1)
    with torch.no_grad():
        module.a.fill_(a)
    assert cu.theory.mean_square_slope(module, 3.0) == pytest.approx((1 + a * a) / 2)
    assert cu.theory.critical_weight_variance(module) == pytest.approx(2 / (1 + a * a))


def test_prelu_learns_its_slope_inside_an_mlp_one_per_layer():
    net = cu.mlp(4, 8, activation=PReLU(), generator=cu.seeded(0))
    slopes = [p for name, p in net.named_parameters() if name.endswith(".a")]
    assert [p.item() for p in slopes] == [0.25] * 3
    net(torch.randn(5, 64, generator=cu.seeded(1))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs() > 0 for p in slopes)
    assert "a=0.25" in repr(net)


@given(k=st.integers(1, 5), n=st.integers(1, 4), seed=st.integers(0, 1000))
def test_maxout_is_the_largest_of_each_units_pieces_and_its_slope_autograds(k, n, seed):
    z = torch.randn(3, 2, n * k, generator=cu.seeded(seed), dtype=torch.float64, requires_grad=True)
    module = Maxout(k)
    value = module(z)
    expected = [[max(row[i * k : (i + 1) * k]) for i in range(n)] for row in z.flatten(0, 1)]
    assert value.flatten(0, 1).tolist() == [[v.item() for v in row] for row in expected]
    (gradient,) = torch.autograd.grad(value.sum(), z)
    torch.testing.assert_close(module.slope(z), gradient)
    assert (module.slope(z).reshape(3, 2, n, k).square().sum(-1) == Maxout.bound).all()


def test_where_pieces_are_equal_one_of_them_has_the_whole_slope():
    z = torch.zeros(1, 6, requires_grad=True)
    module = Maxout(3)
    (gradient,) = torch.autograd.grad(module(z).sum(), z)
    assert gradient.tolist() == module.slope(z).tolist() == [[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]]


def test_two_pieces_of_which_one_is_zero_are_a_relu():
    z = torch.randn(50, generator=cu.seeded(2))
    pairs = torch.stack([z, torch.zeros(50)], dim=1).flatten()
    torch.testing.assert_close(Maxout(2)(pairs), torch.relu(z))


def test_the_larger_of_two_gaussians_has_the_mean_square_of_one():
    z = torch.randn(400_000, generator=cu.seeded(3), dtype=torch.float64)
    assert Maxout(2)(z).square().mean().item() == pytest.approx(1, abs=4 * 1.42 / math.sqrt(2e5))


@pytest.mark.parametrize("bad", [math.nan, math.inf, True, "a", None])
def test_bad_first_slopes_are_named(bad):
    with pytest.raises(ValueError, match="init="):
        PReLU(bad)


@pytest.mark.parametrize("shape", [(3, 5), ()])
def test_a_width_that_is_no_multiple_of_the_pieces_is_refused(shape):
    for function in (Maxout(2), Maxout(2).slope):
        with pytest.raises(ValueError, match="multiple of the 2 pieces"):
            function(torch.zeros(shape))
