"""Checks of arguments: what each takes and refuses, and that public functions ask by them."""

import inspect
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import course_utils as cu
from course_utils.arguments import boolean, check_generator, integer, number, one_of, real, unknown

INTEGERS = (int, np.int64, np.int32, torch.tensor)
NO_INTEGERS = (3.5, 8.0, math.nan, True, np.True_, torch.tensor(True), "8", None, [8], 2 + 0j)
NO_INTEGERS += (np.float64(8), torch.tensor(8.0), torch.tensor([8, 8]), np.array([8, 8]))
NO_NUMBERS = (True, np.False_, torch.tensor(True), "2", b"2", None, [1.0], 1j, torch.ones(2))
NO_NUMBERS += (math.nan, math.inf, -math.inf, np.array([1.0, 2.0]), torch.tensor(1j))


# ---------------------------------------------------------------- integers


@given(st.integers(-(2**31), 2**31 - 1), st.sampled_from(INTEGERS))
def test_every_kind_of_integer_is_an_integer(value, kind):
    found = integer("n", kind(value))
    assert found == value and type(found) is int


@pytest.mark.parametrize("value", NO_INTEGERS, ids=repr)
def test_what_is_no_integer_is_a_type_error_with_value_and_way_out(value):
    with pytest.raises(TypeError, match=re.escape(f"n={value!r} must be an integer, at least 1.")):
        integer("n", value, 1)
    with pytest.raises(TypeError, match=r"must be an integer\. Count them\.$"):
        integer("n", value, hint="Count them.")


@given(st.integers(), st.none() | st.integers(), st.none() | st.integers())
def test_an_integer_is_taken_exactly_within_its_limits(value, least, most):
    if (least is None or least <= value) and (most is None or value <= most):
        assert integer("n", value, least, most) == value
        return
    with pytest.raises(ValueError, match=f"^n={value} must be ") as caught:
        integer("n", value, least, most)
    assert all(str(limit) in str(caught.value) for limit in (least, most) if limit is not None)


# ---------------------------------------------------------------- numbers


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_kind_of_number_is_a_float(value):
    for kind in (float, np.float64, np.array, lambda v: torch.tensor([v], dtype=torch.float64)):
        assert number("x", kind(value)) == real(kind(value)) == value
        assert type(number("x", kind(value))) is float


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_finite_number_is_a_value_error_with_the_way_out(value):
    with pytest.raises(ValueError, match=r"must be a finite number, above 0\. Halve it\.$") as e:
        number("x", value, above=0, hint="Halve it.")
    assert str(e.value).startswith(f"x={value!r} ")
    found = real(value)
    assert found is None or not math.isfinite(found)


@given(st.floats(-9, 9), st.floats(-9, 9), st.sampled_from(["least", "most", "above", "below"]))
def test_a_number_is_taken_exactly_within_its_limits(value, limit, kind):
    inside = {"least": value >= limit, "most": value <= limit}
    inside |= {"above": value > limit, "below": value < limit}
    if inside[kind]:
        assert number("x", value, **{kind: limit}) == value
    else:
        with pytest.raises(ValueError, match=rf"^x={re.escape(repr(value))} must be .*{kind} "):
            number("x", value, **{kind: limit})


# ---------------------------------------------------------------- names, truth values, generators


@pytest.mark.parametrize(
    ("value", "guess"),
    [
        ("hee", "he"),
        ("XAVIER", "xavier"),
        ("leaky-relu", "leaky_relu"),
        ("LeakyReLU", "leaky_relu"),
        ("zzz", None),
        (17, None),
        (["he"], None),
    ],
)
def test_a_slip_of_the_pen_gets_a_guess_and_what_is_far_from_all_names_none(value, guess):
    known = ["he", "xavier", "leaky_relu"]
    text = unknown("init", value, known)
    assert text.startswith(f"init={value!r} is unknown:")
    assert text.endswith("Known: he, xavier, leaky_relu.")
    assert re.findall(r"did you mean '(\w+)'\?", text) == ([guess] if guess else [])
    with pytest.raises(ValueError, match=re.escape(text) + " Or write it yourself.$"):
        one_of("init", value, known, hint="Or write it yourself.")


def test_a_known_name_and_a_truth_value_come_back():
    assert one_of("norm", None, (None, "batch")) is None
    assert one_of("norm", "batch", {"batch": 1}) == "batch"
    assert boolean("flat", True) is True and boolean("flat", False) is False
    for wrong in (1, 0, None, "True", np.True_, torch.tensor(True)):
        with pytest.raises(TypeError, match=re.escape(f"flat={wrong!r} must be True or False.")):
            boolean("flat", wrong)


