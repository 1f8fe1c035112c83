"""Where to compute, and random numbers that are the same everywhere."""

from collections import OrderedDict, namedtuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_utils.runtime import default_device, fixed, seeded, to_device

Point = namedtuple("Point", "x y")


def pretend(monkeypatch, cuda=False, mps=False):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize("asked", [None, "", "auto", " AUTO "])
@pytest.mark.parametrize("cuda", [False, True])
@pytest.mark.parametrize("mps", [False, True])
def test_auto_takes_cuda_where_it_is_and_the_cpu_otherwise(monkeypatch, asked, cuda, mps):
    pretend(monkeypatch, cuda, mps)
    if asked is None:
        monkeypatch.delenv("COURSE_DEVICE", raising=False)
    else:
        monkeypatch.setenv("COURSE_DEVICE", asked)
    assert default_device().type == ("cuda" if cuda else "cpu")


@pytest.mark.parametrize("asked", ["cpu", "cuda", "mps", "CPU", " mps "])
def test_a_device_that_is_asked_for_and_there_is_taken(monkeypatch, asked):
    pretend(monkeypatch, True, True)
    monkeypatch.setenv("COURSE_DEVICE", asked)
    assert default_device().type == asked.strip().lower()


@pytest.mark.parametrize("asked", ["cuda", "mps"])
def test_a_device_that_is_asked_for_and_absent_is_an_error_with_a_way_out(monkeypatch, asked):
    pretend(monkeypatch)
    monkeypatch.setenv("COURSE_DEVICE", asked)
    with pytest.raises(RuntimeError, match=f"COURSE_DEVICE={asked}.*COURSE_DEVICE=cpu"):
        default_device()


@pytest.mark.parametrize("asked", ["gpu", "cuda:0", "0"])
def test_an_unknown_device_is_an_error_that_lists_the_known_ones(monkeypatch, asked):
    monkeypatch.setenv("COURSE_DEVICE", asked)
    with pytest.raises(ValueError, match=f"{asked!r} is unknown: .*Known: auto, cpu, cuda, mps"):
        default_device()


@given(st.integers(-(2**63), 2**64 - 1))
def test_a_seed_gives_the_same_numbers_and_leaves_the_global_state_alone(seed):
    before = torch.get_rng_state()
    a = torch.randn(4, generator=seeded(seed))
    assert torch.equal(a, torch.randn(4, generator=seeded(seed)))
    assert torch.equal(before, torch.get_rng_state())


def test_seeds_differ_and_are_those_of_torch():
    first, second = (torch.randn(50, generator=seeded(seed)) for seed in (0, 1))
    assert not (first == second).any()
    assert torch.equal(first, torch.randn(50, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(seeded(torch.tensor(3)).get_state(), seeded(3).get_state())
    assert seeded(0).device.type == "cpu"


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_of_more_than_64_bits_is_refused(seed):
    with pytest.raises(ValueError, match=f"seed={seed}"):
        seeded(seed)


def test_nests_are_moved_and_keep_their_kinds():
    tensor, module = torch.zeros(2), nn.Linear(2, 1)
    nest = {
        "list": [tensor, (tensor, 3)],
        "named": Point(tensor, "y"),
        "ordered": OrderedDict(a=tensor),
        "none": None,
        "module": module,
    }
    moved = to_device(nest, "meta")
    assert [moved["list"][0].device.type, moved["list"][1][0].device.type] == ["meta", "meta"]
    assert moved["list"][1][1] == 3 and moved["none"] is None
    assert isinstance(moved["named"], Point) and moved["named"].x.is_meta
    assert isinstance(moved["ordered"], OrderedDict) and moved["ordered"]["a"].is_meta
    assert moved["module"] is module and module.weight.is_meta
    assert not tensor.is_meta and nest["named"].x is tensor


def test_without_a_target_things_go_to_the_device_of_the_course(monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    tensor = torch.zeros(2)
    assert to_device(tensor) is tensor


def drawn(seed):
    return torch.randn(3, generator=seeded(seed)).tolist()


def test_an_offset_is_added_to_every_seed(monkeypatch):
    plain, other = drawn(5), drawn(1005)
    monkeypatch.setenv("COURSE_SEED_OFFSET", "1000")
    assert drawn(5) == other != plain
    monkeypatch.setenv("COURSE_SEED_OFFSET", "-1000")
    assert drawn(1005) == plain
    monkeypatch.setenv("COURSE_SEED_OFFSET", " ")
    assert drawn(5) == plain


def test_an_offset_leaves_the_draws_of_the_package_alone(monkeypatch):
    before = fixed(5).initial_seed()
    monkeypatch.setenv("COURSE_SEED_OFFSET", "1000")
    assert fixed(5).initial_seed() == before == 5


@pytest.mark.parametrize("text", ["x", "1.5", "1e3"])
def test_an_offset_that_is_no_integer_is_refused(monkeypatch, text):
    monkeypatch.setenv("COURSE_SEED_OFFSET", text)
    with pytest.raises(ValueError, match=f"COURSE_SEED_OFFSET='{text}' must be an integer"):
        seeded(0)


def test_a_seed_that_leaves_64_bits_by_its_offset_is_refused(monkeypatch):
    monkeypatch.setenv("COURSE_SEED_OFFSET", "1")
    with pytest.raises(ValueError, match=r"seed \+ COURSE_SEED_OFFSET"):
        seeded(2**64 - 1)
