"""Pictures of number formats, by the data on their artists; the numbers are those of torch."""

import numpy as np
import pytest
import torch

from course_utils import plots


def drawn(ax, label):
    (lines,) = [one for one in ax.collections if one.get_label() == label]
    return [float(segment[0, 0]) for segment in lines.get_segments()]


def test_the_numbers_of_a_small_format_are_those_of_torch_below_its_exponents(ax):
    # float8_e4m3fn has Inf's exponent for numbers too: up to 240 it is the IEEE format of its bits
    codes = torch.arange(2**7, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    expected = codes[codes.isfinite() & (codes <= 240)].tolist()
    assert plots.format_numbers(4, 3, ax) is ax
    both = drawn(ax, "0 and subnormal") + drawn(ax, "normal")
    assert sorted(both) == sorted(expected)
    assert max(drawn(ax, "0 and subnormal")) < 2**-6 == min(drawn(ax, "normal"))


def test_the_gap_above_an_octave_is_that_between_its_numbers(ax):
    plots.format_numbers(3, 2, ax)
    numbers = np.array(sorted(drawn(ax, "normal")))
    for text in ax.texts:
        place, gap = text.get_position()[0], float(text.get_text().removeprefix("gap "))
        above = numbers[numbers > place][0]
        below = numbers[numbers < place][-1]
        assert above - below == gap
    assert [text.get_text() for text in ax.texts] == ["gap 0.5", "gap 1", "gap 2"]


def test_a_histogram_shows_shares_and_the_zones_of_its_format(ax):
    sizes = [0.0, 2.0**-30, 1.5 * 2.0**-20, 1.0, 1.0, 1.5, 3.0, 2.0**20]
    facts = torch.finfo(torch.float16)
    limits = facts.tiny * facts.eps, facts.tiny, facts.max
    assert plots.format_histogram(sizes, *limits, ax, title="float16") is ax
    left = ax.get_xlim()[0]
    bars = {bar.get_x(): bar.get_height() for bar in ax.containers[0] if bar.get_height()}
    expected = {left: 1 / 8, -30: 1 / 8, -20: 1 / 8, 0: 3 / 8, 1: 1 / 8, 20: 1 / 8}
    assert bars == pytest.approx(expected)
    zones = {p.get_label(): (p.get_x(), p.get_x() + p.get_width()) for p in ax.patches}
    assert zones["rounded to 0"] == (left, -25)
    assert zones["subnormal: fewer digits"] == (-25, -14)
    assert zones["overflow"] == (pytest.approx(np.log2(65504)), ax.get_xlim()[1])
    assert ax.get_title() == "float16"
