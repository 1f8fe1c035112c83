"""Theory beside measurement: each form of tolerance at its edge, the texts, and the ledger."""

import json
import math
import re
import statistics

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

import course_utils as cu
from course_utils import claims
from course_utils.claims import ClaimError, compare, ledger


@pytest.fixture(autouse=True)
def _own_ledger(monkeypatch):
    monkeypatch.setattr(claims, "_rows", {})


def holds(theory, measured, tolerance):
    try:
        return compare("a claim", theory, measured, tolerance).holds
    except ClaimError:
        return False


# ---------------------------------------------------------------- tolerances


@pytest.mark.parametrize(
    ("theory", "tolerance", "inside", "outside"),
    [
        (200, 0.02, [196, 204, 200], [195.9, 204.1, -200]),
        (-200, 0.02, [-196, -204], [-195.9, -204.1, 200]),
        (200, "2 %", [196, 204], [195.9, 204.1]),
        (200, "2%", [196, 204], [195.9, 204.1]),
        (200, "0.5 %", [199, 201], [198.9, 201.1]),
        (1.0, "±0.25", [0.75, 1.25], [0.74, 1.26]),
        (0.0, "± .5", [0.5, -0.5], [0.51, -0.51]),
        (0.0, "±1e-9", [1e-9, 0], [2e-9]),
        (8.0, "×4", [2, 32, 8], [1.99, 32.1, -8]),
        (8.0, "× 1.5", [6, 12], [5.3, 12.1]),
        (1.0, "at most", [1, 0, -5], [1.0001]),
        (1.0, "below", [0.9999], [1, 1.0001]),
        (1.0, "at least", [1, 5], [0.9999]),
        (1.0, "above", [1.0001], [1, 0.9999]),
        (3, "exact", [3, 3.0], [3.0000001]),
        (math.pi, "exact", [math.pi], [math.nextafter(math.pi, 4)]),
    ],
)
def test_each_form_of_tolerance_holds_up_to_its_edge(theory, tolerance, inside, outside):
    assert all(holds(theory, m, tolerance) for m in inside)
    assert not any(holds(theory, m, tolerance) for m in outside)


@example(values=[1.0, 2.0], theory=1.1125369292536007e-308, factor=2.5)  # error/theory overflows
@given(
    values=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9),
    theory=st.floats(-1e3, 1e3),
    factor=st.sampled_from([1, 2.5, 4]),
)
def test_standard_errors_are_those_of_the_mean(values, theory, factor):
    mean, error = statistics.mean(values), statistics.stdev(values) / math.sqrt(len(values))
    distance, limit = abs(mean - theory), factor * error
    assume(abs(distance - limit) > 1e-9 * (1 + abs(mean)))
    assert holds(theory, values, f"{factor} s.e.") is (distance <= limit)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_mean_spread_and_count_are_those_of_statistics(values):
    row = compare("any", max(map(abs, values)) + 1, values, "at most")
    assert math.isclose(row.measured, statistics.mean(values), rel_tol=1e-9, abs_tol=1e-6)
    spread = statistics.stdev(values) if len(values) > 1 else 0
    assert math.isclose(row.spread, spread, rel_tol=1e-6, abs_tol=1e-6)
    assert row.count == len(values)


@pytest.mark.parametrize(
    "measured",
    [
        torch.tensor([1.0, 2.0], requires_grad=True),
        np.array([1.0, 2.0]),
        (1, 2),
        iter([1.0, 2.0]),
        [torch.tensor(1.0), np.float32(2)],
        torch.tensor([[1], [2]]),
    ],
)
def test_what_was_measured_may_come_in_any_wrapping(measured):
    row = compare("a mean", torch.tensor(1.5), measured, "1 %")
    assert (row.measured, row.count, row.theory) == (1.5, 2, 1.5)


# ---------------------------------------------------------------- messages


def test_a_claim_that_fails_says_so_with_unrounded_figures_and_stays_in_the_ledger():
    with pytest.raises(ClaimError) as caught:
        compare("the slope", 0.25, [0.3001, 0.3003], "2 %", "eq. 4")
    text = str(caught.value)
    assert "the slope: theory 0.250 | measured 0.300" in text and "FAILS" in text
    assert "theory 0.25, measured 0.3002" in text and "If you changed" in text
    assert isinstance(caught.value, AssertionError)
    (row,) = ledger()
    assert not row.holds and "FAILS" in str(ledger()) and "✗" in ledger()._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("", 1, 1, 0.1), "statement=''"),
        (("  ", 1, 1, 0.1), "statement='  '"),
        ((None, 1, 1, 0.1), "statement=None"),
        (("a", [1, 2], 1, 0.1), "theory has 2 values"),
        (("a", math.nan, 1, 0.1), "theory holds NaN or Inf"),
        (("a", "1e", 1, 0.1), "theory='1e'"),
        (("a", 1, [], 0.1), "measured is empty"),
        (("a", 1, [1, math.inf], 0.1), "measured holds NaN or Inf"),
        (("a", 1, [1, "b"], 0.1), "measured="),
        (("a", 1, [[1], [1, 2]], 0.1), "measured="),
        (("a", 1, None, 0.1), "measured holds NaN or Inf (None)"),
        (("a", 0, 0, 0.1), "absolute one"),
        (("a", 0, 0, "1 %"), "absolute one"),
        (("a", -1, -1, "×2"), "must be positive"),
        (("a", 0, 0, "×2"), "must be positive"),
        (("a", 1, 1, "3 s.e."), "at least two"),
        *(
            (("a", 1, 1, wrong), "cannot be read")
            for wrong in (
                0, -0.1, True, None, math.nan, math.inf, "", "2", "two %", "-2 %", "±", "±0",
                "0 %", "×1", "×0.5", "3 se", "at  most", "nan %", "inf %", "1e", [1],
            )
        ),
    ],
)  # fmt: skip
def test_bad_input_is_answered_with_the_argument_and_the_way_out(arguments, says):
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        compare(*arguments)
    assert not isinstance(caught.value, ClaimError) and not ledger()