@pytest.mark.parametrize("wrong", [None, 0, torch, torch.random])
def test_what_is_no_generator_is_refused(wrong):
    with pytest.raises(TypeError, match=r"generator=.*cu\.seeded\(0\)"):
        check_generator(wrong)


def test_a_generator_elsewhere_than_on_the_cpu_is_refused():
    class Elsewhere(torch.Generator):
        device = torch.device("cuda")

    with pytest.raises(ValueError, match="lives on cuda"):
        check_generator(Elsewhere())


# ---------------------------------------------------------------- public functions


def data():
    return torch.ones(8, 2), torch.zeros(8, dtype=torch.long)


def training(**more):
    return {"data": data(), "progress": False, "generator": cu.seeded(0), "lr": 0.1, **more}


def net():
    return nn.Linear(2, 2)


VALUES = {"a": [0.1, 0.2, 0.4]}
# (function, argument, least value, all arguments, the one in question at a valid value)
BITS = {"mantissa": 7}
SECOND_HALF = [
    ("accumulation_limit", {"gradient": 1.0} | BITS, {"mantissa": 0}),
    ("adagrad_distance", {"steps": 3}, {"steps": 0}),
    ("adam_feature_step", {"lr": 0.1, "width": 3, "batch_size": 2}, {"width": 1, "batch_size": 1}),
    ("adam_stall", {"beta2": 0.9999} | BITS, {"mantissa": 0}),
    ("adam_step_after_spike", {"spike": 9.0, "steps": 3}, {"steps": 0}),
    ("adam_variance", {"lr": 0.1, "curvature": 1.0, "noise_variance": 1.0, "batch_size": 3},
     {"batch_size": 1}),
    ("attention_correlation", {"correlation": 0.5, "tokens": 4}, {"tokens": 2}),
    ("attention_profile", {"layers": 3, "tokens": 4, "layout": "pre"}, {"layers": 1, "tokens": 2}),
    ("batch_noise", {"trace": 1.0, "batch_size": 3, "samples": 9}, {"batch_size": 1, "samples": 2}),
    ("checkpoint_evaluations", {"layers": 9, "segments": 3}, {"layers": 1, "segments": 1}),
    ("checkpoint_states", {"layers": 9, "segments": 3}, {"layers": 1, "segments": 1}),
    ("decoupled_shrink", {"lr": 0.1, "weight_decay": 0.1, "steps": 3}, {"steps": 0}),
    ("deepnorm_correlation", {"layers": 3}, {"layers": 1}),
    ("evolution_mean_square", {"dimension": 3, "value": 1.0, "sigma": 1.0}, {"dimension": 1}),
    ("feedback_alignment_cosine",
     {"width": 9, "first_std": 1.0, "second_std": 1.0, "target_norm": 1.0, "feedback_norm": 1.0},
     {"width": 1}),
    ("forward_gradient_cosine", {"dimension": 3, "directions": 2},
     {"dimension": 1, "directions": 1}),
    ("forward_gradient_error", {"dimension": 3, "directions": 2},
     {"dimension": 1, "directions": 1}),
    ("forward_gradient_rate", {"dimension": 3}, {"dimension": 1}),
    ("gaussian_rounding_error", BITS, {"mantissa": 0}),
    ("identity_survival", {"start": 2, "steps": 5}, {"start": 0, "steps": 0}),
    ("integrator_variance", {"gate": 0.5, "steps": 3}, {"steps": 0}),
    ("l2_adam_shrink", {"lr": 0.1, "weight_decay": 0.1, "noise_std": 1.0, "steps": 3},
     {"steps": 0}),
    ("label_smoothing_floor", {"classes": 3, "smoothing": 0.1}, {"classes": 2}),
    ("label_smoothing_gap", {"classes": 3, "smoothing": 0.1}, {"classes": 2}),
    ("largest_number", {"exponent": 5} | BITS, {"exponent": 2, "mantissa": 0}),
    ("last_finite_layer", {"weight_std": 1.0, "width": 9, "format": "float16"}, {"width": 3}),
    ("last_nonzero_layer", {"weight_std": 0.01, "width": 9, "format": "float16"}, {"width": 3}),
    ("loop_sum_error", {"n": 9} | BITS, {"n": 1, "mantissa": 0}),
    ("lost_update_share", {"lr": 0.1, "std": 1.0} | BITS, {"mantissa": 0}),
    ("machine_epsilon", BITS, {"mantissa": 0}),
    ("muon_update_rms", {"rows": 3, "columns": 4}, {"rows": 1, "columns": 1}),
    ("never_clipped", {"steps": 3}, {"steps": 0}),
    ("pipeline_bubble", {"stages": 3, "micro_batches": 4}, {"stages": 1, "micro_batches": 1}),
    ("preln_gradient", {"layer": 3}, {"layer": 0}),
    ("random_search_success", {"share": 0.1, "trials": 3}, {"trials": 0}),
    ("reproducible_depth", {"weight_variance": 3.0} | BITS, {"mantissa": 0}),
    ("ring_memory", {"steps": 3}, {"steps": 0}),
    ("rounded_sum_error", {"count": 3} | BITS, {"count": 1, "mantissa": 0}),
    ("rounding_error", BITS, {"mantissa": 0}),
    ("scaler_equilibrium", {"interval": 3, "std_log2": 1.0}, {"interval": 1}),
    ("shard_norm_error", {"batch_size": 8, "shards": 4}, {"batch_size": 2, "shards": 1}),
    ("sigmoid_saturation", BITS, {"mantissa": 0}),
    ("smallest_normal", {"exponent": 5}, {"exponent": 2}),
    ("smallest_subnormal", {"exponent": 5} | BITS, {"exponent": 2, "mantissa": 0}),
    ("softmax_jacobian_mean_square", {"keys": 3, "std": 1.0}, {"keys": 2}),
    ("stale_stable_lr", {"curvature": 1.0, "delay": 2}, {"delay": 0}),
    ("stall_distance", {"lr": 0.1} | BITS, {"mantissa": 0}),
    ("stored_depth_error", {"depth": 3} | BITS, {"depth": 0, "mantissa": 0}),
    ("tanh_saturation", BITS, {"mantissa": 0}),
    ("tied_growth", {"steps": 3, "leak": 0.5, "variance": 0.1}, {"steps": 0}),
    ("top_gap_density", {"keys": 3}, {"keys": 2}),
    ("top_gap_median", {"keys": 3}, {"keys": 2}),
    ("truncation_cosine", {"factor": 0.5, "window": 3}, {"window": 1}),
    ("truncation_error", {"factor": 0.5, "window": 3}, {"window": 0}),
]  # fmt: skip
ASKED = [
    ("runtime.fixed", "seed", -(2**63), lambda: {"seed": 3}),
    ("activations.Maxout", "pieces", 1, lambda: {"pieces": 2}),
    ("data.adding_problem", "n", 1, lambda: {"n": 3, "steps": 4, "generator": cu.seeded(0)}),
    ("data.adding_problem", "steps", 2, lambda: {"n": 3, "steps": 4, "generator": cu.seeded(0)}),
    ("data.load_digits", "n", 10, lambda: {"n": 20}),
    ("data.spirals", "n", 3, lambda: {"n": 9, "generator": cu.seeded(0)}),
    ("data.spirals", "classes", 1, lambda: {"n": 9, "classes": 2, "generator": cu.seeded(0)}),
    *(
        ("networks.mlp", name, 1, lambda name=name: {"depth": 2, "width": 3} | {name: 2} | cpu())
        for name in ("depth", "width", "inputs", "outputs")
    ),
    ("networks.conv_net", "depth", 2, lambda: {"depth": 3} | cpu()),
    ("networks.conv_net", "channels", 1, lambda: {"channels": 3} | cpu()),
    ("networks.conv_net", "outputs", 1, lambda: {"outputs": 3} | cpu()),
    *(
        ("networks.recurrent", name, 1, lambda name=name: {name: 2} | cpu())
        for name in ("width", "inputs", "outputs", "layers")
    ),
    ("runtime.seeded", "seed", -(2**63), lambda: {"seed": 3}),
    ("theory.batchnorm_gradient_factor", "batch_size", 2,
     lambda: {"activation": "relu", "batch_size": 8}),
    ("theory.chain_training_steps", "depth", 1,
     lambda: {"depth": 3, "lr": 0.1, "start": 0.5, "stop": 0.9}),
    ("theory.cliff_slope", "steps", 1, lambda: {"weight": 1.0, "start": 0.0, "steps": 3}),
    ("theory.dead_network_probability", "width", 1, lambda: {"width": 3, "depth": 2}),
    ("theory.dead_network_probability", "depth", 0, lambda: {"width": 3, "depth": 2}),
    ("theory.gradient_correlation", "depth", 0, lambda: {"depth": 3, "residual": True}),
    ("theory.largest_singular_value_squared", "depth", 0, lambda: {"depth": 3}),
    ("theory.log_norm_variance", "width", 1, lambda: {"width": 30, "depth": 3}),
    ("theory.log_norm_variance", "depth", 0, lambda: {"width": 30, "depth": 3}),
    ("theory.lyapunov_exponent", "width", 1, lambda: {"width": 3}),
    ("theory.pinned_gradient_factor", "width", 1, lambda: {"bound": 0.1, "width": 3}),
    ("theory.preactivation_variances", "depth", 1,
     lambda: {"activation": "relu", "weight_variance": 1.0, "depth": 3, "start": 1.0}),
    ("theory.residual_growth", "depth", 0, lambda: {"depth": 3}),
    ("theory.sgd_variance", "batch_size", 1,
     lambda: {"lr": 0.1, "curvature": 1.0, "noise_variance": 1.0, "batch_size": 3}),
    *(
        (f"theory.{function}", argument, least, lambda given=given: dict(given))
        for function, given, leasts in SECOND_HALF
        for argument, least in leasts.items()
    ),
    ("diagnosis.jacobian_singular_values", "k", 1,
     lambda: {"model": net(), "x": torch.ones(3, 2), "k": 2}),
    ("recording.record", "every", 1, lambda: {"model": net(), "every": 2}),
    ("recording.record", "keep", 1, lambda: {"model": net(), "keep": 2}),
    ("plots.layer_histograms", "bins", 1, lambda: {"layers": VALUES, "bins": 5}),
    ("plots.slope_histogram", "bins", 1, lambda: {"slopes": VALUES, "bins": 5}),
    ("training.fit", "epochs", 1, lambda: training(model=net(), epochs=1)),
    ("training.fit", "batch_size", 1, lambda: training(model=net(), epochs=1, batch_size=4)),
    ("training.fit_many", "epochs", 1, lambda: training(models=[net()], epochs=1)),
    ("training.fit_many", "batch_size", 1,
     lambda: training(models=[net()], epochs=1, batch_size=4)),
    ("training.fit_many", "steps", 1, lambda: stack() | {"steps": 2, "batch_size": 4}),
    ("training.fit_many", "batch_size", 1, lambda: stack() | {"steps": 2, "batch_size": 4}),
]  # fmt: skip
each = pytest.mark.parametrize(
    ("name", "argument", "least", "arguments"), ASKED, ids=[f"{a[0]}-{a[1]}" for a in ASKED]
)


def cpu():
    return {"generator": cu.seeded(0)}


def stack():
    nets = cu.networks.stack_mlps([cu.mlp(2, 3, inputs=2, outputs=2, **cpu())])
    return {"models": nets, "data": data(), "lr": 0.1} | cpu()


def named(name):
    room, _, function = name.partition(".")
    return getattr(getattr(cu, room), function)


@each
def test_numpys_integers_are_integers_everywhere(name, argument, least, arguments):
    plain = named(name)(**arguments())
    given_ = arguments()
    given_[argument] = np.int64(given_[argument])
    found = named(name)(**given_)
    assert type(found) is type(plain)
    if isinstance(plain, float | list | nn.Module):
        assert repr(found) == repr(plain)


@each
def test_what_is_no_integer_is_a_type_error_everywhere(name, argument, least, arguments):
    asked = inspect.signature(named(name)).parameters[argument]
    none = asked.default is None or "None" in str(asked.annotation)
    for wrong in NO_INTEGERS:
        if wrong is None and none:
            continue
        with pytest.raises(TypeError, match=re.escape(f"{argument}={wrong!r}")):
            named(name)(**arguments() | {argument: wrong})


@each
def test_an_integer_out_of_range_is_a_value_error_everywhere(name, argument, least, arguments):
    with pytest.raises(ValueError, match=f"{argument}={least - 1}"):
        named(name)(**arguments() | {argument: least - 1})


def test_every_public_function_that_asks_for_an_integer_is_among_these():
    asked = set()
    for room in ("data", "networks", "runtime", "theory", "training"):
        for function in vars(getattr(cu, room)).values():
            if inspect.isfunction(function) and function.__module__.startswith(
                f"course_utils.{room}"
            ):
                asked |= {
                    (f"{room}.{function.__name__}", parameter.name)
                    for parameter in inspect.signature(function).parameters.values()
                    if parameter.annotation in (int, int | None)
                    and not function.__name__.startswith("_")
                }
    asked -= {("data.load_mnist", "n")}  # the same check as load_digits, after reading 220 MB
    assert sorted(asked - {row[:2] for row in ASKED}) == []