# ---------------------------------------------------------------- what is shown


@pytest.mark.parametrize(
    ("theory", "measured", "tolerance", "shown"),
    [
        (2, [1.99, 2.02], "2 %", "theory 2.00 | measured 2.00 ± 0.02 (n=2) | 2 % | holds"),
        (2, 2.004, "1 %", "theory 2.00 | measured 2.00 | 1 % | holds"),
        (2, [2, 2], "1 %", "theory 2.00 | measured 2.00 ± <0.01 (n=2) | 1 % | holds"),
        (2, [2, 2 + 1e-9], "1 %", "theory 2.00 | measured 2.00 ± <0.01 (n=2) | 1 % | holds"),
        (2850, [2850.2, 2850], "2 %", "theory 2850 | measured 2850 ± <1 (n=2) | 2 % | holds"),
        (0.25, 0.2361, "at most", "theory ≤ 0.25 | measured 0.24 | bound | holds"),
        (0.25, 0.2361, "below", "theory < 0.25 | measured 0.24 | bound | holds"),
        (0.25, 0.36, "at least", "theory ≥ 0.25 | measured 0.36 | bound | holds"),
        (0.25, [0.36, 0.4], "above", "theory > 0.25 | measured 0.38 ± 0.03 (n=2) | bound | holds"),
        (1e-12, 3e-15, "below", "theory < 1e-12 | measured within the bound | bound | holds"),
        (5, [5, 5], "exact", "theory 5 | measured 5 ± 0 (n=2) | exact | holds"),
        (0, [0.034, -0.02], "±0.1", "theory 0 | measured 0.01 ± 0.04 (n=2) | ±0.1 | holds"),
        (0, -1e-17, "±0.1", "theory 0 | measured 0.00 | ±0.1 | holds"),
        (2.4e9, [2.4e9] * 2, 1e-6,
         "theory 2.400000e+09 | measured 2.400000e+09 ± <1e+03 (n=2) | 0.0001 % | holds"),
        (9e-7, [8.8e-7, 8.9e-7], "10 %",
         "theory 9.0e-07 | measured 8.8e-07 ± 7e-09 (n=2) | 10 % | holds"),
        (1e-8, 3e-8, "×10", "theory 1.0e-08 | measured 3.0e-08 | ×10 | holds"),
    ],
)  # fmt: skip
def test_a_row_reads_as_the_tolerance_supports(theory, measured, tolerance, shown):
    row = compare("a", theory, measured, tolerance)
    assert str(row) == repr(row) == f"a: {shown}"
    for cell in row.cells()[1:4]:
        assert claims.html.escape(cell) in row._repr_html_()


NOISE = st.floats(-1e-7, 1e-7)


@given(
    theory=st.floats(1e-6, 1e6),
    off=st.integers(-9, 9),
    noise=st.lists(NOISE, min_size=4, max_size=4),
    tolerance=st.sampled_from(["20 %", "10 %", "5 %", "×10"]),
)
@example(theory=2.0, off=0, noise=[0.0, 0.0, 1e-7, -1e-7], tolerance="10 %")
def test_float_noise_does_not_change_what_is_shown(theory, off, noise, tolerance):
    """Away from the middle between two roundings, another machine prints the same row."""
    digits = 1 if tolerance in ("20 %", "×10") else 2
    rounded = float(f"{theory:.{digits}e}")
    place = 10.0 ** (math.floor(math.log10(rounded)) - 1 - digits)
    measured = rounded + off * place / 25  # at most 0.36 of a tenth of the last digit away
    first = compare("a", rounded, [measured] * 2, tolerance)
    again = compare("a", rounded, [measured * (1 + e) for e in noise[:2]], tolerance)
    assert str(first) == str(again)


@given(noise=st.lists(st.floats(-1e-15, 1e-15), min_size=3, max_size=3))
@pytest.mark.parametrize("tolerance", ["±0.1", "±1e-9", "±1e-6"])
def test_round_off_around_zero_is_shown_as_zero_on_every_machine(tolerance, noise):
    assert str(compare("a", 0, noise, tolerance)) == str(compare("a", 0, [0.0] * 3, tolerance))


@given(
    theory=st.floats(0.01, 1e6),
    relative=st.floats(-1, 1),
    tolerance=st.floats(1e-6, 0.5),
)
def test_rounding_hides_no_more_than_half_the_tolerance(theory, relative, tolerance):
    measured = theory * (1 + 0.99 * relative * tolerance)
    row = compare("a", theory, measured, tolerance)
    shown = [float(cell) for cell in row.cells()[1:3]]
    for figure, exact in zip(shown, (theory, measured), strict=True):
        assert abs(figure - exact) <= max(tolerance * theory, 0.05 * abs(exact)) * 1.1


# ---------------------------------------------------------------- ledger


def test_the_ledger_keeps_the_order_and_replaces_a_row_compared_again():
    assert "No comparison" in str(ledger()) and "No comparison" in ledger()._repr_html_()
    compare("one", 1, 1, 0.1)
    compare("two", 2, 2, 0.1)
    compare("one", 1, 1.05, 0.1, source="<b>eq. 3</b>")
    rows = cu.ledger()
    assert [(row.statement, row.measured) for row in rows] == [("one", 1.05), ("two", 2.0)]
    lines = str(rows).splitlines()
    assert len(lines) == 3 and lines[0].split()[:2] == ["claim", "theory"]
    assert lines[1].index("1.0") == lines[2].index("2.0") == lines[0].index("theory")
    page = rows._repr_html_()
    assert page.count("<tr>") == 3 and "&lt;b&gt;eq. 3&lt;/b&gt;" in page
    assert isinstance(rows, tuple)


def test_a_comparison_is_frozen():
    row = compare("one", 1, 1, 0.1)
    with pytest.raises(AttributeError):
        row.measured = 2


# ---------------------------------------------------------------- the share of a tolerance


@pytest.mark.parametrize(
    ("theory", "measured", "tolerance", "used"),
    [
        (200, 202, "2 %", 0.5),
        (-200, -202, 0.02, 0.5),
        (1.0, 0.9, "±0.2", 0.5),
        (2.0, 4.0, "×16", 0.25),
        (2.0, 1.0, "×16", 0.25),
        (1.0, [1.0, 2.0], "2 s.e.", 0.5),
        (1.0, [1.0, 1.0], "2 s.e.", 0.0),
        (3, 3, "exact", 0.0),
        (4.0, 3.0, "at most", 0.75),
        (4.0, -3.0, "below", 0.0),
        (3.0, 4.0, "at least", 0.75),
        (0.0, 4.0, "above", 0.0),
        (0.0, 0.0, "at most", 0.0),
        (-4.0, -5.0, "at most", 0.8),
        (-4.0, -3.0, "at least", 0.75),
        (-4.0, 3.0, "at least", 0.0),
    ],
)
def test_the_share_of_the_tolerance_that_is_used(theory, measured, tolerance, used):
    assert compare("a claim", theory, measured, tolerance).used == pytest.approx(used)


@pytest.mark.parametrize(
    ("theory", "measured", "tolerance", "used"),
    [
        (200, 208, "2 %", 2.0),
        (2.0, 32.0, "×4", 2.0),
        (2.0, -1.0, "×4", math.inf),
        (3, 4, "exact", math.inf),
        (4.0, 6.0, "at most", 1.5),
        (4.0, 2.0, "at least", 2.0),
        (4.0, -2.0, "at least", math.inf),
        (-4.0, -2.0, "at most", 2.0),
        (-4.0, 2.0, "at most", math.inf),
        (0.0, 1e-3, "at most", math.inf),
        (4.0, 4.0, "below", 1.0),
    ],
)
def test_a_claim_that_fails_uses_more_than_its_tolerance(theory, measured, tolerance, used):
    with pytest.raises(ClaimError):
        compare("a claim", theory, measured, tolerance)
    assert ledger()[0].used == pytest.approx(used)


def test_where_a_file_is_named_all_claims_are_added_to_it_and_none_raises(tmp_path, monkeypatch):
    file = tmp_path / "claims.jsonl"
    monkeypatch.setenv("COURSE_CLAIMS", str(file))
    assert not compare("too far", 1.0, [3.0, 5.0], "±2").holds
    assert compare("near", 1.0, 1.5, "±2").holds
    far, near = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    assert far == {
        "statement": "too far", "theory": 1.0, "measured": 4.0, "spread": math.sqrt(2),
        "count": 2, "tolerance": "±2", "holds": False, "used": 1.5,
    }  # fmt: skip
    assert near["statement"] == "near" and near["used"] == 0.25
    assert [row.holds for row in ledger()] == [False, True]
    with pytest.raises(ValueError, match="needs finite figures"):
        compare("not finite", 1.0, math.nan, "±2")
